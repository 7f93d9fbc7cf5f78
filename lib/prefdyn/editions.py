"""Ledgers side by side: the run at hand and the reference runs under results/, and where in the book each claim is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from prefdyn.claims import Claim, collect

NOT_RUN = "not run"


@dataclass(frozen=True)
class Edition:
    """What one set of runs measured.

    Attributes:
        title: "this run", "reference", or "reference NAME".
        entries: of its ledgers, by claim id (see `claims.Ledger.entries`).
        folders: where each chapter's run left its ledger and its tables.
    """

    title: str
    entries: dict[str, dict[str, Any]]
    folders: dict[str, Path]

    def verdict(self, id_: str) -> str:
        """On a claim; "not run" if it was not measured."""
        return self.entries[id_]["verdict"] if id_ in self.entries else NOT_RUN

    def part(self, id_: str, statistic: str) -> dict[str, Any] | None:
        """The entry of one statistic, None if it was not measured."""
        parts = self.entries.get(id_, {}).get("statistics", [])
        return next((part for part in parts if part["statistic"] == statistic), None)

    def table(self, chapter: str, name: str) -> pd.DataFrame | None:
        """A table that a chapter kept, None if it was not run."""
        path = self.folders.get(chapter, Path()) / "tables" / f"{name}.csv"
        return pd.read_csv(path, comment="#") if path.is_file() else None


def editions(root: Path) -> list[Edition]:
    """The run at hand, which may be empty, and the reference runs: the default, results/CHAPTER/, and others, results/NAME/CHAPTER/.

    Raises:
        PrefdynError: a ledger is damaged.
    """
    folders = {"this run": root / "_build" / "runs", "reference": root / "results"}
    folders |= {f"reference {path.name}": path for path in sorted((root / "results").glob("*")) if any(path.glob("*/claims.json"))}
    found = {title: sorted(path.parent for path in folder.glob("*/claims.json")) for title, folder in folders.items()}
    return [_edition(title, chapters) for title, chapters in found.items() if chapters or title == "this run"]


def _edition(title: str, folders: Sequence[Path]) -> Edition:
    ledgers = {folder: collect(folder) for folder in folders}
    return Edition(
        title,
        {entry["id"]: entry for entries in ledgers.values() for entry in entries},
        {entry["chapter"]: folder for folder, entries in ledgers.items() for entry in entries},
    )


def places(root: Path, declared: dict[str, Claim]) -> dict[str, str]:
    """The address of each claim in the site, relative to the folder of the chapters: the section whose code first names its id."""
    import jupytext
    from docutils.nodes import make_id

    out: dict[str, str] = {}
    for chapter in sorted({claim.chapter for claim in declared.values()}):
        waiting = [id_ for id_, claim in declared.items() if claim.chapter == chapter]
        out |= dict.fromkeys(waiting, f"{chapter}.html")
        section = ""
        for path in (root / "book" / f"{chapter}{suffix}" for suffix in (".md", ".ipynb")):  # an executed one is laid out as .ipynb
            for cell in jupytext.read(path).cells if path.is_file() else ():
                if cell.cell_type == "markdown":
                    headings = [line.lstrip("# ") for line in cell.source.splitlines() if line.startswith(("## ", "### "))]
                    section = make_id(headings[-1]) if headings else section
                elif cell.cell_type == "code":
                    for id_ in [id_ for id_ in waiting if f'"{id_}"' in cell.source]:
                        waiting.remove(id_)
                        out[id_] = f"{chapter}.html#{section}" if section else f"{chapter}.html"
    return out
