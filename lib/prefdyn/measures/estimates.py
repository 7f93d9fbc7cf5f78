"""Statistics with 95% intervals: Student's for means, Wilson's for shares, the bootstrap for the rest."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from prefdyn.errors import PrefdynError

RESAMPLES = 4000
LEVEL = 0.95
CACHED = 2**17
"""Numbers of a megabyte: what is worked on at once stays in a processor's cache."""
FEWEST_CLUSTERS = 8
"""Kinds below which a bootstrap over them is not taken for an interval, and an estimate has none: with one
kind, every resample is alike.
"""


@dataclass(frozen=True)
class Estimate:
    """A statistic, its 95% interval, and the number of units behind it."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        interval = "" if np.isnan(self.low) else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{self.value:.3g}{interval}".replace("-", "−")


def unknown(n: int) -> Estimate:
    """Of what too few units were measured for; it leaves a claim open."""
    return Estimate(float("nan"), float("nan"), float("nan"), n)


def mean(sample: ArrayLike, clusters: ArrayLike | None = None, seed: int = 0) -> Estimate:
    """The mean of a sample of shape (n,), with Student's interval.

    Args:
        clusters: names of what each unit belongs to, shape (n,), where units of a kind may be alike: the
            interval is that of a bootstrap over them, if they are `FEWEST_CLUSTERS` or more, and Student's
            where every unit is a cluster of its own.

    Raises:
        PrefdynError: fewer than three units.
    """
    x = _checked(sample)
    centre = float(x.mean())
    names, index = np.unique(np.arange(len(x)) if clusters is None else clusters, return_inverse=True)
    if len(names) < len(x):
        counts = resample_counts(len(names), seed)
        sums, sizes = np.stack([np.bincount(index, x), np.bincount(index)]) @ counts.T
        return over_clusters(from_resamples(centre, sums / sizes, len(x), len(names), widened=True), clusters)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(x) - 1) * stats.sem(x))
    return Estimate(centre, centre - half, centre + half, len(x))


def simultaneous_means(sample: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of m quantities over n units, shape (n, m), and half the widths of Student intervals.

    The intervals hold all at once (Bonferroni).

    Raises:
        PrefdynError: fewer than three units.
    """
    x = _checked(sample)
    quantile = stats.t.ppf(1 - (1 - LEVEL) / (2 * x.shape[1]), len(x) - 1)
    return x.mean(axis=0), quantile * stats.sem(x, axis=0)


def median(sample: ArrayLike, seed: int = 0, clusters: ArrayLike | None = None) -> Estimate:
    """The median of a sample of shape (n,), bootstrapped over the units, or over what they belong to where
    `clusters` says it, of shape (n,), as `mean` is.
    """
    x = _checked(sample)
    if clusters is None:
        return _bootstrap(np.median, x, seed=seed)
    order = np.argsort(x)
    below = counts_by_cluster(clusters, seed)[:, order].cumsum(axis=1)  # of each resample, in order of size
    middle = [
        np.argmax(below > half[:, None], axis=1) for half in ((below[:, -1] - 1) // 2, below[:, -1] // 2)
    ]
    drawn = x[order][middle].mean(axis=0)
    found = from_resamples(float(np.median(x)), drawn, len(x), _number(clusters))
    return over_clusters(found, clusters)


def spearman(x: ArrayLike, y: ArrayLike, seed: int = 0, clusters: ArrayLike | None = None) -> Estimate:
    """Spearman's rank correlation of paired samples of shape (n,), bootstrapped over the pairs, or over what
    they belong to where `clusters` says it, of shape (n,), as `mean` is.

    A few units in perfect order have a bootstrap interval of length zero. So where an exact permutation test
    (above 8 units, its t approximation) does not exclude 0 at the same level, the interval is widened to
    reach 0.
    """
    a, b = _checked(x), _checked(y)
    if clusters is None:
        out = _bootstrap(_spearman, a, b, seed=seed)
    else:
        drawn = _weighted_spearman(a, b, counts_by_cluster(clusters, seed))
        out = from_resamples(float(_spearman(a, b, -1)), drawn, len(a), _number(clusters))
    if _permutation_p(a, b) >= 1 - LEVEL:
        out = Estimate(out.value, min(out.low, 0.0), max(out.high, 0.0), out.n)
    return over_clusters(out, clusters)


def gain_in_spearman(
    x: ArrayLike, other: ArrayLike, y: ArrayLike, seed: int = 0, clusters: ArrayLike | None = None
) -> Estimate:
    """How much better x foretells y than another measure does: the difference of their rank correlations with
    y, all of shape (n,), bootstrapped together over the units, or over their clusters as `mean` is.
    """
    a, b, c = _checked(x), _checked(other), _checked(y)
    belongs = np.arange(len(c)) if clusters is None else np.asarray(clusters)
    counts = counts_by_cluster(belongs, seed)
    drawn = _weighted_spearman(a, c, counts) - _weighted_spearman(b, c, counts)
    out = from_resamples(float(_spearman(a, c, -1) - _spearman(b, c, -1)), drawn, len(c), _number(belongs))
    return over_clusters(out, clusters)


def spearman_within(
    x: ArrayLike, y: ArrayLike, groups: ArrayLike, seed: int = 0, fewest: int = 5
) -> Estimate:
    """The rank correlation of paired samples of shape (n,) inside groups: of the ranks less their group's
    mean rank, bootstrapped over the pairs. Groups of fewer than `fewest` are left out.

    Args:
        groups: names, shape (n,).
    """
    names, index, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    large = sizes[index] >= fewest
    if large.sum() < 3:
        return unknown(int(large.sum()))
    left = [stats.rankdata(np.asarray(values, dtype=np.float64)[large]) for values in (x, y)]
    kind = index[large]
    counts = np.bincount(kind, minlength=len(names)).clip(min=1)
    left = [ranks - (np.bincount(kind, ranks, len(names)) / counts)[kind] for ranks in left]
    return _bootstrap(_pearson, *left, seed=seed)


def spearman_over_pairs(x: ArrayLike, y: ArrayLike, ends: ArrayLike, seed: int = 0) -> Estimate:
    """Spearman's rank correlation of two quantities of pairs, bootstrapped over the units they are made of.

    A pair counts in a resample as often as its two units do: a bootstrap over pairs would take those that
    share a unit for independent.

    Args:
        x, y: shape (pairs,).
        ends: the names of the two units of each pair, shape (pairs, 2).

    Raises:
        PrefdynError: fewer than three pairs.
    """
    a, b = _checked(x), _checked(y)
    names, index = np.unique(np.asarray(ends), return_inverse=True)
    first, second = index.reshape(-1, 2).T
    counts = resample_counts(len(names), seed)
    drawn = _weighted_spearman(a, b, counts[:, first] * counts[:, second])
    return from_resamples(float(_spearman(a, b, -1)), drawn, len(names), len(names))


def mean_over_pairs(
    x: ArrayLike, ends: ArrayLike, seed: int = 0, clusters: ArrayLike | None = None
) -> Estimate:
    """The mean of a quantity of pairs, bootstrapped over the units they are made of, or over what these
    belong to; a pair counts in a resample as often as its two units do together.

    Args:
        x: shape (pairs,).
        ends: indices of the two different units of each pair, from 0, shape (pairs, 2).
        clusters: names of what each unit belongs to, shape (units,), as in `mean`.

    Raises:
        PrefdynError: fewer than three pairs.
    """
    values = _checked(x)
    first, second = np.asarray(ends).T
    belongs = np.arange(max(first.max(), second.max()) + 1) if clusters is None else np.asarray(clusters)
    counts, units = counts_by_cluster(belongs, seed), len(belongs)
    square = np.zeros((2, units, units))
    square[:, first, second] = np.stack([values, np.ones_like(values)])
    # Of all pairs at once: counts of the one end, times the pairs, times counts of the other.
    total, weight = np.vecdot(counts @ square, counts)
    with np.errstate(invalid="ignore"):
        drawn = total / weight
    out = from_resamples(float(values.mean()), drawn, units, _number(belongs), widened=True)
    return over_clusters(out, clusters)


def proportion(hits: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """The share of hits in a sample of zeros and ones, shape (n,), with Wilson's interval.

    A half counts as one half, and a share of its own as so much of a hit, for which the interval is rather
    too long. It stays within [0, 1], and has a length where every case is a hit or none is.

    Args:
        clusters: names of what each case belongs to, shape (n,), where cases of a kind may be alike: the
            interval is that of `effective_number` cases, if these clusters are `FEWEST_CLUSTERS` or more.

    Raises:
        PrefdynError: fewer than three cases.
    """
    x = _checked(hits)
    cases = len(x) if clusters is None else effective_number(x, clusters)
    share = float(x.mean())
    if np.isnan(cases):
        return Estimate(share, np.nan, np.nan, len(x))
    low, high = proportion_confint(share * cases, cases, alpha=1 - LEVEL, method="wilson")
    return Estimate(share, min(share, float(low)), max(share, float(high)), len(x))


def effective_number(sample: ArrayLike, clusters: ArrayLike) -> float:
    """How many independent units' mean would be as uncertain as the mean of a sample of shape (n,) is.

    It is n, and less where units of a cluster are alike (Kott and Carr 1997, Journal of Official Statistics
    13, 367-383, with the degrees of freedom of the clusters as Korn and Graubard count them; Dean and Pagano
    2015, Journal of Survey Statistics and Methodology 3, 484-503, compare it with others). A sample without
    scatter is worth its number of clusters.

    Args:
        clusters: names of what each unit belongs to, shape (n,).

    Returns:
        A number from 0 to n; NaN where clusters of several units are fewer than `FEWEST_CLUSTERS`.
    """
    x = np.asarray(sample, dtype=np.float64)
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) == len(x):
        return float(len(x))
    if len(names) < FEWEST_CLUSTERS:
        return float("nan")
    apart = x - x.mean()
    alone, together = float((apart**2).sum()), float((np.bincount(index, apart) ** 2).sum())
    worth = len(x) * alone / together if together else len(x) if alone else len(names)
    normal, student = stats.norm.ppf((1 + LEVEL) / 2), stats.t.ppf((1 + LEVEL) / 2, len(names) - 1)
    return float(min(worth, len(x)) * (normal / student) ** 2)


def bootstrap(statistic: Callable[..., NDArray[np.float64]], *columns: ArrayLike, seed: int = 0) -> Estimate:
    """A statistic of columns of shape (n,), resampled by row.

    Args:
        statistic: takes the columns and `axis`, the one of the rows.

    Raises:
        PrefdynError: fewer than three rows.
    """
    return _bootstrap(statistic, *map(_checked, columns), seed=seed)


@functools.lru_cache(maxsize=16)  # statistics of a chapter ask for the same, some megabytes each
def resample_counts(units: int, seed: int = 0, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """How often each unit is drawn in each bootstrap resample, shape (resamples, units), whole numbers; not
    to be written to.
    """
    rng, counts = np.random.default_rng(seed), np.empty((resamples, units))
    for part in np.array_split(counts, -(-counts.size // CACHED)):
        drawn = rng.integers(units, size=part.shape)
        drawn += np.arange(len(part))[:, None] * units  # a place for each unit of each resample
        part[:] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(part.shape)
    counts.setflags(write=False)
    return counts


def counts_by_cluster(clusters: ArrayLike, seed: int = 0, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """How often each unit is there in each bootstrap resample of whole clusters, shape (resamples, n).

    Args:
        clusters: names of what each unit belongs to, shape (n,).
    """
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    return resample_counts(len(names), seed, resamples)[:, index]


def pseudo_values(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]], sample: ArrayLike
) -> NDArray[np.float64]:
    """Jackknife pseudo-values of a statistic of the mean over units: n theta - (n - 1) theta without unit i.

    Their mean is the statistic without its bias (of a square, exactly), and `mean` gives it an interval.

    Args:
        statistic: takes means, shape (..., k, m), and gives a value each, shape (..., k).
        sample: shape (..., n, m), with the n units along the last axis but one.

    Returns:
        Shape (..., n).
    """
    x = np.asarray(sample, dtype=np.float64)
    n, whole = x.shape[-2], x.mean(axis=-2, keepdims=True)
    values = statistic(np.concatenate([whole, (n * whole - x) / (n - 1)], axis=-2))
    return n * values[..., :1] - (n - 1) * values[..., 1:]


def from_resamples(value: float, drawn: ArrayLike, n: int, kinds: int, widened: bool = False) -> Estimate:
    """A statistic with the expanded percentile interval of its values in bootstrap resamples.

    Resamples of few vary too little: their variance lacks the factor k / (k - 1) of k that were drawn from,
    and a normal's quantiles stand where Student's should. So the percentiles are those at which a normal
    distribution is as far out as sqrt(k / (k - 1)) Student's quantiles (Hesterberg 2015, The American
    Statistician 69, 371-386).

    Args:
        n: units behind the statistic.
        kinds: k, how many units, or clusters of them, were drawn from.
        drawn: those values; NaN, of a resample in which the statistic has none, says nothing and is left out.
            Where no resample has one, the interval has no ends.
        widened: whether an interval that lies beside the value is widened to hold it.
    """
    known = np.asarray(drawn, dtype=np.float64)
    known = known[~np.isnan(known)]
    below = 100 * _tail(kinds)
    low, high = np.percentile(known, [below, 100 - below]) if len(known) else (np.nan,) * 2
    if widened:
        low, high = min(low, value), max(high, value)
    return Estimate(value, float(low), float(high), n)


def _tail(kinds: int) -> float:
    """The share of resamples beyond either end of an interval, where so many units were drawn from."""
    if kinds < 2:  # every resample is alike
        return 0.0
    return float(stats.norm.sf(np.sqrt(kinds / (kinds - 1)) * stats.t.ppf((1 + LEVEL) / 2, kinds - 1)))


def over_clusters(found: Estimate, clusters: ArrayLike | None) -> Estimate:
    """What a bootstrap over clusters found, without an interval where these are fewer than `FEWEST_CLUSTERS`.

    Args:
        clusters: names of what each unit belongs to, shape (n,); None where the units were resampled.
    """
    if clusters is None or _number(clusters) >= FEWEST_CLUSTERS:
        return found
    return Estimate(found.value, np.nan, np.nan, found.n)


def _number(clusters: ArrayLike) -> int:
    """How many they are."""
    return len(np.unique(np.asarray(clusters)))


def size(signed: Estimate) -> Estimate:
    """The absolute value of an estimate, with an interval from the smallest to the largest in its own."""
    ends = abs(signed.low), abs(signed.high)
    low = 0.0 if signed.low <= 0 <= signed.high else min(ends)
    return Estimate(abs(signed.value), low, max(ends), signed.n)


def count(violations: int, n: int) -> Estimate:
    """A number of violations among n cases, which is what it is: its interval is a point. Without cases there
    is no such number.
    """
    if n == 0:
        return unknown(0)
    return Estimate(float(violations), float(violations), float(violations), n)


def _checked(sample: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(sample, dtype=np.float64)
    if len(x) < 3:
        raise PrefdynError(f"{len(x)} units are too few for an interval: give at least 3")
    return x


def _bootstrap(
    statistic: Callable[..., NDArray[np.float64]], *data: NDArray[np.float64], seed: int
) -> Estimate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # perfect order: every resample is alike
        drawn = stats.bootstrap(
            data,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
    return from_resamples(float(statistic(*data, axis=-1)), drawn, len(data[0]), len(data[0]))


def _permutation_p(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if len(a) > 8:
        return float(stats.spearmanr(a, b).pvalue)
    # Only one sample is permuted: with both, scipy would go through (n!)^2 pairings.
    test = stats.permutation_test(
        (a,), lambda x, axis: _spearman(x, b, axis), permutation_type="pairings", n_resamples=np.inf
    )
    return float(test.pvalue)


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    ranks = [stats.rankdata(values, axis=axis) for values in (x, y)]
    return _pearson(ranks[0], ranks[1], axis)


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    a, b = (values - values.mean(axis=axis, keepdims=True) for values in (x, y))
    with np.errstate(invalid="ignore"):
        return (a * b).sum(axis) / np.sqrt((a**2).sum(axis) * (b**2).sum(axis))


def _weighted_spearman(
    a: NDArray[np.float64], b: NDArray[np.float64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The rank correlation of each resample, in which a point is there so many times.

    The counts have shape (resamples, n).
    """
    parts = np.array_split(counts, 1 + counts.size // CACHED)
    return np.concatenate([_spearman_of_part(a, b, part) for part in parts])


def _spearman_of_part(
    a: NDArray[np.float64], b: NDArray[np.float64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    weights = np.ascontiguousarray(counts.T)  # a row a point, so that rows are moved whole
    x, y = (_weighted_ranks(values, weights) for values in (a, b))
    weighted = weights * x
    with np.errstate(invalid="ignore"):
        lengths = np.einsum("ij,ij->j", weighted, x) * np.einsum("ij,ij->j", weights * y, y)
        return np.einsum("ij,ij->j", weighted, y) / np.sqrt(lengths)


def _weighted_ranks(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twice the mean ranks, less their mean, of points that are there so many times, shape (n, resamples);
    equal values share theirs. It is the weight below a point less the weight above.
    """
    order = np.argsort(values, kind="stable")
    first = np.flatnonzero(np.diff(values[order], prepend=np.nan) != 0)  # of each run of equal values
    sizes = weights[order]
    if len(first) < len(values):
        sizes = np.add.reduceat(sizes, first, axis=0)
    group = np.empty(len(values), dtype=np.int64)
    group[order] = np.repeat(np.arange(len(first)), np.diff(first, append=len(values)))
    upto = np.cumsum(sizes, axis=0)
    return (2 * upto - sizes - upto[-1])[group]
