"""Chance in labels: wrong ones, and votes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mislabel(labels: NDArray[np.int8], rate: float, seed: int) -> NDArray[np.int8]:
    """Labels of which each is turned round with probability `rate`, independently (NZ Section 2).

    With the same seed a larger rate turns a superset.

    Args:
        labels: +1 or -1, shape (n,).
        rate: in [0, 1].

    Returns:
        Shape (n,).
    """
    uniform = np.random.default_rng(seed).random(len(labels))
    return np.where(uniform < rate, -labels, labels).astype(np.int8)


def simulate_votes(
    quality_chosen: float, quality_rejected: float, raters: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Votes of raters who each prefer `chosen` with the Bradley-Terry probability.

    That is the sigmoid of the difference in quality.

    Returns:
        How many prefer chosen, and how many rejected.
    """
    for_chosen = int(rng.binomial(raters, 1 / (1 + np.exp(quality_rejected - quality_chosen))))
    return for_chosen, raters - for_chosen
