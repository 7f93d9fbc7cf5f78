"""What the editions under results/ hold: tables, each with its provenance and its meaning, and the ledger."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from prefbook.ledger.editions import Edition, others, reference
from prefbook.ledger.judging import Entry
from prefbook.ledger.tables import head
from prefdyn import experiments
from prefdyn.errors import PrefdynError

RUN = (
    *("commit", "model", "model_fingerprint", "data", "data_fingerprint"),
    *("profile", "seeds", "device", "precision", "versions"),
)
"""The lines of a table's provenance that tables of one run have in common."""

NOTHING = hashlib.sha256().hexdigest()[:16]
"""The fingerprint of the data of a run that used none."""


@dataclass(frozen=True)
class Table:
    """A shipped table.

    Attributes:
        path: relative to the folder of the editions.
        provenance: the comment lines above it, by field.
        about: what the experiment that makes it says of its columns; "" where it says so elsewhere.
    """

    edition: Edition
    path: Path
    columns: tuple[str, ...]
    rows: int
    provenance: Mapping[str, str]
    about: str

    @property
    def chapter(self) -> str:
        return self.path.parent.name

    @property
    def made(self) -> str:
        """When, in ISO 8601."""
        return (
            datetime.strptime(self.provenance["made"], "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC).isoformat()
        )

    @property
    def run(self) -> tuple[str, ...]:
        return tuple(self.provenance.get(field, "") for field in RUN)


class Shipped:
    """What the editions under results/ hold, in the order of their names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.editions = [edition for edition in (reference(root), *others(root)) if edition.folder.is_dir()]

    @cached_property
    def tables(self) -> list[Table]:
        """All of them.

        Raises:
            PrefdynError: there is none, or one has no provenance.
        """
        found = [
            _table(edition, path)
            for edition in self.editions
            for path in sorted(edition.folder.glob("*/*.csv"))
        ]
        if not found:
            raise PrefdynError(f"{self.root / 'results'} holds no tables, so there is nothing to publish")
        return found

    @cached_property
    def ledger(self) -> list[Entry]:
        """Every claim judged, edition by edition."""
        return [entry for edition in self.editions for entry in edition.entries.values()]

    @property
    def pending(self) -> list[str]:
        """Tables that an edition does not hold yet, as EDITION/CHAPTER/TABLE."""
        folders = [folder for edition in self.editions for folder in sorted(edition.folder.iterdir())]
        return [
            f"{folder.parent.name}/{folder.name}/{name}"
            for folder in folders
            if folder.is_dir()
            for name in sorted(Edition("", folder.parent, self.root).tables(folder.name).pending)
        ]


def _table(edition: Edition, path: Path) -> Table:
    provenance = head(path)
    if missing := [field for field in ("made", *RUN) if field not in provenance]:
        raise PrefdynError(
            f"{path} does not say where it comes from (no line {', '.join(missing)}): run the chapter "
            f"{path.parent.name} again to make it"
        )
    whole = edition.tables(path.parent.name)[path.stem]
    shown = path.relative_to(edition.folder.parent)
    about = described(path.parent.name).get(path.stem, "")
    return Table(edition, shown, tuple(whole.columns), len(whole), provenance, about)


def described(chapter: str) -> dict[str, str]:
    """What the docstrings of a chapter's experiments say of the columns of their tables, by table."""
    found: dict[str, str] = {}
    for name, function in inspect.getmembers(experiments.CHAPTERS.get(chapter), inspect.isfunction):
        text = inspect.getdoc(function) or ""
        for kind, section in re.findall(r"^(Columns|Tables):\n((?: +.*\n?|\n)+)", text, re.M):
            parts = re.split(r"^ {4}(?=\S)", section, flags=re.M)[1:]
            if kind == "Columns":
                found[name] = "; ".join(map(_one_line, parts))
                continue
            for part in parts:
                names, _, words = part.partition(":")
                found |= {table.strip(): _one_line(words) for table in names.split(",")}
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
