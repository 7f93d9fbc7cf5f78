"""The same with text: response pairs learned with LoRA and unlearned, and what becomes of each response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from prefdyn import data
from prefdyn.data import Pair
from prefdyn.engine.likelihood import tokenize_pairs
from prefdyn.engine.training import Settings
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.distinguishability import Design
from prefdyn.experiments.phases import Adapter, Phase, PhaseResult
from prefdyn.measures.response_tokens import ches, response_tokens
from prefdyn.models import LanguageModel

RUNS = ("aligning", "misaligning the aligned model", "misaligning the base model")
ADAPTER = Adapter(rank=8, alpha=32, dropout=0.05)
"""The paper's (LD Appendix B)."""
HELD_OUT = "held out"
TOGETHER = 32
"""Pairs whose hidden states are held at once."""


def text(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Response pairs learned with LoRA, then their opposites from there; and the opposites from the base
    model. Measured on other pairs.

    Tables:
        text: one row a run and step:

            - run: aligning, misaligning the aligned model, misaligning the base model.
            - step: of the run; the second begins where the first ends.
            - pairs: that are measured.
            - logp_chosen, logp_rejected: mean log-likelihood of the response that the original label prefers
              and of the other (nats).
            - accuracy: share of pairs whose preferred response gained on the other since the run began,
              preferred by the labels of the run.
        text_by_pair: one row a held-out pair:

            - pair: its number.
            - chosen, rejected: change of the response's log-likelihood by aligning (nats a token).
            - lead by aligning, lead by undoing, lead by misaligning: change of the difference of the two
              log-likelihoods by aligning, by misaligning the aligned, and by misaligning the base model
              (nats).
            - CHES: of the base model, length-normalised, as `response_tokens.ches` has it.
            - chosen tokens, rejected tokens: lengths of the responses.
    """
    train, held_out = _pairs(bench, design)
    how = Settings(
        design.hh_learning_rate, design.hh_steps, design.hh_batch_size, design.beta, seed=bench.seed
    )
    points = sorted({round(share * design.hh_steps) for share in (0, 0.25, 0.5, 0.75, 1)})
    aligning = Phase(train, how, {HELD_OUT: held_out}, points, each=[HELD_OUT])
    undoing = replace(aligning, train=_turned(train), evaluate={HELD_OUT: _turned(held_out)})
    results = [result for run in bench.train_all([[aligning, undoing], [undoing]], ADAPTER) for result in run]
    rows = [_course(name, result) for name, result in zip(RUNS, results, strict=True)]
    scores = bench.measure("ches", {"data": data.fingerprint(held_out)}, similarity, held_out)
    changes = [_changes(result) for result in results]
    by_pair = pd.DataFrame({"pair": changes[0].index, **scores}, index=changes[0].index)
    for which in ("chosen", "rejected"):
        by_pair[which] = changes[0][f"logp_{which}"] / by_pair[f"{which} tokens"]
    for word, sign, change in zip(("aligning", "undoing", "misaligning"), (1, -1, -1), changes, strict=True):
        by_pair[f"lead by {word}"] = sign * (change["logp_chosen"] - change["logp_rejected"])
    return {"text": pd.concat(rows, ignore_index=True), "text_by_pair": by_pair}


def _changes(result: PhaseResult) -> pd.DataFrame:
    """Of the log-likelihoods of every held-out pair over a run, chosen and rejected by the run's labels."""
    record = result.record.query("split == 'held out'")
    record = record.assign(pair=record["group"].astype(int))
    ends = [
        record[record["step"] == step].set_index("pair").sort_index()[["logp_chosen", "logp_rejected"]]
        for step in (0, record["step"].max())
    ]
    return ends[1] - ends[0]


def _pairs(bench: Bench, design: Design) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train on and held-out ones, drawn by the seed among those that are short enough."""
    short = [pair for pair in bench.pairs(0) if pair.characters <= design.hh_characters]
    order = np.random.default_rng(bench.seed).permutation(len(short))
    drawn = [short[i] for i in order[: design.hh_pairs + design.hh_held_out]]
    return drawn[: design.hh_pairs], drawn[design.hh_pairs :]


def _turned(pairs: Sequence[Pair]) -> list[Pair]:
    return [pair.swapped() for pair in pairs]


def _course(name: str, result: PhaseResult) -> pd.DataFrame:
    record = result.record.query("split == 'held out'")
    columns = ["logp_chosen", "logp_rejected", "accuracy"]
    course = record.groupby("step")[columns].mean().reset_index()
    if name != RUNS[0]:  # there the labels are turned round
        course = course.rename(columns={"logp_chosen": "logp_rejected", "logp_rejected": "logp_chosen"})
    return course.assign(run=name, pairs=record["group"].nunique())[["run", "step", "pairs", *columns]]


def similarity(lm: LanguageModel, pairs: Sequence[Pair]) -> dict[str, list[float]]:
    """CHES of the pairs, and the lengths of their responses in tokens."""
    scores: list[float] = []
    tokens = tokenize_pairs(lm, pairs)
    for start in range(0, len(tokens), TOGETHER):
        scores += ches(response_tokens(lm, tokens[start : start + TOGETHER])).tolist()
    return {
        "CHES": scores,
        "chosen tokens": [float(len(pair.chosen)) for pair in tokens],
        "rejected tokens": [float(len(pair.rejected)) for pair in tokens],
    }
