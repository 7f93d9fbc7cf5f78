"""Quantities of the chapter `noise` that its figures, statistics and quoted numbers share."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from prefbook.ledger.tables import Tables
from prefdyn.theory import noise as theory

NEAR = 1e-9
"""Noise rates are the same where they differ by less."""
SHOWN = "60°, γ = 1/4"
"""The setting that is shown where one is."""


def settings(tables: Tables) -> list[str]:
    """Names of the controlled experiment's settings."""
    return list(tables["settings"]["setting"])


def accuracies(tables: Tables, setting: str) -> pd.DataFrame:
    """Test accuracy after short training with DPO, a row a trial and a column a noise rate."""
    table = tables["accuracies"]
    return table[table["setting"] == setting].pivot(index="trial", columns="rate", values="accuracy")


def fitted(runs: pd.DataFrame) -> pd.DataFrame:
    """The columns to which Equation 18 is fitted."""
    return runs[[rate for rate in runs.columns if float(rate) <= theory.FITTED + NEAR]]


def on_map(tables: Tables, loss: str, region: str) -> list[tuple[str, float, pd.DataFrame]]:
    """The points of the map in a region: setting, time, and accuracy, a row a trial and a column a noise
    rate.
    """
    fits, runs = tables["map_fits"], tables["map_runs"]
    rates = [name for name in runs.columns if name.replace(".", "", 1).isdigit()]
    fits, runs = fits[(fits["loss"] == loss) & (fits["region"] == region)], runs[runs["loss"] == loss]
    accuracy = runs.set_index("trial")[rates].rename(columns=float)
    where = [runs["setting"].to_numpy(), runs["time"].to_numpy()]
    by_point = {point: part for point, part in accuracy.groupby(where, sort=False)}
    return [(*point, by_point[point]) for point in zip(fits["setting"], fits["time"], strict=True)]


def chains(tables: Tables, reading: str) -> dict[str, list[str]]:
    """The settings that differ in the concentration alone and in the angle alone, from the least, by what
    differs, under a reading of the paper's angle. With 2θ between the means no two angles differ: 4π/3 is
    2π/3 again, and at 2π the means are one.
    """
    table = tables["settings"]
    degrees = np.degrees(table["angle"]).round()
    narrow = table[degrees == (60 if reading == "θ" else 120)].sort_values("relative kappa")
    out = {"Concentration": list(narrow["setting"])}
    if reading == "θ":
        middle = table[np.isclose(table["relative kappa"], 1 / 8)].sort_values("angle")
        out["Angle"] = list(middle["setting"])
    return out


def first_step_law(tables: Tables, setting: str, rates: ArrayLike) -> NDArray[np.float64]:
    """The accuracy that the law of the first step foretells for a setting, nothing fitted."""
    row, kappa = _law(tables, setting)
    return theory.first_step_accuracy(rates, row["dimension"], kappa, row["angle"], 2 * row["per label"])


def ridge_law(tables: Tables, setting: str, time: float) -> theory.Law:
    """The law of IPO after any time, nothing fitted."""
    row, kappa = _law(tables, setting)
    steps = max(int(row["epochs"]), int(np.ceil(time / 20 - NEAR)))
    return theory.ridge_law(row["dimension"], kappa, row["angle"], 2 * row["per label"], time / steps, steps)


def _law(tables: Tables, setting: str) -> tuple[pd.Series, float]:
    """The row of a setting, and the concentration of its states."""
    table = tables["settings"]
    row = table.drop(columns="setting").iloc[table["setting"].tolist().index(setting)]
    return row, row["relative kappa"] * row["dimension"] / 2


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


def looks(tables: Tables, state: str) -> pd.DataFrame:
    """The shapes of the behaviours' states at the end of a statement or of the question about it."""
    table = tables["vmf_by_behaviour"]
    return table[table["state"] == state]


def text_runs(tables: Tables, column: str = "accuracy") -> pd.DataFrame:
    """A column of the response pairs' table, a row a run and a column a noise rate."""
    return tables["text_pairs"].pivot(index="run", columns="rate", values=column)


def kinds(tables: Tables, kind: str, loss: str, rate: float) -> pd.DataFrame:
    """Of the kinds of noise, the rows of one, with a loss and at a noise rate, over time."""
    table = tables["kinds_of_noise"]
    same = (table["kind"] == kind) & (table["loss"] == loss) & np.isclose(table["rate"], rate)
    return table[same].sort_values("time")


def best_length(tables: Tables, kind: str, loss: str) -> pd.DataFrame:
    """Of a kind of noise and a loss, a row a noise rate: that of the training time with the best mean
    accuracy.
    """
    table = tables["kinds_of_noise"]
    part = table[(table["kind"] == kind) & (table["loss"] == loss)]
    return part.loc[part.groupby("rate")["accuracy"].idxmax()].sort_values("rate")


def column_at(runs: pd.DataFrame, rate: float) -> int:
    """The place of a noise rate among the columns."""
    return int(np.searchsorted(runs.columns, rate - NEAR))
