"""What is learned first when all weights train: chapter 1's full fine-tuning on behaviours.

Statements come in the three parts of `distinguishability.parts`: a loss and an accuracy are always of
held-out statements, and the training on opposite labels has statements of its own. Every run has a seed of
its own, and every batch equally many statements of each label.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from prefdyn import data
from prefdyn.data import Persona
from prefdyn.engine.training import Settings
from prefdyn.experiments import checks
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.distinguishability import (
    Cast,
    Design,
    cast,
    gaps_of,
    parts,
)
from prefdyn.experiments.phases import Phase, PhaseResult
from prefdyn.measures import geometry

ALIGNED = "aligned"
"""Where the training on opposite labels begins that follows the first."""


# What all of them are made of -------------------------------------------------------------------------


def tuning(
    bench: Bench, design: Design, steps: int, *words: str, beta: float = 0, rate: float = 0
) -> Settings:
    """Full fine-tuning with the seed of a run that is called so; beta and rate are the design's where none
    are given.
    """
    return Settings(
        rate or design.learning_rate,
        steps,
        design.batch_size,
        beta or design.beta,
        seed=bench.seed_of(*words),
        balanced=True,
    )


def held_out(bench: Bench, design: Design, persona: Persona) -> Persona:
    """The statements of a behaviour for measuring alone."""
    return persona.subset(parts(persona, design, bench.seed).held_out)


def aligning(bench: Bench, design: Design, persona: Persona, how: Settings) -> Phase:
    """Training on a behaviour, measured on held-out statements after the last step."""
    train = persona.subset(parts(persona, design, bench.seed).train)
    return Phase([train], how, {"held out": [held_out(bench, design, persona)]}, [how.steps])


def undoing(bench: Bench, design: Design, persona: Persona, *words: str) -> Phase:
    """Training on opposite labels, of statements that aligning does not see."""
    undo = persona.subset(parts(persona, design, bench.seed).undo).opposite()
    how = tuning(bench, design, design.undo_steps, persona.name, "undoing", *words)
    return Phase([undo], how, {"held out": [held_out(bench, design, persona).opposite()]}, [how.steps])


def end(result: PhaseResult, column: str) -> float:
    """A column of a record on held-out statements, after the last step."""
    return result.record.query("split == 'held out' and step == step.max()")[column].item()


def fall(result: PhaseResult) -> float:
    """How far the loss on held-out statements has fallen (nats)."""
    return float(np.log(2) - end(result, "loss"))


def followed(everyone: Cast, design: Design) -> list[str]:
    """The behaviours that are fine-tuned, from the least to the most distinguishable."""
    return checks.evenly(everyone.order, design.trained)


def another_of(names: Sequence[str]) -> dict[str, str]:
    """For each behaviour another one, half way round in the order of distinguishability."""
    return {name: names[(place + len(names) // 2) % len(names)] for place, name in enumerate(names)}


def told_apart(bench: Bench, design: Design, persona: Persona) -> Persona:
    """The held-out statements under a name of their own, so that a phase can tell them from others."""
    return replace(held_out(bench, design, persona), name=f"{persona.name}, held out")


def controlled(everyone: Cast, design: Design) -> list[str]:
    """Of the behaviours that are fine-tuned, those with controls: they are also undone."""
    return checks.evenly(followed(everyone, design), design.controlled)


def aligned(bench: Bench, design: Design, everyone: Cast) -> dict[str, list[PhaseResult]]:
    """Each behaviour that is fine-tuned, on its labels; some of them from there on the opposite labels.

    After the first, the hidden states of those behaviours' held-out statements and of another's are taken.
    """
    names = followed(everyone, design)
    another, runs = another_of(controlled(everyone, design)), []
    for name in names:
        persona = everyone.personas[name]
        how = tuning(bench, design, design.steps, name, "aligning")
        when = sorted({round(quarter * how.steps / 4) for quarter in range(5)})
        once = replace(aligning(bench, design, persona, how), evaluate_at=when)
        if name not in another:
            runs.append([once])
            continue
        watched = [told_apart(bench, design, everyone.personas[who]) for who in (name, another[name])]
        runs.append([replace(once, embed=watched), undoing(bench, design, persona, ALIGNED)])
    return dict(zip(names, bench.train_all(runs), strict=True))


# One behaviour at a time ------------------------------------------------------------------------------


def fine_tuning(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Behaviours trained by themselves, all weights free.

    Tables:
        fine_tuning: one row a behaviour:

            - behaviour, family, δ: as in `embeddings`.
            - δ of training, δ / √Tr Σ: as in `unembedding`.
            - fall of the loss: log 2 less the loss on held-out statements after the last step (nats).
            - accuracy before, accuracy after: share of held-out statements answered correctly.
            - margins > 0: share of held-out statements whose right answer gained on the wrong one.
        fine_tuning_curves: one row a behaviour and step, at every quarter of the updates:

            - loss, accuracy: on held-out statements (nats; share answered correctly).
    """
    everyone = cast(bench, design)
    trained = aligned(bench, design, everyone)
    rows, curves = [], []
    for name, (result, *_) in trained.items():
        persona = everyone.personas[name]
        mine = parts(persona, design, bench.seed)
        seen = np.concatenate([mine.train, mine.undo])
        moments = geometry.moments(bench.features(persona)[seen], persona.labels[seen])
        measured = result.record.query("split == 'held out'").set_index("step")
        rows.append(
            {
                "behaviour": name,
                "family": data.family(name),
                "δ": everyone.deltas[name],
                "δ of training": moments.distinguishability,
                "δ / √Tr Σ": moments.spread_ratio**-0.5,
                "fall of the loss": fall(result),
                "accuracy before": measured["ranking_accuracy"][0],
                "accuracy after": measured["ranking_accuracy"].iloc[-1],
                "margins > 0": measured["accuracy"].iloc[-1],
            }
        )
        curve = {"step": measured.index, "loss": measured["loss"], "accuracy": measured["ranking_accuracy"]}
        curves.append(pd.DataFrame({"behaviour": name, **curve}))
    return {"fine_tuning": pd.DataFrame(rows), "fine_tuning_curves": pd.concat(curves, ignore_index=True)}


# Two behaviours at once -------------------------------------------------------------------------------


def joint_training(bench: Bench, design: Design) -> pd.DataFrame:
    """Two behaviours trained together, all weights free: pairs drawn by the seed, the paper's two first where
    the data has them. They share the batches, so that each is met half as often as when alone.

    One row a pair.

    Columns:
        first, second: the more and the less distinguishable of the two.
        priority gap: of the first over the second, before training.
        fall of the first, fall of the second: of the loss on held-out statements (nats).
        loss gap: the difference of the two, which is the second's loss less the first's.
        accuracy gap: share of held-out statements answered correctly, of the first less of the second.
    """
    everyone = cast(bench, design)
    order, gaps = everyone.order, gaps_of(everyone)
    runs, together = [], _pairs_together(bench, design, everyone)
    for first, second in together:
        both = [everyone.personas[name] for name in (first, second)]
        how = tuning(bench, design, design.steps, first, second, "together")
        train = [one.subset(parts(one, design, bench.seed).train) for one in both]
        measured_on = {"held out": [held_out(bench, design, one) for one in both]}
        runs.append([Phase(train, how, measured_on, [how.steps])])
    rows = []
    for (first, second), (result,) in zip(together, bench.train_all(runs), strict=True):
        ends = result.record.query("split == 'held out'").set_index("group")
        falls = np.log(2) - ends["loss"]
        rows.append(
            {
                "first": first,
                "second": second,
                "priority gap": gaps[order.index(first), order.index(second)],
                "fall of the first": falls[first],
                "fall of the second": falls[second],
                "loss gap": falls[first] - falls[second],
                "accuracy gap": ends["ranking_accuracy"][first] - ends["ranking_accuracy"][second],
            }
        )
    return pd.DataFrame(rows)


def _pairs_together(bench: Bench, design: Design, everyone: Cast) -> list[tuple[str, str]]:
    order = everyone.order
    places = {name: place for place, name in enumerate(order)}
    known = [pair for pair in data.PAPER_PAIRS if all(name in places for name in pair)]
    papers = [tuple(sorted(pair, key=places.__getitem__, reverse=True)) for pair in known]
    every = [(order[i], order[j]) for i in range(len(order)) for j in range(i)]
    drawn = [every[k] for k in np.random.default_rng(bench.seed).permutation(len(every))]
    return list(dict.fromkeys([*papers, *drawn]))[: design.pairs_trained]


# Does the strength matter? ----------------------------------------------------------------------------


def beta(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Behaviours fine-tuned at further strengths β, each with a learning rate tuned on other behaviours.

    Tables:
        beta_falls: one row a β and behaviour, those of `fine_tuning` for its β:

            - β, learning rate: of the runs.
            - behaviour, family, δ, fall of the loss: as in `fine_tuning`.
        learning_rates: one row a further β and learning rate that was tried:

            - loss: on held-out statements, mean over the behaviours that it was tried on (nats).
            - behaviours: how many these are.
            - chosen: whether it is the lowest of that β's.
    """
    everyone = cast(bench, design)
    names = checks.evenly(followed(everyone, design), design.beta_behaviours)
    others = [name for name in everyone.order if name not in names] or names
    tried_on = checks.evenly(others, design.tuned_on)
    every = list(itertools.product(sorted(design.other_betas), design.rates_tried))
    trials = [
        [_at(bench, design, everyone.personas[name], strength, rate)]
        for strength, rate in every
        for name in tried_on
    ]
    found = iter(bench.train_all(trials))
    losses = pd.DataFrame(every, columns=["β", "learning rate"]).assign(
        loss=[np.mean([end(next(found)[0], "loss") for _ in tried_on]) for _ in every],
        behaviours=len(tried_on),
    )
    losses["chosen"] = losses["loss"] == losses.groupby("β")["loss"].transform("min")
    best = dict(losses[losses["chosen"]].drop_duplicates("β")[["β", "learning rate"]].to_numpy())
    runs = [[_at(bench, design, everyone.personas[name], at, best[at])] for at in best for name in names]
    found = iter(bench.train_all(runs))
    falls = {at: [fall(next(found)[0]) for _ in names] for at in best}
    trained = aligned(bench, design, everyone)
    falls[design.beta] = [fall(trained[name][0]) for name in names]
    best[design.beta] = design.learning_rate
    rows = [
        {
            "β": strength,
            "learning rate": best[strength],
            "behaviour": name,
            "family": data.family(name),
            "δ": everyone.deltas[name],
            "fall of the loss": fell,
        }
        for strength in sorted(falls)
        for name, fell in zip(names, falls[strength], strict=True)
    ]
    return {"beta_falls": pd.DataFrame(rows), "learning_rates": losses}


def _at(bench: Bench, design: Design, persona: Persona, strength: float, rate: float) -> Phase:
    how = tuning(bench, design, design.steps, persona.name, "aligning", beta=strength, rate=rate)
    return aligning(bench, design, persona, how)
