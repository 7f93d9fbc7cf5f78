"""Theorems 4.1 to 4.3 and the priorities of LD.

The paper is Im & Li 2024, Understanding the Learning Dynamics of Alignment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from prefdyn.measures.geometry import Moments, cosine


@dataclass(frozen=True)
class Conditions:
    """What Theorem 4.1 asks for, at its tightest for the features at hand.

    Attributes:
        c_n: smallest constant with max(||mu|| + sqrt(Tr S)) <= c_n sqrt(d).
        c_v: smallest constant with ||S|| <= c_v sqrt(d).
        step: beta'^2 eta c_n^2 with beta' = beta sqrt(d); the theorem asks for at most 1/4.
    """

    c_n: float
    c_v: float
    step: float

    @property
    def hold(self) -> bool:
        """Whether the step is small enough."""
        return self.step <= 0.25


def conditions(moments: Moments, beta: float, learning_rate: float) -> Conditions:
    """The constants of Theorem 4.1 for features with these moments."""
    d = len(moments.mean_positive)
    sizes = (
        np.linalg.norm(moments.mean_positive) + np.sqrt(moments.trace_positive),
        np.linalg.norm(moments.mean_negative) + np.sqrt(moments.trace_negative),
    )
    c_n = float(max(sizes) / np.sqrt(d))
    return Conditions(c_n, moments.concentration / np.sqrt(d), beta**2 * d * learning_rate * c_n**2)


def weight_change_bound(
    steps: ArrayLike, moments: Moments, beta: float, learning_rate: float
) -> NDArray[np.float64]:
    """Theorem 4.1: ||W_t - W_0|| <= 6 beta eta t delta, for each t in `steps`, of their shape."""
    return 6 * beta * learning_rate * np.asarray(steps) * moments.distinguishability


@dataclass(frozen=True)
class Movement:
    """How the weights moved in a run, beside what Theorem 4.1 says of it.

    Attributes:
        rate: ||W_T - W_0|| / T.
        r_squared: of a straight line through the origin, fitted to ||W_t - W_0|| over t.
        violations: steps at which the bound is exceeded.
        slack: bound over actual movement at the end.
    """

    rate: float
    r_squared: float
    violations: int
    slack: float


def movement(path: ArrayLike, moments: Moments, beta: float, learning_rate: float) -> Movement:
    """The movement along u(t), shape (steps + 1, d), beside the bound of Theorem 4.1."""
    distance = np.sqrt(2) * np.linalg.norm(np.asarray(path, dtype=np.float64), axis=1)
    steps = np.arange(len(distance))
    line = steps * (distance @ steps) / (steps @ steps)
    r_squared = 1 - ((distance - line) ** 2).sum() / ((distance - distance.mean()) ** 2).sum()
    bound = weight_change_bound(steps, moments, beta, learning_rate)
    above = int((distance > bound * (1 + 1e-9)).sum())
    return Movement(float(distance[-1] / steps[-1]), float(r_squared), above, float(bound[-1] / distance[-1]))


def boundary_bound(path: ArrayLike, weights: ArrayLike, mean_difference: ArrayLike) -> NDArray[np.float64]:
    """Theorem 4.2 in checkable form: a lower bound on cos(W_B(t), mu_+ - mu_-), shape (steps + 1,).

    phi + (phi_u - phi) ||2u|| / (||W_B(0)|| + ||2u||) with phi = cos(W_B(0), mu_+ - mu_-) and
    phi_u = cos(u(t), mu_+ - mu_-). It holds where phi and phi_u are not negative; where phi < 0 the entries
    are NaN.

    Args:
        path: u(t), shape (steps + 1, d).
        weights: W_B(0), shape (d,).
    """
    u, w = np.asarray(path, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    phi = float(cosine(w, mean_difference))
    if phi < 0:
        return np.full(len(u), np.nan)
    moved = 2 * np.linalg.norm(u, axis=1)
    out = np.full(len(u), phi)
    after = moved > 0
    toward = cosine(u[after], mean_difference)
    out[after] = phi + (toward - phi) * moved[after] / (np.linalg.norm(w) + moved[after])
    return out


def guaranteed_accuracy(
    features: ArrayLike, labels: ArrayLike, boundary: ArrayLike, mean_difference: ArrayLike
) -> float:
    """Theorem 4.3 in checkable form: the share of samples proved to be classified correctly.

    The angle of the boundary alone proves it. With C = cos(W_B, mu_+ - mu_-) > 0, a sample is safe if its
    projection on the unit mean difference, with the sign of its label, is at least sqrt(1 - C^2) / C * ||g||.
    The share is 0 where C <= 0.
    """
    g, s = np.asarray(features, dtype=np.float64), np.asarray(labels)
    direction = np.asarray(mean_difference, dtype=np.float64)
    angle = float(cosine(boundary, direction))
    if angle <= 0:
        return 0.0
    projection = s * (g @ direction) / np.linalg.norm(direction)
    needed = np.sqrt(1 - min(angle, 1.0) ** 2) / angle * np.linalg.norm(g, axis=1)
    return float((projection >= needed).mean())


def priorities(mean_differences: ArrayLike) -> NDArray[np.float64]:
    """P_i = b.b_i / (||b|| max_j ||b_j||) with b the mean of the b_i (LD Eq. 5), shape (behaviours,).

    Args:
        mean_differences: b_i, shape (behaviours, d).
    """
    b_i = np.asarray(mean_differences, dtype=np.float64)
    b = b_i.mean(axis=0)
    return b_i @ b / (np.linalg.norm(b) * np.linalg.norm(b_i, axis=1).max())


def priority_gaps(mean_differences: ArrayLike) -> NDArray[np.float64]:
    """P_i - P_j of training behaviours i and j jointly, for every pair, shape (behaviours, behaviours).

    The matrix is antisymmetric.
    """
    b = np.asarray(mean_differences, dtype=np.float64)
    gaps = np.zeros((len(b), len(b)))
    for i in range(len(b)):
        for j in range(i):
            first, second = priorities(b[[i, j]])
            gaps[i, j], gaps[j, i] = first - second, second - first
    return gaps


def first_step_gains(
    mean_differences: ArrayLike, beta: float, learning_rate: float, statements: ArrayLike
) -> NDArray[np.float64]:
    """Average logit gain of each behaviour in the first joint step, shape (behaviours,).

    It is (eta beta / 4) b.b_i, exactly, with b the mean of the b_i over all statements. The gain of a
    statement is the rise of its signed logit, s (W_B(1) - W_B(0)).g; a behaviour has equally many of each
    label.

    Args:
        mean_differences: b_i, shape (behaviours, d).
        statements: how many each behaviour has, shape (behaviours,).
    """
    b_i = np.asarray(mean_differences, dtype=np.float64)
    return learning_rate * beta / 4 * (b_i @ np.average(b_i, axis=0, weights=np.asarray(statements)))


def equalising_weights(mean_differences: ArrayLike) -> NDArray[np.float64]:
    """Weights of behaviours with which the first joint step gains each as much, shape (behaviours,).

    With weights w_i the step goes along sum_i w_i b_i, and behaviour j gains in proportion to (G w)_j with
    the Gram matrix G = (b_i.b_j). These are the w >= 0 with the smallest |G w - 1|, scaled so that they sum
    up to their number: where they reach it, no behaviour has priority.

    Args:
        mean_differences: b_i, shape (behaviours, d).
    """
    b = np.asarray(mean_differences, dtype=np.float64)
    gram = b @ b.T
    weights, _ = nnls(gram / gram.diagonal().mean(), np.ones(len(b)))
    return weights * len(b) / weights.sum()
