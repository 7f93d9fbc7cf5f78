"""What training on behaviours does to their hidden states, and how fast it is undone: chapter 1's clouds
before and after, and its training on opposite labels.

The trainings that these start from are those of `all_weights`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn.data import Persona
from prefdyn.engine import last_layer
from prefdyn.engine.training import Settings
from prefdyn.experiments.all_weights import (
    ALIGNED,
    aligned,
    aligning,
    another_of,
    controlled,
    end,
    fall,
    told_apart,
    tuning,
    undoing,
)
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.distinguishability import Design, cast, mapped, parts
from prefdyn.experiments.phases import Phase, PhaseResult
from prefdyn.measures import geometry

OWN, SHUFFLED, OTHER = "its own labels", "shuffled labels", "another behaviour"
"""What a behaviour's clouds are looked at after training on."""
BASE, ELSEWHERE = "base", "aligned on another behaviour"
"""Where the training on opposite labels begins, besides `ALIGNED`."""


def _before(bench: Bench, design: Design, persona: Persona) -> NDArray[np.float32]:
    """Hidden states of the held-out statements before training."""
    return bench.features(persona)[parts(persona, design, bench.seed).held_out]


# What training does to the hidden states --------------------------------------------------------------


def clouds(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """The hidden states of held-out statements before and after fine-tuning, and after two trainings
    without the behaviour's own labels.

    Tables:
        clouds: one row a behaviour with controls and training:

            - trained on: its own labels, shuffled labels (of its own statements), or another behaviour.
            - δ before, δ after; Tr Σ before, Tr Σ after: as in `embeddings`, of held-out statements.
        maps_after: one row a held-out statement of the least and the most distinguishable of them:

            - map: low or high.
            - when: before or after the training on its own labels.
            - behaviour, statement, label, x, y: as in `statement_maps`.
    """
    everyone = cast(bench, design)
    trained = aligned(bench, design, everyone)
    names = controlled(everyone, design)
    another = another_of(names)
    rows, maps = [], []
    for name in names:
        result = trained[name][0]
        rows.append(_cloud(bench, design, everyone.personas[name], OWN, result))
        rows.append(_cloud(bench, design, everyone.personas[another[name]], OTHER, result))
    runs = [[_shuffled(bench, design, everyone.personas[name])] for name in names]
    for name, (result,) in zip(names, bench.train_all(runs), strict=True):
        rows.append(_cloud(bench, design, everyone.personas[name], SHUFFLED, result))
    for place, name in (("low", names[0]), ("high", names[-1])):
        watched = told_apart(bench, design, everyone.personas[name])
        about = replace(watched, name=name)
        before = _before(bench, design, everyone.personas[name])
        for when, points in (("before", before), ("after", trained[name][0].features[watched.name])):
            maps.append(mapped(bench.map_2d(points, design.layout), about).assign(map=place, when=when))
    return {"clouds": pd.DataFrame(rows), "maps_after": pd.concat(maps, ignore_index=True)}


def _shuffled(bench: Bench, design: Design, persona: Persona) -> Phase:
    """Training on labels that were shuffled among a behaviour's statements, half of each as before."""
    how = tuning(bench, design, design.steps, persona.name, "shuffled")
    once = aligning(bench, design, persona, how)
    (train,) = once.train
    assert isinstance(train, Persona)
    labels = np.random.default_rng(how.seed).permutation(train.labels)
    return replace(once, train=[replace(train, labels=labels)], embed=[told_apart(bench, design, persona)])


def _cloud(
    bench: Bench, design: Design, persona: Persona, trained_on: str, result: PhaseResult
) -> dict[str, object]:
    watched = told_apart(bench, design, persona)
    before = geometry.moments(_before(bench, design, persona), watched.labels)
    after = geometry.moments(result.features[watched.name], watched.labels)
    return {
        "behaviour": persona.name,
        "trained on": trained_on,
        "δ before": before.distinguishability,
        "δ after": after.distinguishability,
        "Tr Σ before": before.trace,
        "Tr Σ after": after.trace,
    }


# Undoing it -------------------------------------------------------------------------------------------


def misalignment(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Training on the opposite labels of statements not seen before, all weights free, from several starts.

    Tables:
        misalignment: one row a behaviour that is undone and start:

            - behaviour, δ: as in `embeddings`.
            - accuracy: share of held-out statements answered correctly after aligning on the behaviour.
            - start: base, aligned, aligned on another behaviour.
            - fall: log 2 less the loss on opposite labels of held-out statements after the last step (nats).
        last_layer_undone: one row a behaviour that is undone:

            - behaviour, accuracy: as above.
            - δ² ratio: of the held-out statements, after aligning over before.
            - fall from base, fall from aligned: of the loss on opposite labels of the held-out statements,
              when the unembedding alone is trained on their hidden states before or after aligning (nats).
            - fall of all weights: from the aligned model, as above.
    """
    everyone = cast(bench, design)
    trained = aligned(bench, design, everyone)
    names = controlled(everyone, design)
    another = another_of(names)
    starts: dict[str, list[list[Phase]]] = {BASE: [], ELSEWHERE: []}
    for name in names:
        persona, other = everyone.personas[name], everyone.personas[another[name]]
        elsewhere = tuning(bench, design, design.steps, other.name, "aligning")
        starts[BASE].append([undoing(bench, design, persona, BASE)])
        starts[ELSEWHERE].append(
            [aligning(bench, design, other, elsewhere), undoing(bench, design, persona, ELSEWHERE)]
        )
    found = iter(bench.train_all([*itertools.chain(*starts.values())]))
    results = {start: [next(found)[-1] for _ in names] for start in starts}
    results[ALIGNED] = [trained[name][1] for name in names]
    rows = [
        {
            "behaviour": name,
            "δ": everyone.deltas[name],
            "accuracy": end(trained[name][0], "ranking_accuracy"),
            "start": start,
            "fall": fall(result),
        }
        for start, by_name in results.items()
        for name, result in zip(names, by_name, strict=True)
    ]
    alone = [_last_layer_undone(bench, design, everyone.personas[name], trained[name]) for name in names]
    return {"misalignment": pd.DataFrame(rows), "last_layer_undone": pd.DataFrame(alone)}


def _last_layer_undone(
    bench: Bench, design: Design, persona: Persona, results: Sequence[PhaseResult]
) -> dict[str, object]:
    watched = told_apart(bench, design, persona)
    before, after = _before(bench, design, persona), results[0].features[watched.name]
    how = Settings(design.unembedding_rate, design.unembedding_steps, len(watched.labels), design.beta)

    def fell(states: NDArray[np.float32]) -> float:
        """Of the loss on opposite labels; where training began does not change it."""
        run = last_layer.train(states, -watched.labels, how, np.zeros(states.shape[1]))
        return float(np.log(2) - run.record["loss"].iloc[-1])

    first, second = (geometry.moments(g, watched.labels).distinguishability for g in (before, after))
    return {
        "behaviour": persona.name,
        "accuracy": end(results[0], "ranking_accuracy"),
        "δ² ratio": (second / first) ** 2,
        "fall from base": fell(before),
        "fall from aligned": fell(after),
        "fall of all weights": fall(results[1]),
    }
