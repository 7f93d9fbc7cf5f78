"""Numbers that the text of the chapter `across` quotes beside its claims', as text."""

from __future__ import annotations

from collections.abc import Callable

from prefbook.ledger.derived.across import correlation, left
from prefbook.ledger.quoted.forms import said
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates


def _mean(name: str) -> Callable[[Tables], str]:
    def mean(tables: Tables) -> str:
        personas = tables["personas"]
        return str(estimates.mean(personas[name], personas["family"], tables.seed))

    return mean


def _rho(x: str, y: str) -> Callable[[Tables], str]:
    return lambda tables: said(correlation(tables, x, y))


def _left(outcome: str) -> Callable[[Tables], str]:
    return lambda tables: said(left(tables, outcome))


def _stops_early(tables: Tables) -> str:
    return f"{tables['personas']['stops early'].mean():.0%}"


def _violations(tables: Tables) -> str:
    personas = tables["personas"]
    return f"{personas['violations'].sum():,} of {personas['statements'].sum():,}"


QUOTED: dict[str, Callable[[Tables], str]] = {
    "accuracy-alone": _mean("accuracy"),
    "accuracy-in-company": _mean("in company"),
    "accuracy-left-out": _mean("left out"),
    "agreement-left-out": _rho("alignment", "left out"),
    "left-out-rho": _rho("δ", "left out"),
    "left-out-left": _left("left out"),
    "cost-raw": _mean("cost of noise"),
    "cost-raw-rho": _rho("δ", "cost of noise"),
    "cost-raw-left": _left("cost of noise"),
    "remains-raw": _mean("under noise"),
    "cost-centred": _mean("cost, centred"),
    "cost-reliability": _rho("cost, centred", "cost, centred"),
    "remains-centred": _mean("under noise, centred"),
    "right-before": _mean("right before"),
    "flipped-share": _mean("flipped"),
    "flipped-depth": _rho("depth", "flipped"),
    "flipped-left": _left("flipped"),
    "flipped-half-share": _mean("flipped half-way"),
    "flipped-half-left": _left("flipped half-way"),
    "flipped-half-depth": _rho("depth", "flipped half-way"),
    "stops-early": _stops_early,
    "violations": _violations,
}
