"""The scoreboard: every claim of the ledger with what each edition measured of it, as a table that can be
filtered.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from prefbook.ledger.claims import Claim, Criterion, load_claims
from prefbook.ledger.editions import DIFFERS, NOT_RUN, Edition, editions, places
from prefbook.project import find_root

VERDICTS = ("supported", "not supported", "inconclusive", DIFFERS, NOT_RUN)
WIDTH, HEIGHT, EDGE = 130, 18, 5
REPEAT_HEIGHT = 7
"""What each further seed adds to a picture."""


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
        """A statistic in each edition, as a phrase in Markdown: "**0.98 [0.97, 0.99]** (this run); not run
        (reference)".

        What other seeds gave follows without interval: "**0.98 [0.97, 0.99]**, 0.96 with another seed
        (reference)".

        Raises:
            KeyError: the claim or the statistic is not declared.
        """
        criterion = self.claims[id_].statistics[statistic]
        parts = {edition.title: edition.parts(id_, statistic) for edition in self.editions}
        return _phrase(
            {
                title: [numbers(part, criterion) if part is seeds[0] else estimate(part) for part in seeds]
                for title, seeds in parts.items()
            }
        )

    def from_tables(self, chapter: str, name: str, tell: Callable[[pd.DataFrame], object]) -> str:
        """What `tell` makes of a chapter's table in each edition, as a phrase in Markdown like that of
        `said`.
        """
        return _phrase(
            {
                edition.title: [str(tell(table)) for table in edition.tables(chapter, name)]
                for edition in self.editions
            }
        )

    def sources(self) -> pd.DataFrame:
        """What each edition rests on, one row a chapter of an edition."""
        rows = []
        for edition in self.editions:
            for run in edition.every:
                title = edition.title if run is edition else f"{edition.title}, {run.title}"
                by_chapter = {entry["chapter"]: entry for entry in run.entries.values()}
                for chapter, entry in by_chapter.items():
                    rows.append(
                        {"": title, "chapter": chapter}
                        | {key: entry[key] for key in ("model", "data", "profile", "made")}
                    )
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
        papers = "".join(
            f'<option value="{escape(key)}">{escape(self.papers.get(key, key))}</option>' for key in used
        )
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
        if DIFFERS in verdicts or len(set(verdicts) - {NOT_RUN}) > 1:
            marks.append("differ")
        about = f'id="claim-{escape(claim.id.lower())}" data-paper="{escape(claim.paper)}" data-verdicts="{escape("|".join(marks))}"'
        name = f'<a href="{escape(self.places[claim.id])}">{escape(claim.id)}</a>'
        return _body(
            claim, self.editions, name, f"{self.papers.get(claim.paper, claim.paper)}, {claim.place}", about
        )


def ledger(claims: Mapping[str, Claim], entries: Sequence[dict[str, Any]]) -> str:
    """A chapter's ledger in HTML: like the scoreboard, with one column for what was measured.

    Args:
        claims: those of the chapter, by id.
        entries: see `claims.Ledger.entries`.
    """
    measured = Edition("measured", {entry["id"]: entry for entry in entries}, {})
    bodies = "\n".join(
        _body(claim, [measured], f"<b>{escape(claim.id)}</b>", claim.place) for claim in claims.values()
    )
    heads = '<th scope="col">Claim, and how it is measured</th><th scope="col">Measured</th>'
    return f'<table class="scoreboard ledger">\n<thead><tr>{heads}</tr></thead>\n{bodies}\n</table>'


def _body(claim: Claim, shown: Sequence[Edition], name: str, source: str, about: str = "") -> str:
    """The rows of a claim: what it says and its verdicts, then its statistics.

    Args:
        name: the claim's id in HTML.
        source: where the claim is made.
        about: attributes of the rows' group.
    """
    badges = "".join(_cell(edition, _badges(edition.verdicts(claim.id))) for edition in shown)
    said = f'{name} {escape(claim.sentence)} <span class="aside">{escape(source)}</span>'
    rows = "\n".join(
        _row(claim, shown, statistic, criterion) for statistic, criterion in claim.statistics.items()
    )
    return (
        f'<tbody {about}>\n<tr class="claim"><th scope="rowgroup">{said}</th>{badges}</tr>\n{rows}\n</tbody>'
    )


def _row(claim: Claim, shown: Sequence[Edition], statistic: str, criterion: Criterion) -> str:
    parts = [edition.parts(claim.id, statistic) for edition in shown]
    scale = _scale([part for seeds in parts for part in seeds], criterion)
    cells = "".join(
        _cell(edition, _measured(seeds, criterion, scale))
        for edition, seeds in zip(shown, parts, strict=True)
    )
    paper = claim.published.get(statistic)
    aside = f"criterion: {escape(str(criterion))}" + (f"; the paper has {escape(paper)}" if paper else "")
    return f'<tr><th scope="row">{escape(statistic)} <span class="aside">{aside}</span></th>{cells}</tr>'


def numbers(part: Mapping[str, Any], criterion: Criterion) -> str:
    """An estimate with its interval in text: "0.98 [0.97, 0.99]", "0 of 640"; an end that is missing is
    infinite.
    """
    if part["estimate"] is None:
        return "could not be measured"
    if criterion.kind == "none":
        return f"{_number(part['estimate'])} of {part['n']:,}"
    low, high = (_end(value, criterion.bound) for value in _ends(part))
    return f"{_number(part['estimate'])} [{low}, {high}]"


def estimate(part: Mapping[str, Any]) -> str:
    """An estimate in text."""
    return "none" if part["estimate"] is None else _number(part["estimate"])


def picture(parts: Sequence[Mapping[str, Any]], criterion: Criterion, scale: tuple[float, float]) -> str:
    """A small SVG: the estimate as a dot, its interval as a bar, the criterion as an upright line with the
    side that it asks for tinted.

    Args:
        parts: of the first seed, which is drawn large, and of further ones, drawn small below it.
        scale: the values at the left and at the right edge, the same for what is to be compared.
    """
    drawn = [part for part in parts if part["estimate"] is not None]
    if not drawn:
        return ""

    def x(value: float) -> float:
        at = (value - scale[0]) / (scale[1] - scale[0]) * (WIDTH - 2 * EDGE) + EDGE
        return round(min(max(at, 0.0), float(WIDTH)), 1)

    bound, height = x(criterion.bound), HEIGHT + REPEAT_HEIGHT * (len(drawn) - 1)
    left, right = {"above": (bound, WIDTH), "below": (0, bound), "none": (bound, bound)}[criterion.kind]
    marks = ""
    for number, part in enumerate(drawn):
        low, high = map(x, _ends(part))
        size, y = (
            ("first", HEIGHT // 2)
            if number == 0
            else ("further", HEIGHT - 2 + REPEAT_HEIGHT * (number - 1) + REPEAT_HEIGHT // 2)
        )
        marks += (
            f'<g class="{size} {part["verdict"].replace(" ", "-")}"><path class="bar" d="M{low} {y}H{high}"/>'
            f'<circle cx="{x(part["estimate"])}" cy="{y}" r="{3.5 if number == 0 else 2.2}"/></g>'
        )
    words = "; ".join(f"{numbers(part, criterion)}: {part['verdict']}" for part in drawn)
    return (
        f'<svg class="interval" role="img" aria-label="{escape(f"against the criterion {criterion}, {words}")}" '
        f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">'
        f'<rect class="asked" x="{left}" y="0" width="{round(right - left, 1)}" height="{height}"/>'
        f'<path class="axis" d="M0 {HEIGHT // 2}H{WIDTH}"/><path class="criterion" d="M{bound} 0V{height}"/>{marks}</svg>'
    )


def _measured(parts: Sequence[Mapping[str, Any]], criterion: Criterion, scale: tuple[float, float]) -> str:
    """What a cell shows of a statistic: the picture of all seeds, the numbers of the first, the estimates of
    the others.
    """
    if not parts:
        return NOT_RUN
    asides = [] if criterion.kind == "none" else [f"n = {parts[0]['n']:,}"]
    asides += [_with_other_seeds(list(map(estimate, parts[1:])))] if parts[1:] else []
    aside = f' <span class="aside">{"; ".join(asides)}</span>' if asides else ""
    return f'{picture(parts, criterion, scale)} <span class="numbers">{numbers(parts[0], criterion)}</span>{aside}'


def _badges(verdicts: Sequence[str]) -> str:
    """The verdict of all seeds; where they disagree, each with the number of seeds that have it."""
    count = Counter(verdicts or [NOT_RUN])
    total = sum(count.values())
    how_many = {word: f" {number} of {total}" if len(count) > 1 else "" for word, number in count.items()}
    badges = " ".join(
        f'<span class="verdict-{word.replace(" ", "-")}">{word}{how_many[word]}</span>' for word in count
    )
    return badges + (f' <span class="aside">{total} seeds</span>' if total > 1 else "")


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


def _phrase(by_title: Mapping[str, Sequence[str]]) -> str:
    """What each edition says, that of its first seed in bold."""
    out = []
    for title, (first, *others) in ((title, said or [NOT_RUN]) for title, said in by_title.items()):
        words = first if first == NOT_RUN else f"**{first}**"
        out.append(f"{words}{', ' + _with_other_seeds(others) if others else ''} ({title})")
    return "; ".join(out)


def _with_other_seeds(said: Sequence[str]) -> str:
    return f"{' and '.join(said)} with {'another seed' if len(said) == 1 else 'other seeds'}"


def _cell(edition: Edition, content: str) -> str:
    return f'<td data-edition="{escape(_upper(edition.title))}">{content}</td>'


def _end(value: float, bound: float) -> str:
    """An end of an interval with as many digits as it takes to see on which side of the bound it lies."""
    digits = next(
        (digits for digits in range(3, 9) if value == bound or float(f"{value:.{digits}g}") != bound), 9
    )
    return _number(value, digits)


def _number(value: float, digits: int = 3) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}g}".replace("-", "−")


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
