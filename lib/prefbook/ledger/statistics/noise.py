"""What the claims of the chapter `noise` are judged by, and the other numbers that it quotes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate
from prefdyn.theory import noise as theory
from prefdyn.theory import vmf

NEAR = 1e-9
"""Noise rates are the same where they differ by less."""
STATES = ("raw", "centred")

# What figures take, too -----------------------------------------------------------------------------


def settings(tables: Tables) -> list[str]:
    """Names of the controlled experiment's settings."""
    return list(tables["settings"]["setting"])


def accuracies(tables: Tables, setting: str, loss: str = "DPO") -> pd.DataFrame:
    """Test accuracy after short training, a row a trial and a column a noise rate."""
    table = tables["accuracies"]
    part = table[(table["setting"] == setting) & (table["loss"] == loss)]
    return part.pivot(index="trial", columns="rate", values="accuracy")


def fitted(runs: pd.DataFrame) -> pd.DataFrame:
    """The columns to which Equation 18 is fitted."""
    return runs[[rate for rate in runs.columns if float(rate) <= theory.FITTED + NEAR]]


def chains(tables: Tables) -> dict[str, list[str]]:
    """The settings that differ in the concentration alone and in the angle alone, from the least, by what
    differs.
    """
    table = tables["settings"]
    out = {}
    for title, varied, same in (
        ("Concentration", "relative kappa", "angle"),
        ("Angle", "angle", "relative kappa"),
    ):
        most = table[same].mode()[0]
        out[title] = list(table[table[same] == most].sort_values(varied)["setting"])
    return out


def first_step_law(tables: Tables, setting: str, rates: ArrayLike) -> NDArray[np.float64]:
    """The accuracy that the law of the first step foretells for a setting, nothing fitted."""
    row = tables["settings"].set_index("setting").to_dict("index")[setting]
    kappa = row["relative kappa"] * row["dimension"] / 2
    return theory.first_step_accuracy(rates, row["dimension"], kappa, row["angle"], 2 * row["per label"])


def sums(tables: Tables) -> dict[str, pd.DataFrame]:
    """By setting, accuracy at each noise rate below one half plus that at one minus the rate, less one; a row
    a trial.
    """
    out = {}
    for setting in settings(tables):
        runs = accuracies(tables, setting)
        middle = runs.shape[1] // 2
        mirrored = runs.iloc[:, : -middle - 1 : -1].to_numpy()
        out[setting] = runs.iloc[:, :middle] + mirrored - 1
    return out


def bulge(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of a curve less the mean of its chord, for each row."""
    return np.trapezoid(curve, axis=1) / (curve.shape[1] - 1) - curve[:, [0, -1]].mean(axis=1)


# Statistics of the claims -----------------------------------------------------------------------------


def lowest_r_squared(tables: Tables, loss: str) -> Estimate:
    """R² of Equation 18 in the setting where its interval reaches lowest."""
    fits = _fits(tables, loss).sort_values("R² low")
    return _estimate(tables, fits.iloc[0], "R²")


def largest_residual(tables: Tables, loss: str) -> Estimate:
    """What Equation 18 leaves over at most, in accuracy, in the setting where its interval reaches
    highest.
    """
    fits = _fits(tables, loss).sort_values("largest residual high")
    return _estimate(tables, fits.iloc[-1], "largest residual")


def error_less_rival(tables: Tables, loss: str, rival: str) -> Estimate:
    """Root mean square error of Equation 18 on a held-out trial, less a rival's, in accuracy: mean over
    trials and settings.
    """
    gaps = []
    for setting in settings(tables):
        runs = fitted(accuracies(tables, setting, loss))
        rates, risks = runs.columns.to_numpy(dtype=float), 1 - runs.to_numpy()
        errors = [
            theory.held_out_errors(model, rates, risks, rates, risks) for model in ("Equation 18", rival)
        ]
        gaps.append(errors[0] - errors[1])
    return estimates.mean(np.concatenate(gaps))


def asymmetric_rates(tables: Tables) -> Estimate:
    """Settings and noise rates at which the accuracies at ε and 1 − ε do not add up to 1, by intervals that
    hold for all at once.
    """
    centre, half = estimates.simultaneous_means(
        np.hstack([part.to_numpy() for part in sums(tables).values()])
    )
    return estimates.count(int((np.abs(centre) > half + 1e-12).sum()), centre.size)


def bulge_of_half(tables: Tables, side: str) -> Estimate:
    """By how much the accuracy bulges over its chord on a side of one half, mean over settings."""
    bulges = []
    for setting in settings(tables):
        runs = accuracies(tables, setting).to_numpy()
        middle = runs.shape[1] // 2
        bulges.append(bulge(runs[:, : middle + 1] if side == "below" else runs[:, middle:]))
    return estimates.mean(np.mean(bulges, axis=0))


def smallest_gain(tables: Tables, loss: str) -> Estimate:
    """The change of the mean accuracy up to ε = 0.35 from one setting to the next where it gains least."""
    return min(_steps(tables, loss, lambda runs: fitted(runs).mean(axis=1)), key=lambda e: e.low)


def largest_change_of_fall(tables: Tables, loss: str) -> Estimate:
    """The change of the fall from ε = 0 to 0.2 from one setting to the next where it grows most."""
    return max(_steps(tables, loss, _fall), key=lambda e: e.high)


def spread_of_norm(tables: Tables) -> Estimate:
    """Standard deviation of the length of a behaviour's hidden states over its mean, mean over behaviours."""
    return estimates.mean(tables["vmf_by_behaviour"]["spread of the norm"])


def cosine_to_mean(tables: Tables) -> Estimate:
    """Cosine of a hidden state with the mean of its own kind, mean over behaviours."""
    return estimates.mean(tables["vmf_by_behaviour"]["cosine"])


def variance_ratio(tables: Tables) -> Estimate:
    """Variance of that cosine over a von Mises-Fisher distribution's, median over behaviours."""
    return estimates.median(tables["vmf_by_behaviour"]["ratio"], tables.seed)


def text_slope(tables: Tables) -> Estimate:
    """Slope of the accuracy on response pairs in the noise rate, mean over runs."""
    runs = text_runs(tables)
    rates = runs.columns.to_numpy(dtype=float)
    return estimates.mean([np.polyfit(rates, row, 1)[0] for row in runs.to_numpy()])


def text_line_less_equation_18(tables: Tables) -> Estimate:
    """Root mean square error of a straight line on a held-out run of response pairs, less Equation 18's, mean
    over runs.
    """
    runs = text_runs(tables)
    rates, risks = runs.columns.to_numpy(dtype=float), 1 - runs.to_numpy()
    line, curve = (
        theory.held_out_errors(model, rates, risks, rates, risks)
        for model in ("straight line", "Equation 18")
    )
    return estimates.mean(line - curve)


def text_runs(tables: Tables, column: str = "accuracy") -> pd.DataFrame:
    """A column of the response pairs' table, a row a run and a column a noise rate."""
    return tables["text_pairs"].pivot(index="run", columns="rate", values=column)


def _fits(tables: Tables, loss: str) -> pd.DataFrame:
    fits = tables["equation_18"]
    return fits[fits["loss"] == loss]


def _estimate(tables: Tables, row: pd.Series, column: str) -> Estimate:
    trials = int(tables["settings"]["trials"].iloc[0])
    return Estimate(row[column], row[f"{column} low"], row[f"{column} high"], trials)


def _fall(runs: pd.DataFrame) -> pd.Series:
    return runs.iloc[:, 0] - runs.iloc[:, _place(runs, 0.2)]


def _place(runs: pd.DataFrame, rate: float) -> int:
    return int(np.searchsorted(runs.columns, rate - NEAR))


def _neighbours(tables: Tables) -> Iterator[tuple[str, str]]:
    for chain in chains(tables).values():
        yield from itertools.pairwise(chain)


def _steps(tables: Tables, loss: str, quantity: Callable[[pd.DataFrame], pd.Series]) -> Iterator[Estimate]:
    """Change of a quantity of a trial from each setting to the next."""
    for before, after in _neighbours(tables):
        first, second = (quantity(accuracies(tables, setting, loss)) for setting in (before, after))
        yield estimates.mean(second - first)


def _with(loss: str) -> dict[str, Callable[[Tables], Estimate]]:
    """What is measured with both losses."""
    return {
        f"lowest_r_squared_{loss.lower()}": partial(lowest_r_squared, loss=loss),
        f"largest_residual_{loss.lower()}": partial(largest_residual, loss=loss),
        f"error_less_line_{loss.lower()}": partial(error_less_rival, loss=loss, rival="straight line"),
        f"smallest_gain_{loss.lower()}": partial(smallest_gain, loss=loss),
        f"largest_change_of_fall_{loss.lower()}": partial(largest_change_of_fall, loss=loss),
    }


STATISTICS: dict[str, Callable[[Tables], Estimate]] = {
    **_with("DPO"),
    **_with("IPO"),
    "error_less_quadratic_dpo": partial(error_less_rival, loss="DPO", rival="quadratic"),
    "asymmetric_rates": asymmetric_rates,
    "bulge_below_half": partial(bulge_of_half, side="below"),
    "bulge_above_half": partial(bulge_of_half, side="above"),
    "spread_of_norm": spread_of_norm,
    "cosine_to_mean": cosine_to_mean,
    "variance_ratio": variance_ratio,
    "text_slope": text_slope,
    "text_line_less_equation_18": text_line_less_equation_18,
}

# Other numbers that the text quotes -------------------------------------------------------------------


def _time(tables: Tables, column: str) -> str:
    """t / tau of a training, or those that the theorem allows."""
    table = tables["stopping"]
    if column != "allowed":
        return f"{table[column].iloc[0]:,.6g}"
    return ", ".join(f"{row['loss']} {row['allowed']:.3g}" for _, row in table.iterrows())


def _within(tables: Tables) -> str:
    table = tables["stopping"]
    return f"{(table['short'] <= table['allowed']).sum()} of {len(table)}"


def _accuracy_at(tables: Tables, setting: str, rate: float) -> str:
    runs = accuracies(tables, setting)
    return f"{runs.iloc[:, _place(runs, rate)].mean():.3f}"


def _at_the_edge(tables: Tables) -> str:
    fits = _fits(tables, "DPO")
    edge = np.isclose(np.abs(fits["R"] - fits["clean risk"]), 0.01, atol=1e-4)
    return f"{edge.sum()} of {len(fits)}"


def _law_off(tables: Tables) -> str:
    off = 0.0
    for setting in settings(tables):
        mean = accuracies(tables, setting).mean()
        off = max(off, float(np.abs(mean - first_step_law(tables, setting, mean.index)).max()))
    return f"{100 * off:.1f}"


def _law_agrees(tables: Tables) -> str:
    """The share of means within simultaneous intervals of the law."""
    inside = []
    for setting in settings(tables):
        runs = accuracies(tables, setting)
        centre, half = estimates.simultaneous_means(runs.to_numpy())
        inside.append(np.abs(centre - first_step_law(tables, setting, runs.columns)) <= half + 1e-12)
    return f"{np.mean(inside):.0%}"


def _mirror_off(tables: Tables) -> str:
    centre, half = estimates.simultaneous_means(
        np.hstack([part.to_numpy() for part in sums(tables).values()])
    )
    most = np.abs(centre).argmax()
    return f"{100 * abs(centre[most]):.2f} ± {100 * half[most]:.2f}"


def _rising_c(tables: Tables) -> str:
    c = _fits(tables, "DPO").set_index("setting")["c"]
    rises = [bool(c[after] > c[before]) for before, after in _neighbours(tables)]
    return f"{sum(rises)} of {len(rises)}"


def _apart(tables: Tables, training: str) -> str:
    table = tables["losses"]
    return f"{100 * table[table['training'] == training]['largest difference from DPO'].max():.2f}"


def _spread(tables: Tables, training: str) -> str:
    """The best of five losses less the worst at a noise rate of 0.2, in points."""
    table = tables["losses"]
    part = table[table["training"] == training]["ε = 0.2"]
    return f"{100 * (part.max() - part.min()):.2f}"


def straightness_of_effective_noise(tables: Tables, already: float) -> float:
    """The bulge of the law over its chord, as a share of its height, for added noise up to one half where a
    share of the labels is wrong already.
    """
    added = np.linspace(0, 0.5, 51)
    law = first_step_law(tables, "γ = 1/4", already + (1 - 2 * already) * added)
    return float(bulge(law[None])[0] / (law[0] - law[-1]))


def _tight(tables: Tables, what: str) -> str:
    table = tables["tight_clouds"]
    if what == "risk":
        return f"{table['risk'].max():.3g}"
    if what == "rates":
        return f"{table['rate'].nunique()} noise rates up to {table['rate'].max():.2g}"
    promised = theory.bound(0, table["relative kappa"].iloc[0], np.pi, 2 * int(table["per label"].iloc[0]))
    return f"{promised.risk:.2g}" if what == "promised" else f"{promised.probability:.4f}"


def _points_for_hoeffding(tables: Tables) -> str:
    """Training points from which on the bound at a noise rate of 0.01 says something, for tight clouds."""
    enough = next(
        n
        for n in range(1000, 10**5, 1000)
        if np.isfinite(theory.smallest_relative_kappa(0.01, np.pi, n, 8, "hoeffding"))
    )
    return f"{enough:,}"


def _looks(tables: Tables, tell: Callable[[pd.DataFrame], str]) -> str:
    return tell(tables["vmf_by_behaviour"])


def _bounded(tables: Tables) -> str:
    looks, n = tables["vmf_by_behaviour"], 2 * int(tables["settings"]["per label"].iloc[0])
    clean = [theory.bound(0, row["γ"], np.radians(row["angle (°)"]), n).clean for _, row in looks.iterrows()]
    return f"{np.isfinite(clean).sum()} of {len(clean)}"


PAPER_DIMENSION, PAPER_COSINE = 4096, 0.9876
"""Of Llama-2-7B: the length of its hidden states, and the mean cosine of NZ's Table 2."""


def _paper_vmf(tables: Tables, what: str) -> str:
    kappa = vmf.concentration(PAPER_DIMENSION, PAPER_COSINE)
    if what == "γ":
        return f"{2 * kappa / PAPER_DIMENSION:.0f}"
    return f"{vmf.cosine_variance(PAPER_DIMENSION, kappa):.1e}".replace("-", "−")


def _above_half(tables: Tables, states: str) -> pd.DataFrame:
    """The summary of the behaviours that start above one half."""
    table = tables["persona_noise"]
    return table[table[f"accuracy, {states}"] > 0.5]


def _curve_above_half(tables: Tables, states: str, rate: float) -> str:
    """Mean accuracy at a noise rate of the behaviours that start above one half."""
    curves = tables["persona_curves"]
    part = curves[curves["behaviour"].isin(_above_half(tables, states)["behaviour"])]
    found = part[np.isclose(part["rate"], rate)][states]
    return f"{found.mean():.2f}" if len(found) else "none"


def _lost(tables: Tables, states: str) -> str:
    """What a noise rate of 0.2 costs, mean over behaviours."""
    table = tables["persona_noise"]
    return str(estimates.mean(table[f"accuracy, {states}"] - table[f"at ε = 0.2, {states}"]))


def _lost_above_half(tables: Tables, states: str) -> str:
    """The same over the behaviours that start above one half."""
    part = _above_half(tables, states)
    lost = (part[f"accuracy, {states}"] - part[f"at ε = 0.2, {states}"]).mean()
    return f"{lost:.3f} (n = {len(part)})" if len(part) else "none"


def _rho(tables: Tables, predictor: str, outcome: str) -> str:
    table = tables["persona_correlations"]
    row = table[(table["predictor"] == predictor) & (table["outcome"] == outcome)].iloc[0]
    return str(Estimate(row["correlation"], row["low"], row["high"], int(row["n"])))


def _text(tables: Tables, column: str) -> str:
    table = tables["text_pairs"]
    return str(int(table["run"].nunique() if column == "runs" else table[column].iloc[0]))


def _text_accuracy(tables: Tables, rate: float) -> str:
    runs = text_runs(tables)
    return f"{runs.iloc[:, _place(runs, rate)].mean():.2f}"


QUOTED: dict[str, Callable[[Tables], str]] = {
    "nz-allowed": partial(_time, column="allowed"),
    "nz-short": partial(_time, column="short"),
    "nz-long": partial(_time, column="long"),
    "nz-within": _within,
    "nz-clean": partial(_accuracy_at, setting="γ = 1/4", rate=0.0),
    "nz-tenth": partial(_accuracy_at, setting="γ = 1/4", rate=0.1),
    "nz-quarter": partial(_accuracy_at, setting="γ = 1/4", rate=0.25),
    "nz-edge": _at_the_edge,
    "nz-law-off": _law_off,
    "nz-law-agrees": _law_agrees,
    "nz-mirror-off": _mirror_off,
    "nz-rising-c": _rising_c,
    "nz-apart-short": partial(_apart, training="short"),
    "nz-apart-long": partial(_apart, training="long"),
    "nz-spread-short": partial(_spread, training="short"),
    "nz-spread-long": partial(_spread, training="long"),
    "nz-bend-clean": lambda tables: f"{straightness_of_effective_noise(tables, 0.0):.2f}",
    "nz-bend-wrong": lambda tables: f"{straightness_of_effective_noise(tables, 0.3):.2f}",
    "nz-tight-risk": partial(_tight, what="risk"),
    "nz-tight-rates": partial(_tight, what="rates"),
    "nz-tight-promised": partial(_tight, what="promised"),
    "nz-tight-probability": partial(_tight, what="probability"),
    "nz-clean-limit": lambda tables: f"{theory.smallest_relative_kappa(0, np.pi, 10**9):.0f}",
    "nz-hoeffding": _points_for_hoeffding,
    "nz-four": partial(_looks, tell=lambda looks: f"{(looks['γ'] >= 4).sum()} of {len(looks)}"),
    "nz-angle": partial(_looks, tell=lambda looks: f"{looks['angle (°)'].median():.2g}°"),
    "nz-angle-most": partial(_looks, tell=lambda looks: f"{looks['angle (°)'].max():.2g}°"),
    "nz-bounded": _bounded,
    "nz-widest": partial(_looks, tell=lambda looks: f"{looks['widest share'].median():.0%}"),
    "nz-even": partial(_looks, tell=lambda looks: f"{1 / looks['dimension'].iloc[0]:.1%}"),
    "nz-paper-gamma": partial(_paper_vmf, what="γ"),
    "nz-paper-variance": partial(_paper_vmf, what="variance"),
    **{
        f"nz-{states}-{name}": partial(_curve_above_half, states=states, rate=rate)
        for states in STATES
        for name, rate in (("clean", 0.0), ("tenth", 0.1), ("third", 0.3))
    },
    **{f"nz-lost-{states}": partial(_lost, states=states) for states in STATES},
    **{f"nz-lost-{states}-above": partial(_lost_above_half, states=states) for states in STATES},
    **{
        f"nz-delta-{states}": partial(_rho, predictor="δ", outcome=f"at ε = 0.2, {states}")
        for states in STATES
    },
    "nz-text-runs": partial(_text, column="runs"),
    "nz-text-trained": partial(_text, column="trained"),
    "nz-text-tested": partial(_text, column="tested"),
    "nz-text-clean": partial(_text_accuracy, rate=0.0),
}
