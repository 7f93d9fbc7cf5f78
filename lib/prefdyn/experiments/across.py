"""The four papers together: the experiments of chapter 5.

Every experiment is a function of a bench and a design that returns a table, or tables by name. All of them
rest on the same measures of every persona, some from each paper, taken on halves of its statements that share
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.data import Source
from prefdyn.engine import losses
from prefdyn.engine.last_layer import Descent
from prefdyn.errors import PrefdynError
from prefdyn.experiments import checks, persona_halves
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.persona_halves import Statements
from prefdyn.experiments.plan import Work, persona_features
from prefdyn.experiments.tasks import Task
from prefdyn.measures import halves
from prefdyn.measures.halves import Correlations

Array = NDArray[np.float64]
Result = TypeVar("Result")

MEASURES = (
    "δ",
    "δ/√Tr Σ",
    "accuracy",
    "cost of noise",
    "accuracy, centred",
    "cost, centred",
    "flipped",
    "flipped half-way",
    "in company",
    "left out",
    "right before",
    "depth",
    "alignment",
    "under noise",
    "under noise, centred",
)
"""Of a persona; what each is, and its unit, stands at `measures`."""
MEANS_ALONE = ("right before", "under noise", "under noise, centred")
"""Those that are written as means over halves alone."""
BY_DEFINITION = (
    ("δ/√Tr Σ", "δ"),
    ("cost of noise", "accuracy"),
    ("accuracy, centred", "accuracy"),
    ("cost, centred", "accuracy, centred"),
    ("cost, centred", "cost of noise"),
    ("flipped half-way", "flipped"),
    ("left out", "in company"),
)
"""Pairs that are related by what they are, so that a correlation is no finding."""
HELD = {
    "cost of noise": "accuracy",
    "cost, centred": "accuracy, centred",
    "flipped": "depth",
    "flipped half-way": "depth",
    "in company": "accuracy",
    "left out": "alignment",
}
"""For an outcome, the measure that is held constant when it is asked what δ has to add."""


@dataclass(frozen=True)
class Design:
    """The sizes and settings of the chapter's experiments.

    Attributes:
        personas: how many are measured, at least 5; 0 is all
        statements_per_label: of each persona; 0 is all
        splits: of each persona's statements into two halves
        beta: strength of the pull to the reference, as in chapter 1
        unembedding_rate: learning rate of the training of fixed length, as in chapter 1
        unembedding_steps: its updates
        long_rate: learning rate of the training that stops half of the way to the lowest validation loss
        long_steps: updates within which the lowest is looked for
        long_divisions: such trainings of each half
        noise_rates: shares of wrong labels, over which their cost is averaged
        noise_beta: as in chapter 3
        learning_rate: as in chapter 3
        epochs: as in chapter 3
        divisions: trainings of each half on wrong labels
    """

    personas: int
    statements_per_label: int
    splits: int
    beta: float
    unembedding_rate: float
    unembedding_steps: int
    long_rate: float
    long_steps: int
    long_divisions: int
    noise_rates: list[float]
    noise_beta: float
    learning_rate: float
    epochs: int
    divisions: int

    def __post_init__(self) -> None:
        """
        Raises:
            PrefdynError: there is no noise rate, or one is there twice.
        """
        if not self.noise_rates:
            raise PrefdynError("noise_rates is []: give at least one rate, as in [0.2]")
        checks.distinct("noise_rates", self.noise_rates)


def check_design(design: Design, source: Source) -> None:
    """See that a source has what the design needs.

    Raises:
        PrefdynError: it has not.
    """
    checks.personas(design, source, fewest=5, each=4)


# The experiments --------------------------------------------------------------------------------------


def measures(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """What the four papers measure, of every persona, on both halves of many splits of its statements.

    Tables:
        measures: one row a persona, split and half, in the order of the source, with

            - persona, split (from 0), half (0 or 1); what follows is rounded to four decimals, which three
              seeds of all personas need to fit a file of 1 MiB;
            - δ: distance of the means of the two clouds of hidden states, in their units;
            - δ/√Tr Σ: the same in units of the clouds' size;
            - accuracy: share of positive margins on held-out statements, trained on clean labels;
            - cost of noise: how much less it is when trained on wrong labels, mean over the noise rates;
            - accuracy, centred; cost, centred: the same on states less the mean of all states;
            - flipped: share of the statements that the model ranks wrong before training that the training of
              fixed length turns round; none where there are no such statements;
            - flipped half-way: the same at the first step of a longer training at which the validation loss
              has fallen half of the way to its lowest;
            - depth: median |log-ratio| of those ranked wrong before, in nats;
            - in company, left out: held-out accuracy after training on all personas, and on all others;
            - alignment: cosine of the persona's mean difference with the sum of the others'.
        personas: one row a persona, least distinguishable first, with its family (what it shares its name
            with), the means of these over all halves, and

            - right before: share of statements that the model ranks right before training;
            - under noise; under noise, centred: accuracy less cost;
            - violations: statements for which Theorem 4.1 of RA does not hold, over all halves;
            - statements: of how many;
            - stops early: share of the longer trainings whose lowest validation loss comes before their end.
    """
    taken = _taken(bench, design)
    names = [persona.name for persona in _cast(bench, design)]
    family = {name: data.family(name) for name in names}
    means = {name: values.mean(axis=(1, 2)) for name, values in taken.measures.items()}
    personas = pd.DataFrame(
        {
            "persona": names,
            "family": family.values(),
            **means,
            "violations": taken.violations,
            "statements": taken.statements,
            "stops early": taken.stops_early,
        }
    )
    raw = {name: values for name, values in taken.measures.items() if name not in MEANS_ALONE}
    return {
        "measures": halves.as_table(raw, "persona", names).round(4),
        "personas": personas.sort_values("δ", ignore_index=True),
    }


def correlations(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Rank correlations over personas between measures taken on opposite halves.

    Tables:
        correlations: one row a pair of measures, with

            - measure, with: their names; of one with itself the correlation is its reliability;
            - ρ, low, high: the rank correlation and its 95% interval, bootstrapped over families of personas;
            - by definition: whether the two are related by what they are.
        held: one row an outcome that δ might foretell, with

            - outcome, held: names of the measure and of the one that is held constant;
            - ρ, low, high: its rank correlation with δ;
            - left, left low, left high: what is left of that (`Correlations.left`).
    """
    families = [data.family(persona.name) for persona in _cast(bench, design)]
    rho = halves.correlations(_taken(bench, design).measures, bench.seed, clusters=families)
    return {"correlations": _pairs(rho), "held": _held(rho)}


def _pairs(rho: Correlations) -> pd.DataFrame:
    rows = []
    for i, x in enumerate(rho.names):
        for y in rho.names[: i + 1]:
            e = rho.between(x, y)
            rows.append((x, y, e.value, e.low, e.high, (x, y) in BY_DEFINITION))
    return pd.DataFrame(rows, columns=["measure", "with", "ρ", "low", "high", "by definition"])


def _held(rho: Correlations) -> pd.DataFrame:
    rows = []
    for outcome, third in HELD.items():
        e, left = rho.between("δ", outcome), rho.left("δ", outcome, through=third)
        rows.append((outcome, third, e.value, e.low, e.high, left.value, left.low, left.high))
    return pd.DataFrame(
        rows, columns=["outcome", "held", "ρ", "low", "high", "left", "left low", "left high"]
    )


# What they rest on ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Taken:
    """Everything measured of the personas, in the order of the source.

    Attributes:
        measures: by name, in the order of `MEASURES`, shape (personas, splits, 2).
        violations: of RA's Theorem 4.1, over all halves, a persona each; and of how many statements.
        stops_early: share of the longer trainings that have their lowest validation loss before their end.
    """

    measures: dict[str, Array]
    violations: list[int]
    statements: list[int]
    stops_early: list[float]


def _cast(bench: Bench, design: Design) -> list[data.Persona]:
    return bench.personas(design.personas, design.statements_per_label)


def _taken(bench: Bench, design: Design) -> Taken:
    """Draw every split by the bench's seed, one after another, and measure; every measurement is kept."""
    rng = np.random.default_rng(bench.seed)
    people = [
        Statements.of(bench.features(p), p.labels, bench.answer_difference, design.splits, rng)
        for p in _cast(bench, design)
    ]
    scale = float(np.concatenate([np.linalg.norm(p.features, axis=1) for p in people]).mean())
    shared = np.concatenate([p.features for p in people]).mean(axis=0)
    fixed = Descent(design.beta, design.unembedding_rate, design.unembedding_steps)
    long = Descent(design.beta, design.long_rate, design.long_steps)
    short = Descent(design.noise_beta, design.learning_rate, design.epochs)

    shapes = _kept(bench, persona_halves.before_training, ((p,) for p in people))
    learned = _kept(bench, persona_halves.learn, ((p, fixed) for p in people))
    half_way = _kept(
        bench,
        persona_halves.flipped_half_way,
        ((p, long, p.divided(design.long_divisions, rng)) for p in people),
    )

    def tested(of: Statements) -> tuple[Any, ...]:
        """What its held-out accuracy follows from, which has shape (splits, 2, noise rates), the first 0."""
        parts = of.divided(design.divisions, rng)
        uniforms = rng.random(parts[:, :, :, 0].shape)
        return of, short, [0.0, *design.noise_rates], parts, uniforms, scale

    raw = np.array(_kept(bench, persona_halves.under_noise, map(tested, people)))
    moved = (replace(p, features=p.features - shared) for p in people)
    centred = np.array(_kept(bench, persona_halves.under_noise, map(tested, moved)))
    parts = [p.divided(1, rng)[:, :, 0] for p in people]
    (joint,) = _kept(bench, persona_halves.together, [(people, short, parts, scale)])

    noisy, noisy_centred = (accuracy[..., 1:].mean(axis=-1) for accuracy in (raw, centred))
    found = {
        "δ": [shape["delta"] for shape in shapes],
        "δ/√Tr Σ": [shape["separation"] for shape in shapes],
        "accuracy": raw[..., 0],
        "cost of noise": raw[..., 0] - noisy,
        "right before": [one.right_before for one in learned],
        "flipped": [one.flipped for one in learned],
        "in company": joint.company,
        "left out": joint.transfer,
        "depth": [one.depth for one in learned],
        "flipped half-way": [share for share, _ in half_way],
        "alignment": joint.alignment,
        "accuracy, centred": centred[..., 0],
        "cost, centred": centred[..., 0] - noisy_centred,
        "under noise": noisy,
        "under noise, centred": noisy_centred,
    }
    return Taken(
        {name: np.asarray(found[name]) for name in MEASURES},
        [one.violations for one in learned],
        [p.halves.size for p in people],
        [early for _, early in half_way],
    )


def _kept(bench: Bench, by: Callable[..., Result], given: Iterable[tuple[Any, ...]]) -> list[Result]:
    """Measurements, each of the first that is given, with the loss of DPO where it trains."""
    about = {"model": bench.fingerprint, "device": bench.device.type, "measure": by.__name__}

    def task(of: Any, *others: Any) -> Task:
        loss = [losses.dpo()] if others else []
        key = {**about, "of": of, "given": others}
        return Task(by.__name__.replace("_", " "), "halves", key, by, (of, *loss, *others))

    return bench.keep_all(task(*one) for one in given)


# The plan -------------------------------------------------------------------------------------------


def work(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 5 for all seeds, each of which draws its statements: the features of chapter 1,
    beside trainings of two rows that take seconds.
    """
    features = persona_features(p)
    return [replace(features, runs=features.runs * len(set(p["seeds"])))]
