"""How vectors of many personas lie to each other: matrices of cosines, and an order in which their structure shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from prefdyn.errors import PrefdynError

Array = NDArray[np.float64]


def cosine_matrix(vectors: ArrayLike) -> Array:
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


def off_diagonal(matrix: ArrayLike) -> Array:
    """The entries above the diagonal of a symmetric matrix, shape (n (n - 1) / 2,)."""
    square = np.asarray(matrix, dtype=np.float64)
    return square[np.triu_indices(len(square), k=1)]


def structure_order(cosines: ArrayLike) -> NDArray[np.int64]:
    """An order of the rows in which similar ones are neighbours, shape (n,).

    The leaves of average-linkage clustering with 1 - cosine as the distance, turned at each fork so that neighbours are as alike as can
    be (Bar-Joseph et al. 2001).
    """
    distances = 1 - np.asarray(cosines, dtype=np.float64)
    np.fill_diagonal(distances, 0)
    condensed = squareform((distances + distances.T) / 2, checks=False)
    return leaves_list(optimal_leaf_ordering(linkage(condensed, method="average"), condensed)).astype(np.int64)


def typical_per_row(matrix: ArrayLike, absolute: bool = False) -> Array:
    """Of each row, the median entry (or absolute value) off the diagonal, shape (n,): how one persona lies to the others."""
    square = np.asarray(matrix, dtype=np.float64).copy()
    np.fill_diagonal(square, np.nan)
    return np.nanmedian(np.abs(square) if absolute else square, axis=1)
