"""Quantities of the chapter `across` that its figures, statistics and quoted numbers share."""

from __future__ import annotations

from prefbook.ledger.tables import Tables
from prefdyn.measures.estimates import Estimate


def families(tables: Tables) -> tuple[str, ...]:
    """Of the personas, in the order of the table of measures."""
    known = tables["personas"].set_index("persona")["family"]
    return tuple(known[tables["measures"]["persona"].unique()])


def correlations(tables: Tables) -> dict[tuple[str, str], Estimate]:
    """The rank correlations of every two measures across halves, both ways round, from the table that has
    them.
    """
    n = len(tables["personas"])
    rows = tables["correlations"][["measure", "with", "ρ", "low", "high"]]
    out: dict[tuple[str, str], Estimate] = {}
    for x, y, value, low, high in rows.itertuples(index=False, name=None):
        out[x, y] = out[y, x] = Estimate(value, low, high, n)
    return out


def correlation(tables: Tables, x: str, y: str) -> Estimate:
    """The rank correlation of two measures across halves."""
    return correlations(tables)[x, y]


def left(tables: Tables, outcome: str) -> Estimate:
    """What is left of the rank correlation of δ with an outcome when another measure is held constant."""
    table = tables["held"].set_index("outcome")[["left", "left low", "left high"]]
    value, low, high = table.loc[[outcome]].to_numpy()[0]
    return Estimate(value, low, high, len(tables["personas"]))
