"""What wrong labels cost (NZ): chapter 3's design, and the clouds, losses and trainings of its experiments.

Experiments on points that are drawn are in `noise_clouds`, those about Theorem 3.1 in `noise_bounds`, those
on hidden states in `noise_states`, those on response pairs in `noise_pairs`. Every experiment is a function
of a bench and a design that returns a table, or tables by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from prefdyn import data
from prefdyn.data import Pair, Source
from prefdyn.engine import losses
from prefdyn.engine.last_layer import Descent
from prefdyn.engine.losses import Loss
from prefdyn.errors import PrefdynError
from prefdyn.experiments import checks
from prefdyn.experiments.noisy import Cloud
from prefdyn.experiments.plan import Lengths, Work, largest_batch, persona_features

LOSSES = {"DPO": "dpo", "IPO": "ipo", "SLiC": "slic", "cDPO": "cdpo", "rDPO": "rdpo"}
"""The losses that are compared, by the name that tables give them."""
SMOOTHING = 0.2
"""The noise rate that cDPO and rDPO are told to expect."""
FIRST, LAST = 5e-3, 2e3
"""Training times eta beta^2 steps from which and to which the map goes: one step, and what is nearly all."""
LARGEST_STEP = 20.0
"""A step eta beta^2 above which descent on IPO might jump back and forth; longer training has more steps."""
BARE = 40
"""Statements of each label whose state is taken at their own end, at most: enough for a shape."""


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
    short = len(short_pairs(data.load_pairs(source), design))
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


def short_pairs(pairs: Sequence[Pair], design: Design) -> list[Pair]:
    """Those whose prompt and responses have no more characters than the design allows."""
    longest = design.text_longest or np.inf
    return [pair for pair in pairs if pair.characters <= longest]


# The plan -------------------------------------------------------------------------------------------


def work(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 3 under its parameters, for all seeds; its controlled experiment runs no model."""
    longest = p["text_longest"] or np.inf
    pairs = [pair for pair in data.load_pairs(p["data"]) if pair.characters <= longest]
    lengths, seeds = Lengths.of(pairs), len(set(p["seeds"]))
    epoch = -(-p["text_pairs"] // p["text_batch_size"])
    runs = (len(p["text_rates"]) * p["text_runs"] + sum(map(bool, p["pilot"]))) * seeds
    batch, epochs = largest_batch(pairs, p["text_batch_size"]), p["text_epochs"]
    questions = persona_features(p)
    questions = replace(questions, runs=questions.runs * seeds)
    # The states of bare statements cost less than those of the questions, taken as half.
    bare = min(questions.tokens / 2, BARE * questions.each)
    # Fine-tuning runs the prompts with one response of the two, preference training all.
    alone = lengths.of_one
    states = [
        questions,
        replace(questions, name="states of bare statements", tokens=bare, each=questions.each / 2),
    ]
    if not runs:
        return states
    return [
        *states,
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
