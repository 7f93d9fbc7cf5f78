"""Chance in labels: wrong ones, and votes; and labels that follow a rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit

from prefdyn.data.pairs import Pair
from prefdyn.errors import PrefdynError

KINDS = ("coin", "by margin", "by uncertainty", "one-sided")
"""The kinds of noise of `flip_probabilities`."""


def mislabel(labels: NDArray[np.int8], rate: float, seed: int) -> NDArray[np.int8]:
    """Labels of which each is turned round with probability `rate`, independently (NZ Section 2).

    With the same seed a larger rate turns a superset.

    Args:
        labels: +1 or -1, shape (n,).
        rate: in [0, 1].

    Returns:
        Shape (n,).
    """
    uniform = np.random.default_rng(seed).random(len(labels))
    return np.where(uniform < rate, -labels, labels).astype(np.int8)


def flip_probabilities(kind: str, labels: ArrayLike, margins: ArrayLike, rate: float) -> NDArray[np.float64]:
    """With which probability each label is wrong, under one of `KINDS` of noise with the same mean rate.

    - coin: the same for all (NZ Section 2).
    - by margin: the examples with the smallest margins are labelled by a coin, a share of 2 rate of them.
    - by uncertainty: raters with a Bradley-Terry temperature, 1 / (1 + exp(|margin| / temperature)), which is
      set to give the rate.
    - one-sided: positive labels alone.

    Args:
        labels: +1 or -1, as many of each, shape (n,).
        margins: how clear each example is; the sign does not matter, shape (n,).
        rate: in [0, 1/2].

    Returns:
        Shape (n,).

    Raises:
        PrefdynError: an unknown kind, a rate out of its range, or one that no temperature gives: where so
            many margins are 0, a label is wrong more often.
    """
    if kind not in KINDS:
        raise PrefdynError(f"there is no noise of the kind {kind!r}: choose from {', '.join(KINDS)}")
    if not 0 <= rate <= 0.5:
        raise PrefdynError(f"the noise rate is {rate}: it must be from 0 to 1/2")
    s, size = np.asarray(labels), np.abs(np.asarray(margins, dtype=np.float64))
    if kind == "coin":
        return np.full(len(s), rate)
    if kind == "one-sided":
        return np.where(s > 0, 2 * rate, 0.0)
    if kind == "by margin":
        hardest = np.argsort(size, kind="stable")[: round(2 * rate * len(s))]
        out = np.zeros(len(s))
        out[hardest] = 0.5
        return out
    if rate in (0.0, 0.5):
        return np.full(len(s), rate)
    scale = size.mean()
    if (size == 0).mean() / 2 >= rate:
        raise PrefdynError(
            f"no temperature gives a noise rate of {rate}: {(size == 0).sum()} of {len(s)} margins are 0, "
            "and their labels are a coin's"
        )

    def excess(log_temperature: float) -> float:
        return float(expit(-size / (scale * np.exp(log_temperature))).mean()) - rate

    return expit(-size / (scale * np.exp(brentq(excess, -15, 15))))


def judged_by_length(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs as a judge has them who prefers the shorter response: no label is wrong, and something is there
    to be learned. Pairs of equal length are left out.
    """
    return [
        pair if len(pair.chosen) < len(pair.rejected) else pair.swapped()
        for pair in pairs
        if len(pair.chosen) != len(pair.rejected)
    ]


def simulate_votes(
    quality_chosen: float, quality_rejected: float, raters: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Votes of raters who each prefer `chosen` with the Bradley-Terry probability.

    That is the sigmoid of the difference in quality.

    Returns:
        How many prefer chosen, and how many rejected.
    """
    for_chosen = int(rng.binomial(raters, 1 / (1 + np.exp(quality_rejected - quality_chosen))))
    return for_chosen, raters - for_chosen
