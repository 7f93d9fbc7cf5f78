"""The figures of chapter 1, from its tables: the reference edition, with this machine's points over it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prefbook.figures import style
from prefbook.ledger.statistics import distinguishability as statistics
from prefbook.ledger.tables import Tables
from prefdyn.measures.estimates import Estimate

DELTA = "distinguishability δ"
FALL = "fall of the loss"
SHOWN = 5
"""Of how many behaviours curves are drawn, where there are more."""
LOG_2 = float(np.log(2))
"""The loss before training (nats)."""


# What several figures need ----------------------------------------------------------------------------


def _first(tables: Tables) -> Tables:
    return tables.of(tables.seed)


def _editions(reference: Tables, here: Tables | None) -> tuple[Tables, Tables | None]:
    """One run of each: its first seed."""
    return _first(reference), None if here is None else _first(here)


def _some(names: Sequence[Any], count: int = SHOWN) -> list[Any]:
    """Names, of which `count` evenly spaced ones are left."""
    picked = np.unique(np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int))
    return [names[i] for i in picked]


def _ordered(table: pd.DataFrame) -> list[str]:
    """Behaviours as a table has them, from the least distinguishable."""
    return list(dict.fromkeys(table["behaviour"]))


def _part(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """The rows with these values."""
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def _last(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["step"] == table["step"].max()]


def _correlated(ax: Axes, rho: Estimate) -> None:
    """A title for a narrow panel."""
    value, _, interval = str(rho).partition(" ")
    ax.set_title(f"ρ = {value}\n{interval}", fontsize=10)


def _whole_steps(ax: Axes) -> None:
    ax.set_xlabel("step")
    ax.locator_params(axis="x", integer=True)


def few(table: pd.DataFrame) -> pd.DataFrame:
    """Some rows of a table, evenly spaced from its first to its last."""
    return table.loc[_some(list(table.index))]


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
        table = _first(tables)[name]
        titles = table["map"] + " δ" + (", " + table["when"] if "when" in table else "")
        maps = {}
        for title in titles.unique():
            part = table[titles == title]
            behaviour = textwrap.shorten(
                part["behaviour"].iloc[0].replace("-", " "), 84 // columns, placeholder="…"
            )
            places = part[["x", "y"]].to_numpy()
            about = (places, list(part["statement"]), part["label"].to_numpy())
            maps[f"{title}\n{style.plain(behaviour)}"] = about
        return style.statement_maps(maps, words, columns)

    if here is None:
        return of(reference)
    return f"{of(reference)}<details><summary>On this machine</summary>{of(here)}</details>"


# The last layer alone ---------------------------------------------------------------------------------


def last_layer(reference: Tables, here: Tables | None) -> Figure:
    """How far the loss has fallen and the weights have moved, over steps, with the bound of Theorem 4.1."""
    known, own = _editions(reference, here)
    curves = known["last_layer_curves"]
    order = _ordered(curves)
    colours = style.ordered_colours(order)
    figure, axes = style.panels(1, 2, height=3.5)
    for name in _some(order):
        part = _part(curves, behaviour=name)
        for ax, column in zip(axes, ("fall", "distance"), strict=True):
            ax.plot(part["step"], part[column], color=colours[name], label=style.readable(name))
        axes[1].plot(part["step"], part["bound"], "--", color=colours[name], linewidth=1.4)
    if own is not None:
        end = _last(own["last_layer_curves"])
        for ax, column in zip(axes, ("fall", "distance"), strict=True):
            style.this_machine(ax, end["step"], end[column])
    for ax, words in zip(axes, ("fall of the loss (nats)", "‖$W_t$ − $W_0$‖"), strict=True):
        ax.set(xscale="log", yscale="log", xlabel="step", ylabel=words)
    axes[0].set_title("Loss")
    axes[1].set_title("Weights")
    style.legend_below(figure)
    return figure


def everyone(reference: Tables, here: Tables | None) -> Figure:
    """Every behaviour: fall, movement and accuracy against distinguishability."""
    known, own = _editions(reference, here)
    table = known["unembedding"]
    shades = list(style.ordered_colours(list(table["behaviour"])).values())
    figure, axes = style.panels(1, 3, sharex=True)
    columns = {
        FALL: statistics.fall_of_last_layer,
        "rate": statistics.movement_of_last_layer,
        "accuracy after": statistics.accuracy_of_last_layer,
    }
    for ax, (column, correlation) in zip(axes, columns.items(), strict=True):
        ax.scatter(table["δ"], table[column], c=shades, s=30, edgecolor="white", linewidth=0.5, zorder=3)
        _correlated(ax, correlation(known))
        ax.set_xlabel(DELTA)
        if own is not None:
            style.this_machine(ax, own["unembedding"]["δ"], own["unembedding"][column], markersize=4)
    for ax, column in zip(axes, ("fall foretold", "rate foretold"), strict=False):
        label = "the first step, repeated"
        ax.plot(table["δ"], table[column], "--", color=style.THEORY, linewidth=1.4, label=label, zorder=5)
    axes[0].set(yscale="log", ylabel="fall of the loss (nats)")
    axes[1].set_ylabel("movement per step (10⁻³)")
    axes[1].yaxis.set_major_formatter(lambda value, _: f"{1e3 * value:g}")
    axes[2].set_ylabel("accuracy after training")
    axes[2].axhline(0.5, color=style.NEUTRAL, linewidth=1)
    style.legend_below(figure)
    return figure


def boundary(reference: Tables, here: Tables | None) -> Figure:
    """The turning of the boundary with its bound, and actual with guaranteed accuracy."""
    known, own = _editions(reference, here)
    curves = known["boundary_curves"]
    order = _ordered(curves)
    colours = style.ordered_colours(order)
    figure, axes = style.panels(1, 2, height=3.5)
    pairs = (("cosine", "bound"), ("accuracy", "guaranteed"))
    for name in _some(order):
        part = _part(curves, behaviour=name)
        for ax, (actual, proved) in zip(axes, pairs, strict=True):
            ax.plot(part["step"], part[actual], color=colours[name], label=style.readable(name))
            ax.plot(part["step"], part[proved], "--", color=colours[name], linewidth=1.4)
    if own is not None:
        end = _last(own["boundary_curves"])
        for ax, (actual, _) in zip(axes, pairs, strict=True):
            style.this_machine(ax, end["step"], end[actual])
    for ax in axes:
        ax.set_xscale("symlog", linthresh=1)
        ax.set_xlabel("step")
    axes[0].set(ylabel="cosine", title="Direction of the boundary")
    axes[1].set(ylabel="accuracy", ylim=(-0.03, 1.03), title="Actual and guaranteed accuracy")
    style.legend_below(figure)
    return figure


# Two behaviours at once -------------------------------------------------------------------------------


def priority(reference: Tables, here: Tables | None) -> Figure:
    """Gaps in priority between all behaviours, and the gap in loss that pairs end with."""
    known, own = _editions(reference, here)
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
    pairs, shade = known["pairs"], style.ordered_colours(names)
    colours = [shade[name] for name in pairs["first"]]
    right.scatter(
        pairs["priority gap"], 1e3 * pairs["loss gap"], s=26, c=colours, edgecolor="white", linewidth=0.4
    )
    if own is not None:
        style.this_machine(
            right, own["pairs"]["priority gap"], 1e3 * own["pairs"]["loss gap"], markersize=3.5
        )
        style.legend_below(figure)
    right.axhline(0, color=style.NEUTRAL, linewidth=1)
    right.axvline(0, color=style.NEUTRAL, linewidth=1)
    right.set(title=f"ρ = {statistics.priority_and_loss_gap(known)}", xlabel="priority gap")
    right.set_ylabel("gap in loss after training (10⁻³ nats)")
    return figure


# All weights ------------------------------------------------------------------------------------------


def fine_tuning(reference: Tables, here: Tables | None) -> Figure:
    """Full fine-tuning: loss of batches, loss before and after, and the fall against distinguishability."""
    known, own = _editions(reference, here)
    curves = known["fine_tuning_curves"]
    order = _ordered(curves)
    colours = style.ordered_colours(order)
    figure, (left, middle, right) = style.panels(1, 3, height=3.6)
    for name in _some(order):
        part = _part(curves, behaviour=name)
        batches = _part(part, split="batch")
        left.plot(batches["step"], batches["loss"], color=colours[name], label=style.readable(name))
        for split, marks in (("training", "o-"), ("held out", "s--")):
            ends = _part(part, split=split)
            middle.plot(ends["step"], ends["loss"], marks, color=colours[name])
    falls = reference["fine_tuning"]
    for name in order:
        part = _part(falls, behaviour=name)
        right.plot(part["δ"], part[FALL], "-", color=colours[name], linewidth=1)
        right.scatter(part["δ"], part[FALL], color=colours[name], s=36, edgecolor="white", zorder=3)
    if own is not None:
        style.this_machine(right, own["fine_tuning"]["δ"], own["fine_tuning"][FALL])
    _whole_steps(left)
    measured = sorted(_part(curves, split="training")["step"].unique())
    middle.set(xlabel="step", xticks=measured, title="Before and after")
    left.set(ylabel="loss (nats)", title="Batches")
    right.axhline(0, color=style.NEUTRAL, linewidth=1)
    right.set(xlabel=DELTA, ylabel="fall of the loss (nats)")
    _correlated(right, statistics.fall_of_all_weights(known))
    style.legend_below(figure)
    return figure


def together(reference: Tables, here: Tables | None) -> Figure:
    """Two behaviours trained together, a pair of large and a pair of small gap in priority."""
    known, own = _editions(reference, here)
    table = known["joint_training"]
    titles = list(dict.fromkeys(table["pair"]))
    figure, axes = style.panels(1, 2, height=4.0, sharey=True)
    for ax, title in zip(axes, titles, strict=True):
        for first, colour in ((True, style.FIRST), (False, style.SECOND)):
            part = _part(table, pair=title, **{"has priority": first})
            fixed, batches = (_part(part, split=split) for split in ("training", "batch"))
            label = style.readable(fixed["behaviour"].iloc[0])
            ax.plot(fixed["step"], fixed["loss"], "o-", color=colour, label=label)
            ax.plot(batches["step"], batches["loss"], color=colour, linewidth=1, alpha=0.5)
            if own is not None:
                mine = _part(own["joint_training"], pair=title, split="training", **{"has priority": first})
                name = style.readable(mine["behaviour"].iloc[0])
                style.this_machine(
                    ax, mine["step"], mine["loss"], colour, line=True, label=f"this machine: {name}"
                )
        ax.set_title(title.capitalize())
        _whole_steps(ax)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=9)
    axes[0].set_ylabel("loss (nats)")
    return figure


# What training does to the hidden states --------------------------------------------------------------


def change(reference: Tables, here: Tables | None) -> Figure:
    """Distinguishability and the clouds' size for their distance, before and after full fine-tuning."""
    known, own = _editions(reference, here)
    table = known["before_and_after"]
    figure, axes = style.panels(1, 2, height=3.4)
    for ax, quantity in zip(axes, ("δ", "Tr Σ / δ²"), strict=True):
        columns = [f"{quantity} before", f"{quantity} after"]
        _slopes(ax, table, columns, ("before", "after"))
        if own is not None:
            for ends in own["before_and_after"][columns].to_numpy():
                style.this_machine(ax, [0, 1], ends, line=True)
        style.logarithmic(ax)
        ax.set_title(quantity)
    style.legend_below(figure)
    return figure


def _slopes(ax: Axes, table: pd.DataFrame, columns: list[str], names: tuple[str, str]) -> None:
    """A line a behaviour from one column to another; the least and the most distinguishable are named."""
    order = _ordered(table)
    colours = style.ordered_colours(order)
    for name, ends in zip(order, table[columns].to_numpy(), strict=True):
        label = style.readable(name) if name in (order[0], order[-1]) else None
        ax.plot([0, 1], ends, "o-", color=colours[name], markersize=5, linewidth=1.6, label=label)
    ax.set(xticks=[0, 1], xticklabels=names, xlim=(-0.25, 1.25))


# Undoing it -------------------------------------------------------------------------------------------


def misalignment(reference: Tables, here: Tables | None) -> Figure:
    """Training on opposite labels from the base and from the aligned model."""
    known, own = _editions(reference, here)
    curves, table = known["misalignment_curves"], known["misalignment"]
    order = _ordered(table)
    figure, axes = style.panels(1, 3, height=3.6, sharey=True)
    starts = {"base": style.NEUTRAL, "aligned": style.NEGATIVE}
    for ax, name, word in zip(axes, (order[0], order[-1]), ("least", "most"), strict=False):
        for start, colour in starts.items():
            part = _part(curves, behaviour=name, start=start)
            ax.plot(part["step"], part["loss"], "o-", color=colour, label=f"from the {start} model")
        ax.set_title(f"{word} distinguishable", fontsize=10)
        _whole_steps(ax)
    columns = ["loss from the base model", "loss from the aligned model"]
    _slopes(axes[2], table, columns, ("base", "aligned"))
    if own is not None:
        for ends in own["misalignment"][columns].to_numpy():
            style.this_machine(axes[2], [0, 1], ends, line=True)
    for ax in axes:
        ax.axhline(LOG_2, color=style.THEORY, linewidth=1, linestyle=":")
    axes[2].set_title(f"after {int(curves['step'].max()) + 1} steps", fontsize=10)
    axes[0].set_ylabel("loss on opposite labels (nats)")
    style.legend_below(figure, ncols=2)
    return figure


def text(reference: Tables, here: Tables | None) -> Figure:
    """Response pairs: how far the chosen response's lead over the rejected one has changed since the base
    model, over steps.
    """
    known, own = _editions(reference, here)
    colours = {
        "aligning": style.FIRST,
        "misaligning the aligned model": style.NEGATIVE,
        "misaligning the base model": style.NEUTRAL,
    }
    figure, (ax,) = style.panels(1, 1, height=4.2, width=7)
    for run, step, lead in _leads(known["text"]):
        ax.plot(step, lead, "o-", color=colours[run], label=run)
    if own is not None:
        for run, step, lead in _leads(own["text"]):
            style.this_machine(ax, step, lead, colours[run], line=True)
    ax.axhline(0, color=style.THEORY, linewidth=1, linestyle=":")
    ax.set_ylabel("change of $\\log\\,\\pi(y_w) - \\log\\,\\pi(y_l)$\n(nats)")
    _whole_steps(ax)
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


# Does the strength matter? ----------------------------------------------------------------------------


def betas(reference: Tables, here: Tables | None) -> Figure:
    """Fall of the loss against distinguishability, a panel a β."""
    known, own = _editions(reference, here)
    falls = known["beta_falls"]
    found = statistics.falls_by_beta(known)
    figure, axes = style.panels(-(-len(found) // 2), 2, height=2.9, sharex=True)
    for ax, (beta, rho) in zip(axes, found.items(), strict=False):
        part = _part(falls, **{"β": beta})
        colours = list(style.ordered_colours(list(part["behaviour"])).values())
        ax.scatter(part["δ"], part[FALL], c=colours, s=46, edgecolor="white", zorder=3)
        if own is not None:
            mine = _part(own["beta_falls"], **{"β": beta})
            style.this_machine(ax, mine["δ"], mine[FALL])
        ax.axhline(0, color=style.NEUTRAL, linewidth=1)
        ax.set(title=f"β = {beta:g}, ρ = {rho}", ylabel="fall (nats)")
    for ax in axes[len(found) :]:
        ax.set_axis_off()
    for ax in axes[max(0, len(found) - 2) : len(found)]:
        ax.set_xlabel(DELTA)
        ax.tick_params(labelbottom=True)
    if own is not None:
        style.legend_below(figure)
    return figure
