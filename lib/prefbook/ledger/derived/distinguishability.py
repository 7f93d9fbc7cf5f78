"""Quantities of the chapter `distinguishability` that its figures, statistics and quoted numbers share."""

from __future__ import annotations

import numpy as np
import pandas as pd

from prefbook.ledger.tables import Tables
from prefdyn.data import family
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate

FALL = "fall of the loss"
LEARNED = 0.75
"""Held-out accuracy from which on a behaviour counts as learned."""
OWN, SHUFFLED, OTHER = "its own labels", "shuffled labels", "another behaviour"
EQUAL, WEIGHTED = "equal weights", "weights that undo the priority"
BASE, ALIGNED, ELSEWHERE = "base", "aligned", "aligned on another behaviour"


def mean_over_behaviours(tables: Tables, values: pd.Series) -> Estimate:
    """The mean of values that are indexed by behaviour; resampled by family. Nothing is known of fewer than
    three.
    """
    if len(values) < 3:
        return estimates.unknown(len(values))
    return estimates.mean(values, [family(name) for name in values.index], tables.seed)


def faster_undone(tables: Tables, start: str, than: str) -> Estimate:
    """Fall of the loss on opposite labels from one start less from another (nats), mean over behaviours that
    had been learned.
    """
    table = tables["misalignment"]
    falls = table[table["accuracy"] >= LEARNED].pivot_table("fall", "behaviour", "start")
    if falls.empty:
        return estimates.unknown(0)
    return mean_over_behaviours(tables, falls[start] - falls[than])


def with_accuracy(tables: Tables, column: str) -> Estimate:
    """Rank correlation of a column of the unembedding's table with held-out accuracy after training, over
    behaviours; resampled by family.
    """
    table = tables["unembedding"]
    return estimates.spearman(table[column], table["accuracy after"], tables.seed, table["family"])


def accuracy_by_size(tables: Tables) -> Estimate:
    """That of the distance for the size of the clouds."""
    return with_accuracy(tables, "δ / √Tr Σ")


def falls_by_step(tables: Tables) -> pd.DataFrame:
    """How far the held-out loss of every behaviour has fallen, all weights: a row a behaviour, a column a
    look after the first (updates).
    """
    losses = tables["fine_tuning_curves"].pivot(index="behaviour", columns="step", values="loss")
    return losses.iloc[:, 1:].rsub(losses.iloc[:, 0], axis=0)


def with_falls_by_step(tables: Tables) -> dict[int, Estimate]:
    """For every look, the rank correlation of distinguishability with the fall by then, over behaviours."""
    falls = falls_by_step(tables)
    table = tables["fine_tuning"].set_index("behaviour").loc[falls.index]
    return {
        int(step): estimates.spearman(table["δ of training"], falls[step], tables.seed, table["family"])
        for step in falls.columns.to_numpy()
    }


def falls_by_beta(tables: Tables) -> dict[float, Estimate]:
    """For each β, from the smallest, the rank correlation of distinguishability with the fall of the loss."""
    falls = tables["beta_falls"]
    parts = {float(beta): falls[falls["β"] == beta] for beta in sorted(falls["β"].unique())}
    return {
        beta: estimates.spearman(part["δ"], part[FALL], tables.seed, part["family"])
        for beta, part in parts.items()
    }


def fall_by_gradient(tables: Tables) -> Estimate:
    """Rank correlation of the first gradient's absolute values with the fall of the held-out loss."""
    table = tables["fine_tuning"].merge(tables["gradients"][["behaviour", "absolute"]], on="behaviour")
    return estimates.spearman(table["absolute"], table[FALL], tables.seed, table["family"])


def falls_by_layer(tables: Tables) -> dict[str, Estimate]:
    """The same of every layer alone, from the first to the last."""
    layers = tables["gradients_by_layer"]
    layers = layers[layers["part"].str.startswith("layer")]
    falls = tables["fine_tuning"][["behaviour", "family", FALL]]
    found = {}
    for part in dict.fromkeys(layers["part"]):
        table = falls.merge(layers[layers["part"] == part], on="behaviour")
        found[str(part)] = estimates.spearman(table["absolute"], table[FALL], tables.seed, table["family"])
    return found


def log_change(tables: Tables, quantity: str, trained_on: str) -> pd.Series:
    """Change of the logarithm of a quantity of the clouds by a training, by behaviour."""
    table = tables["clouds"]
    table = table[table["trained on"] == trained_on].set_index("behaviour")
    if quantity in ("Tr Σ / δ²", "Tr Σ / δ"):
        power = 2 if quantity.endswith("²") else 1
        return log_change(tables, "Tr Σ", trained_on) - power * log_change(tables, "δ", trained_on)
    ratio: pd.Series = table[f"{quantity} after"] / table[f"{quantity} before"]
    return ratio.map(np.log)
