"""Pairs of Gaussian clusters, and Theorems 4.1 and 4.2 about training on them (GN Section 4 and Appendix A).

Times are t / tau throughout. Bounds are natural logarithms: their values span hundreds of decades.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import log_ndtr, logsumexp

from prefdyn.errors import PrefdynError
from prefdyn.theory.reward_dynamics import OneTokenPreferences, RewardPath, token_overlap

Array = NDArray[np.float64]
LOG_3 = float(np.log(3))


@dataclass(frozen=True)
class Clusters:
    """K pairs of clusters N(±c_i + b, v^2 I_d), c_i orthonormal and orthogonal to b (GN Section 4.1).

    Attributes:
        pairs: K.
        samples: Q, of each of the 2K clusters.
        dimension: d, at least K + 1.
        spread: v.
        shared: l_b, the norm of b.
        reuse: Z, in how many of the K pairs a token answers at most; no two pairs share both tokens.

    Raises:
        PrefdynError: no such clusters exist.
    """

    pairs: int
    samples: int
    dimension: int
    spread: float
    shared: float
    reuse: int = 1

    def __post_init__(self) -> None:
        for name in ("pairs", "samples", "reuse"):
            if getattr(self, name) < 1:
                raise PrefdynError(f"{name} is {getattr(self, name)}: it must be at least 1")
        for name in ("spread", "shared"):
            if getattr(self, name) < 0:
                raise PrefdynError(f"{name} is {getattr(self, name)}: it must not be negative")
        if self.dimension < self.pairs + 1:
            raise PrefdynError(
                f"{self.pairs} concepts and the shared direction do not fit into {self.dimension} "
                "dimensions: give more"
            )
        if self.reuse > self.pairs:
            raise PrefdynError(
                f"a token cannot answer in {self.reuse} of {self.pairs} pairs of clusters: "
                "lower reuse or add pairs"
            )

    @property
    def total(self) -> int:
        """N = 2KQ."""
        return 2 * self.pairs * self.samples

    @property
    def answers(self) -> NDArray[np.int64]:
        """The token that the + cluster of each pair prefers, and the one it rejects, shape (K, 2).

        Its - cluster has them reversed. Pair number i of each Z^2 pairs joins token i // Z of one set with
        token i mod Z of another: each answers in Z pairs.
        """
        group, place = np.divmod(np.arange(self.pairs), self.reuse**2)
        first, second = np.divmod(place, self.reuse)
        return np.stack([2 * (group * self.reuse + first), 2 * (group * self.reuse + second) + 1], axis=1)

    @property
    def centres(self) -> Array:
        """±c_i + b, shape (K, 2, d), + first: b lies along the first axis, c_i along axis i + 1."""
        out = np.zeros((self.pairs, 2, self.dimension))
        out[..., 0] = self.shared
        index = np.arange(self.pairs)
        out[index, 0, index + 1] = 1
        out[index, 1, index + 1] = -1
        return out

    def draw(self, rng: np.random.Generator, samples: int | None = None) -> OneTokenPreferences:
        """Q samples (or `samples`) of each cluster, pair after pair, + before -."""
        count = self.samples if samples is None else samples
        features = np.repeat(self.centres, count, axis=1).reshape(-1, self.dimension)
        features += self.spread * rng.standard_normal(features.shape)
        both = np.stack([self.answers, self.answers[:, ::-1]], axis=1)
        chosen, rejected = np.repeat(both, count, axis=1).reshape(-1, 2).T
        return OneTokenPreferences(features, chosen, rejected)


# Theorem 4.1 --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Condition:
    """One inequality that a theorem asks for: value <= limit, or value >= limit where it is `at_least`."""

    left: str
    right: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def excess(self) -> float:
        """By how much it fails; not above 0 where it holds."""
        return self.limit - self.value if self.at_least else self.value - self.limit

    @property
    def holds(self) -> bool:
        """Up to rounding."""
        return self.excess <= 1e-12 * abs(self.limit)

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        words = "holds" if self.holds else f"fails by {self.excess:.3g}"
        return f"{self.left} {sign} {self.right} {words}: {self.value:.3g} against {self.limit:.3g}"


def conditions(clusters: Clusters) -> list[Condition]:
    """What Theorem 4.1 asks for, each with its value; Theorem 4.2 asks for the same and Q >= 40."""
    q = clusters.samples
    by_shared = np.inf if clusters.shared == 0 else 1 / (4 * clusters.shared**2)
    return [
        Condition("Z", "1/(4 l_b²)", clusters.reuse, by_shared),
        Condition("Z", "Q^(1/4) − 2", clusters.reuse, q**0.25 - 2),
        Condition("d", "5Q", clusters.dimension, 5 * q),
        Condition("v", "1/(4√Q)", clusters.spread, 1 / (4 * np.sqrt(q))),
    ]


def tau_1(clusters: Clusters, beta: float) -> float:
    """Theorem 4.1: N log 3 / (10 Q beta^2), in units of tau.

    As N = 2KQ it is K log 3 / (5 beta^2), whatever Q.
    """
    return clusters.total * LOG_3 / (10 * clusters.samples * beta**2)


def band(clusters: Clusters, times: ArrayLike, beta: float) -> tuple[Array, Array]:
    """Theorem 4.1: r^L(t) = Q beta^2 t / (4N) and r^U(t) = 10 Q beta^2 t / N for t <= tau_1.

    Each has the shape of `times`.
    """
    unit = clusters.samples * beta**2 * np.asarray(times, dtype=np.float64) / clusters.total
    return unit / 4, 10 * unit


def outside_band(path: RewardPath, train: OneTokenPreferences, clusters: Clusters) -> NDArray[np.bool_]:
    """Which training margins leave the band at any time of the path, shape (N,).

    Times after tau_1 are not looked at.
    """
    within = path.times <= tau_1(clusters, path.beta) * (1 + 1e-12)
    margins = path.margins(train)[within]
    lower, upper = (edge[:, None] for edge in band(clusters, path.times[within], path.beta))
    # At t = 0 margins and band are both 0; the slack is the solver's.
    slack = 1e-6 * upper[-1]
    return ((margins < lower - slack) | (margins > upper + slack)).any(axis=0)


def deviation(clusters: Clusters) -> float:
    """The epsilon of Appendix A, 1 / (16 v (Z + 2)); infinite without spread.

    It is the largest deviation that the proofs allow for.
    """
    return 1 / (16 * clusters.spread * (clusters.reuse + 2)) if clusters.spread else float("inf")


def log_failure(clusters: Clusters) -> float:
    """Log of (8Z + 4) K Q^2 exp(-epsilon^2 / 16), by which both theorems may fail (Lemma A.1).

    It is the first of two terms. The second holds a constant that the paper does not name, see
    `least_constant`, so that this is the least that the probability of failure can be bounded by.
    """
    return float(_log_prefactor(clusters) - deviation(clusters) ** 2 / 16)


def least_constant(clusters: Clusters) -> float:
    """The c above which the second term of Lemma A.1 is below 1, which is (8Z + 4) K Q^2
    exp(-(c epsilon / v) min(1, epsilon / (d v))); 0 for clusters that are points.
    """
    if not clusters.spread:
        return 0.0
    over_v = deviation(clusters) / clusters.spread
    return float(_log_prefactor(clusters) / (over_v * min(1.0, over_v / clusters.dimension)))


def _log_prefactor(clusters: Clusters) -> float:
    return np.log((8 * clusters.reuse + 4) * clusters.pairs) + 2 * np.log(float(clusters.samples))


# Theorem 4.2 --------------------------------------------------------------------------------------


def log_risk_bound(pairs: float, samples: ArrayLike) -> Array:
    """Theorem 4.2 as stated: log of 2 K Q^2 exp(-Q^(1/4) / 6), for each Q of `samples`."""
    q = np.asarray(samples, dtype=np.float64)
    return np.log(2 * pairs) + 2 * np.log(q) - q**0.25 / 6


def log_risk_bound_appendix(clusters: Clusters) -> float:
    """Theorem A.2: log of 2 K Q^2 exp(-epsilon^2 / (2 (2 + d v^2 + epsilon v))); epsilon is `deviation`."""
    epsilon_v = 1 / (16 * (clusters.reuse + 2))
    exponent = deviation(clusters) ** 2 / (2 * (2 + clusters.dimension * clusters.spread**2 + epsilon_v))
    return float(np.log(2 * clusters.pairs) + 2 * np.log(float(clusters.samples)) - exponent)


def at_the_limits(pairs: int, samples: int, reuse: int | None = None) -> Clusters:
    """Clusters as wide as the theorems allow: d = 5Q, v = 1/(4 sqrt Q), l_b = 1/(2 sqrt Z).

    Z is largest where none is given.

    Raises:
        PrefdynError: Q is below 81, where Q^(1/4) - 2 allows no Z at all, or the pairs are too few for Z or
            too many for d.
    """
    largest = int(round(samples**0.25, 9) - 2)
    if largest < 1:
        raise PrefdynError(f"{samples} samples a cluster allow no Z: Q^(1/4) - 2 is below 1 until Q = 81")
    z = min(largest, pairs) if reuse is None else reuse
    return Clusters(pairs, samples, 5 * samples, 1 / (4 * samples**0.5), 1 / (2 * z**0.5), z)


def samples_until(log_bound: Callable[[float], float], smallest: float = 1.0, largest: float = 1e20) -> float:
    """The Q above which a bound stays below 1, that is its log below 0; infinite where there is none.

    Up to `largest` is looked at.
    """
    exponents = np.linspace(np.log10(smallest), np.log10(largest), 2001)
    above = np.flatnonzero([log_bound(10**e) >= 0 for e in exponents])
    if not len(above):
        return smallest
    if above[-1] == len(exponents) - 1:
        return float("inf")
    low, high = exponents[above[-1]], exponents[above[-1] + 1]
    return float(10 ** brentq(lambda e: log_bound(10**e), low, high))


def log_risks(path: RewardPath, clusters: Clusters) -> Array:
    """Log of the population risk (GN Def. 3.1) along a path, shape (T,), in closed form.

    A new sample of a cluster has the margin beta s M.g with M fixed by training and g Gaussian, so its margin
    is Gaussian too: P(r <= 0) = Phi(-s M.centre / (v ||M||)). The risk is the mean over the 2K clusters. 1
    where nothing has moved: r = 0.
    """
    overlap = token_overlap(clusters.answers, path.answers)
    out = np.zeros(len(path.times))
    for t, movement in enumerate(path.movement):
        direction = overlap @ movement
        size = np.linalg.norm(direction, axis=1)
        if not size.any():
            continue
        toward = np.einsum("kd,ksd->ks", direction, clusters.centres) * [1, -1]
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = toward / (clusters.spread * size[:, None])
        # A pair that never moved (0/0) has margins of 0, which count as wrong.
        logs = np.where(np.isnan(scaled), 0.0, log_ndtr(-np.nan_to_num(scaled)))
        out[t] = logsumexp(logs) - np.log(logs.size)
    return out
