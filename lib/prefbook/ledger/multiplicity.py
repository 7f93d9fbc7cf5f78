"""What is left of many verdicts when chance has had as many tries: Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Mapping

from scipy import stats
from statsmodels.stats.multitest import multipletests

from prefbook.ledger.claims import Claim
from prefbook.ledger.judging import Entry
from prefdyn.measures.estimates import LEVEL


def after_holm(claims: Mapping[str, Claim], entries: Mapping[str, Entry]) -> frozenset[str]:
    """Ids of the supported empirical claims of an edition that stay supported when the level is kept for all
    of its empirical claims at once (Holm 1979).

    A claim asks all of its statistics with all seeds, so its p value is the largest of theirs.
    """
    asked = {
        id_: max(_p_value(claims[id_], number, seed) for number, seed in _measured(entry))
        for id_, entry in entries.items()
        if entry["kind"] == "empirical"
    }
    if not asked:
        return frozenset()
    rejected = multipletests(list(asked.values()), alpha=1 - LEVEL, method="holm")[0]
    return frozenset(
        id_
        for id_, holds in zip(asked, rejected, strict=True)
        if holds and entries[id_]["verdict"] == "supported"
    )


def _measured(entry: Entry) -> list[tuple[int, Entry]]:
    """Every statistic of a judged claim, by number, with every seed."""
    return [(number, seed) for number, part in enumerate(entry["statistics"]) for seed in part["seeds"]]


def _p_value(claim: Claim, number: int, measured: Entry) -> float:
    """Two-sided, by the normal distribution whose 95% interval reaches from the estimate as far as the one
    measured does towards the bound; so it is below 5% where that interval ends before the bound.
    """
    criterion, value = claim.statistics[number].criterion, measured["estimate"]
    if criterion.kind == "none":
        return float(value != 0)
    end = measured["interval"][0 if criterion.kind == "above" else 1]
    if value is None or end is None:
        return 1.0
    beyond = (value - criterion.bound) * (1 if criterion.kind == "above" else -1)
    if beyond <= 0:
        return 1.0
    reach = abs(value - end)
    if reach == 0:
        return 0.0
    quantile = float(stats.norm.ppf((1 + LEVEL) / 2))
    return float(2 * stats.norm.sf(quantile * beyond / reach)) if math.isfinite(reach) else 1.0
