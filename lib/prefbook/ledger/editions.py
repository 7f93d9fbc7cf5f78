"""Editions of the book's tables: what this machine measured, and the reference editions that are shipped under results/."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from prefbook.ledger.claims import load_claims
from prefbook.ledger.judging import Entry, judge_all
from prefbook.ledger.tables import Tables

REFERENCE, HERE = "reference", "this machine"
NOT_RUN = "not run"


@dataclass(frozen=True)
class Edition:
    """The tables of one set of runs, in FOLDER/CHAPTER/TABLE.csv.

    Attributes:
        title: `REFERENCE`, `HERE`, or "reference-NAME" for another model's.
    """

    title: str
    folder: Path
    root: Path

    def tables(self, chapter: str) -> Tables:
        """Those of a chapter; asking for one that is missing raises a PrefdynError."""
        return Tables(self.folder / chapter)

    def has(self, chapter: str) -> bool:
        return any((self.folder / chapter).glob("*.csv"))

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Every claim that the tables judge, by id."""
        claims = load_claims(self.root / "book" / "claims.yml")
        return {entry["id"]: entry for entry in judge_all(claims, self.folder, self.title)}

    def verdict(self, id_: str) -> str:
        return self.entries[id_]["verdict"] if id_ in self.entries else NOT_RUN


def reference(root: Path) -> Edition:
    """The edition that the pages report."""
    return Edition(REFERENCE, root / "results" / REFERENCE, root)


def here(root: Path) -> Edition:
    """What this machine measured; it may be empty."""
    return Edition(HERE, root / "_build" / "runs", root)


def editions(root: Path) -> list[Edition]:
    """The reference edition, those of other models, and this machine's."""
    others = sorted((root / "results").glob(f"{REFERENCE}-*"))
    return [reference(root), *(Edition(path.name, path, root) for path in others), here(root)]
