"""The figures of chapter 4 on given responses: each draws the tables of the reference edition, and over them
the points of this machine's, where there are any. Those on training are in `ranking_training`, and those of
the world with a known judge in `ranking_world`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prefbook.figures import style
from prefbook.figures.cards import Card, cards
from prefbook.figures.explorer import rendered
from prefbook.ledger.derived import ranking as derived
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate
from prefdyn.theory import ranking as theory

KINDS = {"per token": (style.SECOND, "s"), "whole": (style.POSITIVE, "o")}
PAPERS_DATA = ("HH-RLHF", "Synthetic-Instruct", "SHP", "AlpacaFarm")
PAPERS = np.array(
    [
        [0.525, 0.467, 0.566, 0.765, 0.441, 0.242, 0.556, 0.391],  # GEMMA-7B-IT
        [0.519, 0.465, 0.931, 0.769, 0.430, 0.242, 0.536, 0.404],  # GEMMA-7B
        [0.499, 0.460, 0.815, 0.659, 0.406, 0.239, 0.502, 0.402],  # GPT2
        [0.520, 0.462, 0.945, 0.754, 0.439, 0.231, 0.534, 0.402],  # LLAMA-2-7B-CHAT-HF
        [0.521, 0.463, 0.936, 0.779, 0.449, 0.238, 0.530, 0.421],  # LLAMA-2-7B-HF
        [0.529, 0.458, 0.935, 0.774, 0.443, 0.239, 0.532, 0.406],  # MISTRAL-7B-V0.1
        [0.510, 0.455, 0.919, 0.782, 0.443, 0.248, 0.527, 0.412],  # OLMo-7B
        [0.512, 0.462, 0.880, 0.682, 0.429, 0.238, 0.498, 0.404],  # PYTHIA-1.4B
        [0.510, 0.464, 0.903, 0.695, 0.439, 0.235, 0.502, 0.402],  # PYTHIA-2.8B
        [0.518, 0.467, 0.943, 0.778, 0.444, 0.234, 0.532, 0.419],  # TULU-2-7B
        [0.514, 0.461, 0.944, 0.777, 0.453, 0.234, 0.534, 0.421],  # TULU-2-DPO-7B
        [0.522, 0.464, 0.936, 0.774, 0.422, 0.234, 0.545, 0.421],  # VICUNA-7B-V1.5
        [0.509, 0.465, 0.951, 0.796, 0.425, 0.234, 0.543, 0.421],  # ZEPHYR-7B-DPO
        [0.495, 0.462, 0.943, 0.789, 0.439, 0.235, 0.545, 0.415],  # ZEPHYR-7B-SFT
    ]
)
"""Ranking accuracies of the paper's fourteen models without ties (Tables 2 and 4, test splits where there
are), per token and whole on each of `PAPERS_DATA`, shape (14, 8).
"""
OURS = {
    "HH-RLHF": derived.TRAINED_ON,
    "PandaLM": ("pandalm",),
    "LLMBar, natural": ("llmbar-natural",),
    "LLMBar, adversarial": ("llmbar-adversarial",),
    "AlpacaEval": derived.ALPACA,
}
"""Our data by the words of a row; the sample stands in for HH-RLHF where nothing else was measured."""
ROWS = ("HH-RLHF", "PandaLM", "LLMBar, natural", "LLMBar, adversarial", "AlpacaEval", *PAPERS_DATA[1:])
JUDGES = {
    "states of the model": style.POSITIVE,
    "a sentence encoder": style.FIRST,
    "length alone": style.NEUTRAL,
}
TENTHS = 10
OWN: dict[str, Any] = {**style.HERE, "linestyle": "none", "label": None}
"""This machine's points; `style.legend_of_both` tells what they are."""


# How often a model ranks right ----------------------------------------------------------------------


def accuracies(reference: Tables, here: Tables | None) -> Figure:
    """Ranking accuracy on each data set: the paper's fourteen models and ours, with the 60% of the paper and
    what "the shorter one is better" would have.
    """
    figure, axes = style.panels(1, 2, height=4.4, sharey=True)
    for k, (ax, (kind, (colour, marker))) in enumerate(zip(axes, KINDS.items(), strict=True)):
        for row, name in enumerate(ROWS):
            if name in PAPERS_DATA:
                values = PAPERS[:, 2 * PAPERS_DATA.index(name) + k]
                dots = {"color": "#9a9a9a", "markersize": 5, "alpha": 0.7}
                ax.plot(values, [row + 0.14] * len(values), "|", label="the paper's models", **dots)
        for tables, own in style.both(reference, here):
            known = {name: derived.accuracy(tables, OURS[name], kind == "per token") for name in OURS}
            known = {name: one for name, one in known.items() if not np.isnan(one.value)}
            places = [ROWS.index(name) - (0.34 if own else 0.14) for name in known]
            look = OWN if own else {"linestyle": "none", "capsize": 3, "marker": marker, "label": "our model"}
            found = list(known.values())
            ax.errorbar([one.value for one in found], places, xerr=style.bars(found), color=colour, **look)
            if not own:
                _baseline(ax, tables, list(known))
        ax.axvline(0.6, color=style.THEORY, linestyle="--", linewidth=1, label="60%")
        ax.axvline(0.5, color=style.NEUTRAL, linestyle=":", linewidth=1)
        ax.set(title=kind, xlim=(0.1, 1), ylim=(len(ROWS) - 0.4, -0.6), xlabel="ranking accuracy")
    axes[0].set(yticks=range(len(ROWS)), yticklabels=ROWS)
    style.legend_of_both(figure, here, 3)
    return figure


def _baseline(ax: Axes, tables: Tables, names: Sequence[str]) -> None:
    shares = [derived.shorter_wins(derived.clear_pairs(tables, OURS[name])).mean() for name in names]
    places = [ROWS.index(name) - 0.14 for name in names]
    ax.plot(shares, places, "x", color=style.THEORY, markersize=7, label="the shorter one")


def by_length(reference: Tables, here: Tables | None) -> Figure:
    """Ranking accuracy, whole and per token, over the difference of the two lengths, in sevenths of the
    pairs.
    """
    figure, (ax,) = style.panels(1, 1, height=3.2)
    for tables, own in style.both(reference, here):
        pairs = derived.clear_pairs(tables, (*derived.TRAINED_ON, *derived.VOTED))
        apart, prompts = (pairs["chosen"] - pairs["rejected"]).to_numpy(), pairs["cluster"].to_numpy()
        order = np.argsort(apart, kind="stable")
        for kind, (colour, marker) in KINDS.items():
            right = derived.log_ratio(pairs, kind == "per token") >= 0
            parts = [part for part in np.array_split(order, 7) if len(part) > 2]
            found = [estimates.proportion(right[part], prompts[part]) for part in parts]
            look = OWN if own else {"capsize": 3, "marker": marker, "label": kind}
            middle = [float(np.median(apart[part])) for part in parts]
            ax.errorbar(middle, [one.value for one in found], yerr=style.bars(found), color=colour, **look)
    ax.axvline(0, color=style.NEUTRAL, linewidth=1)
    ax.axhline(0.5, color=style.NEUTRAL, linewidth=1, linestyle=":")
    ax.set_xscale("symlog", linthresh=5)
    ax.set_xticks([-50, -20, -5, 0, 5, 20, 50], labels=["−50", "−20", "−5", "0", "5", "20", "50"])
    ax.set(
        xlabel="tokens of the chosen response less those of the rejected", ylabel="ranked right", ylim=(0, 1)
    )
    style.legend_of_both(figure, here, 3)
    return figure


# What the optimum would have ------------------------------------------------------------------------


def optimum(reference: Tables, here: Tables | None) -> Figure:
    """Ranking accuracy of the perfect optimum over beta on human votes, by the theorem and by the authors'
    code, beside that of the model which is its reference.
    """
    if here is not None and derived.clear_pairs(here, derived.VOTED).empty:
        here = None  # its data have no human votes
    figure, axes = style.panels(1, 2, sharey=True)
    for tables, own in style.both(reference, here):
        pairs = derived.clear_pairs(tables, derived.VOTED)
        for ax, kind in zip(axes, KINDS, strict=True):
            for by_code, dash, apart in ((False, "-", 0.96), (True, "--", 1.04)):
                found = derived.idealized(tables, kind == "per token", by_code)
                said = "by the authors' code" if by_code else "by the theorem"
                shade, marker = (style.NEGATIVE, "^") if by_code else (style.POSITIVE, "o")
                look = {"linestyle": dash, "capsize": 3, "marker": marker, "label": said}
                ax.errorbar(
                    np.array(list(found)) * apart * (1.14 if own else 1),
                    [one.value for one in found.values()],
                    yerr=style.bars(list(found.values())),
                    color=shade,
                    **(OWN if own else look),
                )
            if not own:
                actual = (derived.log_ratio(pairs, kind == "per token") >= 0).mean()
                ax.axhline(actual, linestyle=":", color=style.THEORY, label="the model")
    for ax, kind in zip(axes, KINDS, strict=True):
        ax.set(xscale="log", xlabel="β, strength of the pull to the reference", title=kind, ylim=(0, 1.05))
    axes[0].set_ylabel("ranking accuracy")
    style.legend_of_both(figure, here, 3)
    return figure


def threshold_explorer(reference: Tables, here: Tables | None) -> str:
    """HTML in which a reader moves β, c and the share of raters, and sees the optimum and the threshold; it
    draws no table.
    """
    content = {
        "unanimity": theory.UNANIMITY,
        "colours": [style.POSITIVE, style.NEGATIVE, style.THEORY],
        "betas": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0],
    }
    return rendered("threshold.html", "threshold", content)


# Hard, easy, and easy to flip -----------------------------------------------------------------------


def tenths(reference: Tables, here: Tables | None) -> Figure:
    """By tenths of c of the fine-tuned reference: tokens of both responses, and agreement of raters."""
    figure, axes = style.panels(1, 2, height=3.2)
    for tables, own in style.both(reference, here):
        for ax, names, column in (
            (axes[0], derived.TRAINED_ON, "tokens"),
            (axes[1], derived.VOTED, "alpha"),
        ):
            pairs = derived.tuned(tables, names).sort_values("c", ignore_index=True)
            pairs["tokens"] = pairs["chosen"] + pairs["rejected"]
            parts = [pairs.iloc[part] for part in np.array_split(np.arange(len(pairs)), TENTHS)]
            found = [
                estimates.mean(part[column], part["cluster"], tables.seed) for part in parts if len(part) > 2
            ]
            look = OWN if own else {"marker": "o", "capsize": 3}
            places = np.arange(1, len(found) + 1) + (0.2 if own else 0)
            ax.errorbar(
                places, [one.value for one in found], yerr=style.bars(found), color=style.POSITIVE, **look
            )
    axes[0].set(xlabel="tenth of c, from easy to hard", ylabel="tokens of both responses", ylim=(0, None))
    axes[1].set(xlabel="tenth of c, from easy to hard", ylabel="share of raters for the chosen")
    if here is not None:
        style.legend_of_both(figure, here, 2)
    return figure


def pair_cards(reference: Tables, here: Tables | None) -> str:
    """The hard, easy and easily flipped pairs as HTML; this machine's are folded below the reference's."""
    shown = {own: _cards(tables["cards"].to_dict("records")) for tables, own in style.both(reference, here)}
    folded = f"<details><summary>On this machine</summary>{shown[True]}</details>" if here is not None else ""
    return shown[False] + folded


def _cards(rows: Sequence[Mapping[Any, Any]]) -> str:
    return cards(
        [
            Card(
                row["kind"],
                {
                    "c (nats)": f"{row['c']:.1f}",
                    "threshold (nats)": f"{row['threshold']:.3g}",
                    "chosen": f"{row['chosen words']} words",
                    "rejected": f"{row['rejected words']} words",
                    "reference": "right" if row["c"] <= 0 else "wrong",
                },
                str(row["prompt"]),
                str(row["chosen"]),
                str(row["rejected"]),
            )
            for row in rows
        ]
    )


# Judges ---------------------------------------------------------------------------------------------


def judges(reference: Tables, here: Tables | None) -> Figure:
    """How often each offline judge agrees with the raters."""
    figure, (ax,) = style.panels(1, 1, height=2.8)
    rows = list(dict.fromkeys(zip(*reference["offline_judges"][["data", "judge"]].to_numpy().T, strict=True)))
    for tables, own in style.both(reference, here):
        table = tables["offline_judges"]
        rows += [row for row in zip(table["data"], table["judge"], strict=True) if row not in rows]
        for row in table.to_dict("records"):
            one = Estimate(row["accuracy"], row["low"], row["high"], row["n"])
            place = rows.index((row["data"], row["judge"])) + (0.25 if own else 0)
            look = OWN if own else {"marker": "o", "capsize": 3}
            ax.errorbar([one.value], [place], xerr=style.bars([one]), color=JUDGES[row["judge"]], **look)
    ax.axvline(0.5, color=style.THEORY, linestyle="--", linewidth=1, label="a coin")
    ax.set(
        yticks=range(len(rows)),
        yticklabels=[f"{judge}, {data}" for data, judge in rows],
        ylim=(len(rows) - 0.4, -0.6),
        xlim=(0.3, 0.9),
        xlabel="agrees with the raters, pairs of prompts it was not fitted to",
    )
    style.legend_of_both(figure, here, 2)
    return figure
