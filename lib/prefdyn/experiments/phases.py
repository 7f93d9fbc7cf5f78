"""Phases of training, one after another from one model: what most experiments with a model are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn.data import Pair, Persona, fingerprint
from prefdyn.engine import lora, sampling, states
from prefdyn.engine.likelihood import TokenPair, tokenize_pairs, tokenize_persona
from prefdyn.engine.objectives import Reference
from prefdyn.engine.training import Settings, fine_tune
from prefdyn.engine.weights import restoring
from prefdyn.models import LanguageModel

Preferences = Sequence[Persona] | Sequence[Pair]


@dataclass(frozen=True)
class Phase:
    """A stretch of training; the model as the phase finds it is its reference.

    Attributes:
        train: personas (each a group of the record) or pairs.
        evaluate: held-out preferences by split name.
        evaluate_at: steps at which those are measured.
        embed: personas whose features are taken after the phase.
        each: names of splits whose every preference is a group of the record, named by its index in the
            split.
        answer: prompts that the model answers at the steps of `evaluate_at`, by sampling.
        answer_tokens: how long an answer may be.
        max_length: tokens of a response pair's prompt with one of its responses.
    """

    train: Preferences
    settings: Settings
    evaluate: Mapping[str, Preferences] = field(default_factory=dict)
    evaluate_at: Sequence[int] = ()
    embed: Sequence[Persona] = ()
    each: Sequence[str] = ()
    answer: Sequence[str] = ()
    answer_tokens: int = 0
    max_length: int = 512

    @property
    def name(self) -> str:
        """In words."""
        names = [item.name for item in self.train if isinstance(item, Persona)]
        many = f"{len(self.train)} {'personas' if names else 'response pairs'}"
        loss = self.settings.loss if isinstance(self.settings.loss, str) else self.settings.loss.name
        return f"{loss} on {' and '.join(names) if 0 < len(names) < 3 else many}"

    def key(self, seed: int) -> dict[str, Any]:
        """All that its results depend on, but for the model."""
        return {
            "train": fingerprint(self.train),
            "settings": self.settings.describe(),
            "evaluate": {name: fingerprint(part) for name, part in self.evaluate.items()},
            "evaluate_at": list(self.evaluate_at),
            "embed": [fingerprint([persona]) for persona in self.embed],
            "each": sorted(self.each),
            "max_length": self.max_length,
            "answer": [list(self.answer), self.answer_tokens, seed if self.answer else None],
        }


@dataclass(frozen=True)
class Adapter:
    """LoRA's rank, alpha and dropout; see `lora.adapted`."""

    rank: int
    alpha: int
    dropout: float


@dataclass(frozen=True)
class PhaseResult:
    """What a phase leaves.

    Attributes:
        record: see `training.RECORD`.
        features: by persona name, shape (n, d), of the phase's `embed`.
        answers: by step, an answer to each prompt of the phase's `answer`.
    """

    record: pd.DataFrame
    features: dict[str, NDArray[np.float32]]
    answers: dict[int, list[str]] = field(default_factory=dict)


def run_phases(
    lm: LanguageModel, phases: Sequence[Phase], seed: int, adapter: Adapter | None, reference: Reference
) -> list[PhaseResult]:
    """Run phases one after another from the model as it is, which has its weights back afterwards.

    Args:
        seed: of adapters and of sampled answers.
        reference: what is known of the model as it is; what is missing is added.
    """
    # A fresh adapter adds nothing yet, so with one, too, the first phase starts from the model as it was
    # loaded.
    references = [reference, *({} for _ in phases[1:])]
    training = restoring(lm)
    if adapter is not None:
        training = lora.adapted(lm, adapter.rank, adapter.alpha, adapter.dropout, seed)
    with training:
        return [_run(lm, phase, seed, known) for phase, known in zip(phases, references, strict=True)]


def _run(lm: LanguageModel, phase: Phase, seed: int, reference: Reference) -> PhaseResult:
    evaluate = {name: tokenized(lm, part, phase.max_length) for name, part in phase.evaluate.items()}
    for name in phase.each:
        evaluate[name] = [replace(pair, group=str(index)) for index, pair in enumerate(evaluate[name])]
    answers: dict[int, list[str]] = {}

    def visit(step: int) -> None:
        answers[step] = sampling.answers(lm, phase.answer, phase.answer_tokens, seed)

    train = tokenized(lm, phase.train, phase.max_length)
    record = fine_tune(
        lm, train, phase.settings, evaluate, phase.evaluate_at, reference, visit if phase.answer else None
    )
    return PhaseResult(record, {p.name: states.hidden_states(lm, p.questions) for p in phase.embed}, answers)


def tokenized(lm: LanguageModel, preferences: Preferences, max_length: int) -> list[TokenPair]:
    """The tokens of statements and of response pairs, in their order."""
    out: list[TokenPair] = []
    for item in preferences:
        out.extend(
            tokenize_persona(lm, item)
            if isinstance(item, Persona)
            else tokenize_pairs(lm, [item], max_length)
        )
    return out
