"""What the claims of the chapter `across` are judged by."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pandas as pd

from prefbook.ledger.derived.across import families
from prefbook.ledger.tables import Tables
from prefdyn.measures import halves
from prefdyn.measures.estimates import Estimate
from prefdyn.measures.halves import Correlations

CLAIMED = (
    "δ",
    "δ/√Tr Σ",
    "accuracy",
    "accuracy, centred",
    "cost, centred",
    "flipped",
    "flipped half-way",
    "in company",
)
"""The measures that the claims are about."""


def rank_correlations(tables: Tables) -> Correlations:
    """Of the measures that the claims are about, across halves, with the run's seed; resampled by family."""
    table = tables["measures"]
    rows = table[["split", *CLAIMED]].to_numpy(dtype=np.float64)
    return _correlations(rows.tobytes(), families(tables), tables.seed)


@functools.lru_cache(maxsize=8)
def _correlations(rows: bytes, families: tuple[str, ...], seed: int) -> Correlations:
    """The claims ask for the same ones again and again."""
    columns = ["split", *CLAIMED]
    table = pd.DataFrame(np.frombuffer(rows).reshape(-1, len(columns)), columns=columns)
    return halves.correlations(halves.from_table(table, CLAIMED), seed, clusters=families)


def cost(tables: Tables) -> Estimate:
    """Rank correlation of δ with the accuracy that wrong labels cost, on centred states."""
    return rank_correlations(tables).between("δ", "cost, centred")


def cost_left(tables: Tables) -> Estimate:
    """What is left of it with the clean accuracy held constant."""
    return rank_correlations(tables).left("δ", "cost, centred", through="accuracy, centred")


def flipped(tables: Tables) -> Estimate:
    """Rank correlation of δ with the share of wrong rankings flipped after a fixed number of steps."""
    return rank_correlations(tables).between("δ", "flipped")


def flipped_half_way(tables: Tables) -> Estimate:
    """The same where the validation loss of a longer training has fallen half of the way to its lowest."""
    return rank_correlations(tables).between("δ", "flipped half-way")


def company(tables: Tables) -> Estimate:
    """Rank correlation of δ with held-out accuracy after training on all personas at once."""
    return rank_correlations(tables).between("δ", "in company")


def company_left(tables: Tables) -> Estimate:
    """What is left of it with the accuracy when trained alone held constant."""
    return rank_correlations(tables).left("δ", "in company", through="accuracy")


def gain_for_cost(tables: Tables) -> Estimate:
    """How much larger the rank correlation with the cost of noise is, in size, for δ/√Tr Σ than for δ."""
    return rank_correlations(tables).gain("δ/√Tr Σ", "δ", "cost, centred")


def gain_in_company(tables: Tables) -> Estimate:
    """How much larger the rank correlation with the accuracy in company is, for δ/√Tr Σ than for δ."""
    return rank_correlations(tables).gain("δ/√Tr Σ", "δ", "in company")


STATISTICS: dict[str, Callable[[Tables], Estimate]] = {
    one.__name__: one
    for one in (
        cost,
        cost_left,
        flipped,
        flipped_half_way,
        company,
        company_left,
        gain_for_cost,
        gain_in_company,
    )
}
