"""The figures of chapter 1 on what a training leaves: clouds, what is undone, likelier responses."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from prefbook.figures import style
from prefbook.figures.behaviours import (
    correlated,
    plain_logarithmic,
    whole_steps,
)
from prefbook.ledger.derived import distinguishability as derived
from prefbook.ledger.statistics import distinguishability as statistics
from prefbook.ledger.tables import Tables

# What training does to the hidden states --------------------------------------------------------------

TRAININGS = {
    derived.OWN: style.POSITIVE,
    derived.OTHER: style.SECOND,
    derived.SHUFFLED: style.NEUTRAL,
}


def clouds(reference: Tables, here: Tables | None) -> Figure:
    """By which factor training multiplies δ and the size of the clouds, for a behaviour's own labels and two
    controls.
    """
    known, own = style.first_runs(reference, here)
    figure, axes = style.panels(1, 2, height=3.4, sharey=True)
    for ax, quantity in zip(axes, ("δ", "Tr Σ"), strict=True):
        for place, (training, colour) in enumerate(TRAININGS.items()):
            factors = np.exp(derived.log_change(known, quantity, training)).to_numpy()
            jitter = np.linspace(-0.22, 0.22, len(factors))[_shuffled(len(factors))]
            ax.plot(factors, -place + jitter, "o", color=colour, markersize=3.5, alpha=0.55)
            middle = np.exp(np.log(factors).mean())
            ax.plot([middle] * 2, [-place - 0.32, -place + 0.32], color=style.THEORY, linewidth=2.2)
            if own is not None:
                mine = np.exp(derived.log_change(own, quantity, training)).to_numpy()
                style.this_machine(ax, mine, np.full(len(mine), -place - 0.38), markersize=4)
        ax.axvline(1, color=style.NEUTRAL, linewidth=1)
        plain_logarithmic(ax)
        ax.set_xlabel(f"{quantity} after over before")
    axes[0].set(yticks=[0, -1, -2], yticklabels=list(TRAININGS), title="Distance of the centres")
    axes[1].set_title("Size of the clouds")
    if own is not None:
        style.legend_below(figure)
    return figure


def _shuffled(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).permutation(count)


# Undoing it -------------------------------------------------------------------------------------------

STARTS = {
    "base": "the base model",
    "aligned on another behaviour": "aligned on another",
    "aligned": "aligned on it",
}


def misalignment(reference: Tables, here: Tables | None) -> Figure:
    """How far the loss on opposite labels falls from three starts, and what foretells it."""
    known, own = style.first_runs(reference, here)
    figure, (left, right) = style.panels(1, 2, height=3.8, gridspec_kw={"width_ratios": [1.25, 1]})
    falls = _learned(known)
    for place, start in enumerate(STARTS):
        colour = style.NEGATIVE if start == "aligned" else style.NEUTRAL
        jitter = 0.16 * np.linspace(-1, 1, len(falls))[_shuffled(len(falls))]
        left.plot(falls[start], -place + jitter, "o", color=colour, markersize=4, alpha=0.6)
        left.plot([falls[start].mean()] * 2, [-place - 0.3, -place + 0.3], color=style.THEORY, linewidth=2.2)
    left.axvline(0, color=style.NEUTRAL, linewidth=1)
    left.set(yticks=-np.arange(len(STARTS)), yticklabels=list(STARTS.values()))
    left.set(xlabel="fall of the loss on opposite labels (nats)", title="From where")
    table = known["last_layer_undone"]
    right.scatter(
        table["δ² ratio"], table["fall of all weights"], color=style.NEGATIVE, s=34, edgecolor="white"
    )
    plain_logarithmic(right)
    correlated(right, statistics.distance_and_undoing(known))
    right.set(xlabel="δ² after alignment over before", ylabel="fall from the aligned model (nats)")
    if own is not None:
        mine = _learned(own)
        for place, start in enumerate(STARTS):
            style.this_machine(left, mine[start], np.full(len(mine), -place - 0.36), markersize=4)
        own_table = own["last_layer_undone"]
        style.this_machine(right, own_table["δ² ratio"], own_table["fall of all weights"])
        style.legend_below(figure)
    return figure


def _learned(tables: Tables) -> pd.DataFrame:
    """Falls from every start, of the behaviours that had been learned; of all where none had."""
    table = tables["misalignment"]
    learned = table[table["accuracy"] >= derived.LEARNED]
    return (learned if len(learned) else table).pivot_table("fall", "behaviour", "start")


def text(reference: Tables, here: Tables | None) -> Figure:
    """Response pairs: how far the chosen response's lead over the rejected one has changed since the base
    model, over steps, and what became of each response.
    """
    known, own = style.first_runs(reference, here)
    colours = {
        "aligning": style.FIRST,
        "misaligning the aligned model": style.NEGATIVE,
        "misaligning the base model": style.NEUTRAL,
    }
    figure, (left, right) = style.panels(1, 2, height=3.8)
    for run, step, lead in _leads(known["text"]):
        left.plot(step, lead, "o-", color=colours[run], label=run)
    if own is not None:
        for run, step, lead in _leads(own["text"]):
            style.this_machine(left, step, lead, colours[run], line=True)
    left.axhline(0, color=style.THEORY, linewidth=1, linestyle=":")
    left.set_ylabel("change of $\\log\\,\\pi(y_w) - \\log\\,\\pi(y_l)$\n(nats)")
    whole_steps(left)
    pairs = known["text_by_pair"]
    right.scatter(pairs["CHES"], pairs["chosen"], color=style.FIRST, s=22, edgecolor="white", linewidth=0.4)
    if own is not None:
        style.this_machine(right, own["text_by_pair"]["CHES"], own["text_by_pair"]["chosen"], markersize=4)
    right.axhline(0, color=style.NEUTRAL, linewidth=1)
    correlated(right, statistics.similarity_and_displacement(known))
    right.set(xlabel="CHES of the pair", ylabel="change of the chosen response\n(nats a token)")
    style.legend_below(figure)
    return figure


def _leads(table: pd.DataFrame) -> list[tuple[str, pd.Series, pd.Series]]:
    """Of each run its name, its steps, those of misaligning after those of aligning, and the lead less that
    of the base model.
    """
    lead = table["logp_chosen"] - table["logp_rejected"]
    aligning = table["run"] == "aligning"
    base = lead[aligning & (table["step"] == 0)].item()
    later = table["step"] + np.where(aligning, 0, table["step"][aligning].max())
    runs = dict.fromkeys(table["run"])
    return [(run, later[table["run"] == run], (lead - base)[table["run"] == run]) for run in runs]
