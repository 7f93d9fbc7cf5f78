"""Whether it generalizes (GN): the experiments of chapter 2.

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
        personas: how many are measured; 0 is all
        statements_per_label: of each persona; 0 is all
        persona_lists: which personas are trained together; with `paper` the first draw is the paper's own
        cluster_counts: how many personas are trained together
        draws: of personas, for each count
        beta: strength of the pull to the reference in full fine-tuning
        learning_rate: of full fine-tuning
        steps: updates of full fine-tuning
        batch_size: preferences an update
        evaluated: held-out statements measured in a run, all its personas together
        evaluate_every: updates between two measurements
        synthetic_draws: of synthetic clusters, for each setting
        samples_a_label: training statements of each label, where their number is varied
        pairs_decomposed: response pairs whose token rewards are taken apart
        token_beta: strength of the pull to the reference for those
        token_rate: learning rate of the unembedding for those
        token_steps: updates of the unembedding for those
    """

    personas: int
    statements_per_label: int
    persona_lists: str
    cluster_counts: list[int]
    draws: int
    beta: float
    learning_rate: float
    steps: int
    batch_size: int
    evaluated: int
    evaluate_every: int
    synthetic_draws: int
    samples_a_label: list[int]
    pairs_decomposed: int
    token_beta: float
    token_rate: float
    token_steps: int


# The plan -------------------------------------------------------------------------------------------


def work(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 2 under its parameters; its synthetic clusters are no work for a model."""
    source = p["data"]
    names = data.persona_names(source)
    count = min(p["personas"] or len(names), len(names))
    sample = [
        data.load_persona(name, source).balanced(p["statements_per_label"] or 10**6)
        for name in names[: min(3, count)]
    ]
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
