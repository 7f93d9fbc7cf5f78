"""The cache: nothing twice, nothing stale, nothing torn; and the atomic writes below it."""

from __future__ import annotations

import errno
import gc
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest

from prefdyn import cache as cache_module
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

    def version(self, module: str) -> str:
        """As a process that starts now computes it."""
        forget()
        return cache_module.science_version.__wrapped__(module)


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


def test_versions_of_torch_and_transformers_count(monkeypatch: pytest.MonkeyPatch) -> None:
    version = cache_module.science_version.__wrapped__
    found = [version("prefdyn.errors")]
    for package in ("torch", "transformers"):
        with monkeypatch.context() as patch:
            patch.setattr("importlib.metadata.version", lambda name, one=package: str(name == one))
            found.append(version("prefdyn.errors"))
    assert len(set(found)) == 3


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
        }[how]
    )


@pytest.mark.parametrize("how", ["flipped", "cut", "empty"])
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
    assert str(entry) in said and "damaged" in said and said.count("\n") == 1
    assert entry.read_bytes() == whole


def check_survives(path: Path, content: bytes, truth: str, capsys: pytest.CaptureFixture[str]) -> bool:
    """With this content in its file, a result comes back as it was; returns whether it was made again."""
    path.write_bytes(content)
    compute, calls = counted(result)
    assert joblib.hash(cached("runs", {"n": 1}, WORK, compute)) == truth
    assert bool(calls) == (str(path) in capsys.readouterr().out)
    return bool(calls)


def places(length: int) -> list[int]:
    """Both ends of a file, where its structure is, and every seventh byte between them."""
    return sorted({*range(20), *range(20, length - 40, 7), *range(length - 40, length)})


def test_no_flipped_byte_changes_a_result_or_stops_a_run(
    entry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, truth = entry.read_bytes(), joblib.hash(result())
    remade = 0
    for place in places(len(whole)):
        content = bytearray(whole)
        content[place] ^= 0x80
        remade += check_survives(entry, bytes(content), truth, capsys)
    assert remade > 0.9 * len(places(len(whole)))


def test_no_cut_changes_a_result_or_stops_a_run(entry: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, truth = entry.read_bytes(), joblib.hash(result())
    remade = sum(check_survives(entry, whole[:length], truth, capsys) for length in places(len(whole)))
    assert remade > 0.9 * len(places(len(whole)))


@pytest.mark.parametrize("stop", [ValueError("a bug"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_stopped_computation_leaves_nothing_behind(cache: Path, stop: BaseException) -> None:
    def compute() -> None:
        raise stop

    with pytest.raises(type(stop)):
        cached("runs", {"n": 1}, WORK, compute)
    assert entries(cache) == []
    assert cached("runs", {"n": 1}, WORK, lambda: 7) == 7


def failing_dump(number: int) -> Callable[..., None]:
    """A joblib.dump that writes a part and then fails as the system does."""

    def dump(value: object, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"a part")
        raise OSError(number, "the system's words")

    return dump


def test_full_disk_is_one_sentence_and_earlier_entries_stay(
    entry: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joblib, "dump", failing_dump(errno.ENOSPC))
    with pytest.raises(PrefdynError, match=r"the disk of .*runs is full: make room, or set PREFDYN_CACHE"):
        cached("runs", {"n": 2}, WORK, lambda: 1)
    assert entries(cache) == [entry]
    assert isinstance(
        cached("runs", {"n": 1}, WORK, lambda: pytest.fail("the earlier entry is gone"))[0], PhaseResult
    )


def test_other_failures_of_the_disk_keep_their_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblib, "dump", failing_dump(errno.EIO))
    with pytest.raises(OSError, match="the system's words"):
        cached("runs", {"n": 2}, WORK, lambda: 1)
    assert entries(cache) == []


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
    assert target.read_text() == "whole"
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
