"""The teaching kit: from the chapters' sources, notebooks for students and for instructors, with automatic
checks.

A student's notebook has the exercises, and a cell to write in where the solution of each stands on the page;
an instructor's has the solutions, their code ready to run. After an answer in code stands a check by
otter-grader. The check of the exercise LABEL is book/checks/LABEL.py, in Otter's own format.

`otter assign` makes two notebooks of one as well, and was tried: it reads no MyST, drops imports and helpers
of a check, leaves in the students' copy every line of code that is not marked as a solution, and writes over
what was written in.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from prefbook.project import chapters
from prefbook.publishing.myst import Directive, References, figure_caption, parts, pieces
from prefdyn.errors import PrefdynError
from prefdyn.files import atomic_folder, keep_others

Audience = Literal["student", "instructor"]
KINDS = {"Prove": "markdown", "By hand": "markdown", "Code": "code", "Explore": "code"}
"""The kinds of exercise, by the bold words that begin them, and the kind of cell that an answer is written
in.
"""
Piece = str | Directive | NotebookNode


@dataclass(frozen=True)
class Exercise:
    """An exercise of a chapter with its solution.

    Attributes:
        kind: one of `KINDS`.
        text: MyST Markdown.
        solution: text, directives and code cells.
    """

    label: str
    kind: str
    text: str
    solution: Sequence[Piece]

    def code(self) -> list[str]:
        """The code of the solution, in its order."""
        return [piece.source for piece in self.solution if isinstance(piece, NotebookNode)]


def exercises(page: Path) -> list[Exercise]:
    """The exercises of a chapter's source, in its order.

    Raises:
        PrefdynError: one of no known kind, or without a solution; a solution that does not end.
    """
    chapter, solutions = _apart(page)
    out = []
    for part in chapter:
        if not (isinstance(part, Directive) and part.kind == "exercise"):
            continue
        label = part.options.get("label", "")
        kind = re.match(r"\*\*(.+?)\.\*\*", part.body)
        if kind is None or kind[1] not in KINDS:
            words = ", ".join(f"**{name}.**" for name in KINDS)
            raise PrefdynError(f"{page}: the exercise {label!r} begins with none of {words}")
        if label not in solutions:
            raise PrefdynError(
                f"{page}: the exercise {label!r} has no solution: write one under ```{{solution}} {label}, "
                f"or between ```{{solution-start}} {label} and ```{{solution-end}} where it has code"
            )
        out.append(Exercise(label, kind[1], part.body, solutions[label]))
    return out


def _apart(page: Path) -> tuple[list[Piece], dict[str, list[Piece]]]:
    """A page with nothing of its solutions but where they begin, and the solutions by the label of their
    exercise.
    """
    chapter: list[Piece] = []
    solutions: dict[str, list[Piece]] = {}
    inside = ""
    for piece in pieces(page):
        match piece:
            case Directive(kind="solution", title=label, body=body):
                solutions[label] = list(parts(body))
                chapter.append(piece)
            case Directive(kind="solution-start", title=inside):
                solutions[inside] = []
                chapter.append(piece)
            case Directive(kind="solution-end"):
                inside = ""
            case _:
                (solutions[inside] if inside else chapter).append(piece)
    if inside:
        raise PrefdynError(f"{page}: the solution of {inside} does not end: write ```{{solution-end}}")
    return chapter, solutions


def notebook(root: Path, chapter: str, audience: Audience, references: References) -> NotebookNode:
    """A chapter as a notebook for a class, in plain Markdown.

    Args:
        references: with the numbers that the chapter quotes.

    Raises:
        PrefdynError: an exercise is malformed (see `exercises`), or a **Code** exercise has no check.
    """
    page = root / "book" / f"{chapter}.md"
    known = {exercise.label: exercise for exercise in exercises(page)}
    cells: list[NotebookNode] = []
    for piece in _apart(page)[0]:
        if isinstance(piece, Directive) and piece.kind.startswith("solution"):
            exercise = known[piece.title]
            cells += _answer(exercise, audience, references)
            if exercise.kind == "Code":
                cells += _check(root, exercise, first=not any("grader" in cell.source for cell in cells))
        else:
            cells += _cells(piece, references)
    cells += _hand_in(chapter)
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"  # the same at every call
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    made.metadata["otter"] = {"assignment_name": chapter}  # what another chapter's autograder refuses
    made.metadata["prefdyn"] = {"sources": _sources(made)}
    return made


def _sources(made: NotebookNode) -> str:
    """A digest of what is written in the cells, which running them leaves as it is."""
    return hashlib.sha256(json.dumps([cell.source for cell in made.cells]).encode()).hexdigest()


def _markdown(text: str) -> NotebookNode:
    return new_markdown_cell(text.strip())


def _cells(piece: Piece, references: References) -> list[NotebookNode]:
    """Text as it is; a code cell folded where the site folds it, with the caption of its figure. A class sees
    the shipped tables first: then a notebook runs without a model, and in seconds.
    """
    if not isinstance(piece, NotebookNode):
        return [_markdown(references.block(piece))]
    tags = [tag for tag in piece.metadata.get("tags", []) if tag == "parameters"]
    metadata: dict[str, Any] = {"tags": tags} if tags else {}
    if "hide-input" in piece.metadata.get("tags", []):
        metadata["jupyter"] = {"source_hidden": True}
    source = piece.source.replace("measure: bool = True", "measure: bool = False") if tags else piece.source
    made = [new_code_cell(source, metadata=metadata)]
    if caption := figure_caption(piece, references.words):
        made.append(_markdown(references.plain(caption)))
    return made


def _answer(exercise: Exercise, audience: Audience, references: References) -> list[NotebookNode]:
    """A cell to write in, or the solution."""
    if audience == "student":
        return [
            new_code_cell("# Your code.") if KINDS[exercise.kind] == "code" else _markdown("*Your answer.*")
        ]
    cells = [cell for piece in exercise.solution for cell in _cells(piece, references)]
    return [_markdown("**Solution.**"), *cells]


def _check(root: Path, exercise: Exercise, first: bool) -> list[NotebookNode]:
    path = root / "book" / "checks" / f"{exercise.label}.py"
    if not path.is_file():
        raise PrefdynError(
            f"{path}: no such file, and the exercise {exercise.label} needs it: "
            "write a test file of otter-grader there"
        )
    start = 'import otter\n\ngrader = otter.Notebook(tests_dir="tests")\n' if first else ""
    return [new_code_cell(f'{start}grader.check("{exercise.label}")')]


HAND_IN = """## Hand in

Save the notebook first.
The cell below then packs it into a zip file, for Gradescope or for an assignment of Canvas that takes a file.
In Colab it packs nothing: hand in the file of *File → Download → Download .ipynb*."""


def _hand_in(chapter: str) -> list[NotebookNode]:
    """Otter's own export, which a grader's run leaves out; it cannot see a notebook in Colab."""
    code = (
        "import sys\n\n"
        'if "google.colab" not in sys.modules:\n'
        f'    grader.export("{chapter}.ipynb", "{chapter}.zip", pdf=False)'
    )
    return [_markdown(HAND_IN), new_code_cell(code)]


def write_notebooks(root: Path, output: Path) -> dict[Audience, Path]:
    """Write the notebooks of every chapter, each audience in a folder of its own with the checks beside it;
    what else stands in these folders stays.

    Returns:
        The folder of each audience.

    Raises:
        PrefdynError: somebody has written in a notebook that stands there, a chapter's exercises are
            malformed, or a table of the reference edition is missing.
    """
    folders: dict[Audience, Path] = {"student": output / "student", "instructor": output / "instructor"}
    _keep_answers(folder / f"{chapter}.ipynb" for folder in folders.values() for chapter in chapters(root))
    references = References(root)
    quoting = {chapter: references.quoting(chapter) for chapter in chapters(root)}
    for audience, folder in folders.items():
        made = {chapter: notebook(root, chapter, audience, own) for chapter, own in quoting.items()}
        with atomic_folder(folder) as new:
            shutil.copytree(
                root / "book" / "checks", new / "tests", ignore=shutil.ignore_patterns("__pycache__")
            )
            for chapter, cells in made.items():
                nbformat.write(cells, new / f"{chapter}.ipynb")
            keep_others(folder, new, set())
    return folders


def _keep_answers(places: Iterable[Path]) -> None:
    """Refuse to write over a notebook in which somebody has written."""
    for path in filter(os.path.lexists, places):
        try:
            found = nbformat.read(path, as_version=4)
            untouched = found.metadata.get("prefdyn", {}).get("sources") == _sources(found)
        except (OSError, ValueError, AttributeError, nbformat.ValidationError):
            untouched = False
        if not untouched:
            raise PrefdynError(
                f"{path} was written in since it was made: move it, or choose another folder with --output"
            )
