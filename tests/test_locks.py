"""What make installs is pinned with hashes, whole, and what the files of direct pins ask for."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "locks").glob("*.txt"))
DIRECT = [ROOT / "requirements.txt", ROOT / "requirements-course.txt", ROOT / "tests" / "requirements.txt"]


def pins(path: Path) -> list[tuple[Requirement, list[str]]]:
    """The pins of a requirements file, and the hashes of each."""
    text = re.sub(r"\\\n", "", re.sub(r"^[#-].*\n", "", path.read_text(), flags=re.M))
    rows = [re.split(r"\s+--hash=", line.strip()) for line in text.splitlines()]
    return [(Requirement(pin), hashes) for pin, *hashes in rows]


def locked() -> list[Requirement]:
    """What the locks have installed here; torch's companions for CUDA only where its build asks for them."""
    cuda = any(name.startswith("nvidia") for name in metadata.requires("torch") or [])
    paths = [path for path in LOCKS if cuda or path.stem != "cuda"]
    found = [pin for path in paths for pin, _ in pins(path)]
    return [pin for pin in found if pin.marker is None or pin.marker.evaluate()]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_package_of_a_lock_is_pinned_with_hashes(path: Path) -> None:
    for pin, hashes in pins(path):
        assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), pin
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), pin


def test_locks_have_the_versions_that_are_asked_for() -> None:
    asked = {str(pin.specifier) + canonicalize_name(pin.name) for path in DIRECT for pin, _ in pins(path)}
    assert len(asked) > 40
    assert asked <= {str(pin.specifier) + canonicalize_name(pin.name) for pin in locked()}


def test_what_is_installed_here_is_what_the_locks_pin() -> None:
    wrong = [f"{pin} {metadata.version(pin.name)}" for pin in locked() if not _is_installed(pin)]
    assert not wrong, "run `make test`, which installs what the locks pin"


def _is_installed(pin: Requirement) -> bool:
    return metadata.version(pin.name).partition("+")[0] in pin.specifier  # torch names its build after a +


def test_locks_bring_all_that_their_packages_need() -> None:
    names = {canonicalize_name(pin.name) for pin in locked()}
    for name in names:
        for needed in map(Requirement, metadata.requires(name) or []):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert canonicalize_name(needed.name) in names, f"{name} needs {needed}"


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, and the parsers that it has BeautifulSoup import."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module)):
                yield module
            case ast.Call(func=ast.Name("BeautifulSoup"), args=[_, ast.Constant(value=parser)]):
                yield parser


def test_book_is_made_with_what_its_lock_brings() -> None:
    ours = {"prefdyn", "prefbook"}
    extras = {"ray", "otter"}  # asked for where they are used
    modules = {name.split(".")[0] for path in (ROOT / "lib").rglob("*.py") for name in imported(path)}
    packages = metadata.packages_distributions()
    brought = {canonicalize_name(pin.name) for pin, _ in pins(ROOT / "locks" / "book.txt")}
    wanting = [
        name
        for name in modules - sys.stdlib_module_names - ours - extras
        if brought.isdisjoint(map(canonicalize_name, packages.get(name, [])))
    ]
    assert {"torch", "bs4"} <= modules and not wanting


def test_file_with_another_hash_is_refused_in_one_sentence(tmp_path: Path) -> None:
    shutil.copy2(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "tiny-1-py3-none-any.whl"):
        (tmp_path / name).touch()
    (tmp_path / "locks").mkdir()
    for path in LOCKS:
        (tmp_path / "locks" / path.name).write_text(f"tiny==1 --hash=sha256:{'0' * 64}\n")
    python = tmp_path / ".venv" / "bin" / "python"  # this one's pip will do
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    alone = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    done = subprocess.run(
        ["make", "--no-print-directory", "site"],
        cwd=tmp_path,
        env=alone,
        capture_output=True,
        text=True,
        check=False,
    )
    said, _ = done.stderr.splitlines()  # make's own last line follows
    assert done.returncode
    assert said == (
        "nothing was installed: the file of tiny==1 that arrived has another hash than those in "
        "locks/installer.txt"
    )
