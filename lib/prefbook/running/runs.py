"""Chapters run headlessly: parameters checked, papermill, and a run that is not repeated while nothing has
changed.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from prefbook.ledger.editions import reference
from prefbook.project import chapters
from prefbook.running import parameters
from prefdyn import data
from prefdyn.cache import science_version
from prefdyn.errors import PrefdynError
from prefdyn.experiments import CHAPTERS, plan
from prefdyn.files import atomic_file, sha256
from prefdyn.models import devices, loading

_FETCHING = threading.Lock()
"""Chapters that start together fetch their model once."""


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
        shipped = sorted((self.root / "results").glob(f"reference*/{self.chapter}/*.csv"))
        tables = [path for path in shipped if path.parent.resolve() != own]
        claims = self.root / "book" / "claims.yml"
        parts = [sha256(path) for path in (self.source, claims, *_drawing(self.chapter), *tables)]
        states = [_data_state(self.values["data"]), _model_state(self.values["model"])]
        science = science_version(CHAPTERS[self.chapter].__name__)
        content = [science, *parts, json.dumps(self.settings, sort_keys=True), *states]
        return hashlib.sha256("".join(content).encode()).hexdigest()

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters that are not a place."""
        return {name: value for name, value in self.values.items() if name != "output"}

    def made(self) -> dict[str, Any]:
        """What the executed copy says of itself: the key and the settings of its run, and the digests of the
        tables that it left; nothing where there is none.
        """
        try:
            about = nbformat.read(self.notebook, as_version=4).metadata["prefdyn"]
            return {name: dict(about)[name] for name in ("key", "settings", "tables")}
        except (OSError, ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError):
            return {}

    def is_done(self) -> bool:
        """Whether the executed copy is of the very same chapter, parameters, library, data and model, and
        its tables are there as it left them.
        """
        about = self.made()
        return bool(about) and about["key"] == self.key() and about["tables"] == self.tables()

    def tables(self) -> dict[str, str]:
        """Digests of the tables in the run's folder, by file."""
        return {path.name: sha256(path) for path in sorted(self.folder.glob("*.csv"))}

    def work(self) -> list[plan.Work]:
        """What the experiments do, for all seeds together; nothing where only shipped tables are shown."""
        if not self.values["measure"]:
            return []
        count = len(self.values["seeds"])
        return [
            item if item.kind == "forward" else replace(item, runs=item.runs * count)
            for item in CHAPTERS[self.chapter].work(self.values)
        ]


def _drawing(chapter: str) -> list[Path]:
    """The files of this package that a page of the chapter uses, and the templates."""
    book = Path(__file__).parents[1]
    patterns = ("chapter.py", "project.py", "ledger/**/*.py", "figures/*.py", "publishing/scoreboard.py")
    files = [path for pattern in (*patterns, "publishing/templates/*") for path in book.glob(pattern)]
    return sorted(path for path in files if path.stem == chapter or path.stem not in CHAPTERS)


def _data_state(source: str) -> str:
    if source == "hub":
        return source
    return _state((data.SAMPLE if source == "sample" else Path(source)).glob("**/*.json*"))


def _model_state(name: str) -> str:
    """Of a local model's files; one of `KNOWN` cannot change, and what the hub holds is not asked for."""
    path = Path(name)
    if not path.is_absolute():
        return name
    return _state([path] if path.is_file() else path.glob("*"))


def _state(files: Iterable[Path]) -> str:
    return json.dumps(sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files))


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
        given: parameters by name; each must be one of a chapter named.

    Raises:
        PrefdynError: an unknown chapter, profile or parameter, a bad value, a data folder that is not there.
    """
    known = chapters(root)
    for name in names:
        if name not in known:
            raise PrefdynError(f"there is no chapter {name!r}: choose from {', '.join(known)}")
    runs = []
    for name in names or known:
        declared = parameters.declared(root / "book" / f"{name}.md")
        layer = parameters.load_profile(root / "book" / "profiles", profile, name)
        values = parameters.values_of(declared, layer, chosen, given, {"profile": profile})
        if values["data"] not in ("sample", "hub"):
            values["data"] = str(Path(values["data"]).expanduser().resolve())
        local = Path(values["model"]).expanduser()
        if loading.full_name(values["model"]) not in loading.KNOWN and local.exists():
            values["model"] = str(local.resolve())
        if values["measure"]:
            data.persona_names(values["data"])
        folder = (output or root / "_build" / ("runs" if values["measure"] else "shown")) / name
        values["output"] = str(folder.resolve())
        runs.append(Run(root, name, values, folder))
    return runs


def kept(root: Path, chapter: str) -> Run | None:
    """The whole run of a chapter that this machine has in _build/runs; None where it has none, or one that
    is no longer up to date.
    """
    folder = root / "_build" / "runs" / chapter
    settings = Run(root, chapter, {}, folder).made().get("settings")
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


def describe(run: Run) -> str:
    """The plan of a run in words and a table; nothing is run, and no model is fetched."""
    if not run.values["measure"]:
        return f"{run.chapter}: nothing is measured, the page shows the reference edition alone"
    device = devices.choose_device(run.values["device"])
    precision = devices.choose_precision(device, run.values["precision"])
    name = loading.full_name(run.values["model"])
    size = plan.model_size(name)
    work = run.work()
    known = loading.KNOWN.get(name)
    fetch = f", {known.download:.0f} MiB to fetch" if known and not loading.is_cached(name) else ""
    head = [
        f"{run.chapter}: the plan (nothing is run)",
        f"model   {name}: {size.parameters / 1e6:.1f}M parameters{fetch}",
        f"data    {run.values['data']}: {plan.book_data(run.values['data'])}",
        f"device  {device}, {precision} products, {plan.free_memory(device) / 2**30:.1f} GiB free",
        "",
        plan.table(work, size, device, precision).to_string(
            index=False, float_format=lambda value: f"{value:.1f}"
        ),
        "",
        "parameters: " + ", ".join(f"{key}={value}" for key, value in run.values.items() if key != "output"),
    ]
    plan.check_memory(work, name, size, device)
    return "\n".join(head)


def run_chapter(run: Run, progress: bool = True) -> bool:
    """Run a chapter unless its executed copy is up to date; returns whether it ran.

    Raises:
        PrefdynError: the work cannot fit in memory, or a cell failed.
    """
    if run.is_done():
        return False
    if run.values["measure"]:
        _fetch(run)
    key = run.key()
    with tempfile.TemporaryDirectory() as folder:
        made = _papermill(run, Path(folder), progress)
    made.metadata["prefdyn"] = {"key": key, "settings": run.settings, "tables": run.tables()}
    with atomic_file(run.notebook) as path:
        nbformat.write(made, path)
        path.chmod(0o644)
    return True


def _fetch(run: Run) -> None:
    """Have the run's model at hand, and see that its work fits."""
    name = loading.full_name(run.values["model"])
    known = loading.KNOWN.get(name)
    with _FETCHING:
        if known and known.terms:
            print(f"prefdyn: {known.terms}", flush=True)
        loading.fingerprint(name)  # fetches the model, if need be, where the user sees it
    plan.check_memory(run.work(), name, plan.model_size(name), devices.choose_device(run.values["device"]))


def _papermill(run: Run, folder: Path, progress: bool) -> nbformat.NotebookNode:
    import papermill
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    notebook = jupytext.read(run.source)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    source, executed = folder / "source.ipynb", folder / "executed.ipynb"
    nbformat.write(notebook, source)
    try:
        made = papermill.execute_notebook(
            source,
            executed,
            parameters=run.values,
            cwd=run.root,
            kernel_name="python3",
            progress_bar={"desc": run.chapter} if progress else False,
            log_output=False,
            config=Config(KernelManager={"shutdown_wait_time": 60.0}),  # one that ends its Ray takes its time
            extra_arguments=["--log-level=ERROR"],  # of the kernel, which else warns of each start over TCP
        )
    except papermill.PapermillExecutionError as error:
        reason = f"{error.evalue}" if error.ename == "PrefdynError" else f"{error.ename}: {error.evalue}"
        raise PrefdynError(
            f"the chapter {run.chapter} stopped in its cell {error.exec_count}: {reason}"
        ) from error
    except DeadKernelError as error:
        raise PrefdynError(
            f"the chapter {run.chapter} stopped because its kernel died, most often for lack of memory"
        ) from error
    for cell in made.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata["tags"].append("hide-input")
            cell.metadata["mystnb"] = {
                "code_prompt_show": "Show the values of this run",
                "code_prompt_hide": "Hide the values of this run",
            }
    return made
