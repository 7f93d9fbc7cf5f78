"""Chapters run headlessly: parameters checked, papermill, a run that takes its place whole, and is not
repeated while nothing has changed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import torch
from tqdm import tqdm

from prefbook.ledger.editions import reference
from prefbook.ledger.tables import is_measured
from prefbook.project import chapters
from prefbook.running import parameters
from prefdyn import data
from prefdyn.cache import modules_named, science_version
from prefdyn.errors import PrefdynError
from prefdyn.experiments import CHAPTERS, pace, plan
from prefdyn.files import at_home, atomic_folder, public_name, sha256, tidy
from prefdyn.models import devices, loading

SAYS = "prefdyn: "
"""What the library prints for its user begins so."""
NOTE = ".run.json"
"""In a run's folder: what it is a run of, and the checksums of all that it left."""

logging.getLogger("papermill").addHandler(logging.NullHandler())  # its exceptions say it all

_FETCHING = threading.Lock()
"""Chapters that start together fetch their model once."""


class KernelDied(PrefdynError):
    """A chapter stopped because its kernel died, most often for lack of memory."""


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
        states = [_state(place) for place in _places(self.values)]
        science = science_version(CHAPTERS[self.chapter].__name__, *_named(self.source))
        content = [science, *parts, json.dumps(self.settings, sort_keys=True), *states]
        return hashlib.sha256("".join(content).encode()).hexdigest()

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


def _named(source: Path) -> list[str]:
    """Modules of the science that a page's code imports from: a chapter's experiments stand in several."""
    named: set[str] = set()
    for cell in jupytext.read(source).cells:
        if cell.cell_type == "code":
            with suppress(SyntaxError):  # the run will say so
                named |= modules_named(ast.parse(cell.source))
    return sorted(named)


def _drawing(chapter: str) -> list[Path]:
    """The files of this package that a page of the chapter uses, and the templates."""
    book = Path(__file__).parents[1]
    drawing = ("chapter.py", "project.py", "ledger/**/*.py", "figures/*.py")
    telling = ("publishing/scoreboard.py", "publishing/quoting.py", "publishing/templates/*")
    files = [path for pattern in (*drawing, *telling) for path in book.glob(pattern)]
    return sorted(path for path in files if path.stem == chapter or path.stem not in CHAPTERS)


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


def describe(run: Run, card: str = "") -> str:
    """The plan of a run in words and a table; nothing is run, and no model is fetched.

    Args:
        card: the name of a GPU that is planned for instead of what is here; see `pace.CARDS`.

    Raises:
        PrefdynError: the work cannot fit in memory; no such card.
    """
    if not run.values["measure"]:
        return f"{run.chapter}: nothing is measured, the page shows the reference edition alone"
    name = loading.full_name(run.values["model"])
    size, work = plan.model_size(name), run.work()
    where, device, free, seconds, workers = _place(run, name, size, card)
    plan.check_memory(work, name, size, device, _shard(), free)
    known = loading.KNOWN.get(name)
    fetch = f", {known.download:.0f} MiB to fetch" if known and not loading.is_cached(name) else ""
    head = [
        f"{run.chapter}: the plan (nothing is run)",
        f"model   {name}: {size.parameters / 1e6:.1f}M parameters{fetch}",
        f"data    {run.values['data']}: {plan.book_data(run.values['data'])}",
        f"device  {where}, {free / 2**30:.1f} GiB free",
        "",
        plan.table(work, size, device, seconds, free, workers, _shard()).to_string(
            index=False, float_format=lambda value: f"{value:.1f}"
        ),
        "",
        "parameters: " + ", ".join(f"{key}={value}" for key, value in run.values.items() if key != "output"),
    ]
    return "\n".join(head)


def _place(
    run: Run, name: str, size: plan.Size, card: str
) -> tuple[str, torch.device, float, plan.Seconds, int]:
    """Where a run is planned for, in words; its device, the bytes that one has free, its pace, and how many
    workers share the trainings.
    """
    shard, on = _shard(), os.environ.get("PREFDYN_ON", "")
    spread = f"{shard} x " if shard > 1 else ""
    if card:
        about = pace.card(card)
        seconds = pace.CardPace(about, size)
        where = f"{spread}{card}, not here: minutes are estimates, of {pace.SHARE:.0%} of its published speed"
        return where, torch.device("cuda"), about.memory, seconds, 1
    device = devices.choose_device(run.values["device"])
    precision = devices.choose_precision(device, run.values["precision"])
    where = f"{spread}{device}, {precision} products"
    workers, threads = 1, 0
    if on == "ray":
        from prefdyn.experiments import ray_tasks

        workers, threads = ray_tasks.workers_here(size, device)
        where += f", {workers} workers of a Ray"
    elif on:
        where += f", one worker of the Ray at {on}: more share the trainings"
    return where, device, plan.free_memory(device), pace.Pace(size, device, precision, threads), workers


def run_chapter(run: Run, progress: bool = True) -> bool:
    """Run a chapter unless its run is up to date; returns whether it ran.

    What it leaves takes the place of an earlier run's when it is whole.

    Raises:
        PrefdynError: the work cannot fit in memory, a cell failed, or the disk is full.
    """
    if run.is_done():
        tidy(run.folder)
        return False
    if run.values["measure"]:
        _fetch(run)
    with atomic_folder(run.folder) as made:
        if run.is_done():  # by another process, that was waited for
            return False
        key = run.key()
        nbformat.write(_papermill(run, made, progress), made / run.notebook.name)
        write_note(run, key, made)
        _keep_others(run, made)
    return True


def write_note(run: Run, key: str, folder: Path) -> None:
    """Note in a folder what run it holds, and the checksums of all files there."""
    about = {"key": key, "settings": run.settings, "files": checksums(folder)}
    (folder / NOTE).write_text(json.dumps({**about, "seal": _seal(about)}, indent=1), encoding="utf-8")


def _keep_others(run: Run, made: Path) -> None:
    """Copy, from the folder that is about to be replaced, what no run left there."""
    left = {NOTE, run.notebook.name, *run.noted().get("files", {})}
    for path in run.folder.glob("*"):
        ours = path.name in left or (path.suffix == ".csv" and is_measured(path))
        if not ours and not (made / path.name).exists():
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, made / path.name)


def _fetch(run: Run) -> None:
    """Have the run's model at hand, and see that its work fits."""
    name = loading.full_name(run.values["model"])
    known = loading.KNOWN.get(name)
    with _FETCHING:
        if known and known.terms:
            print(f"prefdyn: {known.terms}", flush=True)
        loading.fingerprint(name)  # fetches the model, if need be, where the user sees it
    device = devices.choose_device(run.values["device"])
    plan.check_memory(run.work(), name, plan.model_size(name), device, _shard())


def _shard() -> int:
    """Over how many processes chapters spread the model; see `schedule.spread`."""
    return int(os.environ.get("PREFDYN_SHARD") or 1)


def _papermill(run: Run, folder: Path, progress: bool) -> nbformat.NotebookNode:
    """The executed chapter, whose tables go to a folder."""
    import papermill
    from papermill.translators import translate_parameters
    from traitlets.config import Config

    notebook = jupytext.read(run.source)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    try:
        with _connection(run) as connection:
            # One that ends its Ray takes its time.
            manager = {"connection_file": str(connection), "shutdown_wait_time": 60.0}
            made = papermill.execute_notebook(
                notebook,
                None,
                parameters={**run.values, "output": str(folder)},
                cwd=run.root,
                kernel_name="python3",
                progress_bar={"desc": run.chapter} if progress else False,
                log_output=False,
                stdout_file=_Terminal(),
                stderr_file=_Terminal(),
                config=Config(KernelManager=manager),
                extra_arguments=["--log-level=CRITICAL"],  # else it warns of its start and its end
            )
    except papermill.PapermillExecutionError as error:
        reason = f"{error.evalue}" if error.ename == "PrefdynError" else f"{error.ename}: {error.evalue}"
        raise PrefdynError(
            f"the chapter {run.chapter} stopped in its cell {error.exec_count}: {reason}"
        ) from error
    except RuntimeError as error:  # nbclient's DeadKernelError, or jupyter_client's before it answered
        raise KernelDied(
            f"the chapter {run.chapter} stopped because its kernel died, most often for lack of memory"
        ) from error
    made.metadata.pop("papermill")
    for cell in made.cells:
        if "outputs" in cell:
            said = map(_without_messages, cell.outputs)
            cell.outputs = [output for output in said if output.get("text", "a figure or a table")]
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.source = translate_parameters("python3", "python", _shown(run.values), "Parameters")
            cell.metadata["tags"].append("hide-input")
            those = "this run" if run.values["measure"] else "a page that ran nothing"
            cell.metadata["mystnb"] = {
                "code_prompt_show": f"Show the values of {those}",
                "code_prompt_hide": f"Hide the values of {those}",
            }
    return made


def _shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as others may see them: no path of this machine."""
    own = {name: public_name(value) if isinstance(value, str) else value for name, value in values.items()}
    return {**own, "output": ""}


@contextmanager
def _connection(run: Run) -> Iterator[Path]:
    """A file for the address of the run's kernel. Of a run that was killed, it is removed by the next one."""
    prefix = f"prefdyn-{hashlib.sha256(str(run.folder.resolve()).encode()).hexdigest()[:12]}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        yield Path(folder) / "kernel.json"


class _Terminal:
    """What the library says inside a kernel goes to the terminal."""

    def write(self, text: str) -> None:
        for line in text.splitlines():
            if line.startswith(SAYS):
                tqdm.write(line)

    def flush(self) -> None:
        sys.stdout.flush()


def _without_messages(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A cell's output without what went to the terminal: it names this machine's folders."""
    if output.output_type == "stream":
        lines = output.text.splitlines(keepends=True)
        output.text = "".join(line for line in lines if not line.startswith(SAYS))
    return output
