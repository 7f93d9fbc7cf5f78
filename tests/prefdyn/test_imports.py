"""What judges claims and draws figures from tables loads no torch; a bare `import prefdyn` loads nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "datasets", "sklearn", "umap", "openai", "statsmodels")


def loaded_by(*modules: str) -> set[str]:
    """Which of the heavy packages a new process has after these imports."""
    code = f"import sys, {', '.join(modules)}\nprint(*({set(HEAVY)} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_rooms_load_nothing_until_something_in_them_is_used() -> None:
    rooms = ("data", "models", "engine", "measures", "theory")
    assert loaded_by("prefdyn", *(f"prefdyn.{room}" for room in rooms)) == set()


@pytest.mark.parametrize("room", ["data", "measures", "theory"])
def test_arrays_and_tables_need_no_torch(room: str) -> None:
    names = {
        "data": (
            *("personas", "pairs", "rankings", "datasets", "examples", "prompts"),
            *("noise", "fingerprints"),
        ),
        "measures": ("estimates", "geometry", "halves", "endpoint", "best_of", "paired"),
        "theory": ("clusters", "distinguishability", "noise", "ranking", "reward_dynamics", "vmf"),
    }[room]
    assert loaded_by(*(f"prefdyn.{room}.{name}" for name in names)) <= {"statsmodels"}
