"""The figures of chapter 4: each draws the tables of the reference edition, and over them the points of this
machine's, where there are any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prefbook.figures import style
from prefbook.figures.cards import Card, cards
from prefbook.ledger.statistics import ranking as statistics
from prefbook.ledger.tables import Tables
from prefdyn.data.datasets import NAMES
from prefdyn.measures import flips
from prefdyn.theory import ranking as theory

# Wide lines first, so that none hides another that has the same values.
GROUPS = {
    "right → right": (style.POSITIVE, "o", 4.0),
    "right → wrong": (style.SECOND, "v", 3.2),
    "wrong → right": (style.FIRST, "^", 2.4),
    "wrong → wrong": (style.NEGATIVE, "s", 1.6),
}
KINDS = {"per token": (style.SECOND, "s"), "whole": (style.POSITIVE, "o")}
RANKED = {"ranked right": (1, style.POSITIVE, "o"), "ranked wrong": (0, style.NEGATIVE, "s")}
MEASURES = {"ranking accuracy": ("accuracy", style.POSITIVE, "o"), "win rate": ("win", style.FIRST, "D")}
OPTIMIZERS = ("RMSProp", "AdamW")
DOTS: dict[str, Any] = {
    "linestyle": "none",
    "markeredgecolor": "white",
    "markeredgewidth": 0.5,
    "markersize": 6,
}


def _both(reference: Tables, here: Tables | None) -> list[tuple[Tables, bool]]:
    """The editions to draw, one run of each, and whether it is this machine's."""
    editions = [(reference, False)] + ([(here, True)] if here is not None else [])
    return [(tables.of(tables.seed), own) for tables, own in editions]


OWN: dict[str, Any] = {**style.HERE, "linestyle": "none", "label": None}
"""This machine's points; `_legend` tells what they are."""


def _legend(figure: Figure, here: Tables | None, columns: int) -> None:
    """Below the figure: what is drawn in its panels, and how this machine's points are marked."""
    if here is not None:
        style.this_machine(figure.axes[0], [], [])
    style.legend_below(figure, ncols=columns, fontsize=None)


def _bars(value: Any, low: Any, high: Any) -> np.ndarray:
    """Lengths of error bars from bounds, never negative."""
    middle = np.asarray(value, dtype=float)
    return np.maximum([middle - np.asarray(low, dtype=float), np.asarray(high, dtype=float) - middle], 0)


# How often a model ranks right, and the optimum -----------------------------------------------------


def accuracies(reference: Tables, here: Tables | None) -> Figure:
    """Ranking accuracy on each data set, rankings with ties left out, beside chance and 60%."""
    tables = [
        (edition["ranking_accuracy"].query("ties != 'counted'"), own)
        for edition, own in _both(reference, here)
    ]
    rows = list(dict.fromkeys(name for table, _ in tables for name in table["data"]))
    figure, (ax,) = style.panels(1, 1, height=1.9 + 0.6 * len(rows))
    for table, own in tables:
        for (kind, (colour, marker)), shift in zip(KINDS.items(), (-0.12, 0.12), strict=True):
            part = table[table["responses"] == kind]
            places = np.array([rows.index(name) for name in part["data"]]) + shift * (1.9 if own else 1)
            ax.errorbar(
                part["accuracy"],
                places,
                xerr=_bars(part["accuracy"], part["low"], part["high"]),
                **(OWN if own else {"linestyle": "none", "capsize": 3, "marker": marker, "label": kind}),
                color=colour,
            )
    chance = pd.concat(table for table, _ in tables).groupby("data")["chance"].first()
    ax.plot(chance[rows], range(len(rows)), "x", color=style.THEORY, markersize=8, label="chance")
    ax.axvline(0.6, color=style.THEORY, linestyle="--", linewidth=1, label="60%")
    ax.set(
        yticks=range(len(rows)),
        yticklabels=[NAMES[name].replace(", ", ",\n") for name in rows],
        ylim=(len(rows) - 0.4, -0.6),
        xlim=(0, 1),
        xlabel="ranking accuracy",
    )
    _legend(figure, here, 5)
    return figure


def optimum(reference: Tables, here: Tables | None) -> Figure:
    """Ranking accuracy of the perfect optimum over beta, beside that of the model which is its reference."""
    figure, (ax,) = style.panels(1, 1)
    for tables, own in _both(reference, here):
        for (kind, (colour, marker)), apart in zip(KINDS.items(), (0.96, 1.04), strict=True):
            part = tables["optimum"].query("responses == @kind")
            look = {"linestyle": "-", "capsize": 3, "marker": marker, "label": f"optimum, {kind}"}
            ax.errorbar(
                part["beta"] * apart * (1.14 if own else 1),
                part["accuracy"],
                yerr=_bars(part["accuracy"], part["low"], part["high"]),
                **(OWN if own else look),
                color=colour,
            )
            if not own:
                actual = tables["idealized"].set_index("responses").loc[kind, "actual"]
                ax.axhline(actual, linestyle=":", color=colour, label=f"the model, {kind}")
    ax.set(
        xscale="log",
        xlabel="β, strength of the pull to the reference",
        ylabel="ranking accuracy",
        ylim=(0, 1.05),
    )
    _legend(figure, here, 2)
    return figure


# Following single pairs -----------------------------------------------------------------------------


def _run(tables: Tables, optimizer: str, gamma: float = 1.0) -> pd.DataFrame:
    """The followed pairs of a run."""
    followed = tables["followed"]
    return followed[(followed["optimizer"] == optimizer) & (followed["gamma"] == gamma)]


def groups(reference: Tables, here: Tables | None) -> Figure:
    """Mean loss, mean margin and share of each group of followed pairs over steps, for both optimizers."""
    figure, axes = style.panels(3, 2, height=2.3, sharex=True, sharey="row")
    axes = axes.reshape(3, 2)
    for tables, own in _both(reference, here):
        best = tables["flips"].set_index("optimizer")["step"]
        for column, optimizer in zip(axes.T, OPTIMIZERS, strict=True):
            grouped = flips.by_group(_run(tables, optimizer))
            for name, (colour, marker, width) in GROUPS.items():
                part = grouped[grouped["group"] == name]
                look = {"marker": marker, "linewidth": width, "markersize": 4 + width, "label": name}
                for ax, what in zip(column, ("loss", "margin", "share"), strict=True):
                    ax.plot(part["step"], part[what], color=colour, **(OWN if own else look))
                    if what != "share" and not own:
                        band = part["step"], part[f"{what} low"], part[f"{what} high"]
                        ax.fill_between(*band, color=colour, alpha=0.15, linewidth=0)
            for ax in column:
                if not own:
                    line = {"linestyle": "--", "linewidth": 1, "color": style.THEORY}
                    ax.axvline(best[optimizer], **line, label="lowest validation loss")
            column[0].set_title(optimizer)
            column[-1].set_xlabel("step")
    for ax, label in zip(axes[:, 0], ("DPO loss (nats)", "reward margin", "share of pairs"), strict=True):
        ax.set_ylabel(label)
    axes[0, 0].set_ylim(bottom=0)
    axes[2, 0].set_ylim(-0.03, 1.03)
    _legend(figure, here, 3)
    return figure


def thresholds(reference: Tables, here: Tables | None) -> Figure:
    """Every followed pair at every checkpoint: its loss against c, with the threshold of Theorem 4.1."""
    figure, axes = style.panels(1, 2, sharey=True, sharex=True)
    losses, ends = [], []
    for tables, own in _both(reference, here):
        for ax, optimizer in zip(axes, OPTIMIZERS, strict=True):
            run = _run(tables, optimizer)
            losses.append(run["loss"])
            ends.append(run["c"])
            for label, (right, colour, marker) in RANKED.items():
                part = run[run["right"] == right]
                look = DOTS | {"marker": marker, "label": label}
                ax.plot(part["c"], part["loss"], color=colour, **(OWN if own else look))
    beta = float(reference["followed"]["beta"].iloc[0])
    line = np.linspace(min(c.min() for c in ends), max(c.max() for c in ends), 400)
    for ax, optimizer in zip(axes, OPTIMIZERS, strict=True):
        curve = theory.dpo_threshold(line, beta)
        ax.plot(line, curve, "--", color=style.THEORY, label=f"threshold, β = {beta:g}", zorder=6)
        ax.set(
            title=optimizer,
            xlabel="c, how wrong the reference is (nats)",
            yscale="log",
            ylim=(min(loss.min() for loss in losses) / 3, 3 * max(1.0, *(loss.max() for loss in losses))),
        )
    axes[0].set_ylabel("DPO loss (nats)")
    _legend(figure, here, 4)
    return figure


# Ranking and answers --------------------------------------------------------------------------------


def _draw_measures(ax: Axes, table: pd.DataFrame, along: str, apart: float, **look: Any) -> None:
    """Ranking accuracy and win rate with intervals, `apart` so that none hides."""
    for side, (column, (part, colour, marker)) in zip((-1, 1), MEASURES.items(), strict=True):
        ax.errorbar(
            table[along] + side * apart,
            table[column],
            yerr=_bars(table[column], table[f"{part} low"], table[f"{part} high"]),
            color=colour,
            **({"label": column, "marker": marker} | look),
        )


def _judged_by(tables: Tables) -> str:
    judge = tables["judge"].iloc[0]
    if np.isnan(judge["accuracy"]):
        return style.plain(f"{judge['name']}, no verdict on {statistics.no_verdict(tables)}")
    return f"judge right on {judge['accuracy']:.0%} of unseen pairs"


def win_rates(reference: Tables, here: Tables | None) -> Figure:
    """Ranking accuracy and win rate over the steps of a run, and over the distance of the weights in all
    runs.
    """
    figure, (left, right) = style.panels(1, 2, sharey=True)
    for tables, own in _both(reference, here):
        answers = tables["win_rate"]
        first = answers.query("optimizer == 'RMSProp' and gamma == 1")
        steps, far = answers["step"].max(), answers["distance"].max()
        _draw_measures(left, first, "step", steps / 150, **(OWN if own else {"linestyle": "-", "capsize": 3}))
        _draw_measures(
            right,
            answers,
            "distance",
            far / 120,
            **(OWN if own else {"linestyle": "none", "elinewidth": 0.8}),
        )
        if not own:
            border = statistics.border(answers)
            right.axvline(border, color=style.THEORY, linestyle="--", linewidth=1)
            left.set_title(_judged_by(tables))
    for ax in (left, right):
        ax.axhline(0.5, color=style.NEUTRAL, linewidth=1, linestyle=":")
    left.set(xlabel="step", ylabel="share", ylim=(0, 1.03))
    right.set(xlabel="distance of the weights, ‖θ(t) − θ(0)‖")
    _legend(figure, here, 3)
    return figure


def gammas(reference: Tables, here: Tables | None) -> Figure:
    """Ranking accuracy and win rate, and the distance of the weights, over gamma."""
    figure, (left, right) = style.panels(1, 2)
    for tables, own in _both(reference, here):
        sweep = tables["gamma"]
        apart = sweep["gamma"].max() / 150
        _draw_measures(left, sweep, "gamma", apart, **(OWN if own else {"linestyle": "-", "capsize": 3}))
        look = OWN if own else {"marker": "o"}
        right.plot(sweep["gamma"], sweep["distance"], color=style.NEUTRAL, **look)
        if not own:
            left.set_title(_judged_by(tables))
    left.axhline(0.5, color=style.NEUTRAL, linewidth=1, linestyle=":")
    left.set(xlabel="γ", ylabel="share", ylim=(0, 1.03))
    right.set(xlabel="γ", ylabel="distance ‖θ(t) − θ(0)‖", ylim=(0, 1.15 * right.dataLim.ymax))
    right.ticklabel_format(axis="y", scilimits=(-2, 3))
    _legend(figure, here, 3)
    return figure


# Hard, easy, and easy to flip -----------------------------------------------------------------------


def pair_cards(reference: Tables, here: Tables | None) -> str:
    """The hard, easy and easily flipped pairs as HTML; this machine's are folded below the reference's."""
    shown = {own: _cards(tables["cards"].to_dict("records")) for tables, own in _both(reference, here)}
    folded = f"<details><summary>On this machine</summary>{shown[True]}</details>" if here is not None else ""
    return shown[False] + folded


def _cards(rows: Sequence[Mapping[Any, Any]]) -> str:
    return cards(
        [
            Card(
                row["kind"],
                {
                    "c (nats)": f"{row['c']:.1f}",
                    "DPO loss (nats)": f"{row['loss']:.3f}",
                    "threshold (nats)": f"{row['threshold']:.3g}",
                    "chosen": f"{row['chosen words']} words",
                    "rejected": f"{row['rejected words']} words",
                    "ranked": "right" if row["right"] else "wrong",
                },
                str(row["prompt"]),
                str(row["chosen"]),
                str(row["rejected"]),
            )
            for row in rows
        ]
    )


def lengths(reference: Tables, here: Tables | None) -> Figure:
    """c of each pair against the tokens of both responses, and against the difference of the two."""
    figure, axes = style.panels(1, 2, sharey=True)
    for tables, own in _both(reference, here):
        pairs = tables["lengths"]
        right = (pairs["c"] <= 0).astype(int)
        along = (pairs["chosen"] + pairs["rejected"], pairs["chosen"] - pairs["rejected"])
        for ax, length in zip(axes, along, strict=True):
            for label, (value, colour, marker) in RANKED.items():
                look = DOTS | {"marker": marker, "label": label}
                side = right == value
                ax.plot(length[side], pairs["c"][side], color=colour, **(OWN if own else look))
        if own:
            continue
        found = (statistics.correlation_of_lengths(tables), statistics.correlation_of_difference(tables))
        for ax, rho in zip(axes, found, strict=True):
            ax.set_title(f"ρ = {rho}")
        logps, tokens = pairs[["logp_chosen", "logp_rejected"]], pairs[["chosen", "rejected"]]
        cost = -logps.to_numpy().sum() / tokens.to_numpy().sum()
        ends = np.array([along[1].min(), along[1].max()])
        axes[1].plot(ends, cost * ends, "--", color=style.THEORY, label="mean cost", zorder=6)
    for ax in axes:
        ax.axhline(0, color=style.NEUTRAL, linewidth=1)
    axes[0].set(xlabel="tokens of both responses", ylabel="c (nats)")
    axes[1].set(xlabel="tokens of the chosen minus the rejected")
    _legend(figure, here, 4)
    return figure
