"""Wrong labels on two clouds of points, which are drawn (chapter 3): no model takes part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn.experiments import noisy
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.noise import LOSSES, SMOOTHING, Design, clouds, descents, family, times
from prefdyn.experiments.noisy import Cloud
from prefdyn.experiments.tasks import Task
from prefdyn.measures import estimates
from prefdyn.theory import noise as theory

MAPPED = ("DPO", "IPO", "SLiC")
"""Those of NZ, which are followed through time."""
REFERENCE = "60°, γ = 1/4"
"""The setting for which all losses are shown."""
KIND_RATES = (0.0, 0.1, 0.2, 0.3, 0.4)
"""Mean noise rates at which kinds of noise are compared."""


# Two clouds -----------------------------------------------------------------------------------------


def controlled(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Test accuracy over noise rates from 0 to 1 in all settings, with five losses and two lengths of
    training (NZ Section 4.1).

    Tables:
        settings: setting; relative kappa (2 kappa / d, NZ's gamma); angle (between the means, radians);
            dimension; per label (training points of each label, as many are tested on); trials; kind trials
            (of `kinds_of_noise`); epochs (of full-batch descent; the map's later times take more); reading
            (of the paper's angle under which the setting is the paper's: θ, 2θ or both).
        stopping: loss; allowed, short, long: eta beta^2 steps that the theorem allows at the narrowest angle,
            and that the two trainings run to.
        accuracies: accuracy on the test points after short training with DPO, one row a setting, trial and
            rate.
        curves: of all settings, trainings, losses and rates: accuracy, the mean over trials; low, high: its
            95% Student interval.
        differences: training; loss; rate; setting; difference: accuracy less that with DPO on the same points
            and labels, mean over trials, with low, high; most: the largest in one trial, either way.
        equation_18: the fit of Equation 18 to rates up to 0.35, on the mean over trials: training; loss;
            setting; clean risk; R and c, with 95% bootstrap intervals over trials; R²; largest residual.
    """
    rates = np.round(np.arange(0, 1 + design.rate_step / 2, design.rate_step), 6)
    every = clouds(design.dimension)
    found = pd.concat(
        [
            accuracies.assign(setting=name)
            for name, accuracies in zip(every, _accuracies(bench, design, every, rates), strict=True)
        ],
        ignore_index=True,
    )
    runs = {
        (str(training), str(loss), str(setting)): part.pivot(
            index="trial", columns="rate", values="accuracy"
        ).to_numpy()
        for (training, loss, setting), part in found.groupby(["training", "loss", "setting"], sort=False)
    }
    short = found[(found["training"] == "short") & (found["loss"] == "DPO")]
    return {
        "settings": _settings(design),
        "stopping": _stopping(design),
        "accuracies": short[["setting", "trial", "rate", "accuracy"]],
        "curves": _curves(runs, rates),
        "differences": _differences(runs, rates),
        "equation_18": _equation_18(runs, rates, bench.seed),
    }


Accuracies = Mapping[tuple[str, str, str], NDArray[np.float64]]
"""Accuracies by training, loss and setting, shape (trials, rates)."""


def _accuracies(
    bench: Bench, design: Design, every: Mapping[str, Cloud], rates: NDArray[np.float64]
) -> list[pd.DataFrame]:
    """Each setting of the controlled experiment, kept."""
    sizes, tasks = (design.per_label, design.trials), []
    for number, (name, cloud) in enumerate(every.items()):
        seed = (bench.seed, number)
        key = {
            "cloud": asdict(cloud),
            "losses": [*LOSSES.items(), SMOOTHING],
            "descents": {title: asdict(descent) for title, descent in descents(design).items()},
            "rates": rates.tolist(),
            "sizes": list(sizes),
            "seed": seed,
            "device": bench.device.type,
        }
        arguments = (cloud, family(), descents(design), rates, *sizes, seed, bench.device)
        tasks.append(Task(f"the clouds of {name}", "clouds", key, noisy.controlled, arguments))
    return bench.keep_all(tasks)


def _settings(design: Design) -> pd.DataFrame:
    readings = {60: "θ", 120: "2θ", 180: "θ"}
    return pd.DataFrame(
        [
            {
                "setting": name,
                "relative kappa": cloud.relative_kappa,
                "angle": cloud.angle,
                "dimension": cloud.dimension,
                "per label": design.per_label,
                "trials": design.trials,
                "kind trials": design.kind_trials,
                "epochs": design.epochs,
                # Under both readings one angle and concentration is the same.
                "reading": "both" if name == "120°, γ = 1/8" else readings[round(np.degrees(cloud.angle))],
            }
            for name, cloud in clouds(design.dimension).items()
        ]
    )


def _stopping(design: Design) -> pd.DataFrame:
    narrowest = min(cloud.angle for cloud in clouds(design.dimension).values())
    run = {name: descent.time * design.beta**2 for name, descent in descents(design).items()}
    return pd.DataFrame(
        [
            {"loss": name, "allowed": theory.stopping_time(loss, 1.0, narrowest), **run}
            for name, loss in family().items()
        ]
    )


def _curves(runs: Accuracies, rates: NDArray[np.float64]) -> pd.DataFrame:
    rows = []
    for (training, loss, setting), accuracies in runs.items():
        for rate, column in zip(rates, accuracies.T, strict=True):
            mean = estimates.mean(column)
            rows.append((setting, training, loss, rate, mean.value, mean.low, mean.high))
    return pd.DataFrame(rows, columns=["setting", "training", "loss", "rate", "accuracy", "low", "high"])


def _differences(runs: Accuracies, rates: NDArray[np.float64]) -> pd.DataFrame:
    rows = []
    for (training, loss, setting), accuracies in runs.items():
        if loss == "DPO":
            continue
        apart = accuracies - runs[training, "DPO", setting]
        for rate, column in zip(rates, apart.T, strict=True):
            mean, most = estimates.mean(column), np.abs(column).max()
            rows.append((training, loss, rate, setting, mean.value, mean.low, mean.high, most))
    columns = ["training", "loss", "rate", "setting", "difference", "low", "high", "most"]
    return pd.DataFrame(rows, columns=columns)


def _equation_18(runs: Accuracies, rates: NDArray[np.float64], seed: int) -> pd.DataFrame:
    low = rates <= theory.FITTED + 1e-9
    rows = []
    for (training, loss, setting), accuracies in runs.items():
        risks = 1 - accuracies[:, low]
        fit = theory.bootstrap_fit(rates[low], risks, seed, resamples=400)
        row = {"training": training, "loss": loss, "setting": setting, "clean risk": risks[:, 0].mean()}
        for column, estimate in (
            ("R", fit.clean),
            ("c", fit.c),
            ("R²", fit.r_squared),
            ("largest residual", fit.largest_residual),
        ):
            row |= {column: estimate.value, f"{column} low": estimate.low, f"{column} high": estimate.high}
        rows.append(row)
    return pd.DataFrame(rows)


# The map: through time ------------------------------------------------------------------------------


def phase_map(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """The same clouds through time: from one step to what is nearly the end, with the three losses of NZ.

    Time is eta beta^2 steps, on which alone the curve depends while steps are small.

    Tables:
        map_runs: setting; loss; time; trial; loss ratio: of the training loss on labels that are right, at
            the end to at the beginning; and accuracies, in columns called by their noise rate, 0 to 0.5.
        map_fits: setting; loss; time; region: "stopping" up to the theorem's stopping time, "long" from
            `LONG` on, else "between"; clean (accuracy), fall (of the accuracy to ε = 0.2), c (of Equation 18,
            fitted to rates up to 0.35) with 95% jackknife intervals over trials; R² of that fit; loss ratio,
            mean over trials; and for Equation 18 and each rival its excess: what its form leaves over, a root
            mean square in accuracy, see `theory.excess_errors`, below 0 where the mean square is.
    """
    rates = np.round(np.arange(0, 0.5 + design.rate_step / 2, design.rate_step), 6)
    every, run = clouds(design.dimension), times(design)
    chosen = {name: loss for name, loss in family().items() if name in MAPPED}
    sizes, tasks = (design.per_label, design.map_trials), []
    for number, (name, cloud) in enumerate(every.items()):
        seed = (bench.seed, number)
        key = {
            "cloud": asdict(cloud),
            "losses": list(chosen),
            "descents": [(time, asdict(descent)) for time, descent in run.items()],
            "rates": rates.tolist(),
            "sizes": list(sizes),
            "seed": seed,
            "device": bench.device.type,
        }
        arguments = (cloud, chosen, run, rates, *sizes, seed, bench.device)
        tasks.append(Task(f"the clouds of {name}, in time", "clouds", key, noisy.through_time, arguments))
    found = zip(every, bench.keep_all(tasks), strict=True)
    runs = pd.concat([table.assign(setting=name) for name, table in found], ignore_index=True)
    names = [f"{rate:g}" for rate in rates]
    runs = runs[["setting", "loss", "time", "trial", "loss ratio", *names]]
    runs["loss ratio"] = runs["loss ratio"].map(lambda value: float(f"{value:.5g}"))
    return {"map_runs": runs, "map_fits": _map_fits(runs, rates, every)}


LONG = 100.0
"""The time from which on training is long."""


def region(loss: str, angle: float, time: float) -> str:
    """Where a point of the map lies: see `phase_map`."""
    if time <= theory.stopping_time(family()[loss], 1.0, angle):
        return "stopping"
    return "long" if time >= LONG else "between"


def _map_fits(runs: pd.DataFrame, rates: NDArray[np.float64], every: Mapping[str, Cloud]) -> pd.DataFrame:
    low, at = rates <= theory.FITTED + 1e-9, np.searchsorted(rates, 0.2 - 1e-9)
    rows, x = [], rates[low]

    def constant(means: NDArray[np.float64]) -> NDArray[np.float64]:
        return theory.fit_equation_18(x, means)[1]

    for (setting, loss, time), part in runs.groupby(["setting", "loss", "time"], sort=False):
        y = part[[f"{rate:g}" for rate in rates]].to_numpy()
        risks = 1 - y[:, low]
        c = estimates.pseudo_values(constant, risks)
        mean = risks.mean(axis=0)
        left, about = mean - theory.predict("Equation 18", x, mean, x), mean - mean.mean()
        row = {
            "setting": setting,
            "loss": loss,
            "time": time,
            "region": region(str(loss), every[str(setting)].angle, float(str(time))),
            "loss ratio": part["loss ratio"].mean(),
            "R²": 1 - (left**2).sum() / (about**2).sum() if about.any() else np.nan,
        }
        for name, values in (("clean", y[:, 0]), ("fall", y[:, 0] - y[:, at]), ("c", c)):
            estimate = estimates.mean(values)
            row |= {name: estimate.value, f"{name} low": estimate.low, f"{name} high": estimate.high}
        for model in theory.MODELS:
            square = theory.excess_errors(model, x, risks).mean()
            row[f"excess: {model}"] = np.sign(square) * np.sqrt(abs(square))
        rows.append(row)
    return pd.DataFrame(rows)


# Noise that is no coin ------------------------------------------------------------------------------


def kinds_of_noise(bench: Bench, design: Design) -> pd.DataFrame:
    """Kinds of noise at equal mean rates, in the setting `REFERENCE`, with DPO, cDPO and rDPO through time.

    Returns:
        kind (see `data.noise.flip_probabilities`); loss: cDPO and rDPO are told the true rate, or 0.2 where
        the name says so; time (eta beta^2 steps); rate; accuracy, low, high: the mean over trials with its
        95% Student interval; gain, gain low, gain high: over a coin's with DPO at the same time, on the same
        points.
    """
    cloud, seed = clouds(design.dimension)[REFERENCE], (bench.seed, len(clouds(design.dimension)))
    key = {
        "cloud": asdict(cloud),
        "descents": [(time, asdict(descent)) for time, descent in times(design).items()],
        "rates": list(KIND_RATES),
        "told": SMOOTHING,
        "sizes": [design.per_label, design.kind_trials],
        "seed": seed,
        "device": bench.device.type,
    }
    sizes = (design.per_label, design.kind_trials)
    arguments = (cloud, times(design), KIND_RATES, SMOOTHING, *sizes, seed, bench.device)
    (found,) = bench.keep_all([Task("kinds of noise", "clouds", key, noisy.by_kind, arguments)])
    coin = found[(found["kind"] == "coin") & (found["loss"] == "DPO")]
    coin = coin.set_index(["time", "rate", "trial"])["accuracy"].sort_index()
    rows = []
    for (kind, loss, time, rate), part in found.groupby(["kind", "loss", "time", "rate"], sort=False):
        mean = estimates.mean(part["accuracy"])
        against = coin.loc[time, rate].reindex(part["trial"]).to_numpy()
        gain = estimates.mean(part["accuracy"].to_numpy() - against)
        rows.append(
            (kind, loss, time, rate, mean.value, mean.low, mean.high, gain.value, gain.low, gain.high)
        )
    columns = ["kind", "loss", "time", "rate", "accuracy", "low", "high", "gain", "gain low", "gain high"]
    return pd.DataFrame(rows, columns=columns)
