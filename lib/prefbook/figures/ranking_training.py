"""The figures of chapter 4 on training on response pairs: which rankings turn, and who wins."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from prefbook.figures import style
from prefbook.figures.ranking import OWN
from prefbook.ledger.quoted import ranking as quoted
from prefbook.ledger.tables import Tables

SPLITS = ("trained", "unseen")
RANKED = {True: ("ranked right", style.POSITIVE, "o"), False: ("ranked wrong", style.NEGATIVE, "s")}


def flows(reference: Tables, here: Tables | None) -> Figure:
    """From the reference's rankings to the policy's at the lowest validation loss, on response pairs."""
    tables = reference.of(reference.seed)
    at = tables["flips"][["run", "split", "step"]]
    return two_flows(tables["followed"].merge(at, on=["run", "split", "step"]))


def two_flows(pairs: pd.DataFrame) -> Figure:
    """How many pairs change sides, and how many stay, of the pairs trained on and of others."""
    figure, axes = style.panels(1, 2, height=3.4)
    for ax, split in zip(axes, SPLITS, strict=True):
        part = pairs[pairs["split"] == split]
        before, now = (part["c"] <= 0).to_numpy(), (part["gain"] >= part["c"]).to_numpy()
        counts = {
            (a, b): int(((before == a) & (now == b)).sum()) for a in (True, False) for b in (True, False)
        }
        _flow(ax, counts)
        ax.set_title(f"{split} pairs, n = {len(part)}")
    return figure


def _flow(ax: Axes, counts: dict[tuple[bool, bool], int]) -> None:
    """Bands between two bars, the reference's rankings on the left and the policy's on the right."""
    whole = max(1, sum(counts.values()))
    order = [(True, True), (True, False), (False, True), (False, False)]
    left = {pair: sum(counts[q] for q in order[:i]) / whole for i, pair in enumerate(order)}
    by_end = sorted(order, key=lambda pair: (not pair[1], not pair[0]))
    right = {pair: sum(counts[q] for q in by_end[:i]) / whole for i, pair in enumerate(by_end)}
    for pair in order:
        share = counts[pair] / whole
        if not share:
            continue
        _, colour, _ = RANKED[pair[1]]
        a, b = 1 - left[pair], 1 - right[pair]
        corners = [
            (0.1, a),
            (0.5, a),
            (0.5, b),
            (0.9, b),
            (0.9, b - share),
            (0.5, b - share),
            (0.5, a - share),
        ]
        corners += [(0.1, a - share), (0.1, a)]
        codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
        turned = pair[0] != pair[1]
        ax.add_patch(PathPatch(Path(corners, codes), facecolor=colour, alpha=0.75 if turned else 0.3, lw=0))
    last = 2.0
    for pair in by_end:
        share = counts[pair] / whole
        if share:  # the words of thin bands would lie on each other
            last = min(1 - right[pair] - share / 2, last - 0.06)
            ax.text(0.93, last, f"{share:.0%}" if share >= 0.005 else "<1%", va="center", fontsize=9)
    for place, side in ((0.1, 0), (0.9, 1)):
        right_share = sum(counts[pair] for pair in order if pair[side]) / whole
        for low, high, ranked in ((1 - right_share, 1, True), (0, 1 - right_share, False)):
            ax.plot([place] * 2, [low, high], color=RANKED[ranked][1], linewidth=7, solid_capstyle="butt")
    ax.text(0.06, 0.98, "right", rotation=90, ha="right", va="top", fontsize=10)
    ax.text(0.06, 0.02, "wrong", rotation=90, ha="right", va="bottom", fontsize=10)
    ax.set(xlim=(-0.05, 1.05), ylim=(-0.02, 1.02), yticks=[], xticks=[0.1, 0.9])
    ax.set_xticklabels(["reference", "policy"])
    ax.grid(False)
    ax.spines[["left", "bottom"]].set_visible(False)


def judged_answers(reference: Tables, here: Tables | None) -> Figure:
    """Ranking accuracy and win rate over the updates on response pairs, with what is known of the judge; of
    one that may be a coin the win rate is not shown.
    """
    figure, (ax,) = style.panels(1, 1)
    for tables, own in style.both(reference, here):
        answers = tables["win_rate"]
        measures = {"ranking accuracy": ("accuracy", style.POSITIVE, "o")}
        if not _may_be_a_coin(tables):
            measures["win rate"] = ("win", style.FIRST, "D")
        for run in answers["run"].unique().tolist():
            part = answers[answers["run"] == run]
            for column, (short, colour, marker) in measures.items():
                low, high = part[f"{short} low"], part[f"{short} high"]
                lengths = np.maximum([part[column] - low, high - part[column]], 0)
                look = OWN if own else {"marker": marker, "capsize": 3, "label": column}
                ax.errorbar(part["step"] + 0.1 * run, part[column], yerr=lengths, color=colour, **look)
        if not own:
            ax.set_title(_judged_by(tables))
    ax.axhline(0.5, color=style.NEUTRAL, linewidth=1, linestyle=":")
    ax.set(xlabel="step", ylabel="share", ylim=(0, 1.03))
    style.legend_of_both(figure, here, 3)
    return figure


def _may_be_a_coin(tables: Tables) -> bool:
    """Whether the interval of a judge's accuracy holds one half."""
    judge = tables["judge"].iloc[0]
    return bool(judge["low"] <= 0.5 <= judge["high"])


def _judged_by(tables: Tables) -> str:
    judge = tables["judge"].iloc[0]
    if np.isnan(judge["accuracy"]):
        return style.plain(f"{judge['name']}, no verdict on {quoted.no_verdict(tables)}")
    said = f"judge right on {judge['accuracy']:.0%} of unseen pairs"
    return f"{said}: no win rate" if _may_be_a_coin(tables) else said
