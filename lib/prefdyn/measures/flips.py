"""Pairs followed one by one through training: which were ranked right before, which are now (RA 4.1)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate

GROUPS = ("right → right", "right → wrong", "wrong → right", "wrong → wrong")
"""How the reference ranked a pair, and how the policy does."""


def follow(record: pd.DataFrame, split: str, first: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a step and pair of a split whose every pair is a group of the record.

    Such a split is in `each` of a `phases.Phase`.

    Args:
        first: a record of the same pairs that begins with the reference, where this one does not.

    Returns: Columns step, pair, loss, margin, log_ratio (of the policy, in nats), c (log
        pi_ref(y_l|x)/pi_ref(y_w|x), from step 0), right, group (one of `GROUPS`), distance.
    """
    part = record[record["split"] == split]
    out = part[["step", "loss", "margin", "distance"]].reset_index(drop=True)
    out["pair"] = part["group"].astype(int).to_numpy()
    out["log_ratio"] = (part["logp_chosen"] - part["logp_rejected"]).to_numpy()
    begun = out if first is None else follow(first, split)
    start = begun[begun["step"] == 0].set_index("pair")["log_ratio"]
    out["c"] = -start.loc[out["pair"]].to_numpy()
    out["right"] = part["ranking_accuracy"].to_numpy() == 1
    before = out["c"] <= 0
    out["group"] = np.where(before, *(np.where(out["right"], *names) for names in (GROUPS[:2], GROUPS[2:])))
    return out.sort_values(["step", "pair"], ignore_index=True)


def mean_loss(record: pd.DataFrame, split: str) -> pd.Series:
    """The mean loss of a split by step, over all its preferences."""
    part = record[record["split"] == split]
    total = (part["loss"] * part["n"]).groupby(part["step"]).sum()
    return (total / part.groupby("step")["n"].sum()).rename("loss")


def best_step(record: pd.DataFrame, split: str = "validation") -> int:
    """The step at which a split's mean loss is lowest; the earliest of several."""
    losses = mean_loss(record, split)
    return int(losses.index.to_numpy()[losses.to_numpy().argmin()])


def flipped(followed: pd.DataFrame, step: int) -> NDArray[np.float64]:
    """Which of the pairs that the reference ranks wrong are ranked right at a step.

    1 for each that is, else 0, shape (wrong pairs,).
    """
    now = followed[followed["step"] == step]
    return now.loc[now["c"] > 0, "right"].to_numpy(dtype=np.float64)


def share_flipped(followed: pd.DataFrame, step: int) -> Estimate:
    """The share of `flipped`, with Wilson's interval.

    Unknown (NaN) where the reference ranks fewer than three pairs wrong.
    """
    hits = flipped(followed, step)
    return estimates.proportion(hits) if len(hits) >= 3 else estimates.unknown(len(hits))


def trajectory(followed: pd.DataFrame, wins: Mapping[int, ArrayLike], pairs: int) -> pd.DataFrame:
    """Ranking accuracy, win rate against step 0, and distance of the weights, at each step with answers.

    Args:
        wins: by step, what `judges.wins` says of each prompt's answer against that at step 0.
        pairs: ranking accuracy is of the first so many followed pairs.
    """
    rows = []
    for step, each in sorted(wins.items()):
        now = followed[(followed["step"] == step) & (followed["pair"] < pairs)]
        right, won = estimates.proportion(now["right"].astype(float)), estimates.mean(each)
        rows.append(
            {
                "step": step,
                "distance": now["distance"].iloc[0],
                "ranking accuracy": right.value,
                "win rate": won.value,
                "accuracy low": right.low,
                "accuracy high": right.high,
                "win low": won.low,
                "win high": won.high,
            }
        )
    return pd.DataFrame(rows)
