"""What the editions under results/ hold: tables, each with its provenance and its meaning, and the ledger."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from prefbook.ledger.editions import Edition, others, reference
from prefbook.ledger.judging import Entry
from prefbook.ledger.tables import head
from prefbook.running.runs import modules_of_page
from prefdyn.cache import LIBRARY
from prefdyn.errors import PrefdynError

RUN = (
    *("commit", "model", "model_fingerprint", "data", "data_fingerprint"),
    *("profile", "seeds", "device", "precision", "versions"),
)
"""The lines of a table's provenance that tables of one run have in common."""


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
        found = []
        for edition in self.editions:
            for folder in filter(Path.is_dir, sorted(edition.folder.iterdir())):
                about = described(self._modules(folder.name))
                found += [_table(edition, path, about) for path in sorted(folder.glob("*.csv"))]
        if not found:
            raise PrefdynError(f"{self.root / 'results'} holds no tables, so there is nothing to publish")
        return found

    def _modules(self, chapter: str) -> list[Path]:
        """Where the experiments of a chapter are: in the modules that its page names; its own comes last."""
        page = self.root / "book" / f"{chapter}.md"
        science = [name.split(".") for name in modules_of_page(page)] if page.is_file() else []
        stems = {parts[2] for parts in science if parts[:2] == ["prefdyn", "experiments"] and parts[2:]}
        found = [path for stem in stems if (path := LIBRARY / "experiments" / f"{stem}.py").is_file()]
        return sorted(found, key=lambda path: (path.stem == chapter, path.stem))

    @cached_property
    def ledger(self) -> list[Entry]:
        """Every claim judged, edition by edition."""
        return [entry for edition in self.editions for entry in edition.entries.values()]

    @property
    def pending(self) -> list[str]:
        """Tables that an edition does not hold yet, as EDITION/CHAPTER/TABLE, with the seeds to come of those
        that are there.
        """
        folders = [
            (edition, folder)
            for edition in self.editions
            for folder in filter(Path.is_dir, sorted(edition.folder.iterdir()))
        ]
        return [
            f"{edition.title}/{folder.name}/{name}" + _seeds(seeds)
            for edition, folder in folders
            for name, seeds in sorted(edition.tables(folder.name).pending.items())
            if seeds or not (folder / f"{name}.csv").is_file()
        ]


def _seeds(seeds: Collection[int]) -> str:
    return f" (seeds {', '.join(map(str, sorted(seeds)))})" if seeds else ""


def _table(edition: Edition, path: Path, about: Mapping[str, str]) -> Table:
    provenance = head(path)
    if missing := [field for field in ("made", *RUN) if field not in provenance]:
        raise PrefdynError(
            f"{path} does not say where it comes from (no line {', '.join(missing)}): run the chapter "
            f"{path.parent.name} again to make it"
        )
    whole = edition.tables(path.parent.name)[path.stem]
    shown = path.relative_to(edition.folder.parent)
    return Table(edition, shown, tuple(whole.columns), len(whole), provenance, about.get(path.stem, ""))


def described(modules: Sequence[Path]) -> dict[str, str]:
    """What the docstrings of experiments say of their tables, by table; the last module that has one counts.

    That is their sections `Columns:` and `Tables:`; without either, what follows their first sentence.
    """
    found: dict[str, str] = {}
    for module in modules:
        for node in ast.parse(module.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and _is_experiment(node):
                found |= _of_docstring(node.name, ast.get_docstring(node) or "")
    return found


def _is_experiment(function: ast.FunctionDef) -> bool:
    """A function of a bench and a design."""
    return [argument.arg for argument in function.args.args] == ["bench", "design"]


def _of_docstring(name: str, text: str) -> dict[str, str]:
    sections = dict(re.findall(r"^(Columns|Tables):\n((?: +.*\n?|\n)+)", text, re.M))
    entries = {kind: re.split(r"^ {4}(?=\S)", section, flags=re.M)[1:] for kind, section in sections.items()}
    found: dict[str, str] = {}
    for entry in entries.get("Tables", []):
        names, _, words = entry.partition(":")
        found |= {table.strip(): _one_line(words) for table in names.split(",")}
    if "Columns" in entries:
        found[name] = "; ".join(map(_one_line, entries["Columns"]))
    elif not found:
        rest = re.split(r"^(?:Args|Raises):$", text.partition("\n\n")[2], flags=re.M)[0]
        found[name] = _one_line(rest.replace("Returns:", ""))
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
