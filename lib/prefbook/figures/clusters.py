"""The figures of chapter 2 on synthetic clusters and what is proved of them, and on other losses: each draws
the tables of the reference edition, and over them what this machine measured, where that stands beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from prefbook.figures import style
from prefbook.figures.explorer import rendered
from prefbook.ledger.tables import Tables
from prefdyn.theory import clusters as theory

TIGHT, WIDE = style.FIRST, style.SECOND
"""Colours of clusters, by their spread or number."""
COUNTS = [2**power for power in range(9)]
"""Numbers of concepts that a reader may choose."""
SAMPLES = np.logspace(1, 11, 201)
"""Samples a cluster that a reader may choose."""


# The equations and the band ---------------------------------------------------------------------------


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
    tables, own = style.first_runs(reference, here)
    curves = tables["curves"]
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
    style.legend_below(figure, 4)
    return figure


def conditions(reference: Tables, here: Tables | None) -> Figure:
    """Share of training margins outside the band, when one quantity is varied."""
    tables, own = style.first_runs(reference, here)
    swept = tables["conditions"]
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
        style.ticks(ax, "x", part["value"].unique(), small=True)
    for ax in axes[::2]:
        ax.set_ylabel("share outside")
    for spread, shade in shades.items():
        axes[0].plot([], [], "o-", color=shade, label=f"v = {spread}")
    axes[0].plot([], [], "o", color=style.NEUTRAL, label="all conditions hold")
    axes[0].plot([], [], "o", color=style.NEUTRAL, mfc="white", label="one fails or more")
    style.legend_of_both(figure, here, columns=3)
    return figure


# The bounds -------------------------------------------------------------------------------------------


def risk(reference: Tables, here: Tables | None) -> Figure:
    """Risk of synthetic clusters and its two bounds, as powers of ten, over the samples a cluster."""
    tables, own = style.first_runs(reference, here)
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
    about = tables["bound_of_the_data"].iloc[0]
    ax.axhspan(0, 1e4, color=style.NEUTRAL, alpha=0.12, lw=0)
    ax.set(xscale="log", ylim=(-3e6, 1e3), xlabel="samples a cluster Q", ylabel="log₁₀ of risk or bound")
    ax.set_yscale("symlog", linthresh=1)
    ax.text(bounds["Q"].max(), 60, "says nothing", ha="right", color=style.THEORY)
    aside: dict[str, Any] = {"xytext": (4, 0), "textcoords": "offset points", "fontsize": 9}
    for place, words in (
        (about["Q"], "the data's Q"),
        (about["Q for a failure below 1"], "may hold from here"),
    ):
        ax.axvline(float(place), color=style.THEORY, lw=1)
        ax.annotate(words, (float(place), -4), **aside)
    for _, dashes, label in forms:
        ax.plot([], [], dashes, color=style.THEORY, label=label)
    style.legend_of_both(figure, here)
    return figure


def bounds_explorer(reference: Tables, here: Tables | None) -> str:
    """Where each promise speaks: a reader chooses how many concepts there are, and how many samples of each.

    With the largest spread that the theorems allow and answers that no two concepts share.
    """
    about = reference.of(reference.seed)["bound_of_the_data"].iloc[0]
    wide = {(k, q): theory.at_the_limits(k, round(q), 1) for k in COUNTS for q in SAMPLES if q >= 81}

    def of(log: Any) -> list[list[float | None]]:
        """log₁₀ for each number of concepts and of samples; None where the theorem does not apply."""
        return [
            [round(float(log(k, q)) / np.log(10), 2) if (k, q) in wide else None for q in SAMPLES]
            for k in COUNTS
        ]

    content = {
        "counts": COUNTS,
        "samples": [round(float(np.log10(q)), 3) for q in SAMPLES],
        "data": round(float(np.log10(about["Q"])), 3),
        "forms": [
            "the band may fail (Theorem 4.1)",
            "risk, appendix (Theorem A.2)",
            "risk, as stated (Theorem 4.2)",
        ],
        "values": [
            of(lambda k, q: theory.log_failure(wide[k, q])),
            of(lambda k, q: theory.log_risk_bound_appendix(wide[k, q])),
            of(lambda k, q: theory.log_risk_bound(k, q)),
        ],
        "colours": [style.POSITIVE, style.FIRST, style.SECOND, style.THEORY],
    }
    return rendered("bounds.html", "bounds", content)


# Other losses -----------------------------------------------------------------------------------------


def losses(reference: Tables, here: Tables | None) -> Figure:
    """Margins over time under four losses: the median statement and the middle 90%."""
    tables, own = style.first_runs(reference, here)
    curves = tables["loss_curves"]
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
        style.legend_of_both(figure, here)
    return figure
