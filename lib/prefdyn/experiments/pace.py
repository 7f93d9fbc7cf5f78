"""How fast a chapter's passes go: as timed on this machine, or as a card's maker publishes it.

What is timed are the engine's own passes of random models whose layers have as many weights as the model's:
one of a few layers and one of a single layer, from which the time of all layers follows. No model is fetched.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

from prefdyn.engine import lora, sampling
from prefdyn.engine.likelihood import TokenPair
from prefdyn.engine.objectives import Reference, reference_log_probs
from prefdyn.engine.states import TOKENS_PER_FORWARD
from prefdyn.engine.training import Settings, fine_tune
from prefdyn.errors import PrefdynError
from prefdyn.experiments.plan import Size, Work, speed, wait_for
from prefdyn.models import LanguageModel, Precision
from prefdyn.models.token_trees import ATTENTION

SECONDS = 0.15
"""About what a pass that is timed may take."""
TIMED_TOKENS = 256
"""Of a pass that is timed; what an update has beyond them takes as long as so many more passes over it."""
MOST_LAYERS, WIDEST = 8, 1024
"""Of a model that is timed, the width on a CPU: wider layers are as fast, weight for weight."""
TEMPLATE_TOKENS = 12
"""With which all statements begin; they are run once."""
clock = time.perf_counter
STEPS, NEW_TOKENS, REPEATS = 2, 8, 2
"""Updates that are timed, tokens of answers beyond the first, and how often; the quickest counts."""


class Pace:
    """This machine's, for models of a size.

    Args:
        precision: of training.
        threads: that a CPU computes with; 0 leaves them as they are.
    """

    def __init__(self, size: Size, device: torch.device, precision: Precision, threads: int = 0) -> None:
        self.size, self.device, self.precision, self.threads = size, device, precision, threads
        self.narrowed = min(1.0, WIDEST / size.width) if device.type == "cpu" else 1.0
        self._models: dict[int, LanguageModel] = {}
        self._found: dict[tuple[Any, ...], float] = {}

    def seconds(self, work: Work, shard: int = 1) -> float:
        """That some work takes, with the model spread over so many processes.

        Each of them does all measurements and answers, and its share of training; those of a CPU share its
        cores. What they send each other is not counted.
        """
        here = self.device.type == "cpu"
        if work.kind == "forward":
            one = work.tokens * self._reading(work, "float32")
        elif work.kind == "answer":
            one = self._answering(work)
        else:
            one = work.steps * self._update(work) + work.forward_tokens * self._reading(work, self.precision)
            return work.runs * one / (1 if here else shard)
        return work.runs * one * (shard if here else 1)

    def _reading(self, work: Work, precision: Precision) -> float:
        """Seconds a token of log-probabilities without gradients."""
        pairs = self._pairs(work, max(1, round(TIMED_TOKENS / work.each)))
        tokens = len(pairs) * work.each

        def run(lm: LanguageModel) -> None:
            reference_log_probs(replace(lm, precision=precision), pairs)

        key = ("reading", precision, len(pairs), round(work.each), round(work.responses, 2))
        return self._whole(key, 2 * tokens, run) / tokens

    def _update(self, work: Work) -> float:
        """Seconds of an update, without the reference's pass."""
        batch = max(1, round(work.tokens / work.steps / work.each))
        timed = max(1, min(batch, int(TIMED_TOKENS / work.each)))
        pairs = self._pairs(work, timed * STEPS)
        how = Settings(learning_rate=1e-6, steps=STEPS, batch_size=timed, beta=0.1)
        references: dict[int, Reference] = {}

        def run(lm: LanguageModel) -> None:
            fine_tune(lm, pairs, how, reference=references.setdefault(id(lm), {}))

        adapting = work.kind == "adapt"
        key = ("update", adapting, timed, round(work.each), round(work.responses, 2))
        seconds = self._whole(key, 6 * len(pairs) * work.each, run, adapting) / STEPS
        passes = 2 if adapting else 3
        return seconds + (batch - timed) * work.each * passes * self._reading(work, self.precision)

    def _answering(self, work: Work) -> float:
        """Seconds of sampling the answers of a run."""
        prompts = max(1, round(work.tokens / (work.each + work.answer_tokens)))
        batch = min(prompts, sampling.BATCH)
        length = max(1, min(round(work.each), TIMED_TOKENS // batch))
        ids = torch.zeros(batch, length, dtype=torch.long, device=self.device)

        def run(new: int, lm: LanguageModel) -> None:
            how = GenerationConfig(max_new_tokens=new, do_sample=True, top_k=0, pad_token_id=0)
            model: Any = lm.model
            with torch.no_grad(), lm.autocast():
                model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=how)

        first, more = (
            self._whole(
                ("answering", batch, length, new), 2 * batch * (length + new), functools.partial(run, new)
            )
            for new in (1, 1 + NEW_TOKENS)
        )
        later = max(0.0, more - first) / NEW_TOKENS * (work.answer_tokens - 1)
        return math.ceil(prompts / batch) * (first * work.each / length + later)

    def _pairs(self, work: Work, count: int) -> list[TokenPair]:
        """Random ones of the work's lengths."""
        generator = torch.Generator().manual_seed(0)

        def draw(length: float) -> tuple[int, ...]:
            shape = (max(1, round(length)),)
            return tuple(torch.randint(0, self.size.vocabulary, shape, generator=generator).tolist())

        if work.responses:
            own, half = work.each * (1 - work.responses), work.each * work.responses / 2
            return [TokenPair(draw(own), draw(half), draw(half), "") for _ in range(count)]
        template = draw(TEMPLATE_TOKENS)
        return [TokenPair(template + draw(work.each), (0,), (1,), "") for _ in range(count)]

    def _whole(
        self,
        key: tuple[Any, ...],
        passes: float,
        run: Callable[[LanguageModel], None],
        adapting: bool = False,
    ) -> float:
        """Seconds that a run takes with all layers.

        Args:
            passes: arithmetic of the run for each weight of a layer.
        """
        if key not in self._found:
            layer = self.size.body / self.size.layers * self.narrowed**2
            most = min(self.size.layers, MOST_LAYERS)
            with self._quietly(), contextlib.ExitStack() as stack:
                many = max(min(2, most), min(most, int(SECONDS * self._speed / 2 / (passes * layer))))
                models = {count: self._model(count) for count in {1, many}}
                for lm in models.values() if adapting else ():
                    stack.enter_context(lora.adapted(lm, 8, 32, 0.0))
                run(models[many])  # which brings what the others use
                found = dict.fromkeys(models, math.inf)
                for _ in range(REPEATS):
                    for count, lm in models.items():
                        found[count] = min(found[count], self._took(lm, run))
            slope = max(0.0, found[many] - found[1]) / max(1, many - 1)
            outside = max(0.0, found[1] - slope)
            self._found[key] = outside / self.narrowed + slope * self.size.layers / self.narrowed**2
        return self._found[key]

    def _took(self, lm: LanguageModel, run: Callable[[LanguageModel], None]) -> float:
        wait_for(self.device)
        start = clock()
        run(lm)
        wait_for(self.device)
        return clock() - start

    @functools.cached_property
    def _speed(self) -> float:
        return speed(self.device, "float32")

    def _model(self, layers: int) -> LanguageModel:
        if layers not in self._models:
            with self.device:
                model = AutoModelForCausalLM.from_config(self._shape(layers), attn_implementation=ATTENTION)
            lm = LanguageModel("random", "", model.eval().requires_grad_(False), None, self.precision)  # type: ignore[arg-type]
            self._models[layers] = lm
        return self._models[layers]

    def _shape(self, layers: int) -> LlamaConfig:
        width = max(8, 8 * round(self.size.width * self.narrowed / 8))
        layer = self.size.body / self.size.layers * self.narrowed**2
        heads = max(heads for heads in range(1, max(1, width // 64) + 1) if width % (2 * heads) == 0)
        return LlamaConfig(
            vocab_size=self.size.vocabulary,
            hidden_size=width,
            intermediate_size=max(8, round((layer - 4 * width**2) / (3 * width))),
            num_hidden_layers=layers,
            num_attention_heads=heads,
            tie_word_embeddings=self.size.parameters - self.size.body
            < 1.5 * self.size.vocabulary * self.size.width,
        )

    @contextlib.contextmanager
    def _quietly(self) -> Iterator[None]:
        """With the threads that are asked for, and the random numbers of others left alone."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        devices = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=devices):
                torch.manual_seed(0)
                yield
        finally:
            torch.set_num_threads(before)


# Cards that are not here ------------------------------------------------------------------------------


SHARE = 0.4
"""Of what a card's maker publishes, what passes are taken to reach: a guess, and no measurement."""


@dataclass(frozen=True)
class Card:
    """A GPU as its maker publishes it.

    Attributes:
        memory: bytes, a little less than there are.
        bfloat16, float32: multiply-adds a second times two, of dense matrix products.
        bandwidth: bytes a second between its memory and its cores.
        link: bytes a second that it sends to the others of one machine.
    """

    memory: float
    bfloat16: float
    float32: float
    bandwidth: float
    link: float


CARDS = {
    "h100": Card(80e9, 989e12, 67e12, 3.35e12, 450e9),
    "h200": Card(141e9, 989e12, 67e12, 4.8e12, 450e9),
}
"""NVIDIA's, in the form SXM."""


def card(name: str) -> Card:
    """A card by its name.

    Raises:
        PrefdynError: none of that name is known.
    """
    if name not in CARDS:
        raise PrefdynError(f"the card {name!r} is unknown: choose one of {', '.join(CARDS)}")
    return CARDS[name]


@dataclass(frozen=True)
class CardPace:
    """Of cards that are not here: an estimate from what is published, of which passes reach `SHARE`."""

    card: Card
    size: Size

    def seconds(self, work: Work, shard: int = 1) -> float:
        """As `Pace.seconds`; what cards send each other is counted, one after the other with the rest."""
        size, card = self.size, self.card
        one, every = replace(work, runs=1).flops(size), 4.0 * size.parameters
        # In forward, and again in backward, weights are read whole, and those of other cards fetched.
        whole = every / card.bandwidth + (every * (shard - 1) / shard / card.link)
        if work.kind == "forward":
            parts = math.ceil(work.tokens / TOKENS_PER_FORWARD)
            return work.runs * (one / card.float32 + parts * whole) / SHARE
        if work.kind == "answer":
            batches = math.ceil(work.tokens / (work.each + work.answer_tokens) / sampling.BATCH)
            tokens = batches * work.answer_tokens
            return work.runs * (one / card.bfloat16 + tokens * whole) / SHARE
        parts = work.steps * math.ceil(work.tokens / work.steps / (TOKENS_PER_FORWARD * shard))
        parts_read = math.ceil(work.forward_tokens / (TOKENS_PER_FORWARD * shard))
        moved = (2 * parts + parts_read) * whole
        if work.kind == "train":
            # Gradients go where their weights are; an update reads and writes seven numbers a weight.
            moved += parts * whole + work.steps * 7 * every / shard / card.bandwidth
        return work.runs * (one / card.bfloat16 / shard + moved) / SHARE
