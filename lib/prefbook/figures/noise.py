"""The figures of chapter 3, wrong labels, on its controlled experiment: from its tables.

Those through training time are in `noise_map`, those on the theorem in `noise_bounds`, those on hidden states
and on response pairs in `noise_states`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from prefbook.figures import style
from prefbook.figures.explorer import noise_explorer
from prefbook.ledger.derived import noise as derived
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.theory import noise as theory

LOSSES = {
    "DPO": style.POSITIVE,
    "IPO": style.NEGATIVE,
    "SLiC": style.FIRST,
    "cDPO": style.SECOND,
    "rDPO": "#B8860B",
}
KINDS = {
    "coin": style.SECOND,
    "by margin": style.POSITIVE,
    "by uncertainty": style.FIRST,
    "one-sided": style.NEGATIVE,
}
"""Kinds of noise, each with its colour."""
TELLING = {
    "DPO": "o-",
    "cDPO": "s-",
    "rDPO": "^-",
    "cDPO, told 0.2": "s:",
    "rDPO, told 0.2": "^:",
}
FINE = np.linspace(0, 1, 201)
HEIGHT = 3.2
FEW = slice(None, None, 4)
"""Noise rates at which this machine's points are drawn on a line."""


def circle(reference: Tables, here: Tables | None) -> str:
    """Points on a circle, some of them with wrong labels, and the boundary that they teach; with sliders."""
    return noise_explorer()


def controlled(reference: Tables, here: Tables | None, loss: str = "DPO") -> Figure:
    """Accuracy over noise rates after short training, with Equation 18 and the first-step law."""
    one, own = style.first_runs(reference, here)
    colours = setting_colours(one)
    figure, axes = style.panels(1, 2, height=HEIGHT, sharey=True)
    for ax, (title, chain) in zip(axes, derived.chains(one, "θ").items(), strict=True):
        for name in chain:
            curve = _curve(one, "short", loss, name)
            middle, reach = curve["accuracy"], (curve["high"] - curve["low"]) / 2
            ax.errorbar(
                curve["rate"],
                middle,
                reach,
                fmt="o",
                markersize=3,
                linewidth=1,
                color=colours[name],
                label=name,
            )
            _fit(ax, one, name, loss, colours[name])
            law = derived.first_step_law(one, name, FINE)
            ax.plot(FINE, law, "--", color=style.THEORY, linewidth=1, label="first-step law", zorder=1)
            if own is not None:
                points = _curve(own, "short", loss, name).iloc[FEW]
                this_machine(ax, points["rate"], points["accuracy"], colours[name], markersize=4.5)
        ax.set(title=title, xlabel="noise rate ε", ylim=(0, 1))
    axes[0].set_ylabel("test accuracy")
    axes[0].plot([], [], color=style.NEUTRAL, label="Equation 18, fitted up to 0.35")
    style.legend_of_both(figure, own)
    return figure


def ipo(reference: Tables, here: Tables | None) -> Figure:
    """The same after training with IPO."""
    return controlled(reference, here, "IPO")


def mirror(reference: Tables, here: Tables | None) -> Figure:
    """Accuracy at ε plus accuracy at 1 − ε, less one."""
    one, own = style.first_runs(reference, here)
    figure, (ax,) = style.panels(1, 1, width=7, height=3.4)
    colours, others = setting_colours(one), {} if own is None else derived.sums(own)
    for number, (name, runs) in enumerate(derived.sums(one).items()):
        rates = runs.columns.to_numpy(dtype=float)
        shift = (number - 2) * (rates[1] - rates[0]) / 8
        with_intervals(ax, 100 * runs, colours[name], name, shift)
        if name in others:
            mean = 100 * others[name].mean()
            this_machine(ax, mean.index + shift, mean, colours[name], markersize=3.5)
    ax.axhline(0, color=style.THEORY, linewidth=1, linestyle="--")
    ax.set(xlabel="noise rate ε", ylabel="deviation (points)")
    style.legend_of_both(figure, own)
    return figure


def losses(reference: Tables, here: Tables | None) -> Figure:
    """Accuracy with four losses less that with DPO, over noise rates, after short and long training."""
    one, own = style.first_runs(reference, here)
    figure, axes = style.panels(1, 2, height=HEIGHT)
    for ax, training in zip(axes, ("short", "long"), strict=True):
        for loss, colour in LOSSES.items():
            if loss == "DPO":
                continue
            part = _difference(one, training, loss)
            ax.plot(part["rate"], 100 * part["difference"], color=colour, label=loss)
            low, high = 100 * part["low"], 100 * part["high"]
            ax.fill_between(part["rate"], low, high, color=colour, alpha=0.2, linewidth=0)
            if own is not None:
                points = _difference(own, training, loss).iloc[FEW]
                this_machine(ax, points["rate"], 100 * points["difference"], colour, markersize=4.5)
        ax.axhline(0, color=LOSSES["DPO"], linewidth=1, label="DPO")
        ax.set(title=f"{training.capitalize()} training", xlabel="noise rate ε")
    axes[0].set_ylabel("accuracy less DPO's (points)")
    style.legend_of_both(figure, own, 6)
    return figure


def kinds(reference: Tables, here: Tables | None) -> Figure:
    """Accuracy under four kinds of noise after one step; and under a coin, each loss at its best length."""
    one, own = style.first_runs(reference, here)
    figure, (left, right) = style.panels(1, 2, height=HEIGHT, sharey=True)
    for kind, colour in KINDS.items():
        part = _kind(one, kind)
        half = (part["high"] - part["low"]) / 2
        left.errorbar(
            part["rate"], part["accuracy"], half, marker="o", markersize=4, color=colour, label=kind
        )
        if own is not None:
            ours = _kind(own, kind)
            this_machine(left, ours["rate"], ours["accuracy"], colour, markersize=4.5)
    fine = FINE[FINE <= 0.4]
    law = derived.first_step_law(one, derived.SHOWN, fine)
    left.plot(fine, law, "--", color=style.THEORY, linewidth=1, label="first-step law of a coin")
    left.set(title="One step of DPO", xlabel="mean noise rate", ylabel="test accuracy")
    for loss, line in TELLING.items():
        best = derived.best_length(one, "coin", loss)
        colour = LOSSES[loss.split(",")[0]]
        right.plot(best["rate"], best["accuracy"], line, color=colour, markersize=4, label=loss)
        if own is not None:
            ours = derived.best_length(own, "coin", loss)
            this_machine(right, ours["rate"], ours["accuracy"], colour, markersize=4.5)
    right.set(title="A coin, each loss at its best length", xlabel="noise rate ε")
    style.legend_of_both(figure, own, 5)
    return figure


# Parts of figures -----------------------------------------------------------------------------------


def this_machine(
    ax: Axes, x: ArrayLike, y: ArrayLike, colour: Any = style.THEORY, markersize: float = 5.5
) -> None:
    """Points of this machine's; `style.legend_of_both` tells what they are."""
    style.this_machine(ax, x, y, colour, label=None, markersize=markersize)


def setting_colours(tables: Tables) -> dict[str, tuple[float, ...]]:
    """A colour for each setting of the controlled experiment, by its name."""
    return style.ordered_colours(derived.settings(tables))


def _means(runs: pd.DataFrame) -> list[estimates.Estimate]:
    return [estimates.mean(column) for column in runs.to_numpy().T]


def with_intervals(
    ax: Axes,
    runs: pd.DataFrame,
    colour: object,
    label: str,
    shift: float = 0.0,
    markersize: float = 3,
    capsize: float = 0,
) -> None:
    """The mean of each column over rows, with its Student interval."""
    each = _means(runs)
    ax.errorbar(
        runs.columns.to_numpy(dtype=float) + shift,
        [e.value for e in each],
        [e.high - e.value for e in each],
        fmt="o",
        markersize=markersize,
        linewidth=1,
        capsize=capsize,
        color=colour,
        label=label,
    )


def _fit(ax: Axes, tables: Tables, setting: str, loss: str, colour: object) -> None:
    fits = tables["equation_18"]
    same = (fits["setting"] == setting) & (fits["loss"] == loss) & (fits["training"] == "short")
    row = fits[same].iloc[0]
    at = FINE[theory.FITTED + derived.NEAR >= FINE]
    ax.plot(at, 1 - theory.equation_18(at, row["R"], row["c"]), color=colour)


def _curve(tables: Tables, training: str, loss: str, setting: str) -> pd.DataFrame:
    table = tables["curves"]
    return table[(table["setting"] == setting) & (table["training"] == training) & (table["loss"] == loss)]


def _difference(tables: Tables, training: str, loss: str) -> pd.DataFrame:
    table = tables["differences"]
    return table[
        (table["setting"] == derived.SHOWN) & (table["training"] == training) & (table["loss"] == loss)
    ]


def _kind(tables: Tables, kind: str) -> pd.DataFrame:
    """Of a kind of noise, accuracy over noise rates after one step of DPO."""
    table = tables["kinds_of_noise"]
    same = (table["kind"] == kind) & (table["loss"] == "DPO") & (table["time"] == table["time"].min())
    return table[same].sort_values("rate")


# Tables as they are shown ---------------------------------------------------------------------------


def fits(table: pd.DataFrame) -> pd.DataFrame:
    """The fits of Equation 18, each with the interval of its c."""
    c = [f"{row['c']:.3g} [{row['c low']:.3g}, {row['c high']:.3g}]" for _, row in table.iterrows()]
    columns = ["training", "loss", "setting", "clean risk", "R", "R²", "largest residual"]
    return table[columns].assign(**{"c [95%]": c})
