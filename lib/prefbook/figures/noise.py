"""The figures of chapter 3, wrong labels: from its tables."""

from __future__ import annotations

from typing import Any

import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from prefbook.figures import style
from prefbook.figures.explorer import noise_explorer
from prefbook.ledger.statistics import noise as measured
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
STATES = {"raw": (style.SECOND, "s"), "centred": (style.FIRST, "o")}
SHOWN = "γ = 1/4"
"""The setting that is shown where one is."""
NAMES = {"γ = 1/8": "γ = 1/8, angle π/3"}
"""Settings that a legend names more fully."""
FINE = np.linspace(0, 1, 201)
HEIGHT = 3.2
FEW = slice(None, None, 4)
"""Noise rates at which this machine's points are drawn on a line."""


def circle(reference: Tables, here: Tables | None) -> str:
    """Points on a circle, some of them with wrong labels, and the boundary that they teach; with sliders."""
    return noise_explorer()


def controlled(reference: Tables, here: Tables | None, loss: str = "DPO") -> Figure:
    """Accuracy over noise rates after short training, with Equation 18 and the first-step law."""
    one, own = _runs(reference, here)
    colours = _hues(one)
    figure, axes = style.panels(1, 2, height=HEIGHT, sharey=True)
    for ax, (title, chain) in zip(axes, measured.chains(one).items(), strict=True):
        for name in chain:
            _with_intervals(ax, measured.accuracies(one, name, loss), colours[name], NAMES.get(name, name))
            _fit(ax, one, name, loss, colours[name])
            law = measured.first_step_law(one, name, FINE)
            ax.plot(FINE, law, "--", color=style.THEORY, linewidth=1, label="first-step law", zorder=1)
            if own is not None:
                mean = measured.accuracies(own, name, loss).mean()
                _ours(ax, mean.index[FEW], mean[FEW], colours[name], markersize=4.5)
        ax.set(title=title, xlabel="noise rate ε", ylim=(0, 1))
    axes[0].set_ylabel("test accuracy")
    axes[0].plot([], [], color=style.NEUTRAL, label="Equation 18, fitted up to 0.35")
    _legend(figure, own, 4)
    return figure


def ipo(reference: Tables, here: Tables | None) -> Figure:
    """The same after training with IPO."""
    return controlled(reference, here, "IPO")


def rivals(reference: Tables, here: Tables | None) -> Figure:
    """What Equation 18 and its rivals leave over, and how far each is off beyond what it was fitted to."""
    one, own = _runs(reference, here)
    figure, (left, right) = style.panels(1, 2, height=HEIGHT)
    runs = measured.fitted(measured.accuracies(one, SHOWN))
    half = np.array([100 * (e.high - e.value) for e in _means(runs)])
    rates = runs.columns.to_numpy(dtype=float)
    left.fill_between(rates, -half, half, color="#e8e8e8", linewidth=0)
    for name, colour in MODELS.items():
        left.plot(rates, _left_over(runs, name), "o-", markersize=3, color=colour, label=name)
        if own is not None:
            other = measured.fitted(measured.accuracies(own, SHOWN))
            _ours(left, other.columns, _left_over(other, name), colour, markersize=4.5)
    left.axhline(0, color=style.NEUTRAL, linewidth=1)
    left.set(xlabel="noise rate ε", ylabel="residual (points of accuracy)")
    left.set_title(f"What is left over, {SHOWN}")

    names = measured.settings(one)
    for number, (name, colour) in enumerate({**MODELS, "first-step law": style.THEORY}.items()):
        place = np.arange(len(names)) + 0.14 * (number - 1.5)
        error, *ends = np.transpose([_beyond(one, name, setting) for setting in names])
        marker = "s" if name == "first-step law" else "o"
        lengths = np.abs(np.array(ends) - error)
        right.errorbar(
            place, error, lengths, fmt=marker, markersize=6, linewidth=1.2, color=colour, label=name
        )
        if own is not None:
            errors = [_beyond(own, name, setting)[0] for setting in names]
            _ours(right, place, errors, colour, markersize=4.5)
    right.set(yscale="log", ylabel="error in accuracy", title="Continued to ε = 0.5")
    right.set_xticks(range(len(names)), names, rotation=30, ha="right")
    _legend(figure, own, 5)
    return figure


def mirror(reference: Tables, here: Tables | None) -> Figure:
    """Accuracy at ε plus accuracy at 1 − ε, less one."""
    one, own = _runs(reference, here)
    figure, (ax,) = style.panels(1, 1, width=7, height=3.4)
    colours, others = _hues(one), {} if own is None else measured.sums(own)
    for number, (name, runs) in enumerate(measured.sums(one).items()):
        rates = runs.columns.to_numpy(dtype=float)
        shift = (number - 2) * (rates[1] - rates[0]) / 8
        _with_intervals(ax, 100 * runs, colours[name], name, shift)
        if name in others:
            mean = 100 * others[name].mean()
            _ours(ax, mean.index + shift, mean, colours[name], markersize=3.5)
    ax.axhline(0, color=style.THEORY, linewidth=1, linestyle="--")
    ax.set(xlabel="noise rate ε", ylabel="deviation (points)")
    _legend(figure, own, 6)
    return figure


def losses(reference: Tables, here: Tables | None) -> Figure:
    """Accuracy over noise rates with five losses, after short and after long training."""
    one, own = _runs(reference, here)
    figure, axes = style.panels(1, 2, height=HEIGHT, sharey=True)
    for ax, training in zip(axes, ("short", "long"), strict=True):
        for number, (loss, colour) in enumerate(LOSSES.items()):
            curve = _curve(one, training, loss)
            ax.plot(curve["rate"], curve["accuracy"], color=colour, linewidth=5 - number, label=loss)
            ax.fill_between(curve["rate"], curve["low"], curve["high"], color=colour, alpha=0.2, linewidth=0)
            if own is not None:
                points = _curve(own, training, loss).iloc[FEW]
                _ours(ax, points["rate"], points["accuracy"], colour, markersize=4.5)
        law = measured.first_step_law(one, SHOWN, FINE)
        ax.plot(FINE, law, "--", color=style.THEORY, linewidth=1, label="first-step law")
        ax.set(title=f"{training.capitalize()} training", xlabel="noise rate ε", ylim=(0, 1))
    axes[0].set_ylabel("test accuracy")
    _legend(figure, own, 7)
    return figure


def slips(reference: Tables, here: Tables | None) -> Figure:
    """Four slips of the paper; all curves are computed."""
    one, _ = _runs(reference, here)
    figure, (constants, share, reading, factor) = style.panels(2, 2, height=3.2)
    _constants(constants, one)
    _share(share)
    _reading(reading, one)
    _factor(factor, one)
    return figure


def bound(reference: Tables, here: Tables | None) -> Figure:
    """The bound of Theorem 3.1 over noise rates, and the risk measured where it promises something."""
    one, own = _runs(reference, here)
    figure, (ax,) = style.panels(1, 1, width=7)
    grid, n = np.linspace(0, 0.07, 281), _points(one)
    for name, colour in style.ordered_colours(["500", "1000", "5000", "50000"]).items():
        for constant, line in ((8, "-"), (4, "--")):
            bounds = [theory.bound(rate, float(name), np.pi, n, constant).risk for rate in grid]
            label = f"γ = {int(name):,}" if constant == 8 else None
            ax.plot(grid, bounds, line, color=colour, label=label)
    risks, ceiling = _tight(one)
    tight = f"γ = {one['tight_clouds']['relative kappa'].iloc[0]:,.0f}"
    for none, marker, word in ((False, "o", "measured"), (True, "v", "none wrong")):
        part = risks[(risks == 0) == none]
        if len(part):
            label = f"{word}, {tight}"
            ax.plot(part.index, part.clip(lower=ceiling), marker, color=style.THEORY, label=label)
    if own is not None:
        others, lowest = _tight(own)
        _ours(ax, others.index, others.clip(lower=lowest), markersize=8)
        ceiling = min(ceiling, lowest)
    ax.axhline(1, color=style.NEUTRAL, linewidth=1)
    ax.set(yscale="log", ylim=(ceiling / 2, 5), xlim=(-0.001, 0.07), xlabel="noise rate ε", ylabel="risk")
    _legend(figure, own, 4)
    return figure


def personas(reference: Tables, here: Tables | None) -> Figure:
    """Accuracy over noise rates on every behaviour's hidden states, as they are and centred."""
    one, own = _runs(reference, here)
    figure, axes = style.panels(1, 2, height=HEIGHT, sharey=True)
    order = list(one["persona_noise"].sort_values("δ")["behaviour"])
    colours, curves = style.ordered_colours(order), one["persona_curves"]
    parts = dict(iter(curves.groupby("behaviour")))
    for ax, word in zip(axes, STATES, strict=True):
        for name, colour in colours.items():
            ax.plot(parts[name]["rate"], parts[name][word], color=colour, linewidth=0.9, alpha=0.8)
        mean = curves.groupby("rate")[word].mean()
        ax.plot(mean.index, mean, color="white", linewidth=5)
        ax.plot(mean.index, mean, color=style.THEORY, linewidth=2.5, label="mean over behaviours")
        if own is not None:
            other = own["persona_curves"].groupby("rate")[word].mean()
            _ours(ax, other.index[FEW], other.iloc[FEW])
        ax.axhline(0.5, color=style.NEUTRAL, linewidth=1)
        ax.set(title=word.capitalize(), xlabel="noise rate ε", ylim=(0.3, 1.02))
    axes[0].set_ylabel("accuracy on held-out statements")
    _legend(figure, own, 3)
    return figure


def predict(reference: Tables, here: Tables | None) -> Figure:
    """Accuracy at a noise rate of 0.2 against what might foretell it, one point a behaviour."""
    one, own = _runs(reference, here)
    figure, axes = style.panels(1, 2, height=HEIGHT, sharey=True)
    table = one["persona_noise"]
    for ax, column in zip(axes, ("δ", "Tr Σ / δ²"), strict=True):
        for word, (colour, marker) in STATES.items():
            x, y = table[column], table[f"at ε = 0.2, {word}"]
            points = {"s": 34, "edgecolor": "white", "linewidth": 0.5}
            ax.scatter(x, y, color=colour, marker=marker, label=word, **points)
            if own is not None:
                other = own["persona_noise"]
                _ours(ax, other[column], other[f"at ε = 0.2, {word}"], colour)
        ax.axhline(0.5, color=style.NEUTRAL, linewidth=1)
        ax.set(xscale="log", xlabel=column)
        ax.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes[0].set_ylabel("accuracy at ε = 0.2")
    _legend(figure, own, 3)
    return figure


def effective(reference: Tables, here: Tables | None) -> Figure:
    """What labels that are wrong already do to the curve over the noise that is added; computed."""
    one, _ = _runs(reference, here)
    figure, (ax,) = style.panels(1, 1, width=6, height=3.2)
    added = np.linspace(0, 0.5, 51)
    already = measured.first_step_law(one, SHOWN, 0.3 + 0.4 * added)
    for y, line, colour, word in (
        (measured.first_step_law(one, SHOWN, added), "--", style.THEORY, "clean"),
        (already, "-", style.FIRST, "30% wrong already"),
        (0.3 + 0.4 * already, ":", style.SECOND, "… and in the test as well"),
    ):
        ax.plot(added, y, line, color=colour, label=word)
    ax.set(xlabel="added noise ε", ylabel="accuracy")
    style.legend_below(figure)
    return figure


def text(reference: Tables, here: Tables | None) -> Figure:
    """Accuracy and mean margin on response pairs after training all weights on wrong labels."""
    one, own = _runs(reference, here)
    figure, (left, right) = style.panels(1, 2, height=HEIGHT)
    for ax, column in ((left, "accuracy"), (right, "margin")):
        runs = measured.text_runs(one, column)
        for _, row in runs.iterrows():
            ax.plot(runs.columns, row, "o", color=style.NEUTRAL, markersize=4, alpha=0.6)
        _with_intervals(ax, runs, style.POSITIVE, "mean over runs", markersize=6, capsize=3)
        if own is not None:
            mean = measured.text_runs(own, column).mean()
            _ours(ax, mean.index, mean, style.POSITIVE)
        ax.set(xlabel="noise rate ε")
    runs = measured.text_runs(one)
    rates = runs.columns.to_numpy(dtype=float)
    grid = np.linspace(0, rates[-1], 101)
    for name, line in (("Equation 18", "-"), ("straight line", "-.")):
        curve = 1 - theory.predict(name, rates, 1 - runs.mean(), grid)
        left.plot(grid, curve, line, color=MODELS[name], linewidth=1.5, label=name)
    right.axhline(0, color=style.NEUTRAL, linewidth=1)
    left.set(ylabel="test accuracy", ylim=(-0.03, 1.03))
    right.set(ylabel="mean margin on test pairs")
    _legend(figure, own, 4)
    return figure


# Parts of figures -----------------------------------------------------------------------------------


def _runs(reference: Tables, here: Tables | None) -> tuple[Tables, Tables | None]:
    """The tables of the first seed of each."""
    return reference.of(reference.seed), None if here is None else here.of(here.seed)


def _ours(ax: Axes, x: ArrayLike, y: ArrayLike, colour: Any = style.THEORY, markersize: float = 5.5) -> None:
    """Points of this machine's; `_legend` tells what they are."""
    style.this_machine(ax, x, y, colour, label=None, markersize=markersize)


def _legend(figure: Figure, own: Tables | None, columns: int) -> None:
    """Below the figure: what its panels have, and at the end how this machine's points are marked."""
    if own is not None:
        style.this_machine(figure.axes[-1], [], [])
    style.legend_below(figure, ncols=columns)


def _points(tables: Tables) -> int:
    """Training points of both labels together."""
    return 2 * int(tables["settings"]["per label"].iloc[0])


def _hues(tables: Tables) -> dict[str, tuple[float, ...]]:
    return style.ordered_colours(measured.settings(tables))


def _means(runs: pd.DataFrame) -> list[estimates.Estimate]:
    return [estimates.mean(column) for column in runs.to_numpy().T]


def _with_intervals(
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
    row = fits[(fits["setting"] == setting) & (fits["loss"] == loss)].iloc[0]
    at = FINE[theory.FITTED + measured.NEAR >= FINE]
    ax.plot(at, 1 - theory.equation_18(at, row["R"], row["c"]), color=colour)


def _left_over(runs: pd.DataFrame, model: str) -> NDArray[np.float64]:
    """Mean accuracy less a fitted curve, in points."""
    rates, mean = runs.columns.to_numpy(dtype=float), runs.mean().to_numpy()
    return 100 * (mean - 1 + theory.predict(model, rates, 1 - mean, rates))


def _beyond(tables: Tables, model: str, setting: str) -> tuple[float, float, float]:
    """Error on the mean at 0.35 to 0.5 of what was fitted up to 0.35, with its interval over trials."""
    runs = measured.accuracies(tables, setting)
    risks, rates = 1 - runs.to_numpy(), runs.columns.to_numpy(dtype=float)
    trials = len(risks)
    draws = np.random.default_rng(tables.seed).integers(trials, size=(1000, trials))
    means = np.vstack([risks.mean(axis=0), risks[draws].mean(axis=1)])
    low, far = rates <= theory.FITTED + measured.NEAR, rates <= 0.5 + measured.NEAR
    far &= ~low
    if model in theory.MODELS:
        guess = theory.predict(model, rates[low], means[:, low], rates[far])
    else:
        guess = 1 - measured.first_step_law(tables, setting, rates[far])
    errors = np.sqrt(((guess - means[:, far]) ** 2).mean(axis=1))
    ends = np.percentile(errors[1:], [2.5, 97.5])
    return float(errors[0]), float(min(ends[0], errors[0])), float(max(ends[1], errors[0]))


def _curve(tables: Tables, training: str, loss: str) -> pd.DataFrame:
    table = tables["curves"]
    return table[(table["setting"] == SHOWN) & (table["training"] == training) & (table["loss"] == loss)]


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
    for word, line, name in (("printed", "--", "printed"), ("hoeffding", "-", "Hoeffding")):
        shares = [theory.share_deviation(n, word) for n in sizes]  # type: ignore[arg-type]
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
    """The fits of Equation 18, each with the interval of its c and the errors of its rivals."""
    c = [f"{row['c']:.3g} [{row['c low']:.3g}, {row['c high']:.3g}]" for _, row in table.iterrows()]
    errors = {f"error: {model}": table[f"held out: {model}"] for model in theory.MODELS}
    columns = ["loss", "setting", "clean risk", "R", "R²", "largest residual"]
    return table[columns].assign(**{"c [95%]": c}, **errors)


def looks(table: pd.DataFrame, rows: int = 10) -> pd.DataFrame:
    """Some behaviours, from the smallest ratio of variances to the largest; variances in millionths."""
    order = table.sort_values("ratio")
    some = order.iloc[np.linspace(0, len(order) - 1, min(rows, len(order))).astype(int)]
    millionths = {f"{name} (10⁻⁶)": 1e6 * some[name] for name in ("variance of the cosine", "that of a vMF")}
    shown = some[["behaviour", "spread of the norm", "cosine", "γ"]].assign(**millionths)
    return shown.assign(**{name: some[name] for name in ("ratio", "angle (°)")})


def regime(table: pd.DataFrame) -> pd.DataFrame:
    """Concentrations in whole numbers, and "none" where none is enough."""
    out = table.rename(columns=lambda name: name.replace("hoeffding", "Hoeffding"))
    for name in out.columns[2:]:
        out[name] = [f"{value:,.0f}" if np.isfinite(value) else "none" for value in out[name]]
    return out


def correlations(table: pd.DataFrame) -> pd.DataFrame:
    """A row a predictor and a column an outcome."""
    said = [
        str(estimates.Estimate(row["correlation"], row["low"], row["high"], row["n"]))
        for _, row in table.iterrows()
    ]
    wide = table.assign(said=said).pivot(index="predictor", columns="outcome", values="said")
    ordered = wide.loc[table["predictor"].unique(), table["outcome"].unique()]
    return ordered.reset_index().rename_axis(columns=None)
