"""The figures of chapter 3 on Theorem 3.1, what it promises and its slips, drawn as those in `noise` are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from prefbook.figures import style
from prefbook.figures.noise import HEIGHT, this_machine
from prefbook.ledger.tables import Tables
from prefdyn.theory import noise as theory


def slips(reference: Tables, here: Tables | None) -> Figure:
    """Four slips of the paper; all curves are computed."""
    one, _ = style.first_runs(reference, here)
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
    one, own = style.first_runs(reference, here)
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
    style.legend_of_both(figure, own)
    return figure


def _points(tables: Tables) -> int:
    """Training points of both labels together."""
    return 2 * int(tables["settings"]["per label"].iloc[0])


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
