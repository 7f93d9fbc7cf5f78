"""Model files out of wheels: parts joined, damage noticed, nothing half-written left behind."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from prefdyn import files
from prefdyn.errors import PrefdynError
from prefdyn.models import wheels
from prefdyn.models.wheels import ModelWheel

PARTS = [bytes(range(256)) * 40, b"the end"]
WHOLE = b"".join(PARTS)
DIGEST = hashlib.sha256(WHOLE).hexdigest()
TWO = ModelWheel(
    ("tiny-model-part1==1.0", "tiny-model-part2==1.0"), ("one/model.part", "two/model.part"), DIGEST
)


def write_wheel(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    """A wheel that pip takes: one module-less package of the given files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels in the place of every package index."""
    folder = tmp_path / "index"
    for number, (member, content) in enumerate(zip(TWO.members, PARTS, strict=True), start=1):
        write_wheel(folder, f"tiny_model_part{number}", {member: content})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def local(index: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The same without pip; returns what was asked for."""
    asked: list[str] = []

    def copy(requirement: str, folder: Path) -> Path:
        asked.append(requirement)
        name = requirement.partition("==")[0].replace("-", "_")
        return Path(shutil.copy(next(index.glob(f"{name}-*.whl")), folder))

    monkeypatch.setattr(wheels, "download", copy)
    return asked


def test_parts_are_fetched_by_pip_joined_and_left_alone(index: Path, cache: Path) -> None:
    assert wheels.fetch(TWO).read_bytes() == WHOLE
    assert [path.name for path in (cache / "downloads").iterdir()] == [f"{DIGEST[:12]}.gguf"]


def test_wheel_that_pip_cannot_find_is_named(index: Path, cache: Path) -> None:
    with pytest.raises(
        PrefdynError, match=r"no-such-model==1\.0 could not be fetched \(ERROR: .*check the network"
    ) as caught:
        wheels.fetch(ModelWheel(("no-such-model==1.0",), ("model.gguf",), DIGEST))
    assert "\n" not in str(caught.value)
    assert list((cache / "downloads").iterdir()) == []


def test_second_fetch_downloads_nothing(local: list[str]) -> None:
    first = wheels.fetch(TWO)
    assert local == list(TWO.requirements)
    assert wheels.fetch(TWO) == first
    assert len(local) == 2


def test_damaged_download_is_noticed_and_fetched_again(
    local: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = wheels.fetch(TWO)
    path.write_bytes(WHOLE[:-1] + b"?")
    assert wheels.fetch(TWO).read_bytes() == WHOLE
    said = capsys.readouterr().out
    assert f"{path.name} is damaged" in said and str(path.parent) not in said
    assert len(local) == 4


def test_other_content_than_promised_is_refused_and_not_kept(
    local: list[str], cache: Path, index: Path
) -> None:
    write_wheel(index, "tiny_model_part2", {"two/model.part": b"another end"})
    with pytest.raises(PrefdynError, match="another checksum"):
        wheels.fetch(TWO)
    assert list((cache / "downloads").iterdir()) == []


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def scramble(content: bytes) -> bytes:
    start = content.index(b"two/model.part") + len(b"two/model.part")
    return content[:start] + b"\xff" + content[start + 1 :]


def empty(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("harm", [cut, scramble, empty])
def test_damaged_wheel_is_named_and_leaves_nothing(
    local: list[str], cache: Path, index: Path, harm: Callable[[bytes], bytes]
) -> None:
    path = index / "tiny_model_part2-1.0-py3-none-any.whl"
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(
        PrefdynError, match=r"tiny_model_part2-1\.0-py3-none-any\.whl is cut short or damaged"
    ):
        wheels.fetch(TWO)
    assert list((cache / "downloads").iterdir()) == []


def test_litter_of_a_killed_download_goes(local: list[str], cache: Path) -> None:
    folder = cache / "downloads"
    (folder / f".{DIGEST[:12]}.gguf.abcdefgh").mkdir(parents=True)
    (folder / f".{DIGEST[:12]}.gguf.abcdefgh" / "part.whl").write_bytes(b"half")
    (folder / f".{DIGEST[:12]}.gguf.ijklmnop").write_bytes(b"half")
    (folder / ".0123.gguf.abcdefgh").write_bytes(b"another's, that may go on")
    wheels.fetch(TWO)
    assert sorted(path.name for path in folder.iterdir()) == [".0123.gguf.abcdefgh", f"{DIGEST[:12]}.gguf"]


def test_wheel_without_the_file_is_named(local: list[str], index: Path) -> None:
    write_wheel(index, "tiny_model_part2", {"two/other": b""})
    with pytest.raises(PrefdynError, match=r"holds no two/model\.part"):
        wheels.fetch(TWO)


# Files --------------------------------------------------------------------------------------------


def test_full_disk_stops_before_the_download(
    local: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(PrefdynError, match=r"1 MiB free and 512 MiB are needed.*PREFDYN_CACHE"):
        wheels.fetch(TWO)
    assert local == []


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFDYN_CACHE", str(tmp_path / "mine"))
    assert files.cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("PREFDYN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert files.cache_folder() == tmp_path / "xdg" / "prefdyn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.cache_folder() == tmp_path / ".cache" / "prefdyn"


def test_interrupted_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.csv"
    with files.atomic_file(path) as made:
        made.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.atomic_file(path) as made:
        made.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_interrupted_folder_leaves_the_old_one_and_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "model"
    with files.atomic_folder(folder) as made:
        (made / "old").touch()
    with pytest.raises(KeyboardInterrupt), files.atomic_folder(folder) as made:
        (made / "new").touch()
        raise KeyboardInterrupt
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(folder.parent.iterdir()) == [folder]
    with files.atomic_folder(folder) as made:
        (made / "new").touch()
    assert [path.name for path in folder.iterdir()] == ["new"]


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(WHOLE)
    assert files.sha256(tmp_path / "file") == DIGEST
