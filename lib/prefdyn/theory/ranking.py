"""Ranking accuracy, its idealized optimum, and what a loss says of a ranking (RA: Chen et al. 2024).

Everything is in log space: a likelihood of a long response underflows, and (alpha / (1 - alpha))^(1 / beta)
overflows at beta 0.01.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

BETAS = (0.01, 0.1, 1.0, 5.0, 10.0)
"""The strengths over which RA takes the minimum, median and maximum (Appendix C.4)."""
UNANIMITY = 0.001
"""What RA leaves to the other response where all raters agree (Appendix C.4)."""
TIE_TOLERANCE = 0.01
"""How near two likelihoods must be where raters are tied (RA Appendix C.1)."""
CODE_BAND = 0.05
"""How near 1 a ratio of two responses is a tie in the idealized accuracy of RA's code."""


# Ranking accuracy ---------------------------------------------------------------------------------


def ranked_right(log_likelihoods: ArrayLike, ranks: Sequence[int], tolerance: float = TIE_TOLERANCE) -> bool:
    """Whether a model has the raters' whole order of n responses (RA Definitions 2.3, A.8 and C.1).

    A better response must have at least the likelihood of a worse one for n = 2 (Definition 2.3), and a
    larger one for n > 2 (Definition A.8). Tied ones must have likelihoods that differ by less than the
    tolerance (Definition C.1, here for every tied pair).

    Args:
        log_likelihoods: sums over tokens, or means for the length-normalised accuracy, in nats, shape (n,).
        ranks: 0 for the best; equal ranks are a tie.
    """
    values = np.asarray(log_likelihoods, dtype=np.float64)
    for i in range(len(ranks)):
        for j in range(i):
            if ranks[i] == ranks[j]:
                right = abs(np.exp(values[i]) - np.exp(values[j])) < tolerance
            else:
                better, worse = (values[i], values[j]) if ranks[i] < ranks[j] else (values[j], values[i])
                right = better >= worse if len(ranks) == 2 else better > worse
            if not right:
                return False
    return True


def chance(ranks: Sequence[int]) -> float:
    """How often a random order without ties is the raters' one: 1 / n!; 0 where raters are tied."""
    return 0.0 if len(set(ranks)) < len(ranks) else 1 / math.factorial(len(ranks))


# The idealized optimum ----------------------------------------------------------------------------


def idealized_log_ratio(reference_log_ratio: ArrayLike, alpha: ArrayLike, beta: float) -> NDArray[np.float64]:
    """log pi*(y_w|x) / pi*(y_l|x) of the perfect optimum of DPO or RLHF (RA Theorem 3.1), in nats.

    = log pi_ref(y_w|x)/pi_ref(y_l|x) + [log alpha - log(1 - alpha)] / beta, alpha kept within [0.001, 0.999].

    Args:
        reference_log_ratio: of sums, or of means for the length-normalised form (RA Corollary 3.3).
        alpha: share of raters who prefer y_w; broadcast with the ratio.
    """
    share = np.clip(np.asarray(alpha, dtype=np.float64), UNANIMITY, 1 - UNANIMITY)
    return np.asarray(reference_log_ratio, dtype=np.float64) + (np.log(share) - np.log1p(-share)) / beta


# The same by the authors' code --------------------------------------------------------------------


def code_idealized(
    first: ArrayLike, second: ArrayLike, alpha: ArrayLike, beta: float, normalised: bool
) -> NDArray[np.bool_]:
    """Which pairs RA's code counts as ranked right by the optimum, shape (n,).

    It departs from Theorem 3.1 in three ways. For whole responses the reference's ratio is that of the two
    *log*-likelihoods. A ratio within 0.05 of 1 is a tie, of the optimum as of the raters. And where no rater
    is for the first response, the ratio that raters expect and the optimum's are both 0, so the pair counts
    as right whatever beta is. Written from github.com/angie-chen55/pref-learning-ranking-acc
    (rlhf_minimizer_client.py), in logarithms.

    Args:
        first, second: log-likelihoods of the two responses as the data have them, in nats, negative, shape
            (n,): means over tokens if `normalised`, else sums.
        alpha: share of raters who prefer the first, in [0, 1], shape (n,).
    """
    a, b, share = (np.asarray(values, dtype=np.float64) for values in (first, second, alpha))
    against = np.where(share < 1, 1 - share, UNANIMITY)
    votes = _log(share) - np.log(against)
    ratio = a - b if normalised else np.log(a / b)
    return _code_rank(votes) == _code_rank(votes / beta + ratio)


def _code_rank(log_ratio: NDArray[np.float64]) -> NDArray[np.int64]:
    """1 where the first response is ahead, -1 where the second is, 0 for a tie."""
    ahead, near = log_ratio >= np.log1p(CODE_BAND), log_ratio > np.log1p(-CODE_BAND)
    return np.where(ahead, 1, np.where(near, 0, -1))


def code_ranked_right(
    first: ArrayLike, second: ArrayLike, alpha: ArrayLike, normalised: bool
) -> NDArray[np.bool_]:
    """Which pairs RA's code counts as ranked right where ties are in the data, shape (n,).

    Two responses are tied for the model where their likelihoods per token, or for whole responses the *sums
    of log-probabilities*, differ by at most 0.01; whatever the raters say. By the printed Definition C.1 that
    holds of likelihoods, and of tied pairs alone (`ranked_right`).

    Args: as of `code_idealized`.
    """
    a, b, share = (np.asarray(values, dtype=np.float64) for values in (first, second, alpha))
    ahead = np.exp(a) - np.exp(b) if normalised else a - b
    model = np.where(ahead > TIE_TOLERANCE, 1, np.where(ahead < -TIE_TOLERANCE, -1, 0))
    return model == np.sign(share - 0.5)


# What a loss says of a ranking --------------------------------------------------------------------


def dpo_threshold(c: ArrayLike, beta: float, gamma: float = 1.0) -> NDArray[np.float64]:
    """-log sigmoid(beta gamma c): a pair is ranked right exactly where its loss is at most this.

    RA Theorem 4.1; gamma of RA Eq. 4.

    Args:
        c: log pi_ref(y_l|x) / pi_ref(y_w|x), positive where the reference ranks wrong.
    """
    return np.logaddexp(0.0, -beta * gamma * np.asarray(c, dtype=np.float64))


def violations(
    right: ArrayLike, loss: ArrayLike, c: ArrayLike, log_ratio: ArrayLike, beta: float, gamma: float = 1.0
) -> NDArray[np.bool_]:
    """Where Theorem 4.1 fails: the pair's rank is not what its loss says.

    It is ranked right, yet with a loss above the threshold, or wrong with one at most it. A pair whose
    likelihoods agree to rounding, or whose loss is too small for float32, is left out: rounding decides it.

    Args:
        right, loss: as training measured them, in float32, each in its own way.
        log_ratio: log pi(y_w|x) / pi(y_l|x), to tell which pairs are so near.
    """
    ratio, measured = np.asarray(log_ratio, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    decided = (np.abs(ratio) > 1e-4 + 1e-5 * (np.abs(ratio) + np.abs(np.asarray(c)))) & (measured > 1e-30)
    small_enough = _log(measured) <= _log_threshold(c, beta * gamma)
    return decided & (small_enough != np.asarray(right, dtype=bool))


SANITY_LOSS = 0.6
"""A loss that Proposition 2.6 calls small; any below log 2 = 0.69 would do."""


def sanity_violations(right: ArrayLike, loss: ArrayLike, c: ArrayLike) -> NDArray[np.bool_]:
    """Where Proposition 2.6 fails: the pair is ranked wrong, though nothing allows it.

    The reference ranks it right (c <= 0), and its loss is at most 0.6.
    """
    return (np.asarray(c) <= 0) & (np.asarray(loss) <= SANITY_LOSS) & ~np.asarray(right, dtype=bool)


def flips_foretold(gains: ArrayLike, c: ArrayLike) -> NDArray[np.float64]:
    """P(gain > c) of each pair, shape (n,): how likely it is ranked right, if a pair's gain has nothing to do
    with its c.

    Args:
        gains: what the log-ratio of other pairs gained in training, in nats, shape (m,).
        c: log pi_ref(y_l|x) / pi_ref(y_w|x) of the pairs in question, in nats, shape (n,).
    """
    ordered = np.sort(np.asarray(gains, dtype=np.float64))
    above = len(ordered) - np.searchsorted(ordered, np.asarray(c, dtype=np.float64), side="left")
    return above / len(ordered)


def ipo_loss(log_ratio: ArrayLike, c: ArrayLike, tau: float) -> NDArray[np.float64]:
    """IPO's loss as RA has it (Definition A.6): (log pi(y_w|x)/pi(y_l|x) + c - 1 / (2 tau))^2.

    `losses.ipo` is this with tau = beta / 2, times beta^2.
    """
    return (np.asarray(log_ratio, dtype=np.float64) + np.asarray(c) - 1 / (2 * tau)) ** 2


def ipo_violations(log_ratio: ArrayLike, c: ArrayLike, tau: float) -> NDArray[np.bool_]:
    """Where Proposition A.7 fails. It uses the letter c for what is -c here, and says two things.

    If the reference's log-ratio is at least -1/(2 tau), a loss of at most (1/(2 tau) - c)^2 means ranked
    right. If it is less, a loss of zero means ranked wrong: so does every loss below (c - 1/(2 tau))^2, which
    is what is checked here.
    """
    ratio, against = np.asarray(log_ratio, dtype=np.float64), np.asarray(c, dtype=np.float64)
    target = 1 / (2 * tau) - against
    loss = ipo_loss(ratio, against, tau)
    decided = np.abs(ratio) > 1e-9 * (np.abs(ratio) + np.abs(against))
    small = loss < target**2
    return decided & small & np.where(target >= 0, ratio < 0, ratio >= 0)


def _log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.log(values)


def _log_threshold(c: ArrayLike, scale: float) -> NDArray[np.float64]:
    """log of -log sigmoid(scale c), without underflow where scale c is large."""
    x = scale * np.asarray(c, dtype=np.float64)
    return np.where(x > 30, -x, _log(np.logaddexp(0.0, -np.minimum(x, 30))))
