"""The figures of chapter 2: each draws the tables of the reference edition, and over them what this machine
measured, where that stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike, NDArray

from prefbook.figures import style
from prefbook.ledger.statistics.generalization import STATISTICS
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate

MAPS = {"means": "means", "shared mean removed": "shared mean removed", "concepts": "concepts μ₊ − μ₋"}
"""Columns of the table `cosines`, with their titles."""
TIGHT, WIDE = style.FIRST, style.SECOND
"""Colours of clusters, by their spread."""
CHOSEN = {"chosen": (style.POSITIVE, "o"), "rejected": (style.NEGATIVE, "s")}


def _first(tables: Tables | None) -> Tables | None:
    """The tables of the first seed."""
    return None if tables is None else tables.of(tables.seed)


def _editions(reference: Tables, here: Tables | None) -> list[Tables]:
    """Those that are there, one run of each: the reference edition, and this machine's."""
    return [tables for tables in (_first(reference), _first(here)) if tables is not None]


def _bars(points: Sequence[Estimate]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimates as values and lengths of error bars."""
    value, low, high = (np.array([getattr(p, name) for p in points]) for name in ("value", "low", "high"))
    return value, np.maximum([value - low, high - value], 0)


def _legend(figure: Figure, here: Tables | None, columns: int = 4) -> None:
    """Below the panels: what is drawn in them, and how this machine's points are marked."""
    if here is not None:
        style.this_machine(figure.axes[0], [], [])
    style.legend_below(figure, ncols=columns, fontsize=9)


def _ticks(ax: Axes, axis: str, values: ArrayLike, small: bool = False) -> None:
    """Plain numbers on a logarithmic axis, at these values alone."""
    at = np.asarray(values, dtype=float)
    target = ax.xaxis if axis == "x" else ax.yaxis
    target.set_ticks(at, [f"{value:g}" for value in at], fontsize=9 if small else None)
    target.set_minor_locator(NullLocator())


# Hidden states --------------------------------------------------------------------------------------


def ten(reference: Tables, here: Tables | None) -> Figure:
    """Cosines between ten personas, evenly spaced in the order of `everyone`."""
    return _maps(reference, here, most=10, height=3.0)


def everyone(reference: Tables, here: Tables | None) -> Figure:
    """Cosines between all personas, in an order in which similar ones are neighbours."""
    return _maps(reference, here, most=None, height=3.2)


def _maps(reference: Tables, here: Tables | None, most: int | None, height: float) -> Figure:
    tables, own = reference.of(reference.seed), _first(here)
    personas = tables["personas"].sort_values("place")
    count = len(personas)
    chosen = np.linspace(0, count - 1, min(most or count, count)).astype(int)
    rows, pairs = personas.iloc[chosen], tables["cosines"]
    index = rows["index"].to_numpy()
    figure, axes = style.panels(1, 3, height=height, sharey=True)
    for ax, (column, title) in zip(axes, MAPS.items(), strict=True):
        matrix = np.eye(count)
        matrix[pairs["first"], pairs["second"]] = matrix[pairs["second"], pairs["first"]] = pairs[column]
        image = ax.imshow(matrix[index][:, index], cmap="PuOr_r", vmin=-1, vmax=1)
        low, middle, high = np.percentile(pairs[column], [5, 50, 95])
        said = f"{title}\nmedian {middle:.2f}\n90%: {low:.2f} to {high:.2f}"
        if own is not None:
            said += f"\nthis machine: {own['cosines'][column].median():.2f}"
        ax.set_title(said.replace("-", "−"), fontsize=8.5)
        ax.grid(False)
        ax.set_xticks([])
        ax.tick_params(left=False, labelleft=False)
    if most:
        names = [style.readable(name) for name in rows["persona"]]
        axes[0].set_yticks(range(len(rows)), names, fontsize=8)
        axes[0].tick_params(labelleft=True)
    figure.colorbar(image, ax=axes, shrink=0.75, label="cosine")
    return figure


# Clusters -------------------------------------------------------------------------------------------


def interactions(reference: Tables, here: Tables | None) -> Figure:
    """What the samples of six clusters do to each other; it is a draw, and a second one adds nothing."""
    pairs = reference.of(reference.seed)["interactions"]
    size = int(pairs["second"].max()) + 1
    matrix = np.empty((size, size))
    matrix[pairs["first"], pairs["second"]] = matrix[pairs["second"], pairs["first"]] = pairs["interaction"]
    figure, (ax,) = style.panels(1, 1, height=4.2, width=5.4)
    limit = np.abs(matrix).max()
    image = ax.imshow(matrix, cmap="PuOr_r", vmin=-limit, vmax=limit)
    concepts = 6
    middles = (np.arange(concepts) + 0.5) * size / concepts
    ax.set_xticks(middles, range(1, concepts + 1))
    ax.set_yticks(middles, range(1, concepts + 1))
    ax.set(xlabel="concept of sample i", ylabel="concept of sample j")
    ax.grid(False)
    figure.colorbar(image, ax=ax, shrink=0.8, label="C(xᵢ, xⱼ)")
    return figure


def band(reference: Tables, here: Tables | None) -> Figure:
    """Training margins of one draw of tight and of wide clusters, and the theorem's band."""
    curves, own = reference.of(reference.seed)["curves"], _first(here)
    figure, axes = style.panels(1, 2, sharey=True)
    for ax, (spread, part) in zip(axes, curves.groupby("v"), strict=True):
        flow, descent = (part[part["by"] == by] for by in ("flow", "descent"))
        at, shade = flow["time"], style.POSITIVE
        ax.fill_between(at, flow["lowest"], flow["highest"], color=shade, alpha=0.2, lw=0)
        ax.fill_between(at, flow["5%"], flow["95%"], color=shade, alpha=0.4, lw=0)
        ax.plot(at, flow["median"], color=shade, label="median sample")
        for edge, label in (("lower edge", "band"), ("upper edge", None)):
            ax.plot(at, flow[edge], "--", color=style.THEORY, lw=1.2, label=label)
        if len(descent):
            dots = {"color": style.NEGATIVE, "label": "gradient descent"}
            ax.plot(descent["time"], descent["median"], "o", **dots)
        if own is not None:
            local = own["curves"].query("by == 'flow' and v == @spread").iloc[4::8]
            style.this_machine(ax, local["time"], local["median"])
        ax.set(title=f"v = {spread:g}", xlabel="time, in units of τ₁")
    axes[0].set_ylabel("reward margin")
    style.legend_below(figure, ncols=4, fontsize=9)
    return figure


def conditions(reference: Tables, here: Tables | None) -> Figure:
    """Share of training margins outside the band, when one quantity is varied."""
    swept, own = reference.of(reference.seed)["conditions"], _first(here)
    tight = swept["v"].min()
    shades: dict[Any, str] = {tight: TIGHT, 0.4: WIDE}
    figure, axes = style.panels(3, 2, height=2.3, sharey=True)
    for ax, (title, part) in zip(axes, swept.groupby("varied", sort=False), strict=True):
        alone = part["v"].nunique() > 2  # the spread itself is varied
        for shade, one in (
            [(style.NEUTRAL, part)] if alone else [(shades[v], o) for v, o in part.groupby("v")]
        ):
            low = one["share outside"] - one["low"].clip(lower=0)
            bars = [low, one["high"] - one["share outside"]]
            ax.errorbar(one["value"], one["share outside"], bars, color=shade, lw=1.2)
            holds = one["conditions that fail"] == "none"
            for mask, fill in ((holds, shade), (~holds, "white")):
                places = one["value"][mask], one["share outside"][mask]
                ax.scatter(*places, s=34, facecolor=fill, edgecolor=shade, zorder=3)
        if own is not None:
            local = own["conditions"].query("varied == @title")
            colours = [style.NEUTRAL if alone else shades[v] for v in local["v"]]
            for colour, value, share in zip(colours, local["value"], local["share outside"], strict=True):
                look: dict[str, Any] = {"markersize": 8, "markerfacecolor": "none", "label": None}
                style.this_machine(ax, [value], [share], color=colour, **look)
        ax.set(title=title, xscale="log")
        _ticks(ax, "x", part["value"].unique(), small=True)
    for ax in axes[::2]:
        ax.set_ylabel("share outside")
    for spread, shade in shades.items():
        axes[0].plot([], [], "o-", color=shade, label=f"v = {spread}")
    axes[0].plot([], [], "o", color=style.NEUTRAL, label="all conditions hold")
    axes[0].plot([], [], "o", color=style.NEUTRAL, mfc="white", label="one fails or more")
    _legend(figure, here, columns=3)
    return figure


def risk(reference: Tables, here: Tables | None) -> Figure:
    """Risk of synthetic clusters and its two bounds, as powers of ten, over the samples a cluster."""
    tables, own = reference.of(reference.seed), _first(here)
    bounds, risks = tables["bounds"], tables["risk"]
    figure, (ax,) = style.panels(1, 1, height=4.4)
    forms = (("log₁₀ bound", "--", "Theorem 4.2"), ("log₁₀ bound, appendix", ":", "Theorem A.2, Z = 1"))
    looks: dict[Any, dict[str, Any]] = {
        1: {"s": 90, "facecolor": "none", "edgecolor": TIGHT},
        16: {"s": 22, "facecolor": WIDE, "edgecolor": WIDE},
    }
    for pairs, look in looks.items():
        found, lines = risks[risks["K"] == pairs], bounds[bounds["K"] == pairs]
        places = {"label": f"risk, K = {pairs}", "linewidth": 1.4, "zorder": 3}
        ax.scatter(found["Q"], found["log₁₀ risk"], **look, **places)
        for column, dashes, _ in forms:
            ax.plot(lines["Q"], lines[column], dashes, color=look["edgecolor"], lw=1.4)
        if own is not None:
            local = own["risk"].query("K == @pairs").groupby("Q")["log₁₀ risk"].median()
            style.this_machine(ax, local.index, local, color=look["edgecolor"], label=None)
    largest = float(tables["bound_of_the_data"]["Q"].iloc[0])
    ax.axhspan(0, 1e4, color=style.NEUTRAL, alpha=0.12, lw=0)
    ax.axvline(largest, color=style.THEORY, lw=1)
    ax.set(xscale="log", ylim=(-3e4, 1e3), xlabel="samples a cluster Q", ylabel="log₁₀ of risk or bound")
    ax.set_yscale("symlog", linthresh=1)
    ax.text(bounds["Q"].max(), 60, "says nothing", ha="right", color=style.THEORY)
    aside: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points", "fontsize": 9}
    ax.annotate("the data's Q", (largest, -4), **aside)
    for _, dashes, label in forms:
        ax.plot([], [], dashes, color=style.THEORY, label=label)
    _legend(figure, here)
    return figure


# More concepts, more samples --------------------------------------------------------------------------


def _counts(editions: Sequence[Tables]) -> dict[Any, tuple[float, ...]]:
    """A colour for each number of personas trained together."""
    counts = sorted({int(count) for tables in editions for count in tables["sweep"]["K"]})
    colours = style.ordered_colours([str(count) for count in counts])
    return {count: colours[str(count)] for count in counts}


def _final(tables: Tables, split: str) -> pd.DataFrame:
    """The rows of the sweep after the last step."""
    sweep = tables["sweep"]
    return sweep[(sweep["step"] == sweep["step"].max()) & (sweep["split"] == split)]


def sweep(reference: Tables, here: Tables | None) -> Figure:
    """Margin, loss and accuracy over the steps of full fine-tuning, trained and held out."""
    editions = _editions(reference, here)
    table, shades = editions[0]["sweep"], _counts(editions)
    last = table["step"].max()
    beyond = {count: last * (1 + 0.04 * (place + 1)) for place, count in enumerate(shades)}
    starts = {"margin": 0.0, "loss": np.log(2)}
    figure, axes = style.panels(2, 3, height=2.9, sharex=True)
    where = [(split, column) for split in ("trained", "held out") for column in (*starts, "accuracy")]
    for ax, (split, column) in zip(axes, where, strict=True):
        part = table[table["split"] == split]
        for count, one in part.groupby("K"):
            line = one.groupby("step")[column].mean()
            if column in starts:
                line = pd.concat([pd.Series({0: starts[column]}), line])
            ax.plot(line.index, line, color=shades[count], label=f"K = {count}")
            final, (low, high) = _bars([estimates.mean(one.loc[one["step"] == last, column])])
            if column == "accuracy":
                low, high = np.minimum(low, final), np.minimum(high, 1 - final)
            bars = {"color": shades[count], "fmt": "o", "markersize": 3.5, "lw": 1.4}
            ax.errorbar([beyond[count]], final, [low, high], **bars)
        for own in editions[1:]:
            found = _final(own, split).groupby("K")[column].mean()
            for which in found.index:
                look: dict[str, Any] = {"color": shades[which], "markersize": 4.5, "label": None}
                style.this_machine(ax, [beyond[which]], [found[which]], **look)
        ax.set(title=f"{column}, {split}")
        ax.locator_params(axis="x", integer=True)
    for ax in axes[3:]:
        ax.set_xlabel("step")
    _legend(figure, here, columns=len(shades) + 1)
    return figure


def rates(reference: Tables, here: Tables | None) -> Figure:
    """Final margins over the number of personas, and the rates at the start that hidden states foretell."""
    editions = _editions(reference, here)
    figure, (left, right) = style.panels(1, 2, height=3.9)
    _margins(left, editions)
    counts = _rates(right, editions[0]["rates"])
    for own in editions[1:]:
        for words, part in own["rates"].groupby("answers"):
            means = part.groupby("K")["rate"].mean()
            shade = ANSWERS[str(words)]
            style.this_machine(right, means.index, means / means.iloc[0], color=shade, label=None)
        style.this_machine(right, [], [])
    right.set(yscale="log", xlabel="personas K", ylabel="rate at the start")
    _ticks(right, "y", counts[0] / counts)
    for ax in (left, right):
        ax.set_xscale("log", base=2)
        _ticks(ax, "x", counts)
        ax.legend(fontsize=8, loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=1 if ax is left else 2)
    return figure


ANSWERS = {"Yes and No for all": style.FIRST, "own answers": style.SECOND}


def _margins(ax: Axes, editions: Sequence[Tables]) -> None:
    """A point for each run, and the means over runs."""
    shades = _counts(editions)
    looks = {"trained": ("o", "-", 0.94), "held out": ("s", "--", 1.06)}
    named = {"trained": "order_of_training_margins", "held out": "order_of_held_out_margins"}
    for split, (marker, dashes, aside) in looks.items():
        part = _final(editions[0], split)
        colours = [shades[count] for count in part["K"]]
        face: Any = colours if split == "trained" else "none"
        at = part["K"] * aside
        ax.scatter(at, part["margin"], s=24, marker=marker, facecolor=face, edgecolor=colours, zorder=3)
        line = part.groupby("K")["margin"].mean()
        label = f"{split}: ρ = {STATISTICS[named[split]](editions[0])}"
        ax.plot(line.index * aside, line, dashes, lw=1.4, color=style.NEUTRAL, label=label)
        for own in editions[1:]:
            found = _final(own, split).groupby("K")["margin"].mean()
            look: dict[str, Any] = {
                "markerfacecolor": style.NEUTRAL if split == "trained" else "white",
                "zorder": 5,
            }
            style.this_machine(ax, found.index * aside, found, color=style.NEUTRAL, label=None, **look)
    ax.axhline(0, color=style.NEUTRAL, lw=1)
    ax.set(xlabel="personas K", ylabel="final margin")


def _rates(ax: Axes, table: pd.DataFrame) -> NDArray[np.float64]:
    """Mean rates relative to those of the fewest personas, beside 1/K; the numbers of personas."""
    counts = np.sort(table["K"].unique()).astype(float)
    for words, shade in ANSWERS.items():
        part = table[table["answers"] == words]
        unit = part.loc[part["K"] == counts[0], "rate"].mean()
        points = [estimates.mean(part.loc[part["K"] == count, "rate"] / unit) for count in counts]
        value, bars = _bars(points)
        ax.errorbar(counts, value, bars, color=shade, marker="o", label=words)
    ax.plot(counts, counts[0] / counts, "--", color=style.THEORY, label="1/K")
    return counts


KINDS = {
    "tight, training": (0, TIGHT, "o-"),
    "tight, held-out": (0, TIGHT, "s--"),
    "wide, training": (0, WIDE, "o-"),
    "wide, held-out": (0, WIDE, "s--"),
    "hidden states, training": (1, style.POSITIVE, "o-"),
}
"""What is waited for: the panel, the colour and the line of each."""


def waits(reference: Tables, here: Tables | None) -> Figure:
    """Time until the loss has fallen by a fixed amount, over the samples a cluster."""
    editions = _editions(reference, here)
    figure, axes = style.panels(1, 2, sharey=True)
    for kind, (panel, shade, look) in KINDS.items():
        sizes, value, bars = _relative_times(editions[0], kind)
        face = "none" if "held-out" in kind else shade
        marks = {"markersize": 5, "markerfacecolor": face, "label": kind}
        axes[panel].errorbar(sizes, value, bars, color=shade, fmt=look, **marks)
        for own in editions[1:]:
            sizes, value, _ = _relative_times(own, kind)
            style.this_machine(axes[panel], sizes, value, color=shade, label=None)
    for ax, (title, panel) in zip(axes, (("Synthetic clusters", 0), ("Hidden states", 1)), strict=True):
        drawn = editions[0]["samples"]["of"].isin([kind for kind, look in KINDS.items() if look[0] == panel])
        grid = np.unique(editions[0]["samples"]["Q"][drawn]).astype(float)
        ax.plot(grid, grid[0] / grid, "--", color=style.THEORY, label="1/Q")
        ax.set(xscale="log", yscale="log", title=title, xlabel="samples a cluster Q")
        _ticks(ax, "x", grid)
        _ticks(ax, "y", [0.125, 0.25, 0.5, 1, 2, 4])
    axes[0].set_ylabel("time, relative")
    _legend(figure, here)
    return figure


def _relative_times(tables: Tables, kind: str) -> tuple[pd.Index, NDArray[np.float64], NDArray[np.float64]]:
    """Geometric means over draws of the time, relative to that with the fewest samples, and their bars."""
    part = tables["samples"]
    by_size = part[part["of"] == kind].pivot(index="Q", columns="draw", values="time")
    logs = np.log((by_size / by_size.iloc[0]).to_numpy())
    value, bars = _bars([estimates.mean(row) for row in logs])
    middle = np.exp(value)
    return (
        by_size.index,
        middle,
        np.array([middle - np.exp(value - bars[0]), np.exp(value + bars[1]) - middle]),
    )


# Longer responses, other losses -----------------------------------------------------------------------


def tokens(reference: Tables, here: Tables | None) -> Figure:
    """Every token's rate by the formula against autograd, and over the token's probability."""
    editions = _editions(reference, here)
    figure, (left, right) = style.panels(1, 2, height=3.9)
    found = editions[0]["tokens"]
    crosses = {"marker": "x", "s": 18, "lw": 1, "color": style.NEUTRAL, "label": "as printed"}
    left.scatter(found["rate"], found["rate as printed"], **crosses)
    left.scatter(found["rate"], found["rate by the factors"], s=14, color=style.FIRST, label="corrected")
    ends = np.array([found["rate"].min(), found["rate"].max()])
    left.plot(ends, ends, "--", color=style.THEORY, lw=1)
    for word, (shade, marker) in CHOSEN.items():
        part = found[found["response"] == word]
        right.scatter(part["probability"], part["rate"], s=16, marker=marker, color=shade, label=word)
    for own in editions[1:]:
        local = own["tokens"]
        small: dict[str, Any] = {"markersize": 3, "markeredgewidth": 0.8, "alpha": 0.6}
        style.this_machine(left, local["rate"], local["rate by the factors"], style.FIRST, **small)
        for word, (shade, _) in CHOSEN.items():
            part = local[local["response"] == word]
            style.this_machine(
                right, part["probability"], part["rate"], shade, **{**small, "label": f"{word}, here"}
            )
    right.axhline(0, color=style.NEUTRAL, lw=1)
    left.set(xlabel="τ dr/dt by autograd", ylabel="τ dr/dt by the formula")
    right.set(xscale="log", xlabel="probability of the token", ylabel="τ dr/dt")
    for ax in (left, right):
        ax.legend(fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(-0.02, 1))
    return figure


FACTORS = {
    "co_occurrence": (style.FIRST, "co-occurrence"),
    "probability": (style.SECOND, "probability"),
    "distribution": (style.NEUTRAL, "distribution"),
    "total": (style.THEORY, "sum"),
}
"""Columns of the table `factors`, each with its colour and name."""


def factors(reference: Tables, here: Tables | None) -> Figure:
    """The mean factors of a token's rate over the steps of training, chosen and rejected apart."""
    editions = _editions(reference, here)
    figure, axes = style.panels(1, 2, sharey=True)
    for ax, word in zip(axes, CHOSEN, strict=True):
        for number, tables in enumerate(editions):
            part = tables["factors"]
            part = part[part["response"] == word]
            for name, (shade, label) in FACTORS.items():
                if number:
                    style.this_machine(ax, part["step"], part[name], shade, label=None, markersize=4)
                else:
                    ax.plot(part["step"], part[name], "o-", ms=4, color=shade, label=label)
        ax.axhline(0, color=style.NEUTRAL, lw=1)
        ax.set(title=f"Tokens of {word} responses", xlabel="step")
        ax.locator_params(axis="x", integer=True)
    axes[0].set_ylabel("part of τ dr/dt, mean over tokens")
    _legend(figure, here, columns=5)
    return figure


def losses(reference: Tables, here: Tables | None) -> Figure:
    """Margins over time under four losses: the median statement and the middle 90%."""
    curves, own = reference.of(reference.seed)["loss_curves"], _first(here)
    figure, axes = style.panels(1, 4, height=2.9, sharey=True)
    for ax, (name, part) in zip(axes, curves.groupby("loss", sort=False), strict=True):
        ax.fill_between(part["time"], part["5%"], part["95%"], color=style.POSITIVE, alpha=0.3, lw=0)
        ax.plot(part["time"], part["median"], color=style.POSITIVE, label="median statement")
        ax.axhline(0, color=style.NEUTRAL, lw=1)
        if name in ("IPO", "SLiC"):
            ax.axhline(1, color=style.THEORY, lw=1, linestyle=":")
        if own is not None:
            local = own["loss_curves"].query("loss == @name").iloc[::10]
            style.this_machine(ax, local["time"], local["median"], color=style.POSITIVE, label=None)
        ax.set(title=name, xlabel="time")
    axes[0].set_ylabel("reward margin")
    if here is not None:
        _legend(figure, here)
    return figure
