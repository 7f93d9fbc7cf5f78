"""The picture on the first page and in the README: what the book found first, in one look."""

from __future__ import annotations

import textwrap
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from prefbook.figures import style
from prefbook.ledger.statistics import distinguishability as statistics
from prefbook.ledger.tables import Tables
from prefbook.project import find_root

PICTURE, TABLES = "book/_static/result.png", "results/reference/distinguishability"
"""In the book's folder: the picture as the README shows it, and what it is made from."""
DISTANCE, FALL = "δ of training", "fall of the loss"


def cover(reference: Tables) -> Figure:
    """Every behaviour of chapter 1: its distance before training, and how far its loss falls when all weights
    are trained; the least and the most distinguishable are named.
    """
    known = reference.of(reference.seed)
    table = known["fine_tuning"].sort_values(DISTANCE, ignore_index=True)
    figure, (ax,) = style.panels(height=4.4, width=6.0)  # whole on a phone
    shades = list(style.ordered_colours(list(table["behaviour"])).values())
    ax.scatter(table[DISTANCE], table[FALL], c=shades, s=48, edgecolor="white", linewidth=0.6, zorder=3)
    for place, offset, side in ((0, (60, -9), "left"), (len(table) - 1, (0, 24), "right")):
        row = table.iloc[place]
        ax.annotate(
            textwrap.fill(style.readable(row["behaviour"]), 18),
            (row[DISTANCE], row[FALL]),
            xytext=offset,
            textcoords="offset points",
            ha=side,
            fontsize=10,
            arrowprops={"arrowstyle": "-", "color": style.NEUTRAL, "linewidth": 0.8, "shrinkB": 4},
        )
    ax.axhline(0, color=style.NEUTRAL, linewidth=1)
    ax.set(
        title=f"{len(table)} behaviours: ρ = {statistics.fall_of_all_weights(known)}",
        xlabel="distance δ of the two clouds of states, before any training",
        ylabel="fall of the held-out loss (nats)",
    )
    return figure


def save(root: Path, path: Path) -> None:
    """Write the picture of the README, from the tables under `root`, the book's folder.

    Raises:
        PrefdynError: there are no tables there, or they lack `fine_tuning`.
    """
    with mpl.rc_context():
        style.use_style()
        figure = cover(Tables(root / TABLES))
        figure.savefig(path, dpi=130)
        plt.close(figure)


if __name__ == "__main__":
    save(find_root(), find_root() / PICTURE)
