"""What the templates show of a claim: its row, with a cell for each edition, and a small picture of each
statistic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

from prefbook.ledger.claims import VERDICTS, Claim, Criterion
from prefbook.ledger.editions import HERE, NO_MODEL, NOT_RUN, REFERENCE
from prefbook.ledger.judging import Entry
from prefbook.publishing.quoting import TEMPLATES, ends, estimate, numbers, rounded, verdict_of

WIDTH, HEIGHT, EDGE = 130, 18, 5
REPEAT_HEIGHT = 7
"""What each further seed adds to a picture."""

OUTCOMES = {"holds": "met", "fails": "not met", "open": "cannot be told", "zero": "practically zero"}
"""What a picture says of a criterion, for those who do not see it."""

Judged = Mapping[str, Mapping[str, Entry]]
"""Judged claims by edition and id."""


def ledger(claims: Mapping[str, Claim], judged: Judged) -> str:
    """A chapter's claims in HTML, with a column for each edition."""
    rows = []
    for claim in claims.values():
        seen = [f"known before: {claim.seen}"] if claim.seen else []
        rows.append(row(claim, judged, f"{claim.kind}; {claim.place}", *seen))
    return TEMPLATES.get_template("ledger.html").render(rows=rows, titles=titles(judged))


def titles(judged: Judged) -> list[str]:
    """The heads of the editions' columns."""
    return [title[0].upper() + title[1:] for title in judged]


def row(
    claim: Claim,
    judged: Judged,
    *asides: str,
    place: str = "",
    commits: str | None = None,
    kept: Mapping[str, Set[str]] | None = None,
) -> dict[str, Any]:
    """What the template shows of a claim.

    Args:
        commits: the address in front of the declaring commit's name; "" names it without a link, None not
            at all.
        kept: by edition, what stays supported after Holm's correction.
    """
    entries = [by_id.get(claim.id) for by_id in judged.values()]
    verdicts = [verdict_of(entry, claim, title) for title, entry in zip(judged, entries, strict=True)]
    marks = [f"{number} {word}" for number, word in enumerate(verdicts)]
    differ = len(set(verdicts) - {NOT_RUN, NO_MODEL}) > 1
    return {
        "claim": claim,
        "place": place,
        "asides": asides,
        "declared": commits is not None,
        "commit": commits and f"{commits}{claim.declared}",
        "marks": [*marks, "differ"] if differ else marks,
        "cells": [
            {
                "verdict": word,
                "asides": _disagreements(title, word, verdicts, entry) + _lost(claim, title, word, kept),
                "headline": _deciding(entry, word),
            }
            for title, word, entry in zip(judged, verdicts, entries, strict=True)
        ],
        "statistics": [
            _statistic(claim, number, entries, verdicts) for number in range(len(claim.statistics))
        ],
    }


def _deciding(entry: Entry | None, word: str) -> int:
    """The number of the first statistic that has a claim's verdict; 0 where none has it alone."""
    parts = [] if entry is None else entry["statistics"]
    return next((number for number, part in enumerate(parts) if part["verdict"] == word), 0)


def _disagreements(title: str, word: str, verdicts: Sequence[str], entry: Entry | None) -> list[str]:
    """What a cell adds to a verdict: how many seeds it rests on, and that this machine's is another."""
    if entry is None:
        return []
    said = []
    seeds = entry["statistics"][0]["seeds"]
    if len(seeds) > 1:
        apart = any(len({seed["outcome"] for seed in part["seeds"]}) > 1 for part in entry["statistics"])
        said.append(f"{len(seeds)} seeds" + (", which differ" if apart else ""))
    if title == HERE and verdicts[0] not in (NOT_RUN, word):
        said.append(f"unlike the {REFERENCE}")
    return said


def _lost(claim: Claim, title: str, word: str, kept: Mapping[str, Set[str]] | None) -> list[str]:
    """That a supported claim is none after Holm's correction."""
    if kept is None or word != VERDICTS["empirical"]["holds"] or claim.id in kept[title]:
        return []
    return ["not after Holm's correction"]


def _statistic(
    claim: Claim, number: int, entries: Sequence[Entry | None], verdicts: Sequence[str]
) -> dict[str, Any]:
    """What the template shows of a statistic: its row, with a cell for each edition."""
    statistic = claim.statistics[number]
    criterion = statistic.criterion
    parts = [entry and entry["statistics"][number] for entry in entries]
    scale = _scale([seed for part in parts if part for seed in part["seeds"]], criterion)
    asides = [f"criterion: {criterion}"]
    if criterion.matters is not None:
        asides.append(f"smallest effect that matters: {rounded(criterion.matters)}")
    if statistic.n_for_power is not None:
        asides.append(f"n for 80% power at it: {statistic.n_for_power:,}")
    if statistic.published:
        asides.append(f"the paper has {statistic.published}")
    cells: list[dict[str, Any]] = []
    for part, word in zip(parts, verdicts, strict=True):
        if part is None:
            cells.append({"drawn": None, "numbers": word, "asides": []})
            continue
        size = [] if criterion.kind == "none" else [f"n = {part['n']:,}"]
        cells.append(
            {
                "drawn": picture(part, criterion, scale),
                "numbers": numbers(part, criterion),
                "asides": size + _with_other_seeds(part["seeds"], criterion),
            }
        )
    return {"words": statistic.words, "asides": asides, "cells": cells}


def picture(part: Entry, criterion: Criterion, scale: tuple[float, float]) -> dict[str, Any] | None:
    """The places of a small picture: the estimate as a dot, its interval as a bar, the criterion as an
    upright line with the side that it asks for tinted; the first seed large, further ones small below it.

    Args:
        scale: the values at the left and at the right edge, the same for what is to be compared.
    """
    drawn = [seed for seed in part["seeds"] if seed["estimate"] is not None]
    if not drawn:
        return None

    def x(value: float) -> float:
        at = (value - scale[0]) / (scale[1] - scale[0]) * (WIDTH - 2 * EDGE) + EDGE
        return round(min(max(at, 0.0), float(WIDTH)), 1)

    bound = x(criterion.bound)
    left, right = {"above": (bound, WIDTH), "below": (0, bound), "none": (bound, bound)}[criterion.kind]
    marks = []
    for number, seed in enumerate(drawn):
        low, high = map(x, ends(seed))
        y = HEIGHT - 2 + REPEAT_HEIGHT * (number - 1) + REPEAT_HEIGHT // 2 if number else HEIGHT // 2
        size, radius = ("further", 2.2) if number else ("first", 3.5)
        place = {"low": low, "high": high, "at": x(seed["estimate"]), "y": y}
        marks.append({"outcome": seed["outcome"], "size": size, "radius": radius, **place})
    words = "; ".join(f"{numbers(seed, criterion)}: {OUTCOMES[seed['outcome']]}" for seed in drawn)
    return {
        "width": WIDTH,
        "height": HEIGHT + REPEAT_HEIGHT * (len(drawn) - 1),
        "axis": HEIGHT // 2,
        "bound": bound,
        "asked": (left, round(right - left, 1)),
        "marks": marks,
        "label": f"against the criterion {criterion}, {words}",
    }


def _scale(parts: Sequence[Entry], criterion: Criterion) -> tuple[float, float]:
    """The range that shows every finite number of a statistic, and its criterion."""
    values = [criterion.bound]
    for part in parts:
        if part["estimate"] is not None:
            values += [value for value in (part["estimate"], *ends(part)) if math.isfinite(value)]
    low, high = min(values), max(values)
    return (low, high) if low < high else (low - 1, high + 1)


def _with_other_seeds(seeds: Sequence[Entry], criterion: Criterion) -> list[str]:
    if len(seeds) < 2:
        return []
    others = " and ".join(estimate(seed, criterion) for seed in seeds[1:])
    return [f"{others} with {'another seed' if len(seeds) == 2 else 'other seeds'}"]
