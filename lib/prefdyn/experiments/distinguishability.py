"""What is learned first (LD): chapter 1's design, its behaviours, and what is measured before training.

Trainings of the unembedding are in `last_layer_alone`, those of all weights in `all_weights`,
`after_alignment`, `interventions` and `displacement`. Every experiment is a function of a bench and a design
that returns a table, or tables by name. Losses are in nats, delta and lengths of weights in the units of the
hidden states and of the model's rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.data import Persona, Source
from prefdyn.engine.likelihood import tokenize_persona
from prefdyn.engine.objectives import reference_log_probs
from prefdyn.engine.states import TOKENS_PER_FORWARD
from prefdyn.errors import PrefdynError
from prefdyn.experiments import checks
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.plan import Lengths, Work, largest_batch, persona_features
from prefdyn.measures import geometry
from prefdyn.measures.geometry import Moments
from prefdyn.models import LanguageModel
from prefdyn.theory import distinguishability as theory

FEWEST = 3
"""Behaviours over which a rank correlation has an interval; statements of a label of which two can be paired
and the direction between labels found on another.
"""
ASKED = 10
"""Statements of each label for which the probability of either answer is measured."""


@dataclass(frozen=True)
class Design:
    """The sizes and settings of the chapter's experiments.

    Attributes:
        personas: how many are measured; 0 is all
        statements_per_label: of each persona, drawn by the seed; 0 is all
        held_out: of them, of each label, for measuring alone
        undo_statements: of the others, of each label, for the training on opposite labels alone
        layout: how statements are laid out in a map; pca is quicker
        beta: strength of the pull to the reference
        unembedding_rate: learning rate of the unembedding
        unembedding_steps: updates of the unembedding
        pairs_tested: pairs of behaviours whose unembedding is trained together
        trained: how many behaviours are fine-tuned; 0 is all
        learning_rate: of full fine-tuning
        steps: updates of full fine-tuning
        batch_size: preferences an update
        pairs_trained: pairs of behaviours fine-tuned together
        controlled: of the fine-tuned behaviours, those that are trained on shuffled labels, too, and on
            opposite labels from every start
        undo_steps: updates on opposite labels
        other_betas: further strengths
        rates_tried: learning rates, of which each further strength gets the best
        tuned_on: behaviours on which they are tried
        beta_behaviours: behaviours fine-tuned at every strength
        graded: statements of each label behind the gradient in all weights
        intervened: behaviours of which halves of small and large projection are learned
        intervened_statements: of each label of those; 0 is all
        equalised: behaviours trained together with weights that undo their priorities
        equalised_examples: of each behaviour, on average
        equalised_draws: of those behaviours
        hh_pairs: response pairs that are trained on
        hh_held_out: further response pairs for measuring alone
        hh_characters: of a pair with its prompt, at most
        hh_batch_size: response pairs an update
        hh_steps: updates on response pairs
        hh_learning_rate: of LoRA on response pairs
    """

    personas: int
    statements_per_label: int
    held_out: int
    undo_statements: int
    layout: str
    beta: float
    unembedding_rate: float
    unembedding_steps: int
    pairs_tested: int
    trained: int
    learning_rate: float
    steps: int
    batch_size: int
    pairs_trained: int
    controlled: int
    undo_steps: int
    other_betas: list[float]
    rates_tried: list[float]
    tuned_on: int
    beta_behaviours: int
    graded: int
    intervened: int
    intervened_statements: int
    equalised: int
    equalised_examples: int
    equalised_draws: int
    hh_pairs: int
    hh_held_out: int
    hh_characters: int
    hh_batch_size: int
    hh_steps: int
    hh_learning_rate: float

    def __post_init__(self) -> None:
        """
        Raises:
            PrefdynError: too few behaviours are fine-tuned; a strength or a rate is there twice; fewer
                statements are taken than are held out.
        """
        if 0 < self.trained < FEWEST:
            raise PrefdynError(f"trained is {self.trained}: it must be 0 (all) or at least {FEWEST}")
        halved, least = self.intervened_statements, self.held_out + FEWEST
        if 0 < halved < least:
            raise PrefdynError(
                f"intervened_statements is {halved}: with held_out {self.held_out} it must be 0 (all) or at "
                f"least {least}"
            )
        checks.distinct("other_betas", self.other_betas)
        checks.distinct("rates_tried", self.rates_tried)
        if self.beta in self.other_betas:
            raise PrefdynError(f"other_betas is {self.other_betas}: leave out {self.beta}, which beta is")
        if self.statements_per_label:
            self.check_parts(self.statements_per_label, "statements_per_label is")

    def check_parts(self, statements: int, of: str) -> None:
        """See that some statements are left to train on.

        Raises:
            PrefdynError: they are not; `of` says of whose statements.
        """
        kept_back = self.held_out + self.undo_statements
        if statements < kept_back + 2:
            raise PrefdynError(
                f"{of} {statements}: with held_out {self.held_out} and undo_statements "
                f"{self.undo_statements} it must be at least {kept_back + 2}"
            )


def check_design(design: Design, source: Source) -> None:
    """See that a source has what the design needs.

    Raises:
        PrefdynError: it has not.
    """
    counts = checks.personas(design, source, fewest=3, each=2)
    for name, count in counts.items():
        design.check_parts(count, f"statements of a label of the persona {name!r}:")
    wanted = design.hh_pairs + design.hh_held_out
    known = sum(pair.characters <= design.hh_characters for pair in data.load_pairs(source))
    if known < wanted:
        raise PrefdynError(
            f"hh_pairs and hh_held_out are {design.hh_pairs} and {design.hh_held_out}: the data has {known} "
            f"response pairs of at most {design.hh_characters} characters"
        )


# Who takes part --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cast:
    """The behaviours that are measured, from the least to the most distinguishable, by name.

    Attributes:
        moments: of the hidden states of all statements, before training.
    """

    personas: dict[str, Persona]
    moments: dict[str, Moments]

    @property
    def order(self) -> list[str]:
        return list(self.personas)

    @property
    def deltas(self) -> dict[str, float]:
        return {name: moments.distinguishability for name, moments in self.moments.items()}


def cast(bench: Bench, design: Design) -> Cast:
    """The personas of the design with their moments."""
    personas = {p.name: p for p in bench.personas(design.personas, design.statements_per_label)}

    def compute() -> dict[str, Moments]:
        return {name: geometry.moments(bench.features(p), p.labels) for name, p in personas.items()}

    moments = bench.keep("moments", {"data": data.fingerprint(personas.values())}, cast, compute)
    order = sorted(personas, key=lambda name: moments[name].distinguishability)
    return Cast({name: personas[name] for name in order}, {name: moments[name] for name in order})


def gaps_of(everyone: Cast) -> NDArray[np.float64]:
    """Priority gap of every two behaviours, shape (n, n), in the order of distinguishability."""
    return theory.priority_gaps([moments.mean_difference for moments in everyone.moments.values()])


def shown(everyone: Cast) -> list[str]:
    """Five behaviours whose curves are drawn: the paper's own where the data has them, else five evenly
    spaced in the order of distinguishability.
    """
    if all(name in everyone.personas for name in data.PAPER_BEHAVIOURS):
        return [name for name in everyone.order if name in data.PAPER_BEHAVIOURS]
    return checks.evenly(everyone.order, len(data.PAPER_BEHAVIOURS))


@dataclass(frozen=True)
class Parts:
    """Three parts of a persona's statements: indices for training, for undoing, and held out."""

    train: NDArray[np.integer]
    undo: NDArray[np.integer]
    held_out: NDArray[np.integer]


def test_fraction(persona: Persona, design: Design) -> float:
    """The share of a persona's statements that is held out."""
    return 2 * design.held_out / len(persona.labels)


def parts(persona: Persona, design: Design, seed: int) -> Parts:
    """The statements of a persona, as many of each label in each part as the design says."""
    seen, held_out = data.split_indices(persona, seed, test_fraction(persona, design))
    labels = persona.labels[seen]
    undo = np.concatenate([seen[labels == sign][: design.undo_statements] for sign in (1, -1)])
    return Parts(seen[~np.isin(seen, undo)], undo, held_out)


def difference(g: NDArray[np.floating], s: NDArray[np.int8]) -> NDArray[np.float64]:
    """Difference of the means of both labels, shape (d,)."""
    x = g.astype(np.float64)
    return x[s == 1].mean(axis=0) - x[s == -1].mean(axis=0)


# Before training --------------------------------------------------------------------------------------


def embeddings(bench: Bench, design: Design) -> pd.DataFrame:
    """How far apart the two clouds of every behaviour lie before training.

    One row a behaviour, from the least to the most distinguishable.

    Columns:
        behaviour, family: its name in the data, and what it shares with others' names.
        statements: of both labels together.
        δ: distance of the centres.
        δ of chance: what it would be about if both labels had one mean and only the draw told them apart.
        ‖Σ‖: the larger of the two operator norms of the covariances.
        Tr Σ: mean squared distance of a statement from its cloud's centre.
        Tr Σ / δ²: size of the clouds for their distance.
        Yes or No: probability that the answer is one of the two, a mean over some statements.
    """
    everyone = cast(bench, design)
    moments = everyone.moments.values()
    asked = [persona.drawn(ASKED, bench.seed) for persona in everyone.personas.values()]
    key = {"data": data.fingerprint(asked), "precision": bench.precision}
    either = bench.measure("answers", key, answer_mass, asked)
    return pd.DataFrame(
        {
            "behaviour": everyone.order,
            "family": [data.family(name) for name in everyone.order],
            "statements": [len(persona.statements) for persona in everyone.personas.values()],
            "δ": [m.distinguishability for m in moments],
            "δ of chance": [m.distinguishability_of_chance for m in moments],
            "‖Σ‖": [m.concentration for m in moments],
            "Tr Σ": [m.trace for m in moments],
            "Tr Σ / δ²": [m.spread_ratio for m in moments],
            "Yes or No": either,
        }
    )


def answer_mass(lm: LanguageModel, personas: Sequence[Persona]) -> list[float]:
    """The probability that either answer is given, mean over each persona's statements."""
    found = []
    for persona in personas:
        known = reference_log_probs(lm, tokenize_persona(lm, persona), TOKENS_PER_FORWARD, normalised=True)
        found.append(float((known.chosen.exp() + known.rejected.exp()).mean()))
    return found


def statement_maps(bench: Bench, design: Design) -> pd.DataFrame:
    """The statements of three behaviours in the plane, before training.

    One row a statement.

    Columns:
        map: low, middle or high: the behaviour's place in the order of distinguishability.
        behaviour, statement: its name, the text.
        label: 1 where the persona would say it, -1 where not.
        x, y: its place; each map has a scale of its own.
    """
    everyone = cast(bench, design)
    order = everyone.order
    places = {"low": order[0], "middle": order[len(order) // 2], "high": order[-1]}
    maps = []
    for place, name in places.items():
        persona = everyone.personas[name]
        points = bench.map_2d(bench.features(persona), design.layout)
        maps.append(mapped(points, persona).assign(map=place))
    return pd.concat(maps, ignore_index=True)


def mapped(points: NDArray[np.float32], persona: Persona) -> pd.DataFrame:
    """Places of a persona's statements in the plane, as `statement_maps` has them."""
    places = {"x": points[:, 0], "y": points[:, 1]}
    about = {"behaviour": persona.name, "statement": persona.statements, "label": persona.labels}
    return pd.DataFrame({**about, **places})


# The plan -------------------------------------------------------------------------------------------


def work(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 1 under its parameters, for all seeds, each of which draws its statements."""
    features, seeds = persona_features(p), len(set(p["seeds"]))
    count, each = features.runs, features.each
    features = replace(features, runs=count * seeds)
    kept, seen = 2 * p["held_out"], features.tokens / each - 2 * p["held_out"]

    def of(wanted: int) -> int:
        return min(wanted or count, count) * seeds

    def training(name: str, runs: int, updates: float, trained_on: float, measured: float) -> Work:
        """Of behaviours, with the reference of what is trained on, and so many statements of other passes."""
        tokens, steps = p["batch_size"] * each, max(1, round(updates))
        others = min(trained_on, updates * p["batch_size"]) + measured
        return Work(name, "train", runs, steps * tokens, steps, others * each, tokens, each=each)

    steps, undo, trained = p["steps"], p["undo_steps"], of(p["trained"])
    controlled, betas = of(p["controlled"]), len(p["other_betas"])
    tried = betas * len(p["rates_tried"]) * of(p["tuned_on"])
    whole = persona_features({**p, "statements_per_label": 0})
    more = p["intervened_statements"] or whole.tokens / whole.each / 2  # of a label
    half = (more - p["held_out"]) / 2  # of the pool of two labels
    together = p["equalised"] * p["equalised_examples"]
    pairs = [pair for pair in data.load_pairs(p["data"]) if pair.characters <= p["hh_characters"]]
    responses = Lengths.of(pairs)
    updates = p["hh_steps"]
    return [
        features,
        Work(
            f"features of {of(p['intervened'])} halved",
            "forward",
            of(p["intervened"]),
            2 * more * each,
            each=each,
        ),
        Work(
            "first gradients",
            "train",
            features.runs,
            2 * p["graded"] * each,
            1,
            0,
            2 * p["graded"] * each,
            each=each,
        ),
        training(f"fine-tuning {trained} personas", trained, steps, seen, 5 * kept),
        training("fine-tuning pairs of personas", p["pairs_trained"] * seeds, steps, 2 * seen, 3 * kept),
        training("fine-tuning on shuffled labels", controlled, steps, seen, 2 * kept),
        training("opposite labels, from three starts", 3 * controlled, undo + steps / 3, seen, 3 * kept),
        training(f"{betas} further betas", tried + betas * of(p["beta_behaviours"]), steps, seen, kept),
        training("fine-tuning on halves", 3 * of(p["intervened"]), half / p["batch_size"], half, 2 * kept),
        training(
            "fine-tuning many together",
            2 * p["equalised_draws"] * seeds,
            together / p["batch_size"],
            together,
            2 * p["equalised"] * kept,
        ),
        Work(
            "training on response pairs (LoRA)",
            "adapt",
            3 * seeds,
            updates * p["hh_batch_size"] * responses.each,
            updates,
            (p["hh_pairs"] + 6 * p["hh_held_out"]) * responses.each,
            largest_batch(pairs, p["hh_batch_size"]),
            each=responses.each,
            responses=responses.share,
        ),
    ]
