"""What wrong labels cost (NZ): the experiments of chapter 3.

Every experiment is a function of a bench and a design that returns a table, or tables by name. The points of
the controlled experiment are drawn, not a model's: it needs no model.
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
from prefdyn.engine import losses
from prefdyn.engine.last_layer import Descent
from prefdyn.engine.losses import Loss
from prefdyn.engine.training import Settings
from prefdyn.errors import PrefdynError
from prefdyn.experiments import checks, noisy
from prefdyn.experiments.bench import Bench, Task
from prefdyn.experiments.noisy import Cloud
from prefdyn.experiments.phases import Phase
from prefdyn.experiments.plan import Lengths, Work, largest_batch, persona_features
from prefdyn.files import public_name
from prefdyn.measures import estimates, geometry
from prefdyn.theory import noise as theory
from prefdyn.theory import vmf as distribution

LOSSES = {"DPO": "dpo", "IPO": "ipo", "SLiC": "slic", "cDPO": "cdpo", "rDPO": "rdpo"}
"""The losses that are compared, by the name that tables give them."""
SMOOTHING = 0.2
"""The noise rate that cDPO and rDPO are told to expect."""
REFERENCE = "γ = 1/4"
"""The setting for which all losses are shown."""
TIGHT = 5000.0
"""A concentration for its dimension, 2 kappa / d, at which Theorem 3.1 promises something."""
PERSONA_RATES = np.round(np.arange(0, 0.5 + 0.0125, 0.025), 6)
PREDICTORS = ("δ", "‖Σ‖", "Tr Σ / δ²")


@dataclass(frozen=True)
class Design:
    """The sizes and settings of the chapter's experiments.

    Attributes:
        dimension: of the points of the controlled experiment
        per_label: training points of each label; as many are tested on
        trials: independent repeats of the controlled experiment
        rate_step: from one noise rate to the next; 0.05 must be a multiple of it
        beta: strength of the pull to the reference
        epochs: of full-batch descent
        learning_rate: short training, within the theorem's stopping time
        long_rate: long training, far beyond it
        personas: how many are measured; 0 is all
        statements_per_label: of each persona; 0 is all
        persona_trials: random halves and flips of each persona
        text_rates: noise rates of the response pairs, from 0
        text_runs: repeats with other pairs and flips
        text_pairs: response pairs trained on
        text_tests: response pairs tested on
        text_batch_size: response pairs an update
        text_learning_rate: of fine-tuning on responses
    """

    dimension: int
    per_label: int
    trials: int
    rate_step: float
    beta: float
    epochs: int
    learning_rate: float
    long_rate: float
    personas: int
    statements_per_label: int
    persona_trials: int
    text_rates: list[float]
    text_runs: int
    text_pairs: int
    text_tests: int
    text_batch_size: int
    text_learning_rate: float

    def __post_init__(self) -> None:
        """
        Raises:
            PrefdynError: noise rates that tables have a row for are not among those that the design has.
        """
        parts = 0.05 / self.rate_step
        if abs(parts - round(parts)) > 1e-6:
            raise PrefdynError(f"rate_step is {self.rate_step}: 0.05 must be a multiple of it, such as 0.025")
        rates = self.text_rates
        if len(rates) < 2 or rates[0] != 0 or rates != sorted(set(rates)):
            raise PrefdynError(f"text_rates is {rates}: it must begin with 0 and rise, as in [0, 0.25, 0.5]")


def check_design(design: Design, source: Source) -> None:
    """See that a source has what the design needs.

    Raises:
        PrefdynError: it has not.
    """
    checks.personas(design, source, fewest=3, each=2)
    checks.pairs(source, design.text_tests + 1)


def clouds(dimension: int) -> dict[str, Cloud]:
    """The settings of NZ Section 4.1, by the names that tables give them."""
    narrow, middle = np.pi / 3, 1 / 8
    return {
        "γ = 1/16": Cloud(1 / 16, narrow, dimension),
        "γ = 1/8": Cloud(middle, narrow, dimension),
        "γ = 1/4": Cloud(1 / 4, narrow, dimension),
        "angle 2π/3": Cloud(middle, 2 * np.pi / 3, dimension),
        "angle π": Cloud(middle, np.pi, dimension),
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


# Two clouds -----------------------------------------------------------------------------------------


def controlled(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Test accuracy over noise rates for five settings, five losses and two lengths of training (NZ Section
    4.1).

    Tables:
        settings: setting; relative kappa (2 kappa / d, NZ's gamma); angle (between the means, radians);
            dimension; per label (training points of each label, as many are tested on); trials.
        stopping: loss; allowed, short, long: t / tau that the theorem allows at the narrowest angle, and that
            the two trainings run to.
        accuracies: accuracy on the test points after short training with DPO and IPO, one row a setting,
            loss, trial and rate.
        curves: of all settings, trainings, losses and rates: accuracy, the mean over trials; low, high: its
            95% Student interval.
        losses: in the setting `REFERENCE`: training; loss; ε = ...: accuracy at three noise rates, mean over
            trials; largest difference from DPO: in accuracy, in one trial, over all settings and rates.
        equation_18: the fit of Equation 18 to rates up to 0.35, on the mean over trials: setting; clean risk;
            R and c, with 95% bootstrap intervals over trials; R²; largest residual (in accuracy); held out:
            root mean square error in accuracy on a trial of a model fitted to the others, mean over trials;
            loss.
        ordering: with DPO: setting; accuracy at ε = 0; fall to ε = 0.2; share of what was above ½, that the
            fall is; c.
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
    fits = _equation_18(runs, rates, bench.seed)
    short = found[(found["training"] == "short") & found["loss"].isin(["DPO", "IPO"])]
    return {
        "settings": _settings(design),
        "stopping": _stopping(design),
        "accuracies": short[["setting", "loss", "trial", "rate", "accuracy"]],
        "curves": _curves(runs, rates),
        "losses": _losses(runs, rates),
        "equation_18": fits,
        "ordering": _ordering(runs, rates, fits),
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
    return pd.DataFrame(
        [
            {
                "setting": name,
                "relative kappa": cloud.relative_kappa,
                "angle": cloud.angle,
                "dimension": cloud.dimension,
                "per label": design.per_label,
                "trials": design.trials,
            }
            for name, cloud in clouds(design.dimension).items()
        ]
    )


def _stopping(design: Design) -> pd.DataFrame:
    narrowest = min(cloud.angle for cloud in clouds(design.dimension).values())
    times = {name: descent.time for name, descent in descents(design).items()}
    return pd.DataFrame(
        [
            {"loss": name, "allowed": theory.stopping_time(loss, design.beta, narrowest), **times}
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


def _losses(runs: Accuracies, rates: NDArray[np.float64]) -> pd.DataFrame:
    rows = []
    for training in ("short", "long"):
        for loss in LOSSES:
            y = runs[training, loss, REFERENCE].mean(axis=0)
            apart = max(
                np.abs(accuracies - runs[training, "DPO", setting]).max()
                for (other, name, setting), accuracies in runs.items()
                if (other, name) == (training, loss)
            )
            at = {f"ε = {rate}": y[np.searchsorted(rates, rate - 1e-9)] for rate in (0.0, 0.2, 0.4)}
            rows.append({"training": training, "loss": loss, **at, "largest difference from DPO": apart})
    return pd.DataFrame(rows)


def _equation_18(runs: Accuracies, rates: NDArray[np.float64], seed: int) -> pd.DataFrame:
    low = rates <= theory.FITTED + 1e-9
    rows = []
    for loss in ("DPO", "IPO"):
        for (training, name, setting), accuracies in runs.items():
            if (training, name) != ("short", loss):
                continue
            risks = 1 - accuracies
            fit = theory.bootstrap_fit(rates[low], risks[:, low], seed)
            row = {"setting": setting, "clean risk": risks[:, 0].mean()}
            for column, estimate in (
                ("R", fit.clean),
                ("c", fit.c),
                ("R²", fit.r_squared),
                ("largest residual", fit.largest_residual),
            ):
                row |= {
                    column: estimate.value,
                    f"{column} low": estimate.low,
                    f"{column} high": estimate.high,
                }
            for model in theory.MODELS:
                errors = theory.held_out_errors(model, rates[low], risks[:, low], rates[low], risks[:, low])
                row[f"held out: {model}"] = errors.mean()
            rows.append({**row, "loss": loss})
    return pd.DataFrame(rows)


def _ordering(runs: Accuracies, rates: NDArray[np.float64], fits: pd.DataFrame) -> pd.DataFrame:
    fitted = fits[fits["loss"] == "DPO"].set_index("setting")["c"]
    at = np.searchsorted(rates, 0.2 - 1e-9)
    rows = []
    for setting, c in fitted.items():
        y = runs["short", "DPO", str(setting)]
        clean, fall = y[:, 0].mean(), (y[:, 0] - y[:, at]).mean()
        rows.append((setting, clean, fall, fall / (clean - 0.5), c))
    return pd.DataFrame(
        rows, columns=["setting", "accuracy at ε = 0", "fall to ε = 0.2", "share of what was above ½", "c"]
    )


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


def tight_clouds(bench: Bench, design: Design) -> pd.DataFrame:
    """The risk where the theorem promises something: opposite means, a concentration of `TIGHT`, trained with
    DPO to the end of the stopping time.

    Returns:
        trial; rate; risk, the share of test points that are wrong; relative kappa; per label.
    """
    # The bound does not depend on d; a small d keeps the points cheap.
    cloud, loss = Cloud(TIGHT, np.pi, 64), losses.get("dpo")
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

    Tables:
        vmf: model; average norm; norm variance; average cosine (of a state with the mean of its kind); cosine
            variance over behaviours. The first row is the paper's.
        vmf_by_behaviour: behaviour; spread of the norm (standard deviation over mean); cosine; γ (2 kappa /
            d, of the distribution with this mean cosine); variance of the cosine; that of a vMF; ratio (of
            the two); angle (°) (between the means of the two kinds); widest share (of the variance in all
            directions, ‖Σ‖ / Tr Σ); dimension.
    """
    cast = bench.personas(design.personas, design.statements_per_label)
    rows, norms = [], []
    for persona in cast:
        g = bench.features(persona)
        norms.append(np.linalg.norm(g, axis=1))
        rows.append({"behaviour": persona.name, **_look(g, persona)})
    looks = pd.DataFrame(rows)
    lengths = np.concatenate(norms).astype(float)
    table_2 = pd.DataFrame(
        {
            "model": ["the paper's (Llama-2-7B)", public_name(bench.model_name)],
            "average norm": [140.3, lengths.mean()],
            "norm variance": [1.618, lengths.var()],
            "average cosine": [0.9876, looks["cosine"].mean()],
            "cosine variance over behaviours": [1.106e-5, looks["cosine"].var(ddof=0)],
        }
    )
    return {"vmf": table_2, "vmf_by_behaviour": looks}


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
    }


def persona_noise(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Wrong labels on the hidden states of every behaviour, as they are and with the mean of all states
    subtracted.

    Each trial trains on a random half of a behaviour's statements and tests on the other. All states are
    divided by their mean length.

    Tables:
        persona_noise: behaviour; its δ, ‖Σ‖ and Tr Σ / δ²; for raw and centred states the accuracy without
            noise, at ε = 0.2, and the c of Equation 18 fitted to rates up to 0.35, all of means over trials.
        persona_curves: behaviour; rate; raw, centred: accuracy, mean over trials.
        persona_correlations: over behaviours: predictor; outcome (a column of persona_noise); correlation,
            low, high: Spearman's, with its 95% bootstrap interval; n.
    """
    cast = bench.personas(design.personas, design.statements_per_label)
    whole = np.concatenate([bench.features(persona) for persona in cast])
    shared, scale = whole.mean(axis=0), np.linalg.norm(whole, axis=1).astype(float).mean()
    kinds = {"raw": 0, "centred": shared}
    halves = (
        _resplit(bench, design, persona, word, (bench.features(persona) - centre) / scale)
        for word, centre in kinds.items()
        for persona in cast
    )
    means = [
        found.pivot(index="trial", columns="rate", values="accuracy").to_numpy().mean(axis=0)
        for found in bench.keep_all(halves)
    ]
    curves = dict(zip(kinds, np.array(means).reshape(len(kinds), len(cast), -1), strict=True))
    names = [persona.name for persona in cast]
    moments = [geometry.moments(bench.features(persona), persona.labels) for persona in cast]
    summary = pd.DataFrame(
        {
            "behaviour": names,
            "δ": [m.distinguishability for m in moments],
            "‖Σ‖": [m.concentration for m in moments],
            "Tr Σ / δ²": [m.spread_ratio for m in moments],
        }
    )
    near = PERSONA_RATES <= theory.FITTED + 1e-9
    for word, y in curves.items():
        summary[f"accuracy, {word}"] = y[:, 0]
        summary[f"at ε = 0.2, {word}"] = y[:, np.searchsorted(PERSONA_RATES, 0.2 - 1e-9)]
        summary[f"c, {word}"] = theory.fit_equation_18(PERSONA_RATES[near], 1 - y[:, near])[1]
    long = pd.DataFrame(
        {
            "behaviour": np.repeat(names, len(PERSONA_RATES)),
            "rate": np.tile(PERSONA_RATES, len(names)),
            **{word: y.ravel() for word, y in curves.items()},
        }
    )
    return {
        "persona_noise": summary,
        "persona_curves": long,
        "persona_correlations": _correlations(summary, bench.seed),
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
    arguments = (g, persona.labels, losses.get("dpo"), descent, PERSONA_RATES, trials, seed, bench.device)
    return Task(f"wrong labels of {persona.name}, {word}", "halves", key, noisy.resplit, arguments)


def _correlations(summary: pd.DataFrame, seed: int) -> pd.DataFrame:
    rows = []
    for outcome in ("at ε = 0.2, raw", "at ε = 0.2, centred", "c, centred"):
        for predictor in PREDICTORS:
            rho = estimates.spearman(summary[predictor], summary[outcome], seed)
            rows.append((predictor, outcome, rho.value, rho.low, rho.high, rho.n))
    return pd.DataFrame(rows, columns=["predictor", "outcome", "correlation", "low", "high", "n"])


# Text, and all weights ------------------------------------------------------------------------------


def text_pairs(bench: Bench, design: Design) -> pd.DataFrame:
    """Supervised fine-tuning and then DPO of all weights on response pairs with wrong labels (NZ Section
    4.2).

    Each run draws its own pairs and uniform numbers, so that its labels that are wrong at one rate are wrong
    at all higher ones. All runs are tested on the same pairs.

    Returns:
        run; rate; wrong labels; accuracy (share of test pairs with a positive margin); margin (mean over test
        pairs); trained, tested: pairs.
    """
    every = bench.pairs(0)
    shuffled = np.random.default_rng(bench.seed).permutation(len(every))
    tests = [every[i] for i in shuffled[: design.text_tests]]
    pool = [every[i] for i in shuffled[design.text_tests :]]
    settings = [(run, rate) for run in range(design.text_runs) for rate in design.text_rates]
    drawn = [_text_run(bench, design, pool, tests, *setting) for setting in settings]
    rows = []
    for (run, rate), (wrong, _), (_, preference) in zip(
        settings, drawn, bench.train_all([phases for _, phases in drawn]), strict=True
    ):
        tested = preference.record.query("split == 'test'").iloc[0]
        about = {"run": run, "rate": rate, "wrong labels": wrong}
        rows.append({**about, "accuracy": tested["accuracy"], "margin": tested["margin"]})
    trained = min(design.text_pairs, len(pool))
    return pd.DataFrame(rows).assign(trained=trained, tested=len(tests))


def _text_run(
    bench: Bench, design: Design, pool: Sequence[Pair], tests: Sequence[Pair], run: int, rate: float
) -> tuple[int, list[Phase]]:
    """How many labels of a run are wrong, and its training."""
    drawn = np.random.default_rng([bench.seed, run]).permutation(len(pool))
    part = [pool[i] for i in drawn[: design.text_pairs]]
    labels = data.mislabel(np.ones(len(part), dtype=np.int8), rate, bench.seed + run)
    train = [pair if label > 0 else pair.swapped() for pair, label in zip(part, labels, strict=True)]
    epoch = -(-len(train) // design.text_batch_size)
    fine_tuning = Settings(
        design.text_learning_rate, epoch, design.text_batch_size, loss="sft", seed=bench.seed + run
    )
    preference = replace(fine_tuning, loss="dpo", beta=design.beta)
    phases = [Phase(train, fine_tuning), Phase(train, preference, {"test": tests}, [epoch])]
    return int((labels < 0).sum()), phases


# The plan -------------------------------------------------------------------------------------------


def work(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 3 under its parameters, for all seeds; its controlled experiment runs no model, and
    its features are the same for each seed.
    """
    pairs = data.load_pairs(p["data"])
    lengths = Lengths.of(pairs)
    trained = min(p["text_pairs"], len(pairs))
    steps = -(-p["text_pairs"] // p["text_batch_size"])
    runs = len(p["text_rates"]) * p["text_runs"] * len(set(p["seeds"]))
    batch = largest_batch(pairs, p["text_batch_size"])
    # Fine-tuning runs the prompts with one response of the two, preference training all.
    alone, tested = lengths.of_one, 2 * p["text_tests"]
    return [
        persona_features(p),
        Work(
            "fine-tuning on responses",
            "train",
            runs,
            trained * alone.each,
            steps,
            0,
            alone.each / lengths.each * batch,
            each=alone.each,
            responses=alone.share,
        ),
        Work(
            "preference training on responses",
            "train",
            runs,
            trained * lengths.each,
            steps,
            (trained + tested) * lengths.each,
            batch,
            each=lengths.each,
            responses=lengths.share,
        ),
    ]
