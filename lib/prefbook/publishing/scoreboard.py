"""Claims beside what each edition measured of them: the scoreboard of the whole book, a chapter's ledger."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import jupytext
import pandas as pd
from docutils.nodes import make_id
from IPython.display import HTML
from myst_nb import glue

from prefbook.ledger.claims import VACUOUS, VERDICTS, Claim, Criterion, load_claims
from prefbook.ledger.editions import HERE, NO_MODEL, NOT_RUN, REFERENCE, editions
from prefbook.ledger.judging import Entry
from prefbook.ledger.multiplicity import after_holm
from prefbook.ledger.quoted import ON_THE_SCOREBOARD, QUOTED
from prefbook.project import find_root
from prefbook.publishing import repository
from prefbook.publishing.quoting import (
    TEMPLATES,
    ends,
    estimate,
    numbers,
    of_claims,
    quotes,
    rounded,
    verdict_of,
)

WIDTH, HEIGHT, EDGE = 130, 18, 5
REPEAT_HEIGHT = 7
"""What each further seed adds to a picture."""

GLYPHS = {
    **dict.fromkeys(("supported", "checked", "holds here"), "✓"),
    **dict.fromkeys(("not supported", "violated"), "✕"),
    **dict.fromkeys(("inconclusive", "conditions not met"), "?"),
    **{"practically zero": "0", VACUOUS: "–"},
}
"""What stands in the mark of a claim, for whom colours do not tell apart."""
SHAPES = {
    **{word: kind for kind in ("theorem", "identity") for word in VERDICTS[kind].values()},
    **dict.fromkeys(VERDICTS["empirical"].values(), "empirical"),
    VACUOUS: "theorem",
}
"""The kind of claim that has a verdict, for its mark in the key; of several, the empirical one."""

Judged = Mapping[str, Mapping[str, Entry]]
"""Judged claims by edition and id."""


def ledger(claims: Mapping[str, Claim], judged: Judged) -> str:
    """A chapter's claims in HTML, with a column for each edition."""
    rows = []
    for claim in claims.values():
        seen = [f"known before: {claim.seen}"] if claim.seen else []
        rows.append(_row(claim, judged, f"{claim.kind}; {claim.place}", *seen))
    return TEMPLATES.get_template("ledger.html").render(rows=rows, titles=[*map(_upper, judged)])


class Scoreboard:
    """All declared claims beside all editions.

    Attributes:
        claims: by id, in the order of their declaration.
        editions: the reference edition first, this machine's last.
        judged: by the edition's title and the claim's id.
        shown: the titles of the editions that have measured something, or the reference edition's.
    """

    def __init__(self, papers: Mapping[str, str], root: Path | None = None) -> None:
        """Read everything; `papers` gives the name to show for a paper's key."""
        self.root = root or find_root()
        self.claims = load_claims(self.root / "book" / "claims.yml")
        self.editions = editions(self.root)
        self.judged = {edition.title: edition.entries for edition in self.editions}
        self.shown = [title for title, entries in self.judged.items() if entries] or [REFERENCE]
        self.places = places(self.root, self.claims)
        self.papers = papers
        source = repository.of(self.root)
        self._commits = f"{source.url}/commit/" if source else ""

    def tally(self) -> pd.DataFrame:
        """How many empirical claims were measured, how many got each verdict, and how many of the supported
        ones stay so after Holm's correction; one row an edition.
        """
        empirical = [id_ for id_, claim in self.claims.items() if claim.kind == "empirical"]
        rows = []
        for title in self.shown:
            entries = self.judged[title]
            count = Counter(verdict_of(entries[id_]) for id_ in empirical if id_ in entries)
            row: dict[str, Any] = {"": title, "measured": count.total()}
            for word in VERDICTS["empirical"].values():
                row[word] = count[word]
                if word == VERDICTS["empirical"]["holds"]:
                    row["of these after Holm's correction"] = len(after_holm(self.claims, entries))
            rows.append(row)
        return pd.DataFrame(rows)

    def grid(self) -> str:
        """A mark a claim, of the shape of its kind and the colour of the reference edition's verdict, a line
        a chapter; a mark leads to the claim's row.
        """
        entries = self.judged[REFERENCE]
        lines: dict[str, list[dict[str, Any]]] = {}
        for claim in self.claims.values():
            mark = {"claim": claim, "verdict": verdict_of(entries.get(claim.id))}
            lines.setdefault(_title(self.root, claim.chapter), []).append(mark)
        met = {mark["verdict"] for line in lines.values() for mark in line}
        words = [word for word in _words(("empirical", "identity", "theorem")) if word in met]
        template = TEMPLATES.get_template("grid.html")
        return template.render(lines=lines, words=words, glyphs=GLYPHS, shapes=SHAPES)

    def html(self, *kinds: str) -> str:
        """The table of the claims of these kinds, with its filter, which the script scoreboard.js brings to
        life.
        """
        claims = [claim for claim in self.claims.values() if claim.kind in kinds]
        judged = {title: self.judged[title] for title in self.shown}
        kept = {title: after_holm(self.claims, entries) for title, entries in judged.items()}
        rows = [
            _row(
                claim,
                judged,
                f"{self._paper(claim)}, {claim.place}",
                place=self.places[claim.id],
                commits=self._commits,
                kept=kept,
            )
            for claim in claims
        ]
        return TEMPLATES.get_template("scoreboard.html").render(
            rows=rows,
            titles=[*map(_upper, judged)],
            papers={claim.paper: self._paper(claim) for claim in claims},
            words=_words(kinds),
        )

    def _paper(self, claim: Claim) -> str:
        return self.papers.get(claim.paper, claim.paper)

    def glue(self) -> None:
        """Glue the numbers that the page quotes: those of all claims, and, under CHAPTER/KEY, those that the
        chapters quote, and some of its own.
        """
        finding, local = self.judged[REFERENCE], self.judged[HERE]
        out = of_claims(self.claims, finding, local)
        shipped, here = self.editions[0], self.editions[-1]
        for chapter in filter(shipped.has, dict.fromkeys(claim.chapter for claim in self.claims.values())):
            tellers = {**QUOTED.get(chapter, {}), **ON_THE_SCOREBOARD.get(chapter, {})}
            own = here.tables(chapter) if here.has(chapter) else None
            told = quotes(tellers, shipped.tables(chapter), own)
            out |= {f"{chapter}/{key}": value for key, value in told.items()}
        for key, value in out.items():
            glue(key, HTML(value), display=False)

    def sources(self) -> pd.DataFrame:
        """What each edition rests on, one row a chapter of an edition."""
        rows = []
        for title, entries in self.judged.items():
            for entry in {entry["chapter"]: entry for entry in entries.values()}.values():
                about = {key: entry[key] for key in ("chapter", "model", "data", "profile", "made")}
                rows.append({"": title} | about)
        return pd.DataFrame(rows)


def places(root: Path, declared: Mapping[str, Claim]) -> dict[str, str]:
    """The address of each claim in the site, relative to the folder of the chapters: the first section that
    quotes a number of it.
    """
    out = {}
    for claim in declared.values():
        out[claim.id] = f"{claim.chapter}.html"
        for section, text in _sections(root, claim.chapter):
            if section and any(f"`{claim.id}{end}" in text for end in ("`", "-")):
                out[claim.id] += f"#{section}"
                break
    return out


def _title(root: Path, chapter: str) -> str:
    """Of a page; its name where it is not there."""
    for _, line in _sections(root, chapter):
        if line.startswith("# "):
            return line[2:]
    return chapter


def _sections(root: Path, chapter: str) -> Iterator[tuple[str, str]]:
    """The paragraphs of a page, each with the id of its section; an executed page is laid out as .ipynb."""
    section = ""
    for path in (root / "book" / f"{chapter}{suffix}" for suffix in (".md", ".ipynb")):
        for cell in jupytext.read(path).cells if path.is_file() else ():
            for line in cell.source.splitlines() if cell.cell_type == "markdown" else ():
                if line.startswith(("## ", "### ")):
                    section = make_id(line.lstrip("# "))
                yield section, line


def _row(
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


OUTCOMES = {"holds": "met", "fails": "not met", "open": "cannot be told", "zero": "practically zero"}
"""What a picture says of a criterion, for those who do not see it."""


def _words(kinds: Collection[str]) -> list[str]:
    """The verdicts that claims of these kinds can have."""
    words = [word for kind in kinds for word in VERDICTS[kind].values()]
    return list(dict.fromkeys([*words, *([VACUOUS] if "theorem" in kinds else []), NOT_RUN]))


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


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
