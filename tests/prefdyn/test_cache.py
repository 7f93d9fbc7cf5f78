"""The cache: nothing twice, nothing stale, nothing torn; and the atomic writes below it."""

from __future__ import annotations

import errno
import gc
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mounts
import numpy as np
import pandas as pd
import pytest

from prefdyn import cache as cache_module
from prefdyn import files, values
from prefdyn.cache import LIBRARY, cached, modules_behind
from prefdyn.errors import PrefdynError
from prefdyn.experiments import CHAPTERS
from prefdyn.experiments.phases import PhaseResult, run_phases
from prefdyn.files import atomic_file, atomic_folder, cache_folder

WORK = run_phases
"""A function that is said to do the work."""


def result() -> list[PhaseResult]:
    """What training leaves: a table and arrays."""
    rng = np.random.default_rng(0)
    return [
        PhaseResult(
            pd.DataFrame({"group": ["a", "b"], "loss": [0.5, 0.25]}),
            {"a": rng.normal(size=(3, 4)).astype(np.float32)},
        )
    ]


def counted(value: Any = None) -> tuple[Callable[[], Any], list[int]]:
    """A computation, and a list that has an entry for each time that it was done."""
    calls: list[int] = []

    def compute() -> Any:
        calls.append(1)
        return value() if callable(value) else value

    return compute, calls


def entries(folder: Path) -> list[Path]:
    """Every file below a folder, hidden ones included."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def entry(cache: Path) -> Path:
    """The file of one kept result, of the key {"n": 1}."""
    cached("runs", {"n": 1}, WORK, result)
    (path,) = entries(cache)
    return path


# Nothing twice, nothing stale ---------------------------------------------------------------------


def test_second_call_returns_the_same_without_computing(cache: Path) -> None:
    compute, calls = counted(result)
    first, second = cached("runs", {"n": 1}, WORK, compute), cached("runs", {"n": 1}, WORK, compute)
    assert len(calls) == 1
    pd.testing.assert_frame_equal(first[0].record, second[0].record)
    np.testing.assert_array_equal(first[0].features["a"], second[0].features["a"])


def test_key_is_compared_by_content_in_any_order(cache: Path) -> None:
    compute, calls = counted(3)
    cached("runs", {"a": [1, 2], "b": "text", "x": np.arange(3.0)}, WORK, compute)
    cached("runs", {"x": np.arange(3.0), "b": "".join(["te", "xt"]), "a": [1, 2]}, WORK, compute)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "key",
    [{"n": 2}, {"n": "1"}, {"n": 1, "m": None}, {"m": 1}, {"n": np.array([1.0])}],
    ids=["value", "type", "more", "name", "array"],
)
def test_another_key_computes_again(entry: Path, cache: Path, key: dict[str, Any]) -> None:
    compute, calls = counted("new")
    assert cached("runs", key, WORK, compute) == "new" and len(calls) == 1
    assert len(entries(cache)) == 2


def test_another_kind_computes_again(entry: Path) -> None:
    assert cached("features", {"n": 1}, WORK, lambda: "new") == "new"


def test_another_version_of_the_science_computes_again(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "science_version", lambda module: "another")
    assert cached("runs", {"n": 1}, WORK, lambda: "new") == "new"


# What counts as the science -----------------------------------------------------------------------


def forget() -> None:
    """What the cache knows of the library's files."""
    for known in (cache_module._tree, cache_module._imports):
        known.cache_clear()


class Copy:
    """A copy of the library that tests may edit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, module: str) -> Path:
        place = self.folder.joinpath(*module.split(".")[1:])
        return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")

    def version(self, *modules: str) -> str:
        """As a process that starts now computes it."""
        forget()
        return cache_module.science_version.__wrapped__(*modules)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Copy]:
    folder = tmp_path / "prefdyn"
    shutil.copytree(LIBRARY, folder, ignore=shutil.ignore_patterns("__pycache__", "samples"))
    monkeypatch.setattr(cache_module, "LIBRARY", folder)
    yield Copy(folder)
    forget()


def modules() -> list[str]:
    """Every module of the library."""
    paths = (path.relative_to(LIBRARY.parent).with_suffix("") for path in LIBRARY.rglob("*.py"))
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)


MEASURING = ["prefdyn.experiments.phases", "prefdyn.engine.states", "prefdyn.engine.scoring"]
"""Modules of the functions that train and measure."""


def test_code_behind_a_measurement_makes_it_stale(library: Copy) -> None:
    before, behind = library.version("prefdyn.engine.states"), modules_behind("prefdyn.engine.states")
    assert {"prefdyn.engine.states", "prefdyn.models.token_trees", "prefdyn.data.personas"} <= behind
    for module in behind:
        path = library.file(module)
        whole = path.read_text()
        path.write_text(whole + "\nADDED = 1\n")
        assert library.version("prefdyn.engine.states") != before, module
        path.write_text(whole)
    assert library.version("prefdyn.engine.states") == before


def test_code_behind_either_of_two_modules_makes_what_rests_on_both_stale(library: Copy) -> None:
    both = ("prefdyn.theory.ranking", "prefdyn.measures.halves")
    before = library.version(*both)
    assert before == library.version(*reversed(both)) != library.version(both[0])
    for module in (*both, "prefdyn.measures.estimates"):
        path = library.file(module)
        whole = path.read_text()
        path.write_text(whole + "\nADDED = 1\n")
        assert library.version(*both) != before, module
        path.write_text(whole)


@pytest.mark.parametrize("measuring", MEASURING)
def test_other_code_does_not(library: Copy, measuring: str) -> None:
    before = library.version(measuring)
    others = set(modules()) - modules_behind(measuring)
    assert {"prefdyn.experiments.noise", "prefdyn.measures.estimates", "prefdyn.theory.vmf"} <= others
    for module in others:
        library.file(module).write_text("raise SystemExit\n")
    assert library.version(measuring) == before


def test_pages_figures_and_other_experiments_are_behind_no_training() -> None:
    every = modules_behind("prefdyn.experiments.phases")
    assert every <= set(modules())
    rooms = {".".join(module.split(".")[:2]) for module in every} - {"prefdyn.errors", "prefdyn.files"}
    assert rooms == {"prefdyn.data", "prefdyn.models", "prefdyn.engine", "prefdyn.experiments"}
    assert [module for module in every if ".experiments." in module] == ["prefdyn.experiments.phases"]


def test_a_chapters_experiments_are_behind_no_other_chapter() -> None:
    names = {chapter: module.__name__ for chapter, module in CHAPTERS.items()}
    for chapter, name in names.items():
        assert modules_behind(name) & set(names.values()) == {name}, chapter


@pytest.mark.parametrize("measuring", MEASURING)
def test_comments_docstrings_and_layout_make_nothing_stale(library: Copy, measuring: str) -> None:
    before = library.version(measuring)
    for module in modules_behind(measuring):
        path = library.file(module)
        lines = path.read_text().replace('"""', '"""Another word. ', 1).splitlines()
        lines = [f"{line}  # a comment" if line.endswith(":") and '"' not in line else line for line in lines]
        path.write_text("# A comment.\n\n" + "\n".join(lines) + '\n\n\n"""And a text at the end."""\n')
    assert library.version(measuring) == before


def test_one_changed_number_makes_stale(library: Copy) -> None:
    before = library.version("prefdyn.experiments.phases")
    path = library.file("prefdyn.engine.states")
    content = path.read_text()
    assert "= 4096" in content
    path.write_text(content.replace("= 4096", "= 4095"))
    assert library.version("prefdyn.experiments.phases") != before


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Copy]:
    """A package in which every way to import stands once."""
    folder = tmp_path / "tiny"
    files = {
        "__init__.py": "from tiny.room import thing\n",
        "work.py": "import tiny.plain\nfrom tiny import lazy\nfrom tiny.room import thing as it, other\n"
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tiny import named\n"
        "def later():\n    from tiny.inside import x\n",
        "plain.py": "",
        "inside.py": "x = 1\n",
        "named.py": "",
        "alone.py": "",
        "room/__init__.py": "from tiny.room.first import thing\nfrom tiny.room.second import *\nother = 1\n",
        "room/first.py": "from tiny.room import second\nthing = 1\n",
        "room/second.py": "import os\n",
        "room/third.py": "",
        "lazy/__init__.py": "import lazy_loader\n",
        "lazy/__init__.pyi": "from . import fourth as fourth\nfrom .fifth import Name as Name\n",
        "lazy/fourth.py": "",
        "lazy/fifth.py": "",
        "lazy/sixth.py": "",
        "top.py": "from tiny import thing\nfrom tiny.lazy import Name\n",
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.setattr(cache_module, "LIBRARY", folder)
    forget()
    yield Copy(folder)
    forget()


def test_imports_of_every_kind_are_followed(small: Copy) -> None:
    found = {name.removeprefix("tiny.") for name in modules_behind("tiny.work")}
    own = {"work", "plain", "inside", "room", "room.first", "room.second"}
    assert found == {
        *own,
        "lazy",
        "lazy.fourth",
        "lazy.fifth",
    }  # all that a package passes on, if taken whole


def test_names_are_followed_to_where_they_are_defined(small: Copy) -> None:
    found = {name.removeprefix("tiny.") for name in modules_behind("tiny.top")}
    assert found == {"top", "room.first", "room.second", "lazy.fifth"}


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("prefdyn.measures.geometry", {"numpy", "scipy", "umap-learn"}),
        ("prefdyn.experiments.phases", {"numpy", "peft", "torch", "transformers"}),
        ("prefdyn.errors", set()),
    ],
)
def test_versions_count_of_packages_that_are_imported(
    monkeypatch: pytest.MonkeyPatch, module: str, imported: set[str]
) -> None:
    version, found = cache_module.science_version.__wrapped__, {}
    for package in ("numpy", "peft", "scipy", "torch", "transformers", "umap-learn"):
        monkeypatch.setattr("importlib.metadata.version", lambda name, one=package: str(name == one))
        found[package] = version(module)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "False")
    before = version(module)
    assert {package for package, after in found.items() if after != before} == imported


def test_package_of_an_extra_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    there = cache_module.science_version.__wrapped__("prefdyn.measures.geometry")
    monkeypatch.setattr("importlib.metadata.version", missing)
    assert cache_module.science_version.__wrapped__("prefdyn.measures.geometry") != there


@pytest.fixture
def torn_parsing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads take turns wherever they may, in the middle of a parse too."""

    def switch(phase: str, info: dict[str, int]) -> None:
        for _ in range(1000):
            pass

    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    gc.callbacks.append(switch)
    gc.set_threshold(50)
    sys.setswitchinterval(1e-6)
    yield
    gc.callbacks.remove(switch)
    gc.set_threshold(*threshold)
    sys.setswitchinterval(interval)


def test_chapters_that_start_together_read_the_code_one_after_the_other(torn_parsing: None) -> None:
    """CPython may raise a SystemError where two threads parse at once."""
    version = cache_module.science_version.__wrapped__
    modules = [experiment.__name__ for experiment in CHAPTERS.values()]
    for _ in range(3):
        forget()
        with ThreadPoolExecutor(len(modules)) as pool:
            assert len(set(pool.map(version, modules))) == len(modules)


def test_a_function_from_elsewhere_keeps_nothing(cache: Path) -> None:
    with pytest.raises(PrefdynError, match="numpy is no module of prefdyn"):
        cached("runs", {"n": 1}, np.mean, lambda: 1)
    assert entries(cache) == []


# Nothing torn -------------------------------------------------------------------------------------


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = bytes(byte ^ 0xFF for byte in content[middle : middle + 8])
    path.write_bytes(
        {
            "flipped": content[:middle] + flipped + content[middle + 8 :],
            "cut": content[:middle],
            "empty": b"",
            "lengthened": content + b"x",
            "doubled": content + content,
            "foreign": b"PK" + content,
        }[how]
    )


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "lengthened", "doubled", "foreign"])
def test_damaged_entry_is_named_and_made_again(
    entry: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = entry.read_bytes()
    damage(entry, how)
    compute, calls = counted(result)
    made = cached("runs", {"n": 1}, WORK, compute)
    assert len(calls) == 1
    pd.testing.assert_frame_equal(made[0].record, result()[0].record)
    said = capsys.readouterr().out
    assert f"runs/{entry.stem} is damaged" in said and said.count("\n") == 1
    assert str(entry.parents[2]) not in said  # it may end on a page, and tells nobody where the cache is
    assert entry.read_bytes() == whole


def check_made_again(path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """With this content in its file, a result is made again, and one line says so."""
    path.write_bytes(content)
    compute, calls = counted(result)
    found = cached("runs", {"n": 1}, WORK, compute)
    assert calls and capsys.readouterr().out.count("\n") == 1
    pd.testing.assert_frame_equal(found[0].record, result()[0].record, check_exact=True)
    np.testing.assert_array_equal(found[0].features["a"], result()[0].features["a"])


def places(length: int) -> list[int]:
    """The first line of a file, and bytes all over it."""
    return [*range(0, 130, 3), *range(130, length, length // 100), length - 1]


def test_every_flipped_byte_is_noticed(entry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = entry.read_bytes()
    for place in places(len(whole)):
        content = bytearray(whole)
        content[place] ^= 0x80
        check_made_again(entry, bytes(content), capsys)
        assert entry.read_bytes() == whole


def test_every_cut_is_noticed(entry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = entry.read_bytes()
    for length in places(len(whole)):
        check_made_again(entry, whole[:length], capsys)


def test_another_results_file_is_noticed(entry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cached("runs", {"n": 2}, WORK, lambda: "another")
    (other,) = [path for path in entries(entry.parent) if path != entry]
    check_made_again(entry, other.read_bytes(), capsys)


WITHIN = """
import os, resource, sys
import prefdyn.cache, prefdyn.files
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
before = peak()
print(prefdyn.cache.cached("runs", {"n": 1}, prefdyn.files.sha256, lambda: "again"))
print((peak() - before) // 1024, file=sys.stderr)
"""
"""Reads a result where no more than a gibibyte can be had, and says how many MiB it took."""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is counted as Linux does")
@pytest.mark.parametrize("more", ["a byte", "a terabyte", "256 MiB and their length"])
def test_memory_is_bounded_whatever_follows_a_result(cache: Path, more: str) -> None:
    cached("runs", {"n": 1}, files.sha256, lambda: "kept")
    (path,) = entries(cache)
    with open(path, "r+b") as file:
        if more == "a byte":
            file.seek(0, os.SEEK_END)
            file.write(b"x")
        else:
            file.truncate(2**40 if more == "a terabyte" else 2**28)
        if more == "256 MiB and their length":
            file.seek(0)
            head = file.readline()
            file.seek(len(head) - 17)
            file.write(f"{2**28 - len(head):016d}".encode())
    done = subprocess.run([sys.executable, "-c", WITHIN], capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert "damaged" in said[0] and said[1:] == ["again"]
    assert int(done.stderr) < 100


@pytest.mark.parametrize("stop", [ValueError("a bug"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_stopped_computation_leaves_nothing_behind(cache: Path, stop: BaseException) -> None:
    def compute() -> None:
        raise stop

    with pytest.raises(type(stop)):
        cached("runs", {"n": 1}, WORK, compute)
    assert entries(cache) == []
    assert cached("runs", {"n": 1}, WORK, lambda: 7) == 7


def failing_save(number: int) -> Callable[..., None]:
    """A save that writes a part and then fails as the system does."""

    def save(value: object, path: Path, name: str) -> None:
        Path(path).write_bytes(b"a part")
        raise OSError(number, os.strerror(number))

    return save


def test_full_disk_is_one_sentence_and_earlier_entries_stay(
    entry: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "save", failing_save(errno.ENOSPC))
    with pytest.raises(PrefdynError, match=r"the disk of .*cache is full: make room, or set PREFDYN_CACHE"):
        cached("runs", {"n": 2}, WORK, lambda: 1)
    assert entries(cache) == [entry]
    assert isinstance(
        cached("runs", {"n": 1}, WORK, lambda: pytest.fail("the earlier entry is gone"))[0], PhaseResult
    )


def test_other_failures_of_the_disk_are_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "save", failing_save(errno.EIO))
    with pytest.raises(PrefdynError, match=r"cannot be read and written \(Input/output error\)"):
        cached("runs", {"n": 2}, WORK, lambda: 1)
    assert entries(cache) == []


@pytest.fixture(params=["a file", "a folder below a file", "the system's"])
def no_folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A cache that is none, whoever asks."""
    (tmp_path / "file").touch()
    places = {"a file": "file", "a folder below a file": "file/cache", "the system's": "/proc/cache"}
    monkeypatch.setenv("PREFDYN_CACHE", str(tmp_path / places[request.param]))
    return str(tmp_path / places[request.param])


def test_a_cache_that_is_none_is_one_sentence_before_any_work(no_folder: str) -> None:
    with pytest.raises(PrefdynError, match=r"the cache .* cannot be .*set PREFDYN_CACHE") as caught:
        cached("runs", {"n": 1}, WORK, lambda: pytest.fail("worked for nothing"))
    assert no_folder in str(caught.value) and "\n" not in str(caught.value)


KEEPING = """
import sys
import prefdyn.cache, prefdyn.files
from prefdyn.errors import PrefdynError
try:
    made = "made" * int(sys.argv[2])
    print(prefdyn.cache.cached("runs", {"n": int(sys.argv[1])}, prefdyn.files.sha256, lambda: made)[:4])
except PrefdynError as error:
    print(error)
"""
"""Reads or makes a result of so many words."""


def keeping(n: int, words: int = 1) -> list[str]:
    return [sys.executable, "-c", KEEPING, str(n), str(words)]


@pytest.fixture
def filled(cache: Path) -> Path:
    """A cache that has the result of {"n": 1}."""
    cached("runs", {"n": 1}, files.sha256, lambda: "kept")
    return cache


def test_a_cache_that_may_only_be_read_is_read(filled: Path) -> None:
    assert mounts.run_with(mounts.READ_ONLY, filled, keeping(1)).stdout == "kept\n"
    assert mounts.run_with(mounts.READ_ONLY, filled, keeping(2)).stdout == (
        f"the cache {filled} cannot be read and written (Permission denied): "
        "set PREFDYN_CACHE to a folder that can\n"
    )


def test_a_cache_that_may_not_be_read_is_one_sentence(filled: Path) -> None:
    filled.chmod(0o000)
    try:
        *_, said = mounts.run_as_anybody(keeping(1)).stdout.splitlines()
    finally:
        filled.chmod(0o755)
    assert said.startswith(f"the cache {filled} cannot be read and written (Permission denied): set")


def test_a_full_disk_is_one_sentence(cache: Path) -> None:
    cache.mkdir()
    done = mounts.run_with(mounts.TINY, cache, keeping(1, 10**5))
    assert done.stdout == f"the disk of {cache} is full: make room, or set PREFDYN_CACHE to another disk\n"


# Files --------------------------------------------------------------------------------------------


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PREFDYN_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "prefdyn"
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/prefdyn")
    monkeypatch.setenv("PREFDYN_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"


def test_atomic_file_takes_its_place_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    with atomic_file(target) as made:
        made.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole" and target.stat().st_mode & 0o777 == 0o644
    assert entries(tmp_path) == [target]


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt])
def test_failed_atomic_file_leaves_the_old_one_and_no_other(
    tmp_path: Path, stop: type[BaseException]
) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(stop), atomic_file(target) as made:
        made.write_text("half")
        raise stop
    assert target.read_text() == "old"
    assert entries(tmp_path) == [target]


def test_atomic_folder_replaces_the_whole_folder(tmp_path: Path) -> None:
    target = tmp_path / "site"
    target.mkdir()
    (target / "stale").touch()
    with atomic_folder(target) as made:
        (made / "page").write_text("new")
        assert (target / "stale").exists()
    assert list(tmp_path.iterdir()) == [target] and [path.name for path in target.iterdir()] == ["page"]
    assert target.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt])
def test_failed_atomic_folder_leaves_the_old_one_and_no_other(
    tmp_path: Path, stop: type[BaseException]
) -> None:
    target = tmp_path / "site"
    target.mkdir()
    (target / "page").write_text("old")
    with pytest.raises(stop), atomic_folder(target) as made:
        (made / "page").write_text("half")
        raise stop
    assert list(tmp_path.iterdir()) == [target] and (target / "page").read_text() == "old"
