"""One style for every figure of the book.

Colours mean the same thing everywhere: blue is Yes and "positive", orange is No and "negative", dashed black
is theory, and behaviours run from purple (least distinguishable) to yellow (most). All pairs used together
differ for colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import matplotlib.ticker
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from prefbook.ledger.tables import Tables
from prefdyn.measures.estimates import Estimate

POSITIVE, NEGATIVE = "#0072B2", "#D55E00"
FIRST, SECOND = "#009E73", "#CC79A7"
NEUTRAL, THEORY = "#767676", "#111111"
HERE: dict[str, Any] = {
    "marker": "D",
    "markersize": 5.5,
    "markerfacecolor": "white",
    "markeredgewidth": 1.2,
    "linewidth": 1.0,
    "zorder": 4,
}
"""A hollow diamond: what this machine measured, drawn over the reference edition; see `this_machine`."""


def use_style() -> None:
    """Set the book's style for every figure drawn after it."""
    sns.set_theme(style="ticks", context="notebook")
    mpl.rcParams.update(
        {
            "figure.dpi": 96,
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.grid": True,
            "grid.color": "#e6e6e6",
            "grid.linewidth": 0.8,
            "lines.linewidth": 2,
            "legend.frameon": False,
            "svg.fonttype": "path",
        }
    )


def first_runs(reference: Tables, here: Tables | None) -> tuple[Tables, Tables | None]:
    """The tables of the first seed of each edition."""
    return reference.of(reference.seed), None if here is None else here.of(here.seed)


def both(reference: Tables, here: Tables | None) -> list[tuple[Tables, bool]]:
    """The editions to draw, the first seed of each, and whether it is this machine's."""
    one, own = first_runs(reference, here)
    return [(one, False)] if own is None else [(one, False), (own, True)]


def bars(found: Sequence[Estimate]) -> NDArray[np.float64]:
    """Lengths of error bars, shape (2, n); none where an interval has no ends."""
    lengths = [(one.value - one.low, one.high - one.value) for one in found]
    return np.nan_to_num(np.maximum(np.array(lengths, dtype=float).reshape(-1, 2).T, 0))


def panels(
    rows: int = 1, columns: int = 1, height: float = 3.6, width: float = 8.0, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of the page's width and its axes as an array of shape (rows * columns,)."""
    figure, axes = plt.subplots(rows, columns, figsize=(width, rows * height), squeeze=False, **options)
    return figure, axes.ravel()


def note(words: str) -> Figure:
    """Words in place of a figure."""
    figure, (ax,) = panels(height=0.7)
    ax.text(0, 0.5, words, fontsize=12, color=NEUTRAL, va="center")
    ax.set_axis_off()
    return figure


def ordered_colours(names: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Colours for behaviours given from least to most distinguishable."""
    shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.92, len(names)))
    return {name: tuple(shade) for name, shade in zip(names, shades, strict=True)}


def logarithmic(ax: Axes) -> None:
    """A logarithmic vertical axis over few decades: ticks at 1, 2 and 5 times the powers of ten, with plain
    numbers.
    """
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())


def this_machine(
    ax: Axes, x: ArrayLike, y: ArrayLike, color: Any = THEORY, line: bool = False, **style: Any
) -> None:
    """Points that this machine measured, over those of the reference edition; the legend calls them so.

    Args:
        line: whether they are joined.
    """
    said = {"label": "this machine", "linestyle": "-" if line else "none", "color": color}
    ax.plot(np.asarray(x), np.asarray(y), **{**HERE, **said, **style})


def legend_below(figure: Figure, columns: int = 3) -> None:
    """One legend below the panels: every label of any of them once, in the order in which they were drawn."""
    entries: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=columns, fontsize=9.5
    )


def readable(name: str) -> str:
    """A persona's file name as words, shortened to fit a legend."""
    words = name.replace("-", " ")
    return plain(words if len(words) <= 38 else words[:36].rstrip() + "…")


def plain(name: str) -> str:
    """A name from outside for matplotlib, which would read what stands between two dollars as a formula."""
    return name.replace("$", r"\$")


def legend_of_both(figure: Figure, here: object, columns: int = 4) -> None:
    """Below the panels: what is drawn in them, and how this machine's points are marked where it has any.

    Args:
        here: this machine's tables, or None.
    """
    if here is not None:
        this_machine(figure.axes[0], [], [])
    legend_below(figure, columns)


def ticks(ax: Axes, axis: str, values: ArrayLike, small: bool = False) -> None:
    """Plain numbers on a logarithmic axis, at these values alone."""
    at = np.asarray(values, dtype=float)
    target = ax.xaxis if axis == "x" else ax.yaxis
    target.set_ticks(at, [f"{value:g}" for value in at], fontsize=9 if small else None)
    target.set_minor_locator(mpl.ticker.NullLocator())
