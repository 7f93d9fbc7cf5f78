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
    settings,
    sums,
    text_runs,
)
from prefbook.ledger.quoted import noise_bounds, noise_map
from prefbook.ledger.quoted.forms import of, said, signed
from prefbook.ledger.statistics.noise import text_bulge_share
from prefbook.ledger.tables import Tables
from prefdyn.data.personas import family
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate
from prefdyn.theory import noise as theory

STATES = ("raw", "centred")
FORETOLD_OFF = 0.03
"""How far off, on average, NZ-8 allows what is foretold to be."""


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


def _rival_off(tables: Tables, states: str, rival: Callable[[pd.Series, pd.Series], pd.Series]) -> str:
    """By how much a rival of the law of states is off, root mean square over noise rates, mean over
    behaviours.

    Args:
        rival: of what the law foretells without noise and of the noise rate.
    """
    curves = tables["persona_curves"]
    clean = curves[curves["rate"] == 0].set_index("behaviour")[f"{states} foretold"]
    squares = (rival(curves["behaviour"].map(clean), curves["rate"]) - curves[states]) ** 2
    off = squares.groupby(curves["behaviour"]).mean() ** 0.5
    return str(estimates.mean(off, off.index.map(family), tables.seed))


def _line(clean: pd.Series, rate: pd.Series) -> pd.Series:
    """A straight line to one half."""
    return clean * (1 - 2 * rate) + rate


def _coin(clean: pd.Series, rate: pd.Series) -> pd.Series:
    """One half at every rate but zero."""
    return clean.where(rate == 0, 0.5)


def _law_low(tables: Tables) -> str:
    """Accuracy on raw states less what is foretold, at the lowest noise rate above zero."""
    curves = tables["persona_curves"]
    lowest = curves[curves["rate"] == curves.loc[curves["rate"] > 0, "rate"].min()]
    low = lowest["raw"] - lowest["raw foretold"]
    return str(estimates.mean(low, lowest["behaviour"].map(family), tables.seed))


def _far_off(tables: Tables, states: str) -> str:
    """For how many behaviours what is foretold is further off than NZ-8 allows the mean to be."""
    return of(tables["persona_noise"][f"foretold off, {states}"] > FORETOLD_OFF)


def _of_text(tables: Tables, count: Callable[[pd.DataFrame], int]) -> str:
    """A size of the runs on response pairs, where there are any."""
    table = tables["text_pairs"]
    return "undefined" if table.empty else str(count(table))


def _pilot_best(tables: Tables) -> str:
    """The accuracy of the pilot's best setting and epoch, with its interval."""
    table = tables["text_pilot"]
    if table.empty:
        return "none"
    row = table.iloc[int(table["accuracy"].argmax())]
    return str(Estimate(row["accuracy"], row["low"], row["high"], int(row["tested"])))


QUOTED: dict[str, Callable[[Tables], str]] = {
    **noise_map.QUOTED,
    **noise_bounds.QUOTED,
    "nz-allowed": partial(_time, column="allowed"),
    "nz-short": partial(_time, column="short"),
    "nz-long": partial(_time, column="long"),
    "nz-within": _within,
    "nz-clean": partial(_accuracy_at, setting=SHOWN, rate=0.0),
    "nz-tenth": partial(_accuracy_at, setting=SHOWN, rate=0.1),
    "nz-law-off": partial(_law_off, near=False),
    "nz-law-off-near": partial(_law_off, near=True),
    "nz-law-agrees": _law_agrees,
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
    **{
        f"nz-{states}-{name}": partial(_mean_curve, states=states, rate=rate)
        for states in STATES
        for name, rate in (("clean", 0.0), ("fifth", 0.2))
    },
    "nz-line-off": partial(_rival_off, states="centred", rival=_line),
    "nz-coin-off": partial(_rival_off, states="raw", rival=_coin),
    "nz-law-low": _law_low,
    **{f"nz-off-{states}": partial(_far_off, states=states) for states in STATES},
    "nz-delta-fall": partial(_fall_by_distance, states="centred"),
    "nz-delta-fall-raw": partial(_fall_by_distance, states="raw"),
    "nz-delta-c": partial(_rho, predictor="δ", outcome="c, centred"),
    "nz-pilot-best": _pilot_best,
    "nz-text-trained": partial(_of_text, count=lambda runs: int(runs["trained"].max())),
    "nz-text-rates": partial(_of_text, count=lambda runs: runs["rate"].nunique()),
    "nz-text-runs": partial(_of_text, count=lambda runs: runs["run"].nunique()),
}
