"""Two models on the same examples: how much more often one is right, and whether that could be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from prefdyn.measures.estimates import LEVEL, Estimate


@dataclass(frozen=True)
class Comparison:
    """Of two models on n examples.

    Attributes:
        both, first, second, neither: examples on which both, the first alone, the second alone or neither is
            right.
        difference: how much more often the first is right, with its 95% interval.
        p: McNemar's exact test of whether they are right equally often.
    """

    both: int
    first: int
    second: int
    neither: int
    difference: Estimate
    p: float


def compare(first: ArrayLike, second: ArrayLike) -> Comparison:
    """Two models on the same examples, in the same order.

    Only examples on which one of the two is right say anything about which is better, and what both find
    easy or hard does not widen the interval, as it does where two accuracies are compared as if they were
    of different examples.

    Args:
        first, second: whether each is right, shape (n,), n at least 1.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    both, neither = int((a & b).sum()), int((~a & ~b).sum())
    p = float(mcnemar([[both, only_first], [only_second, neither]], exact=True).pvalue)
    return Comparison(both, only_first, only_second, neither, difference(only_first, only_second, len(a)), p)


def difference(first: int, second: int, n: int) -> Estimate:
    """The difference of two shares of the same n examples, with an interval.

    The interval is Wald's after half an example is added to each of the four cells (Agresti and Min 2005,
    Statistics in Medicine 24, 729-740): it has a length where the two never differ.

    Args:
        first, second: examples that are in one share alone.
    """
    b, c, size = first + 0.5, second + 0.5, n + 2
    centre = (b - c) / size
    half = stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt((b + c) / size - centre**2) / np.sqrt(size)
    value = (first - second) / n
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return Estimate(value, float(min(value, low)), float(max(value, high)), n)


def holm(ps: Sequence[float]) -> NDArray[np.float64]:
    """Holm's adjusted p values, shape (m,): of m comparisons, one below .05 by chance is rarer than .05."""
    return multipletests(np.asarray(ps, dtype=np.float64), method="holm")[1] if len(ps) else np.empty(0)


def guessed(chances: ArrayLike) -> Estimate:
    """How often somebody who guesses is right, and between what 95% of those who do are.

    Args:
        chances: of being right, for each of n examples, shape (n,).
    """
    p = np.asarray(chances, dtype=np.float64)
    mass = np.ones(1)
    for chance, count in zip(*np.unique(p, return_counts=True), strict=True):
        mass = np.convolve(mass, stats.binom.pmf(np.arange(count + 1), count, chance))
    low, high = (int(np.searchsorted(np.cumsum(mass), level)) for level in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Estimate(float(p.mean()), low / len(p), min(high, len(p)) / len(p), len(p))
