"""The cache: nothing twice, nothing stale, nothing torn; and the atomic writes below it."""

from __future__ import annotations

import ast
import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest

from prefdyn import cache as cache_module
from prefdyn.cache import MEASURING_CODE, cached, code_version
from prefdyn.errors import PrefdynError
from prefdyn.experiments.bench import PhaseResult
from prefdyn.files import atomic_file, atomic_folder, cache_folder

LIBRARY = Path(cache_module.__file__).parent


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
    cached("runs", {"n": 1}, result)
    (path,) = entries(cache)
    return path


# Nothing twice, nothing stale ---------------------------------------------------------------------


def test_second_call_returns_the_same_without_computing(cache: Path) -> None:
    compute, calls = counted(result)
    first, second = cached("runs", {"n": 1}, compute), cached("runs", {"n": 1}, compute)
    assert len(calls) == 1
    pd.testing.assert_frame_equal(first[0].record, second[0].record)
    np.testing.assert_array_equal(first[0].features["a"], second[0].features["a"])


def test_key_is_compared_by_content_in_any_order(cache: Path) -> None:
    compute, calls = counted(3)
    cached("runs", {"a": [1, 2], "b": "text", "x": np.arange(3.0)}, compute)
    cached("runs", {"x": np.arange(3.0), "b": "".join(["te", "xt"]), "a": [1, 2]}, compute)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "key",
    [{"n": 2}, {"n": "1"}, {"n": 1, "m": None}, {"m": 1}, {"n": np.array([1.0])}],
    ids=["value", "type", "more", "name", "array"],
)
def test_another_key_computes_again(entry: Path, cache: Path, key: dict[str, Any]) -> None:
    compute, calls = counted("new")
    assert cached("runs", key, compute) == "new" and len(calls) == 1
    assert len(entries(cache)) == 2


def test_another_kind_computes_again(entry: Path) -> None:
    assert cached("features", {"n": 1}, lambda: "new") == "new"


def test_another_code_version_computes_again(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "code_version", lambda: "another")
    assert cached("runs", {"n": 1}, lambda: "new") == "new"


@pytest.mark.parametrize("module", MEASURING_CODE)
def test_code_version_changes_with_every_measuring_module(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in MEASURING_CODE:
        shutil.copy(LIBRARY / f"{name}.py", tmp_path)
    monkeypatch.setattr(cache_module, "__file__", str(tmp_path / "cache.py"))
    compute = code_version.__wrapped__
    before = compute()
    with open(tmp_path / f"{module}.py", "a") as file:
        file.write("# a change\n")
    assert before == code_version() != compute()


def test_code_version_changes_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_version.__wrapped__()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0" if name == "torch" else "1.0")
    one = code_version.__wrapped__()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1" if name == "torch" else "1.0")
    assert len({before, one, code_version.__wrapped__()}) == 3


def imported(module: str) -> set[str]:
    """The prefdyn modules that one of them imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((LIBRARY / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "prefdyn":
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prefdyn."):
            names.add(str(node.module).removeprefix("prefdyn."))
    return names


def test_every_module_behind_a_kept_result_counts_as_measuring_code() -> None:
    """Otherwise its change would leave stale results."""
    # What rankings.py loads is part of the key; intervals.py comes after what is kept.
    without_influence = {"cache", "errors", "files", "intervals", "provenance", "rankings", "wheels"}
    reached, waiting = set(), {"workbench"}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= imported(module) - reached - without_influence
    assert reached == set(MEASURING_CODE)


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
    made = cached("runs", {"n": 1}, compute)
    assert len(calls) == 1
    pd.testing.assert_frame_equal(made[0].record, result()[0].record)
    said = capsys.readouterr().out
    assert str(entry) in said and "damaged" in said and said.count("\n") == 1
    assert entry.read_bytes() == whole


def check_survives(path: Path, content: bytes, truth: str, capsys: pytest.CaptureFixture[str]) -> bool:
    """With this content in its file, a result comes back as it was; returns whether it was made again."""
    path.write_bytes(content)
    compute, calls = counted(result)
    assert joblib.hash(cached("runs", {"n": 1}, compute)) == truth
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
        cached("runs", {"n": 1}, compute)
    assert entries(cache) == []
    assert cached("runs", {"n": 1}, lambda: 7) == 7


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
        cached("runs", {"n": 2}, lambda: 1)
    assert entries(cache) == [entry]
    assert isinstance(
        cached("runs", {"n": 1}, lambda: pytest.fail("the earlier entry is gone"))[0], PhaseResult
    )


def test_other_failures_of_the_disk_keep_their_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblib, "dump", failing_dump(errno.EIO))
    with pytest.raises(OSError, match="the system's words"):
        cached("runs", {"n": 2}, lambda: 1)
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
