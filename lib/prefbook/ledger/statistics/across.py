"""What the claims of the chapter `across` are judged by, and the other numbers that it quotes."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pandas as pd

from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates, halves
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
    columns = tuple(table[["split", *CLAIMED]].itertuples(index=False, name=None))
    return _correlations(columns, families(tables), tables.seed)


def families(tables: Tables) -> tuple[str, ...]:
    """Of the personas, in the order of the table of measures."""
    known = tables["personas"].set_index("persona")["family"]
    return tuple(known[tables["measures"]["persona"].unique()])


@functools.lru_cache(maxsize=8)
def _correlations(rows: tuple[tuple[float, ...], ...], families: tuple[str, ...], seed: int) -> Correlations:
    """The claims ask for the same ones again and again."""
    table = pd.DataFrame(rows, columns=["split", *CLAIMED])
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

# Other numbers ----------------------------------------------------------------------------------------


def correlations(tables: Tables) -> dict[tuple[str, str], Estimate]:
    """The rank correlations of every two measures across halves, both ways round, from the table that has
    them.
    """
    n = len(tables["personas"])
    rows = tables["correlations"][["measure", "with", "ρ", "low", "high"]]
    out: dict[tuple[str, str], Estimate] = {}
    for x, y, value, low, high in rows.itertuples(index=False, name=None):
        out[x, y] = out[y, x] = Estimate(value, low, high, n)
    return out


def correlation(tables: Tables, x: str, y: str) -> Estimate:
    """The rank correlation of two measures across halves."""
    return correlations(tables)[x, y]


def left(tables: Tables, outcome: str) -> Estimate:
    """What is left of the rank correlation of δ with an outcome when another measure is held constant."""
    table = tables["held"].set_index("outcome")[["left", "left low", "left high"]]
    value, low, high = table.loc[[outcome]].to_numpy()[0]
    return Estimate(value, low, high, len(tables["personas"]))


def _mean(name: str) -> Callable[[Tables], str]:
    return lambda tables: str(estimates.mean(tables["personas"][name]))


def _rho(x: str, y: str) -> Callable[[Tables], str]:
    return lambda tables: _said(correlation(tables, x, y))


def _left(outcome: str) -> Callable[[Tables], str]:
    return lambda tables: _said(left(tables, outcome))


def _said(estimate: Estimate) -> str:
    return str(estimate) if estimate.value == estimate.value else "not defined"


def _stops_early(tables: Tables) -> str:
    return f"{tables['personas']['stops early'].mean():.0%}"


def _violations(tables: Tables) -> str:
    personas = tables["personas"]
    return f"{personas['violations'].sum():,} of {personas['statements'].sum():,}"


def _clear(tables: Tables) -> str:
    """Of the pairs of the ten main measures that are not related by definition, those without 0."""
    pairs = _free_pairs(tables)
    return f"{((pairs['low'] > 0) | (pairs['high'] < 0)).sum()} of {len(pairs)}"


def _by_chance(tables: Tables) -> str:
    return f"{0.05 * len(_free_pairs(tables)):.0f}"


def _free_pairs(tables: Tables) -> pd.DataFrame:
    table = tables["correlations"]
    main = list(dict.fromkeys(table["measure"]))[:MAIN]
    both = table["measure"].isin(main) & table["with"].isin(main)
    return table[both & (table["measure"] != table["with"]) & ~table["by definition"]]


MAIN = 10
"""The first measures of the table are what the papers ask for; the others serve as explanations."""

QUOTED: dict[str, Callable[[Tables], str]] = {
    "accuracy-alone": _mean("accuracy"),
    "accuracy-in-company": _mean("in company"),
    "accuracy-left-out": _mean("left out"),
    "alignment-left-out": _rho("alignment", "left out"),
    "left-out-rho": _rho("δ", "left out"),
    "left-out-left": _left("left out"),
    "cost-raw": _mean("cost of noise"),
    "cost-raw-rho": _rho("δ", "cost of noise"),
    "cost-raw-left": _left("cost of noise"),
    "remains-raw": _mean("under noise"),
    "cost-centred": _mean("cost, centred"),
    "cost-reliability": _rho("cost, centred", "cost, centred"),
    "remains-centred": _mean("under noise, centred"),
    "remains-centred-rho": _rho("δ", "under noise, centred"),
    "right-before": _mean("right before"),
    "flipped-share": _mean("flipped"),
    "flipped-left": _left("flipped"),
    "flipped-half-share": _mean("flipped half-way"),
    "flipped-half-left": _left("flipped half-way"),
    "flipped-depth": _rho("depth", "flipped"),
    "flipped-half-depth": _rho("depth", "flipped half-way"),
    "stops-early": _stops_early,
    "violations": _violations,
    "pairs-clear": _clear,
    "pairs-by-chance": _by_chance,
}
