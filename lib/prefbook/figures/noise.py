"""The figures of chapter 3, wrong labels, on points in a space: from its tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from prefbook.figures import style
from prefbook.figures.explorer import noise_explorer
from prefbook.ledger.derived import noise as derived
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.theory import noise as theory

MODELS = dict(zip(theory.MODELS, (style.FIRST, style.NEUTRAL, style.SECOND), strict=True))
"""Equation 18 and its rivals, each with its colour."""
LOSSES = {
    "DPO": style.POSITIVE,
    "IPO": style.NEGATIVE,
    "SLiC": style.FIRST,
    "cDPO": style.SECOND,
    "rDPO": "#B8860B",
}
SHOWN = derived.SHOWN
KINDS = {
    "coin": style.THEORY,
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
    one, own = first_runs(reference, here)
    colours = _hues(one)
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
    legend(figure, own, 4)
    return figure


def ipo(reference: Tables, here: Tables | None) -> Figure:
    """The same after training with IPO."""
    return controlled(reference, here, "IPO")


def phase_map(reference: Tables, here: Tables | None) -> Figure:
    """Through time: what each curve's form leaves over, with DPO and with IPO; the fall of accuracy in every
    setting; and the training loss.
    """
    one, own = first_runs(reference, here)
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
    table, hues = one["map_fits"], _hues(one)
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
    legend(figure, own, 4)
    return figure


def late(reference: Tables, here: Tables | None) -> Figure:
    """Accuracy with IPO at some times beside its law, and the law's second number over time."""
    one, own = first_runs(reference, here)
    figure, (left, right) = style.panels(1, 2, height=HEIGHT)
    points = [part for part in _all_regions(one, "IPO") if part[0] == SHOWN]
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
            fine, derived.ridge_law(one, SHOWN, time).accuracy(fine), "--", color=style.THEORY, linewidth=1
        )
    left.plot([], [], "--", color=style.THEORY, linewidth=1, label="ridge law, nothing fitted")
    if own is not None:
        for _, time, runs in _all_regions(own, "IPO"):
            if _ == SHOWN and time in (every[0], every[-1]):
                mean = runs.mean().iloc[FEW]
                this_machine(left, mean.index, mean, shades.get(f"{time:g}", style.THEORY), markersize=4.5)
    left.set(title=f"IPO, {SHOWN}", xlabel="noise rate ε", ylabel="test accuracy", ylim=(0.45, 1))
    grid = np.geomspace(min(every), max(every), 60)
    for name, colour in _hues(one).items():
        ratio = [derived.ridge_law(one, name, float(time)).b for time in grid]
        right.plot(grid, ratio, color=colour, label=name)
    right.axhline(1, color=style.NEUTRAL, linewidth=1)
    right.set(title="b of the law", xlabel="time ηβ² · steps", ylabel="b", xscale="log", ylim=(0, None))
    legend(figure, own, 4)
    return figure


def mirror(reference: Tables, here: Tables | None) -> Figure:
    """Accuracy at ε plus accuracy at 1 − ε, less one."""
    one, own = first_runs(reference, here)
    figure, (ax,) = style.panels(1, 1, width=7, height=3.4)
    colours, others = _hues(one), {} if own is None else derived.sums(own)
    for number, (name, runs) in enumerate(derived.sums(one).items()):
        rates = runs.columns.to_numpy(dtype=float)
        shift = (number - 2) * (rates[1] - rates[0]) / 8
        with_intervals(ax, 100 * runs, colours[name], name, shift)
        if name in others:
            mean = 100 * others[name].mean()
            this_machine(ax, mean.index + shift, mean, colours[name], markersize=3.5)
    ax.axhline(0, color=style.THEORY, linewidth=1, linestyle="--")
    ax.set(xlabel="noise rate ε", ylabel="deviation (points)")
    legend(figure, own, 6)
    return figure


def losses(reference: Tables, here: Tables | None) -> Figure:
    """Accuracy with four losses less that with DPO, over noise rates, after short and long training."""
    one, own = first_runs(reference, here)
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
    legend(figure, own, 6)
    return figure


def kinds(reference: Tables, here: Tables | None) -> Figure:
    """Accuracy under four kinds of noise after one step; and under a coin, each loss at its best length."""
    one, own = first_runs(reference, here)
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
    law = derived.first_step_law(one, SHOWN, fine)
    left.plot(fine, law, "--", color=style.NEUTRAL, linewidth=1, label="first-step law of a coin")
    left.set(title="One step of DPO", xlabel="mean noise rate", ylabel="test accuracy")
    for loss, line in TELLING.items():
        best = derived.best_length(one, "coin", loss)
        colour = LOSSES[loss.split(",")[0]]
        right.plot(best["rate"], best["accuracy"], line, color=colour, markersize=4, label=loss)
        if own is not None:
            ours = derived.best_length(own, "coin", loss)
            this_machine(right, ours["rate"], ours["accuracy"], colour, markersize=4.5)
    right.set(title="A coin, each loss at its best length", xlabel="noise rate ε")
    legend(figure, own, 5)
    return figure


def slips(reference: Tables, here: Tables | None) -> Figure:
    """Four slips of the paper; all curves are computed."""
    one, _ = first_runs(reference, here)
    figure, (constants, share, reading, factor) = style.panels(2, 2, height=3.2)
    _constants(constants, one)
    _share(share)
    _reading(reading, one)
    _factor(factor, one)
    return figure


def bound(reference: Tables, here: Tables | None) -> Figure:
    """The bound of Theorem 3.1 over noise rates with the risk measured where it promises something; and the
    bound of the same proof with exact tails.
    """
    one, own = first_runs(reference, here)
    figure, (left, right) = style.panels(1, 2, height=HEIGHT)
    grid, n = np.linspace(0, 0.07, 141), _points(one)
    for name, colour in style.ordered_colours(["500", "1000", "5000", "50000"]).items():
        for constant, line in ((8, "-"), (4, "--")):
            bounds = [theory.bound(rate, float(name), np.pi, n, constant).risk for rate in grid]
            label = f"γ = {int(name):,}" if constant == 8 else None
            left.plot(grid, bounds, line, color=colour, label=label)
    risks, ceiling = _tight(one)
    tight = f"γ = {one['tight_clouds']['relative kappa'].iloc[0]:,.0f}"
    for none, marker, word in ((False, "o", "measured"), (True, "v", "none wrong")):
        part = risks[(risks == 0) == none]
        if len(part):
            label = f"{word}, {tight}"
            left.plot(part.index, part.clip(lower=ceiling), marker, color=style.THEORY, label=label)
    if own is not None:
        others, lowest = _tight(own)
        this_machine(left, others.index, others.clip(lower=lowest), markersize=8)
        ceiling = min(ceiling, lowest)
    left.set(ylim=(ceiling / 2, 5), xlim=(-0.001, 0.07), ylabel="risk", title="As printed")
    d = int(one["settings"]["dimension"].iloc[0])
    rates = np.linspace(0, 0.25, 101)
    for name, colour in style.ordered_colours(["8", "16", "32", "128"]).items():
        kappa = float(name) * d / 2
        sharp = [theory.sharp_bound(rate, d, kappa, np.pi, n).risk for rate in rates]
        right.plot(rates, np.clip(sharp, 1e-12, None), color=colour, label=f"γ = {name}")
    right.set(ylim=(1e-6, 5), title="With exact tails")
    for ax in (left, right):
        ax.axhline(1, color=style.NEUTRAL, linewidth=1)
        ax.set(yscale="log", xlabel="noise rate ε")
    legend(figure, own, 4)
    return figure


# Parts of figures -----------------------------------------------------------------------------------


def first_runs(reference: Tables, here: Tables | None) -> tuple[Tables, Tables | None]:
    """The tables of the first seed of each."""
    return reference.of(reference.seed), None if here is None else here.of(here.seed)


def this_machine(
    ax: Axes, x: ArrayLike, y: ArrayLike, colour: Any = style.THEORY, markersize: float = 5.5
) -> None:
    """Points of this machine's; `legend` tells what they are."""
    style.this_machine(ax, x, y, colour, label=None, markersize=markersize)


def legend(figure: Figure, own: Tables | None, columns: int) -> None:
    """Below the figure: what its panels have, and at the end how this machine's points are marked."""
    if own is not None:
        style.this_machine(figure.axes[-1], [], [])
    style.legend_below(figure, ncols=columns)


def _points(tables: Tables) -> int:
    """Training points of both labels together."""
    return 2 * int(tables["settings"]["per label"].iloc[0])


def _hues(tables: Tables) -> dict[str, tuple[float, ...]]:
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


def _curve(tables: Tables, training: str, loss: str, setting: str) -> pd.DataFrame:
    table = tables["curves"]
    return table[(table["setting"] == setting) & (table["training"] == training) & (table["loss"] == loss)]


def _difference(tables: Tables, training: str, loss: str) -> pd.DataFrame:
    table = tables["differences"]
    return table[(table["setting"] == SHOWN) & (table["training"] == training) & (table["loss"] == loss)]


def _kind(tables: Tables, kind: str) -> pd.DataFrame:
    """Of a kind of noise, accuracy over noise rates after one step of DPO."""
    table = tables["kinds_of_noise"]
    same = (table["kind"] == kind) & (table["loss"] == "DPO") & (table["time"] == table["time"].min())
    return table[same].sort_values("rate")


def _tight(tables: Tables) -> tuple[pd.Series, float]:
    """Mean risk of the tight clouds by noise rate, and the upper end of a one-sided 95% interval where no
    test point is wrong.
    """
    table = tables["tight_clouds"]
    tested = 2 * int(table["per label"].iloc[0]) * table["trial"].nunique()
    return table.groupby("rate")["risk"].mean(), 3 / tested


def _constants(ax: Axes, tables: Tables) -> None:
    kappas = np.logspace(1, 5, 200)
    for constant, line in ((8, "-"), (4, "--")):
        clean = [theory.bound(0, kappa, np.pi, _points(tables), constant).clean for kappa in kappas]
        ax.plot(kappas, clean, line, color=style.POSITIVE, label=f"k = {constant}")
    ax.axhline(1, color=style.NEUTRAL, linewidth=1)
    ax.set(xscale="log", yscale="log", ylim=(5e-3, 2e2), xlabel="γ", ylabel="bound on the clean risk")
    ax.set_title("Four or eight?")
    ax.legend(fontsize=9)


def _share(ax: Axes) -> None:
    sizes = np.logspace(1, 6, 100)
    for word, line, name in (
        ("printed", "--", "printed"),
        ("hoeffding", "-.", "Hoeffding"),
        ("exact", "-", "exact, ε = 1/4"),
    ):
        shares = [theory.share_deviation(int(n), word, 0.25) for n in sizes]  # type: ignore[arg-type]
        ax.plot(sizes, shares, line, color=style.POSITIVE, label=name)
    ax.plot(sizes, np.sqrt(3 / 16 / (sizes / 2)), ":", color=style.THEORY, label="one s.d.")
    ax.set(xscale="log", yscale="log", xlabel="training points N", ylabel="deviation of the share")
    ax.set_title("How many wrong?")
    ax.legend(fontsize=9)


def _reading(ax: Axes, tables: Tables) -> None:
    d, n = int(tables["settings"]["dimension"].iloc[0]), _points(tables)

    def clean(angles: NDArray[np.float64]) -> list[float]:
        return [theory.first_step_accuracy([0.0], d, d / 16, float(angle), n)[0] for angle in angles]

    angles, thetas = np.linspace(0, 2 * np.pi, 121), np.array([np.pi / 3, 2 * np.pi / 3, np.pi])
    ax.plot(np.degrees(angles), clean(angles), "--", color=style.THEORY, linewidth=1)
    for factor, marker, colour, face, size, word in (
        (1, "o", style.POSITIVE, style.POSITIVE, 7, "whole angle θ"),
        (2, "s", style.NEGATIVE, "none", 12, "whole angle 2θ"),
    ):
        whole = factor * thetas
        marks: dict[str, Any] = {"markersize": size, "markerfacecolor": face, "markeredgewidth": 1.5}
        ax.plot(np.degrees(whole), clean(whole), marker, color=colour, label=word, **marks)
    ax.set(xlabel="angle between the means (°)", ylabel="accuracy at ε = 0", xticks=[0, 120, 240, 360])
    ax.set_title("Which angle?")
    ax.legend(fontsize=9, loc="lower center")


def _factor(ax: Axes, tables: Tables) -> None:
    kappas = np.logspace(1, 5, 200)
    for name, colour in style.ordered_colours(["60°", "120°", "180°"]).items():
        angle = np.radians(int(name[:-1]))
        factor = [theory.bound(0, kappa, angle, _points(tables)).clean * kappa for kappa in kappas]
        ax.plot(kappas, np.sqrt(factor), color=colour, label=name)
    ax.set(xscale="log", yscale="log", xlabel="γ", ylabel="√(R₀ γ)", title="Which way?")
    ax.legend(fontsize=9, title="angle", title_fontsize=9)


# Tables as they are shown ---------------------------------------------------------------------------


def fits(table: pd.DataFrame) -> pd.DataFrame:
    """The fits of Equation 18, each with the interval of its c."""
    c = [f"{row['c']:.3g} [{row['c low']:.3g}, {row['c high']:.3g}]" for _, row in table.iterrows()]
    columns = ["training", "loss", "setting", "clean risk", "R", "R²", "largest residual"]
    return table[columns].assign(**{"c [95%]": c})


def points_of_the_map(table: pd.DataFrame) -> pd.DataFrame:
    """The map at the ends and in the middle of its regions, with DPO: c, the fall, and what is left over."""
    part = table[table["loss"] == "DPO"]
    times = sorted(part["time"].unique())
    some = [times[0], times[len(times) // 2], times[-1]]
    part = part[part["time"].isin(some)]
    c = [f"{row['c']:.3g} [{row['c low']:.3g}, {row['c high']:.3g}]" for _, row in part.iterrows()]
    left = {f"left: {name} (points)": 100 * part[f"excess: {name}"] for name in theory.MODELS}
    return part[["setting", "time", "loss ratio", "clean", "fall"]].assign(**{"c [95%]": c}, **left)


def regime(table: pd.DataFrame) -> pd.DataFrame:
    """Concentrations in whole numbers, and "none" where none is enough."""
    out = table.rename(columns=lambda name: name.replace("hoeffding", "Hoeffding"))
    for name in out.columns[2:]:
        out[name] = [f"{value:,.0f}" if np.isfinite(value) else "none" for value in out[name]]
    return out


def sharp(table: pd.DataFrame) -> pd.DataFrame:
    """The theorem with exact tails: a row a concentration and angle, the bounds at each noise rate."""
    rows = []
    for (gamma, angle), part in table.groupby(["γ", "angle"]):
        row: dict[str, Any] = {"γ": f"{gamma:g}", "angle": f"{angle}°"}
        for _, at in part.iterrows():
            for name in ("bound", "printed"):
                risk = at[name]
                said = "none" if np.isnan(risk) or risk >= 1 else f"{risk:.2g}"
                row[f"ε = {at['ε']:g}, {'exact tails' if name == 'bound' else name}"] = said
        highest = part["highest rate"].iloc[0]
        rows.append({**row, "below one half up to ε": "none" if np.isnan(highest) else f"{highest:g}"})
    return pd.DataFrame(rows)
