"""Geometry of hidden states: distinguishability, concentration, and how many personas lie to each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from prefdyn.errors import PrefdynError, extra


@dataclass(frozen=True)
class Moments:
    """First and second moments of g over positive and negative statements (LD Section 4.1).

    Attributes:
        mean_positive, mean_negative: mu_+ and mu_-, shape (d,).
        count_positive, count_negative: statements behind them.
        operator_norm_positive, operator_norm_negative: ||S_+||, ||S_-||, largest eigenvalues of the
            covariances.
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
        """sqrt(Tr S_+ / n_+ + Tr S_- / n_-), from sampling alone.

        It is the size that delta would have if both kinds had one mean.
        """
        return float(
            np.sqrt(self.trace_positive / self.count_positive + self.trace_negative / self.count_negative)
        )

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
    """Moments of features, shape (n, d), by labels, +1 or -1, shape (n,).

    Covariances are unbiased (divided by n - 1).

    Raises:
        PrefdynError: fewer than two statements of a label.
    """
    g, s = np.asarray(features, dtype=np.float64), np.asarray(labels)
    out = []
    for sign in (1, -1):
        x = g[s == sign]
        if len(x) < 2:
            raise PrefdynError(
                f"{len(x)} statements of the label {sign:+d} are too few for a covariance: "
                "give at least 2 of each"
            )
        mean = x.mean(axis=0)
        singular = np.linalg.svd((x - mean) / np.sqrt(len(x) - 1), compute_uv=False)
        out.append((mean, len(x), float(singular[0] ** 2), float((singular**2).sum())))
    (mu_p, n_p, op_p, tr_p), (mu_n, n_n, op_n, tr_n) = out
    return Moments(mu_p, mu_n, n_p, n_n, op_p, op_n, tr_p, tr_n)


def cosine(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Cosine of the angle between vectors along the last axis (broadcast)."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return (x * y).sum(-1) / (np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1))


def cosine_matrix(vectors: ArrayLike) -> NDArray[np.float64]:
    """Cosines of all pairs of vectors, shape (n, d), as an (n, n) matrix.

    Raises:
        PrefdynError: a vector is zero and has no direction.
    """
    x = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(x, axis=1)
    if not norms.all():
        raise PrefdynError(f"vector {int(np.argmin(norms))} is zero and has no direction: leave it out")
    unit = x / norms[:, None]
    return np.clip(unit @ unit.T, -1, 1)


def off_diagonal(matrix: ArrayLike) -> NDArray[np.float64]:
    """The entries above the diagonal of a symmetric matrix, shape (n (n - 1) / 2,)."""
    square = np.asarray(matrix, dtype=np.float64)
    return square[np.triu_indices(len(square), k=1)]


def structure_order(cosines: ArrayLike) -> NDArray[np.int64]:
    """An order of the rows in which similar ones are neighbours, shape (n,).

    The leaves of average-linkage clustering with 1 - cosine as the distance, turned at each fork so that
    neighbours are as alike as can be (Bar-Joseph et al. 2001).
    """
    distances = 1 - np.asarray(cosines, dtype=np.float64)
    if len(distances) < 2:
        return np.arange(len(distances))
    np.fill_diagonal(distances, 0)
    condensed = squareform((distances + distances.T) / 2, checks=False)
    return leaves_list(optimal_leaf_ordering(linkage(condensed, method="average"), condensed)).astype(
        np.int64
    )


def plane(points: NDArray[np.float32], layout: str, neighbours: int, seed: int) -> NDArray[np.float32]:
    """Points, shape (n, d), in the plane, shape (n, 2).

    Args:
        layout: "umap" (McInnes et al. 2018), or "pca" for two principal components.
        neighbours: of a point, for UMAP; fewer where there are fewer points.

    Raises:
        PrefdynError: the package umap-learn is not installed.
    """
    if layout == "pca":
        centred = points - points.mean(axis=0)
        return centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    with extra("book"):
        from umap import UMAP

    return UMAP(n_neighbors=min(neighbours, len(points) - 1), random_state=seed, n_jobs=1).fit_transform(
        points
    )
