"""Correlations with their intervals, in a column or each with each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from prefbook.figures import style
from prefdyn.measures.estimates import Estimate


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


def correlation_triangle(
    ax: Axes,
    names: Sequence[str],
    estimates: Mapping[tuple[int, int], Estimate],
    apart: Sequence[tuple[int, int]],
    here: Mapping[tuple[int, int], Estimate] | None = None,
) -> None:
    """Correlations of measures with each other: every cell a number, a shade, and its interval on a small
    scale from -1 to 1.

    Args:
        estimates: by row and column, the column not after the row; those on the diagonal, reliabilities, have
            no shade.
        apart: cells to hatch instead of shading.
        here: what this machine measured, on the same small scales.
    """
    scale, shade = mpl.colors.Normalize(-1.3, 1.3), mpl.colormaps["PuOr_r"]
    for (row, column), estimate in estimates.items():
        plain = row == column or (row, column) in apart or np.isnan(estimate.value)
        hatch = "////" if (row, column) in apart else None
        face = "white" if plain else shade(scale(estimate.value))
        box = mpl.patches.Rectangle(
            (column - 0.5, row - 0.5), 1, 1, facecolor=face, edgecolor="#dddddd", hatch=hatch, linewidth=0.6
        )
        ax.add_patch(box)
        how: dict[str, Any] = {
            "ha": "center",
            "va": "center",
            "color": "#111111",
            "fontstyle": "italic" if row == column else "normal",
        }
        if np.isnan(estimate.value):
            ax.text(column, row, "–", fontsize=12, **how)
            continue
        ax.text(column, row - 0.14, f"{estimate.value:.2f}".replace("-", "−"), fontsize=12, **how)
        low, high, middle = (column + 0.42 * value for value in (estimate.low, estimate.high, estimate.value))
        ax.plot([column - 0.42, column + 0.42], [row + 0.25] * 2, color="#999999", linewidth=0.6)
        ax.plot([column] * 2, [row + 0.16, row + 0.34], color="#999999", linewidth=0.6)
        ax.plot([low, high], [row + 0.25] * 2, color="#111111", linewidth=2.2, solid_capstyle="butt")
        ax.plot(middle, row + 0.25, "o", color="#111111", markersize=3.6)
    for (row, column), estimate in (here or {}).items():
        style.this_machine(ax, column + 0.42 * estimate.value, row + 0.39, markersize=4, markeredgewidth=1)
    size = len(names)
    ax.set(
        xlim=(-0.52, size - 0.48),
        ylim=(size - 0.48, -0.52),
        aspect="equal",
        yticks=range(size),
        yticklabels=names,
    )
    ax.set_xticks(range(size), names, rotation=40, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0, labelsize=11.5)
    ax.grid(False)
    ax.spines[["left", "bottom"]].set_visible(False)
