"""The scoreboard: all claims of the book beside what each edition measured of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jupytext
import pandas as pd
from docutils.nodes import make_id
from IPython.display import HTML
from myst_nb import glue

from prefbook.ledger.claims import VACUOUS, VERDICTS, Claim, load_claims
from prefbook.ledger.editions import HERE, NOT_RUN, REFERENCE, editions
from prefbook.ledger.multiplicity import after_holm
from prefbook.ledger.quoted import ON_THE_SCOREBOARD, QUOTED
from prefbook.project import find_root
from prefbook.publishing import claim_rows, repository
from prefbook.publishing.quoting import TEMPLATES, of_claims, of_others, quotes, verdict_of

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
            claim_rows.row(
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
            titles=claim_rows.titles(judged),
            papers={claim.paper: self._paper(claim) for claim in claims},
            words=_words(kinds),
        )

    def _paper(self, claim: Claim) -> str:
        return self.papers.get(claim.paper, claim.paper)

    def glue(self) -> None:
        """Glue the numbers that the page quotes: those of all claims; under NAME/ID those of another model's
        edition, *reference-NAME*; and, under CHAPTER/KEY, those that the chapters quote, and some of its own.
        """
        finding, local = self.judged[REFERENCE], self.judged[HERE]
        out = of_claims(self.claims, finding, local) | of_others(self.claims, self.judged)
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


def _words(kinds: Collection[str]) -> list[str]:
    """The verdicts that claims of these kinds can have."""
    words = [word for kind in kinds for word in VERDICTS[kind].values()]
    return list(dict.fromkeys([*words, *([VACUOUS] if "theorem" in kinds else []), NOT_RUN]))
