"""Single pairs followed through training (RA Section 4.1), trained and unseen, and the answers given beside.

As in the paper, supervised fine-tuning comes first and leaves the reference, and DPO uses RMSProp.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.data import Pair, datasets
from prefdyn.engine.training import Settings
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.phases import Phase, PhaseResult
from prefdyn.experiments.ranking import Design, training_pairs
from prefdyn.files import public_name
from prefdyn.measures import flips, judges
from prefdyn.theory import ranking as theory

SPLITS = ("trained", "unseen")


@dataclass(frozen=True)
class Parts:
    """Pairs that no two parts share."""

    train: list[Pair]
    unseen: list[Pair]
    validation: list[Pair]
    judge: list[Pair]


def parts(bench: Bench, design: Design) -> Parts:
    """The pairs of every run, drawn by the seed.

    Raises:
        PrefdynError: there are too few.
    """
    pool, pairs, trained = training_pairs(bench.rankings, datasets.pairs_of(bench.source), design)
    sizes = [design.followed, design.validation, design.judge_pairs]
    first = np.random.default_rng(bench.seed).permutation(len(pool))
    train, first = first[:trained], first[trained:]
    # Of the split that is trained on, the others are what training leaves.
    rest = first if pool is pairs else np.random.default_rng(bench.seed).permutation(len(pairs))
    others = np.split(rest[: sum(sizes)], np.cumsum(sizes)[:-1])
    return Parts([pool[i] for i in train], *([pairs[i] for i in part] for part in others))


def phases(bench: Bench, design: Design, run: int) -> list[Phase]:
    """Fine-tuning over the training pairs once, then DPO; a run has its own order of pairs."""
    found, seed = parts(bench, design), bench.seed + 1000 * run
    epoch = -(-len(found.train) // design.batch_size)
    followed = found.train[: design.followed]
    evaluate = {"trained": followed, "unseen": found.unseen, "validation": found.validation}
    looks = [round(design.steps * i / design.checkpoints) for i in range(design.checkpoints + 1)]
    tuning = Settings(design.sft_learning_rate, epoch, design.batch_size, loss="sft", seed=seed)
    dpo = Settings(
        design.learning_rate,
        design.steps,
        design.batch_size,
        design.beta,
        optimizer="rmsprop",
        seed=seed,
        track_distance=True,
    )
    return [
        Phase(found.train, tuning, max_length=design.max_length),
        Phase(
            found.train,
            dpo,
            evaluate,
            sorted(set(looks)),
            each=SPLITS,
            answer=[pair.prompt for pair in followed[: design.answered]],
            answer_tokens=design.answer_tokens,
            max_length=design.max_length,
        ),
    ]


def _results(bench: Bench, design: Design) -> list[PhaseResult]:
    """Of DPO, a run each."""
    trained = bench.train_all([phases(bench, design, run) for run in range(design.runs)])
    return [result for _, result in trained]


def followed(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """What becomes of single pairs under DPO, of those trained on and of others.

    Tables:
        followed: one row a pair and look at a run:

            - run: its number; the order of the training pairs is its own.
            - split: trained or unseen.
            - step: updates of DPO.
            - pair: its number in the split.
            - loss: of DPO (nats).
            - c: log pi_ref(rejected)/pi_ref(chosen) (nats).
            - gain: what the policy's log-ratio gained on the reference's (nats).
            - right: 1 where the policy ranks the pair right, else 0.
        validation: the mean `loss` of the validation pairs (nats), by `run` and `step`.
        flips: one row a run and split:

            - wrong pairs: how many the reference ranks wrong.
            - step: that of the lowest validation loss; `last`, that of the last update.
            - flipped there, flipped at the end: the share of the wrong pairs that is ranked right by then.
            - violations: pairs at looks that break Theorem 4.1; none may.
    """
    tables, losses, shares = [], [], []
    for run, result in enumerate(_results(bench, design)):
        loss = flips.mean_loss(result.record, "validation")
        losses.append(loss.reset_index().assign(run=run)[["run", "step", "loss"]])
        best = flips.best_step(result.record)
        for split in SPLITS:
            found = flips.follow(result.record, split)
            broken = theory.violations(
                found["right"], found["loss"], found["c"], found["log_ratio"], design.beta
            )
            table = found.assign(run=run, split=split, gain=found["log_ratio"] + found["c"])
            columns = ["run", "split", "step", "pair", "loss", "c", "gain", "right"]
            tables.append(table[columns].astype({"right": int}))
            shares.append(
                {
                    "run": run,
                    "split": split,
                    "wrong pairs": int((found["c"][found["step"] == 0] > 0).sum()),
                    "step": best,
                    "last": design.steps,
                    "flipped there": flips.share_flipped(found, best).value,
                    "flipped at the end": flips.share_flipped(found, design.steps).value,
                    "violations": int(broken.sum()),
                }
            )
    whole = pd.concat(tables, ignore_index=True)
    short = whole["loss"].map(lambda value: float(f"{value:.5g}"))
    return {
        "followed": whole.round({"c": 4, "gain": 4}).assign(loss=short),
        "validation": pd.concat(losses, ignore_index=True),
        "flips": pd.DataFrame(shares),
    }


# Does ranking show in the answers? ------------------------------------------------------------------


def win_rate(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Answers of the trained models against the reference's, by the judge of the design.

    Tables:
        win_rate: one row a run and look: `run`, `step`; `distance`, of the weights from where DPO began;
            `ranking accuracy`, of the followed training pairs, with `accuracy low` and `accuracy high`
            (Wilson), and `win rate` with `win low` and `win high` (Student), all shares.
        wins: one row a run, look and prompt: `run`, `step`, `prompt`, its number, and `win`: 1 where the
            judge prefers the answer to the reference's in both orders, 0 where in neither, else 1/2.
        judge: its `name`, its `accuracy` on `n` unseen pairs, with `low` and `high`, empty where not known;
            `no verdict`, the share of its questions on which it gave none, which count as ties.
    """
    found = parts(bench, design)
    judge = bench.judge(design.judge, found.judge, design.answer_tokens)
    trust = getattr(judge, "accuracy", None)
    courses, wins = [], []
    verdicts: list[NDArray[np.float64]] = []
    for run, result in enumerate(_results(bench, design)):
        asked = {step: _judged(bench, design, judge, found, result, step) for step in sorted(result.answers)}
        verdicts.extend(asked[step] for step in asked if step)  # before training there is nothing to ask
        won = {step: judges.counted(one) for step, one in asked.items()}
        course = flips.trajectory(flips.follow(result.record, "trained"), won, design.followed)
        courses.append(course.assign(run=run))
        wins += [
            pd.DataFrame({"run": run, "step": step, "prompt": range(len(each)), "win": each})
            for step, each in won.items()
        ]
    known = {name: getattr(trust, field, np.nan) for name, field in JUDGED.items()}
    return {
        "win_rate": pd.concat(courses, ignore_index=True),
        "wins": pd.concat(wins, ignore_index=True),
        "judge": pd.DataFrame(
            [{"name": public_name(judge.name), **known, "no verdict": np.isnan(verdicts).mean()}]
        ),
    }


JUDGED: Mapping[str, str] = {"accuracy": "value", "low": "low", "high": "high", "n": "n"}
"""Columns of the table `judge`, by the field of an estimate that each is."""


def _judged(
    bench: Bench, design: Design, judge: judges.Judge, found: Parts, result: PhaseResult, step: int
) -> NDArray[np.float64]:
    """See `judges.in_both_orders`; kept, because a judge may be a large model.

    An endpoint keeps its answers itself, and what it did not answer is to be asked again.
    """
    own, first = result.answers[step], result.answers[0]
    if step == 0:
        return np.full((2, len(own)), 0.5)
    prompts: Sequence[str] = [pair.prompt for pair in found.train[: design.answered]]
    ask = judges.in_both_orders
    if isinstance(judge, judges.EndpointJudge):
        return ask(judge, prompts, own, first)
    key: dict[str, Any] = {
        "judge": getattr(judge, "fingerprint", design.judge),
        "pairs": data.fingerprint(found.judge),
        "tokens": design.answer_tokens,
        "seed": bench.seed,
        "prompts": prompts,
        "answers": [own, first],
    }
    return bench.keep("wins", key, ask, functools.partial(ask, judge, prompts, own, first))
