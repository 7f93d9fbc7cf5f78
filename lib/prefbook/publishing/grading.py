"""Autograders: for each chapter one file that Gradescope takes, and with which `otter run` grades at hand.

`otter generate` makes them. An autograder has the chapter's checks, and the book with its shipped tables: a
notebook is graded on those, without a model.
"""

from __future__ import annotations

import ast
import contextlib
import json
import shutil
import tempfile
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from otter import generate
from otter.plugins import AbstractOtterPlugin

from prefbook.project import chapters
from prefbook.publishing import course
from prefdyn.files import atomic_folder, keep_others, needed_for

BOOK = ("pyproject.toml", "README.md", "LICENSE", "lib", "book", "results", "_config.yml", "_toc.yml")
"""What is installed and read where a notebook is graded."""
PLACE = "/autograder/source/files"
"""Where Gradescope unpacks it."""
PYTHON = "3.12"
SHOWN = {"draw", "table", "ledger", "provenance", "measure"}
"""Methods of a chapter that show something, or measure; no answer is made of what they do."""


ONE_THREAD = """
import os
from threadpoolctl import threadpool_limits
os.environ["OMP_NUM_THREADS"] = "1"  # of libraries that are loaded later
threadpool_limits(1)  # of those that the grader has loaded
"""
"""A container often sees more processors than it may use, and threads that wait for one another then take
minutes of them.
"""


class OnShippedTables(AbstractOtterPlugin):
    """Before a submission is executed: see `on_shipped_tables`."""

    def before_execution(self, submission: NotebookNode) -> NotebookNode:
        return on_shipped_tables(submission)


def on_shipped_tables(submission: NotebookNode) -> NotebookNode:
    """A notebook that measures nothing, on one thread, and leaves out the cells that only show a figure or a
    table: most of its time goes there, and no check needs them.
    """
    submission.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
    }  # a grader has no other
    submission.cells.insert(0, new_code_cell(ONE_THREAD))
    for cell in submission.cells:
        if cell.cell_type != "code":
            continue
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += "\nmeasure = False"
        elif _only_shows(cell.source):
            cell.source = ""
    return submission


def _only_shows(code: str) -> bool:
    """Whether code is nothing but calls such as `chapter.draw(figures.map)`."""
    try:
        lines = ast.parse(code).body
    except SyntaxError:  # a student's; executing it says so
        return False
    return bool(lines) and all(isinstance(line, ast.Expr) and _is_shown(line.value) for line in lines)


def _is_shown(call: ast.expr) -> bool:
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "chapter"
        and call.func.attr in SHOWN
    )


def write_autograders(root: Path, output: Path) -> Path:
    """Write an autograder CHAPTER.zip for each chapter; returns their folder, in which what else is there
    stays.

    Raises:
        PrefdynError: a file of the checkout is missing.
    """
    with (
        needed_for("an autograder"),
        atomic_folder(output) as made,
        tempfile.TemporaryDirectory() as stage,
    ):
        pins = [
            line
            for line in (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
            if line and not line.startswith(("#", "-e", "pip=", "setuptools=", "wheel="))
        ]
        for name in BOOK:
            _copy(root / name, Path(stage, name))
        Path(stage, "requirements.txt").write_text("\n".join([f"{PLACE}[book]", *pins]), encoding="utf-8")
        for chapter in chapters(root):
            tests = Path(stage, "tests")
            shutil.rmtree(tests, ignore_errors=True)
            tests.mkdir()
            for exercise in course.exercises(root / "book" / f"{chapter}.md"):
                if exercise.kind == "Code":
                    shutil.copy2(root / "book" / "checks" / f"{exercise.label}.py", tests)
            settings = {
                "assignment_name": chapter,
                "plugins": [f"{__name__}.{OnShippedTables.__name__}"],
                "show_stdout": True,
            }
            Path(stage, "otter_config.json").write_text(json.dumps(settings), encoding="utf-8")
            target = (made / f"{chapter}.zip").resolve()
            with contextlib.chdir(stage):  # it takes files from there alone
                generate.main(output_path=str(target), files=list(BOOK), python_version=PYTHON)
        keep_others(output, made, set())
    return output


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", ".*"))
    else:
        shutil.copy2(source, target)
