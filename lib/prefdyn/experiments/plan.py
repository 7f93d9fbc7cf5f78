"""What a chapter is about to do, estimated before it does it: arithmetic, memory, time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from prefdyn import data
from prefdyn.data import Pair, Persona
from prefdyn.engine.likelihood import LOGIT_ROWS
from prefdyn.engine.memory import ACTIVATION_BYTES
from prefdyn.engine.states import TOKENS_PER_FORWARD
from prefdyn.errors import PrefdynError, first_line
from prefdyn.models import devices, loading
from prefdyn.models.devices import free_memory

CHARACTERS_PER_TOKEN = 4.2
"""Of English text under the tokenizers of today; a plan does not load one."""
EFFICIENCY = 0.6
"""Share of the speed of a plain matrix product that a whole step reaches."""
FIXED_BYTES = 1.9e9
"""What a chapter's kernel and the command that runs it hold whatever the model, most of it libraries."""


@dataclass(frozen=True)
class Size:
    """Of a model: its parameters outside the embeddings, and in all; hidden width, layers, known tokens."""

    body: int
    parameters: int
    width: int
    layers: int
    vocabulary: int


@dataclass(frozen=True)
class Work:
    """One kind of work of a chapter.

    Attributes:
        kind: "forward" (features), "train" (all weights), "adapt" (LoRA).
        runs: how many times it is done.
        steps: updates a run.
        tokens: seen in one run, all steps together; evaluation and reference included under `forward_tokens`.
        batch_tokens: of the largest update there can be.
        distances: whether the distance from where a run began is recorded, which takes a copy of the weights.
    """

    name: str
    kind: Literal["forward", "train", "adapt"]
    runs: int
    tokens: float
    steps: int = 0
    forward_tokens: float = 0.0
    batch_tokens: float = TOKENS_PER_FORWARD
    distances: bool = False

    def flops(self, size: Size) -> float:
        """2 a token and weight forward, 4 more backward.

        Backward it is 2 where only activations need gradients.
        """
        per_token = {"forward": 2, "train": 6, "adapt": 4}[self.kind] * size.body
        return self.runs * (per_token * self.tokens + 2 * size.body * self.forward_tokens)

    def memory(self, size: Size) -> float:
        """Bytes that are held at most, all in float32.

        They are of weights, activations and logits; where all weights train, also of gradients, of two
        moments, and of the copy to return to.
        """
        copies = {"forward": 1, "train": 5, "adapt": 1}[self.kind] + self.distances
        # Logits are there for LOGIT_ROWS positions at once, and three times over: themselves, their softmax,
        # its gradient. Backward, a softmax is kept for every position.
        measured = ACTIVATION_BYTES * TOKENS_PER_FORWARD * size.width + 12 * LOGIT_ROWS * size.vocabulary
        trained = min(self.batch_tokens, TOKENS_PER_FORWARD) * (
            ACTIVATION_BYTES * size.width * size.layers + 4 * size.vocabulary
        )
        most = measured + (0 if self.kind == "forward" else trained)
        return 4 * copies * size.parameters + most + FIXED_BYTES


def model_size(name: str) -> Size:
    """A model's size from its configuration alone.

    Raises:
        PrefdynError: the configuration cannot be read, or is not that of a causal language model.
    """
    if name == "smoke":
        config = loading.load(name, device="cpu").model.config
    elif name in loading.KNOWN and not loading.is_cached(name):
        known = loading.KNOWN[name]
        vocabulary = (known.parameters - known.body) // known.width  # of tied embeddings
        return Size(known.body, known.parameters, known.width, known.layers, vocabulary)
    else:
        source = loading.locate(name)[0]
        try:
            config = AutoConfig.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise PrefdynError(
                f"the model {name!r} cannot be found: give a name of `prefdyn models`, a folder or a hub id"
            ) from error
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # each architecture objects in its own way
        raise PrefdynError(
            f"the model {name!r} is no causal language model ({first_line(error)}): choose another"
        ) from error
    total = sum(weight.numel() for weight in model.parameters())
    embeddings = sum(
        weight.numel()
        for weight in {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
    )
    vocabulary = model.get_output_embeddings().weight.shape[0]
    return Size(total - embeddings, total, config.hidden_size, config.num_hidden_layers, vocabulary)


def tokens_of(items: Sequence[Persona] | Sequence[Pair]) -> float:
    """Tokens of statements, or of pairs with their prompts, estimated from their characters."""
    characters = 0
    for item in items:
        if isinstance(item, Persona):
            characters += sum(map(len, item.statements))
        else:
            characters += len(item.prompt) + len(item.chosen) + len(item.rejected)
    return characters / CHARACTERS_PER_TOKEN


def largest_batch(pairs: Sequence[Pair], size: int, most: float = 768) -> float:
    """Tokens of the `size` longest pairs, cut to `most` (by default where `likelihood.tokenize_pairs` does):
    no batch has more.
    """
    return sum(sorted((min(tokens_of([pair]), most) for pair in pairs), reverse=True)[:size])


def persona_features(p: Mapping[str, Any]) -> tuple[Work, float]:
    """The features of the personas that a chapter's parameters ask for, and the tokens of one statement.

    Three personas stand for all.
    """
    names = data.persona_names(p["data"])
    count = min(p["personas"] or len(names), len(names))
    sample = [
        data.load_persona(name, p["data"]).balanced(p["statements_per_label"] or 10**6)
        for name in names[: min(3, count)]
    ]
    tokens = tokens_of(sample)
    work = Work(f"features of {count} personas", "forward", count, tokens / len(sample))
    return work, tokens / sum(len(persona.statements) for persona in sample)


def speed(device: torch.device, precision: devices.Precision) -> float:
    """Multiply-adds a second times two, of a plain matrix product on the device, measured now."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    size = 512 if device.type == "cpu" else 4096
    a = torch.randn(size, size, device=device, dtype=dtype)
    seconds = []
    for _ in range(23):
        _wait(device)
        start = time.perf_counter()
        a @ a
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[3:])  # the first ones load what the others use


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def check_memory(work: Sequence[Work], name: str, size: Size, device: torch.device, shard: int = 1) -> None:
    """Stop before work that cannot fit.

    Args:
        shard: processes that the model is spread over: as many devices, or one CPU, whose memory they share.

    Raises:
        PrefdynError: one sentence that says what would.
    """
    free = free_memory(device) * (1 if device.type == "cpu" else shard)
    needed, heaviest = max(((item.memory(size), item) for item in work), key=lambda pair: pair[0])
    if needed > free:
        rest = heaviest.memory(replace(size, parameters=0, width=0))
        fits = size.parameters * max(0.0, free - rest) / (needed - rest)
        hint = (
            f"a model of up to about {fits / 1e6:.0f}M parameters would fit, or a larger device"
            if fits >= 1e6
            else "free some memory"
        )
        raise PrefdynError(
            f"{heaviest.name} with {name} ({size.parameters / 1e6:.0f}M parameters) "
            f"needs {needed / 2**30:.1f} GiB and {device} has {free / 2**30:.1f} GiB free: {hint}"
        )


def table(
    work: Sequence[Work], size: Size, device: torch.device, precision: devices.Precision
) -> pd.DataFrame:
    """A plan as a table; the last row is the whole."""
    rates = {"forward": speed(device, "float32"), "train": speed(device, precision)}
    rates["adapt"] = rates["train"]
    rows = []
    for item in work:
        # An AdamW update reads and writes seven numbers a weight; memory gives about 10 GB/s a core pair, far
        # more on a GPU.
        update = (
            item.runs * item.steps * size.parameters * 28 / (1e10 if device.type == "cpu" else 1e12)
            if item.kind == "train"
            else 0.0
        )
        seconds = item.flops(size) / (EFFICIENCY * rates[item.kind]) + update
        rows.append(
            (
                item.name,
                item.runs,
                item.steps,
                item.flops(size) / 1e12,
                item.memory(size) / 2**30,
                seconds / 60,
            )
        )
    frame = pd.DataFrame(rows, columns=["work", "runs", "steps", "TFLOP", "GiB", "minutes"])
    frame.loc[len(frame)] = [
        "all",
        frame["runs"].sum(),
        (frame["runs"] * frame["steps"]).sum(),
        frame["TFLOP"].sum(),
        frame["GiB"].max(),
        frame["minutes"].sum(),
    ]
    return frame


def book_data(path: str | Path) -> str:
    """What a source of data holds, in words."""
    pairs = data.load_pairs(path)
    return f"{len(data.persona_names(path))} personas, {len(pairs)} response pairs"
