"""What the claims of the chapter `noise` are judged by."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefbook.ledger.derived.noise import (
    NEAR,
    chains,
    column_at,
    fitted,
    kinds,
    looks,
    on_map,
    ridge_law,
    settings,
    sums,
    text_runs,
)
from prefbook.ledger.tables import Tables
from prefdyn.data.personas import family
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate
from prefdyn.theory import noise as theory


def excess(tables: Tables, region: str, rival: str = "") -> Estimate:
    """What the form of Equation 18 leaves over in a region of the map with DPO, root mean square in accuracy
    over settings, times and noise rates; or, with a rival, the mean square less the rival's, as the root of
    its size with its sign.
    """
    runs = [fitted(runs) for _, _, runs in on_map(tables, "DPO", region)]
    rates, risks = runs[0].columns.to_numpy(dtype=float), 1 - np.array(runs)
    squares = theory.excess_errors("Equation 18", rates, risks)
    if rival:
        squares -= theory.excess_errors(rival, rates, risks)
    return _signed_root(estimates.mean(squares.mean(axis=0)))


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
    return estimates.size(max(each, key=lambda e: max(abs(e.low), abs(e.high))))


def smallest_gain(tables: Tables, reading: str, region: str) -> Estimate:
    """The change of the mean accuracy up to ε = 0.35 from one setting to the next where it gains least."""
    return min(_steps(tables, reading, region, lambda runs: fitted(runs).mean(axis=1)), key=lambda e: e.low)


def largest_change_of_fall(tables: Tables, reading: str, region: str) -> Estimate:
    """The change of the fall from ε = 0 to 0.2 from one setting to the next where it grows most."""
    return max(_steps(tables, reading, region, _fall), key=lambda e: e.high)


def changes_of_fall(tables: Tables, reading: str, region: str, varied: str) -> list[Estimate]:
    """That change along the settings in which one thing alone differs, which `derived.noise.chains` names."""
    wanted = set(itertools.pairwise(chains(tables, reading)[varied]))
    steps = zip(_neighbours(tables, reading), _steps(tables, reading, region, _fall), strict=True)
    return [change for pair, change in steps if pair in wanted]


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
    return estimates.size(max(each, key=lambda e: max(abs(e.low), abs(e.high))))


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
    return _resampled(tables, lambda y: _over_chord(y, rates))


def text_bulge_share(tables: Tables) -> Estimate:
    """The same as a share of the height of the curve from its first to its last rate."""
    rates = text_runs(tables).columns.to_numpy(dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):  # a curve without height has no share
        return _resampled(tables, lambda y: _over_chord(y, rates) / (y[:, 0] - y[:, -1]))


def _over_chord(y: NDArray[np.float64], rates: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.trapezoid(y, rates, axis=1) / (rates[-1] - rates[0]) - y[:, [0, -1]].mean(axis=1)


def _resampled(tables: Tables, of_curves: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Estimate:
    """A statistic of mean curves of accuracy, shape (k, rates), on response pairs; test pairs and runs are
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
    return estimates.from_resamples(value, of_curves(drawn), pairs, pairs)


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


def _signed_root(square: Estimate) -> Estimate:
    """An estimate of a square as one of its root, below 0 where the square is."""
    value, low, high = (float(np.sign(v) * np.sqrt(abs(v))) for v in (square.value, square.low, square.high))
    return Estimate(value, low, high, square.n)


def _over_families(tables: Tables, table: pd.DataFrame, column: str) -> Estimate:
    """A mean over behaviours; families of behaviours are resampled whole."""
    return estimates.mean(table[column], table["behaviour"].map(family), tables.seed)


def _fall(runs: pd.DataFrame) -> pd.Series:
    return runs.iloc[:, 0] - runs.iloc[:, column_at(runs, 0.2)]


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
