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


def kept_versions() -> str:
    """The pins of the locks as they are."""
    texts = [path.read_text() for path in LOCKS.glob("*.txt") if path.stem != "torch-cpu"]
    return re.sub(r" \\\n +--hash=\S+", "", "".join(texts))


def resolve(requirements: str, constraints: list[Path]) -> list[str]:
    """The lines of each package that some direct pins bring, on whatever platform."""
    with tempfile.NamedTemporaryFile("w+", suffix=".txt") as found:
        found.write(kept_versions())
        found.flush()
        command = ["uv", "pip", "compile", requirements, "--universal", "--python-version", "3.11", "--quiet"]
        command += ["--generate-hashes", "--no-annotate", "--no-header", "--no-emit-package", "prefdyn"]
        command += ["--output-file", found.name, *(f"--constraints={path}" for path in constraints)]
        subprocess.run(command, cwd=LOCKS.parent, check=True)
        return re.findall(r"^\S.*?\n(?=\S|\Z)", Path(found.name).read_text(), re.M | re.S)


def main() -> None:
    """Write all locks but torch-cpu.txt, which is kept by hand."""
    known: set[str] = set()
    written: list[Path] = []
    for step, requirements in STEPS.items():
        parts: dict[str, str] = {}
        for package in resolve(requirements, written):
            pin = package.partition(" \\")[0]
            if known.isdisjoint({pin, pin.partition(" ;")[0]}):
                known.add(pin)
                home = next((name for name, names in APART.items() if names.match(pin)), step)
                parts[home] = parts.get(home, "") + package
        for name, packages in parts.items():
            written.append(LOCKS / f"{name}.txt")
            written[-1].write_text(f"# Written by `make lock`; not to be edited.\n{packages}")


if __name__ == "__main__":
    main()
