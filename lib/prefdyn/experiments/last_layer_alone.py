"""What is learned first when the unembedding alone is trained: chapter 1's experiments on hidden states that
stand still, of single behaviours and of two at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.data import Persona
from prefdyn.engine.last_layer import LastLayerRun
from prefdyn.engine.training import Settings
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.distinguishability import Design, cast, difference, gaps_of, shown, test_fraction
from prefdyn.measures import geometry
from prefdyn.theory import distinguishability as theory

BEYOND = 100
"""How many times larger the learning rate is where the boundary is to turn."""


# One behaviour at a time ------------------------------------------------------------------------------


def _descent(bench: Bench, design: Design) -> Settings:
    """Gradient descent on all training statements at once."""
    return Settings(
        design.unembedding_rate,
        design.unembedding_steps,
        batch_size=10**9,
        beta=design.beta,
        optimizer="sgd",
        seed=bench.seed,
    )


def unembedding(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Every behaviour trained by itself, the unembedding alone.

    Tables:
        unembedding: one row a behaviour:

            - behaviour, family, δ: as in `embeddings`.
            - δ of training: of the training statements alone.
            - δ / √Tr Σ: their distance for the size of the clouds, of the training statements.
            - fall of the loss: log 2 less the loss on the training statements after the last step (nats).
            - fall held out: the same on the held-out statements.
            - rate: movement of the weights a step, ||W_T - W_0|| / T.
            - accuracy before, accuracy after: share of held-out statements answered correctly.
            - fall foretold, rate foretold: the first step repeated, eta beta^2 T delta^2 / 8 and sqrt(2) eta
              beta delta / 4, with the δ of training.
            - error of the first step: of its mean margin, relative to eta beta^2 delta^2 / 4.
        theorem_4_1: one row a behaviour:

            - c_n, c_v: the smallest constants that fit.
            - β′²ηc_n², holds: the condition's left side, and whether it is at most 1/4.
            - rate: movement a step, ||W_T - W_0|| / T.
            - R²: of a straight line through the origin fitted to the movement.
            - steps above: at which the movement exceeds the bound, of `steps`.
            - steps above ours: at which it exceeds sqrt(2) / 4 eta beta t δ of training.
            - slack: bound over movement at the last step.
        last_layer_curves: one row a behaviour that is shown and step:

            - fall: of the loss since the start (nats).
            - distance: ||W_t - W_0||.
            - bound: on the distance, by Theorem 4.1.
    """

    def compute() -> dict[str, pd.DataFrame]:
        return _unembedding(bench, design)

    return bench.keep("last_layer", _last_layer_key(bench, design), unembedding, compute)


def _last_layer_key(bench: Bench, design: Design) -> dict[str, Any]:
    """All that trainings of the last layer depend on, but for the model."""
    people = bench.personas(design.personas, design.statements_per_label)
    words = ("held_out", "pairs_tested")
    return {
        "data": data.fingerprint(people),
        "settings": _descent(bench, design).describe(),
        **{word: getattr(design, word) for word in words},
    }


def _unembedding(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    everyone, settings = cast(bench, design), _descent(bench, design)
    steps, rate, beta = settings.steps, settings.learning_rate, settings.beta
    learned, rates, curves = [], [], []
    for name, persona in everyone.personas.items():
        moments = everyone.moments[name]
        seen = geometry.moments(*_training(bench, design, persona))
        run = bench.train_unembedding([persona], settings, [test_fraction(persona, design)])
        record, held_out = (
            run.record[run.record["split"] == split].set_index("step") for split in ("train", "test")
        )
        fell = np.log(2) - record["loss"]
        moved = theory.movement(run.path, moments, beta, rate)
        conditions = theory.conditions(moments, beta, rate)
        delta = seen.distinguishability
        first = np.sqrt(2) / 4 * rate * beta * delta
        gain = rate * beta**2 * delta**2 / 4
        about = {"behaviour": name, "family": data.family(name), "δ": moments.distinguishability}
        learned.append(
            {
                **about,
                "δ of training": delta,
                "δ / √Tr Σ": seen.spread_ratio**-0.5,
                "fall of the loss": fell[steps],
                "fall held out": np.log(2) - held_out["loss"][steps],
                "rate": moved.rate,
                "accuracy before": held_out["ranking_accuracy"][0],
                "accuracy after": held_out["ranking_accuracy"][steps],
                "fall foretold": gain * steps / 2,
                "rate foretold": first,
                "error of the first step": record["margin"][1] / gain - 1,
            }
        )
        rates.append(
            {
                "behaviour": name,
                "δ": moments.distinguishability,
                "c_n": conditions.c_n,
                "c_v": conditions.c_v,
                "β′²ηc_n²": conditions.step,
                "holds": conditions.hold,
                "rate": moved.rate,
                "R²": moved.r_squared,
                "steps above": moved.violations,
                "steps above ours": int((record["distance"] > first * record.index * (1 + 1e-9)).sum()),
                "steps": steps,
                "slack": moved.slack,
            }
        )
        if name in shown(everyone):
            bound = theory.weight_change_bound(record.index, moments, beta, rate)
            curve = {"step": record.index, "fall": fell, "distance": record["distance"], "bound": bound}
            curves.append(pd.DataFrame({"behaviour": name, **curve}).query("step > 0"))
    return {
        "unembedding": pd.DataFrame(learned),
        "theorem_4_1": pd.DataFrame(rates),
        "last_layer_curves": pd.concat(curves, ignore_index=True),
    }


def boundary(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """How the boundary turns, and what Theorems 4.2 and 4.3 say of it: the unembedding trained three times as
    long as in `unembedding`, at a learning rate a hundred times larger.

    Tables:
        boundary: one row a behaviour that is shown:

            - begins below 0: whether the cosine does, in which case Theorem 4.2 says nothing.
            - steps below bound: at which the cosine is below its bound.
            - steps above actual: at which the guaranteed accuracy is above the actual one.
            - steps: of the run.
            - guaranteed: the largest accuracy guaranteed at any step.
            - share of Yes: what answering Yes to everything reaches on the training statements.
        boundary_curves: one row a behaviour and step (of the later steps, some):

            - cosine, bound: of the boundary's normal with the difference of the means, and Theorem 4.2's
              bound.
            - guaranteed, accuracy: what Theorem 4.3 guarantees, and the share of training statements answered
              correctly.
    """
    everyone = cast(bench, design)
    far = replace(
        _descent(bench, design),
        learning_rate=BEYOND * design.unembedding_rate,
        steps=3 * design.unembedding_steps,
    )
    followed = {name: everyone.personas[name] for name in shown(everyone)}
    turns = {name: _turn(bench, design, persona, far) for name, persona in followed.items()}
    drawn = _logarithmic(far.steps)
    summary = [
        {
            "behaviour": name,
            "begins below 0": bool(turn["bound"].isna().any()),
            "steps below bound": int((turn["cosine"] < turn["bound"] - 1e-9).sum()),
            "steps above actual": int((turn["guaranteed"] > turn["accuracy"] + 1e-9).sum()),
            "steps": far.steps,
            "guaranteed": turn["guaranteed"].max(),
            "share of Yes": float((_training(bench, design, followed[name])[1] > 0).mean()),
        }
        for name, turn in turns.items()
    ]
    curves = [turn.iloc[drawn].assign(behaviour=name) for name, turn in turns.items()]
    return {"boundary": pd.DataFrame(summary), "boundary_curves": pd.concat(curves, ignore_index=True)}


def _turn(bench: Bench, design: Design, persona: Persona, settings: Settings) -> pd.DataFrame:
    """One row a step: cosine, its bound, guaranteed and actual accuracy."""
    g, s = _training(bench, design, persona)
    m, start = difference(g, s), bench.answer_difference
    run = bench.train_unembedding([persona], settings, [test_fraction(persona, design)])
    normals = start + 2 * run.path
    record = run.record.query("split == 'train'")
    return pd.DataFrame(
        {
            "step": np.arange(len(normals)),
            "cosine": geometry.cosine(normals, m),
            "bound": theory.boundary_bound(run.path, start, m),
            "guaranteed": [theory.guaranteed_accuracy(g, s, normal, m) for normal in normals],
            "accuracy": record["ranking_accuracy"].to_numpy(),
        }
    )


def _logarithmic(steps: int, count: int = 60) -> NDArray[np.int64]:
    """Steps from 0 to the last one, those after the first few evenly spaced on a logarithmic axis."""
    return np.unique(np.append(0, np.geomspace(1, steps, count).round())).astype(np.int64)


def _training(bench: Bench, design: Design, persona: Persona) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Hidden states and labels of a behaviour's statements, but for the held-out ones."""
    index, _ = data.split_indices(persona, bench.seed, test_fraction(persona, design))
    return bench.features(persona)[index], persona.labels[index]


# Two behaviours at once -------------------------------------------------------------------------------


def priority_gaps(bench: Bench, design: Design) -> pd.DataFrame:
    """How much more of a joint step one behaviour would gain than another, for every two behaviours.

    One row a pair.

    Columns:
        i, j: their places in the order of distinguishability, 0 the least; j < i.
        priority gap: P_i - P_j (LD Equation 5), in units of the largest possible priority.
    """
    gaps = gaps_of(cast(bench, design))
    i, j = np.tril_indices(len(gaps), k=-1)
    return pd.DataFrame({"i": i, "j": j, "priority gap": gaps[i, j]})


def pairs(bench: Bench, design: Design) -> pd.DataFrame:
    """Two behaviours trained together, the unembedding alone: random pairs, drawn by the seed.

    One row a pair.

    Columns:
        first, second: the more and the less distinguishable of the two.
        priority gap: of the first over the second, before training.
        loss gap: loss of the second less that of the first, after the last step (nats).
        error: relative error of the gain that eta beta / 4 b.b_i foretells for the first step, with b the
            mean of the b_i over statements.
    """

    def compute() -> pd.DataFrame:
        return _pairs(bench, design)

    return bench.keep("last_layer_pairs", _last_layer_key(bench, design), pairs, compute)


def _pairs(bench: Bench, design: Design) -> pd.DataFrame:
    everyone, settings = cast(bench, design), _descent(bench, design)
    order, gaps = everyone.order, gaps_of(everyone)
    every = [(i, j) for i in range(len(order)) for j in range(i)]
    drawn = np.random.default_rng(bench.seed).permutation(len(every))[: design.pairs_tested]
    training = {name: _training(bench, design, persona) for name, persona in everyone.personas.items()}
    means = {name: difference(*part) for name, part in training.items()}
    rows = []
    for i, j in (every[k] for k in drawn):
        pair = [order[i], order[j]]
        both = [everyone.personas[name] for name in pair]
        run = bench.train_unembedding(both, settings, [test_fraction(one, design) for one in both])
        loss, gain = _groups(run, settings.steps, "loss"), _groups(run, 1, "margin") / settings.beta
        foretold = theory.first_step_gains(
            [means[name] for name in pair],
            settings.beta,
            settings.learning_rate,
            [len(training[name][1]) for name in pair],
        )
        rows.append(
            {
                "first": pair[0],
                "second": pair[1],
                "priority gap": gaps[i, j],
                "loss gap": loss[pair[1]] - loss[pair[0]],
                "error": np.abs(gain[pair] - foretold).max() / np.abs(foretold).max(),
            }
        )
    return pd.DataFrame(rows)


def _groups(run: LastLayerRun, step: int, column: str) -> pd.Series:
    """A column of a run's record on the training statements at a step, by behaviour."""
    record = run.record
    return record[(record["split"] == "train") & (record["step"] == step)].set_index("group")[column]
