"""The figures of chapter 2 on hidden states and on trained models: each draws the tables of the reference
edition, and over them what this machine measured, where that stands beside it.

Those on synthetic clusters are in `clusters`, those on longer responses in `generalization_responses`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from prefbook.figures import style
from prefbook.ledger.derived import generalization as derived
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates

ARMS = {
    "as with one": (style.NEUTRAL, "s:", "as few as alone"),
    "as log K": (style.SECOND, "o-", "growing as log K"),
    "all": (style.FIRST, "^--", "all there are"),
}
"""How many statements a persona has in company: the colour, the line and the words of each."""
COSINES = {
    "statements": (style.NEUTRAL, "statements"),
    "statements centred": (style.POSITIVE, "statements, shared mean removed"),
    "dealt": (style.SECOND, "the same, dealt at random"),
    "concepts": (style.FIRST, "concept vectors μ₊ − μ₋"),
}
"""Columns of the table `cosines`, each with its colour and name."""


def _means(table: pd.DataFrame, column: str, by: str, seed: int) -> tuple[NDArray[np.float64], ...]:
    """Values of `by`, means over personas with bars by family."""
    kinds = sorted(table[by].unique())
    found = [derived.over_families(table[table[by] == kind], column, seed) for kind in kinds]
    return np.array(kinds, dtype=float), np.array([one.value for one in found]), style.bars(found)


# Hidden states --------------------------------------------------------------------------------------


def concepts(reference: Tables, here: Tables | None) -> Figure:
    """Cosines between the concept vectors of all personas as a map, four kinds of cosines as histograms."""
    tables, own = style.first_runs(reference, here)
    personas, pairs = tables["personas"], tables["cosines"]
    count = len(personas)
    matrix = np.eye(count)
    matrix[pairs["first"], pairs["second"]] = matrix[pairs["second"], pairs["first"]] = pairs["concepts"]
    order = personas.sort_values("place")["index"].to_numpy()
    figure, (left, right) = style.panels(1, 2, height=3.9)
    image = left.imshow(matrix[order][:, order], cmap="PuOr_r", vmin=-1, vmax=1)
    left.grid(False)
    left.set(title="Concept vectors", xticks=[], yticks=[], xlabel="personas, alike side by side")
    figure.colorbar(image, ax=left, shrink=0.7, label="cosine")
    bins = np.linspace(-1, 1, 81)
    for column, (shade, label) in COSINES.items():
        share = np.histogram(pairs[column], bins)[0] / len(pairs)
        right.stairs(share, bins, color=shade, fill=column == "concepts", alpha=0.9, lw=1.6, label=label)
        if own is not None:
            style.this_machine(right, [own["cosines"][column].median()], [0.002], color=shade, label=None)
    right.set(title="All pairs of personas", xlabel="cosine", ylabel="share of pairs", yscale="log")
    style.legend_of_both(figure, here, columns=2)
    return figure


# More concepts --------------------------------------------------------------------------------------


def law(tables: Tables, counts: ArrayLike) -> NDArray[np.float64]:
    """A/K + (1 - 1/K) B over A, with A and B means over all personas."""
    k = np.asarray(counts, dtype=float)
    return np.asarray(1 / k + (1 - 1 / k) * derived.b_over_a(tables))


def left(reference: Tables, here: Tables | None) -> Figure:
    """What is left of the margins of anchors among more and more personas: every anchor, and means of sets
    with the law.
    """
    tables, own = style.first_runs(reference, here)
    table = tables["nested_sets"]
    counts = sorted(table["K"].unique())
    figure, (one, two) = style.panels(1, 2, height=4.2)
    held_out = (
        table[table["split"] == "held out"].pivot_table("margin", ["persona", "δ"], "K").reset_index("δ")
    )
    scale = Normalize(held_out["δ"].min(), held_out["δ"].max())
    shades = ScalarMappable(scale, "viridis")
    for place, (_, row) in enumerate(held_out.sort_values("δ").iterrows()):
        points = row[counts].to_numpy(dtype=float)
        one.plot(points, [place] * len(points), color=shades.to_rgba(row["δ"]), lw=0.8, zorder=2)
        for count, point in zip(counts, points, strict=True):
            size = 12 + 14 * np.log2(count)
            one.scatter(
                [point],
                [place],
                s=size,
                color=[shades.to_rgba(row["δ"])],
                edgecolor="white",
                lw=0.5,
                zorder=3,
            )
    if own is not None:
        local = own["nested_sets"].query("split == 'held out'").groupby("K")["margin"].mean()
        style.this_machine(one, local, np.full(len(local), -2), label=None)
    one.axvline(0, color=style.NEUTRAL, lw=1)
    one.set(title="Every anchor", xlabel="held-out margin", ylabel="anchor personas, by δ", yticks=[])
    figure.colorbar(shades, ax=one, shrink=0.7, label="δ")
    looks = {"held out": (style.FIRST, "o", 1.0), "trained": (style.SECOND, "s", 1.06)}
    for split, (shade, marker, aside) in looks.items():
        means = [derived.geometric_mean(part) for _, part in derived.margins_left(tables, split).items()]
        value, bars = [one.value for one in means], style.bars(means)
        two.errorbar(np.array(counts) * aside, value, bars, color=shade, fmt=marker, label=split)
        if own is not None:
            mine = derived.margins_left(own, split).apply(lambda part: derived.geometric_mean(part).value)
            style.this_machine(two, mine.index * aside, mine, color=shade, label=None)
    grid = np.geomspace(counts[0], counts[-1], 60)
    foretold = law(tables, grid)
    two.plot(grid, foretold, "--", color=style.THEORY, lw=1.4, label="A/K + (1 − 1/K)B")
    two.plot(grid, foretold**0.5, "-.", color=style.THEORY, lw=1.4, label="its square root")
    two.plot(grid, 1 / grid, ":", color=style.THEORY, lw=1.4, label="1/K: own answers")
    two.set(
        title="Means of sets", xlabel="personas K", ylabel="left of the margin", xscale="log", yscale="log"
    )
    style.ticks(two, "x", counts)
    style.ticks(two, "y", [0.0625, 0.125, 0.25, 0.5, 1])
    style.legend_of_both(figure, here, columns=4)
    return figure


def company(reference: Tables, here: Tables | None) -> Figure:
    """The unembedding alone: what is left of every persona's margin, and held-out risk with more personas."""
    tables, own = style.first_runs(reference, here)
    table = tables["company"]
    figure, (one, two) = style.panels(1, 2, height=3.9)
    whole = table[table["arm"] == "all"]
    margins = whole.pivot_table("margin", "persona", "K")
    counts = [*margins.columns]
    shades = style.ordered_colours([f"K = {count}" for count in counts[1:]])
    for count, (label, colour) in zip(counts[1:], shades.items(), strict=True):
        one.scatter(margins[1], margins[count], s=10, color=[colour], lw=0, label=label)
    ends = np.array([0, margins[1].max()])
    one.plot(ends, ends, "--", color=style.THEORY, lw=1, label="as alone")
    one.axhline(0, color=style.NEUTRAL, lw=1)
    one.set(title="Every persona", xlabel="held-out margin alone", ylabel="held-out margin in company")
    for arm, (shade, look, label) in ARMS.items():
        at, value, bars = _means(table[table["arm"] == arm], "risk", "K", tables.seed)
        two.errorbar(at, value, bars, color=shade, fmt=look, markersize=5, lw=1.4, label=label)
        if own is not None:
            mine = own["company"].query("arm == @arm").groupby("K")["risk"].mean()
            style.this_machine(two, mine.index, mine, color=shade, label=None)
    at, value, bars = _means(tables["longer_company"], "risk", "K", tables.seed)
    shade, _, words = ARMS["as log K"]
    label = f"{words}, K times as long"
    two.errorbar(at, value, bars, color=shade, fmt="v:", markersize=5, lw=1.4, label=label)
    if own is not None:
        mine = own["longer_company"].groupby("K")["risk"].mean()
        style.this_machine(two, mine.index, mine, color=shade, label=None)
    two.set(title="Held-out risk", xlabel="personas K", ylabel="share of margins ≤ 0", xscale="log")
    style.ticks(two, "x", counts)
    style.legend_of_both(figure, here, columns=4)
    return figure


def answers(reference: Tables, here: Tables | None) -> Figure:
    """Margin and risk of sixteen personas together, by how many pairs of tokens answer them."""
    editions = style.both(reference, here)
    table = editions[0][0]["own_answers"]
    arms = [*dict.fromkeys(zip(table["pairs"], table["Z"], strict=True))]
    names = [f"{pairs} {'pair' if pairs == 1 else 'pairs'}\nZ = {reuse}" for pairs, reuse in arms]
    figure, axes = style.panels(1, 2, height=3.2)
    for ax, column, words in zip(axes, ("margin", "risk"), ("held-out margin", "held-out risk"), strict=True):
        for tables, own in editions:
            by_set = tables["own_answers"].groupby(["pairs", "Z", "set"])[column].mean()
            known = {(pairs, reuse) for pairs, reuse, _ in by_set.index}
            found = [by_set.loc[pairs, reuse] for pairs, reuse in arms if (pairs, reuse) in known]
            if own:
                style.this_machine(
                    ax, range(len(found)), [part.mean() for part in found], label="this machine"
                )
                continue
            for place, part in enumerate(found):
                ax.scatter([place] * len(part), part, s=14, color=style.NEUTRAL, lw=0, zorder=2)
            ax.plot(
                range(len(found)), [part.mean() for part in found], "o", color=style.FIRST, ms=8, zorder=3
            )
        ax.set(xticks=range(len(names)), title=words, xlim=(-0.5, len(names) - 0.5))
        ax.set_xticklabels(names, fontsize=8.5)
    axes[0].axhline(0, color=style.NEUTRAL, lw=1)
    if here is not None:
        style.legend_of_both(figure, here)
    return figure


# More samples, and lopsided ones ------------------------------------------------------------------------


def samples(reference: Tables, here: Tables | None) -> Figure:
    """Held-out risk and the time to a training loss, over the statements of each label."""
    tables, own = style.first_runs(reference, here)
    table = tables["more_samples"]
    figure, (one, two) = style.panels(1, 2, height=3.6)
    looks = {"everyone": (style.FIRST, "o-"), "all statements": (style.SECOND, "s--")}
    for of, (shade, look) in looks.items():
        part = table[table["of"] == of]
        for ax, column in ((one, "risk"), (two, "wait")):
            scaled = part.assign(wait=np.log(part["wait"]))
            at, value, bars = _means(scaled, column, "Q", tables.seed)
            if column == "wait":
                value, bars = np.exp(value), np.exp(value) * np.abs(np.expm1([-bars[0], bars[1]]))
            label = "all personas" if of == "everyone" else "those with all their statements"
            ax.errorbar(at, value, bars, color=shade, fmt=look, markersize=5, lw=1.4, label=label)
            if own is not None:
                mine = own["more_samples"].query("of == @of")
                found = (
                    mine.groupby("Q")[column].mean()
                    if column == "risk"
                    else np.exp(np.log(mine.set_index("Q")[column]).groupby("Q").mean())
                )
                style.this_machine(ax, found.index, found, color=shade, label=None)
    grid = np.sort(table["Q"].unique()).astype(float)
    start = float(np.exp(np.log(table[(table["of"] == "everyone") & (table["Q"] == grid[0])]["wait"]).mean()))
    two.plot(grid, start * grid[0] / grid, "--", color=style.THEORY, lw=1.4, label="∝ 1/Q")
    one.set(title="Held-out risk", ylabel="share of margins ≤ 0")
    two.set(title="Time to a training loss", ylabel="t / τ", yscale="log")
    for ax in (one, two):
        ax.set(xscale="log", xlabel="statements of a label Q")
        style.ticks(ax, "x", grid, small=True)
    style.legend_of_both(figure, here)
    return figure


def imbalance(reference: Tables, here: Tables | None) -> Figure:
    """Share of positive held-out margins of the rarer and the commoner label, by how lopsided training is."""
    tables, own = style.first_runs(reference, here)
    last_layer, all_weights = tables["imbalance"], tables["imbalance_all_weights"]
    arms = [*dict.fromkeys(last_layer["arm"])]
    figure, axes = style.panels(1, 3, height=3.2, sharey=True)
    half = all_weights["step"].min()
    parts = (
        ("Last layer, first step", last_layer[last_layer["when"] == "first step"]),
        ("Last layer, end", last_layer[last_layer["when"] == "end"]),
        (f"All weights, update {half}", all_weights[all_weights["step"] == half]),
    )
    for ax, (title, part) in zip(axes, parts, strict=True):
        for label, (shade, marker, aside) in {
            "commoner label": (style.POSITIVE, "o", -0.12),
            "rarer label": (style.NEGATIVE, "s", 0.12),
        }.items():
            column = "rare" if label.startswith("rarer") else "common"
            shares = [estimates.mean(part.loc[part["arm"] == arm, column]) for arm in arms]
            at, value, bars = np.arange(len(arms)) + aside, [one.value for one in shares], style.bars(shares)
            ax.errorbar(at, value, bars, color=shade, fmt=marker, label=label)
            if own is not None:
                table = own["imbalance_all_weights" if "All" in title else "imbalance"]
                now = table["step"] == table["step"].min() if "All" in title else table["when"] == title[12:]
                mine = table[now].groupby("arm")[column].mean()
                style.this_machine(ax, at, [mine[arm] for arm in arms], color=shade, label=None)
        ax.axhline(0.5, color=style.NEUTRAL, lw=1)
        ax.set(title=title, xticks=range(len(arms)), xlim=(-0.5, len(arms) - 0.5), ylim=(-0.03, 1.03))
        ax.set_xticklabels(["1 : 1", "at random", "3 : 1"], fontsize=9)
    axes[0].set_ylabel("share of margins > 0")
    style.legend_of_both(figure, here)
    return figure


def cantelli(reference: Tables, here: Tables | None) -> Figure:
    """Error of every cluster against its bound."""
    tables, own = style.first_runs(reference, here)
    figure, (ax,) = style.panels(1, 1, height=4.0, width=5.6)
    table = tables["cantelli"]
    for sign, label in ((1, "would say"), (-1, "would not say")):
        part = table[table["label"] == sign]
        shade, marker = (style.POSITIVE, "o") if sign > 0 else (style.NEGATIVE, "s")
        look: dict[str, Any] = {"s": 20, "marker": marker, "color": shade, "lw": 0, "alpha": 0.8}
        ax.scatter(part["bound"], part["wrong"] / part["statements"], label=label, **look)
    if own is not None:
        mine = own["cantelli"]
        style.this_machine(ax, mine["bound"], mine["wrong"] / mine["statements"], markersize=3.5)
    ax.plot([0, 1], [0, 1], "--", color=style.THEORY, lw=1.2, label="error = bound")
    ax.set(xlabel="Cantelli's bound, from other statements", ylabel="held-out error", xlim=(0, 1.02))
    style.legend_of_both(figure, here, columns=2)
    return figure
