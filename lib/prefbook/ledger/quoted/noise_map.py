"""Numbers about the map of forms, over times and settings, that the text of the chapter `noise` quotes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from prefbook.ledger.derived.noise import SHOWN, ridge_law, settings
from prefbook.ledger.statistics.noise import changes_of_fall
from prefbook.ledger.tables import Tables
from prefdyn.theory import noise as theory


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
    """By which share the training loss with DPO has fallen at an end of the map; mean over settings."""
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


def _falls_over_angles(tables: Tables) -> str:
    """The change of the fall up to ε = 0.2 from one angle to the next, the whole angle being θ, within the
    stopping time.
    """
    return " and ".join(map(str, changes_of_fall(tables, "θ", "stopping", "Angle")))


QUOTED: dict[str, Callable[[Tables], str]] = {
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
    "nz-falls-over-angles": _falls_over_angles,
}
