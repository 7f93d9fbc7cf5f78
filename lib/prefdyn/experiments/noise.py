"""What wrong labels cost (NZ): the experiments of chapter 3.

Every experiment is a function of a bench and a design that returns a table, or tables by name. The points of
the controlled experiments are drawn, not a model's: they need no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.data import Pair, Persona, Source
from prefdyn.data.noise import judged_by_length
from prefdyn.engine import losses, states
from prefdyn.engine.last_layer import Descent
from prefdyn.engine.losses import Loss
from prefdyn.engine.training import Settings
from prefdyn.errors import PrefdynError
from prefdyn.experiments import checks, noisy
from prefdyn.experiments.bench import Bench, Task
from prefdyn.experiments.noisy import Cloud
from prefdyn.experiments.phases import Adapter, Phase
from prefdyn.experiments.plan import Lengths, Work, largest_batch, persona_features
from prefdyn.files import public_name
from prefdyn.measures import estimates, geometry
from prefdyn.theory import noise as theory
from prefdyn.theory import vmf as distribution

LOSSES = {"DPO": "dpo", "IPO": "ipo", "SLiC": "slic", "cDPO": "cdpo", "rDPO": "rdpo"}
"""The losses that are compared, by the name that tables give them."""
MAPPED = ("DPO", "IPO", "SLiC")
"""Those of NZ, which are followed through time."""
SMOOTHING = 0.2
"""The noise rate that cDPO and rDPO are told to expect."""
REFERENCE = "60°, γ = 1/4"
"""The setting for which all losses are shown."""
FIRST, LAST = 5e-3, 2e3
"""Training times eta beta^2 steps from which and to which the map goes: one step, and what is nearly all."""
LARGEST_STEP = 20.0
"""A step eta beta^2 above which descent on IPO might jump back and forth; longer training has more steps."""
TIGHT = 5000.0
"""A concentration for its dimension, 2 kappa / d, at which Theorem 3.1 as printed promises something."""
KIND_RATES = (0.0, 0.1, 0.2, 0.3, 0.4)
"""Mean noise rates at which kinds of noise are compared."""
BARE = 40
"""Statements of each label whose state is taken at their own end, at most: enough for a shape."""
PERSONA_RATES = np.round(np.arange(0, 0.5 + 0.0125, 0.025), 6)
PREDICTORS = ("δ", "‖Σ‖", "Tr Σ / δ²")


@dataclass(frozen=True)
class TextSetting:
    """How response pairs are trained on.

    Attributes:
        labels: "people's", those of the data; or "length", those of a judge who prefers the shorter response.
        weights: "all", or "LoRA".
        learning_rate: of AdamW, in supervised fine-tuning and in DPO.
    """

    labels: str
    weights: str
    learning_rate: float


TEXT_SETTINGS = {
    1: TextSetting("people's", "all", 5e-5),
    2: TextSetting("people's", "LoRA", 5e-4),
    3: TextSetting("people's", "all", 1e-5),
    4: TextSetting("length", "all", 5e-5),
}
"""What the pilot chooses from, by number. The third has NZ's learning rate (Table 1)."""
LORA = Adapter(rank=8, alpha=32, dropout=0.05)
ENOUGH = 0.58
"""The held-out accuracy without noise from which on there is something to lose."""


@dataclass(frozen=True)
class Design:
    """The sizes and settings of the chapter's experiments.

    Attributes:
        dimension: of the points of the controlled experiments
        per_label: training points of each label; as many are tested on
        trials: independent repeats of the controlled experiment
        rate_step: from one noise rate to the next; 0.05 must be a multiple of it
        beta: strength of the pull to the reference
        epochs: of full-batch descent
        learning_rate: short training, within the theorem's stopping time
        long_rate: long training, far beyond it
        times: training times of the map
        map_trials: independent repeats of the map
        kind_trials: repeats of the comparison of kinds of noise
        personas: how many are measured; 0 is all
        statements_per_label: of each persona, drawn by the seed; 0 is all
        persona_trials: random halves and flips of each persona
        pilot: settings for response pairs that are tried without noise, by their numbers; [0] is none
        text_setting: the one that is trained with noise
        text_longest: characters of a pair's prompt and responses, at most; 0 is any
        text_rates: noise rates of the response pairs, from 0
        text_runs: repeats with other pairs and flips; 0 leaves the experiment out
        text_pairs: response pairs trained on
        text_tests: response pairs tested on
        text_epochs: of DPO
        text_batch_size: response pairs an update
    """

    dimension: int
    per_label: int
    trials: int
    rate_step: float
    beta: float
    epochs: int
    learning_rate: float
    long_rate: float
    times: int
    map_trials: int
    kind_trials: int
    personas: int
    statements_per_label: int
    persona_trials: int
    pilot: list[int]
    text_setting: int
    text_longest: int
    text_rates: list[float]
    text_runs: int
    text_pairs: int
    text_tests: int
    text_epochs: int
    text_batch_size: int

    def __post_init__(self) -> None:
        """
        Raises:
            PrefdynError: noise rates that tables have a row for are not among those that the design has; a
                setting for response pairs is tried twice; one or two runs on them, which give no interval.
        """
        parts = 0.05 / self.rate_step
        if abs(parts - round(parts)) > 1e-6:
            raise PrefdynError(f"rate_step is {self.rate_step}: 0.05 must be a multiple of it, such as 0.025")
        rates = self.text_rates
        if len(rates) < 2 or rates[0] != 0 or rates != sorted(set(rates)):
            raise PrefdynError(f"text_rates is {rates}: it must begin with 0 and rise, as in [0, 0.25, 0.5]")
        checks.distinct("pilot", self.pilot)
        if 0 < self.text_runs < 3:
            raise PrefdynError(f"text_runs is {self.text_runs}: it must be 0 (none) or at least 3")


def check_design(design: Design, source: Source) -> None:
    """See that a source has what the design needs.

    Raises:
        PrefdynError: it has not.
    """
    checks.personas(design, source, fewest=3, each=4)
    short = len(_short_pairs(data.load_pairs(source), design))
    if short < design.text_tests + 1:
        raise PrefdynError(
            f"the data has {short} response pairs of at most {design.text_longest or 'any number of'} "
            f"characters: the chapter needs at least {design.text_tests + 1}"
        )


def clouds(dimension: int) -> dict[str, Cloud]:
    """The settings of NZ Section 4.1, by the names that tables give them, under both readings of its angle.

    The paper varies the concentration at theta = pi / 3, and theta from pi / 3 to pi at one concentration. If
    theta is the whole angle between the means these are 60 degrees, and 60, 120 and 180; if the means are
    2 theta apart, as its text has it, they are 120, and 120, 240 (again 120) and 360 (none at all).
    """
    settings = [
        (60, 1 / 16),
        (60, 1 / 8),
        (60, 1 / 4),
        (120, 1 / 16),
        (120, 1 / 8),
        (120, 1 / 4),
        (180, 1 / 8),
    ]
    return {
        f"{degrees}°, γ = 1/{1 / gamma:.0f}": Cloud(gamma, np.radians(degrees), dimension)
        for degrees, gamma in settings
    }


def family() -> dict[str, Loss]:
    """The losses that are compared, by the names of `LOSSES`."""
    return {
        spelled: losses.get(name, SMOOTHING if name in ("cdpo", "rdpo") else None)
        for spelled, name in LOSSES.items()
    }


def descents(design: Design) -> dict[str, Descent]:
    """Short and long training."""
    return {
        "short": Descent(design.beta, design.learning_rate, design.epochs),
        "long": Descent(design.beta, design.long_rate, design.epochs),
    }


def times(design: Design) -> dict[float, Descent]:
    """The trainings of the map, by eta beta^2 steps: the design's epochs, or more where a step would be above
    `LARGEST_STEP`.
    """
    out = {}
    for time in np.geomspace(FIRST, LAST, design.times):
        steps = max(design.epochs, int(np.ceil(time / LARGEST_STEP - 1e-9)))
        out[float(f"{time:.3g}")] = Descent(design.beta, time / steps / design.beta**2, steps)
    return out


# Two clouds -----------------------------------------------------------------------------------------


def controlled(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Test accuracy over noise rates from 0 to 1 in all settings, with five losses and two lengths of
    training (NZ Section 4.1).

    Tables:
        settings: setting; relative kappa (2 kappa / d, NZ's gamma); angle (between the means, radians);
            dimension; per label (training points of each label, as many are tested on); trials; kind trials
            (of `kinds_of_noise`); reading (of the paper's angle under which the setting is the paper's: θ, 2θ
            or both).
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


# Where Theorem 3.1 says something -------------------------------------------------------------------


def regime(bench: Bench, design: Design) -> pd.DataFrame:
    """The concentration from which on the bound of Theorem 3.1 is below one.

    Returns: ε; angle (between the means); γ for ...: the smallest relative kappa, infinite where none is
        enough, for both constants k and both deviations of the share of wrong labels.
    """
    return pd.DataFrame(
        [
            {"ε": rate, "angle": f"{np.degrees(angle):.0f}°"}
            | {
                f"γ for k = {k}, {word}": theory.smallest_relative_kappa(
                    rate, angle, 2 * design.per_label, k, word
                )
                for word in theory.DEVIATIONS
                for k in (8, 4)
            }
            for angle in (np.pi, 5 * np.pi / 6, 2 * np.pi / 3)
            for rate in (0.0, 0.01, 0.02, 0.03)
        ]
    )


def sharp_regime(bench: Bench, design: Design) -> pd.DataFrame:
    """What the theorem promises with exact tails in the design's dimension.

    Returns: γ; angle (between the means, degrees); ε; bound: on the risk, NaN where the proof does not reach;
        printed: that of Theorem 3.1 with k = 8 and an exact deviation; highest rate: the largest noise rate,
        to a hundredth, at which the bound is below one half, NaN where none is.
    """
    d, n = design.dimension, 2 * design.per_label
    rates = np.round(np.arange(0, 0.5, 0.01), 2)
    rows = []
    for gamma in (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 1024.0):
        for degrees in (60, 120, 180):
            angle = np.radians(degrees)
            risks = [theory.sharp_bound(rate, d, gamma * d / 2, angle, n).risk for rate in rates]
            useful = [rate for rate, risk in zip(rates, risks, strict=True) if risk < 0.5]
            for rate in (0.0, 0.1, 0.2):
                printed = theory.bound(rate, gamma, angle, n, 8, "exact").risk
                risk = risks[round(100 * rate)]
                rows.append((gamma, degrees, rate, risk, printed, max(useful, default=np.nan)))
    return pd.DataFrame(rows, columns=["γ", "angle", "ε", "bound", "printed", "highest rate"])


def tight_clouds(bench: Bench, design: Design) -> pd.DataFrame:
    """The risk where the theorem promises something: opposite means, a concentration of `TIGHT`, trained with
    DPO to the end of the stopping time.

    Returns:
        trial; rate; risk, the share of test points that are wrong; relative kappa; per label.
    """
    # The bound does not depend on d; a small d keeps the points cheap.
    cloud, loss = Cloud(TIGHT, np.pi, 64), losses.dpo()
    time = theory.stopping_time(loss, design.beta, cloud.angle)
    descent = Descent(design.beta, time / design.epochs, design.epochs)
    limit = theory.bound(0, TIGHT, cloud.angle, 2 * design.per_label, 4).highest_rate
    rates = np.linspace(0, max(limit, 0.05), 12)
    found = noisy.controlled(
        cloud,
        {"DPO": loss},
        {"": descent},
        rates,
        design.per_label,
        design.trials,
        (bench.seed, 0),
        bench.device,
    )
    risks = found.assign(risk=1 - found["accuracy"])[["trial", "rate", "risk"]]
    return risks.assign(**{"relative kappa": TIGHT, "per label": design.per_label})


# Hidden states --------------------------------------------------------------------------------------


def vmf(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Whether hidden states look like draws from von Mises-Fisher distributions (NZ Table 2, and more).

    Two states stand for a statement: that at its own end, which NZ takes, here of at most `BARE` statements
    of a label; and that at the end of the question about it, which is trained on.

    Tables:
        vmf: model; state ("statement", "question"); average norm; norm variance; average cosine (of a state
            with the mean of its kind); cosine variance over behaviours. The first row is the paper's.
        vmf_by_behaviour: behaviour; state; spread of the norm (standard deviation over mean); cosine; γ (2
            kappa / d, of the distribution with this mean cosine); variance of the cosine; that of a vMF;
            ratio (of the two); angle (°) (between the means of the two kinds); widest share (of the variance
            in all directions, ‖Σ‖ / Tr Σ); dimension; statements.
    """
    cast = _cast(bench, design)
    own = {"model": "the paper's (Llama-2-7B)", "state": "statement", "average norm": 140.3}
    own |= {"norm variance": 1.618, "average cosine": 0.9876, "cosine variance over behaviours": 1.106e-5}
    summary, parts = [own], []
    for state in ("statement", "question"):
        rows, norms = [], []
        for persona in cast:
            part = persona.drawn(BARE, bench.seed) if state == "statement" else persona
            g = _bare(bench, part) if state == "statement" else bench.features(part)
            norms.append(np.linalg.norm(g, axis=1))
            rows.append({"behaviour": persona.name, "state": state, **_look(g, part)})
        looks, lengths = pd.DataFrame(rows), np.concatenate(norms).astype(float)
        parts.append(looks)
        summary.append(
            {
                "model": public_name(bench.model_name),
                "state": state,
                "average norm": lengths.mean(),
                "norm variance": lengths.var(),
                "average cosine": looks["cosine"].mean(),
                "cosine variance over behaviours": looks["cosine"].var(ddof=0),
            }
        )
    return {"vmf": pd.DataFrame(summary), "vmf_by_behaviour": pd.concat(parts, ignore_index=True)}


def _cast(bench: Bench, design: Design) -> list[Persona]:
    """The personas that take part, each with statements of either label that the seed draws."""
    most = design.statements_per_label or 10**6
    return [persona.drawn(most, bench.seed) for persona in bench.personas(design.personas, 0)]


def _bare(bench: Bench, persona: Persona) -> NDArray[np.float32]:
    """The state at the end of each statement, with nothing around it, shape (n, d)."""
    key = {"statements": list(persona.statements)}
    return bench.measure("features", key, states.hidden_states, persona.statements)


def _look(g: NDArray[np.float32], persona: Persona) -> dict[str, float]:
    shapes = [distribution.shape(g[persona.labels == sign]) for sign in (1, -1)]
    norms = np.linalg.norm(g, axis=1)
    moments = geometry.moments(g, persona.labels)
    cosine = geometry.cosine(moments.mean_positive, moments.mean_negative)
    variance = np.mean([shape.variance for shape in shapes])
    expected = np.mean([shape.expected_variance for shape in shapes])
    return {
        "spread of the norm": float(norms.std() / norms.mean()),
        "cosine": float(np.mean([shape.cosine for shape in shapes])),
        "γ": float(2 * np.mean([shape.kappa for shape in shapes]) / g.shape[1]),
        "variance of the cosine": float(variance),
        "that of a vMF": float(expected),
        "ratio": float(variance / expected),
        "angle (°)": float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))),
        "widest share": moments.concentration / moments.trace,
        "dimension": g.shape[1],
        "statements": len(g),
    }


def persona_noise(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Wrong labels on the hidden states of every behaviour, as they are and with the mean of all states
    subtracted.

    Each trial trains on a random half of a behaviour's statements and tests on the other. All states are
    divided by their mean length.

    Tables:
        persona_noise: behaviour; its δ, ‖Σ‖ and Tr Σ / δ²; for raw and centred states the accuracy without
            noise, at ε = 0.2, the fall from the one to the other, and the c of Equation 18 fitted to rates up
            to 0.35, all of means over trials; foretold off: root mean square, over rates, of what is foretold
            less what is measured.
        persona_curves: behaviour; rate; raw, centred: accuracy, mean over trials, with low, high: its 95%
            Student interval; and foretold: see `theory.accuracy_of_states`.
        persona_correlations: over behaviours: predictor; outcome (a column of persona_noise); correlation,
            low, high: Spearman's, with its 95% bootstrap interval; n.
    """
    cast = _cast(bench, design)
    whole = np.concatenate([bench.features(persona) for persona in cast])
    shared, scale = whole.mean(axis=0), np.linalg.norm(whole, axis=1).astype(float).mean()
    moved = {
        (word, persona.name): (bench.features(persona) - centre) / scale
        for word, centre in {"raw": 0, "centred": shared}.items()
        for persona in cast
    }
    people = {persona.name: persona for persona in cast}
    found = bench.keep_all(
        [_resplit(bench, design, people[name], word, g) for (word, name), g in moved.items()]
    )
    moments = {persona.name: geometry.moments(bench.features(persona), persona.labels) for persona in cast}
    near, at = PERSONA_RATES <= theory.FITTED + 1e-9, np.searchsorted(PERSONA_RATES, 0.2 - 1e-9)
    summary = {
        name: {
            "behaviour": name,
            "δ": m.distinguishability,
            "‖Σ‖": m.concentration,
            "Tr Σ / δ²": m.spread_ratio,
        }
        for name, m in moments.items()
    }
    curves = {name: pd.DataFrame({"behaviour": name, "rate": PERSONA_RATES}) for name in people}
    for ((word, name), g), table in zip(moved.items(), found, strict=True):
        runs = table.pivot(index="trial", columns="rate", values="accuracy").to_numpy()
        labels = people[name].labels
        size = min((labels > 0).sum(), (labels < 0).sum()) // 2
        law = theory.accuracy_of_states(g, labels, PERSONA_RATES, int(size), bench.seed)
        each = [estimates.mean(column) for column in runs.T]
        y = np.array([estimate.value for estimate in each])
        curves[name][word] = y
        curves[name][f"{word} low"] = [estimate.low for estimate in each]
        curves[name][f"{word} high"] = [estimate.high for estimate in each]
        curves[name][f"{word} foretold"] = law
        summary[name] |= {
            f"accuracy, {word}": y[0],
            f"at ε = 0.2, {word}": y[at],
            f"fall, {word}": y[0] - y[at],
            f"c, {word}": float(theory.fit_equation_18(PERSONA_RATES[near], 1 - y[near])[1]),
            f"foretold off, {word}": float(np.sqrt(((law - y) ** 2).mean())),
        }
    table = pd.DataFrame(list(summary.values()))
    return {
        "persona_noise": table,
        "persona_curves": pd.concat(list(curves.values()), ignore_index=True).round(5),
        "persona_correlations": _correlations(table, bench.seed),
    }


def _resplit(bench: Bench, design: Design, persona: Persona, word: str, g: NDArray[np.float32]) -> Task:
    """Accuracy on a behaviour's states g at each of `PERSONA_RATES`, in each trial."""
    descent, trials, seed = descents(design)["short"], design.persona_trials, bench.seed
    key = {
        "features": g,
        "labels": persona.labels,
        "descent": asdict(descent),
        "rates": PERSONA_RATES.tolist(),
        "trials": trials,
        "seed": seed,
        "device": bench.device.type,
    }
    arguments = (g, persona.labels, losses.dpo(), descent, PERSONA_RATES, trials, seed, bench.device)
    return Task(f"wrong labels of {persona.name}, {word}", "halves", key, noisy.resplit, arguments)


def _correlations(summary: pd.DataFrame, seed: int) -> pd.DataFrame:
    rows = []
    for outcome in ("at ε = 0.2, raw", "at ε = 0.2, centred", "fall, centred", "c, centred"):
        for predictor in PREDICTORS:
            rho = estimates.spearman(summary[predictor], summary[outcome], seed)
            rows.append((predictor, outcome, rho.value, rho.low, rho.high, rho.n))
    return pd.DataFrame(rows, columns=["predictor", "outcome", "correlation", "low", "high", "n"])


# Text, and all weights ------------------------------------------------------------------------------


def text_pilot(bench: Bench, design: Design) -> pd.DataFrame:
    """Response pairs without noise: is there anything to lose? Each setting of the design's pilot is trained
    once, on the pairs of the first run.

    Returns:
        setting (its number in `TEXT_SETTINGS`); labels; weights; learning rate; epoch (of DPO); accuracy
        (share of test pairs with a positive margin), with low, high: its 95% Wilson interval; margin (mean
        over test pairs); trained, tested: pairs.
    """
    rows = []
    for number in (number for number in design.pilot if number):
        setting = TEXT_SETTINGS[number]
        pool, tests = _text_data(bench, design, setting)
        every = range(1, design.text_epochs + 1)
        _, phases = _text_run(bench, design, setting, pool, tests, 0, 0.0, every)
        record = bench.train(phases, _adapter(setting))[1].record.query("split == 'test'")
        for epoch, step in zip(every, phases[1].evaluate_at, strict=True):
            margins = record[record["step"] == step]["margin"]
            share = estimates.proportion(margins > 0)
            about = {"setting": number, "labels": setting.labels, "weights": setting.weights}
            rows.append(
                {
                    **about,
                    "learning rate": setting.learning_rate,
                    "epoch": epoch,
                    "accuracy": share.value,
                    "low": share.low,
                    "high": share.high,
                    "margin": margins.mean(),
                    "trained": len(phases[1].train),
                    "tested": len(tests),
                }
            )
    columns = ["setting", "labels", "weights", "learning rate", "epoch", "accuracy", "low", "high", "margin"]
    return pd.DataFrame(rows, columns=[*columns, "trained", "tested"])


def text_pairs(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Supervised fine-tuning and then DPO on response pairs with wrong labels (NZ Section 4.2).

    Each run draws its own pairs and uniform numbers, so that its labels that are wrong at one rate are wrong
    at all higher ones. All runs are tested on the same pairs.

    Tables:
        text_pairs: run; rate; wrong labels; accuracy (share of test pairs with a positive margin); margin
            (mean over test pairs); setting (its number in `TEXT_SETTINGS`); labels; trained, tested: pairs.
        text_margins: run; rate; pair (its number among the tests); margin.
    """
    setting = TEXT_SETTINGS[design.text_setting]
    pool, tests = _text_data(bench, design, setting)
    plan = [(run, rate) for run in range(design.text_runs) for rate in design.text_rates]
    drawn = [
        _text_run(bench, design, setting, pool, tests, run, rate, [design.text_epochs]) for run, rate in plan
    ]
    results = bench.train_all([phases for _, phases in drawn], _adapter(setting))
    about = {"setting": design.text_setting, "labels": setting.labels}
    rows, margins = [], []
    for (run, rate), (wrong, phases), (_, preference) in zip(plan, drawn, results, strict=True):
        tested = preference.record.query("split == 'test'")
        sizes = {"trained": len(phases[1].train), "tested": len(tests)}
        accuracy, margin = (tested["margin"] > 0).mean(), tested["margin"].mean()
        own = {"run": run, "rate": rate, "wrong labels": wrong, "accuracy": accuracy, "margin": margin}
        rows.append({**own, **about, **sizes})
        short = [float(f"{value:.4g}") for value in tested["margin"]]
        each = {"pair": tested["group"].astype(int).to_numpy(), "margin": short}
        margins.append(pd.DataFrame({"run": run, "rate": rate, **each}))
    empty = {"text_pairs": ["run", "rate", "wrong labels", "accuracy", "margin", *about, "trained", "tested"]}
    empty["text_margins"] = ["run", "rate", "pair", "margin"]
    return {
        "text_pairs": pd.DataFrame(rows, columns=empty["text_pairs"]),
        "text_margins": pd.concat(margins, ignore_index=True)
        if margins
        else pd.DataFrame(columns=empty["text_margins"]),
    }


def _short_pairs(pairs: Sequence[Pair], design: Design) -> list[Pair]:
    """Those whose prompt and responses have no more characters than the design allows."""
    longest = design.text_longest or np.inf
    return [pair for pair in pairs if len(pair.prompt) + len(pair.chosen) + len(pair.rejected) <= longest]


def _text_data(bench: Bench, design: Design, setting: TextSetting) -> tuple[list[Pair], list[Pair]]:
    """The pairs that runs draw from, and those that all are tested on."""
    every = _short_pairs(bench.pairs(0), design)
    if setting.labels == "length":
        every = judged_by_length(every)
    shuffled = np.random.default_rng(bench.seed).permutation(len(every))
    tests = [every[i] for i in shuffled[: design.text_tests]]
    return [every[i] for i in shuffled[design.text_tests :]], tests


def _adapter(setting: TextSetting) -> Adapter | None:
    return LORA if setting.weights == "LoRA" else None


def _text_run(
    bench: Bench,
    design: Design,
    setting: TextSetting,
    pool: Sequence[Pair],
    tests: Sequence[Pair],
    run: int,
    rate: float,
    epochs: Sequence[int],
) -> tuple[int, list[Phase]]:
    """How many labels of a run are wrong, and its training, measured after the given epochs of DPO."""
    drawn = np.random.default_rng([bench.seed, run]).permutation(len(pool))
    part = [pool[i] for i in drawn[: design.text_pairs]]
    labels = data.mislabel(np.ones(len(part), dtype=np.int8), rate, bench.seed + run)
    train = [pair if label > 0 else pair.swapped() for pair, label in zip(part, labels, strict=True)]
    epoch, seed = -(-len(train) // design.text_batch_size), bench.seed + run
    fine_tuning = Settings(setting.learning_rate, epoch, design.text_batch_size, loss="sft", seed=seed)
    steps = epoch * design.text_epochs
    preference = replace(fine_tuning, loss="dpo", beta=design.beta, steps=steps)
    at = [epoch * number for number in epochs]
    phases = [Phase(train, fine_tuning), Phase(train, preference, {"test": tests}, at, each=["test"])]
    return int((labels < 0).sum()), phases


# The plan -------------------------------------------------------------------------------------------


def work(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 3 under its parameters, for all seeds; its controlled experiment runs no model."""
    longest = p["text_longest"] or np.inf
    pairs = [
        pair
        for pair in data.load_pairs(p["data"])
        if len(pair.prompt) + len(pair.chosen) + len(pair.rejected) <= longest
    ]
    lengths, seeds = Lengths.of(pairs), len(set(p["seeds"]))
    epoch = -(-p["text_pairs"] // p["text_batch_size"])
    runs = (len(p["text_rates"]) * p["text_runs"] + len(p["pilot"])) * seeds
    batch, epochs = largest_batch(pairs, p["text_batch_size"]), p["text_epochs"]
    questions = persona_features(p)
    questions = replace(questions, runs=questions.runs * seeds)
    # The states of bare statements cost less than those of the questions, taken as half.
    bare = min(questions.tokens / 2, BARE * questions.each)
    # Fine-tuning runs the prompts with one response of the two, preference training all.
    alone = lengths.of_one
    return [
        questions,
        replace(questions, name="states of bare statements", tokens=bare, each=questions.each / 2),
        Work(
            "fine-tuning on responses",
            "train",
            runs,
            p["text_pairs"] * alone.each,
            epoch,
            0,
            alone.each / lengths.each * batch,
            each=alone.each,
            responses=alone.share,
        ),
        Work(
            "preference training on responses",
            "train",
            runs,
            epochs * p["text_pairs"] * lengths.each,
            epochs * epoch,
            (p["text_pairs"] + 2 * p["text_tests"]) * lengths.each,
            batch,
            each=lengths.each,
            responses=lengths.share,
        ),
    ]
