"""The figures of chapter 1 on hidden states and the last layer, from its tables: the reference edition, with
this machine's points over it.

Where an edition has several seeds, a curve or a point of a behaviour is of the first; means and intervals in
titles are of it, too.
"""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from prefbook.figures import maps, style
from prefbook.figures.behaviours import (
    DELTA,
    FALL,
    correlated,
    last,
    ordered,
    part_of,
    some,
)
from prefbook.figures.explorer import rendered
from prefbook.ledger.statistics import distinguishability as statistics
from prefbook.ledger.tables import Tables

MAPPED = 10
"""Statements of each label in a map, at most: each is a point that carries its text."""


def few(table: pd.DataFrame) -> pd.DataFrame:
    """Some rows of a table, evenly spaced from its first to its last, without what only the notes show."""
    return table.loc[some(list(table.index))].drop(columns=["family", "Yes or No"], errors="ignore")


# Before training --------------------------------------------------------------------------------------


def statement_maps(reference: Tables, here: Tables | None) -> str:
    """Statements of a behaviour of low, middle and high distinguishability; this machine's are folded."""
    words = (
        "Three maps of statements, for a behaviour of low, middle and high distinguishability: Yes as blue "
        "circles, No as orange squares."
    )
    return _maps(reference, here, "statement_maps", words, columns=3)


def maps_after(reference: Tables, here: Tables | None) -> str:
    """Statements of the least and the most distinguishable of the trained behaviours, before and after."""
    words = (
        "Maps of the statements of the least and the most distinguishable behaviour, before and after "
        "fine-tuning."
    )
    return _maps(reference, here, "maps_after", words, columns=2)


def _maps(reference: Tables, here: Tables | None, name: str, words: str, columns: int) -> str:
    def of(tables: Tables) -> str:
        table = tables[name]
        kinds = [*({"map", "when"} & set(table)), "label"]
        table = table[table.groupby(kinds).cumcount() < MAPPED]
        titles = table["map"] + " δ" + (", " + table["when"] if "when" in table else "")
        shown = {}
        for title in titles.unique():
            part = table[titles == title]
            behaviour = textwrap.shorten(
                part["behaviour"].iloc[0].replace("-", " "), 84 // columns, placeholder="…"
            )
            places = part[["x", "y"]].to_numpy()
            about = (places, list(part["statement"]), part["label"].to_numpy())
            shown[f"{title}\n{style.plain(behaviour)}"] = about
        return maps.statement_maps(shown, words, columns)

    known, own = style.first_runs(reference, here)
    if own is None:
        return of(known)
    return f"{of(known)}<details><summary>On this machine</summary>{of(own)}</details>"


def boundary_explorer(reference: Tables, here: Tables | None) -> str:
    """Two clouds in the plane whose centres a reader can drag, and steps of DPO on them; nothing measured."""
    offsets = np.random.default_rng(0).normal(scale=0.45, size=(2, 14, 2))
    offsets -= offsets.mean(axis=1, keepdims=True)  # the rings are then the centres
    content = {
        "offsets": offsets.round(3).tolist(),
        "means": [[3.0, 1.0], [3.0, -1.0]],
        "start": [0.25, 0.0],
        "colours": [style.POSITIVE, style.NEGATIVE, style.THEORY],
    }
    return rendered("boundary.html", "boundary", content)


# The last layer alone ---------------------------------------------------------------------------------


def last_layer(reference: Tables, here: Tables | None) -> Figure:
    """How far the loss has fallen and the weights have moved, over steps, with the bound of Theorem 4.1."""
    known, own = style.first_runs(reference, here)
    curves = known["last_layer_curves"]
    order = ordered(curves)
    colours = style.ordered_colours(order)
    figure, axes = style.panels(1, 2, height=3.8)
    for name in some(order):
        part = part_of(curves, behaviour=name)
        for ax, column in zip(axes, ("fall", "distance"), strict=True):
            ax.plot(part["step"], part[column], color=colours[name], label=style.readable(name))
        axes[1].plot(part["step"], part["bound"], "--", color=colours[name], linewidth=1.4)
    if own is not None:
        end = last(own["last_layer_curves"])
        for ax, column in zip(axes, ("fall", "distance"), strict=True):
            style.this_machine(ax, end["step"], end[column])
    for ax, words in zip(axes, ("fall of the loss (nats)", "‖$W_t$ − $W_0$‖"), strict=True):
        ax.set(xscale="log", yscale="log", xlabel="step", ylabel=words)
    axes[0].set_title("Loss")
    axes[1].set_title("Weights")
    style.legend_below(figure, columns=2)
    return figure


def everyone(reference: Tables, here: Tables | None) -> Figure:
    """Every behaviour: fall, movement and held-out accuracy against distinguishability."""
    known, own = style.first_runs(reference, here)
    table = known["unembedding"]
    shades = list(style.ordered_colours(list(table["behaviour"])).values())
    figure, axes = style.panels(1, 3, sharex=True)
    delta = "δ of training"
    for ax, column in zip(axes, (FALL, "rate", "accuracy after"), strict=True):
        ax.scatter(table[delta], table[column], c=shades, s=30, edgecolor="white", linewidth=0.5, zorder=3)
        ax.set_xlabel(DELTA)
        if own is not None:
            style.this_machine(ax, own["unembedding"][delta], own["unembedding"][column], markersize=4)
    for ax, column in zip(axes, ("fall foretold", "rate foretold"), strict=False):
        label = "the first step, repeated"
        order = table.sort_values(delta)
        ax.plot(order[delta], order[column], "--", color=style.THEORY, linewidth=1.4, label=label, zorder=5)
        ax.set_title("by algebra", fontsize=10)
    correlated(axes[2], statistics.accuracy_of_last_layer(known))
    axes[0].set(yscale="log", ylabel="fall of the loss (nats)")
    axes[1].set_ylabel("movement per step (10⁻³)")
    axes[1].yaxis.set_major_formatter(lambda value, _: f"{1e3 * value:g}")
    axes[2].set_ylabel("held-out accuracy after training")
    axes[2].axhline(0.5, color=style.NEUTRAL, linewidth=1)
    style.legend_below(figure)
    return figure


def boundary(reference: Tables, here: Tables | None) -> Figure:
    """The turning of the boundary with its bound, and actual with guaranteed accuracy."""
    known, own = style.first_runs(reference, here)
    curves = known["boundary_curves"]
    order = ordered(curves)
    colours = style.ordered_colours(order)
    figure, axes = style.panels(1, 2, height=3.8)
    pairs = (("cosine", "bound"), ("accuracy", "guaranteed"))
    for name in some(order):
        part = part_of(curves, behaviour=name)
        for ax, (actual, proved) in zip(axes, pairs, strict=True):
            ax.plot(part["step"], part[actual], color=colours[name], label=style.readable(name))
            ax.plot(part["step"], part[proved], "--", color=colours[name], linewidth=1.4)
    if own is not None:
        end = last(own["boundary_curves"])
        for ax, (actual, _) in zip(axes, pairs, strict=True):
            style.this_machine(ax, end["step"], end[actual])
    for ax in axes:
        ax.set_xscale("symlog", linthresh=1)
        ax.set_xlabel("step")
    axes[0].set(ylabel="cosine", title="Direction of the boundary")
    axes[1].set(ylabel="accuracy", ylim=(-0.03, 1.03), title="Actual and guaranteed accuracy")
    style.legend_below(figure, columns=2)
    return figure


# Two behaviours at once -------------------------------------------------------------------------------


def priority(reference: Tables, here: Tables | None) -> Figure:
    """Gaps in priority between all behaviours, and the gap in loss that pairs end with."""
    known, own = style.first_runs(reference, here)
    names = list(known["embeddings"]["behaviour"])
    figure, (left, right) = style.panels(1, 2, height=4.0)
    table = known["priority_gaps"]
    gaps = np.zeros((len(names), len(names)))
    gaps[table["i"], table["j"]] = table["priority gap"]
    gaps -= gaps.T
    limit = np.abs(gaps).max()
    image = left.imshow(gaps, cmap="PuOr", vmin=-limit, vmax=limit)
    figure.colorbar(image, ax=left, location="bottom", label="priority gap $P_i - P_j$")
    left.set(title="Priority gap", xlabel="behaviour j, by δ", ylabel="behaviour i, by δ")
    left.grid(False)
    left.locator_params(integer=True)
    pairs, shade = known["joint_training"], style.ordered_colours(names)
    colours = [shade[name] for name in pairs["first"]]
    right.scatter(
        pairs["priority gap"], pairs["loss gap"], s=30, c=colours, edgecolor="white", linewidth=0.4, zorder=3
    )
    if own is not None:
        mine = own["joint_training"]
        style.this_machine(right, mine["priority gap"], mine["loss gap"], markersize=4)
        style.legend_below(figure)
    right.axhline(0, color=style.NEUTRAL, linewidth=1)
    right.axvline(0, color=style.NEUTRAL, linewidth=1)
    right.set(title=f"ρ = {statistics.priority_and_loss_gap(known)}", xlabel="priority gap")
    right.set_ylabel("gap in held-out loss (nats)")
    return figure
