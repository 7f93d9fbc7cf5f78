"""Where Theorem 3.1 says something, and what is measured there (chapter 3): no model takes part."""

from __future__ import annotations

import numpy as np
import pandas as pd

from prefdyn.engine import losses
from prefdyn.engine.last_layer import Descent
from prefdyn.experiments import noisy
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.noise import Design
from prefdyn.experiments.noisy import Cloud
from prefdyn.theory import noise as theory

TIGHT = 5000.0
"""A concentration for its dimension, 2 kappa / d, at which Theorem 3.1 as printed promises something."""


def regime(bench: Bench, design: Design) -> pd.DataFrame:
    """The concentration from which on the bound of Theorem 3.1 is below one.

    Returns: ε; angle (between the means); γ for ...: the smallest relative kappa, infinite where none is
        enough, for both constants k and both deviations of the share of wrong labels.
    """
    return pd.DataFrame(
        [
            {"ε": rate, "angle": f"{np.degrees(angle):.0f}°"}
            | {
                f"γ for k = {k}, {word}": theory.smallest_relative_kappa(
                    rate, angle, 2 * design.per_label, k, word
                )
                for word in theory.DEVIATIONS
                for k in (8, 4)
            }
            for angle in (np.pi, 5 * np.pi / 6, 2 * np.pi / 3)
            for rate in (0.0, 0.01, 0.02, 0.03)
        ]
    )


def sharp_regime(bench: Bench, design: Design) -> pd.DataFrame:
    """What the theorem promises with exact tails in the design's dimension.

    Returns: γ; angle (between the means, degrees); ε; bound: on the risk, NaN where the proof does not reach;
        printed: that of Theorem 3.1 with k = 8 and an exact deviation; highest rate: the largest noise rate,
        to a hundredth, at which the bound is below one half, NaN where none is.
    """
    d, n = design.dimension, 2 * design.per_label
    rates = np.round(np.arange(0, 0.5, 0.01), 2)
    rows = []
    for gamma in (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 1024.0):
        for degrees in (60, 120, 180):
            angle = np.radians(degrees)
            risks = [theory.sharp_bound(rate, d, gamma * d / 2, angle, n).risk for rate in rates]
            useful = [rate for rate, risk in zip(rates, risks, strict=True) if risk < 0.5]
            for rate in (0.0, 0.1, 0.2):
                printed = theory.bound(rate, gamma, angle, n, 8, "exact").risk
                risk = risks[round(100 * rate)]
                rows.append((gamma, degrees, rate, risk, printed, max(useful, default=np.nan)))
    return pd.DataFrame(rows, columns=["γ", "angle", "ε", "bound", "printed", "highest rate"])


def tight_clouds(bench: Bench, design: Design) -> pd.DataFrame:
    """The risk where the theorem promises something: opposite means, a concentration of `TIGHT`, trained with
    DPO to the end of the stopping time.

    Returns:
        trial; rate; risk, the share of test points that are wrong; relative kappa; per label.
    """
    # The bound does not depend on d; a small d keeps the points cheap.
    cloud, loss = Cloud(TIGHT, np.pi, 64), losses.dpo()
    time = theory.stopping_time(loss, design.beta, cloud.angle)
    descent = Descent(design.beta, time / design.epochs, design.epochs)
    limit = theory.bound(0, TIGHT, cloud.angle, 2 * design.per_label, 4).highest_rate
    rates = np.linspace(0, max(limit, 0.05), 12)
    found = noisy.controlled(
        cloud,
        {"DPO": loss},
        {"": descent},
        rates,
        design.per_label,
        design.trials,
        (bench.seed, 0),
        bench.device,
    )
    risks = found.assign(risk=1 - found["accuracy"])[["trial", "rate", "risk"]]
    return risks.assign(**{"relative kappa": TIGHT, "per label": design.per_label})
