"""What a chapter is about to do, estimated before it does it: arithmetic, memory, time."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd
import torch
from transformers import AutoModelForCausalLM

from prefdyn import data
from prefdyn.data import Pair, Persona, Ranking
from prefdyn.engine.likelihood import LOGIT_ROWS
from prefdyn.engine.memory import ACTIVATION_BYTES
from prefdyn.engine.states import TOKENS_PER_FORWARD
from prefdyn.errors import PrefdynError, first_line
from prefdyn.models import devices, loading
from prefdyn.models.devices import free_memory

CHARACTERS_PER_TOKEN = 4.2
"""Of English text under the tokenizers of today; a plan does not load one."""
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
        kind: "forward" (features, scores), "answer" (sampling), "train" (all weights), "adapt" (LoRA).
        runs: how many times it is done, for all seeds and behaviours together.
        tokens: seen in one run, all steps together; evaluation and reference included under `forward_tokens`.
        each: tokens of one of the texts or preferences that are seen; of a prompt that is answered.
        responses: the share of the tokens that are of responses, whose logits are made; 0 where a response is
            a single token, which needs none.
        answer_tokens: of an answer.
        beside: bytes held beside the model and what it is doing.
        steps: updates a run.
        batch_tokens: of the largest update there can be.
        distances: whether the distance from where a run began is recorded, which takes a copy of the weights.
        resumed: whether training goes on from weights that are kept beside the copy to return to.
        moments: that the optimizer keeps of each weight: 2 of AdamW, 1 of RMSProp, 0 of a plain step.
    """

    name: str
    kind: Literal["forward", "answer", "train", "adapt"]
    runs: int
    tokens: float
    steps: int = 0
    forward_tokens: float = 0.0
    batch_tokens: float = TOKENS_PER_FORWARD
    distances: bool = False
    resumed: bool = False
    moments: int = 2
    each: float = 20.0
    responses: float = 0.0
    answer_tokens: int = 0
    beside: float = 0.0

    def flops(self, size: Size) -> float:
        """2 a token and weight forward, 4 more backward.

        Backward it is 2 where only activations need gradients.
        """
        weights = size.body + self.responses * size.vocabulary * size.width
        per_token = {"forward": 2, "answer": 2, "train": 6, "adapt": 4}[self.kind] * weights
        return self.runs * (per_token * self.tokens + 2 * weights * self.forward_tokens)

    def memory(self, size: Size, shard: int = 1, short: bool = False) -> float:
        """Bytes that a device holds at most, all in float32.

        They are of weights, activations and logits; where all weights train, also of gradients, of the
        optimizer's moments, and of the copies to return to and to go on from.

        Args:
            shard: devices that the model is spread over. Each brings together what lies outside the layers
                and, while one runs, two of these, with their gradients, and holds the activations of its own
                share of a batch.
            short: as it is on a GPU that lacks room for more: the copies to return to and to go on from are
                on the host, and of each layer only what it reads is kept (see `memory.recomputing`).
        """
        trains = self.kind == "train"
        kept_weights = 0 if short else 1 + self.resumed
        copies = (2 + self.moments + kept_weights if trains else 1) + self.distances
        # Logits are there for LOGIT_ROWS positions at once, and three times over: themselves, their softmax,
        # its gradient. Backward, a softmax is kept for every position.
        measured = ACTIVATION_BYTES * TOKENS_PER_FORWARD * size.width + 12 * LOGIT_ROWS * size.vocabulary
        kept = ACTIVATION_BYTES + 4 * size.layers if short else ACTIVATION_BYTES * size.layers
        tokens = 0.0 if self.kind in ("forward", "answer") else min(self.batch_tokens, TOKENS_PER_FORWARD)
        trained = tokens * (kept * size.width + 4 * size.vocabulary)
        together = size.parameters - size.body + 2 * size.body / size.layers if shard > 1 else 0.0
        weights = copies * size.parameters / shard + (2 if trains else 1) * together
        return 4 * weights + measured + trained + FIXED_BYTES + self.beside

    def fitting(self, size: Size, device: torch.device, free: float, shard: int = 1) -> float:
        """Bytes that a device with so many free holds at most: a GPU does with less where it must, and a CPU
        holds what all of its processes do.
        """
        whole = self.memory(size, shard)
        if device.type == "cpu":
            return whole * shard
        return whole if device.type != "cuda" or whole <= free else self.memory(size, shard, short=True)


def model_size(name: str) -> Size:
    """A model's size from its configuration alone; of a folder no weights are needed.

    Raises:
        PrefdynError: the configuration cannot be read, or is not that of a causal language model.
    """
    if name in loading.KNOWN and not loading.is_cached(name):
        known = loading.KNOWN[name]
        vocabulary = (known.parameters - known.body) // known.width  # of tied embeddings
        return Size(known.body, known.parameters, known.width, known.layers, vocabulary)
    config = loading.configuration(name)
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
    text = config.get_text_config()  # a model that takes images as well has one for each
    return Size(total - embeddings, total, text.hidden_size, text.num_hidden_layers, vocabulary)


def tokens_of(items: Sequence[Persona] | Sequence[Pair]) -> float:
    """Tokens of statements, or of pairs with their prompts, estimated from their characters."""
    characters = 0
    for item in items:
        if isinstance(item, Persona):
            characters += sum(map(len, item.statements))
        else:
            characters += item.characters
    return characters / CHARACTERS_PER_TOKEN


def largest_batch(pairs: Sequence[Pair], size: int, most: float = 768) -> float:
    """Tokens of the `size` longest pairs, cut to `most` (by default where `likelihood.tokenize_pairs` does):
    no batch has more.
    """
    return sum(sorted((min(tokens_of([pair]), most) for pair in pairs), reverse=True)[:size])


LISTS = {"stack-exchange": 4, "ultrafeedback": 4}
"""Responses of a ranking in those of the hub's data sets that are no pairs: what UltraFeedback has."""


@dataclass(frozen=True)
class Lengths:
    """Of prompts with their responses, cut as for training and scores, in tokens on the average.

    Attributes:
        each: of a prompt with all of its responses.
        share: that of the responses in it.
        responses: to a prompt.
    """

    each: float
    share: float
    responses: float

    @classmethod
    def of(cls, items: Sequence[Pair] | Sequence[Ranking], max_length: int = 512, count: int = 0) -> Lengths:
        """Of pairs or rankings.

        Args:
            max_length: tokens of a prompt with one of its responses.
            count: responses to each prompt, if there shall be others than there are.
        """
        prompts, answers, number = 0.0, 0.0, 0
        for item in items:
            texts = (item.chosen, item.rejected) if isinstance(item, Pair) else item.responses
            tokens = [min(len(text) / CHARACTERS_PER_TOKEN, max_length // 2) for text in texts]
            prompts += min(len(item.prompt) / CHARACTERS_PER_TOKEN, max_length - max(tokens))
            answers += sum(tokens)
            number += len(tokens)
        responses = number / len(items)
        answers *= (count or responses) / responses
        return cls((prompts + answers) / len(items), answers / (prompts + answers), count or responses)

    @property
    def of_one(self) -> Lengths:
        """Of a prompt with one of its responses."""
        one = self.each * self.share / self.responses
        each = self.each * (1 - self.share) + one
        return Lengths(each, one / each, 1.0)


def persona_features(p: Mapping[str, Any]) -> Work:
    """The features of the personas that a chapter's parameters ask for; three of them stand for all."""
    names = data.persona_names(p["data"])
    count = min(p["personas"] or len(names), len(names))
    sample = [
        data.load_persona(name, p["data"]).balanced(p["statements_per_label"] or 10**6)
        for name in names[: min(3, count)]
    ]
    tokens = tokens_of(sample)
    each = tokens / sum(len(persona.statements) for persona in sample)
    return Work(f"features of {count} personas", "forward", count, tokens / len(sample), each=each)


def speed(device: torch.device, precision: devices.Precision) -> float:
    """Multiply-adds a second times two, of a plain matrix product on the device, measured now."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    size = 512 if device.type == "cpu" else 4096
    a = torch.randn(size, size, device=device, dtype=dtype)
    seconds = []
    for _ in range(23):
        wait_for(device)
        start = time.perf_counter()
        a @ a
        wait_for(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[3:])  # the first ones load what the others use


def wait_for(device: torch.device) -> None:
    """Until a device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def check_memory(
    work: Sequence[Work], name: str, size: Size, device: torch.device, shard: int = 1, free: float = 0.0
) -> None:
    """Stop before work that cannot fit.

    Args:
        shard: processes that the model is spread over: as many devices, or one CPU, whose memory they share.
        free: bytes that each device has; 0 looks at the device.

    Raises:
        PrefdynError: one sentence that says what would.
    """
    free = free or free_memory(device)
    needed, heaviest = max(
        ((item.fitting(size, device, free, shard), item) for item in work), key=lambda pair: pair[0]
    )
    if needed > free:
        without = replace(size, body=0, parameters=0, width=0)
        rest = heaviest.fitting(without, device, free, shard)
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


class Seconds(Protocol):
    """A pace: see `pace.Pace` and `pace.CardPace`."""

    def seconds(self, work: Work, shard: int = 1) -> float: ...


def table(
    work: Sequence[Work],
    size: Size,
    device: torch.device,
    pace: Seconds,
    free: float,
    workers: int = 1,
    shard: int = 1,
) -> pd.DataFrame:
    """A plan as a table; the last row is the whole.

    Args:
        free: bytes that the device has.
        workers: that share the trainings; each does one at a time.
        shard: processes that the model is spread over.

    Returns:
        One row a kind of work, of which a device holds `GiB` at most.
    """
    rows = []
    for item in work:
        seconds = pace.seconds(item, shard)
        if item.kind in ("train", "adapt"):
            seconds *= -(-item.runs // workers) / item.runs
        held = item.fitting(size, device, free, shard)
        about = (item.name, item.runs, item.steps, item.flops(size) / 1e12)
        rows.append((*about, held / 2**30, seconds / 60))
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
    """What a source of data holds, in words; a chapter may need a part of it alone."""
    held = []
    for count, what in (
        (lambda: len(data.persona_names(path)), "personas"),
        (lambda: len(data.load_pairs(path)), "response pairs"),
    ):
        with contextlib.suppress(PrefdynError):
            held.append(f"{count()} {what}")
    return ", ".join(held) or "neither personas nor response pairs"
