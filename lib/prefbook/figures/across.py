"""The figures of chapter 5: each draws the tables of the reference edition, and over them the points of this
machine's, where there are any.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prefbook.figures import style
from prefbook.ledger.derived.across import correlation, left
from prefbook.ledger.tables import Tables
from prefdyn.measures.estimates import Estimate

OUTCOMES = {
    "in company": ("accuracy, in company", 0.5),
    "left out": ("accuracy, left out", 0.5),
    "cost, centred": ("accuracy lost to noise", 0.0),
    "flipped": ("share flipped", None),
}
"""What distinguishability might foretell, with its words and the value that says nothing."""
ROWS = {
    "in company": ("in company", "left at the same accuracy alone"),
    "left out": ("left out", "left at the same agreement"),
    "cost of noise": ("cost of noise, raw states", "left at the same clean accuracy"),
    "cost, centred": ("cost of noise, centred states", "left at the same clean accuracy"),
    "flipped": ("flipped, fixed length", "left at the same depth"),
    "flipped half-way": ("flipped, half-way", "left at the same depth"),
}
"""Outcomes, each with the words for its correlation and for what is left of it."""


def outcomes(reference: Tables, here: Tables | None) -> Figure:
    """Distinguishability against what training brings, a point a persona."""
    reference, here = style.first_runs(reference, here)
    figure, axes = style.panels(2, 2, height=3.1, sharex=True)
    personas = reference["personas"]
    colours = list(style.ordered_colours(list(personas["persona"])).values())
    for ax, (outcome, (words, nothing)) in zip(axes, OUTCOMES.items(), strict=True):
        look = {"s": 30, "edgecolor": "white", "linewidth": 0.5, "zorder": 3}
        ax.scatter(personas["δ"], personas[outcome], c=colours, **look)
        if here is not None:
            style.this_machine(ax, here["personas"]["δ"], here["personas"][outcome], markersize=5)
        if nothing is not None:
            ax.axhline(nothing, color=style.NEUTRAL, linewidth=1)
        ax.set(title=f"ρ = {correlation(reference, 'δ', outcome)}", ylabel=words)
    for ax in axes[2:]:
        ax.set_xlabel("distinguishability δ")
    if here is not None:
        style.legend_below(figure)
    return figure


def held(reference: Tables, here: Tables | None) -> Figure:
    """Rank correlation of δ with each outcome, and what is left of it with another measure held constant."""
    reference, here = style.first_runs(reference, here)
    names = [name for pair in ROWS.values() for name in pair]
    figure, (ax,) = style.panels(1, 1, height=6.6, width=5.4)
    forest(
        ax,
        list(zip(names, _pairs(reference), strict=True)),
        [style.POSITIVE, style.NEUTRAL] * len(ROWS),
        gaps=range(2, len(names), 2),
        here=[] if here is None else _pairs(here),
    )
    ax.set_xlabel("rank correlation with δ (blue), or what is left of it (grey)")
    if here is not None:
        style.legend_below(figure)
    return figure


def _pairs(tables: Tables) -> list[Estimate]:
    """Of each outcome its correlation with δ and what is left of it."""
    return [
        estimate
        for outcome in ROWS
        for estimate in (correlation(tables, "δ", outcome), left(tables, outcome))
    ]


def forest(
    ax: Axes,
    rows: Sequence[tuple[str, Estimate]],
    colours: Sequence[str],
    gaps: Sequence[int] = (),
    here: Sequence[Estimate] = (),
) -> None:
    """Estimates with their intervals, one a row from the top under its name, on a scale from -1 to 1.

    Args:
        gaps: rows above which there is some space.
        here: what this machine measured, a row each.
    """
    places = -np.arange(len(rows), dtype=float)
    for gap in gaps:
        places[gap:] -= 0.6
    for place, (name, estimate), colour in zip(places, rows, colours, strict=True):
        ax.text(
            -1,
            place + 0.33,
            name,
            fontsize=10,
            color="#333333",
            zorder=3,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
        ax.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=2)
        ax.plot(estimate.value, place, "o", color=colour, markersize=6)
    for place, estimate, colour in zip(places, here, colours, strict=False):
        ax.plot([estimate.low, estimate.high], [place - 0.3] * 2, color=colour, linewidth=1)
        style.this_machine(ax, estimate.value, place - 0.3, colour)
    ax.axvline(0, color=style.NEUTRAL, linewidth=1)
    ax.set(xlim=(-1.05, 1.05), ylim=(places[-1] - 0.5, 0.8), yticks=[])
    ax.spines["left"].set_visible(False)
