"""What a chapter is about to do, estimated before it does it: arithmetic, memory, time on the device at hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from prefdyn import data, models, rankings
from prefdyn.data import Pair, Persona
from prefdyn.errors import PrefdynError

CHARACTERS_PER_TOKEN = 4.2
"""Of English text under the tokenizers of today; a plan does not load one."""
EFFICIENCY = 0.6
"""Share of the speed of a plain matrix product that a whole step reaches."""
TOKENS_PER_FORWARD = 4096
FIXED_BYTES = 0.5e9
"""What a process holds whatever the model."""


@dataclass(frozen=True)
class Size:
    """Of a model: its parameters outside the embeddings, and in all; hidden width and layers."""

    body: int
    parameters: int
    width: int
    layers: int


@dataclass(frozen=True)
class Work:
    """One kind of work of a chapter.

    Attributes:
        kind: "forward" (features), "train" (all weights), "adapt" (LoRA).
        runs: how many times it is done.
        steps: updates a run.
        tokens: seen in one run, all steps together; evaluation and reference included under `forward_tokens`.
        batch_tokens: of one update.
    """

    name: str
    kind: Literal["forward", "train", "adapt"]
    runs: int
    tokens: float
    steps: int = 0
    forward_tokens: float = 0.0
    batch_tokens: float = TOKENS_PER_FORWARD

    def flops(self, size: Size) -> float:
        """2 a token and weight forward, 4 more backward through all weights, 2 more through activations alone."""
        per_token = {"forward": 2, "train": 6, "adapt": 4}[self.kind] * size.body
        return self.runs * (per_token * self.tokens + 2 * size.body * self.forward_tokens)

    def memory(self, size: Size) -> float:
        """Bytes: float32 weights; gradients, two moments and the copy to return to where all weights train; activations."""
        copies = {"forward": 1, "train": 5, "adapt": 1}[self.kind]
        tokens = min(self.batch_tokens, TOKENS_PER_FORWARD)
        kept_layers = 1 if self.kind == "forward" else size.layers
        return 4 * copies * size.parameters + 100 * tokens * size.width * kept_layers + FIXED_BYTES


def model_size(name: str) -> Size:
    """A model's size from its configuration alone.

    Raises:
        PrefdynError: the configuration cannot be read.
    """
    if name == "smoke":
        config = models.load(name, device="cpu").model.config
    elif name in models.KNOWN and not models.is_cached(name):
        known = models.KNOWN[name]
        return Size(known.body, known.parameters, known.width, known.layers)
    else:
        source = models.locate(name)[0]
        try:
            config = AutoConfig.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise PrefdynError(f"the model {name!r} cannot be found: give a name of `prefdyn models`, a folder or a hub id") from error
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    total = sum(weight.numel() for weight in model.parameters())
    embeddings = sum(weight.numel() for weight in {model.get_input_embeddings().weight, model.get_output_embeddings().weight})
    return Size(total - embeddings, total, config.hidden_size, config.num_hidden_layers)


def tokens_of(items: Sequence[Persona] | Sequence[Pair]) -> float:
    """Tokens of statements, or of pairs with their prompts, estimated from their characters."""
    characters = 0
    for item in items:
        if isinstance(item, Persona):
            characters += sum(map(len, item.statements))
        else:
            characters += len(item.prompt) + len(item.chosen) + len(item.rejected)
    return characters / CHARACTERS_PER_TOKEN


def distinguishability(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 1 under its parameters."""
    source = p["data"]
    names = data.persona_names(source)
    count = min(p["personas"] or len(names), len(names))
    sample = [data.load_persona(name, source).balanced(p["statements_per_label"] or 10**6) for name in names[: min(3, count)]]
    statements = sum(len(persona.statements) for persona in sample) / len(sample)
    tokens = tokens_of(sample) / len(sample)
    each = tokens / statements
    batch = p["batch_size"] * each
    evaluation = tokens * 2.5
    pairs = data.load_pairs(source)[: p["hh_pairs"]]
    pair_tokens = tokens_of(pairs) / max(1, len(pairs))
    trained = min(p["trained"], count)
    hh = p["hh_batch_size"] * pair_tokens
    betas = 1 + len(p["other_betas"])
    steps, flips, updates = p["steps"], 2 * p["misalign_steps"], p["hh_steps"]
    return [
        Work(f"features of {count} personas", "forward", count, tokens),
        Work(f"fine-tuning {trained} personas at {betas} betas", "train", trained * betas, steps * batch, steps, evaluation, batch),
        Work("fine-tuning two pairs of personas", "train", 2, steps * batch * 2, steps, 2 * evaluation, 2 * batch),
        Work("misaligning", "train", trained, flips * batch, flips, evaluation, batch),
        Work("training on response pairs (LoRA)", "adapt", 3, updates * hh, updates, p["hh_pairs"] * pair_tokens, hh),
    ]


def generalization(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 2 under its parameters; its synthetic clusters are no work for a model."""
    source = p["data"]
    names = data.persona_names(source)
    count = min(p["personas"] or len(names), len(names))
    sample = [data.load_persona(name, source).balanced(p["statements_per_label"] or 10**6) for name in names[: min(3, count)]]
    tokens = tokens_of(sample) / len(sample)
    each = tokens / (sum(len(persona.statements) for persona in sample) / len(sample))
    runs = p["draws"] * len(p["cluster_counts"])
    batch = p["batch_size"] * each
    # Training and held-out statements are measured every so often, and once for the reference.
    evaluations = 1 + -(-p["steps"] // p["evaluate_every"])
    evaluation = evaluations * (p["steps"] * batch + p["evaluated"] * each)
    pairs = data.load_pairs(source)
    pair_tokens = tokens_of(pairs) / max(1, len(pairs)) * min(p["pairs_decomposed"], len(pairs))
    return [
        Work(f"features of {count} personas", "forward", count, tokens),
        Work(
            f"fine-tuning on {min(p['cluster_counts'])} to {max(p['cluster_counts'])} personas",
            "train",
            runs,
            p["steps"] * batch,
            p["steps"],
            evaluation,
            batch,
        ),
        Work("hidden states of response pairs", "forward", 1, pair_tokens),
    ]


def noise(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 3 under its parameters; its controlled experiment runs no model."""
    source = p["data"]
    names = data.persona_names(source)
    count = min(p["personas"] or len(names), len(names))
    sample = [data.load_persona(name, source).balanced(p["statements_per_label"] or 10**6) for name in names[: min(3, count)]]
    pairs = data.load_pairs(source)[: p["text_pairs"] + p["text_tests"]]
    each = tokens_of(pairs) / len(pairs)
    steps = -(-p["text_pairs"] // p["text_batch_size"])
    runs = len(p["text_rates"]) * p["text_runs"]
    seen, batch = p["text_pairs"] * each, p["text_batch_size"] * each
    # An epoch of fine-tuning sees the prompts and one response of the two, taken as seven tenths; preference training sees all.
    return [
        Work(f"features of {count} personas", "forward", count, tokens_of(sample) / len(sample)),
        Work("fine-tuning on responses", "train", runs, 0.7 * seen, steps, 0, 0.7 * batch),
        Work(
            "preference training on responses", "train", runs, seen, steps, seen + 2 * p["text_tests"] * each, p["text_batch_size"] * each
        ),
    ]


def ranking(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 4 under its parameters; every data set is taken to be as long as the training pairs."""
    source = p["data"]
    pairs = data.load_pairs(source)
    each = min(tokens_of(pairs) / max(1, len(pairs)), 1.5 * p["max_length"])
    sets = len(rankings.available(source))
    ranked = min(p["ranked"] or len(pairs), len(pairs))
    points = [round(p["steps"] * i / p["checkpoints"]) for i in range(1, p["checkpoints"] + 1)]
    seeds, batch = len(p["seeds"]), p["batch_size"] * each
    held = p["followed"] + p["validation"]
    evaluation = held * each * (1 + len(points)) + p["answered"] * (each / 2 + p["answer_tokens"]) * (1 + len(points))
    other_gammas = len([gamma for gamma in p["gammas"] if gamma != 1])
    gamma_evaluation = 2 * (p["gamma_followed"] * each + p["answered"] * (each / 2 + p["answer_tokens"]))
    sft = p["sft_steps"] * batch / 2
    return [
        Work(f"log-likelihoods on {sets} data sets", "forward", sets, ranked * each),
        Work("the judge's features", "forward", 1, 2 * p["judged"] * each),
        Work("SFT, then DPO, two optimizers", "train", 2 * seeds, sft + p["steps"] * batch, p["sft_steps"] + p["steps"], evaluation, batch),
        Work(
            "SFT, then DPO, other gammas",
            "train",
            other_gammas,
            sft + p["gamma_steps"] * batch,
            p["sft_steps"] + p["gamma_steps"],
            gamma_evaluation,
            batch,
        ),
    ]


def across(p: Mapping[str, Any]) -> list[Work]:
    """The work of the chapter across the papers: the features of chapter 1, and trainings of two rows that take seconds."""
    source = p["data"]
    names = data.persona_names(source)
    count = min(p["personas"] or len(names), len(names))
    sample = [data.load_persona(name, source).balanced(p["statements_per_label"] or 10**6) for name in names[: min(3, count)]]
    return [Work(f"features of {count} personas", "forward", count, tokens_of(sample) / len(sample))]


CHAPTERS: dict[str, Callable[[Mapping[str, Any]], list[Work]]] = {
    "distinguishability": distinguishability,
    "ranking": ranking,
    "generalization": generalization,
    "noise": noise,
    "across": across,
}
"""The work of each chapter, by its name, in the order to run them: long ones first, and the first two measure nothing in common."""


def speed(device: torch.device, precision: models.Precision) -> float:
    """Multiply-adds a second times two, of a plain matrix product on the device, measured now."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    size = 512 if device.type == "cpu" else 4096
    a = torch.randn(size, size, device=device, dtype=dtype)
    for _ in range(3):
        a @ a
    repeats = 20
    _wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        a @ a
    _wait(device)
    return repeats * 2 * size**3 / (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free_memory(device: torch.device) -> float:
    """Bytes that can be had on the device now."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


def check_memory(work: Sequence[Work], name: str, size: Size, device: torch.device) -> None:
    """Stop before work that cannot fit.

    Raises:
        PrefdynError: one sentence that says what would.
    """
    free = free_memory(device)
    needed, heaviest = max(((item.memory(size), item) for item in work), key=lambda pair: pair[0])
    if needed > free:
        fits = size.parameters * max(0.0, free - FIXED_BYTES) / (needed - FIXED_BYTES)
        hint = f"a model of up to about {fits / 1e6:.0f}M parameters would fit, or a larger device" if fits >= 1e6 else "free some memory"
        raise PrefdynError(
            f"{heaviest.name} with {name} ({size.parameters / 1e6:.0f}M parameters) needs {needed / 2**30:.1f} GiB and {device} has "
            f"{free / 2**30:.1f} GiB free: {hint}"
        )


def table(work: Sequence[Work], size: Size, device: torch.device, precision: models.Precision) -> pd.DataFrame:
    """A plan as a table; the last row is the whole."""
    rates = {"forward": speed(device, "float32"), "train": speed(device, precision)}
    rates["adapt"] = rates["train"]
    rows = []
    for item in work:
        # An AdamW update reads and writes seven numbers a weight; memory gives about 10 GB/s a core pair, far more on a GPU.
        update = item.runs * item.steps * size.parameters * 28 / (1e10 if device.type == "cpu" else 1e12) if item.kind == "train" else 0.0
        seconds = item.flops(size) / (EFFICIENCY * rates[item.kind]) + update
        rows.append((item.name, item.runs, item.steps, item.flops(size) / 1e12, item.memory(size) / 2**30, seconds / 60))
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
