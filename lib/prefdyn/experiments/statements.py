"""More samples, lopsided ones, and a bound on the error that says something (chapter 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from prefdyn import data
from prefdyn.engine.training import Settings
from prefdyn.experiments import frozen
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.generalization import BETA, Design, parts, sampled, states, training_time
from prefdyn.experiments.phases import Phase
from prefdyn.experiments.tasks import Task


def more_samples(bench: Bench, design: Design) -> pd.DataFrame:
    """Every persona trained alone on few and on many statements, the unembedding alone, all for one time.

    One row a persona and number of statements; means over draws of the statements.

    Columns:
        persona, family: its name, and what it shares its name with.
        of: everyone, or those of whom all statements are taken.
        Q: statements of each label that are trained on.
        risk: share of held-out margins that is not positive at the end.
        loss: mean of held-out statements at the end (nats).
        wait: t / tau until the loss on the training statements has fallen by 0.05 nats.
    """
    everyone = states(bench, design)
    until = training_time(everyone)
    names = sampled([of.name for of in everyone], design)
    whole = bench.whole(names)
    arms = (
        ("everyone", everyone, design.samples_a_label),
        ("all statements", states(bench, design, whole), design.many_samples),
    )
    found = []
    for word, some, sizes in arms:
        tasks = [
            Task(
                f"{word}: {of.name}",
                "samples",
                {
                    "states": of.key,
                    "sizes": sizes,
                    "draws": design.draws,
                    "time": until,
                    "seed": [bench.seed, number],
                },
                frozen.by_samples,
                (of, sizes, design.draws, until, BETA, [bench.seed, number]),
            )
            for number, of in enumerate(some)
        ]
        for of, table in zip(some, bench.keep_all(tasks), strict=True):
            table.insert(0, "of", word)
            table.insert(0, "family", data.family(of.name))
            table.insert(0, "persona", of.name)
            found.append(table)
    return pd.concat(found, ignore_index=True)


def imbalance(bench: Bench, design: Design) -> pd.DataFrame:
    """Every persona trained alone on as many statements of both labels, on statements drawn whatever their
    label, and on three of one label for one of the other, the unembedding alone.

    One row a persona, arm and when.

    Columns:
        persona, family: its name, and what it shares its name with.
        arm: as many of both, at random, three to one.
        when: first step, or end.
        rare, common: share of held-out statements of the label that is rarer, or not, in training, whose
            margin is positive.
    """
    everyone = states(bench, design)
    until, size = training_time(everyone), max(design.samples_a_label)
    tasks = [
        Task(
            f"lopsided: {of.name}",
            "lopsided",
            {"states": of.key, "size": size, "time": until, "seed": [bench.seed, number]},
            frozen.lopsided,
            (of, size, until, BETA, [bench.seed, number]),
        )
        for number, of in enumerate(everyone)
    ]
    return _by_persona([of.name for of in everyone], bench.keep_all(tasks))


def imbalance_all_weights(bench: Bench, design: Design) -> pd.DataFrame:
    """The same with all weights free, of some personas.

    One row a persona, arm and step.

    Columns:
        persona: its name.
        arm: as in `imbalance`.
        step: updates made: half of them, or all.
        rare, common: share of held-out statements of that label whose margin is positive.
        margin rare, margin common: their mean margins.
    """
    personas = bench.personas(design.personas, design.statements_per_label)
    order = np.random.default_rng([bench.seed, 7]).permutation(len(personas))[: design.lopsided]
    size = max(design.samples_a_label)
    steps = sorted({-(-design.steps // 2), design.steps})
    runs, about = [], []
    for number in order:
        persona = personas[number]
        train, held_out = (persona.subset(index) for index in parts(persona, design, bench.seed))
        for arm, share in frozen.SHARES.items():
            how = Settings(
                design.learning_rate,
                design.steps,
                design.batch_size,
                design.beta,
                seed=bench.seed_of(persona.name, "lopsided", arm),
                balanced=share > 0,
            )
            rng = np.random.default_rng(how.seed)
            index, rare = frozen.unevenly(train.labels, size, share, rng)
            splits = {
                word: [held_out.subset(np.flatnonzero(held_out.labels == sign))]
                for word, sign in (("rare", rare), ("common", -rare))
            }
            runs.append([Phase([train.subset(index)], how, splits, steps)])
            about.append((persona.name, arm))
    rows = []
    for (name, arm), (result,) in zip(about, bench.train_all(runs), strict=True):
        measured = result.record[result.record["split"] != "train"]
        right = measured.pivot(index="step", columns="split", values="accuracy")
        margins = measured.pivot(index="step", columns="split", values="margin").add_prefix("margin ")
        both = right.join(margins).reset_index().rename_axis(columns=None)
        rows.append(both.assign(persona=name, arm=arm))
    return pd.concat(rows, ignore_index=True)


def cantelli(bench: Bench, design: Design) -> pd.DataFrame:
    """Cantelli's bound on the error of every cluster of every persona, and the error.

    One row a persona and label.

    Columns:
        persona, family: its name, and what it shares its name with.
        label: +1 or -1.
        statements: held out, of that label.
        bound: on the probability of an error, from other statements' moments; 1 where it says nothing.
        bound high: the upper end of its 95% interval.
        wrong: held-out statements whose margin is not positive.
    """
    everyone = states(bench, design)
    until = training_time(everyone)
    tasks = [
        Task(
            f"bound: {of.name}",
            "cantelli",
            {"states": of.key, "time": until, "seed": [bench.seed, number]},
            frozen.cantelli,
            (of, until, BETA, [bench.seed, number]),
        )
        for number, of in enumerate(everyone)
    ]
    return _by_persona([of.name for of in everyone], bench.keep_all(tasks))


def _by_persona(names: Sequence[str], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """A table of each persona, one below the other, with its name and its family in front."""
    for name, table in zip(names, tables, strict=True):
        table.insert(0, "family", data.family(name))
        table.insert(0, "persona", name)
    return pd.concat(tables, ignore_index=True)
