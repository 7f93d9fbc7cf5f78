"""Beyond the paper: is distinguishability a cause, is there a better one, and can the priority be undone?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import expit

from prefdyn import data
from prefdyn.data import Persona
from prefdyn.engine.gradients import mean_log_ratio_gradient
from prefdyn.engine.likelihood import tokenize_persona
from prefdyn.experiments import checks
from prefdyn.experiments.all_weights import end, fall, held_out, tuning
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.distinguishability import (
    Design,
    cast,
    difference,
    parts,
    test_fraction,
)
from prefdyn.experiments.phases import Phase
from prefdyn.models import LanguageModel
from prefdyn.theory import distinguishability as theory

HIGH, LOW, SHUFFLED = "large projections", "small projections", "shuffled labels"
EQUAL, WEIGHTED = "equal weights", "weights that undo the priority"


# Distinguishability in all weights ------------------------------------------------------------------------


def gradient_of(lm: LanguageModel, persona: Persona) -> pd.DataFrame:
    """`mean_log_ratio_gradient` of a persona's statements."""
    return mean_log_ratio_gradient(lm, tokenize_persona(lm, persona))


def gradients(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """How long the first gradient of every behaviour is in all weights, one backward pass each.

    Tables:
        gradients: one row a behaviour:

            - behaviour, δ: as in `embeddings`.
            - length: of E[s ∇h], in all weights, with h = log π(Yes)/π(No) and s the label.
            - absolute: the sum of its absolute values, to which a first step of Adam is proportional.
        gradients_by_layer: one row a behaviour and part of the model:

            - part: a layer, or what is in none.
            - length, absolute: as above, of the weights of that part.
    """
    everyone = cast(bench, design)
    rows, layers = [], []
    for name, persona in everyone.personas.items():
        train = persona.subset(parts(persona, design, bench.seed).train).balanced(design.graded)
        table = bench.measure("gradients", {"data": data.fingerprint([train])}, gradient_of, train)
        rows.append(
            {
                "behaviour": name,
                "δ": everyone.deltas[name],
                "length": float(np.sqrt(table["squared"].sum())),
                "absolute": table["absolute"].sum(),
            }
        )
        each = table[["part"]].assign(length=np.sqrt(table["squared"]), absolute=table["absolute"])
        layers.append(each.assign(behaviour=name))
    return {"gradients": pd.DataFrame(rows), "gradients_by_layer": pd.concat(layers, ignore_index=True)}


# Cause or company -----------------------------------------------------------------------------------------


def intervention(bench: Bench, design: Design) -> pd.DataFrame:
    """Two halves of a behaviour's statements, alike but for how far apart their two labels lie, and the
    labels shuffled: which is learned faster?

    Of two statements of one label that are nearest in the length of their hidden states and of their text,
    one goes to either half, by their projections on the difference of the means of other statements.

    One row a behaviour and arm.

    Columns:
        behaviour: its name.
        arm: large projections, small projections, shuffled labels (of large and small ones together).
        projected δ: distance of the centres along the difference of the means of the other statements.
        δ: their distance.
        length of states, characters: means over the arm's statements.
        statements: how many they are.
        fall: log 2 less the loss on held-out statements after the last step (nats).
        accuracy: share of held-out statements answered correctly.
    """
    chosen = checks.evenly(cast(bench, design).order, design.intervened)
    drawn = {p.name: p for p in bench.personas(design.personas, design.intervened_statements)}
    about, runs = [], []
    for name in chosen:
        persona = drawn[name]
        g = bench.features(persona)
        words = (name, "intervention")
        arms, direction, kept = _arms(persona, g, design, bench.seed_of(*words))
        for arm, (index, labels) in arms.items():
            train = Persona(name, tuple(persona.statements[i] for i in index), labels)
            steps = max(1, len(index) // design.batch_size)
            how = tuning(bench, design, steps, *words)
            runs.append([Phase([train], how, {"held out": [persona.subset(kept)]}, [steps])])
            apart = difference(g[index], labels)
            about.append(
                {
                    "behaviour": name,
                    "arm": arm,
                    "projected δ": float(apart @ direction),
                    "δ": float(np.linalg.norm(apart)),
                    "length of states": float(np.linalg.norm(g[index], axis=1).mean()),
                    "characters": float(np.mean([len(persona.statements[i]) for i in index])),
                    "statements": len(index),
                }
            )
    measured = [
        {"fall": fall(result), "accuracy": end(result, "ranking_accuracy")}
        for (result,) in bench.train_all(runs)
    ]
    return pd.DataFrame(about).join(pd.DataFrame(measured))


Arm = tuple[NDArray[np.integer], NDArray[np.int8]]
"""Indices of statements, and the labels that they are trained on."""


def _arms(
    persona: Persona, g: NDArray[np.float32], design: Design, seed: int
) -> tuple[dict[str, Arm], NDArray[np.float64], NDArray[np.integer]]:
    """The arms, the unit vector projected on, and the held-out statements."""
    seen, kept = data.split_indices(persona, seed, test_fraction(persona, design))
    labels = persona.labels
    high, low, elsewhere = [], [], []
    pools = {}
    for sign in (1, -1):
        own = seen[labels[seen] == sign]
        elsewhere.append(own[: len(own) // 2])
        pools[sign] = own[len(own) // 2 :]
    away = np.concatenate(elsewhere)
    direction = difference(g[away], labels[away])
    direction /= np.linalg.norm(direction)
    for sign, pool in pools.items():
        projection = sign * (g[pool].astype(np.float64) @ direction)
        lengths = [np.linalg.norm(g[pool], axis=1), [len(persona.statements[i]) for i in pool]]
        for pair in matched(np.array(lengths, dtype=np.float64).T):
            large, small = sorted(pair, key=lambda place: -projection[place])
            high.append(pool[large])
            low.append(pool[small])
    both = np.array([*high, *low])
    mixed = np.random.default_rng(seed).permutation(len(both))[: len(high)]
    shuffled = np.random.default_rng(seed + 1).permutation(labels[both[mixed]])
    arms = {
        HIGH: (np.array(high), labels[high]),
        LOW: (np.array(low), labels[low]),
        SHUFFLED: (both[mixed], shuffled),
    }
    return arms, direction, kept


def matched(covariates: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs of rows that are alike: again and again the two nearest that are left, in units of each column's
    standard deviation.

    Args:
        covariates: shape (n, columns).

    Returns:
        floor(n / 2) pairs of indices, nobody twice.
    """
    scale = covariates.std(axis=0)
    x = covariates / np.where(scale > 0, scale, 1)
    distances = cdist(x, x)
    np.fill_diagonal(distances, np.inf)
    pairs = []
    for _ in range(len(x) // 2):
        i, j = np.unravel_index(np.argmin(distances), distances.shape)
        pairs.append((int(i), int(j)))
        for taken in (i, j):
            distances[taken] = distances[:, taken] = np.inf
    return pairs


# Undoing the priority -------------------------------------------------------------------------------------


def equalised(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Behaviours trained together with weights after which the first step gains each as much.

    Tables:
        equalised_last_layer: one row a behaviour and weighting, all behaviours together, the unembedding
            alone:

            - δ: of the statements that are trained on.
            - arm: equal weights, or weights that undo the priority.
            - weight: of the behaviour; they sum up to their number.
            - first gain: of the mean signed logit in the first step, by the theory, over the mean one.
            - fall: of the loss on the training statements after the last step (nats).
        equalised: one row a draw of behaviours, weighting and behaviour, all weights free:

            - examples: of the behaviour, in proportion to its weight.
            - fall: log 2 less the loss on held-out statements after the last step (nats).
    """
    everyone = cast(bench, design)
    order = everyone.order
    last = [
        _last_layer(bench, design, everyone.personas, arm, weights)
        for arm, weights in _weightings(bench, design, everyone.personas).items()
    ]
    about, runs = [], []
    rng = np.random.default_rng(bench.seed)
    for draw in range(design.equalised_draws):
        drawn = sorted(rng.permutation(len(order))[: design.equalised])
        cast_ = {order[i]: everyone.personas[order[i]] for i in drawn}
        for arm, weights in _weightings(bench, design, cast_).items():
            examples = _examples(weights, design.equalised_examples * len(cast_))
            train = [
                _first(bench, design, persona, count, draw)
                for persona, count in zip(cast_.values(), examples, strict=True)
                if count
            ]
            total = sum(len(part.labels) for part in train)
            steps = max(1, total // design.batch_size)
            how = tuning(bench, design, steps, arm, str(draw), *cast_)
            measured = [held_out(bench, design, persona) for persona in cast_.values()]
            runs.append([Phase(train, how, {"held out": measured}, [steps])])
            about.append((draw, arm, dict(zip(cast_, examples, strict=True))))
    rows = []
    for (draw, arm, counts), (result,) in zip(about, bench.train_all(runs), strict=True):
        ends = result.record.query("split == 'held out'").set_index("group")["loss"]
        for name, count in counts.items():
            fell = float(np.log(2) - ends[name])
            rows.append({"draw": draw, "arm": arm, "behaviour": name, "examples": count, "fall": fell})
    return {"equalised_last_layer": pd.concat(last, ignore_index=True), "equalised": pd.DataFrame(rows)}


def _weightings(
    bench: Bench, design: Design, personas: Mapping[str, Persona]
) -> dict[str, NDArray[np.float64]]:
    return {
        EQUAL: np.ones(len(personas)),
        WEIGHTED: theory.equalising_weights(_differences(bench, design, personas)),
    }


def _differences(bench: Bench, design: Design, personas: Mapping[str, Persona]) -> NDArray[np.float64]:
    """b_i of the training statements, shape (behaviours, d)."""
    rows = []
    for persona in personas.values():
        index = parts(persona, design, bench.seed).train
        rows.append(difference(bench.features(persona)[index], persona.labels[index]))
    return np.array(rows)


def _last_layer(
    bench: Bench, design: Design, personas: Mapping[str, Persona], arm: str, weights: NDArray[np.float64]
) -> pd.DataFrame:
    """All behaviours together, the unembedding alone, each statement with its behaviour's weight."""
    states, labels, each = [], [], []
    for persona, weight in zip(personas.values(), weights, strict=True):
        index = parts(persona, design, bench.seed).train
        states.append(bench.features(persona)[index].astype(np.float64))
        labels.append(persona.labels[index])
        each.append(np.full(len(index), weight))
    g, s, w = np.concatenate(states), np.concatenate(labels), np.concatenate(each)
    u = np.zeros(g.shape[1])
    for _ in range(design.unembedding_steps):
        slopes = w * s * expit(-2 * design.beta * s * (g @ u))
        u += design.unembedding_rate * design.beta / w.sum() * (slopes @ g)
    margins = 2 * design.beta * s * (g @ u)
    fell = np.log(2) - np.logaddexp(0, -margins)
    ends = np.cumsum([len(part) for part in labels])[:-1]
    b_i = _differences(bench, design, personas)
    gains = b_i @ (weights @ b_i)
    return pd.DataFrame(
        {
            "behaviour": list(personas),
            "δ": np.linalg.norm(b_i, axis=1),
            "arm": arm,
            "weight": weights,
            "first gain": gains / gains.mean(),
            "fall": [part.mean() for part in np.split(fell, ends)],
        }
    )


def _examples(weights: NDArray[np.float64], total: int) -> list[int]:
    """So many examples in all, in proportion to the weights, an even number of each."""
    halves = weights / weights.sum() * total / 2
    counts = np.floor(halves).astype(int)
    missing = round(total / 2) - counts.sum()
    counts[np.argsort(counts - halves)[:missing]] += 1
    return [2 * int(count) for count in counts]


def _first(bench: Bench, design: Design, persona: Persona, count: int, draw: int) -> Persona:
    """So many training statements, half of each label; again from the first where there are fewer."""
    train = persona.subset(parts(persona, design, bench.seed).train)
    rng = np.random.default_rng(bench.seed_of(persona.name, "equalised", str(draw)))
    taken = [np.resize(rng.permutation(np.flatnonzero(train.labels == sign)), count // 2) for sign in (1, -1)]
    return train.subset(np.concatenate(taken))
