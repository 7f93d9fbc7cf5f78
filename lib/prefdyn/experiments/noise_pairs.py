"""Wrong labels on response pairs, all weights trained (chapter 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from prefdyn import data
from prefdyn.data import Pair
from prefdyn.data.noise import judged_by_length
from prefdyn.engine.training import Settings
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.noise import Design, short_pairs
from prefdyn.experiments.phases import Adapter, Phase
from prefdyn.measures import estimates


@dataclass(frozen=True)
class TextSetting:
    """How response pairs are trained on.

    Attributes:
        labels: "people's", those of the data; or "length", those of a judge who prefers the shorter response.
        weights: "all", or "LoRA".
        learning_rate: of AdamW, in supervised fine-tuning and in DPO.
    """

    labels: str
    weights: str
    learning_rate: float


TEXT_SETTINGS = {
    1: TextSetting("people's", "all", 5e-5),
    2: TextSetting("people's", "LoRA", 5e-4),
    3: TextSetting("people's", "all", 1e-5),
    4: TextSetting("length", "all", 5e-5),
}
"""What the pilot chooses from, by number. The third has NZ's learning rate (Table 1)."""
LORA = Adapter(rank=8, alpha=32, dropout=0.05)


def text_pilot(bench: Bench, design: Design) -> pd.DataFrame:
    """Response pairs without noise: is there anything to lose? Each setting of the design's pilot is trained
    once, on the pairs of the first run.

    Returns:
        setting (its number in `TEXT_SETTINGS`); labels; weights; learning rate; epoch (of DPO); accuracy
        (share of test pairs with a positive margin), with low, high: its 95% Wilson interval; margin (mean
        over test pairs); trained, tested: pairs.
    """
    rows = []
    for number in (number for number in design.pilot if number):
        setting = TEXT_SETTINGS[number]
        pool, tests = _text_data(bench, design, setting)
        every = range(1, design.text_epochs + 1)
        _, phases = _text_run(bench, design, setting, pool, tests, 0, 0.0, every)
        record = bench.train(phases, _adapter(setting))[1].record.query("split == 'test'")
        for epoch, step in zip(every, phases[1].evaluate_at, strict=True):
            margins = record[record["step"] == step]["margin"]
            share = estimates.proportion(margins > 0)
            about = {"setting": number, "labels": setting.labels, "weights": setting.weights}
            rows.append(
                {
                    **about,
                    "learning rate": setting.learning_rate,
                    "epoch": epoch,
                    "accuracy": share.value,
                    "low": share.low,
                    "high": share.high,
                    "margin": margins.mean(),
                    "trained": len(phases[1].train),
                    "tested": len(tests),
                }
            )
    columns = ["setting", "labels", "weights", "learning rate", "epoch", "accuracy", "low", "high", "margin"]
    return pd.DataFrame(rows, columns=[*columns, "trained", "tested"])


def text_pairs(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Supervised fine-tuning and then DPO on response pairs with wrong labels (NZ Section 4.2).

    Each run draws its own pairs and uniform numbers, so that its labels that are wrong at one rate are wrong
    at all higher ones. All runs are tested on the same pairs.

    Tables:
        text_pairs: run; rate; wrong labels; accuracy (share of test pairs with a positive margin); margin
            (mean over test pairs); setting (its number in `TEXT_SETTINGS`); labels; trained, tested: pairs.
        text_margins: run; rate; pair (its number among the tests); margin.
    """
    setting = TEXT_SETTINGS[design.text_setting]
    pool, tests = _text_data(bench, design, setting)
    plan = [(run, rate) for run in range(design.text_runs) for rate in design.text_rates]
    drawn = [
        _text_run(bench, design, setting, pool, tests, run, rate, [design.text_epochs]) for run, rate in plan
    ]
    results = bench.train_all([phases for _, phases in drawn], _adapter(setting))
    about = {"setting": design.text_setting, "labels": setting.labels}
    rows, margins = [], []
    for (run, rate), (wrong, phases), (_, preference) in zip(plan, drawn, results, strict=True):
        tested = preference.record.query("split == 'test'")
        sizes = {"trained": len(phases[1].train), "tested": len(tests)}
        accuracy, margin = (tested["margin"] > 0).mean(), tested["margin"].mean()
        own = {"run": run, "rate": rate, "wrong labels": wrong, "accuracy": accuracy, "margin": margin}
        rows.append({**own, **about, **sizes})
        short = [float(f"{value:.4g}") for value in tested["margin"]]
        each = {"pair": tested["group"].astype(int).to_numpy(), "margin": short}
        margins.append(pd.DataFrame({"run": run, "rate": rate, **each}))
    empty = {"text_pairs": ["run", "rate", "wrong labels", "accuracy", "margin", *about, "trained", "tested"]}
    empty["text_margins"] = ["run", "rate", "pair", "margin"]
    return {
        "text_pairs": pd.DataFrame(rows, columns=empty["text_pairs"]),
        "text_margins": pd.concat(margins, ignore_index=True)
        if margins
        else pd.DataFrame(columns=empty["text_margins"]),
    }


def _text_data(bench: Bench, design: Design, setting: TextSetting) -> tuple[list[Pair], list[Pair]]:
    """The pairs that runs draw from, and those that all are tested on."""
    every = short_pairs(bench.pairs(0), design)
    if setting.labels == "length":
        every = judged_by_length(every)
    shuffled = np.random.default_rng(bench.seed).permutation(len(every))
    tests = [every[i] for i in shuffled[: design.text_tests]]
    return [every[i] for i in shuffled[design.text_tests :]], tests


def _adapter(setting: TextSetting) -> Adapter | None:
    return LORA if setting.weights == "LoRA" else None


def _text_run(
    bench: Bench,
    design: Design,
    setting: TextSetting,
    pool: Sequence[Pair],
    tests: Sequence[Pair],
    run: int,
    rate: float,
    epochs: Sequence[int],
) -> tuple[int, list[Phase]]:
    """How many labels of a run are wrong, and its training, measured after the given epochs of DPO."""
    seed = 1000 * bench.seed + run  # no two are alike
    drawn = np.random.default_rng([bench.seed, run]).permutation(len(pool))
    part = [pool[i] for i in drawn[: design.text_pairs]]
    labels = data.mislabel(np.ones(len(part), dtype=np.int8), rate, seed)
    train = [pair if label > 0 else pair.swapped() for pair, label in zip(part, labels, strict=True)]
    epoch = -(-len(train) // design.text_batch_size)
    fine_tuning = Settings(setting.learning_rate, epoch, design.text_batch_size, loss="sft", seed=seed)
    steps = epoch * design.text_epochs
    preference = replace(fine_tuning, loss="dpo", beta=design.beta, steps=steps)
    at = [epoch * number for number in epochs]
    phases = [Phase(train, fine_tuning), Phase(train, preference, {"test": tests}, at, each=["test"])]
    return int((labels < 0).sum()), phases
