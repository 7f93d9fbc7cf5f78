"""Ledgers side by side: the run at hand and the reference runs under results/, and where in the book each claim is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from prefdyn.claims import Claim, collect

NOT_RUN, DIFFERS = "not run", "differs by seed"
REPEAT = "seed-*"
"""Folders that hold an edition once more, with another seed."""


@dataclass(frozen=True)
class Edition:
    """What one set of runs measured.

    Attributes:
        title: "this run", "reference", or "reference NAME"; of a repeat, the name of its folder.
        entries: of its ledgers, by claim id (see `claims.Ledger.entries`).
        folders: where each chapter's run left its ledger and its tables.
        repeats: the same runs with other seeds.
    """

    title: str
    entries: dict[str, dict[str, Any]]
    folders: dict[str, Path]
    repeats: tuple[Edition, ...] = ()

    @property
    def every(self) -> tuple[Edition, ...]:
        """Itself and its repeats."""
        return (self, *self.repeats)

    def verdicts(self, id_: str) -> list[str]:
        """On a claim, one for each seed with which it was measured."""
        return [run.entries[id_]["verdict"] for run in self.every if id_ in run.entries]

    def verdict(self, id_: str) -> str:
        """On a claim: what all seeds say, "differs by seed" if they disagree, "not run" if it was not measured."""
        words = set(self.verdicts(id_))
        return NOT_RUN if not words else words.pop() if len(words) == 1 else DIFFERS

    def parts(self, id_: str, statistic: str) -> list[dict[str, Any]]:
        """The entries of one statistic, one for each seed with which it was measured."""
        every = [part for run in self.every for part in run.entries.get(id_, {}).get("statistics", [])]
        return [part for part in every if part["statistic"] == statistic]

    def tables(self, chapter: str, name: str) -> list[pd.DataFrame]:
        """A table that a chapter kept, one for each seed with which it was run."""
        paths = [run.folders[chapter] / "tables" / f"{name}.csv" for run in self.every if chapter in run.folders]
        return [pd.read_csv(path, comment="#") for path in paths if path.is_file()]


def editions(root: Path) -> list[Edition]:
    """The run at hand, which may be empty, and the reference runs: the default, results/CHAPTER/, and others, results/NAME/CHAPTER/.

    A folder seed-N beside the chapters of a reference holds the same with another seed, and is no edition of its own.

    Raises:
        PrefdynError: a ledger is damaged.
    """
    results = root / "results"
    named = [path for path in sorted(results.glob("*")) if any(path.glob("*/claims.json")) and not path.match(REPEAT)]
    reference = [_edition("reference", results), *(_edition(f"reference {path.name}", path) for path in named)]
    return [_edition("this run", root / "_build" / "runs"), *(one for one in reference if any(run.entries for run in one.every))]


def _edition(title: str, folder: Path) -> Edition:
    ledgers = {path.parent: collect(path.parent) for path in sorted(folder.glob("*/claims.json"))}
    repeats = [_edition(path.name, path) for path in sorted(folder.glob(REPEAT)) if any(path.glob("*/claims.json"))]
    return Edition(
        title,
        {entry["id"]: entry for entries in ledgers.values() for entry in entries},
        {entry["chapter"]: folder for folder, entries in ledgers.items() for entry in entries},
        tuple(repeats),
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
