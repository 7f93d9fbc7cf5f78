"""Folders that take their place whole: beside other processes, after a kill, on a full disk."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mounts
import pytest

from prefdyn.data import datasets, load_pairs, persona_names
from prefdyn.errors import PrefdynError
from prefdyn.files import at_home, atomic_folder, keep_others, tidy
from prefdyn.models import load


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that has `atomic_folder`, and `folder`, its first argument."""
    head = (
        "import sys, time\nfrom pathlib import Path\nfrom prefdyn.files import atomic_folder\n"
        "folder = Path(sys.argv[1])\n"
    )
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


MANY = """
for turn in range(40):
    with atomic_folder(folder) as made:
        for name in "abc":
            (made / name).write_text(f"{sys.argv[2]} {turn}")
"""
ADDING = """
with atomic_folder(folder) as made:
    (made / "page").write_text((folder / "page").read_text() + ", then")
"""
HOLDING = """
with atomic_folder(folder) as made:
    (made / "page").write_text("of the first")
    print("begun", flush=True)
    sys.stdin.readline()
"""


def test_processes_at_one_folder_leave_it_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "site"
    processes = [start(MANY, target, number) for number in range(4)]
    assert [process.wait(300) for process in processes] == [0] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    texts = {path.name: path.read_text() for path in target.iterdir()}
    assert sorted(texts) == ["a", "b", "c"] and len(set(texts.values())) == 1


def test_who_makes_the_same_folder_is_waited_for(tmp_path: Path) -> None:
    target = tmp_path / "site"
    first = start(HOLDING, target)
    assert first.stdout is not None and first.stdout.readline() == "begun\n"
    second = start(ADDING, target)
    assert second.stdout is not None
    assert second.stdout.readline() == f"prefdyn: another process is making {target}; waiting for it\n"
    first.communicate("go on\n", timeout=60)
    second.communicate(timeout=60)
    assert (target / "page").read_text() == "of the first, then"


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "site"
    target.mkdir()
    (target / "page").write_text("whole")
    for _ in range(3):
        killed = start(HOLDING, target)
        assert killed.stdout is not None and killed.stdout.readline() == "begun\n"
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert (target / "page").read_text() == "whole"
        assert len(list(tmp_path.glob(".site.????????"))) == 1
    with atomic_folder(target):
        pass
    assert list(tmp_path.iterdir()) == [target] and (target / "page").read_text() == "whole"


def test_tidy_takes_what_a_killed_process_left_and_nothing_of_a_living_one(tmp_path: Path) -> None:
    target = tmp_path / "site"
    target.mkdir()
    tidy(target)
    assert list(tmp_path.iterdir()) == [target]
    maker = start(HOLDING, target)
    assert maker.stdout is not None and maker.stdout.readline() == "begun\n"
    tidy(target)
    assert len(list(tmp_path.glob(".site.????????"))) == 1, "the living one's is left alone"
    maker.send_signal(signal.SIGKILL)
    maker.communicate()
    tidy(target)
    assert list(tmp_path.iterdir()) == [target]


def test_folder_that_was_put_aside_when_its_maker_was_killed_comes_back(tmp_path: Path) -> None:
    aside = tmp_path / ".site.old"
    aside.mkdir()
    (aside / "page").write_text("whole")
    with atomic_folder(tmp_path / "site"):
        assert (tmp_path / "site" / "page").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_folder_of_another_name_is_not_taken_for_what_is_left(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "site.two") as other:
        (other / "page").write_text("two")
        with atomic_folder(tmp_path / "site") as made:
            (made / "page").write_text("one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site", "site.two"]


def test_block_that_puts_nothing_in_leaves_what_is_there(tmp_path: Path) -> None:
    target = tmp_path / "site"
    with atomic_folder(target):
        pass
    assert not target.exists() and list(tmp_path.iterdir()) == []


def test_folder_behind_a_link_is_replaced_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "site").symlink_to(tmp_path / "disk" / "real")
    with atomic_folder(tmp_path / "site") as made:
        (made / "page").write_text("new")
    assert (tmp_path / "site").is_symlink() and (tmp_path / "disk" / "real" / "page").read_text() == "new"


def test_file_in_the_place_of_a_folder_is_named_and_stays(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("mine")
    with pytest.raises(PrefdynError, match=r"site is a file, .*: move it"), atomic_folder(tmp_path / "site"):
        pytest.fail("the block was begun")
    assert (tmp_path / "site").read_text() == "mine"


def test_what_others_put_in_a_folder_stays_when_it_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "site"
    for name in ("page", "old", "of mine/page", "more/mine", "more/page"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text("before")
    (target / "link").symlink_to("page")
    with atomic_folder(target) as made:
        (made / "more").mkdir()
        for name in ("page", "more/page"):
            (made / name).write_text("new")
        keep_others(target, made, {target / "old"})
    texts = {
        path.relative_to(target).as_posix(): path.read_text() for path in target.rglob("*") if path.is_file()
    }
    assert texts == {
        **{name: "new" for name in ("page", "more/page", "link")},
        **{name: "before" for name in ("of mine/page", "more/mine")},
    }
    assert (target / "link").is_symlink()


@pytest.mark.parametrize(
    "fill",
    [
        "(made / 'page').write_bytes(bytes(10**6))",
        "import shutil; shutil.copytree(sys.argv[2], made / 'copy')",
    ],
    ids=["written", "copied"],
)
def test_full_disk_is_one_sentence_that_names_the_folder(tmp_path: Path, fill: str) -> None:
    disk, source = tmp_path / "disk", tmp_path / "source"
    for folder in (disk, source):
        folder.mkdir()
    (source / "large").write_bytes(bytes(10**6))
    code = f"""
import sys
from pathlib import Path
from prefdyn.errors import PrefdynError
from prefdyn.files import atomic_folder
disk = Path(sys.argv[1])
try:
    with atomic_folder(disk / "site") as made:
        {fill}
except PrefdynError as error:
    print(error, [path.name for path in disk.iterdir()])
"""
    done: Any = mounts.run_with(mounts.TINY, disk, [sys.executable, "-c", code, disk, source])
    assert done.stderr == "" and done.stdout.startswith(f"the disk of {disk} is full: make room")
    assert done.stdout.endswith("[]\n"), "and nothing is left"


@pytest.mark.parametrize(
    "read", [at_home, persona_names, load_pairs, load, datasets.available], ids=lambda read: read.__name__
)
def test_folder_of_nobody_is_one_sentence(read: Any) -> None:
    with pytest.raises(PrefdynError) as error:
        read("~nobody-of-that-name/x")
    said = "~nobody-of-that-name/x: ~nobody-of-that-name is no user's folder here, write the path in full"
    assert str(error.value) == said


def test_tilde_is_the_home_of_whoever_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert at_home("~/x") == tmp_path / "x" and at_home("y/~") == Path("y/~")
