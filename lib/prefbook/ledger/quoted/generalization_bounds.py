"""Numbers about synthetic clusters, and about what the theorems promise of them, that the text of the chapter
`generalization` quotes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from prefbook.ledger.quoted.forms import minus
from prefbook.ledger.tables import Tables
from prefdyn.theory import clusters


def _many(samples: float) -> str:
    """A large number in words."""
    return f"{samples / 1e9:.1f} billion" if samples >= 1e9 else f"{samples:,.0f}"


def _failing(tables: Tables) -> str:
    """The conditions that the wide clusters break."""
    curves = tables["curves"]
    return str(curves.loc[curves["v"] == curves["v"].max(), "conditions that fail"].iloc[0])


def _vacuous(tables: Tables) -> str:
    """Margins outside the band where the conditions hold and the theorem may fail for sure."""
    band = tables["band"]
    rest = band[band["failure allowed"] >= 1]
    return f"{rest['outside the band'].sum()} of {rest['margins'].sum():,}"


def _gap(steps: int, tables: Tables) -> str:
    gaps = tables["descent"].set_index("steps")["gap"]
    return minus(f"{gaps[steps]:.1e}".replace("e-0", "e-"))


def _order_of_convergence(tables: Tables) -> str:
    gaps = tables["descent"].set_index("steps")["gap"]
    return f"{np.log2(gaps[20] / gaps[40]):.2f}"


def _of_the_data(column: str, tables: Tables) -> str:
    return _many(float(tables["bound_of_the_data"][column].iloc[0]))


def _needed(concepts: int, tables: Tables, form: str = "Theorem 4.2") -> str:
    """Samples a cluster from which a bound is below 1."""
    return _many(tables["samples_needed"].set_index("form")[f"Q for K = {concepts}"][form])


def _least_constant(tables: Tables) -> str:
    """The constant of Lemma A.1 above which its second term is below 1 where its first is."""
    samples = float(tables["bound_of_the_data"]["Q for a failure below 1"].iloc[0])
    return f"{clusters.least_constant(clusters.at_the_limits(1, round(samples), 1)):.2g}"


QUOTED: dict[str, Callable[[Tables], str]] = {
    "gn-gap-5": partial(_gap, 5),
    "gn-gap-40": partial(_gap, 40),
    "gn-order": _order_of_convergence,
    "gn-failing": _failing,
    "gn-promised": lambda tables: str(int((tables["risk"]["log₁₀ failure"] < 0).sum())),
    "gn-vacuous": _vacuous,
    "gn-promise-q": partial(_of_the_data, "Q for a failure below 1"),
    "gn-data-k": partial(_of_the_data, "K"),
    "gn-data-q": partial(_of_the_data, "Q"),
    "gn-least-constant": _least_constant,
    "gn-bound-q": partial(_of_the_data, "Q for a bound below 1"),
    "gn-appendix-q": partial(_needed, 135, form="Theorem A.2, Z = 1"),
    "gn-needed-1": partial(_needed, 1),
    "gn-needed-135": partial(_needed, 135),
    "gn-appendix-1": partial(_needed, 1, form="Theorem A.2, Z = 1"),
}
