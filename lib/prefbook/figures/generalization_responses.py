"""The figures of chapter 2 on longer responses, token by token, drawn as those in `generalization` are."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from prefbook.figures import style
from prefbook.ledger.statistics import generalization as statistics
from prefbook.ledger.tables import Tables

CHOSEN = {"chosen": (style.POSITIVE, "o"), "rejected": (style.NEGATIVE, "s")}


def tokens(reference: Tables, here: Tables | None) -> Figure:
    """Every token's rate by the formula against autograd, and over the token's probability."""
    tables, own = style.first_runs(reference, here)
    figure, (left, right) = style.panels(1, 2, height=3.9)
    found = tables["tokens"]
    crosses = {"marker": "x", "s": 18, "lw": 1, "color": style.NEUTRAL, "label": "as printed"}
    left.scatter(found["rate"], found["rate as printed"], **crosses)
    left.scatter(found["rate"], found["rate by the factors"], s=14, color=style.FIRST, label="corrected")
    ends = np.array([found["rate"].min(), found["rate"].max()])
    left.plot(ends, ends, "--", color=style.THEORY, lw=1)
    for word, (shade, marker) in CHOSEN.items():
        part = found[found["response"] == word]
        right.scatter(part["probability"], part["rate"], s=16, marker=marker, color=shade, label=word)
    if own is not None:
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
        ax.legend(fontsize=9.5, ncols=2, loc="lower left", bbox_to_anchor=(-0.02, 1))
    return figure


def moved(reference: Tables, here: Tables | None) -> Figure:
    """The measured change of every token's reward in one step of all weights against Equation 16."""
    tables, own = style.first_runs(reference, here)
    figure, axes = style.panels(1, 2, height=3.7, sharex=True, sharey=True)
    for ax, (word, (shade, marker)) in zip(axes, CHOSEN.items(), strict=True):
        part = tables["moved"][tables["moved"]["response"] == word]
        ax.scatter(part["rate"], part["moved"], s=8, marker=marker, color=shade, lw=0, alpha=0.5)
        if own is not None:
            mine = own["moved"][own["moved"]["response"] == word].iloc[::10]
            style.this_machine(ax, mine["rate"], mine["moved"], shade, markersize=3)
        rho = statistics.STATISTICS[f"order_of_{word}_rates"](tables)
        for line in (ax.axhline, ax.axvline):
            line(0, color=style.NEUTRAL, lw=1)
        ax.set(title=f"{word}: ρ = {rho}", xlabel="rate by Equation 16")
        ax.set_xscale("symlog", linthresh=0.01)
        ax.set_yscale("symlog", linthresh=0.1)
    axes[0].set_ylabel("change in one step of all weights / η")
    if here is not None:
        style.legend_of_both(figure, here)
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
    editions = style.both(reference, here)
    figure, axes = style.panels(1, 2, sharey=True)
    for ax, word in zip(axes, CHOSEN, strict=True):
        for tables, own in editions:
            part = tables["factors"]
            part = part[part["response"] == word]
            for name, (shade, label) in FACTORS.items():
                if own:
                    style.this_machine(ax, part["step"], part[name], shade, label=None, markersize=4)
                else:
                    ax.plot(part["step"], part[name], "o-", ms=4, color=shade, label=label)
        ax.axhline(0, color=style.NEUTRAL, lw=1)
        ax.set(title=f"Tokens of {word} responses", xlabel="step")
        ax.locator_params(axis="x", integer=True)
    axes[0].set_ylabel("part of τ dr/dt, mean over tokens")
    style.legend_of_both(figure, here, columns=5)
    return figure
