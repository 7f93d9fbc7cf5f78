"""Whether scores have an order, or the best of n responses, and RewardBench 2's ties (arXiv:2506.01937)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate

WEIGHTS = {"tied": 0.3, "reference": 0.3, "apart": 0.2, "apart from both": 0.2, "ratio": 0.01}
"""Of the parts of `ties`."""


class Margins(NamedTuple):
    """Of scores of correct and incorrect responses to one prompt.

    Attributes:
        between: the worst correct one's score less the best incorrect one's.
        within: the best correct one's less the worst correct one's; NaN where only one is correct.
    """

    between: float
    within: float

    @property
    def accurate(self) -> bool:
        """Whether every correct response is above every incorrect one."""
        return self.between > 0


def margins(scores: ArrayLike, ranks: Sequence[int]) -> Margins:
    """Of the scores of n responses, of which those of rank 0 are correct.

    Args:
        scores: shape (n,).
        ranks: of each response; some are 0 and some are not.
    """
    values, best = np.asarray(scores, dtype=np.float64), np.asarray(ranks) == 0
    correct = values[best]
    within = float(np.ptp(correct)) if len(correct) > 1 else math.nan
    return Margins(float(correct.min() - values[~best].max()), within)


def found(scores: ArrayLike, ranks: Sequence[int]) -> float:
    """How far scores find the best of n responses: 1, or 0.

    A best response that shares the highest score with k - 1 others counts 1/k. Where several responses are
    best, all of them must be above all others.

    Args:
        scores: shape (n,).
        ranks: of each response, 0 for the best.
    """
    values, best = np.asarray(scores, dtype=np.float64), np.asarray(ranks) == 0
    if best.sum() > 1:
        return float(margins(values, ranks).accurate)
    highest = values == values.max()
    return float((highest & best).any() / highest.sum())


def ordered(scores: ArrayLike, ranks: Sequence[int]) -> float:
    """How far scores have the whole order of n responses: 1, or 0; where scores are equal, how often a coin
    would.

    Args:
        scores: shape (n,).
        ranks: of each response, 0 for the best, no two alike.
    """
    values = np.asarray(scores, dtype=np.float64)[np.argsort(ranks)]
    if (np.diff(values) > 0).any():
        return 0.0
    return 1 / math.prod(math.factorial(count) for count in np.unique(values, return_counts=True)[1])


def found_by_chance(ranks: Sequence[int]) -> float:
    """How often a random order has all best responses above all others."""
    return 1 / math.comb(len(ranks), list(ranks).count(0))


def ties(references: Mapping[str, Margins], tied: Mapping[str, Margins], seed: int = 0) -> Estimate:
    """RewardBench 2's score of ties, at most 1.01.

    A question with one correct answer (the reference) is paired with one that has several. The score is the
    sum of five means, with `WEIGHTS`: how often the tied question is accurate; how often the reference is;
    how often, of the tied question, the correct answers are further from the incorrect than from each other;
    how often the reference's answers are so far apart, too; and tanh(ratio - 1) of the lesser of those two
    distances to the spread of the correct answers.

    Args:
        references, tied: margins of each question, by the name of its pair; one of a pair may be missing.

    Returns:
        The score, with a bootstrap interval over pairs, of which there must be at least eight for one.
    """
    names = sorted(references.keys() | tied.keys())
    rows = np.array([_parts(references.get(name), tied.get(name)) for name in names])
    rows = rows.reshape(len(names), len(WEIGHTS))
    score = float(_score(np.ones((1, len(names))), rows)[0])
    if len(names) < 8:
        return Estimate(score, math.nan, math.nan, len(names))
    drawn = _score(estimates.resample_counts(len(names), seed), rows)
    return estimates.from_resamples(score, drawn, len(names), len(names))


def _parts(reference: Margins | None, tied: Margins | None) -> tuple[float, ...]:
    """What a pair adds to each mean; NaN where it says nothing."""
    accurate = tuple(math.nan if one is None else float(one.accurate) for one in (tied, reference))
    if reference is None or tied is None or math.isnan(tied.within):
        return *accurate, math.nan, math.nan, math.nan
    least = min(reference.between, tied.between)
    return (
        *accurate,
        float(tied.between > tied.within),
        float(least > tied.within),
        math.tanh(least / tied.within - 1) if tied.within > 0 else math.nan,
    )


def _score(counts: ArrayLike, rows: ArrayLike) -> np.ndarray:
    """Of each resample, in which a pair is there so many times; a part that no pair has counts 0."""
    some, parts = np.asarray(counts, dtype=np.float64), np.asarray(rows, dtype=np.float64)
    has = ~np.isnan(parts)
    sums, sizes = some @ np.where(has, parts, 0.0), some @ has
    means = np.divide(sums, sizes, out=np.zeros_like(sums), where=sizes > 0)
    return means @ np.array(list(WEIGHTS.values()))
