"""Whether it ranks (RA): the experiments of chapter 4.

Every experiment is a function of a bench and a design that returns a table, or tables by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefdyn import data
from prefdyn.data import datasets
from prefdyn.experiments.plan import Work, tokens_of


@dataclass(frozen=True)
class Design:
    """The sizes and settings of the chapter's experiments.

    Attributes:
        max_length: tokens of a prompt with its response
        ranked: rankings scored of each data set; 0 is all
        followed: training pairs, each followed over training
        validation: pairs that tell when to stop
        judged: pairs that the embedded judge learns from
        judge: embedded, reward:HUB_ID, or URL#MODEL of an endpoint
        answered: prompts that the model answers
        answer_tokens: how long an answer may be
        sft_learning_rate: of supervised fine-tuning
        sft_steps: its updates
        beta: strength of the pull to the reference
        learning_rate: of DPO with AdamW
        rmsprop_learning_rate: of DPO with RMSProp
        steps: updates of DPO
        checkpoints: how often the pairs are looked at
        batch_size: pairs an update
        gammas: weights of the reference
        gamma_steps: updates for each of them, at most `steps`
        gamma_followed: pairs followed for each, at most `followed`
    """

    max_length: int
    ranked: int
    followed: int
    validation: int
    judged: int
    judge: str
    answered: int
    answer_tokens: int
    sft_learning_rate: float
    sft_steps: int
    beta: float
    learning_rate: float
    rmsprop_learning_rate: float
    steps: int
    checkpoints: int
    batch_size: int
    gammas: list[float]
    gamma_steps: int
    gamma_followed: int


# The plan -------------------------------------------------------------------------------------------


def work(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 4 under its parameters; every data set is taken to be as long as the training
    pairs.
    """
    source = p["data"]
    pairs = data.load_pairs(source)
    each = min(tokens_of(pairs) / max(1, len(pairs)), 1.5 * p["max_length"])
    sets = len(datasets.available(source))
    ranked = min(p["ranked"] or len(pairs), len(pairs))
    points = [round(p["steps"] * i / p["checkpoints"]) for i in range(1, p["checkpoints"] + 1)]
    seeds, batch = len(p["seeds"]), p["batch_size"] * each
    held = p["followed"] + p["validation"]
    evaluation = held * each * (1 + len(points)) + p["answered"] * (each / 2 + p["answer_tokens"]) * (
        1 + len(points)
    )
    other_gammas = len([gamma for gamma in p["gammas"] if gamma != 1])
    gamma_evaluation = 2 * (p["gamma_followed"] * each + p["answered"] * (each / 2 + p["answer_tokens"]))
    sft = p["sft_steps"] * batch / 2
    return [
        Work(f"log-likelihoods on {sets} data sets", "forward", sets, ranked * each),
        Work("the judge's features", "forward", 1, 2 * p["judged"] * each),
        Work(
            "SFT, then DPO, two optimizers",
            "train",
            2 * seeds,
            sft + p["steps"] * batch,
            p["sft_steps"] + p["steps"],
            evaluation,
            batch,
        ),
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
