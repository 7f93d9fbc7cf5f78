"""Whether it generalizes (GN): chapter 2's design, its personas, and the plan of its work.

Its experiments on the hidden states of personas are in `persona_states`, those on synthetic clusters in
`synthetic`, those that train many personas together in `company`, those with more or lopsided statements in
`statements`, those on longer responses in `responses`. Every experiment is a function of a bench and a design
that returns a table, or tables by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.data import Persona, Source
from prefdyn.errors import PrefdynError
from prefdyn.experiments import checks, moved_tokens
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.frozen import States
from prefdyn.experiments.plan import Lengths, Work, largest_batch, persona_features

BETA = 0.1
"""Strength of the pull to the reference wherever the unembedding alone is trained."""


@dataclass(frozen=True)
class Design:
    """The sizes and settings of the chapter's experiments.

    Attributes:
        personas: how many are measured; 0 is all
        statements_per_label: of each persona, drawn by the seed; 0 is all
        held_out: of them, of each label, for measuring alone
        synthetic_draws: of synthetic clusters, for each setting
        promised: samples a cluster where the theorems promise something
        draws: of who is trained with whom and on which statements, where the unembedding alone is trained
        concept_counts: how many personas are then trained together, from 1
        samples_a_label: statements of each label that are then trained on, or all where there are fewer
        sampled: personas of which all statements are taken
        many_samples: statements of each label that are trained on of those
        beta: strength of the pull to the reference in full fine-tuning
        learning_rate: of full fine-tuning
        steps: updates of full fine-tuning
        batch_size: preferences an update
        examples: statements of each label of each persona in full fine-tuning, or all where there are fewer
        cluster_counts: how many personas are fine-tuned together, each number of them part of the next
        sets: of the most personas, which share nobody
        anchors: personas of each set that are trained in every number
        both_precisions: whether the sets are trained with matrix products in the other precision, too
        lopsided: personas that are fine-tuned on more statements of one label than of the other
        pairs_decomposed: response pairs whose token rewards are taken apart
        token_beta: strength of the pull to the reference for those
        token_rate: learning rate of the unembedding for those
        token_steps: updates of the unembedding for those
        moved_pairs: response pairs on which all weights take one step
    """

    personas: int
    statements_per_label: int
    held_out: int
    synthetic_draws: int
    promised: list[int]
    draws: int
    concept_counts: list[int]
    samples_a_label: list[int]
    sampled: int
    many_samples: list[int]
    beta: float
    learning_rate: float
    steps: int
    batch_size: int
    examples: int
    cluster_counts: list[int]
    sets: int
    anchors: int
    both_precisions: bool
    lopsided: int
    pairs_decomposed: int
    token_beta: float
    token_rate: float
    token_steps: int
    moved_pairs: int

    def __post_init__(self) -> None:
        """
        Raises:
            PrefdynError: nothing is varied in a list, numbers of personas do not lie within each other, there
                are fewer statements than grow as 1 + log2 K from one, or than are held out.
        """
        for name in ("concept_counts", "samples_a_label", "many_samples", "cluster_counts"):
            values = getattr(self, name)
            checks.distinct(name, values)
            if len(values) < 2 or values != sorted(values):
                raise PrefdynError(f"{name} is {values}: give at least two numbers that rise")
        for name in ("concept_counts", "cluster_counts"):
            if getattr(self, name)[0] != 1:
                raise PrefdynError(f"{name} is {getattr(self, name)}: begin with 1, a persona alone")
        for count in self.cluster_counts:
            inside = min(count, self.anchors)
            if self.anchors % inside:
                raise PrefdynError(
                    f"cluster_counts has {count} and anchors is {self.anchors}: they must fit into each other"
                )
        largest, most = self.concept_counts[-1], self.samples_a_label[-1]
        least = math.ceil(1 + math.log2(largest))
        if most < least:
            raise PrefdynError(
                f"samples_a_label ends with {most}: for {largest} personas it must end with at least {least}"
            )
        wanted = max(self.examples, *self.samples_a_label) + self.held_out
        if 0 < self.statements_per_label < wanted:
            raise PrefdynError(
                f"statements_per_label is {self.statements_per_label}: with held_out, examples and "
                f"samples_a_label it must be 0 (all) or at least {wanted}"
            )


def check_design(design: Design, source: Source) -> None:
    """See that a source has what the design needs.

    Raises:
        PrefdynError: it has not.
    """
    counts = checks.personas(design, source, fewest=3, each=design.held_out + 4)
    together = max(design.cluster_counts[-1] * design.sets, *design.concept_counts, design.lopsided)
    if together > len(counts):
        raise PrefdynError(
            f"cluster_counts, sets, concept_counts and lopsided ask for {together} personas and there are "
            f"{len(counts)}: lower them, or raise personas"
        )
    whole = [data.load_persona(name, source) for name in sampled(list(counts), design)[:3]]
    most = max(int(min(np.sum(of.labels > 0), np.sum(of.labels < 0))) for of in whole)
    if most < max(design.many_samples) + design.held_out:
        raise PrefdynError(
            f"many_samples asks for {max(design.many_samples)} statements of a label beside held_out "
            f"{design.held_out}: no persona that is sampled has more than {most}"
        )
    checks.pairs(source, fewest=max(design.pairs_decomposed, design.moved_pairs))


def sampled(names: Sequence[str], design: Design) -> list[str]:
    """The personas of which all statements are taken, evenly spaced in the alphabet."""
    return checks.evenly(names, min(design.sampled, len(names)))


def parts(persona: Persona, design: Design, seed: int) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Indices of a persona's statements for training and for measuring."""
    return data.split_indices(persona, seed, 2 * design.held_out / len(persona.labels))


def states(bench: Bench, design: Design, personas: Sequence[Persona] | None = None) -> list[States]:
    """The hidden states of personas, of the design's where none are given, in the two parts."""
    if personas is None:
        personas = bench.personas(design.personas, design.statements_per_label)
    found = []
    for persona in personas:
        train, held_out = parts(persona, design, bench.seed)
        g = bench.features(persona)
        found.append(
            States(persona.name, g[train], persona.labels[train], g[held_out], persona.labels[held_out])
        )
    return found


def training_time(everyone: Sequence[States]) -> float:
    """The time, in units of tau, for which the unembedding is trained: that in which the mean margin of a
    persona of median concept length would reach log 3 at its first rate, if it were trained alone. So long
    the paper's theorems follow a margin.
    """
    squares = [float(of.concept @ of.concept) for of in everyone]
    return float(np.log(3) / (BETA**2 * np.median(squares)))


def samples_of_the_data(personas: Sequence[Persona], source: Source) -> int:
    """The most statements that both labels of a persona have, of all that its source has of them."""
    whole = [data.load_persona(persona.name, source).labels for persona in personas]
    return max(int(min(np.sum(labels > 0), np.sum(labels < 0))) for labels in whole)


# The plan -------------------------------------------------------------------------------------------


def work(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 2 under its parameters, for all seeds; its synthetic clusters are no work for a
    model.
    """
    features, seeds = persona_features(p), len(set(p["seeds"]))
    each = features.each
    anchors, counts = p["anchors"], p["cluster_counts"]
    times = (2 if p["both_precisions"] else 1) * p["sets"] * seeds
    together = [(count, max(1, anchors // count) * times) for count in counts]
    shown = sum(runs * min(count, anchors) for count, runs in together)
    seen = p["steps"] * p["batch_size"] * each
    measured = 2 * (2 * p["held_out"] + 2 * p["examples"]) * each
    pairs = data.load_pairs(p["data"])
    lengths = Lengths.of(pairs)
    runs = sum(runs for _, runs in together)
    batch = p["batch_size"] * each
    return [
        Work(features.name, "forward", features.runs * seeds, features.tokens, each=each),
        Work(
            "features of all statements of some personas",
            "forward",
            min(p["sampled"], features.runs),
            2 * (max(p["many_samples"]) + p["held_out"]) * each,
            each=each,
        ),
        Work(
            f"fine-tuning on {counts[0]} to {counts[-1]} personas",
            "train",
            runs,
            seen,
            p["steps"],
            measured * shown / runs,
            batch,
            each=each,
        ),
        Work(
            "fine-tuning on lopsided labels",
            "train",
            3 * p["lopsided"] * seeds,
            seen,
            p["steps"],
            4 * p["held_out"] * each,
            batch,
            each=each,
        ),
        Work(
            "hidden states of response pairs",
            "forward",
            seeds,
            lengths.each * min(p["pairs_decomposed"], len(pairs)),
            each=lengths.each,
        ),
        Work(
            "one step on response pairs",
            "train",
            seeds,
            lengths.each * min(p["moved_pairs"], len(pairs)),
            1,
            2 * lengths.each * min(p["moved_pairs"], len(pairs)),
            max(moved_tokens.TOKENS, largest_batch(pairs, 1)),
            each=lengths.each,
            responses=lengths.share,
            moments=0,
        ),
    ]
