"""Chapters run headlessly: parameters checked, papermill, and a run that is not repeated while nothing has
changed.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat

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
        """Changes with anything that the page depends on: text, parameters, claims, the reference edition, the
        science of its experiments, what draws it, data, a local model's files.
        """
        book = sorted(Path(__file__).parents[1].glob("**/*.py"))
        tables = sorted((self.root / "results" / "reference" / self.chapter).glob("*.csv"))
        parts = [sha256(path) for path in (self.source, self.root / "book" / "claims.yml", *book, *tables)]
        settings = {name: value for name, value in self.values.items() if name != "output"}
        states = [_data_state(self.values["data"]), _model_state(self.values["model"])]
        science = science_version(f"prefdyn.experiments.{self.chapter}")
        content = [science, *parts, json.dumps(settings, sort_keys=True), *states]
        return hashlib.sha256("".join(content).encode()).hexdigest()

    def is_done(self) -> bool:
        """Whether the executed copy is of the very same chapter, parameters, library, data and model."""
        try:
            return (
                nbformat.read(self.notebook, as_version=4).metadata.get("prefdyn", {}).get("key")
                == self.key()
            )
        except (OSError, ValueError, AttributeError, nbformat.ValidationError):
            return False

    def work(self) -> list[plan.Work]:
        return CHAPTERS[self.chapter].work(self.values)


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
        data.persona_names(values["data"])
        folder = (output or root / "_build" / "runs") / name
        values["output"] = str(folder.resolve())
        runs.append(Run(root, name, values, folder))
    return runs


def describe(run: Run) -> str:
    """The plan of a run in words and a table; nothing is run, and no model is fetched."""
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
    name = loading.full_name(run.values["model"])
    known = loading.KNOWN.get(name)
    with _FETCHING:
        if known and known.terms:
            print(f"prefdyn: {known.terms}", flush=True)
        loading.fingerprint(name)  # fetches the model, if need be, where the user sees it
    plan.check_memory(run.work(), name, plan.model_size(name), devices.choose_device(run.values["device"]))
    key = run.key()
    with tempfile.TemporaryDirectory() as folder:
        made = _papermill(run, Path(folder), progress)
    made.metadata["prefdyn"] = {"key": key}
    with atomic_file(run.notebook) as path:
        nbformat.write(made, path)
        path.chmod(0o644)
    return True


def _papermill(run: Run, folder: Path, progress: bool) -> nbformat.NotebookNode:
    import papermill
    from nbclient.exceptions import DeadKernelError

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
    return made
