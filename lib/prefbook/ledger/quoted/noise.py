"""Numbers that the text of the chapter `noise` quotes beside its claims', as text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefbook.ledger.derived.noise import (
    SHOWN,
    accuracies,
    best_length,
    column_at,
    first_step_law,
    fitted,
    kinds,
    looks,
    ridge_law,
    settings,
    sums,
    text_runs,
)
from prefbook.ledger.quoted.forms import minus, said, signed
from prefbook.ledger.statistics.noise import text_bulge_share
from prefbook.ledger.tables import Tables
from prefdyn.data.personas import family
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate
from prefdyn.theory import noise as theory
from prefdyn.theory import vmf

STATES = ("raw", "centred")


def bulge(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of a curve less the mean of its chord, for each row."""
    return np.trapezoid(curve, axis=1) / (curve.shape[1] - 1) - curve[:, [0, -1]].mean(axis=1)


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
    return f"{runs.iloc[:, column_at(runs, rate)].mean():.3f}"


def _law_off(tables: Tables, near: bool) -> str:
    """By how much the law is off at most, in points: at all noise rates, or `near` none, up to 0.35."""
    off = 0.0
    for setting in settings(tables):
        runs = accuracies(tables, setting)
        mean = (fitted(runs) if near else runs).mean()
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


def straightness_of_effective_noise(tables: Tables, already: float) -> float:
    """The bulge of the law over its chord, as a share of its height, for added noise up to one half where a
    share of the labels is wrong already.
    """
    added = np.linspace(0, 0.5, 51)
    law = first_step_law(tables, SHOWN, already + (1 - 2 * already) * added)
    return float(bulge(law[None])[0] / (law[0] - law[-1]))


def _left_over(tables: Tables, loss: str) -> pd.DataFrame:
    """Mean square of what each form leaves over, a row a time and a column a model."""
    table = tables["map_fits"]
    part = table[table["loss"] == loss]
    left = {name: part[f"excess: {name}"] for name in theory.MODELS}
    squares = pd.DataFrame({name: np.sign(value) * value**2 for name, value in left.items()})
    return squares.groupby(part["time"]).mean()


def _best_time(tables: Tables, loss: str) -> str:
    return f"{_left_over(tables, loss)['Equation 18'].idxmin():g}"


def _at_the_end(tables: Tables, model: str) -> str:
    """What a form leaves over at the last time with IPO, in points."""
    return _points(_left_over(tables, "IPO")[model].iloc[-1])


def _in_the_worst_setting(tables: Tables, model: str, rest: bool) -> str:
    """What a form leaves over at the last time with DPO, in points: in the setting where Equation 18 leaves
    over most, or in the rest of them.
    """
    table = tables["map_fits"]
    last = table[(table["loss"] == "DPO") & (table["time"] == table["time"].max())]
    worst = last["excess: Equation 18"].idxmax()
    left = (last.drop(worst) if rest else last.loc[[worst]])[f"excess: {model}"]
    return _points(float((np.sign(left) * left**2).mean()))


def _points(square: float) -> str:
    """The root of a mean square of accuracies, in points; of one below zero, 0."""
    return "undefined" if np.isnan(square) else f"{100 * np.sqrt(max(square, 0)):.2f}"


def _quadratic_wins(tables: Tables) -> str:
    table = tables["map_fits"]
    part = table[table["loss"] == "DPO"]
    wins = part["excess: quadratic"] < part["excess: Equation 18"]
    return f"{wins.sum()} of {len(part)}"


def _loss_at(tables: Tables, last: bool) -> str:
    """The training loss with DPO, as a share of what it was, at an end of the map; mean over settings."""
    table = tables["map_fits"]
    time = table["time"].max() if last else table["time"].min()
    found = table[(table["loss"] == "DPO") & (table["time"] == time)]["loss ratio"].mean()
    return f"{100 * (1 - found):.2g}%"


def _second_numbers(tables: Tables) -> str:
    """The least and the greatest b of the ridge law over settings, at the last time of the map."""
    time = float(tables["map_fits"]["time"].max())
    b = [ridge_law(tables, setting, time).b for setting in settings(tables)]
    return "undefined" if np.isnan(b).any() else f"{min(b):.2f} to {max(b):.2f}"


def _second_number(tables: Tables, last: bool) -> str:
    """b of the ridge law at the first or the last time of the map."""
    times = tables["map_fits"]["time"]
    b = ridge_law(tables, SHOWN, float(times.max() if last else times.min())).b
    return "undefined" if np.isnan(b) else f"{b:.2f}"


def _apart(tables: Tables, training: str) -> str:
    """The largest difference of a loss from DPO in any trial, in points."""
    table = tables["differences"]
    return f"{100 * table[table['training'] == training]['most'].max():.2f}"


def _one_sided(tables: Tables) -> str:
    row = kinds(tables, "one-sided", "DPO", 0.2).iloc[0]
    return str(Estimate(row["gain"], row["gain low"], row["gain high"], 0))


def _robust(tables: Tables) -> str:
    """How far the robust losses, told the true rate, are from DPO at a noise rate of 0.3 by a coin, each at
    its best length; in points.
    """
    best = {loss: best_length(tables, "coin", loss).set_index("rate") for loss in ("DPO", "cDPO", "rDPO")}
    at = {loss: table["accuracy"].iloc[column_at(table.T, 0.3)] for loss, table in best.items()}
    return f"{100 * max(abs(at[loss] - at['DPO']) for loss in ('cDPO', 'rDPO')):.2f}"


def _bulge_share(tables: Tables) -> str:
    return said(text_bulge_share(tables))


def _robust_late(tables: Tables, loss: str) -> str:
    """How far a robust loss, told the true rate, is ahead of DPO at a noise rate of 0.3 by a coin, after the
    longest training; in points.
    """
    ends = [kinds(tables, "coin", name, 0.3).iloc[-1]["accuracy"] for name in (loss, "DPO")]
    return signed(100 * (ends[0] - ends[1]), ".1f")


def _at_an_end(tables: Tables, kind: str, last: bool) -> str:
    """Accuracy under a kind of noise at a rate of 0.2, after one step of DPO or the longest training."""
    return f"{kinds(tables, kind, 'DPO', 0.2).iloc[-1 if last else 0]['accuracy']:.2f}"


def _saved_late(tables: Tables) -> str:
    """What noise by margin saves against a coin's at a rate of 0.2, after the longest training of DPO."""
    row = kinds(tables, "by margin", "DPO", 0.2).iloc[-1]
    return str(Estimate(row["gain"], row["gain low"], row["gain high"], 0))


def _off_the_text(tables: Tables, model: str) -> str:
    """By how much a form fitted to the mean risks on response pairs is off at most, in points."""
    if tables["text_pairs"].empty:
        return "undefined"
    risks = 1 - text_runs(tables).mean()
    rates = risks.index.to_numpy(dtype=float)
    off = theory.predict(model, rates, risks.to_numpy(), rates) - risks.to_numpy()
    return f"{100 * np.abs(off).max():.1f}"


def _sharp_limit(tables: Tables) -> str:
    """The concentration from which on the theorem with exact tails is below one half, for opposite means."""
    row = tables["settings"].iloc[0]
    d, n = int(row["dimension"]), 2 * int(row["per label"])
    low, high = 1.0, 1e4
    for _ in range(30):  # bisection: the bound falls with the concentration
        middle = np.sqrt(low * high)
        says = theory.sharp_bound(0, d, middle * d / 2, np.pi, n).risk < 0.5
        low, high = (low, middle) if says else (middle, high)
    return f"{high:.3g}" if high < 1e4 else "none"


def _sharp_rate(tables: Tables) -> str:
    table = tables["sharp_regime"]
    return f"{table[(table['γ'] == 32) & (table['angle'] == 180)]['highest rate'].iloc[0]:.2g}"


def _exact(tables: Tables) -> str:
    n = 2 * int(tables["settings"]["per label"].iloc[0])
    gamma = theory.smallest_relative_kappa(0.01, np.pi, n, 8, "exact")
    return f"{gamma:,.0f}" if np.isfinite(gamma) else "none"


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
    return tell(looks(tables, "question"))


def _bounded(tables: Tables) -> str:
    table, n = looks(tables, "question"), 2 * int(tables["settings"]["per label"].iloc[0])
    clean = [theory.bound(0, row["γ"], np.radians(row["angle (°)"]), n).clean for _, row in table.iterrows()]
    return f"{np.isfinite(clean).sum()} of {len(clean)}"


PAPER_DIMENSION, PAPER_COSINE = 4096, 0.9876
"""Of Llama-2-7B: the length of its hidden states, and the mean cosine of NZ's Table 2."""


def _paper_vmf(tables: Tables, what: str) -> str:
    kappa = vmf.concentration(PAPER_DIMENSION, PAPER_COSINE)
    if what == "γ":
        return f"{2 * kappa / PAPER_DIMENSION:.0f}"
    return minus(f"{vmf.cosine_variance(PAPER_DIMENSION, kappa):.1e}")


def _mean_curve(tables: Tables, states: str, rate: float) -> str:
    """Mean accuracy over behaviours at a noise rate."""
    curves = tables["persona_curves"]
    return f"{curves[np.isclose(curves['rate'], rate)][states].mean():.2f}"


def _rho(tables: Tables, predictor: str, outcome: str) -> str:
    table = tables["persona_correlations"]
    row = table[(table["predictor"] == predictor) & (table["outcome"] == outcome)].iloc[0]
    return str(Estimate(row["correlation"], row["low"], row["high"], int(row["n"])))


def _fall_by_distance(tables: Tables, states: str) -> str:
    """Rank correlation of δ with the fall of the accuracy up to a noise rate of 0.2, over families."""
    table = tables["persona_noise"]
    fall = table[f"fall, {states}"]
    return str(estimates.spearman(table["δ"], fall, tables.seed, table["behaviour"].map(family)))


def _pilot_best(tables: Tables) -> str:
    """The accuracy of the pilot's best setting and epoch, with its interval."""
    table = tables["text_pilot"]
    if table.empty:
        return "none"
    row = table.iloc[int(table["accuracy"].argmax())]
    return str(Estimate(row["accuracy"], row["low"], row["high"], int(row["tested"])))


QUOTED: dict[str, Callable[[Tables], str]] = {
    "nz-allowed": partial(_time, column="allowed"),
    "nz-short": partial(_time, column="short"),
    "nz-long": partial(_time, column="long"),
    "nz-within": _within,
    "nz-clean": partial(_accuracy_at, setting=SHOWN, rate=0.0),
    "nz-tenth": partial(_accuracy_at, setting=SHOWN, rate=0.1),
    "nz-law-off": partial(_law_off, near=False),
    "nz-law-off-near": partial(_law_off, near=True),
    "nz-law-agrees": _law_agrees,
    "nz-loss-first": partial(_loss_at, last=False),
    "nz-loss-last": partial(_loss_at, last=True),
    "nz-best-dpo": partial(_best_time, loss="DPO"),
    "nz-best-ipo": partial(_best_time, loss="IPO"),
    "nz-left-ipo-end": partial(_at_the_end, model="Equation 18"),
    "nz-line-ipo-end": partial(_at_the_end, model="straight line"),
    **{
        f"nz-{name}-dpo-end-{part}": partial(_in_the_worst_setting, model=model, rest=part == "rest")
        for name, model in (("left", "Equation 18"), ("line", "straight line"))
        for part in ("worst", "rest")
    },
    "nz-quadratic": _quadratic_wins,
    "nz-b-first": partial(_second_number, last=False),
    "nz-b-last": partial(_second_number, last=True),
    "nz-b-ends": _second_numbers,
    "nz-mirror-off": _mirror_off,
    "nz-apart-short": partial(_apart, training="short"),
    "nz-apart-long": partial(_apart, training="long"),
    "nz-one-sided": _one_sided,
    "nz-one-sided-first": partial(_at_an_end, kind="one-sided", last=False),
    "nz-one-sided-late": partial(_at_an_end, kind="one-sided", last=True),
    "nz-coin-first": partial(_at_an_end, kind="coin", last=False),
    "nz-coin-late": partial(_at_an_end, kind="coin", last=True),
    "nz-by-margin-late": _saved_late,
    "nz-text-eq18": partial(_off_the_text, model="Equation 18"),
    "nz-text-line": partial(_off_the_text, model="straight line"),
    "nz-robust": _robust,
    "nz-cdpo-late": partial(_robust_late, loss="cDPO"),
    "nz-rdpo-late": partial(_robust_late, loss="rDPO"),
    "nz-bulge-share": _bulge_share,
    "nz-bend-clean": lambda tables: f"{straightness_of_effective_noise(tables, 0.0):.2f}",
    "nz-bend-wrong": lambda tables: f"{straightness_of_effective_noise(tables, 0.3):.2f}",
    "nz-tight-risk": partial(_tight, what="risk"),
    "nz-tight-rates": partial(_tight, what="rates"),
    "nz-tight-promised": partial(_tight, what="promised"),
    "nz-tight-probability": partial(_tight, what="probability"),
    "nz-clean-limit": lambda tables: f"{theory.smallest_relative_kappa(0, np.pi, 10**9):.0f}",
    "nz-hoeffding": _points_for_hoeffding,
    "nz-exact": _exact,
    "nz-sharp-limit": _sharp_limit,
    "nz-sharp-rate": _sharp_rate,
    "nz-four": partial(_looks, tell=lambda looks: f"{(looks['γ'] >= 4).sum()} of {len(looks)}"),
    "nz-angle": partial(_looks, tell=lambda looks: f"{looks['angle (°)'].median():.2g}°"),
    "nz-angle-most": partial(_looks, tell=lambda looks: f"{looks['angle (°)'].max():.2g}°"),
    "nz-bounded": _bounded,
    "nz-widest": partial(_looks, tell=lambda looks: f"{looks['widest share'].median():.0%}"),
    "nz-even": partial(_looks, tell=lambda looks: f"{1 / looks['dimension'].iloc[0]:.1%}"),
    "nz-paper-gamma": partial(_paper_vmf, what="γ"),
    "nz-paper-variance": partial(_paper_vmf, what="variance"),
    **{
        f"nz-{states}-{name}": partial(_mean_curve, states=states, rate=rate)
        for states in STATES
        for name, rate in (("clean", 0.0), ("fifth", 0.2))
    },
    "nz-delta-fall": partial(_fall_by_distance, states="centred"),
    "nz-delta-fall-raw": partial(_fall_by_distance, states="raw"),
    "nz-delta-c": partial(_rho, predictor="δ", outcome="c, centred"),
    "nz-pilot-best": _pilot_best,
}
