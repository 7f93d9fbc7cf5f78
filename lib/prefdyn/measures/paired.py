"""Two models on the same examples: how much more often one is right, and whether that could be chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from prefdyn.errors import PrefdynError
from prefdyn.measures.estimates import LEVEL, Estimate, effective_number


@dataclass(frozen=True)
class Comparison:
    """Of two models on n examples.

    Attributes:
        first, second: examples on which the one or the other is ahead: right where the other is not, or by a
            larger share.
        both, neither: of all others, those on which both are right, and the rest.
        difference: how much more often the first is right, with its 95% interval.
        p: of the exact test of whether they are right equally often (`sign_flips`).
    """

    both: int
    first: int
    second: int
    neither: int
    difference: Estimate
    p: float


def compare(first: ArrayLike, second: ArrayLike, prompts: ArrayLike | None = None) -> Comparison:
    """Two models on the same examples, in the same order.

    Only examples on which one of the two is ahead say anything about which is better, and what both find
    easy or hard does not widen the interval, as it does where two accuracies are compared as if they were
    of different examples.

    Args:
        first, second: whether each is right, or how often a coin would be where its scores are equal, shares,
            shape (n,), n at least 1.
        prompts: names of the examples' prompts, shape (n,), where several share one and may be alike: test
            and interval are over prompts. The interval has no ends if these are few, see
            `estimates.effective_number`.

    Raises:
        PrefdynError: there are no examples, or not as many of both.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if len(a) != len(b) or not len(a):
        raise PrefdynError(f"two models are compared on the same examples, and here on {len(a)} and {len(b)}")
    kinds = np.arange(len(a)) if prompts is None else np.unique(np.asarray(prompts), return_inverse=True)[1]
    ahead = a - b
    p = sign_flips(np.bincount(kinds, _whole_multiples(ahead)).astype(np.int64))
    both = int(((a == 1) & (b == 1)).sum())
    one, other = int((ahead > 0).sum()), int((ahead < 0).sum())
    gap = difference(ahead, effective_number(ahead, kinds))
    return Comparison(both, one, other, len(a) - both - one - other, gap, p)


def _whole_multiples(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Differences of shares such as 1/2 and 1/3, times the least number that makes all of them whole."""
    scale = math.lcm(*(Fraction(x).limit_denominator(10**6).denominator for x in np.unique(shares)))
    return np.rint(shares * scale).astype(np.int64)


def difference(ahead: ArrayLike, worth: float) -> Estimate:
    """The mean of differences of two shares on the same n examples, with an interval.

    The interval is Wald's after half an example is added to each of the four cells of who is right (Agresti
    and Min 2005, Statistics in Medicine 24, 729-740): it has a length where the two never differ.

    Args:
        ahead: by how much the one is ahead of the other on each example, from -1 to 1, shape (n,).
        worth: of how many independent examples these n say as much; NaN if that is unknown.
    """
    gaps = np.asarray(ahead, dtype=np.float64)
    n, value = len(gaps), float(gaps.mean())
    if np.isnan(worth):
        return Estimate(value, np.nan, np.nan, n)
    size = worth + 2
    centre, square = value * worth / size, ((gaps**2).mean() * worth + 1) / size
    half = stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt(square - centre**2) / np.sqrt(size)
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return Estimate(value, float(min(value, low)), float(max(value, high)), n)


def sign_flips(ahead: ArrayLike) -> float:
    """How probable it is that a sum would be as far from 0 as it is if each term had either sign by a fair
    coin, exactly: Fisher's randomization test. With one example a prompt it is McNemar's exact test.

    Args:
        ahead: by how much one model is ahead of the other on the examples of a prompt together, in any unit
            in which that is whole numbers, shape (prompts,).
    """
    terms = np.asarray(ahead, dtype=np.int64)
    mass = np.ones(1)
    for size, count in zip(*np.unique(np.abs(terms[terms != 0]), return_counts=True), strict=True):
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        mass = np.convolve(mass, steps)
    sums = np.arange(len(mass)) - len(mass) // 2
    return min(1.0, float(mass[np.abs(sums) >= abs(terms.sum())].sum()))


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
