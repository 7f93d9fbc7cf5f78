"""Writes the locks anew from the files of direct pins; `make lock` calls it, and fetches uv for it.

A lock has what its step in the Makefile adds, with the hashes of every file that the package index has of a
version. Versions stay as they are where the direct pins allow it; one moves if its lines are deleted first.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

LOCKS = Path(__file__).parent
STEPS = {"book": "requirements.txt", "course": "requirements-course.txt", "tests": "tests/requirements.txt"}
APART = {"installer": re.compile(r"(pip|setuptools|wheel)="), "cuda": re.compile(r"cuda-|nvidia-|triton=")}
"""What of the book is installed before the rest, and what only where torch's build asks for it."""
CPU_TORCH = "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
"""The hash of torch's build for a CPU alone (cp311, x86-64 Linux), which is no file of the package index but
one that a machine may have: `pip hash FILE`.
"""


def resolve(requirements: str, constraints: list[Path]) -> list[str]:
    """The lines of each package that some direct pins bring, on whatever platform."""
    with tempfile.NamedTemporaryFile("w+", suffix=".txt") as found:
        found.write("".join(path.read_text() for path in LOCKS.glob("*.txt")))  # versions to keep
        found.flush()
        command = ["uv", "pip", "compile", requirements, "--universal", "--python-version", "3.11", "--quiet"]
        command += ["--generate-hashes", "--no-annotate", "--no-header", "--no-emit-package", "prefdyn"]
        command += ["--output-file", found.name, *(f"--constraints={path}" for path in constraints)]
        subprocess.run(command, cwd=LOCKS.parent, check=True)
        return re.findall(r"^\S.*?\n(?=\S|\Z)", Path(found.name).read_text(), re.M | re.S)


def write(name: str, packages: list[str]) -> Path:
    """Write a lock; returns its path."""
    path = LOCKS / f"{name}.txt"
    path.write_text("# Written by `make lock`; not to be edited.\n" + "".join(packages))
    return path


def main() -> None:
    """Write all locks."""
    known: set[str] = set()
    written: list[Path] = []
    for step, requirements in STEPS.items():
        rest = []
        parts: dict[str, list[str]] = {name: [] for name in APART} if step == "book" else {}
        for package in resolve(requirements, written):
            pin = package.partition(" \\")[0]
            if known.isdisjoint({pin, pin.partition(" ;")[0]}):
                known.add(pin)
                if pin.startswith("torch==") and CPU_TORCH not in package:
                    package = package.rstrip() + f" \\\n    --hash=sha256:{CPU_TORCH}\n"
                home = next((name for name in parts if APART[name].match(pin)), None)
                (rest if home is None else parts[home]).append(package)
        written += [write(name, packages) for name, packages in {**parts, step: rest}.items()]


if __name__ == "__main__":
    main()
