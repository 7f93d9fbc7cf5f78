"""What is learned first (LD): the experiments of chapter 1.

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
        behaviours: which are fine-tuned, evenly spaced in distinguishability or the paper's own five
        layout: how statements are laid out in a map; pca is quicker
        trained: how many behaviours are fine-tuned
        beta: strength of the pull to the reference
        unembedding_rate: learning rate of the unembedding
        unembedding_steps: updates of the unembedding
        pairs_tested: pairs of behaviours trained together
        learning_rate: of full fine-tuning
        steps: updates of full fine-tuning
        batch_size: preferences an update
        evaluated: training statements of each label on which a loss is measured
        misalign_steps: updates on flipped labels
        other_betas: further strengths
        other_learning_rates: their learning rates
        beta_steps: updates at further strengths
        hh_pairs: response pairs for the misalignment of text
        hh_batch_size: response pairs an update
        hh_steps: updates on response pairs
        hh_learning_rate: of LoRA on response pairs
    """

    personas: int
    statements_per_label: int
    behaviours: str
    layout: str
    trained: int
    beta: float
    unembedding_rate: float
    unembedding_steps: int
    pairs_tested: int
    learning_rate: float
    steps: int
    batch_size: int
    evaluated: int
    misalign_steps: int
    other_betas: list[float]
    other_learning_rates: list[float]
    beta_steps: int
    hh_pairs: int
    hh_batch_size: int
    hh_steps: int
    hh_learning_rate: float


# The plan -------------------------------------------------------------------------------------------


def work(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 1 under its parameters."""
    source = p["data"]
    names = data.persona_names(source)
    count = min(p["personas"] or len(names), len(names))
    sample = [
        data.load_persona(name, source).balanced(p["statements_per_label"] or 10**6)
        for name in names[: min(3, count)]
    ]
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
        Work(
            f"fine-tuning {trained} personas at {betas} betas",
            "train",
            trained * betas,
            steps * batch,
            steps,
            evaluation,
            batch,
        ),
        Work(
            "fine-tuning two pairs of personas",
            "train",
            2,
            steps * batch * 2,
            steps,
            2 * evaluation,
            2 * batch,
        ),
        Work("misaligning", "train", trained, flips * batch, flips, evaluation, batch),
        Work(
            "training on response pairs (LoRA)",
            "adapt",
            3,
            updates * hh,
            updates,
            p["hh_pairs"] * pair_tokens,
            hh,
        ),
    ]
