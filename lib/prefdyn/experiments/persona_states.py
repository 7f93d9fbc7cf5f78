"""How the hidden states of personas lie to each other, and whether they are as chapter 2's theorems ask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.cache import cached
from prefdyn.data import Persona
from prefdyn.experiments import frozen
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.generalization import Design, samples_of_the_data
from prefdyn.measures import geometry
from prefdyn.measures.geometry import Moments
from prefdyn.theory import clusters
from prefdyn.theory.clusters import Clusters

Array = NDArray[np.float64]

PAPER_DRAWN = 10
"""Personas that the paper draws for its first figure."""


@dataclass(frozen=True)
class _Cast:
    """The personas of a run with their hidden states.

    Attributes:
        features: g of each persona's statements, shape (n, d).
        moments: of each persona's features.
    """

    personas: list[Persona]
    features: list[NDArray[np.float32]]
    moments: list[Moments]

    @property
    def means(self) -> Array:
        """Over all statements of each persona, shape (personas, d)."""
        return np.array([g.mean(axis=0, dtype=float) for g in self.features])

    @property
    def concepts(self) -> Array:
        """c of each persona, half the difference of the means of its labels, shape (personas, d)."""
        return np.array([m.mean_difference for m in self.moments]) / 2


def _cast(bench: Bench, design: Design) -> _Cast:
    personas = bench.personas(design.personas, design.statements_per_label)
    features = [bench.features(persona) for persona in personas]
    labels = [persona.labels for persona in personas]
    moments = cached(
        "moments",
        {"features": features, "labels": labels},
        geometry.moments,
        lambda: [geometry.moments(g, s) for g, s in zip(features, labels, strict=True)],
    )
    return _Cast(personas, features, moments)


def hidden_states(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """How the hidden states of personas lie to each other.

    Tables:
        personas: a row a persona: `index`; `persona`, its name; `family`, what it shares its name with;
            `place`, its place in an order in which those of similar concepts are neighbours; `drawn`, whether
            it is of ten that the seed draws; `δ`, the distance of the means of its labels; `shared length`,
            the norm of the mean of all means, the same for all (both in units of the states); `own
            statements`, the mean cosine of two of its own statements, the shared mean removed.
        cosines: a row a pair of personas, to four decimals: `first` and `second`, their indices;
            `statements`, the mean cosine of a statement of the one with a statement of the other; `statements
            centred`, the same with the mean of all personas removed; `dealt`, the same of two heaps of
            statements that are dealt from all personas at random; `concepts`, the cosine of their μ₊ − μ₋.
    """
    cast = _cast(bench, design)
    means, concepts = cast.means, cast.concepts
    rng = np.random.default_rng(bench.seed)
    centre, sizes = means.mean(axis=0), [len(g) for g in cast.features]
    raw = np.array([frozen.mean_direction(g) for g in cast.features])
    centred = np.array([frozen.mean_direction(g - centre) for g in cast.features])
    everything = np.concatenate(cast.features)[rng.permutation(sum(sizes))] - centre
    dealt = np.array([frozen.mean_direction(heap) for heap in np.split(everything, np.cumsum(sizes)[:-1])])
    cosines = geometry.cosine_matrix(concepts)
    place = np.argsort(geometry.structure_order(cosines))
    drawn = np.isin(range(len(sizes)), rng.permutation(len(sizes))[:PAPER_DRAWN])
    n = np.array(sizes)
    personas = pd.DataFrame(
        {
            "index": range(len(n)),
            "persona": [persona.name for persona in cast.personas],
            "family": [data.family(persona.name) for persona in cast.personas],
            "place": place,
            "drawn": drawn,
            "δ": [m.distinguishability for m in cast.moments],
            "shared length": np.linalg.norm(centre),
            # Of pairs of different statements: each statement's cosine with itself is 1.
            "own statements": ((centred**2).sum(axis=1) * n - 1) / (n - 1),
        }
    )
    first, second = np.triu_indices(len(n), k=1)
    pairs = {
        "statements": raw @ raw.T,
        "statements centred": centred @ centred.T,
        "dealt": dealt @ dealt.T,
        "concepts": cosines,
    }
    by_pair = {name: geometry.off_diagonal(matrix) for name, matrix in pairs.items()}
    return {
        "personas": personas,
        "cosines": pd.DataFrame({"first": first, "second": second, **by_pair}).round(4),
    }


def conditions_of_the_data(bench: Bench, design: Design) -> pd.DataFrame:
    """What Theorem 4.1 asks for and what hidden states have, in units in which a concept vector has length 1.

    Q is the most statements of a label that a persona of the data has, measured here or not.

    A row a condition: `condition`, in the paper's letters; `value` and `limit`, of its two sides; `holds`;
    `value / limit`.
    """
    cast = _cast(bench, design)
    half, width = np.linalg.norm(cast.concepts, axis=1), cast.means.shape[1]
    fitting = min(len(half), width - 1)  # orthogonal concepts need dimensions
    trace = np.array([m.trace for m in cast.moments])
    real = Clusters(
        pairs=fitting,
        samples=samples_of_the_data(cast.personas, bench.source),
        dimension=width,
        spread=float(np.median(np.sqrt(trace / width) / half)),
        shared=float(np.median(np.linalg.norm(cast.means.mean(axis=0)) / half)),
        reuse=fitting,
    )
    return pd.DataFrame(
        [
            {
                "condition": f"{c.left} ≤ {c.right}",
                "value": c.value,
                "limit": c.limit,
                "holds": c.holds,
                "value / limit": c.value / c.limit,
            }
            for c in clusters.conditions(real)
        ]
    )
