"""A chapter run headlessly by papermill: what it leaves takes its place whole, and is not made again while
nothing has changed.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from tqdm import tqdm

from prefbook.ledger.tables import PENDING, is_measured
from prefbook.running.planning import shards
from prefbook.running.runs import NOTE, Run, write_note
from prefdyn.errors import PrefdynError
from prefdyn.experiments import plan
from prefdyn.files import atomic_folder, keep_others, public_name, tidy
from prefdyn.models import devices, loading

SAYS = "prefdyn: "
"""What the library prints for its user begins so."""

logging.getLogger("papermill").addHandler(logging.NullHandler())  # its exceptions say it all

_FETCHING = threading.Lock()
"""Chapters that start together fetch their model once."""


class KernelDied(PrefdynError):
    """A chapter stopped because its kernel died, most often for lack of memory."""


def run_chapter(run: Run, progress: bool = True) -> bool:
    """Run a chapter unless its run is up to date; returns whether it ran.

    What it leaves takes the place of an earlier run's when it is whole; what no run left in the folder stays.

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
        ours = (NOTE, PENDING, run.notebook.name, *run.noted().get("files", {}))
        left = {run.folder / name for name in ours}
        keep_others(run.folder, made, left.union(filter(is_measured, run.folder.glob("*.csv"))))
    return True


def _fetch(run: Run) -> None:
    """Have the run's model at hand, and see that its work fits."""
    name = loading.full_name(run.values["model"])
    known = loading.KNOWN.get(name)
    with _FETCHING:
        if known and known.terms:
            print(f"prefdyn: {known.terms}", flush=True)
        loading.fingerprint(name)  # fetches the model, if need be, where the user sees it
    device = devices.choose_device(run.values["device"])
    plan.check_memory(run.work(), name, plan.model_size(name), device, shards())


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
