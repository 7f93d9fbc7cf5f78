"""The figures of chapter 3 on hidden states and on response pairs, drawn as those in `noise` are."""

from __future__ import annotations

import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from prefbook.figures import style
from prefbook.figures.noise import FEW, HEIGHT, this_machine, with_intervals
from prefbook.ledger.derived import noise as derived
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates

STATES = {"raw": (style.SECOND, "s"), "centred": (style.FIRST, "o")}


def personas(reference: Tables, here: Tables | None) -> Figure:
    """Accuracy over noise rates on every behaviour's hidden states, as they are and centred."""
    one, own = style.first_runs(reference, here)
    figure, axes = style.panels(1, 2, height=HEIGHT, sharey=True)
    order = list(one["persona_noise"].sort_values("δ")["behaviour"])
    colours, curves = style.ordered_colours(order), one["persona_curves"]
    parts = dict(iter(curves.groupby("behaviour")))
    for ax, word in zip(axes, STATES, strict=True):
        for name, colour in colours.items():
            rates = parts[name]["rate"]
            ax.plot(rates, parts[name][word], color=colour, linewidth=0.9, alpha=0.8)
            ends = (parts[name][f"{word} {end}"] for end in ("low", "high"))
            ax.fill_between(rates, *ends, color=colour, alpha=0.06, linewidth=0)
        mean = curves.groupby("rate")[word].mean()
        ax.plot(mean.index, mean, color="white", linewidth=5)
        ax.plot(mean.index, mean, color=style.POSITIVE, linewidth=2.5, label="mean over behaviours")
        law = curves.groupby("rate")[f"{word} foretold"].mean()
        ax.plot(law.index, law, "--", color=style.THEORY, label="mean foretold, nothing fitted")
        if own is not None:
            other = own["persona_curves"].groupby("rate")[word].mean()
            this_machine(ax, other.index[FEW], other.iloc[FEW], style.POSITIVE)
        ax.axhline(0.5, color=style.NEUTRAL, linewidth=1)
        ax.set(title=word.capitalize(), xlabel="noise rate ε", ylim=(0.3, 1.02))
    axes[0].set_ylabel("accuracy on held-out statements")
    style.legend_of_both(figure, own, 3)
    return figure


def predict(reference: Tables, here: Tables | None) -> Figure:
    """The constant of Equation 18 and the fall of accuracy against δ, a point a behaviour."""
    one, own = style.first_runs(reference, here)
    figure, axes = style.panels(1, 2, height=HEIGHT)
    table = one["persona_noise"]
    for ax, column in zip(axes, ("c", "fall"), strict=True):
        for word, (colour, marker) in STATES.items():
            points = {"s": 34, "edgecolor": "white", "linewidth": 0.5}
            ax.scatter(
                table["δ"], table[f"{column}, {word}"], color=colour, marker=marker, label=word, **points
            )
            if own is not None:
                other = own["persona_noise"]
                this_machine(ax, other["δ"], other[f"{column}, {word}"], colour)
        ax.axhline(0, color=style.NEUTRAL, linewidth=1)
        ax.set(xscale="log", xlabel="δ")
        ax.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes[0].set_ylabel("c of Equation 18")
    axes[1].set_ylabel("fall of accuracy to ε = 0.2")
    style.legend_of_both(figure, own, 3)
    return figure


def foretold(reference: Tables, here: Tables | None) -> Figure:
    """Accuracy at a noise rate of 0.2, measured against foretold, a point a behaviour."""
    one, own = style.first_runs(reference, here)
    figure, (ax,) = style.panels(1, 1, width=5, height=HEIGHT)

    def at(tables: Tables) -> pd.DataFrame:
        table = tables["persona_curves"]
        return table[np.isclose(table["rate"], 0.2)]

    for word, (colour, marker) in STATES.items():
        part = at(one)
        points = {"s": 28, "edgecolor": "white", "linewidth": 0.5, "zorder": 3}
        ax.scatter(part[f"{word} foretold"], part[word], color=colour, marker=marker, label=word, **points)
        if own is not None:
            this_machine(ax, at(own)[f"{word} foretold"], at(own)[word], colour)
    ax.plot([0.35, 1], [0.35, 1], color=style.NEUTRAL, linewidth=1)
    ax.set(xlabel="foretold", ylabel="measured", title="Accuracy at ε = 0.2")
    style.legend_of_both(figure, own, 3)
    return figure


def effective(reference: Tables, here: Tables | None) -> Figure:
    """What labels that are wrong already do to the curve over the noise that is added; computed."""
    one, _ = style.first_runs(reference, here)
    figure, (ax,) = style.panels(1, 1, width=6, height=3.2)
    added = np.linspace(0, 0.5, 51)
    already = derived.first_step_law(one, derived.SHOWN, 0.3 + 0.4 * added)
    for y, line, colour, word in (
        (derived.first_step_law(one, derived.SHOWN, added), "--", style.THEORY, "clean"),
        (already, "-", style.FIRST, "30% wrong already"),
        (0.3 + 0.4 * already, ":", style.SECOND, "… and in the test as well"),
    ):
        ax.plot(added, y, line, color=colour, label=word)
    ax.set(xlabel="added noise ε", ylabel="accuracy")
    style.legend_below(figure)
    return figure


def text(reference: Tables, here: Tables | None) -> Figure:
    """Accuracy on response pairs: of the pilot without noise, and of the runs on wrong labels, beside a
    straight line between the ends of their mean.
    """
    one, own = style.first_runs(reference, here)
    figure, (left, right) = style.panels(1, 2, height=HEIGHT, sharey=True, width_ratios=[1, 2])
    for tables, mine in ((one, False), (own, True)):
        if tables is None:
            continue
        tried = tables["text_pilot"].groupby("setting").last()
        if mine:
            this_machine(left, tried.index, tried["accuracy"])
            continue
        reach = [tried["accuracy"] - tried["low"], tried["high"] - tried["accuracy"]]
        left.errorbar(tried.index, tried["accuracy"], reach, fmt="o", color=style.POSITIVE, label="pilot")
    left.axhline(0.58, color=style.THEORY, linewidth=1, linestyle="--", label="asked for")
    pilots = [tables["text_pilot"]["setting"] for tables in (one, own) if tables is not None]
    settings = sorted(set().union(*pilots))
    left.set(title="Without noise", xlabel="setting", ylabel="test accuracy", xticks=settings, xmargin=0.5)
    for tables, mine in ((one, False), (own, True)):
        if tables is None or tables["text_pairs"].empty:
            continue
        runs = derived.text_runs(tables)
        if mine:
            this_machine(right, runs.columns, runs.mean(), style.POSITIVE)
            continue
        for _, row in runs.iterrows():
            right.plot(runs.columns, row, "o", color=style.NEUTRAL, markersize=4, alpha=0.6)
        with_intervals(right, runs, style.POSITIVE, "mean over runs", markersize=6, capsize=3)
        ends = runs.mean().iloc[[0, -1]]
        right.plot(ends.index, ends, color=style.THEORY, linestyle=":", label="straight line")
    for ax in (left, right):
        ax.axhline(0.5, color=style.NEUTRAL, linewidth=1)
    right.set(title="With wrong labels", xlabel="noise rate ε", xlim=(-0.03, 0.53))
    style.legend_of_both(figure, own)
    return figure


# Tables as they are shown ---------------------------------------------------------------------------


def looks(table: pd.DataFrame, rows: int = 10) -> pd.DataFrame:
    """Some behaviours, from the smallest ratio of variances to the largest; variances in millionths."""
    order = table[table["state"] == "question"].sort_values("ratio")
    some = order.iloc[np.linspace(0, len(order) - 1, min(rows, len(order))).astype(int)]
    millionths = {f"{name} (10⁻⁶)": 1e6 * some[name] for name in ("variance of the cosine", "that of a vMF")}
    shown = some[["behaviour", "spread of the norm", "cosine", "γ"]].assign(**millionths)
    return shown.assign(**{name: some[name] for name in ("ratio", "angle (°)")})


def correlations(table: pd.DataFrame) -> pd.DataFrame:
    """A row a predictor and a column an outcome."""
    said = [
        str(estimates.Estimate(row["correlation"], row["low"], row["high"], row["n"]))
        for _, row in table.iterrows()
    ]
    wide = table.assign(said=said).pivot(index="predictor", columns="outcome", values="said")
    ordered = wide.loc[table["predictor"].unique(), table["outcome"].unique()]
    return ordered.reset_index().rename_axis(columns=None)
