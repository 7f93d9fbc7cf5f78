"""The command line: what it prints, its exit statuses, and one line on stderr for what goes wrong."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mounts
import pytest

import prefdyn
from prefbook import command_line as cli
from prefbook.project import chapters
from prefbook.publishing import site
from prefbook.running import execution, runs, schedule
from prefdyn.errors import PrefdynError
from prefdyn.experiments import CHAPTERS
from prefdyn.models import loading

ROOT = Path(__file__).parents[2]
SCRIPT = Path(sys.executable).with_name("prefdyn")


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty book as the working folder."""
    (tmp_path / "book").mkdir()
    (tmp_path / "_config.yml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def real_book(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(ROOT)
    return ROOT


def one_line(text: str) -> str:
    """The only line of what was said on stderr."""
    (line,) = text.splitlines()
    assert line.startswith("prefdyn: ")
    return line


def leaves(error: BaseException) -> Callable[..., Any]:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    return fail


# What it says of itself ---------------------------------------------------------------------------


def test_help_of_the_installed_script_names_every_command() -> None:
    done = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=True)
    assert all(
        f"\n    {command} " in done.stdout
        for command in ("run", "build", "book", "course", "claims", "crate", "models")
    )
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["run", "build", "book", "course", "claims", "crate", "models"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0 and f"prefdyn {command}" in capsys.readouterr().out


def test_help_of_run_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    said = capsys.readouterr().out
    assert all(
        option in said
        for option in ("--profile", "--data", "--model", "-p NAME VALUE", "--dry-run", "--output", "--quiet")
    )


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out.strip() == prefdyn.__version__


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run", "-p", "steps"], ["claims", "--xml"]])
def test_wrong_usage_is_exit_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2 and "usage: prefdyn" in capsys.readouterr().err


# run ----------------------------------------------------------------------------------------------


def test_dry_run_prints_the_plan_and_runs_nothing(
    real_book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(execution, "run_chapter", leaves(AssertionError("a chapter was run")))
    arguments = [
        "run",
        "distinguishability",
        "--profile",
        "smoke",
        "-p",
        "other_betas",
        "[1e-2]",
        "-p",
        "rates_tried",
        "1e-4",
        "-p",
        "beta",
        "1e-1",
    ]
    assert cli.main([*arguments, "--dry-run", "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "nothing is run" in said.out and "minutes" in said.out
    assert "other_betas=[0.01]" in said.out and "beta=0.1" in said.out
    assert said.err == "" and not (tmp_path / "out").exists()


def test_plan_for_cards_that_are_not_here(real_book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = ["run", "across", "--profile", "smoke", "--card", "h100", "--shard", "8"]
    assert cli.main([*plan, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "8 x h100, not here: minutes are estimates, of 40% of its published speed, 74.5 GiB free" in said
    for arguments, why in (
        (plan, "--card is for a plan"),
        ([*plan, "--dry-run", "--card", "a1"], "'a1' is unk"),
    ):
        assert cli.main(arguments) == 1
        assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--shard", "2", "--on", "ray"], "--on sends trainings to a Ray, --shard spreads a model"),
        (["--card", "h100", "--shard", "-3"], "a model cannot be sharded over -3 devices"),
        (["--shard", "1"], "a model cannot be sharded over 1 devices"),
        (["--on", "far"], "tasks cannot run on 'far'"),
    ],
)
def test_what_no_run_can_do_is_not_planned(
    real_book: Path, words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "across", "--profile", "smoke", "--dry-run", *words]) == 1
    said = capsys.readouterr()
    assert said.out == "" and why in one_line(said.err)


def test_what_the_environment_says_of_a_ray_or_shards_is_the_commands_own(
    real_book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The variables are how a command tells its kernels."""
    monkeypatch.setenv("PREFDYN_ON", "ray")
    monkeypatch.setenv("PREFDYN_SHARD", "abc")
    assert cli.main(["run", "across", "--profile", "smoke", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "nothing is run" in said and "Ray" not in said


def test_run_gives_what_was_chosen_and_tells_what_ran(
    real_book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[runs.Run, bool]] = []

    def run_chapter(run: runs.Run, progress: bool) -> bool:
        seen.append((run, progress))
        return len(seen) == 1

    monkeypatch.setattr(execution, "run_chapter", run_chapter)
    folder = Path(runs.data.SAMPLE)
    arguments = [
        "run",
        "distinguishability",
        "--profile",
        "smoke",
        "--data",
        str(folder),
        "--model",
        "gpt2",
        "-p",
        "steps",
        "7",
    ]
    arguments += ["--output", str(tmp_path)]
    assert cli.main([*arguments, "--quiet"]) == cli.main(arguments) == 0
    run = seen[0][0]
    assert [progress for _, progress in seen] == [False, True]
    assert (run.values["model"], run.values["data"], run.values["steps"], run.values["personas"]) == (
        "gpt2",
        str(folder),
        7,
        6,
    )
    assert run.folder == tmp_path / "distinguishability"
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(f"distinguishability is in {run.folder}") and "is up to date in" in second


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nothing"], ["there is no chapter 'nothing'", "distinguishability"]),
        (["--profile", "big"], ["'big'", "smoke"]),
        (["-p", "stepz", "3"], ["'stepz'", "steps"]),
        (["-p", "steps", "many"], ["steps is 'many'", "int"]),
        (["-p", "steps", "0"], ["steps is 0", "[1, 100000]"]),
        (["-p", "steps", "[1,"], ["steps", "'[1,'"]),
        (["-p", "steps", "9" * 5000], ["steps", "(5002 characters)"]),
        (["-p", "steps", "[" * 5000], ["steps", "(5002 characters)"]),
        (["-p", "beta", "9" * 400], ["beta", "(400 characters)", "(0, 10]"]),
        (["-p", "trained", "3", "-p", "personas", "2"], ["personas is 2", "at least 3"]),
        (["--data", "/nowhere"], ["/nowhere", "anthropic-evals"]),
    ],
)
def test_mistake_is_exit_status_1_and_one_line(
    real_book: Path, arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "distinguishability", *arguments]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert all(part in one_line(said.err) for part in parts)


def test_unknown_chapter_is_one_line_from_the_installed_script() -> None:
    done = subprocess.run([SCRIPT, "run", "nothing"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert "there is no chapter 'nothing'" in one_line(done.stderr)


def test_command_outside_the_book_says_where_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["run"], ["build"], ["book"], ["course"], ["claims"], ["crate"]):
        assert cli.main(command) == 1
        assert "_config.yml and book/" in one_line(capsys.readouterr().err)


# What stops a run ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "stopped; what was finished is kept"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            1,
            "the disk is full: make room, or set PREFDYN_CACHE",
        ),
        (PrefdynError("a sentence"), 1, "prefdyn: a sentence"),
    ],
    ids=["interrupt", "full disk", "library's own"],
)
def test_what_stops_a_run_is_one_line(
    real_book: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    said: str,
) -> None:
    monkeypatch.setattr(execution, "run_chapter", leaves(error))
    assert cli.main(["run", "--profile", "smoke"]) == status
    assert said in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("command", "shut"),
    [
        (["run", "noise", "--profile", "smoke"], "book"),
        (["run", "noise", "--profile", "smoke"], "book/noise.md"),
        (["build"], "results/reference/noise/points.csv"),
        (["build"], "_build"),
    ],
)
def test_what_may_not_be_read_is_one_line_that_names_it(book: Path, command: list[str], shut: str) -> None:
    shutil.copy(ROOT / "book" / "noise.md", book / "book")
    shutil.copytree(ROOT / "book" / "profiles", book / "book" / "profiles")
    (book / "book" / "claims.yml").write_text("{}\n")
    for edition in ("results/reference", "_build/runs"):
        (book / edition / "noise").mkdir(parents=True)
        (book / edition / "noise" / "points.csv").write_text("# profile: smoke\nseed\n0\n")
    (book / shut).chmod(0)
    done = mounts.run_as_anybody([SCRIPT, *command], cwd=book)
    (book / shut).chmod(0o755)
    assert done.returncode == 1
    assert str(book / shut) in one_line(done.stderr) and "Permission denied" in done.stderr


def test_hidden_files_beside_the_pages_are_no_pages(book: Path) -> None:
    before = chapters(book)
    (book / "book" / ".#noise.md").symlink_to("me@host.1:2")
    (book / "book" / "._noise.md").write_bytes(b"\x00\xff")
    assert chapters(book) == before
    (book / "book" / "latin.md").write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(PrefdynError, match="a page is no text in UTF-8"):
        chapters(book)


def test_bug_keeps_its_traceback(real_book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (OSError(errno.EIO, "input/output"), ZeroDivisionError()):
        monkeypatch.setattr(execution, "run_chapter", leaves(error))
        with pytest.raises(type(error)):
            cli.main(["run", "--profile", "smoke"])


# build and book -----------------------------------------------------------------------------------


PARAMETERS = "```{code-cell}\n:tags: [parameters]\n```\n"


@pytest.fixture
def two_chapters(book: Path) -> Path:
    for name in ("first", "second"):
        (book / "book" / f"{name}.md").write_text(f"---\nkernelspec:\n  name: python3\n---\n{PARAMETERS}")
    return book


def test_build_takes_what_was_run_and_shows_the_rest_from_the_reference(
    two_chapters: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (two_chapters / "book" / "third.md").write_text((two_chapters / "book" / "first.md").read_text())
    (two_chapters / "_build" / "runs" / "second").mkdir(parents=True)
    own = runs.Run(two_chapters, "first", {}, two_chapters / "_build" / "runs" / "first")
    monkeypatch.setattr(runs, "kept", lambda root, name: own if name == "first" else None)
    shown = [
        runs.Run(two_chapters, name, {}, two_chapters / "_build/shown" / name) for name in ("second", "third")
    ]
    monkeypatch.setattr(runs, "to_show", lambda root, names: shown if names == ["second", "third"] else [])
    monkeypatch.setattr(schedule, "run_all", lambda some, progress: [(run, True) for run in some])
    monkeypatch.setattr(site, "build", lambda root, pages: f"{root.name}: {sorted(pages.items())}")
    assert cli.main(["build"]) == 0
    stale, missing, built = capsys.readouterr().out.splitlines()
    for said, state in (
        (stale, "second was run here, and is not up to date"),
        (missing, "third was not run here"),
    ):
        assert said.startswith(f"prefdyn: {state}: its page shows the reference edition alone")
        assert f"`prefdyn run {state.split()[0]}`" in said
    pages = [(run.chapter, run.notebook) for run in (own, *shown)]
    assert built == f"prefdyn: the site is at {two_chapters.name}: {pages}"


def test_build_without_a_reference_is_one_line(
    two_chapters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["build"]) == 1
    said = one_line(capsys.readouterr().err)
    assert "results/reference/first holds no tables" in said and "`prefdyn run first`" in said


def test_book_is_run_and_then_build(real_book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(execution, "run_chapter", lambda run, progress: order.append(run.chapter) or True)
    monkeypatch.setattr(runs, "kept", lambda root, name: runs.Run(root, name, {}, root))
    monkeypatch.setattr(site, "build", lambda root, pages: order.append("site"))
    assert cli.main(["book", "--profile", "smoke", "--quiet"]) == 0
    assert order == [*CHAPTERS, "site"] and set(CHAPTERS) == set(chapters(ROOT))


# claims -------------------------------------------------------------------------------------------


@pytest.fixture
def inside(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book with claims, as the working folder."""
    monkeypatch.chdir(root)
    return root


def test_claims_as_json_are_those_of_this_machine(
    inside: Path, leave: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    leave(inside / "_build" / "runs" / "first")
    assert cli.main(["claims", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["id"] for entry in entries] == ["E-1", "I-1", "T-1"]
    assert {entry["edition"] for entry in entries} == {"this machine"}


def test_claims_of_an_edition_are_a_table(
    inside: Path, leave: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    leave(inside / "results" / "reference" / "first")
    assert cli.main(["claims", "--from", "results/reference"]) == 0
    header, first, second, *_ = (line.split() for line in capsys.readouterr().out.splitlines())
    assert " ".join(header) == "claim kind verdict statistic estimate 95% interval n criterion"
    assert " ".join(first) == "E-1 empirical supported rise 2 1 to 3 9 interval above 0"
    assert " ".join(second) == "fall -2 -3 to -1 9 interval below 0"
    assert cli.main(["claims", "--from", "results/reference", "--json"]) == 0
    assert {entry["edition"] for entry in json.loads(capsys.readouterr().out)} == {"reference"}


def test_claims_of_nothing_say_what_to_do(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["claims"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "_build/runs holds no tables: run `prefdyn run` first" in one_line(said.err)
    assert cli.main(["claims", "--from", "nowhere"]) == 1
    assert "nowhere: no such folder" in one_line(capsys.readouterr().err)
    assert cli.main(["claims", "--json"]) == 0 and json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("folder", "edition"), [("results/reference/first", "results/reference"), (".", "..")]
)
def test_claims_of_one_chapters_tables_name_the_edition(
    inside: Path,
    leave: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: str,
    edition: str,
) -> None:
    leave(inside / "results" / "reference" / "first")
    if folder == ".":
        monkeypatch.chdir(inside / "results" / "reference" / "first")
    assert cli.main(["claims", "--from", folder]) == 1
    said = one_line(capsys.readouterr().err)
    assert said == f"prefdyn: {folder} holds the tables of one chapter: name the edition, {edition}"


def test_deleted_table_is_one_line_that_names_it(
    inside: Path, leave: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    leave(inside / "results" / "reference" / "first")
    (inside / "results" / "reference" / "first" / "rise.csv").unlink()
    assert cli.main(["claims", "--from", "results/reference"]) == 1
    assert "results/reference/first/rise.csv: no such table" in one_line(capsys.readouterr().err)


# models -------------------------------------------------------------------------------------------


def test_models_lists_the_known_with_size_licence_and_cached_state(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["models"]) == 0
    header, *rows, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "model", "parameters", "fetch", "cached", "licence"]
    assert [row.split()[0] for row in rows] == list(loading.KNOWN)
    by_name = {row.split()[0]: row for row in rows}
    for part in ("SmolLM2-135M-Instruct (4-bit) (default)", "134.52M", "89 MiB", " no ", "Apache-2.0"):
        assert part in by_name["smollm2-135m"]
    for part in ("268.10M", "227 MiB", " no ", "https://ai.google.dev/gemma/terms"):
        assert part in by_name["gemma3-270m"]
    assert " yes " in by_name["smoke"] and "none" in by_name["smoke"]
    assert "hub id" in last and ".gguf" in last


def test_models_tells_what_is_cached(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loading, "is_cached", lambda name: name == "gemma3-270m")
    cli.main(["models"])
    cached = {row.split()[0]: " yes " in row for row in capsys.readouterr().out.splitlines()}
    assert cached["gemma3-270m"] and not cached["smollm2-135m"]


JUDGE = ["claims", "--from", "results/reference", "--json"]


def started(words: list[str], **to: Any) -> subprocess.Popen[bytes]:
    """The script as a shell starts it, which lets it keep what it prints until that fills a block."""
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    program = "from prefbook import command_line; command_line.script()"
    command = [sys.executable, "-c", program, *words]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, **{"env": plain, **to})


@pytest.mark.parametrize("words", [["models"], ["--help"], JUDGE])
def test_reader_who_has_enough_stops_a_command_without_a_word(words: list[str]) -> None:
    with started(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 0


@pytest.mark.parametrize("words", [["models"], JUDGE])
def test_what_does_not_fit_on_the_disk_is_one_line(words: list[str]) -> None:
    with open("/dev/full", "wb") as full, started(words, stdout=full) as process:
        assert process.stderr is not None
        assert "the disk is full: make room" in one_line(process.stderr.read().decode())
        assert process.wait() == 1


def test_letters_that_the_terminal_lacks_are_escaped() -> None:
    latin = os.environ | {"PYTHONIOENCODING": "latin-1"}
    with started(JUDGE, stdout=subprocess.PIPE, env=latin) as process:
        said, complaint = process.communicate()
    assert complaint == b"" and any("Σ" in entry["seen"] for entry in json.loads(said.decode("latin-1")))
