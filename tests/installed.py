"""The wheel in an environment of its own, without the checkout and without a package index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def call(command: list[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(part) for part in command], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def build_wheel(source: Path) -> Path:
    """Built from a copy in the empty folder `source`, for a build leaves files beside its sources."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    shutil.copytree(ROOT / "lib", source / "lib", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    done = call([*pip, "wheel", ".", "--no-deps", "--no-build-isolation", "-w", "wheels"], source)
    assert done.returncode == 0, done.stderr
    (found,) = (source / "wheels").iterdir()
    return found


NOT_INSTALLED = """
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {missing} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
"""


def environment(folder: Path, wheel: Path, missing: Sequence[str] = ()) -> Path:
    """A virtual environment with the wheel and the packages of this one, but for some; the folder of its
    programs.
    """
    made = call([sys.executable, "-m", "venv", "--without-pip", "venv"], folder)
    assert made.returncode == 0, made.stderr
    programs = folder / "venv" / "bin"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", programs / "python"]
    done = call([*pip, "install", "--no-deps", "--no-index", wheel], folder)
    assert done.returncode == 0, done.stderr
    (packages,) = (folder / "venv" / "lib").glob("*/site-packages")
    # A path in a .pth file is searched, and its own .pth files, such as the checkout's, are not read.
    lines = [sysconfig.get_path("purelib"), "import not_installed"]
    (packages / "others.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (packages / "not_installed.py").write_text(NOT_INSTALLED.format(missing=list(missing)), encoding="utf-8")
    return programs
