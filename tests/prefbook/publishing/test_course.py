"""The teaching kit: solutions pass their checks, wrong answers do not, and notebooks and slides hold what
they should.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
import yaml
from conftest import ROOT
from nbformat.v4 import new_code_cell

from prefbook import command_line as cli
from prefbook.project import chapters
from prefbook.publishing import course, slides
from prefbook.publishing.myst import Directive, References, parts
from prefbook.running.runs import Run
from prefdyn.errors import PrefdynError

CHAPTERS = chapters(ROOT)
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS)

SHARP = 'settings = {"γ = 1/4": noisy.Cloud(1.0, np.pi / 3, 32)}\nper_label, trials = 40, 200\n'
"""Under the smoke profile the accuracies of chapter 3 are near chance, and hardly differ: an experiment in
which they do.
"""

WRONG = {
    "ex-ac-code": {
        "what is left": "partials = {name: (rho.left('δ', name, held[name]).value, *row[1:]) for name, row in partials.items()}",
        "no intervals": "partials = {outcome: (row[0],) * 3 for outcome, row in partials.items()}",
        "an outcome short": "partials.pop('left out')",
    },
    "ex-code": {
        "one row's distance": "distance = distance / np.sqrt(2)",
        "labels not centred": "descend = lambda g, s, steps, rate, strength: rate * strength * (s @ g) * min(steps, 1)",
        "sign of the sigmoid": (
            "def descend(g, s, steps, rate, strength):\n"
            "    u = np.zeros(g.shape[1])\n"
            "    for _ in range(steps):\n"
            "        u += rate * strength / len(s) * (s / (1 + np.exp(-2 * strength * s * (g @ u)))) @ g\n"
            "    return u"
        ),
        "nothing": "descend = None",
    },
    "ex-gn-dense": {
        "no factor 1/N": "dense = solve_ivp(lambda t, r: strength**2 * C @ expit(-r), (0, end), 0 * C[0], t_eval=solution.times).y.T",
        "features alone": "C = samples.features @ samples.features.T",
        "times in columns": "dense = dense.T",
        "straight lines": "dense = solution.times[:, None] / end * dense[-1]",
    },
    "ex-nz-code": {
        "the clean accuracy": f"{SHARP}noisy_accuracy, quarter_accuracy = accuracy_of(0.0, per_label), accuracy_of(0.0, per_label // 4)",
        "all of the points": f"{SHARP}noisy_accuracy, quarter_accuracy = accuracy_of(0.25, per_label), accuracy_of(0.0, per_label)",
        "means alone": "noisy_accuracy, quarter_accuracy = noisy_accuracy.mean(), quarter_accuracy.mean()",
    },
    "ex-ra-code": {
        "a position late": "each = torch.log_softmax(logits, -1).cpu()[range(len(before), len(whole_ids)), whole_ids[len(before) :]]",
        "the prompt too": "each = torch.cat([each, each[:1]])",
        "another order": "each = each.flip(0)",
        "share of the tokens": "share = 5 / len(each)",
    },
}
"""Wrong answers for every check: code that runs after the solution."""


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[course.Audience, Path]:
    return course.write_notebooks(ROOT, tmp_path_factory.mktemp("a course"))


def read(
    folders: dict[course.Audience, Path], edition: course.Audience, chapter: str
) -> nbformat.NotebookNode:
    return nbformat.read(folders[edition] / f"{chapter}.ipynb", as_version=4)


def first_exercise(notebook: nbformat.NotebookNode) -> int:
    return next(
        i
        for i, cell in enumerate(notebook.cells)
        if cell.cell_type == "markdown" and cell.source.startswith("**Exercise ")
    )


# Executed, once a chapter and edition, where students would ---------------------------------------


@functools.cache
def smoke_values(chapter: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "book" / "profiles" / "smoke.yml").read_text(encoding="utf-8"))[chapter]


def execute(notebook: nbformat.NotebookNode, chapter: str, folder: Path) -> nbformat.NotebookNode:
    nbformat.write(notebook, folder / "source.ipynb")
    done, values = folder / "done.ipynb", smoke_values(chapter)
    papermill.execute_notebook(
        folder / "source.ipynb",
        done,
        values,
        cwd=folder,
        kernel_name="python3",
        progress_bar=False,
        start_timeout=600,
    )
    return nbformat.read(done, as_version=4)


@pytest.fixture(scope="session")
def taught(
    executed_chapters: dict[str, Run], folders: dict[course.Audience, Path]
) -> dict[str, dict[str, dict[str, float]]]:
    """What the checks give, by chapter, exercise and answer: the instructors' notebooks are run, and wrong
    answers at their end.

    `executed_chapters` has left its results in the cache.
    """
    out: dict[str, dict[str, dict[str, float]]] = {}
    for chapter in CHAPTERS:
        notebook = read(folders, "instructor", chapter)
        cells = ["shares = {}"]
        for exercise in checked(chapter):
            cells += [
                f"solution_of = globals().copy()\nshares['{exercise}'] = {{'solution': grader.check('{exercise}').grade}}"
            ]
            for name, code in WRONG[exercise].items():
                again = "globals().update(solution_of)\n"
                cells += [
                    f"{again}{code}\nshares['{exercise}'][{name!r}] = grader.check('{exercise}').grade\n{again}"
                ]
        cells += ["import json\nprint(json.dumps(shares))"]
        notebook.cells += [new_code_cell(cell) for cell in cells]
        made = execute(notebook, chapter, folders["instructor"])
        out[chapter] = json.loads(made.cells[-1].outputs[0].text)
    return out


def checked(chapter: str) -> list[str]:
    """The exercises of a chapter that have a check."""
    return [
        exercise.label
        for exercise in course.exercises(ROOT / "book" / f"{chapter}.md")
        if exercise.kind == "Code"
    ]


@each_chapter
def test_solutions_run_and_pass_their_checks(
    taught: dict[str, dict[str, dict[str, float]]], chapter: str
) -> None:
    assert checked(chapter)
    assert {exercise: shares["solution"] for exercise, shares in taught[chapter].items()} == dict.fromkeys(
        checked(chapter), 1.0
    )


@each_chapter
def test_checks_fail_on_wrong_answers(taught: dict[str, dict[str, dict[str, float]]], chapter: str) -> None:
    for exercise, shares in taught[chapter].items():
        wrong = {name: share for name, share in shares.items() if name != "solution"}
        assert wrong and max(wrong.values()) < 1, (exercise, wrong)


def test_student_notebook_runs_and_its_check_says_what_is_missing(
    taught: dict[str, Any], folders: dict[course.Audience, Path]
) -> None:
    made = execute(read(folders, "student", "noise"), "noise", folders["student"])
    (check,) = [cell for cell in made.cells if cell.cell_type == "code" and "grader.check" in cell.source]
    assert "Both need one accuracy" in str(check.outputs) and "results" in str(check.outputs)


@each_chapter
def test_editions_are_the_same_up_to_the_first_exercise(
    folders: dict[course.Audience, Path], chapter: str
) -> None:
    """So what ran in the instructors' notebook runs in the students'."""
    student, instructor = (read(folders, edition, chapter) for edition in ("student", "instructor"))
    end = first_exercise(student)
    assert end == first_exercise(instructor) > 10
    assert student.cells[:end] == instructor.cells[:end]


# What stands in the notebooks ---------------------------------------------------------------------


@each_chapter
def test_chapter_has_all_four_kinds_of_exercise(chapter: str) -> None:
    assert {exercise.kind for exercise in course.exercises(ROOT / "book" / f"{chapter}.md")} == set(
        course.KINDS
    )


@each_chapter
def test_no_solution_is_left_for_students(folders: dict[course.Audience, Path], chapter: str) -> None:
    student, instructor = (read(folders, edition, chapter) for edition in ("student", "instructor"))
    written = "\n".join(cell.source for cell in student.cells)
    chapters_own = "\n".join(cell.source for cell in student.cells[: first_exercise(student)])
    for exercise in course.exercises(ROOT / "book" / f"{chapter}.md"):
        lines = {line.strip() for line in exercise.solution.splitlines() if len(line.strip()) > 12}
        assert lines
        assert [line for line in lines if line in written and line not in chapters_own] == [], exercise.label
    assert "Solution" not in written
    solved = [cell for cell in instructor.cells if cell.source.startswith("**Solution.**")]
    assert len(solved) == len(course.exercises(ROOT / "book" / f"{chapter}.md"))


@each_chapter
def test_every_exercise_has_a_cell_to_write_in_and_code_a_check(
    folders: dict[course.Audience, Path], chapter: str
) -> None:
    cells = read(folders, "student", chapter).cells
    starts = [
        i
        for i, cell in enumerate(cells)
        if cell.cell_type == "markdown" and cell.source.startswith("**Exercise ")
    ]
    exercises = course.exercises(ROOT / "book" / f"{chapter}.md")
    assert len(starts) == len(exercises)
    for start, exercise in zip(starts, exercises, strict=True):
        answer, check = cells[start + 1], cells[start + 2]
        assert (answer.cell_type, answer.source) in (("code", "# Your code."), ("markdown", "*Your answer.*"))
        assert (answer.cell_type == "code") == (exercise.kind in ("Code", "Explore"))
        assert (f'grader.check("{exercise.label}")' in check.source) == (exercise.kind == "Code")


@each_chapter
def test_instructors_get_the_solution_as_code(folders: dict[course.Audience, Path], chapter: str) -> None:
    sources = [cell.source for cell in read(folders, "instructor", chapter).cells if cell.cell_type == "code"]
    pieces = [
        code for exercise in course.exercises(ROOT / "book" / f"{chapter}.md") for code in exercise.code()
    ]
    assert len(pieces) >= 2 and set(pieces) <= set(sources)


@each_chapter
def test_text_is_plain_markdown(folders: dict[course.Audience, Path], chapter: str) -> None:
    for edition in folders:
        for cell in read(folders, edition, chapter).cells:
            if cell.cell_type == "markdown":
                assert not re.search(r"\{[\w:-]+\}`|^(```|:::)\{|^\$\$ \(", cell.source, re.M), cell.source


def test_every_check_belongs_to_an_exercise() -> None:
    files = {path.stem for path in (ROOT / "book" / "checks").glob("*.py")}
    assert files == {label for chapter in CHAPTERS for label in checked(chapter)} == set(WRONG)
    for label in files:
        assert f'name = "{label}"' in (ROOT / "book" / "checks" / f"{label}.py").read_text(encoding="utf-8")


def test_a_notebook_that_was_written_in_is_kept(tmp_path: Path) -> None:
    folder = course.write_notebooks(ROOT, tmp_path)["student"]
    made = nbformat.read(folder / "noise.ipynb", as_version=4)
    next(cell for cell in made.cells if cell.cell_type == "code").outputs = [
        nbformat.v4.new_output("stream", text="run")
    ]
    nbformat.write(made, folder / "noise.ipynb")
    course.write_notebooks(ROOT, tmp_path)  # running it is not writing in it
    next(cell for cell in made.cells if cell.source == "# Your code.").source = "answer = 42"
    nbformat.write(made, folder / "noise.ipynb")
    with pytest.raises(PrefdynError, match=r"noise\.ipynb was written in"):
        course.write_notebooks(ROOT, tmp_path)
    assert "answer = 42" in (folder / "noise.ipynb").read_text(encoding="utf-8")


# MyST ---------------------------------------------------------------------------------------------


def test_directives_are_told_from_text_and_from_code_in_them() -> None:
    text = "before\n\n````{solution} ex-a\n:class: dropdown\n\n```python\nx = 1\n```\nafter\n````\n\nend"
    assert list(parts(text)) == [
        "before",
        Directive("solution", "ex-a", {"class": "dropdown"}, "```python\nx = 1\n```\nafter"),
        "end",
    ]


def test_exercise_without_a_solution_or_a_kind_is_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```{exercise}\n:label: ex-a\n\n**Prove.** It.\n```\n")
    with pytest.raises(PrefdynError, match="'ex-a' has no solution"):
        course.exercises(page)
    page.write_text("```{exercise}\n:label: ex-a\n\nProve it.\n```\n")
    with pytest.raises(PrefdynError, match=r"'ex-a' begins with none of \*\*Prove"):
        course.exercises(page)


def labels(chapter: str, *kinds: str) -> set[str]:
    """The labels of some kinds in a chapter's source: fig, thm, def, ex, eq."""
    source = (ROOT / "book" / f"{chapter}.md").read_text(encoding="utf-8")
    return set(re.findall(rf"^(?: *name: |:label: |\$\$ \()((?:{'|'.join(kinds)})-[\w-]+)", source, re.M))


@pytest.mark.site
@each_chapter
def test_numbers_are_those_of_the_site(html: Path, chapter: str) -> None:
    from bs4 import BeautifulSoup

    page = BeautifulSoup((html / "book" / f"{chapter}.html").read_text(encoding="utf-8"), "html.parser").find(
        "article"
    )
    words = References(ROOT).words
    captions = (
        (box["id"], box.select_one(".caption-number"))
        for box in page.select("figure[id], div.proof[id], div.exercise[id]")
    )
    shown = {label: number.text.strip() for label, number in captions if number}
    shown |= {
        box["id"].removeprefix("equation-"): box.select_one(".eqno").text.rstrip("#")
        for box in page.select("div.math[id]")
    }
    assert set(shown) == labels(chapter, "fig", "thm", "def", "ex", "eq")
    assert {label: words[label] for label in shown} == shown


# Slides -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def decks(html: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pages = {chapter: html / "book" / f"{chapter}.html" for chapter in CHAPTERS}
    made = slides.write_slides(pages, ROOT / "book" / "slides.html", tmp_path_factory.mktemp("the slides"))
    return dict(zip(CHAPTERS, made, strict=True))


OVERFLOWING = """() => [...document.querySelectorAll('.frame')].flatMap((frame, number) => {
  Reveal.slide(number);
  const room = frame.getBoundingClientRect();
  return [...frame.querySelectorAll('*')].filter((node) => {
    const box = node.getBoundingClientRect();
    const out = box.bottom > room.bottom + 1 || box.right > room.right + 1 || box.left < room.left - 1 || box.top < room.top - 1;
    return out && box.width > 0 && !node.closest('mjx-assistive-mml');
  }).map((node) => `${number + 1}: ${node.tagName} ${node.textContent.slice(0, 30)}`);
})"""


@pytest.mark.site
@each_chapter
def test_deck_opens_alone_and_nothing_overflows(browser: Any, decks: dict[str, Path], chapter: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    requests: list[str] = []
    errors: list[str] = []
    page.on(
        "request",
        lambda request: requests.append(request.url) if not request.url.startswith("data:") else None,
    )
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(decks[chapter].as_uri())
    page.evaluate("window.ready")
    assert requests == [decks[chapter].as_uri()] and errors == []
    assert (
        page.evaluate("Reveal.getTotalSlides()")
        == page.locator(".frame").count()
        > len(labels(chapter, "fig", "thm", "def"))
    )
    assert page.evaluate(OVERFLOWING) == []
    assert (
        page.locator("mjx-merror, [data-mjx-error]").count() == 0
        and page.locator("mjx-container").count() > 5
    )
    assert page.locator("section section").count() == 0
    sizes = page.evaluate(
        "[...document.querySelectorAll('.text')].map((text) => parseFloat(getComputedStyle(text).fontSize))"
    )
    assert min(sizes) >= 20
    page.close()


@pytest.mark.site
@each_chapter
def test_deck_has_what_the_chapter_numbers_and_its_ledger(
    decks: dict[str, Path], executed_chapters: dict[str, Run], chapter: str
) -> None:
    from bs4 import BeautifulSoup

    shown = BeautifulSoup(decks[chapter].read_text(encoding="utf-8"), "html.parser").select_one(".slides")
    text = shown.get_text()
    words = References(ROOT).words
    for label in labels(chapter, "fig", "thm", "def"):
        assert re.search(rf"{re.escape(words[label])}(?!\d)", text), label
    claims = json.loads((executed_chapters[chapter].folder / "claims.json").read_text(encoding="utf-8"))
    for claim in claims:
        assert claim["id"] in text and claim["sentence"] in text
        assert all(part["statistic"] in text for part in claim["statistics"])
    assert all(
        image["src"].startswith("data:image/") and len(image["alt"]) > 20 for image in shown.select("img")
    )


# The command --------------------------------------------------------------------------------------


def test_command_makes_notebooks_and_says_what_slides_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("book", "_config.yml", "_toc.yml"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["course"]) == 0
    made = {
        path.relative_to(tmp_path / "_build" / "course").as_posix()
        for path in (tmp_path / "_build" / "course").rglob("*.*")
    }
    assert {
        f"{edition}/{chapter}.ipynb" for edition in ("student", "instructor") for chapter in CHAPTERS
    } <= made
    assert {f"student/tests/{label}.py" for label in WRONG} <= made
    said = capsys.readouterr().out
    assert f"no slides of {', '.join(CHAPTERS)}" in said and "prefdyn book" in said


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        PrefdynError, match="the slides need the package no-such-package: install it with `make course`"
    ):
        slides._package("no_such_package")
