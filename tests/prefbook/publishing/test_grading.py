"""Autograders hold what a chapter needs and no more, and install; the cell that brings the book to Colab can
be run. What they give for answers is in test_course.py.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
import yaml
from installed import build_wheel, call, environment
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from prefbook.project import chapters
from prefbook.publishing import course, grading, repository
from prefdyn.errors import PrefdynError

ROOT = Path(__file__).parents[3]
each_chapter = pytest.mark.parametrize("chapter", chapters(ROOT))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `prefdyn course` makes."""
    output = tmp_path_factory.mktemp("a graded course")
    course.write_notebooks(ROOT, output)
    grading.write_autograders(ROOT, output / "autograders")
    return output


def test_submission_is_run_on_shipped_tables_and_without_what_only_shows() -> None:
    parameters = new_code_cell("measure: bool = True", metadata={"tags": ["parameters"]})
    sources = [
        "chapter.measure(experiments.map)\nchapter.draw(figures.map)",
        "chapter.ledger()",
        "first = chapter.reference\nchapter.draw(figures.map)",
        "mine.draw()",
        "what is (this",
    ]
    cells = [parameters, new_markdown_cell("chapter.draw()"), *map(new_code_cell, sources)]
    mine = new_notebook(cells=cells, metadata={"kernelspec": {"name": "prefdyn", "display_name": "mine"}})
    submission = grading.on_shipped_tables(mine)
    assert submission.metadata["kernelspec"]["name"] == "python3", "a student's kernel is on no grader"
    threads, *done = submission.cells
    assert threads.source == grading.ONE_THREAD
    exec(done[0].source, values := {})
    assert values["measure"] is False
    assert [cell.source for cell in done[1:]] == ["chapter.draw()", "", "", *sources[2:]]


@each_chapter
def test_autograder_has_the_checks_of_its_chapter_and_the_book_at_its_pins(made: Path, chapter: str) -> None:
    page = ROOT / "book" / f"{chapter}.md"
    with zipfile.ZipFile(made / "autograders" / f"{chapter}.zip") as file:
        names = set(file.namelist())
        environment = yaml.safe_load(file.read("environment.yml"))
        settings = json.loads(file.read("otter_config.json"))
    checks = {f"tests/{exercise.label}.py" for exercise in course.exercises(page) if exercise.kind == "Code"}
    assert {name for name in names if name.startswith("tests/")} == checks
    assert {"setup.sh", "run_autograder", "files/_config.yml", f"files/book/{chapter}.md"} <= names
    assert any(name.startswith(f"files/results/reference/{chapter}/") for name in names)
    assert not any("__pycache__" in name for name in names)
    pip = environment["dependencies"][-1]["pip"]
    pinned = set(re.findall(r"^[\w-]+==\S+$", (ROOT / "requirements.txt").read_text(), re.M))
    assert {pin for pin in pinned if not pin.startswith(("pip=", "setuptools=", "wheel="))} <= set(pip)
    assert f"{grading.PLACE}[book]" in pip and settings["assignment_name"] == chapter


def dry_run(arguments: list[str], folder: Path) -> str:
    """What pip would install with all that is installed here, and nothing from anywhere else."""
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*pip, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_gradescope_installs_is_the_book_with_its_extra(made: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(made / "autograders" / "noise.zip") as file:
        file.extractall(tmp_path)
    said = dry_run([f"{tmp_path / 'files'}[book]"], tmp_path)
    assert "Would install prefdyn-" in said


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrefdynError, match=r"requirements\.txt: no such file, and an autograder needs it"):
        grading.write_autograders(tmp_path, tmp_path / "out")
    (tmp_path / "requirements.txt").touch()
    with pytest.raises(PrefdynError, match=r"pyproject\.toml: no such file, and an autograder needs it"):
        grading.write_autograders(tmp_path, tmp_path / "out")


ON_COLAB = """
import sys
import nbformat
from nbclient import NotebookClient
from prefbook.publishing import grading
notebook = grading.on_shipped_tables(nbformat.read(sys.argv[1], as_version=4))
own = "import sys, prefdyn; assert prefdyn.__file__.startswith(sys.prefix), prefdyn.__file__"
notebook.cells.insert(0, nbformat.v4.new_code_cell(own))
NotebookClient(notebook, kernel_name="python3").execute()
print(notebook.cells[-1].outputs)
"""


def test_first_exercise_in_colab_is_checked_after_what_the_first_cell_brings(
    made: Path, tmp_path: Path
) -> None:
    """In an environment that has the wheel and no checkout. The first cell's lines are run one by one; for
    the clone stands a copy, for the index what is installed here.
    """
    notebook = nbformat.read(made / "student" / "distinguishability.ipynb", as_version=4)
    known = repository.Repository("someone", "a-book")
    lines = [
        line
        for line in repository.for_colab(notebook, known).cells[0].source.splitlines()
        if not line.startswith("#")
    ]
    clone, install, make, enter = lines
    assert clone == "!git clone --quiet --depth 1 https://github.com/someone/a-book"
    (tmp_path / "a-book").mkdir()
    for name in (*grading.BOOK, "requirements.txt", "requirements-course.txt"):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, tmp_path / "a-book" / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, tmp_path / "a-book")
    command, *arguments = install.replace('"', "").split()
    assert [command, *arguments[:3]] == ["%pip", "install", "--quiet", "./a-book[book]"]
    assert "Would install prefdyn-" in dry_run(arguments[2:], tmp_path)
    (tmp_path / "source").mkdir()
    wheel = build_wheel(tmp_path / "source")
    programs = environment(tmp_path, wheel)

    assert make == "!cd a-book && prefdyn course"
    done = call([programs / "prefdyn", "course"], tmp_path / "a-book")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / enter.removeprefix("%cd ")
    assert sorted(path.stem for path in folder.glob("*.ipynb")) == chapters(ROOT)

    exercise = next(
        one for one in course.exercises(ROOT / "book" / "distinguishability.md") if one.kind == "Code"
    )
    opened = nbformat.read(folder / "distinguishability.ipynb", as_version=4)
    places = [cell.source for cell in opened.cells]
    check = next(place for place, source in enumerate(places) if f'check("{exercise.label}")' in source)
    assert opened.cells[check - 1].source == "# Your code."
    opened.cells[check - 1].source = "\n".join(exercise.code())
    opened.cells = opened.cells[: check + 1]
    nbformat.write(opened, folder / "mine.ipynb")
    done = call([programs / "python", "-c", ON_COLAB, "mine.ipynb"], folder)
    assert done.returncode == 0, done.stderr
    assert f"{exercise.label} results: All test cases passed!" in done.stdout
