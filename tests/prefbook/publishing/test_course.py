"""The notebooks for a class: solutions pass their checks, wrong answers do not, and the notebooks hold what
they should.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import resource
import zipfile
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from nbformat.v4 import new_code_cell
from otter.api import grade_submission
from otter.test_files import GradingResults

from prefbook import command_line as cli
from prefbook.project import chapters
from prefbook.publishing import course, grading
from prefdyn.errors import PrefdynError

ROOT = Path(__file__).parents[3]
CHAPTERS = chapters(ROOT)
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS)

SHARP = 'settings = {"60°, γ = 1/4": noisy.Cloud(1.0, np.pi / 3, 32)}\nper_label, trials = 40, 200\n'
"""An experiment of chapter 3 that is checked in a second, and in which the accuracies differ."""

WRONG = {
    "ex-ac-code": {
        "what is left": (
            "partials = {name: (rho.left('δ', name, held[name]).value, *row[1:])"
            " for name, row in partials.items()}"
        ),
        "no intervals": "partials = {outcome: (row[0],) * 3 for outcome, row in partials.items()}",
        "an outcome short": "partials.pop('left out')",
    },
    "ex-code": {
        "one row's distance": "distance = distance / np.sqrt(2)",
        "labels not centred": (
            "descend = lambda g, s, steps, rate, strength: rate * strength * (s @ g) * min(steps, 1)"
        ),
        "sign of the sigmoid": (
            "def descend(g, s, steps, rate, strength):\n"
            "    u = np.zeros(g.shape[1])\n"
            "    for _ in range(steps):\n"
            "        r = 2 * strength * s * (g @ u)\n"
            "        u += rate * strength / len(s) * (s / (1 + np.exp(-r))) @ g\n"
            "    return u"
        ),
        "nothing": "descend = None",
    },
    "ex-weights": {
        "equal": "fair = np.ones(3)",
        "by the squares alone": "fair = 1 / (three**2).sum(axis=1); fair = 3 * fair / fair.sum()",
        "not scaled": "fair = np.linalg.solve(three @ three.T, np.ones(3))",
        "nothing": "fair = None",
    },
    "ex-halves": {
        "not ranked": "agreement = (large - small)['projected δ'].corr((large - small)['fall']) + 1e-6",
        "the other way": "agreement = -agreement",
        "of one half": "agreement = large['projected δ'].rank().corr(large['fall'].rank()) + 1e-6",
        "nothing": "agreement = None",
    },
    "ex-gn-dense": {
        "no factor 1/N": (
            "dense = solve_ivp(lambda t, r: strength**2 * C @ expit(-r), (0, end), 0 * C[0],"
            " t_eval=solution.times).y.T"
        ),
        "features alone": "C = samples.features @ samples.features.T",
        "times in columns": "dense = dense.T",
        "straight lines": "dense = solution.times[:, None] / end * dense[-1]",
    },
    "ex-gn-law": {
        "slopes of one half": "left = np.array([1, 0.7, 0.55, 0.475, 0.4375])",
        "answers of their own": "left = 1 / np.array([1, 2, 4, 8, 16])",
        "margins, not ratios": "left = left * margin_among(1)",
        "another order": "left = left[::-1]",
    },
    "ex-gn-rare": {
        "the common label": "rare_rates = np.array([rare_rate(1 - q) for q in (0.5, 0.4, 0.25, 0.1)])",
        "another length": "rare_rates = np.array([rare_rate(q, 1.0) for q in (0.5, 0.4, 0.25, 0.1)])",
        "of the common label": "crossing = 1 - crossing",
    },
    "ex-nz-code": {
        "the clean accuracy": (
            f"{SHARP}noisy_accuracy, quarter_accuracy = "
            "accuracy_of(0.0, per_label), accuracy_of(0.0, per_label // 4)"
        ),
        "all of the points": (
            f"{SHARP}noisy_accuracy, quarter_accuracy = "
            "accuracy_of(0.25, per_label), accuracy_of(0.0, per_label)"
        ),
        "means alone": (
            f"{SHARP}noisy_accuracy, quarter_accuracy = "
            "accuracy_of(0.25, per_label).mean(), accuracy_of(0.0, per_label // 4).mean()"
        ),
    },
    "ex-ra-code": {
        "a position late": (
            "each = log_softmax(logits, axis=-1)[range(before, len(whole_ids)), whole_ids[before:]]"
        ),
        "the prompt too": "each = np.concatenate([each, each[:1]])",
        "another order": "each = each[::-1]",
        "share of the tokens": "share = 5 / len(each)",
    },
}
"""Wrong answers for every check: code that runs after the solution."""


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[course.Audience, Path]:
    return course.write_notebooks(ROOT, tmp_path_factory.mktemp("a course"))


@functools.cache
def exercises(chapter: str) -> list[course.Exercise]:
    return course.exercises(ROOT / "book" / f"{chapter}.md")


def checked(chapter: str) -> list[str]:
    """The exercises of a chapter that have a check."""
    return [exercise.label for exercise in exercises(chapter) if exercise.kind == "Code"]


def read(
    folders: dict[course.Audience, Path], audience: course.Audience, chapter: str
) -> nbformat.NotebookNode:
    return nbformat.read(folders[audience] / f"{chapter}.ipynb", as_version=4)


# Executed where students would, without a model ---------------------------------------------------


def execute(notebook: nbformat.NotebookNode, chapter: str, folder: Path) -> nbformat.NotebookNode:
    """In small sizes, on the tables of the reference edition."""
    profile = yaml.safe_load((ROOT / "book" / "profiles" / "smoke.yml").read_text(encoding="utf-8"))
    nbformat.write(notebook, folder / "source.ipynb")
    papermill.execute_notebook(
        folder / "source.ipynb",
        folder / "done.ipynb",
        {**profile[chapter], "measure": False},
        cwd=folder,
        kernel_name="python3",
        progress_bar=False,
        start_timeout=600,
    )
    return nbformat.read(folder / "done.ipynb", as_version=4)


TELL = "import json\nprint(json.dumps(shares))"


def answered(folders: dict[course.Audience, Path], chapter: str) -> nbformat.NotebookNode:
    """The instructors' notebook with every wrong answer after the solution; it ends with what each gets."""
    notebook = read(folders, "instructor", chapter)
    cells = [new_code_cell("shares = {}")]
    for cell in notebook.cells:
        if found := re.search(r'grader\.check\("([\w-]+)"\)', cell.source):
            begin, _, _ = cell.source.rpartition("\n")  # makes the grader, in a notebook's first check
            cells += [new_code_cell(code) for code in (begin, *answers(found[1]))]
        else:
            cells.append(cell)
    notebook.cells = [*cells, new_code_cell(TELL)]
    return notebook


def answers(exercise: str) -> list[str]:
    """Cells that check the solution, then each wrong answer, which begins from the solution; `shares` keeps
    what each gets of the points.
    """
    share, restore = f"shares['{exercise}']", "globals().update(solved)"
    cells = [
        "solved = {name: value for name, value in globals().items() if name != 'solved'}",
        f"{share} = {{'solution': grader.check('{exercise}').grade}}",
    ]
    for name, code in WRONG[exercise].items():
        cells += [f"{code}\n{share}[{name!r}] = grader.check('{exercise}').grade", restore]
    return cells


def shares_of(made: nbformat.NotebookNode) -> dict[str, dict[str, float]]:
    """What each answer got of the points of its exercise; the solution has all of them."""
    (said,) = [cell.outputs[0].text for cell in made.cells if cell.source == TELL]
    shares: dict[str, dict[str, float]] = json.loads(said)
    for exercise, of in shares.items():
        assert of.pop("solution") == 1 and set(of) == set(WRONG[exercise])
        assert max(of.values()) < 1, (exercise, of)
    return shares


@each_chapter
def test_checks_take_solutions_and_no_wrong_answer(
    folders: dict[course.Audience, Path], chapter: str
) -> None:
    made = execute(answered(folders, chapter), chapter, folders["instructor"])
    assert set(shares_of(made)) == set(checked(chapter))


def test_student_notebook_runs_and_its_check_says_what_is_missing(
    folders: dict[course.Audience, Path],
) -> None:
    made = execute(read(folders, "student", "noise"), "noise", folders["student"])
    (check,) = [cell for cell in made.cells if cell.cell_type == "code" and "grader.check" in cell.source]
    assert "Both need one accuracy" in str(check.outputs) and "results" in str(check.outputs)
    with zipfile.ZipFile(folders["student"] / "noise.zip") as packed:  # by its last cell
        assert "noise.ipynb" in packed.namelist()


def stored(code: str) -> set[str]:
    """Names that code binds at its top."""
    tree = ast.parse(code)
    bound = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {alias.asname or alias.name for alias in node.names}
    return bound


@each_chapter
def test_no_cell_of_a_chapter_needs_a_solution(folders: dict[course.Audience, Path], chapter: str) -> None:
    """So what runs in the instructors' notebook runs in the students'."""
    own = [cell.source for cell in read(folders, "student", chapter).cells if cell.cell_type == "code"]
    bound = set().union(*map(stored, own))
    solved = set().union(*(stored(code) for exercise in exercises(chapter) for code in exercise.code()))
    for source in own:
        used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
        assert not used & (solved - bound), source


@each_chapter
def test_check_asks_for_what_the_exercise_names_and_the_page_has(
    folders: dict[course.Audience, Path], chapter: str
) -> None:
    own = [cell.source for cell in read(folders, "student", chapter).cells if cell.cell_type == "code"]
    bound = set().union(*map(stored, own))
    for exercise in exercises(chapter):
        if exercise.label in checked(chapter):
            code = (ROOT / "book" / "checks" / f"{exercise.label}.py").read_text(encoding="utf-8")
            tests = [node for node in ast.parse(code).body if getattr(node, "decorator_list", None)]
            asked = {argument.arg for test in tests for argument in test.args.args}
            assert asked, exercise.label
            assert asked <= bound | set(re.findall(r"`([^\W\d]\w*)", exercise.text)), exercise.label


# Autograders --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def autograders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grading.write_autograders(ROOT, tmp_path_factory.mktemp("the graders"))


def grade(autograders: Path, chapter: str, notebook: Path) -> GradingResults:
    return grade_submission(str(notebook), str(autograders / f"{chapter}.zip"))


def points(graded: GradingResults) -> dict[str, float]:
    """The share of its points that each exercise gets."""
    return {name: result.score / result.possible for name, result in graded.results.items()}


@each_chapter
def test_autograder_gives_solutions_all_points_within_a_minute_and_prints_the_score(
    folders: dict[course.Audience, Path],
    autograders: Path,
    chapter: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A minute of a processor, whatever else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    graded = grade(autograders, chapter, folders["instructor"] / f"{chapter}.ipynb")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert points(graded) == dict.fromkeys(checked(chapter), 1)
    assert re.search(r"^Total Score: (\d+)\.000 / \1\.000 \(100\.000%\)$", capsys.readouterr().out, re.M)
    taken = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
    assert 1 < taken < 60, f"{taken:.0f} s"


def test_autograder_gives_wrong_answers_fewer_points(
    folders: dict[course.Audience, Path], autograders: Path, tmp_path: Path
) -> None:
    """All are checked in one grading. Of the checks of an exercise the last counts for its points."""
    nbformat.write(answered(folders, "noise"), tmp_path / "noise.ipynb")
    graded = grade(autograders, "noise", tmp_path / "noise.ipynb")
    for exercise, of in shares_of(graded.notebook).items():
        assert points(graded)[exercise] == pytest.approx(list(of.values())[-1])
    assert graded.total < graded.possible


def test_notebook_of_another_chapter_is_refused(
    folders: dict[course.Audience, Path], autograders: Path
) -> None:
    with pytest.raises(Exception, match="Received submission for assignment 'across'"):
        grade(autograders, "noise", folders["student"] / "across.ipynb")


# What stands in the notebooks ---------------------------------------------------------------------


@each_chapter
def test_chapter_has_all_four_kinds_of_exercise(chapter: str) -> None:
    assert {exercise.kind for exercise in exercises(chapter)} == set(course.KINDS)


@each_chapter
def test_audiences_differ_in_answers_alone(folders: dict[course.Audience, Path], chapter: str) -> None:
    student, instructor = (
        [
            (cell.cell_type, cell.source, dict(cell.metadata))
            for cell in read(folders, audience, chapter).cells
        ]
        for audience in ("student", "instructor")
    )
    answers = ("# Your code.", "*Your answer.*")
    whole = iter(instructor)
    assert all(cell in whole for cell in student if cell[1] not in answers)  # in the same order
    written = "\n".join(source for _, source, _ in student)
    assert "Solution" not in written
    for exercise in exercises(chapter):
        for code in exercise.code():
            lines = {line.strip() for line in code.splitlines() if len(line.strip()) > 30}
            assert [line for line in lines if line in written] == [], exercise.label
    solved = [source for _, source, _ in instructor if source == "**Solution.**"]
    assert len(solved) == len(exercises(chapter))


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
    assert len(starts) == len(exercises(chapter))
    for start, end, exercise in zip(starts, [*starts[1:], None], exercises(chapter), strict=True):
        between = [(cell.cell_type, cell.source) for cell in cells[start:end]]
        to_write_in = [cell for cell in between if cell[1] in ("# Your code.", "*Your answer.*")]
        assert [kind for kind, _ in to_write_in] == [course.KINDS[exercise.kind]]
        after = between[between.index(to_write_in[0]) + 1 :]
        check = f'grader.check("{exercise.label}")'
        assert [check in source for _, source in after].count(True) == (exercise.kind == "Code")
        assert exercise.kind != "Code" or check in after[0][1]


@each_chapter
def test_instructors_get_the_solution_as_code(folders: dict[course.Audience, Path], chapter: str) -> None:
    sources = [cell.source for cell in read(folders, "instructor", chapter).cells if cell.cell_type == "code"]
    for exercise in exercises(chapter):
        assert bool(exercise.code()) == (course.KINDS[exercise.kind] == "code"), exercise.label
        assert set(exercise.code()) <= set(sources)


@each_chapter
def test_text_is_plain_markdown(folders: dict[course.Audience, Path], chapter: str) -> None:
    for audience in folders:
        for cell in read(folders, audience, chapter).cells:
            if cell.cell_type == "markdown":
                left = r"\{[\w:-]+\}`|^(```|:::)\{|^\$\$ \(|^\([\w-]+\)=$|^\* - |\bthe \*The "
                assert not re.search(left, cell.source, re.M), cell.source


@each_chapter
def test_parameters_can_be_set_and_figures_have_their_captions(
    folders: dict[course.Audience, Path], chapter: str
) -> None:
    cells = read(folders, "student", chapter).cells
    (parameters,) = [cell for cell in cells if cell.metadata.get("tags") == ["parameters"]]
    assert "measure: bool = False" in parameters.source, "a class begins without a model"
    captions = [cell for cell in cells if re.match(r"\*\*Figure \d\.\d+\.\*\*", cell.source)]
    source = (ROOT / "book" / f"{chapter}.md").read_text(encoding="utf-8")
    assert len(captions) == len(re.findall(r"^ +name: fig-", source, re.M)) >= 2


def test_every_check_belongs_to_an_exercise() -> None:
    files = {path.stem for path in (ROOT / "book" / "checks").glob("*.py")}
    assert files == {label for chapter in CHAPTERS for label in checked(chapter)} == set(WRONG)
    for label in files:
        assert f'name = "{label}"' in (ROOT / "book" / "checks" / f"{label}.py").read_text(encoding="utf-8")


def test_a_notebook_that_was_written_in_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "chapters", lambda root: ["noise"])
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


def test_what_a_teacher_keeps_beside_the_notebooks_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (course, grading):
        monkeypatch.setattr(module, "chapters", lambda root: ["noise"])
    names = ("syllabus.pdf", "week 1/answers.ipynb", "noise of Ada.zip", "tests/mine.py", "mine.ipynb")
    folders = ("student", "instructor", "autograders")
    own = [tmp_path / folder / name for folder in folders for name in names]
    for path in own:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    course.write_notebooks(ROOT, tmp_path)
    grading.write_autograders(ROOT, tmp_path / "autograders")
    assert all(path.read_text() == "mine" for path in own)
    assert (tmp_path / "student" / "tests" / "ex-nz-code.py").is_file()
    assert (tmp_path / "autograders" / "noise.zip").is_file()


# Sources ------------------------------------------------------------------------------------------

HEAD = "---\nkernelspec: {name: python3, display_name: Python 3, language: python}\n---\n"
EXERCISE = HEAD + "```{exercise}\n:label: ex-a\n\n**Code.** It.\n```\n\n"


def test_solution_with_code_is_taken_from_between_its_gates(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        f"{EXERCISE}```{{solution-start}} ex-a\n:class: dropdown\n```\n\nFirst.\n\n"
        "```{code-cell} python3\nx = 1\n```\n\nThen.\n\n```{solution-end}\n```\n\nAfter.\n"
    )
    (exercise,) = course.exercises(page)
    assert exercise.code() == ["x = 1"]
    assert [piece for piece in exercise.solution if isinstance(piece, str)] == ["First.", "Then."]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (EXERCISE, "'ex-a' has no solution"),
        (EXERCISE.replace("**Code.**", "Code:"), r"'ex-a' begins with none of \*\*Prove"),
        (f"{EXERCISE}```{{solution-start}} ex-a\n```\n\nIt.\n", "the solution of ex-a does not end"),
    ],
)
def test_malformed_exercise_is_named(tmp_path: Path, text: str, message: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(PrefdynError, match=message):
        course.exercises(page)


# The command --------------------------------------------------------------------------------------


def test_command_makes_notebooks_and_autograders_and_says_what_slides_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (*grading.BOOK, "requirements.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["course"]) == 0
    made = {
        path.relative_to(tmp_path / "_build" / "course").as_posix()
        for path in (tmp_path / "_build" / "course").rglob("*.*")
    }
    assert {
        f"{audience}/{chapter}.ipynb" for audience in ("student", "instructor") for chapter in CHAPTERS
    } <= made
    assert {f"student/tests/{label}.py" for label in WRONG} <= made
    assert {f"autograders/{chapter}.zip" for chapter in CHAPTERS} <= made
    said = capsys.readouterr().out
    assert "no slides" in said and "prefdyn build" in said


def test_command_takes_the_slides_of_the_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("book", "_config.yml"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(course, "write_notebooks", lambda root, output: {})
    monkeypatch.setattr(grading, "write_autograders", lambda root, output: output)
    slides = tmp_path / "_build" / "html" / "slides"
    slides.mkdir(parents=True)
    (slides / "noise.html").write_text("of the site")
    assert cli.main(["course", "--output", "elsewhere"]) == 0
    assert "the slides are in elsewhere/slides" in capsys.readouterr().out
    assert (tmp_path / "elsewhere" / "slides" / "noise.html").read_text() == "of the site"
