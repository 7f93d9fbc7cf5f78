"""The figures of chapter 3 through training time, drawn as those in `noise` are."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from prefbook.figures import style
from prefbook.figures.noise import (
    FEW,
    FINE,
    HEIGHT,
    LOSSES,
    setting_colours,
    this_machine,
    with_intervals,
)
from prefbook.ledger.derived import noise as derived
from prefbook.ledger.tables import Tables
from prefdyn.theory import noise as theory

MODELS = dict(zip(theory.MODELS, (style.FIRST, style.NEUTRAL, style.SECOND), strict=True))
"""Equation 18 and its rivals, each with its colour."""


def phase_map(reference: Tables, here: Tables | None) -> Figure:
    """Through time: what each curve's form leaves over, with DPO and with IPO; the fall of accuracy in every
    setting; and the training loss.
    """
    one, own = style.first_runs(reference, here)
    figure, axes = style.panels(2, 2, height=2.9, sharex=True)
    for ax, loss in zip(axes, ("DPO", "IPO"), strict=False):
        for name, colour in MODELS.items():
            left = _left_over(one, loss, name)
            ax.plot(left.index, left, "o-", markersize=4, color=colour, label=name)
            if own is not None:
                ours = _left_over(own, loss, name)
                this_machine(ax, ours.index, ours, colour, markersize=4.5)
        ax.axhline(0, color=style.NEUTRAL, linewidth=1)
        ax.set(title=f"Left over, {loss}", ylabel="points of accuracy")
    table, hues = one["map_fits"], setting_colours(one)
    for name, hue in hues.items():
        part = table[(table["setting"] == name) & (table["loss"] == "DPO")]
        half = 100 * (part["fall high"] - part["fall low"]) / 2
        axes[2].errorbar(
            part["time"],
            100 * part["fall"],
            half,
            color=hue,
            linewidth=1.2,
            marker="o",
            markersize=3,
            label=name,
        )
    axes[2].set(title="Fall of accuracy to ε = 0.2, DPO", ylabel="points", xlabel="time ηβ² · steps")
    for loss in ("DPO", "IPO", "SLiC"):
        ratios = _by_time(one, loss, "loss ratio")
        axes[3].plot(ratios.index, ratios, "o-", markersize=4, color=LOSSES[loss], label=loss)
    axes[3].set(title="Loss, as a share of what it was", xlabel="time ηβ² · steps", ylim=(0, 1.05))
    for ax in axes:
        ax.set_xscale("log")
        for region, shade in (("stopping", "#e8f1f8"), ("long", "#fdf0e6")):
            times = table[(table["region"] == region) & (table["loss"] == "DPO")]["time"]
            if len(times):
                ax.axvspan(times.min() / 1.5, times.max() * 1.5, color=shade, linewidth=0, zorder=0)
    style.legend_of_both(figure, own)
    return figure


def late(reference: Tables, here: Tables | None) -> Figure:
    """Accuracy with IPO at some times beside its law, and the law's second number over time."""
    one, own = style.first_runs(reference, here)
    figure, (left, right) = style.panels(1, 2, height=HEIGHT)
    points = [part for part in _all_regions(one, "IPO") if part[0] == derived.SHOWN]
    points.sort(key=lambda part: part[1])
    every = [time for _, time, _ in points]
    some = every if len(every) < 5 else [every[i] for i in (0, -4, -3, -1)]
    shades = style.ordered_colours([f"{time:g}" for time in some])
    for _, time, runs in points:
        if time not in some:
            continue
        colour = shades[f"{time:g}"]
        with_intervals(left, runs, colour, f"time {time:g}")
        fine = FINE[FINE <= 0.5]
        left.plot(
            fine,
            derived.ridge_law(one, derived.SHOWN, time).accuracy(fine),
            "--",
            color=style.THEORY,
            linewidth=1,
        )
    left.plot([], [], "--", color=style.THEORY, linewidth=1, label="ridge law, nothing fitted")
    if own is not None:
        for _, time, runs in _all_regions(own, "IPO"):
            if _ == derived.SHOWN and time in (every[0], every[-1]):
                mean = runs.mean().iloc[FEW]
                this_machine(left, mean.index, mean, shades.get(f"{time:g}", style.THEORY), markersize=4.5)
    left.set(title=f"IPO, {derived.SHOWN}", xlabel="noise rate ε", ylabel="test accuracy", ylim=(0.45, 1))
    grid = np.geomspace(min(every), max(every), 60)
    for name, colour in setting_colours(one).items():
        ratio = [derived.ridge_law(one, name, float(time)).b for time in grid]
        right.plot(grid, ratio, color=colour, label=name)
    right.axhline(1, color=style.NEUTRAL, linewidth=1)
    right.set(title="b of the law", xlabel="time ηβ² · steps", ylabel="b", xscale="log", ylim=(0, None))
    style.legend_of_both(figure, own)
    return figure


def _left_over(tables: Tables, loss: str, model: str) -> pd.Series:
    """By time, what a form leaves over, root mean square over settings, in points; see `phase_map`."""
    table = tables["map_fits"]
    part = table[table["loss"] == loss]
    left = part[f"excess: {model}"]
    square = (np.sign(left) * left**2).groupby(part["time"]).mean()
    return 100 * np.sign(square) * np.sqrt(square.abs())


def _by_time(tables: Tables, loss: str, column: str) -> pd.Series:
    table = tables["map_fits"]
    return table[table["loss"] == loss].groupby("time")[column].mean()


def _all_regions(tables: Tables, loss: str) -> list[tuple[str, float, pd.DataFrame]]:
    regions = ("stopping", "between", "long")
    return [point for region in regions for point in derived.on_map(tables, loss, region)]


def points_of_the_map(table: pd.DataFrame) -> pd.DataFrame:
    """The map at the ends and in the middle of its regions, with DPO: c, the fall, and what is left over."""
    part = table[table["loss"] == "DPO"]
    times = sorted(part["time"].unique())
    some = [times[0], times[len(times) // 2], times[-1]]
    part = part[part["time"].isin(some)]
    c = [f"{row['c']:.3g} [{row['c low']:.3g}, {row['c high']:.3g}]" for _, row in part.iterrows()]
    left = {f"left: {name} (points)": 100 * part[f"excess: {name}"] for name in theory.MODELS}
    return part[["setting", "time", "loss ratio", "clean", "fall"]].assign(**{"c [95%]": c}, **left)
