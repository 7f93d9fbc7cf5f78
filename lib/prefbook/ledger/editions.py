"""Editions of the book's tables: what this machine measured, and the reference editions that are shipped
under results/.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from prefbook.ledger.claims import Claim, load_claims
from prefbook.ledger.judging import Entry, judge_all
from prefbook.ledger.tables import Tables
from prefdyn.errors import PrefdynError

REFERENCE, HERE = "reference", "this machine"
NOT_RUN = "not run"
NO_MODEL = "no model"
"""Of another model's edition: the claim is about points drawn from a distribution, and no model is in it."""


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
        return len(self.tables(chapter)) > 0

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Every claim of the chapters that have tables, judged, by id in the order of declaration; without
        those whose tables are to come.

        Raises:
            PrefdynError: one of a chapter's tables is missing.
        """
        by_chapter: dict[str, list[Claim]] = {}
        for claim in load_claims(self.root / "book" / "claims.yml").values():
            by_chapter.setdefault(claim.chapter, []).append(claim)
        judged: dict[str, Entry] = {}
        for chapter, claims in by_chapter.items():
            if self.has(chapter):
                judged |= judge_all(claims, self.tables(chapter), self.title)
        return judged

    def verdict(self, id_: str) -> str:
        entry = self.entries.get(id_)
        return NOT_RUN if entry is None else entry["verdict"]


def reference(root: Path) -> Edition:
    """The edition that the pages report."""
    return Edition(REFERENCE, root / "results" / REFERENCE, root)


def others(root: Path) -> list[Edition]:
    """Those of other models."""
    folders = sorted(path for path in (root / "results").glob(f"{REFERENCE}-*") if path.is_dir())
    return [Edition(path.name, path, root) for path in folders]


def here(root: Path) -> Edition:
    """What this machine measured; it may be empty."""
    return Edition(HERE, root / "_build" / "runs", root)


def editions(root: Path) -> list[Edition]:
    """The reference edition, those of other models, and this machine's."""
    return [reference(root), *others(root), here(root)]


def named(root: Path, folder: Path | None) -> Edition:
    """The edition in a folder, named after it; this machine's without one.

    Raises:
        PrefdynError: there is no such folder, or it holds the tables of one chapter.
    """
    if folder is None:
        return here(root)
    if not folder.is_dir():
        raise PrefdynError(f"{folder}: no such folder; an edition is a folder of chapters' folders of tables")
    if any(folder.glob("*.csv")):
        edition = os.path.normpath(folder / "..")
        raise PrefdynError(f"{folder} holds the tables of one chapter: name the edition, {edition}")
    return Edition(folder.resolve().name, folder, root)
