"""The figures of chapter 5: each draws the tables of the reference edition, and over them the points of this
machine's, where there are any.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from prefbook.figures import style
from prefbook.figures.correlations import correlation_triangle, forest
from prefbook.ledger.derived.across import MAIN, correlation, correlations, left
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


def matrix(reference: Tables, here: Tables | None) -> Figure:
    """Rank correlations between the main measures, the reliabilities on the diagonal."""
    reference, here = style.first_runs(reference, here)
    table = reference["correlations"]
    names = list(dict.fromkeys(table["measure"]))[:MAIN]
    related = table[table["by definition"]]
    figure, (ax,) = style.panels(1, 1, height=7.6)
    correlation_triangle(
        ax,
        names,
        _cells(reference, names),
        [(names.index(x), names.index(y)) for x, y in zip(related["measure"], related["with"], strict=True)],
        None if here is None else _cells(here, names),
    )
    if here is not None:
        style.legend_below(figure)
    return figure


def _cells(tables: Tables, names: list[str]) -> dict[tuple[int, int], Estimate]:
    every = correlations(tables)
    return {(i, j): every[x, y] for i, x in enumerate(names) for j, y in enumerate(names[: i + 1])}
