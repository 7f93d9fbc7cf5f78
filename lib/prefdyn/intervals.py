"""Statistics with bootstrap intervals: 95%, percentile, resampling the units named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, rankdata

from prefdyn.errors import PrefdynError

RESAMPLES = 4000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A statistic, its 95% bootstrap interval, and the number of units resampled."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def estimate(statistic: Callable[..., NDArray[np.float64]], *samples: ArrayLike, seed: int = 0) -> Estimate:
    """A statistic of paired samples, each of shape (n,), with its interval.

    Args:
        statistic: takes the samples and `axis`, as scipy.stats.bootstrap asks.

    Raises:
        PrefdynError: fewer than three units.
    """
    data = tuple(np.asarray(sample, dtype=np.float64) for sample in samples)
    if len(data[0]) < 3:
        raise PrefdynError(f"{len(data[0])} units are too few for a bootstrap interval: give at least 3")
    drawn = bootstrap(
        data,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).bootstrap_distribution
    # A resample of one unit only has no rank correlation; it says nothing and is left out.
    low, high = np.nanpercentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Estimate(float(statistic(*data, axis=-1)), float(low), float(high), len(data[0]))


def mean(sample: ArrayLike, seed: int = 0) -> Estimate:
    """The mean of a sample of shape (n,)."""
    return estimate(np.mean, sample, seed=seed)


def median(sample: ArrayLike, seed: int = 0) -> Estimate:
    """The median of a sample of shape (n,)."""
    return estimate(np.median, sample, seed=seed)


def spearman(x: ArrayLike, y: ArrayLike, seed: int = 0) -> Estimate:
    """Spearman's rank correlation of paired samples of shape (n,)."""
    return estimate(_spearman, x, y, seed=seed)


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    ranks = [rankdata(values, axis=axis) for values in (x, y)]
    a, b = (rank - rank.mean(axis=axis, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        return (a * b).sum(axis) / np.sqrt((a**2).sum(axis) * (b**2).sum(axis))
