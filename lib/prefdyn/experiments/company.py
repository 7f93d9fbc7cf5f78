"""More concepts: what is left of a persona's margin when others are trained with it (chapter 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.data import Persona
from prefdyn.engine.training import Settings
from prefdyn.experiments import frozen
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.generalization import BETA, Design, parts, states, training_time
from prefdyn.experiments.phases import Phase, PhaseResult
from prefdyn.experiments.tasks import Task
from prefdyn.theory.clusters import Clusters

HELD_OUT, TRAINED = "held out", "trained"
ANSWERED = 16
"""Personas that are answered by one pair of tokens or by several."""
LONGER_DRAWS = 2
"""Of who is trained with whom for longer: a draw takes many times as long as one of `company`."""


# All weights: nested sets -----------------------------------------------------------------------------


def nested(names: Sequence[str], design: Design, seed: int) -> list[list[str]]:
    """Sets of the most personas that are trained together, which share nobody. The first of a set are its
    anchors; a set of fewer is a beginning of it, or, among fewer than there are anchors, some of these.
    """
    order = np.random.default_rng([seed, 4]).permutation(len(names))
    most = design.cluster_counts[-1]
    return [[names[i] for i in order[k * most : (k + 1) * most]] for k in range(design.sets)]


def groups(one: Sequence[str], count: int, anchors: int) -> Iterator[list[str]]:
    """The personas of a set that are trained together, `count` at a time, so that each anchor is once among
    them.
    """
    for start in range(0, anchors, min(count, anchors)):
        yield [*one[start : start + count]]


def nested_sets(bench: Bench, design: Design) -> pd.DataFrame:
    """Anchor personas fine-tuned alone and among ever more others, all weights free: as many updates and as
    many statements of each persona whatever their number.

    One row an anchor, number of personas and split.

    Columns:
        set: its number; sets share nobody.
        persona, family: the anchor's name, and what it shares its name with.
        δ: distance of the means of its labels before training (units of the hidden states).
        K: personas trained together.
        split: held out or trained, its statements that are measured.
        margin: mean reward margin after the last update.
        accuracy: share of them whose margin is positive.
        loss: mean, in nats.
        foretold: rate of the anchor's held-out margin at the start when the unembedding alone is trained on
            these personas, c_k.mean_l(c_l), in units of beta^2.
    """
    personas = {p.name: p for p in bench.personas(design.personas, design.statements_per_label)}
    runs, about = [], []
    for number, one in enumerate(nested(list(personas), design, bench.seed)):
        for count in design.cluster_counts:
            for together in groups(one, count, design.anchors):
                anchors = [name for name in together if name in one[: design.anchors]]
                runs.append([_phase(bench, design, personas, together, anchors)])
                about.append((number, count, together, anchors))
    found = {of.name: of for of in states(bench, design)}
    rows = []
    for (number, count, together, anchors), (result,) in zip(about, bench.train_all(runs), strict=True):
        mean = np.mean([found[name].concept for name in together], axis=0)
        for name in anchors:
            of = found[name]
            about_it = {
                "set": number,
                "persona": name,
                "family": data.family(name),
                "δ": 2 * float(np.linalg.norm(of.concept)),
                "K": count,
                "foretold": float(of.concept_held_out @ mean),
            }
            rows += [{**about_it, **_ends(result, name, split)} for split in (HELD_OUT, TRAINED)]
    return pd.DataFrame(rows)


def rounding(bench: Bench, design: Design) -> pd.DataFrame:
    """`nested_sets` with matrix products in the other precision, where the design asks for it: whether its
    verdict turns with rounding.

    Columns: those of `nested_sets`, and precision ("float32", "bfloat16").
    """
    if not design.both_precisions:
        columns = ["set", "persona", "family", "δ", "K", "foretold", "split", "margin", "accuracy", "loss"]
        return pd.DataFrame(columns=[*columns, "precision"])
    other = bench.rounded("float32" if bench.precision == "bfloat16" else "bfloat16")
    return nested_sets(other, design).assign(precision=other.precision)


def _phase(
    bench: Bench, design: Design, personas: Mapping[str, Persona], together: Sequence[str], anchors: list[str]
) -> Phase:
    train = {name: _examples(personas[name], design, bench.seed) for name in together}
    held_out = [personas[name].subset(parts(personas[name], design, bench.seed)[1]) for name in anchors]
    how = Settings(
        design.learning_rate,
        design.steps,
        design.batch_size,
        design.beta,
        seed=bench.seed_of("together", *together),
        balanced=True,
    )
    splits = {HELD_OUT: held_out, TRAINED: [train[name] for name in anchors]}
    return Phase(list(train.values()), how, splits, [design.steps])


def _examples(persona: Persona, design: Design, seed: int) -> Persona:
    """The statements of a persona that are trained on, the same in every company."""
    train, _ = parts(persona, design, seed)
    return persona.subset(train).drawn(design.examples, seed)


def _ends(result: PhaseResult, name: str, split: str) -> dict[str, Any]:
    record = result.record
    (row,) = record[(record["split"] == split) & (record["group"] == name)].to_dict("records")
    return {"split": split, **{column: row[column] for column in ("margin", "accuracy", "loss")}}


# The unembedding alone --------------------------------------------------------------------------------


def company(bench: Bench, design: Design) -> pd.DataFrame:
    """Every persona trained alone and among ever more others, the unembedding alone.

    One row a number of personas, arm and persona; means over draws of who is trained with whom.

    Columns:
        K: personas trained together.
        arm: statements of each persona: all; as log K, growing as 1 + log₂ K; as with one, as many as at the
            beginning of that.
        Q: how many of each label.
        persona, family: its name, and what it shares its name with.
        margin: mean of its held-out margins at the end.
        risk: share of them that is not positive.
        foretold: rate of the held-out margin at the start, c_k.mean_l(c_l), in units of beta^2.
    """
    return _company(bench, design, design.draws)


def longer_company(bench: Bench, design: Design) -> pd.DataFrame:
    """The first two draws of `company` with statements that grow as log K, where K personas are trained K
    times as long, on the same statements in the same groups: the time of the paper's theorems grows so with
    the number of personas.

    Columns: those of `company`.
    """
    return _company(bench, design, min(LONGER_DRAWS, design.draws), frozen.ARMS[:1], longer=True)


def _company(
    bench: Bench, design: Design, draws: int, arms: Sequence[str] = frozen.ARMS, longer: bool = False
) -> pd.DataFrame:
    everyone = states(bench, design)
    most, until = max(design.samples_a_label), training_time(everyone)
    key = {
        "states": [of.key for of in everyone],
        "counts": design.concept_counts,
        "most": most,
        "arms": arms,
        "longer": longer,
    }
    tasks = [
        Task(
            f"company{', trained longer' if longer else ''}, draw {number}",
            "company",
            {**key, "time": until, "beta": BETA, "seed": [bench.seed, number]},
            frozen.in_company,
            (everyone, design.concept_counts, most, until, BETA, [bench.seed, number], arms, longer),
        )
        for number in range(draws)
    ]
    whole = pd.concat(bench.keep_all(tasks))
    table = whole.groupby(["K", "arm", "Q", "persona"], sort=False).mean().reset_index()
    names = np.array([of.name for of in everyone])
    table["persona"] = names[table["persona"]]
    table.insert(4, "family", table["persona"].map(data.family))
    return table


def own_answers(bench: Bench, design: Design) -> pd.DataFrame:
    """Sixteen personas at a time trained together, the unembedding alone, answered by one pair of tokens, by
    four pairs, by sixteen pairs of eight tokens of which each answers four personas, and by sixteen pairs
    that share no token.

    One row a set, arm and persona.

    Columns:
        set: its number; sets share nobody.
        pairs: distinct pairs of tokens.
        Z: how many personas a token answers.
        persona: its name.
        margin, risk: as in `company`.
    """
    everyone = states(bench, design)
    until, size = training_time(everyone), max(design.samples_a_label)
    many = min(ANSWERED, len(everyone))
    order = np.random.default_rng([bench.seed, 5]).permutation(len(everyone))
    sets = [[everyone[i] for i in order[k : k + many]] for k in range(0, len(order) - many + 1, many)]
    arms = answer_arms(many)
    answers = [tokens for *_, tokens in arms]
    key = {"answers": answers, "size": size, "time": until}
    tasks = [
        Task(
            f"own answers, set {number}",
            "own answers",
            {**key, "states": [of.key for of in group], "seed": [bench.seed, number]},
            frozen.by_answers,
            (group, answers, size, until, BETA, [bench.seed, number]),
        )
        for number, group in enumerate(sets)
    ]
    found = []
    for number, (group, table) in enumerate(zip(sets, bench.keep_all(tasks), strict=True)):
        about = {
            "set": number,
            "pairs": [arms[arm][0] for arm in table["arm"]],
            "Z": [arms[arm][1] for arm in table["arm"]],
            "persona": [group[i].name for i in table["persona"]],
        }
        found.append(pd.DataFrame({**about, "margin": table["margin"], "risk": table["risk"]}))
    return pd.concat(found, ignore_index=True)


def answer_arms(personas: int) -> list[tuple[int, int, NDArray[np.int64]]]:
    """Distinct pairs, how many personas a token answers, and the tokens of each, shape (personas, 2)."""
    side = max(1, round(personas**0.5))
    number = np.arange(personas)
    alone = Clusters(personas, 1, personas + 1, 0.0, 0.0, 1).answers
    grid = Clusters(personas, 1, personas + 1, 0.0, 0.0, side).answers
    few = np.stack([2 * (number % side), 2 * (number % side) + 1], axis=1)
    return [
        (1, personas, np.tile([0, 1], (personas, 1))),
        (side, personas // side, few),
        (personas, side, grid),
        (personas, 1, alone),
    ]


def identities(bench: Bench, design: Design) -> pd.DataFrame:
    """What follows from algebra, checked on hidden states.

    Columns:
        identity: in words.
        margins: how many are compared.
        departure: the largest difference of two margins that must be equal, relative to the largest margin.
    """
    everyone = states(bench, design)[:4]
    size, until = min(design.samples_a_label), training_time(everyone)
    return frozen.departures(everyone, size, until, BETA, [bench.seed, 6])
