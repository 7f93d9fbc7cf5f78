"""The four papers together: the experiments of chapter 5.

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
        personas: how many are measured, at least 5; 0 is all
        statements_per_label: of each persona; 0 is all
        splits: of each persona's statements into two halves
        beta: strength of the pull to the reference, as in chapter 1
        unembedding_rate: learning rate of the training of fixed length, as in chapter 1
        unembedding_steps: its updates
        long_rate: learning rate of the training that stops at the lowest validation loss
        long_steps: updates within which that is looked for
        long_divisions: such trainings of each half
        noise_rates: shares of wrong labels
        noise_beta: as in chapter 3
        learning_rate: as in chapter 3
        epochs: as in chapter 3
        divisions: trainings of each half on wrong labels
    """

    personas: int
    statements_per_label: int
    splits: int
    beta: float
    unembedding_rate: float
    unembedding_steps: int
    long_rate: float
    long_steps: int
    long_divisions: int
    noise_rates: list[float]
    noise_beta: float
    learning_rate: float
    epochs: int
    divisions: int


# The plan -------------------------------------------------------------------------------------------


def work(p: Mapping[str, Any]) -> list[Work]:
    """The work of the chapter across the papers: the features of chapter 1, and trainings of two rows that
    take seconds.
    """
    source = p["data"]
    names = data.persona_names(source)
    count = min(p["personas"] or len(names), len(names))
    sample = [
        data.load_persona(name, source).balanced(p["statements_per_label"] or 10**6)
        for name in names[: min(3, count)]
    ]
    return [Work(f"features of {count} personas", "forward", count, tokens_of(sample) / len(sample))]
