"""A chapter with its parameters, checked, and the folder of what it left: what that rests on, and whether it
is up to date.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext

from prefbook.ledger.editions import reference
from prefbook.ledger.tables import PENDING, is_measured
from prefbook.project import chapters
from prefbook.running import parameters
from prefdyn import data
from prefdyn.cache import modules_named, science_version
from prefdyn.errors import PrefdynError
from prefdyn.experiments import CHAPTERS, plan
from prefdyn.files import at_home, sha256
from prefdyn.models import loading

NOTE = ".run.json"
"""In a run's folder: what it is a run of, and the checksums of all that it left."""


@dataclass(frozen=True)
class Run:
    """A chapter with the values of all its parameters, and where it leaves its results."""

    root: Path
    chapter: str
    values: dict[str, Any]
    folder: Path

    @property
    def source(self) -> Path:
        return self.root / "book" / f"{self.chapter}.md"

    @property
    def notebook(self) -> Path:
        """The executed copy."""
        return self.folder / f"{self.chapter}.ipynb"

    def key(self) -> str:
        """Changes with anything that the page depends on: its text, parameters, claims, the shipped tables,
        the science of its experiments, what draws it, data, a local model's files.
        """
        own = self.folder.resolve()
        of = "*" if self._quotes_the_book else self.chapter
        results = self.root / "results"
        shipped = [path for name in ("*.csv", PENDING) for path in results.glob(f"reference*/{of}/{name}")]
        tables = [path for path in sorted(shipped) if path.parent.resolve() != own]
        claims = self.root / "book" / "claims.yml"
        drawing = _drawing("" if self._quotes_the_book else self.chapter)
        parts = [sha256(path) for path in (self.source, claims, *drawing, *tables)]
        states = [_state(place) for place in _places(self.values)]
        science = science_version(CHAPTERS[self.chapter].__name__, *modules_of_page(self.source))
        content = [science, *parts, json.dumps(self.settings, sort_keys=True), *states]
        return hashlib.sha256("".join(content).encode()).hexdigest()

    @property
    def _quotes_the_book(self) -> bool:
        """Whether the page has numbers of the other chapters' reference edition."""
        return "chapter.quote_book()" in self.source.read_text(encoding="utf-8")

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters that are not a place."""
        return {name: value for name, value in self.values.items() if name != "output"}

    def noted(self) -> dict[str, Any]:
        """What the run that is in the folder noted of itself: its `key`, its `settings`, and the `files` that
        it left, their checksums by name; nothing where there is no such note.
        """
        try:
            about = json.loads((self.folder / NOTE).read_text(encoding="utf-8"))
            return about if about.pop("seal") == _seal(about) else {}
        except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError, KeyError, TypeError):
            return {}

    def is_done(self) -> bool:
        """Whether the folder holds all that a run of the very same chapter, parameters, library, data and
        model left, as it left it, and no other table.
        """
        about = self.noted()
        if not about or about["key"] != self.key():
            return False
        try:
            now, tables = checksums(self.folder), filter(is_measured, self.folder.glob("*.csv"))
            return now.items() >= about["files"].items() >= {(path.name, now[path.name]) for path in tables}
        except (FileNotFoundError, KeyError):  # another process replaces the folder
            return False

    def work(self) -> list[plan.Work]:
        """What the experiments do, for all seeds together; nothing where only shipped tables are shown."""
        return CHAPTERS[self.chapter].work(self.values) if self.values["measure"] else []


def modules_of_page(source: Path) -> list[str]:
    """Modules of the science that a page's code imports from: a chapter's experiments stand in several."""
    named: set[str] = set()
    for cell in jupytext.read(source).cells:
        if cell.cell_type == "code":
            with suppress(SyntaxError):  # the run will say so
                named |= modules_named(ast.parse(cell.source))
    return sorted(named)


def _drawing(chapter: str) -> list[Path]:
    """The files of this package that a page of the chapter uses, and the templates: all but those that are
    named after another chapter, or draw the cover; "" is for a page that uses other chapters' files, too.
    """
    book = Path(__file__).parents[1]
    drawing = ("chapter.py", "project.py", "ledger/**/*.py", "figures/*.py", "figures/templates/*")
    telling = ("publishing/claim_rows.py", "publishing/quoting.py", "publishing/templates/*")
    files = [path for pattern in (*drawing, *telling) for path in book.glob(pattern)]
    foreign = tuple(f"{name}_" for name in ("cover", *(CHAPTERS if chapter else ())) if name != chapter)
    return sorted(path for path in files if not f"{path.stem}_".startswith(foreign))


def _places(values: Mapping[str, Any]) -> list[str]:
    """Where a run's data, model and judge are: names, or local files and folders."""
    source, judge = values["data"], str(values.get("judge", "")).removeprefix("reward:")
    return [str(data.SAMPLE) if source == "sample" else source, values["model"], judge]


def _state(name: str) -> str:
    """Sizes and times of a local file, or of all files in a local folder; of anything else, its name: a model
    of `KNOWN` cannot change, and what the hub holds is not asked for.
    """
    place = Path(name)
    if not place.is_absolute():
        return name
    found = os.walk(place, followlinks=True)
    files = [place] if place.is_file() else [Path(here, file) for here, _, names in found for file in names]
    about = [(str(path), path.stat()) for path in sorted(files) if path.is_file()]
    return json.dumps([(path, now.st_size, now.st_mtime_ns, now.st_ctime_ns) for path, now in about])


def checksums(folder: Path) -> dict[str, str]:
    """Of all files in a folder but a run's note, by their names in it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != NOTE]
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def _seal(about: Mapping[str, Any]) -> str:
    """By which a note is known to be as it was written."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def write_note(run: Run, key: str, folder: Path) -> None:
    """Note in a folder what run it holds, and the checksums of all files there."""
    about = {"key": key, "settings": run.settings, "files": checksums(folder)}
    (folder / NOTE).write_text(json.dumps({**about, "seal": _seal(about)}, indent=1), encoding="utf-8")


def prepare(
    root: Path,
    names: Sequence[str],
    profile: str,
    chosen: Mapping[str, Any],
    given: Mapping[str, Any],
    output: Path | None = None,
) -> list[Run]:
    """Runs of the named chapters (all if none is named), with every parameter checked before any work starts.

    Args:
        chosen: model and data, which every chapter has.
        given: parameters by name; each must be one of a chapter named, and none of those that have an option.

    Raises:
        PrefdynError: an unknown chapter, profile or parameter, one that is given twice, a bad value, a data
            folder that is not there.
    """
    if taken := given.keys() & {"profile", "output", *chosen}:
        name = min(taken)
        raise PrefdynError(f"the parameter {name} has an option of its own: give it by --{name}, once")
    known = chapters(root)
    for name in names:
        if name not in known:
            raise PrefdynError(f"there is no chapter {name!r}: choose from {', '.join(known)}")
    runs = []
    for name in names or known:
        declared = parameters.declared(root / "book" / f"{name}.md")
        layer = parameters.load_profile(root / "book" / "profiles", profile, name, known)
        values = parameters.values_of(declared, layer, chosen, given, {"profile": profile})
        if values["data"] not in ("sample", "hub"):
            values["data"] = str(at_home(values["data"]).resolve())
        local = at_home(values["model"])
        if loading.full_name(values["model"]) not in loading.KNOWN and local.exists():
            values["model"] = str(local.resolve())
        kind, _, judge = str(values.get("judge", "")).partition(":")
        if kind == "reward" and at_home(judge).exists():
            values["judge"] = f"reward:{at_home(judge).resolve()}"
        parameters.design(CHAPTERS[name], values)
        folder = (output or root / "_build" / ("runs" if values["measure"] else "shown")).absolute() / name
        values["output"] = str(folder.resolve())
        runs.append(Run(root, name, values, folder))
    return runs


def kept(root: Path, chapter: str) -> Run | None:
    """The whole run of a chapter that this machine has in _build/runs; None where it has none, or one that
    is no longer up to date.
    """
    folder = root / "_build" / "runs" / chapter
    settings = Run(root, chapter, {}, folder).noted().get("settings")
    run = None if settings is None else Run(root, chapter, {**settings, "output": str(folder)}, folder)
    return run if run is not None and run.is_done() else None


def to_show(root: Path, chapters: Sequence[str]) -> list[Run]:
    """Runs that measure nothing and show chapters from the reference edition alone.

    Raises:
        PrefdynError: the edition has no tables of one.
    """
    for name in chapters:
        if not reference(root).has(name):
            raise PrefdynError(
                f"{reference(root).folder / name} holds no tables, so the page {name} has nothing to show: "
                f"run the chapter (`prefdyn run {name}`), or bring back the folder"
            )
    return prepare(root, chapters, "laptop", {}, {"measure": False}) if chapters else []
