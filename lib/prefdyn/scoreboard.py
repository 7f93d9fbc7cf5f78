"""The scoreboard: every claim of the ledger with what each edition measured of it, as a table that can be filtered."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from prefdyn.claims import Claim, Criterion, load_claims
from prefdyn.editions import NOT_RUN, Edition, editions, places
from prefdyn.project import find_root

VERDICTS = ("supported", "not supported", "inconclusive", NOT_RUN)
WIDTH, HEIGHT, EDGE = 150, 18, 5


class Scoreboard:
    """All declared claims beside all editions.

    Attributes:
        claims: by id, in the order of their declaration.
        editions: the run at hand first, then the reference runs.
    """

    def __init__(self, papers: Mapping[str, str], root: Path | None = None) -> None:
        """Read everything; `papers` gives the name to show for a paper's key."""
        root = root or find_root()
        self.claims = load_claims(root / "book" / "claims.yml")
        self.editions = editions(root)
        self.places = places(root, self.claims)
        self.papers = papers

    def tally(self) -> pd.DataFrame:
        """How many claims got each verdict, one row an edition."""
        rows = []
        for edition in self.editions:
            count = Counter(edition.verdict(id_) for id_ in self.claims)
            rows.append({"": edition.title} | {word: count[word] for word in VERDICTS})
        return pd.DataFrame(rows)

    def said(self, id_: str, statistic: str) -> str:
        """A statistic in each edition, as a phrase in Markdown: "**0.98 [0.97, 0.99]** (this run); not run (reference)".

        Raises:
            KeyError: the claim or the statistic is not declared.
        """
        criterion = self.claims[id_].statistics[statistic]
        parts = {edition.title: edition.part(id_, statistic) for edition in self.editions}
        return _phrase({title: numbers(part, criterion) if part else None for title, part in parts.items()})

    def from_tables(self, chapter: str, name: str, tell: Callable[[pd.DataFrame], object]) -> str:
        """What `tell` makes of a chapter's table in each edition, as a phrase in Markdown like that of `said`."""
        tables = {edition.title: edition.table(chapter, name) for edition in self.editions}
        return _phrase({title: None if table is None else str(tell(table)) for title, table in tables.items()})

    def sources(self) -> pd.DataFrame:
        """What each edition rests on, one row a chapter of an edition."""
        rows = []
        for edition in self.editions:
            by_chapter = {entry["chapter"]: entry for entry in edition.entries.values()}
            for chapter, entry in by_chapter.items():
                rows.append({"": edition.title, "chapter": chapter} | {key: entry[key] for key in ("model", "data", "profile", "made")})
        return pd.DataFrame(rows)

    def html(self) -> str:
        """The table, with its filter, which the script scoreboard.js brings to life."""
        heads = "".join(f'<th scope="col">{escape(_upper(edition.title))}</th>' for edition in self.editions)
        bodies = "\n".join(self._body(claim) for claim in self.claims.values())
        return (
            f'<div class="scoreboard-of-claims">\n{self._filter()}\n<table class="scoreboard">\n'
            f'<thead><tr><th scope="col">Claim, and how it is measured</th>{heads}</tr></thead>\n{bodies}\n</table>\n</div>'
        )

    def _filter(self) -> str:
        used = dict.fromkeys(claim.paper for claim in self.claims.values())
        papers = "".join(f'<option value="{escape(key)}">{escape(self.papers.get(key, key))}</option>' for key in used)
        groups = ""
        for number, edition in enumerate(self.editions):
            options = "".join(f'<option value="{number} {word}">{word}</option>' for word in VERDICTS)
            groups += f'<optgroup label="{escape(_upper(edition.title))}">{options}</optgroup>'
        count = f"{len(self.claims)} claims"
        return (
            '<form class="score-filter" hidden="">'
            f'<label>Paper <select name="paper"><option value="">all</option>{papers}</select></label>'
            f'<label>Verdict <select name="verdict"><option value="">any</option>{groups}'
            '<option value="differ">not the same in all runs</option></select></label>'
            f'<output role="status">{count}</output></form>'
        )

    def _body(self, claim: Claim) -> str:
        verdicts = [edition.verdict(claim.id) for edition in self.editions]
        marks = [f"{number} {word}" for number, word in enumerate(verdicts)]
        if len(set(verdicts) - {NOT_RUN}) > 1:
            marks.append("differ")
        badges = "".join(
            _cell(edition, f'<span class="verdict-{word.replace(" ", "-")}">{word}</span>')
            for edition, word in zip(self.editions, verdicts, strict=True)
        )
        paper = self.papers.get(claim.paper, claim.paper)
        head = (
            f'<tr class="claim"><th scope="rowgroup"><a href="{escape(self.places[claim.id])}">{escape(claim.id)}</a> '
            f'{escape(claim.sentence)} <span class="aside">{escape(paper)}, {escape(claim.place)}</span></th>{badges}</tr>'
        )
        rows = "\n".join(self._row(claim, name, criterion) for name, criterion in claim.statistics.items())
        about = f'data-paper="{escape(claim.paper)}" data-verdicts="{escape("|".join(marks))}"'
        return f'<tbody id="claim-{escape(claim.id.lower())}" {about}>\n{head}\n{rows}\n</tbody>'

    def _row(self, claim: Claim, statistic: str, criterion: Criterion) -> str:
        parts = [edition.part(claim.id, statistic) for edition in self.editions]
        scale = _scale([part for part in parts if part], criterion)
        shown = [f'{picture(p, criterion, scale)} <span class="numbers">{numbers(p, criterion)}</span>' if p else NOT_RUN for p in parts]
        cells = "".join(map(_cell, self.editions, shown))
        paper = claim.published.get(statistic)
        aside = f"criterion: {escape(str(criterion))}" + (f"; the paper has {escape(paper)}" if paper else "")
        return f'<tr><th scope="row">{escape(statistic)} <span class="aside">{aside}</span></th>{cells}</tr>'


def numbers(part: Mapping[str, Any], criterion: Criterion) -> str:
    """An estimate with its interval in text: "0.98 [0.97, 0.99]", "0 of 640"; an end that is missing is infinite."""
    if part["estimate"] is None:
        return "could not be measured"
    if criterion.kind == "none":
        return f"{_number(part['estimate'])} of {part['n']}"
    low, high = _ends(part)
    return f"{_number(part['estimate'])} [{_number(low)}, {_number(high)}]"


def picture(part: Mapping[str, Any], criterion: Criterion, scale: tuple[float, float]) -> str:
    """A small SVG: the estimate as a dot, its interval as a bar, the criterion as an upright line with the side that it asks for tinted.

    Args:
        scale: the values at the left and at the right edge, the same for what is to be compared.
    """
    if part["estimate"] is None:
        return ""

    def x(value: float) -> float:
        at = (value - scale[0]) / (scale[1] - scale[0]) * (WIDTH - 2 * EDGE) + EDGE
        return round(min(max(at, 0.0), float(WIDTH)), 1)

    bound, middle = x(criterion.bound), HEIGHT / 2
    left, right = {"above": (bound, WIDTH), "below": (0, bound), "none": (bound, bound)}[criterion.kind]
    low, high = map(x, _ends(part))
    words = f"{numbers(part, criterion)}, against the criterion {criterion}: {part['verdict']}"
    return (
        f'<svg class="interval {part["verdict"].replace(" ", "-")}" role="img" aria-label="{escape(words)}" '
        f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f'<rect class="asked" x="{left}" y="0" width="{round(right - left, 1)}" height="{HEIGHT}"/>'
        f'<path class="axis" d="M0 {middle}H{WIDTH}"/><path class="criterion" d="M{bound} 0V{HEIGHT}"/>'
        f'<path class="bar" d="M{low} {middle}H{high}"/><circle cx="{x(part["estimate"])}" cy="{middle}" r="3.5"/></svg>'
    )


def _scale(parts: Sequence[Mapping[str, Any]], criterion: Criterion) -> tuple[float, float]:
    """The range that shows every finite number of a statistic, and its criterion."""
    values = [criterion.bound]
    for part in parts:
        if part["estimate"] is not None:
            values += [value for value in (part["estimate"], *_ends(part)) if math.isfinite(value)]
    low, high = min(values), max(values)
    return (low, high) if low < high else (low - 1, high + 1)


def _ends(part: Mapping[str, Any]) -> tuple[float, float]:
    low, high = part["interval"]
    return (-math.inf if low is None else low, math.inf if high is None else high)


def _phrase(by_title: Mapping[str, str | None]) -> str:
    return "; ".join(f"**{words}** ({title})" if words else f"{NOT_RUN} ({title})" for title, words in by_title.items())


def _cell(edition: Edition, content: str) -> str:
    return f'<td data-edition="{escape(_upper(edition.title))}">{content}</td>'


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.3g}".replace("-", "−")


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
