"""What wrong labels cost (NZ): the experiments of chapter 3.

Every experiment is a function of a bench and a design that returns a table, or tables by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefdyn import data
from prefdyn.experiments.plan import Work, tokens_of


@dataclass(frozen=True)
class Design:
    """The sizes and settings of the chapter's experiments.

    Attributes:
        dimension: of the points of the controlled experiment
        per_label: training points of each label; as many are tested on
        trials: independent repeats of the controlled experiment
        rate_step: from one noise rate to the next; 0.05 must be a multiple of it
        beta: strength of the pull to the reference
        epochs: of full-batch descent
        learning_rate: short training, within the theorem's stopping time
        long_rate: long training, far beyond it
        personas: how many are measured; 0 is all
        statements_per_label: of each persona; 0 is all
        persona_trials: random halves and flips of each persona
        text_rates: noise rates of the response pairs, from 0
        text_runs: repeats with other pairs and flips
        text_pairs: response pairs trained on
        text_tests: response pairs tested on
        text_batch_size: response pairs an update
        text_learning_rate: of fine-tuning on responses
    """

    dimension: int
    per_label: int
    trials: int
    rate_step: float
    beta: float
    epochs: int
    learning_rate: float
    long_rate: float
    personas: int
    statements_per_label: int
    persona_trials: int
    text_rates: list[float]
    text_runs: int
    text_pairs: int
    text_tests: int
    text_batch_size: int
    text_learning_rate: float


# The plan -------------------------------------------------------------------------------------------


def work(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 3 under its parameters; its controlled experiment runs no model."""
    source = p["data"]
    names = data.persona_names(source)
    count = min(p["personas"] or len(names), len(names))
    sample = [
        data.load_persona(name, source).balanced(p["statements_per_label"] or 10**6)
        for name in names[: min(3, count)]
    ]
    pairs = data.load_pairs(source)[: p["text_pairs"] + p["text_tests"]]
    each = tokens_of(pairs) / len(pairs)
    steps = -(-p["text_pairs"] // p["text_batch_size"])
    runs = len(p["text_rates"]) * p["text_runs"]
    seen, batch = p["text_pairs"] * each, p["text_batch_size"] * each
    # An epoch of fine-tuning sees the prompts and one response of the two, taken as seven tenths; preference
    # training sees all.
    return [
        Work(f"features of {count} personas", "forward", count, tokens_of(sample) / len(sample)),
        Work("fine-tuning on responses", "train", runs, 0.7 * seen, steps, 0, 0.7 * batch),
        Work(
            "preference training on responses",
            "train",
            runs,
            seen,
            steps,
            seen + 2 * p["text_tests"] * each,
            p["text_batch_size"] * each,
        ),
    ]
