"""What the claims of the chapter `noise` are judged by, and the other numbers that it quotes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from prefbook.ledger.tables import Tables
from prefdyn.data.personas import family
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate
from prefdyn.theory import noise as theory
from prefdyn.theory import vmf

NEAR = 1e-9
"""Noise rates are the same where they differ by less."""
STATES = ("raw", "centred")
SHOWN = "60°, γ = 1/4"
"""The setting that is shown where one is."""
READINGS = ("θ", "2θ")
"""What the paper's angle may be of the angle between the means: all of it, or half."""

# What figures take, too -----------------------------------------------------------------------------


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
    by_point = {point: part for point, part in runs.groupby(["setting", "time"], sort=False)}
    points = list(zip(fits["setting"], fits["time"], strict=True))
    return [(*point, by_point[point].set_index("trial")[rates].rename(columns=float)) for point in points]


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
    row = tables["settings"].set_index("setting").to_dict("index")[setting]
    kappa = row["relative kappa"] * row["dimension"] / 2
    return theory.first_step_accuracy(rates, row["dimension"], kappa, row["angle"], 2 * row["per label"])


def ridge_law(tables: Tables, setting: str, time: float) -> theory.Law:
    """The law of IPO after any time, nothing fitted."""
    row = tables["settings"].set_index("setting").to_dict("index")[setting]
    kappa, steps = row["relative kappa"] * row["dimension"] / 2, max(10, int(np.ceil(time / 20 - NEAR)))
    return theory.ridge_law(row["dimension"], kappa, row["angle"], 2 * row["per label"], time / steps, steps)


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


def excess(tables: Tables, region: str, rival: str = "") -> Estimate:
    """What the form of Equation 18 leaves over in a region of the map with DPO, root mean square in accuracy
    over settings, times and noise rates; or, with a rival, the mean square less the rival's, as the root of
    its size with its sign.
    """
    squares = []
    for _, _, runs in on_map(tables, "DPO", region):
        near = fitted(runs)
        rates, risks = near.columns.to_numpy(dtype=float), 1 - near.to_numpy()
        square = theory.excess_errors("Equation 18", rates, risks)
        squares.append(square - theory.excess_errors(rival, rates, risks) if rival else square)
    return _signed_root(estimates.mean(np.mean(squares, axis=0)))


def asymmetric_rates(tables: Tables) -> Estimate:
    """Settings and noise rates at which the accuracies at ε and 1 − ε do not add up to 1, by intervals that
    hold for all at once.
    """
    centre, half = estimates.simultaneous_means(
        np.hstack([part.to_numpy() for part in sums(tables).values()])
    )
    return estimates.count(int((np.abs(centre) > half + 1e-12).sum()), centre.size)


def asymmetry(tables: Tables) -> Estimate:
    """By how much the two add up to another number than 1, mean over noise rates, in the setting where that
    may be most; its size, with an interval from the smallest to the largest that it may be.
    """
    each = [estimates.mean(part.mean(axis=1)) for part in sums(tables).values()]
    return _size(max(each, key=lambda e: max(abs(e.low), abs(e.high))))


def smallest_gain(tables: Tables, reading: str, region: str) -> Estimate:
    """The change of the mean accuracy up to ε = 0.35 from one setting to the next where it gains least."""
    return min(_steps(tables, reading, region, lambda runs: fitted(runs).mean(axis=1)), key=lambda e: e.low)


def largest_change_of_fall(tables: Tables, reading: str, region: str) -> Estimate:
    """The change of the fall from ε = 0 to 0.2 from one setting to the next where it grows most."""
    return max(_steps(tables, reading, region, _fall), key=lambda e: e.high)


LEVELS = 8


def ipo_less_dpo(tables: Tables) -> Estimate:
    """Mean accuracy up to ε = 0.35 with IPO less that with DPO at an equal fall of the loss, by its size, in
    the setting and at the fall where it may be most; see `at_equal_loss`.
    """
    each = [
        estimates.mean(apart)
        for setting in settings(tables)
        for _, apart in at_equal_loss(tables, setting, "IPO")
    ]
    return _size(max(each, key=lambda e: max(abs(e.low), abs(e.high))))


def at_equal_loss(tables: Tables, setting: str, loss: str) -> list[tuple[float, NDArray[np.float64]]]:
    """Mean accuracy up to ε = 0.35 with a loss less that with DPO, a number a trial, at `LEVELS` falls of the
    training loss without noise, as shares of what it was, that both reach; between times of the map the
    accuracy is interpolated in the logarithm of the fall.
    """
    table = tables["map_runs"]
    rates = [name for name in table.columns if name.replace(".", "", 1).isdigit()]
    near = [name for name in rates if float(name) <= theory.FITTED + NEAR]
    paths = {}
    for name in (loss, "DPO"):
        part = table[(table["setting"] == setting) & (table["loss"] == name)]
        part = part.assign(mean=part[near].mean(axis=1))
        fall = (1 - part.groupby("time")["loss ratio"].mean()).fillna(0).cummax().clip(lower=1e-9)
        paths[name] = (
            np.log(fall.to_numpy()),
            part.pivot(index="trial", columns="time", values="mean").to_numpy(),
        )
    low = max(falls.min() for falls, _ in paths.values())
    high = min(falls.max() for falls, _ in paths.values())
    out = []
    for level in np.linspace(low, high, LEVELS):
        one, other = (
            np.array([np.interp(level, falls, row) for row in runs]) for falls, runs in paths.values()
        )
        out.append((float(np.exp(level)), one - other))
    return out


def spread_of_norm(tables: Tables) -> Estimate:
    """Standard deviation of the length of a behaviour's hidden states over its mean, mean over behaviours; at
    the end of bare statements, as the paper takes them.
    """
    return _over_families(tables, looks(tables, "statement"), "spread of the norm")


def cosine_to_mean(tables: Tables) -> Estimate:
    """Cosine of such a hidden state with the mean of its own kind, mean over behaviours."""
    return _over_families(tables, looks(tables, "statement"), "cosine")


def variance_ratio(tables: Tables, state: str) -> Estimate:
    """Variance of that cosine over a von Mises-Fisher distribution's, median over behaviours."""
    table = looks(tables, state)
    return estimates.median(table["ratio"], tables.seed, table["behaviour"].map(family))


def looks(tables: Tables, state: str) -> pd.DataFrame:
    """The shapes of the behaviours' states at the end of a statement or of the question about it."""
    table = tables["vmf_by_behaviour"]
    return table[table["state"] == state]


def text_clean(tables: Tables) -> Estimate:
    """Accuracy on response pairs without noise, mean over runs."""
    return _resampled(tables, lambda y: y[:, 0])


def text_slope(tables: Tables) -> Estimate:
    """Slope of the accuracy on response pairs in the noise rate, mean over runs."""
    rates = text_runs(tables).columns.to_numpy(dtype=float)
    centred = rates - rates.mean() if len(rates) else rates
    return _resampled(tables, lambda y: y @ centred / (centred**2).sum())


def text_bulge(tables: Tables) -> Estimate:
    """By how much the accuracy on response pairs bulges over its chord, mean over runs; rates need not be
    evenly spaced.
    """
    rates = text_runs(tables).columns.to_numpy(dtype=float)

    def over_chord(y: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.trapezoid(y, rates, axis=1) / (rates[-1] - rates[0]) - y[:, [0, -1]].mean(axis=1)

    return _resampled(tables, over_chord)


def text_runs(tables: Tables, column: str = "accuracy") -> pd.DataFrame:
    """A column of the response pairs' table, a row a run and a column a noise rate."""
    return tables["text_pairs"].pivot(index="run", columns="rate", values=column)


def _resampled(tables: Tables, of_curves: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Estimate:
    """A linear statistic of curves of accuracy, shape (k, rates), on response pairs; test pairs and runs are
    resampled together. Without runs it has no value.
    """
    table = tables["text_margins"]
    if table.empty:
        return Estimate(np.nan, np.nan, np.nan, 0)
    right = table.assign(right=table["margin"] > 0).pivot(
        index=["run", "pair"], columns="rate", values="right"
    )
    cube = np.stack([part.to_numpy(dtype=float) for _, part in right.groupby(level="run")])
    runs, pairs, _ = cube.shape
    weights = [estimates.resample_counts(n, tables.seed + k) / n for k, n in enumerate((runs, pairs))]
    drawn = np.einsum("br,rpe,bp->be", weights[0], cube, weights[1], optimize=True)
    value = float(of_curves(cube.mean(axis=(0, 1))[None])[0])
    return estimates.from_resamples(value, of_curves(drawn), pairs)


def cost_of_the_shared_direction(tables: Tables) -> Estimate:
    """What a noise rate of 0.2 costs on raw states less what it costs on centred ones, mean over
    behaviours.
    """
    table = tables["persona_noise"]
    return _over_families(tables, table.assign(more=table["fall, raw"] - table["fall, centred"]), "more")


def gain_of_centring(tables: Tables) -> Estimate:
    """Accuracy at a noise rate of 0.2 on centred states less that on raw ones, mean over behaviours."""
    table = tables["persona_noise"]
    gain = table["at ε = 0.2, centred"] - table["at ε = 0.2, raw"]
    return _over_families(tables, table.assign(gain=gain), "gain")


def foretold_off(tables: Tables, word: str) -> Estimate:
    """Root mean square, over noise rates, of the accuracy that is foretold from covariances, means and the
    number of statements less what is measured; mean over behaviours.
    """
    return _over_families(tables, tables["persona_noise"], f"foretold off, {word}")


def ridge_off(tables: Tables) -> Estimate:
    """What the law of IPO leaves over, root mean square in accuracy over settings, times and noise rates; the
    scatter of the mean over trials is taken out.
    """
    squares = []
    for region in ("stopping", "between", "long"):
        for setting, time, runs in on_map(tables, "IPO", region):
            law = ridge_law(tables, setting, time).accuracy(runs.columns.to_numpy(dtype=float))

            def off(means: NDArray[np.float64], law: NDArray[np.float64] = law) -> NDArray[np.float64]:
                return ((means - law) ** 2).mean(axis=-1)

            squares.append(estimates.pseudo_values(off, runs.to_numpy()))
    return _signed_root(estimates.mean(np.mean(squares, axis=0)))


def saved(tables: Tables, kind: str) -> Estimate:
    """By how much a kind of noise costs less than a coin at a noise rate of 0.2, after one step of DPO."""
    row = kinds(tables, kind, "DPO", 0.2).iloc[0]
    trials = int(tables["settings"]["kind trials"].iloc[0])
    return Estimate(row["gain"], row["gain low"], row["gain high"], trials)


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


def _signed_root(square: Estimate) -> Estimate:
    """An estimate of a square as one of its root, below 0 where the square is."""
    value, low, high = (float(np.sign(v) * np.sqrt(abs(v))) for v in (square.value, square.low, square.high))
    return Estimate(value, low, high, square.n)


def _size(signed: Estimate) -> Estimate:
    """An estimate's size, from the smallest to the largest in its interval."""
    ends = abs(signed.low), abs(signed.high)
    low = 0.0 if signed.low <= 0 <= signed.high else min(ends)
    return Estimate(abs(signed.value), low, max(ends), signed.n)


def _over_families(tables: Tables, table: pd.DataFrame, column: str) -> Estimate:
    """A mean over behaviours; families of behaviours are resampled whole."""
    return estimates.mean(table[column], table["behaviour"].map(family), tables.seed)


def _fall(runs: pd.DataFrame) -> pd.Series:
    return runs.iloc[:, 0] - runs.iloc[:, _place(runs, 0.2)]


def _place(runs: pd.DataFrame, rate: float) -> int:
    return int(np.searchsorted(runs.columns, rate - NEAR))


def _neighbours(tables: Tables, reading: str) -> Iterator[tuple[str, str]]:
    for chain in chains(tables, reading).values():
        yield from itertools.pairwise(chain)


def _steps(
    tables: Tables, reading: str, region: str, quantity: Callable[[pd.DataFrame], pd.Series]
) -> Iterator[Estimate]:
    """Change of a quantity of a trial with DPO from each setting to the next, mean over the times of a region
    that both reach.
    """
    found: dict[str, dict[float, pd.Series]] = {}
    for setting, time, runs in on_map(tables, "DPO", region):
        found.setdefault(setting, {})[time] = quantity(runs)
    for before, after in _neighbours(tables, reading):
        times = sorted(set(found[before]) & set(found[after]))
        changes: Sequence[pd.Series] = [found[after][time] - found[before][time] for time in times]
        yield estimates.mean(np.mean(changes, axis=0))


REGIONS = {"short": "stopping", "long": "long"}

STATISTICS: dict[str, Callable[[Tables], Estimate]] = {
    **{f"excess_{name}": partial(excess, region=region) for name, region in REGIONS.items()},
    **{
        f"excess_less_line_{name}": partial(excess, region=region, rival="straight line")
        for name, region in REGIONS.items()
    },
    "asymmetric_rates": asymmetric_rates,
    "asymmetry": asymmetry,
    **{
        f"{name}_{reading}_{length}": partial(statistic, reading=spelled, region=region)
        for name, statistic in (
            ("smallest_gain", smallest_gain),
            ("largest_change_of_fall", largest_change_of_fall),
        )
        for reading, spelled in (("whole", "θ"), ("half", "2θ"))
        for length, region in REGIONS.items()
    },
    "ipo_less_dpo": ipo_less_dpo,
    "spread_of_norm": spread_of_norm,
    "cosine_to_mean": cosine_to_mean,
    "variance_ratio_statement": partial(variance_ratio, state="statement"),
    "variance_ratio_question": partial(variance_ratio, state="question"),
    "text_clean": text_clean,
    "text_slope": text_slope,
    "text_bulge": text_bulge,
    "cost_of_the_shared_direction": cost_of_the_shared_direction,
    "gain_of_centring": gain_of_centring,
    "ridge_off": ridge_off,
    "foretold_off_raw": partial(foretold_off, word="raw"),
    "foretold_off_centred": partial(foretold_off, word="centred"),
    "saved_by_margin": partial(saved, kind="by margin"),
    "saved_by_uncertainty": partial(saved, kind="by uncertainty"),
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
    square = _left_over(tables, "IPO")[model].iloc[-1]
    return f"{100 * np.sqrt(max(square, 0)):.2f}"


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
    at = {loss: table["accuracy"].iloc[_place(table.T, 0.3)] for loss, table in best.items()}
    return f"{100 * max(abs(at[loss] - at['DPO']) for loss in ('cDPO', 'rDPO')):.2f}"


def _sharp_limit(tables: Tables) -> str:
    """The concentration from which on the theorem with exact tails is below 1, for opposite means."""
    row = tables["settings"].iloc[0]
    d, n = int(row["dimension"]), 2 * int(row["per label"])
    low, high = 1.0, 1e4
    for _ in range(30):  # bisection: the bound falls with the concentration
        middle = np.sqrt(low * high)
        says = theory.sharp_bound(0, d, middle * d / 2, np.pi, n).risk < 1
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
    return f"{vmf.cosine_variance(PAPER_DIMENSION, kappa):.1e}".replace("-", "−")


def _mean_curve(tables: Tables, states: str, rate: float) -> str:
    """Mean accuracy over behaviours at a noise rate."""
    curves = tables["persona_curves"]
    return f"{curves[np.isclose(curves['rate'], rate)][states].mean():.2f}"


def _rho(tables: Tables, predictor: str, outcome: str) -> str:
    table = tables["persona_correlations"]
    row = table[(table["predictor"] == predictor) & (table["outcome"] == outcome)].iloc[0]
    return str(Estimate(row["correlation"], row["low"], row["high"], int(row["n"])))


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
    "nz-quadratic": _quadratic_wins,
    "nz-b-first": partial(_second_number, last=False),
    "nz-b-last": partial(_second_number, last=True),
    "nz-mirror-off": _mirror_off,
    "nz-apart-short": partial(_apart, training="short"),
    "nz-apart-long": partial(_apart, training="long"),
    "nz-one-sided": _one_sided,
    "nz-robust": _robust,
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
    "nz-delta-fall": partial(_rho, predictor="δ", outcome="fall, centred"),
    "nz-delta-c": partial(_rho, predictor="δ", outcome="c, centred"),
    "nz-pilot-best": _pilot_best,
}
