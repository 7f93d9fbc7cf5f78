"""Quantities of the chapter `generalization` that its figures, statistics and quoted numbers share."""

from __future__ import annotations

import numpy as np
import pandas as pd

from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate

HELD_OUT, TRAINED = "held out", "trained"


def margins_left(tables: Tables, split: str, column: str = "margin", of: str = "nested_sets") -> pd.DataFrame:
    """Mean margin of a set's anchors, or what is foretold, over that of the same anchors trained alone; a row
    a set and a column a number of personas.

    Args:
        of: the table, "nested_sets" or "rounding".
    """
    table = tables[of]
    table = table[table["split"] == split]
    means = table.pivot_table(column, "set", "K")
    return means.div(means[1], axis=0)


def logarithms(ratios: pd.Series) -> pd.Series:
    """Of what is left, NaN where there is none: a mean margin that is not positive leaves a claim open."""
    return np.log(ratios.where(ratios > 0))


def geometric_mean(ratios: pd.Series) -> Estimate:
    """Of what is left, over sets; NaN where a set has nothing left."""
    found = estimates.mean(logarithms(ratios))
    value, low, high = np.exp([found.value, found.low, found.high])
    return Estimate(float(value), float(low), float(high), found.n)


def over_families(table: pd.DataFrame, column: str, seed: int) -> Estimate:
    """The mean of a column over personas, resampled by family; without those for which it has no value."""
    known = table.dropna(subset=column)
    if len(known) < 3:
        return estimates.unknown(len(known))
    return estimates.mean(known[column], known["family"], seed)


def b_over_a(tables: Tables) -> float:
    """B/A: mean product of two personas' concept vectors over that of one's in training and held out."""
    rates = _foretold(tables)
    most = int(rates.index[-1])
    return float((rates.iloc[-1] / rates.loc[1] - 1 / most) / (1 - 1 / most))


def _foretold(tables: Tables) -> pd.Series:
    """Mean rate at the start by the concept vectors, by number of personas."""
    table = tables["company"]
    rates: pd.Series = table[table["arm"] == "all"].groupby("K")["foretold"].mean()
    return rates
