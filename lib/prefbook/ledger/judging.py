"""Claims judged from tables alone: no model, no torch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from prefbook.ledger.claims import VACUOUS, VERDICTS, Claim, Criterion, Kind, Outcome, Statistic
from prefbook.ledger.statistics import STATISTICS
from prefbook.ledger.tables import NotMeasured, Tables, taken_from
from prefdyn.errors import PrefdynError
from prefdyn.measures.estimates import Estimate

Entry = dict[str, Any]
"""A judged claim, or one of its statistics, as a plain object; its fields are listed in `judge`."""


def measure(claim: Claim, statistic: Statistic, tables: Tables) -> Estimate:
    """A statistic of a claim, from the tables of one seed.

    Raises:
        PrefdynError: no function has its name, or a table that it needs is missing, damaged or of another
            version.
    """
    functions = STATISTICS.get(claim.chapter, {})
    if statistic.function not in functions:
        raise PrefdynError(
            f"the claim {claim.id} asks for the statistic {statistic.function!r}, and the chapter "
            f"{claim.chapter} has none of that name"
        )
    with taken_from(tables, f"what the claim {claim.id} is judged by"):
        return functions[statistic.function](tables)


def judge(claim: Claim, tables: Tables, edition: str) -> Entry:
    """A claim judged from a chapter's tables, seed by seed.

    A claim holds if all of its statistics do with all seeds that they were measured with. `estimate`,
    `interval`, `n` and `criterion` are those of its first statistic with the first seed; `statistics` has all
    of them, and in each `seeds`.

    Raises:
        NotMeasured: a statistic was measured with no seed yet.
        PrefdynError: a table is missing.
    """
    return _judged(claim, tables, edition, tables.seeds, tables.provenance)


def _judged(
    claim: Claim, tables: Tables, edition: str, seeds: Sequence[int], provenance: Mapping[str, str]
) -> Entry:
    parts = [_part(claim, statistic, tables, seeds) for statistic in claim.statistics]
    about = ("id", "chapter", "kind", "sentence", "paper", "place", "declared", "seen")
    return {
        **{name: getattr(claim, name) for name in about},
        "edition": edition,
        **{name: provenance.get(name, "") for name in ("model", "data", "profile", "made")},
        "verdict": _verdict(claim, parts),
        **{name: parts[0][name] for name in ("statistic", "estimate", "interval", "n", "criterion")},
        "statistics": parts,
    }


def judge_all(claims: Iterable[Claim], tables: Tables, edition: str) -> dict[str, Entry]:
    """Claims of a chapter by id, judged; without those whose tables the edition does not hold yet.

    Raises:
        PrefdynError: a table is missing.
    """
    judged = {}
    seeds, provenance = tables.seeds, tables.provenance
    for claim in claims:
        with contextlib.suppress(NotMeasured):
            judged[claim.id] = _judged(claim, tables, edition, seeds, provenance)
    return judged


def _part(claim: Claim, statistic: Statistic, tables: Tables, asked: Sequence[int]) -> Entry:
    criterion = statistic.criterion
    if claim.kind != "empirical":
        criterion = replace(criterion, matters=None)  # nothing is practically zero in algebra or a theorem
    seeds: list[Entry] = []
    to_come: NotMeasured | None = None
    for seed in asked:
        try:
            found = measure(claim, statistic, tables.of(seed))
        except NotMeasured as error:
            to_come = error
            continue
        seeds.append(
            {
                "seed": seed,
                "estimate": _number(found.value),
                "interval": [_number(found.low), _number(found.high)],
                "n": found.n,
                "outcome": criterion.judge(found),
            }
        )
    if to_come and not seeds:
        raise to_come
    outcome = _combined(claim.kind, [entry["outcome"] for entry in seeds])
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


def _combined(kind: Kind, outcomes: Sequence[Outcome]) -> Outcome:
    """What several seeds say together: what all of them say, else nothing; but one counterexample is enough
    against algebra or a theorem.
    """
    if len(set(outcomes)) == 1:
        return outcomes[0]
    return "fails" if kind != "empirical" and "fails" in outcomes else "open"


def _word(kind: Kind, outcome: Outcome, promise: bool = False) -> str:
    return VACUOUS if promise and outcome == "fails" else VERDICTS[kind][outcome]


def _verdict(claim: Claim, parts: Sequence[Entry]) -> str:
    """Of a whole claim: it fails if any statistic does, or if some hold and others are practically zero; it
    is open if any is, practically zero if all are, else it holds. A theorem that nothing violates and whose
    promise fails is vacuous.
    """
    pairs = list(zip(parts, claim.statistics, strict=True))
    promised = [part["outcome"] for part, statistic in pairs if statistic.promise]
    others = [part["outcome"] for part, statistic in pairs if not statistic.promise]
    if "fails" in others or {"holds", "zero"} == set(others):
        return _word(claim.kind, "fails")
    for outcome in ("open", "zero"):
        if outcome in others:
            return _word(claim.kind, outcome)
    return VACUOUS if "fails" in promised else _word(claim.kind, "open" if "open" in promised else "holds")


def table(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row a statistic: claim, verdict on the claim, what was measured."""
    rows = []
    for entry in entries:
        for number, part in enumerate(entry["statistics"]):
            about = ("id", "kind", "verdict")
            counted = part["criterion"] == str(Criterion("none"))
            rows.append(
                {name: entry[name] if number == 0 else "" for name in about}
                | {
                    "statistic": part["statistic"],
                    "estimate": _text(part["estimate"], counted),
                    "95% interval": " to ".join(_text(end, counted) for end in part["interval"]),
                    "n": part["n"],
                    "criterion": part["criterion"],
                }
            )
    return pd.DataFrame(rows).rename(columns={"id": "claim"})


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _text(value: float | None, counted: bool) -> str:
    """A number to three digits, and a count in full."""
    if value is None:
        return "none"
    return f"{value:,.0f}" if counted else f"{value:.3g}"
