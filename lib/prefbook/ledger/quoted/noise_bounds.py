"""Numbers about the bounds on the risk, and about how tight clouds of hidden states are, that the text of the
chapter `noise` quotes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from prefbook.ledger.derived.noise import looks
from prefbook.ledger.quoted.forms import minus
from prefbook.ledger.tables import Tables
from prefdyn.theory import noise as theory
from prefdyn.theory import vmf

PAPER_DIMENSION, PAPER_COSINE = 4096, 0.9876
"""Of Llama-2-7B: the length of its hidden states, and the mean cosine of NZ's Table 2."""


def _clean_limit(tables: Tables, constant: float) -> str:
    """The concentration from which on the theorem is below one without noise, for opposite means and
    unlimited data.
    """
    return f"{theory.smallest_relative_kappa(0, np.pi, 10**9, constant):.0f}"


def _sharp_limit(tables: Tables) -> str:
    """The concentration from which on the theorem with exact tails is below one half, for opposite means."""
    row = tables["settings"].iloc[0]
    d, n = int(row["dimension"]), 2 * int(row["per label"])
    low, high = 1.0, 1e4
    for _ in range(30):  # bisection: the bound falls with the concentration
        middle = np.sqrt(low * high)
        says = theory.sharp_bound(0, d, middle * d / 2, np.pi, n).risk < 0.5
        low, high = (low, middle) if says else (middle, high)
    return f"{high:.3g}" if high < 1e4 else "none"


def _sharp_rate(tables: Tables) -> str:
    table = tables["sharp_regime"]
    return f"{table[(table['γ'] == 32) & (table['angle'] == 180)]['highest rate'].iloc[0]:.2g}"


def _exact(tables: Tables) -> str:
    n = 2 * int(tables["settings"]["per label"].iloc[0])
    gamma = theory.smallest_relative_kappa(0.01, np.pi, n, 8, "exact")
    return f"{gamma:,.0f}" if np.isfinite(gamma) else "none"


def _tight(tables: Tables, what: str) -> str:
    table = tables["tight_clouds"]
    if what == "risk":
        return f"{table['risk'].max():.3g}"
    if what == "rates":
        return f"{table['rate'].nunique()} noise rates up to {table['rate'].max():.2g}"
    promised = theory.bound(0, table["relative kappa"].iloc[0], np.pi, 2 * int(table["per label"].iloc[0]))
    return f"{promised.risk:.2g}" if what == "promised" else f"{promised.probability:.4f}"


def _points_for_hoeffding(tables: Tables) -> str:
    """Training points from which on the bound at a noise rate of 0.01 says something, for tight clouds."""
    enough = next(
        n
        for n in range(1000, 10**5, 1000)
        if np.isfinite(theory.smallest_relative_kappa(0.01, np.pi, n, 8, "hoeffding"))
    )
    return f"{enough:,}"


def _looks(tables: Tables, tell: Callable[[pd.DataFrame], str]) -> str:
    return tell(looks(tables, "question"))


def _bounded(tables: Tables) -> str:
    table, n = looks(tables, "question"), 2 * int(tables["settings"]["per label"].iloc[0])
    clean = [theory.bound(0, row["γ"], np.radians(row["angle (°)"]), n).clean for _, row in table.iterrows()]
    return f"{np.isfinite(clean).sum()} of {len(clean)}"


def _paper_vmf(tables: Tables, what: str) -> str:
    kappa = vmf.concentration(PAPER_DIMENSION, PAPER_COSINE)
    if what == "γ":
        return f"{2 * kappa / PAPER_DIMENSION:.0f}"
    return minus(f"{vmf.cosine_variance(PAPER_DIMENSION, kappa):.1e}")


QUOTED: dict[str, Callable[[Tables], str]] = {
    "nz-tight-risk": partial(_tight, what="risk"),
    "nz-tight-rates": partial(_tight, what="rates"),
    "nz-tight-promised": partial(_tight, what="promised"),
    "nz-tight-probability": partial(_tight, what="probability"),
    "nz-clean-limit": partial(_clean_limit, constant=4),
    "nz-clean-limit-8": partial(_clean_limit, constant=8),
    "nz-hoeffding": _points_for_hoeffding,
    "nz-exact": _exact,
    "nz-sharp-limit": _sharp_limit,
    "nz-sharp-rate": _sharp_rate,
    "nz-four": partial(_looks, tell=lambda looks: f"{(looks['γ'] >= 4).sum()} of {len(looks)}"),
    "nz-angle": partial(_looks, tell=lambda looks: f"{looks['angle (°)'].median():.2g}°"),
    "nz-angle-most": partial(_looks, tell=lambda looks: f"{looks['angle (°)'].max():.2g}°"),
    "nz-bounded": _bounded,
    "nz-widest": partial(_looks, tell=lambda looks: f"{looks['widest share'].median():.0%}"),
    "nz-even": partial(_looks, tell=lambda looks: f"{1 / looks['dimension'].iloc[0]:.1%}"),
    "nz-paper-gamma": partial(_paper_vmf, what="γ"),
    "nz-paper-variance": partial(_paper_vmf, what="variance"),
}
