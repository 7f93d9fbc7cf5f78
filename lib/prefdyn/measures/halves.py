"""Rank correlations between measures taken on opposite halves of the data, so that they share no noise.

Two measures of the same statements agree in part because both saw the same statements. Measured on disjoint
halves they can agree only in what is true of both. A measure's correlation with itself across halves is its
reliability, and bounds what it can show (Spearman 1904).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from prefdyn.errors import PrefdynError
from prefdyn.measures.estimates import RESAMPLES, Estimate, from_resamples, over_clusters, resample_counts

Array = NDArray[np.float64]

DIGITS = 9
"""Decimals, in units of a measure's largest value, to which values count as different.

Equal shares may differ in the rounding of their sums, which must not rank them.
"""
BLOCK = 50
"""Resamples at a time: what they need stays in a processor's cache."""


def divide(labels: ArrayLike, parts: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Random divisions of statements into disjoint parts, each with equally many of both labels.

    Args:
        labels: +1 or -1, shape (n,).
        count: how many divisions.

    Returns:
        Indices, shape (count, parts, 2m), of each part the m positive statements first.

    Raises:
        PrefdynError: a label has fewer statements than there are parts.
    """
    s = np.asarray(labels)
    of = [np.flatnonzero(s == sign) for sign in (1, -1)]
    size = min(map(len, of)) // parts
    if size < 1:
        raise PrefdynError(
            f"{min(map(len, of))} statements of a label cannot be divided into {parts} parts: "
            f"give at least {parts}"
        )
    orders = [index[rng.random((count, len(index))).argsort(axis=1)][:, : parts * size] for index in of]
    return np.concatenate([order.reshape(count, parts, size) for order in orders], axis=2)


def as_table(measures: Mapping[str, Array], unit: str, units: Sequence[str]) -> pd.DataFrame:
    """Measures as a table, one row a unit, split and half.

    Args:
        measures: by name, shape (units, splits, 2).
        unit: the name of the column of the units.
        units: their names.
    """
    _, splits, _ = next(iter(measures.values())).shape
    rows = pd.MultiIndex.from_product([units, range(splits), range(2)], names=[unit, "split", "half"])
    return pd.DataFrame({name: values.ravel() for name, values in measures.items()}, index=rows).reset_index()


def from_table(table: pd.DataFrame, names: Sequence[str]) -> dict[str, Array]:
    """Measures by name, shape (units, splits, 2), of a table that `as_table` made."""
    splits = table["split"].nunique()
    return {name: table[name].to_numpy(dtype=np.float64).reshape(-1, splits, 2) for name in names}


@dataclass(frozen=True)
class Correlations:
    """Rank correlations between measures of opposite halves, with intervals over the units.

    They are Spearman's, bootstrapped.

    Attributes:
        names: of the m measures.
        drawn: the symmetric matrix of the data and then of every resample, shape (1 + resamples, m, m). On
            the diagonal is the reliability; an entry is NaN where a measure is the same for all units.
        units: how many they are over.
        clusters: what each unit belongs to, where the resamples are of these.
    """

    names: tuple[str, ...]
    drawn: Array
    units: int
    clusters: Sequence[str] | None = None

    def between(self, x: str, y: str) -> Estimate:
        """The rank correlation of two measures; of one with itself, its reliability."""
        return self._estimate(self._entry(x, y))

    def left(self, x: str, y: str, through: str) -> Estimate:
        """What is left of a rank correlation when a third measure is held constant: r_xy - r_xz r_yz / r_zz.

        The numerator of a partial correlation, corrected: dividing by the reliability of the third holds
        constant what it measures. Else it would be held as measured, and what its noise hides would be left.
        """
        entry = self._entry
        reliability = np.where(entry(through, through) > 0, entry(through, through), np.nan)
        return self._estimate(entry(x, y) - entry(x, through) * entry(y, through) / reliability)

    def gain(self, better: str, worse: str, target: str) -> Estimate:
        """How much larger the first measure's correlation with the target is in size than the second's."""
        return self._estimate(np.abs(self._entry(better, target)) - np.abs(self._entry(worse, target)))

    def _entry(self, x: str, y: str) -> Array:
        return self.drawn[:, self.names.index(x), self.names.index(y)]

    def _estimate(self, drawn: Array) -> Estimate:
        value = float(drawn[0])
        if np.isnan(value) or np.isnan(drawn[1:]).all():
            return Estimate(np.nan, np.nan, np.nan, self.units)
        kinds = self.units if self.clusters is None else len(set(self.clusters))
        found = from_resamples(value, drawn[1:], self.units, kinds, widened=True)
        return over_clusters(found, self.clusters)


def correlations(
    measures: Mapping[str, ArrayLike],
    seed: int = 0,
    resamples: int = RESAMPLES,
    clusters: Sequence[str] | None = None,
) -> Correlations:
    """Rank correlations of measures across halves, the mean over splits and over which half is whose.

    A unit that lacks a measure on any half is left out of all.

    Args:
        measures: by name, shape (units, splits, 2): a value for each unit and half, NaN where there is none.
        clusters: names of what each unit belongs to, where units of a kind may be alike: the bootstrap then
            resamples whole clusters, and fewer than `estimates.FEWEST_CLUSTERS` give no interval.

    Raises:
        PrefdynError: fewer than five units, which cannot exclude a correlation of 0.
    """
    values = np.array([np.asarray(measure, dtype=np.float64) for measure in measures.values()])
    known = ~np.isnan(values).any(axis=(0, 2, 3))
    values = values[:, known]
    _, n, splits, _ = values.shape
    if n < 5:
        raise PrefdynError(f"{n} personas are too few for a correlation between measures: give at least 5")
    kinds = None if clusters is None else np.asarray(clusters)[known].tolist()
    names, kind = np.unique(np.arange(n) if kinds is None else kinds, return_inverse=True)
    # Sums of n products of weights and ranks, whole numbers that float32 holds exactly up to 2^24. A resample
    # of many large clusters may exceed it, and is then rounded to seven digits.
    exact = np.float32 if n**3 < 2**24 else np.float64
    counts = np.vstack([np.ones(len(names)), resample_counts(len(names), seed, resamples)]).astype(exact)
    belongs = np.equal.outer(np.arange(len(names)), kind).astype(exact)
    largest = np.abs(values).max(axis=(1, 2, 3), keepdims=True)
    values = np.round(values / np.where(largest > 0, largest, 1), DIGITS)
    orders = [
        [belongs @ _order(values[:, :, split, half]).astype(exact) for half in (0, 1)]
        for split in range(splits)
    ]
    drawn = [_drawn(orders, some, kind) for some in np.array_split(counts, -(-len(counts) // BLOCK))]
    return Correlations(tuple(measures), np.concatenate(drawn), n, kinds)


def _order(values: Array) -> Array:
    """+1 where a unit lies below another, -1 where above; shape (n, m n) for values of shape (m, n)."""
    m, n = values.shape
    first, second = values[:, :, None], values[:, None, :]
    return np.sign(first - second).reshape(m * n, n).T


def _drawn(orders: Sequence[Sequence[Array]], counts: Array, kind: NDArray[np.int64]) -> Array:
    """The correlations of some resamples, shape (resamples, m, m).

    A resample is a weight for each unit, that of its cluster. The rank of a unit is the weight of all below
    it and half of that of its equals, itself included: the mid-rank that the resample would give, less 1/2.
    Twice the rank, centred, is the weight below less the weight above: whole numbers. A correlation is their
    inner product by the weights over two lengths, which are 0 where all are equal.

    Args:
        orders: of each split, of both halves, summed over the units of each of c clusters, shape (c, m n).
        counts: how often each cluster is in a resample, shape (resamples, c).
        kind: of each unit the number of its cluster, shape (n,).
    """
    weights = counts[:, None, kind]
    across = []
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 where a measure is the same for all
        for pair in orders:
            first, second = ((counts @ order).reshape(len(counts), -1, len(kind)) for order in pair)
            weighted = first * weights
            longs, others = (
                np.sqrt(np.vecdot(one, ranks), dtype=np.float64)
                for one, ranks in ((weighted, first), (second * weights, second))
            )
            product = weighted @ second.transpose(0, 2, 1) / (longs[:, :, None] * others[:, None, :])
            across += [product, product.transpose(0, 2, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a mean of nothing: a measure that never varies
        return np.asarray(np.nanmean(across, axis=0), dtype=np.float64)
