"""Gradient flow of reward margins, on clusters that are drawn and on hidden states that are measured: what
single tasks of chapter 2 compute.

A task draws from generators of its own, named by numbers, so that it gives the same whatever else is run.
Times are t / tau throughout.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from prefdyn.engine import losses
from prefdyn.engine.losses import Loss
from prefdyn.theory import clusters
from prefdyn.theory import reward_dynamics as dynamics
from prefdyn.theory.clusters import Clusters

Array = NDArray[np.float64]
PERCENTILES = {"lowest": 0, "5%": 5, "median": 50, "95%": 95, "highest": 100}
"""Columns of `spread_of`."""
CORNER, TARGET = 0.05, 0.5
"""Over how much of a margin SLiC's corner is rounded, and SimPO's target."""


def spread_of(margins: Array) -> pd.DataFrame:
    """How margins, shape (T, n), lie at each time: a column for each of `PERCENTILES`."""
    return pd.DataFrame(np.percentile(margins, list(PERCENTILES.values()), axis=1).T, columns=[*PERCENTILES])


# Clusters -------------------------------------------------------------------------------------------


def shares_outside(of: Clusters, beta: float, draws: int, seed: int) -> Array:
    """Share of training margins that leave the band of Theorem 4.1 by tau_1, shape (draws,)."""
    out = []
    for number in range(draws):
        train = of.draw(np.random.default_rng([seed, number]))
        path = dynamics.flow(train, np.linspace(0, clusters.tau_1(of, beta), 11), beta)
        out.append(clusters.outside_band(path, train, of).mean())
    return np.array(out)


def log_risks(of: Clusters, beta: float, draws: int, seed: int) -> Array:
    """Log of the population risk at tau_1, shape (draws,)."""
    out = []
    for number in range(draws):
        train = of.draw(np.random.default_rng([seed, of.samples, number]))
        path = dynamics.flow(train, [0, clusters.tau_1(of, beta)], beta)
        out.append(clusters.log_risks(path, of)[-1])
    return np.array(out)


# Hidden states --------------------------------------------------------------------------------------


def rounded_slic() -> Loss:
    """SLiC with its corner at r = 1 rounded: h f_DPO((r - 1) / h), whose slope falls from 1 to 0 within a few
    h = `CORNER`.

    SLiC's own slope jumps there, and samples come to rest on the jump: an adaptive solver grinds to a halt.
    """
    dpo = losses.dpo()
    return Loss(
        "slic, its corner rounded",
        lambda r: CORNER * dpo.value((r - 1) / CORNER),
        lambda r: dpo.derivative((r - 1) / CORNER),
    )


def margins_by_loss(
    features: NDArray[np.float32], labels: NDArray[np.int64], answer_difference: ArrayLike, beta: float
) -> tuple[Array, dict[str, Array]]:
    """Margins of statements under four losses, with clocks set so that a margin at 0 starts equally fast.

    Args:
        features: g, shape (n, d).
        labels: +1 or -1, shape (n,).
        answer_difference: W[y_+] - W[y_-] before training, shape (d,): where SimPO's margins start.

    Returns:
        Times in units in which the mean margin would reach 1 under DPO at its initial speed, shape (61,), and
        the margins by loss, shape (61, n).
    """
    simpo_start = beta * labels * (features @ np.asarray(answer_difference)) - TARGET
    # Only inner products of the states enter, so coordinates in the space that they span will do.
    spanned = np.asarray(np.linalg.qr(features.T.astype(float), mode="r")).T
    train = dynamics.yes_or_no(spanned, labels)
    rate = dynamics.initial_rates(train, train, beta).mean()
    clock = np.linspace(0, 4 / rate, 61)
    four: dict[str, tuple[Loss, ArrayLike, float]] = {  # the loss, margins at the start, -f' at 0
        "DPO": (losses.dpo(), 0.0, 0.5),
        "IPO": (losses.ipo(), 0.0, 2.0),
        "SimPO": (losses.dpo(), simpo_start, 0.5),
        "SLiC": (rounded_slic(), 0.0, 1.0),
    }
    by_loss = {}
    for name, (loss, start, slope) in four.items():
        path = dynamics.flow(train, clock * 0.5 / slope, beta, loss, start, tolerance=1e-5)
        by_loss[name] = path.margins(train, start)
    return clock * rate, by_loss
