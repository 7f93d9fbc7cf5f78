"""What is measured on features: distinguishability, concentration, separation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdyn.errors import PrefdynError


@dataclass(frozen=True)
class Moments:
    """First and second moments of g over positive and negative statements (LD Section 4.1).

    Attributes:
        mean_positive, mean_negative: mu_+ and mu_-, shape (d,).
        count_positive, count_negative: statements behind them.
        operator_norm_positive, operator_norm_negative: ||S_+||, ||S_-||, largest eigenvalues of the covariances.
        trace_positive, trace_negative: Tr S_+, Tr S_-.
    """

    mean_positive: NDArray[np.float64]
    mean_negative: NDArray[np.float64]
    count_positive: int
    count_negative: int
    operator_norm_positive: float
    operator_norm_negative: float
    trace_positive: float
    trace_negative: float

    @property
    def mean_difference(self) -> NDArray[np.float64]:
        """mu_+ - mu_-, shape (d,)."""
        return self.mean_positive - self.mean_negative

    @property
    def distinguishability(self) -> float:
        """delta = ||mu_+ - mu_-||, in the units of the hidden states."""
        return float(np.linalg.norm(self.mean_difference))

    @property
    def distinguishability_of_chance(self) -> float:
        """sqrt(Tr S_+ / n_+ + Tr S_- / n_-): the size that delta would have if both kinds had one mean, from sampling alone."""
        return float(np.sqrt(self.trace_positive / self.count_positive + self.trace_negative / self.count_negative))

    @property
    def concentration(self) -> float:
        """The larger of ||S_+|| and ||S_-||."""
        return max(self.operator_norm_positive, self.operator_norm_negative)

    @property
    def trace(self) -> float:
        """Mean of Tr S_+ and Tr S_-."""
        return (self.trace_positive + self.trace_negative) / 2

    @property
    def spread_ratio(self) -> float:
        """Tr S / delta^2: small where the two clouds lie far apart for their size."""
        return self.trace / self.distinguishability**2


def moments(features: ArrayLike, labels: ArrayLike) -> Moments:
    """Moments of features, shape (n, d), by labels, +1 or -1, shape (n,). Covariances are unbiased (divided by n - 1).

    Raises:
        PrefdynError: fewer than two statements of a label.
    """
    g, s = np.asarray(features, dtype=np.float64), np.asarray(labels)
    out = []
    for sign in (1, -1):
        x = g[s == sign]
        if len(x) < 2:
            raise PrefdynError(f"{len(x)} statements of the label {sign:+d} are too few for a covariance: give at least 2 of each")
        mean = x.mean(axis=0)
        singular = np.linalg.svd((x - mean) / np.sqrt(len(x) - 1), compute_uv=False)
        out.append((mean, len(x), float(singular[0] ** 2), float((singular**2).sum())))
    (mu_p, n_p, op_p, tr_p), (mu_n, n_n, op_n, tr_n) = out
    return Moments(mu_p, mu_n, n_p, n_n, op_p, op_n, tr_p, tr_n)


def cosine(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Cosine of the angle between vectors along the last axis (broadcast)."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return (x * y).sum(-1) / (np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1))
