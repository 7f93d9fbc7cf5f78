"""Claims judged from tables alone: no model, no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from prefbook.ledger.claims import VACUOUS, VERDICTS, Claim, Kind, Outcome, Statistic
from prefbook.ledger.statistics import STATISTICS
from prefbook.ledger.tables import Tables
from prefdyn.errors import PrefdynError
from prefdyn.measures.estimates import Estimate

Entry = dict[str, Any]
"""A judged claim as a plain object; its fields are listed in `judge`."""


def measure(claim: Claim, statistic: Statistic, tables: Tables) -> Estimate:
    """A statistic of a claim, from the tables of one seed.

    Raises:
        PrefdynError: no function has its name, or a table that it needs is missing.
    """
    functions = STATISTICS.get(claim.chapter, {})
    if statistic.function not in functions:
        raise PrefdynError(
            f"the claim {claim.id} asks for the statistic {statistic.function!r}, and the chapter "
            f"{claim.chapter} has none of that name"
        )
    return functions[statistic.function](tables)


def judge(claim: Claim, tables: Tables, edition: str) -> Entry:
    """A claim judged from a chapter's tables, seed by seed.

    A claim holds if all of its statistics do with all seeds. `estimate`, `interval`, `n` and `criterion` are
    those of its first statistic with the first seed; `statistics` has all of them, and in each `seeds`.

    Raises:
        PrefdynError: a table is missing.
    """
    parts = [_part(claim, statistic, tables) for statistic in claim.statistics]
    about = {
        name: getattr(claim, name)
        for name in ("id", "chapter", "kind", "sentence", "paper", "place", "declared")
    }
    source = {name: tables.provenance.get(name, "") for name in ("model", "data", "profile", "made")}
    head = {name: parts[0][name] for name in ("statistic", "estimate", "interval", "n", "criterion")}
    return {
        **about,
        "edition": edition,
        **source,
        "verdict": _verdict(claim, parts),
        **head,
        "statistics": parts,
    }


def _part(claim: Claim, statistic: Statistic, tables: Tables) -> Entry:
    seeds = []
    for seed in tables.seeds:
        found = measure(claim, statistic, tables.of(seed))
        seeds.append(
            {
                "seed": seed,
                "estimate": _number(found.value),
                "interval": [_number(found.low), _number(found.high)],
                "n": found.n,
                "outcome": statistic.criterion.judge(found),
            }
        )
    outcome = _combined([entry["outcome"] for entry in seeds])
    return {
        "statistic": statistic.words,
        "criterion": str(statistic.criterion),
        "matters": statistic.criterion.matters,
        "n_for_power": statistic.n_for_power,
        **{name: seeds[0][name] for name in ("estimate", "interval", "n")},
        "outcome": outcome,
        "verdict": _word(claim.kind, outcome, statistic.promise),
        "seeds": seeds,
    }


def _combined(outcomes: Sequence[Outcome]) -> Outcome:
    """What several seeds say together: what all of them say, else nothing."""
    return outcomes[0] if len(set(outcomes)) == 1 else "open"


def _word(kind: Kind, outcome: Outcome, promise: bool = False) -> str:
    return VACUOUS if promise and outcome == "fails" else VERDICTS[kind][outcome]


def _verdict(claim: Claim, parts: Sequence[Entry]) -> str:
    """Of a whole claim: it fails if any statistic does, is open if any is, practically zero if any is, else
    it holds; a theorem that nothing violates and whose promise fails is vacuous.
    """
    promised = [
        part["outcome"] for part, statistic in zip(parts, claim.statistics, strict=True) if statistic.promise
    ]
    others = {
        part["outcome"]
        for part, statistic in zip(parts, claim.statistics, strict=True)
        if not statistic.promise
    }
    for outcome in ("fails", "open", "zero"):
        if outcome in others:
            return _word(claim.kind, outcome)
    return VACUOUS if "fails" in promised else _word(claim.kind, "open" if "open" in promised else "holds")


def judge_all(claims: Mapping[str, Claim], folder: Path, edition: str) -> list[Entry]:
    """Every claim of the chapters that have a folder in an edition's folder, in the order of declaration."""
    chapters = {claim.chapter: Tables(folder / claim.chapter) for claim in claims.values()}
    here = {chapter: tables for chapter, tables in chapters.items() if tables.folder.is_dir()}
    return [judge(claim, here[claim.chapter], edition) for claim in claims.values() if claim.chapter in here]


def table(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row a statistic: claim, verdict on the claim, what was measured."""
    rows = []
    for entry in entries:
        for number, part in enumerate(entry["statistics"]):
            first = number == 0
            rows.append(
                {
                    "claim": entry["id"] if first else "",
                    "kind": entry["kind"] if first else "",
                    "verdict": entry["verdict"] if first else "",
                    "statistic": part["statistic"],
                    "estimate": _text(part["estimate"]),
                    "95% interval": f"{_text(part['interval'][0])} to {_text(part['interval'][1])}",
                    "n": part["n"],
                    "criterion": part["criterion"],
                }
            )
    return pd.DataFrame(rows)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
