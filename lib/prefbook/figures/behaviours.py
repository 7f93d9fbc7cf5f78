"""What figures of behaviours share: which rows and names they draw, and their titles and axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from prefdyn.measures.estimates import Estimate

DELTA = "distinguishability δ"
FALL = "fall of the loss"
SHOWN = 5
"""Of how many behaviours curves are drawn, where there are more."""


def some(names: Sequence[Any], count: int = SHOWN) -> list[Any]:
    """Names, of which `count` evenly spaced ones are left."""
    picked = np.unique(np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int))
    return [names[i] for i in picked]


def ordered(table: pd.DataFrame) -> list[str]:
    """Behaviours as a table has them, from the least distinguishable."""
    return list(dict.fromkeys(table["behaviour"]))


def part_of(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """The rows with these values."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def last(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["step"] == table["step"].max()]


def correlated(ax: Axes, rho: Estimate) -> None:
    titled(ax, "ρ", rho)


def titled(ax: Axes, words: str, estimate: Estimate) -> None:
    """A title for a narrow panel."""
    value, _, interval = str(estimate).partition(" ")
    ax.set_title(f"{words} = {value}\n{interval}", fontsize=10)


def plain_logarithmic(ax: Axes) -> None:
    """A logarithmic horizontal axis with plain numbers."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())


def whole_steps(ax: Axes) -> None:
    ax.set_xlabel("step")
    ax.locator_params(axis="x", integer=True)
