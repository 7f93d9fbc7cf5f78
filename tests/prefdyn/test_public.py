"""Public names: each has words of its own and a place on its room's page, and a room brings no torch that it
does not need.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

import prefdyn
from prefdyn import cache
from prefdyn.errors import PrefdynError, extra

PAGES = Path(__file__).parents[2] / "book" / "api"
ROOMS = ("data", "models", "engine", "measures", "theory", "experiments")
each_room = pytest.mark.parametrize("room", ROOMS)


def public(module: ModuleType) -> dict[str, object]:
    return {name: getattr(module, name) for name in module.__all__}


def described(module: ModuleType) -> set[str]:
    """Constants of a module under which a text says what they are."""
    body = ast.parse(inspect.getsource(module)).body
    found = set()
    for node, after in pairwise(body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def home(module: str, name: str) -> ModuleType:
    return importlib.import_module(cache._home(module, name))


@each_room
def test_every_public_name_says_what_it_is(room: str) -> None:
    module = f"prefdyn.{room}"
    for name, what in public(importlib.import_module(module)).items():
        if callable(what) and hasattr(what, "__module__") and what.__module__.startswith("prefdyn"):
            assert what.__doc__ and what.__doc__.strip()[-1] in ".:", name
        elif isinstance(what, ModuleType):
            assert what.__doc__, name
        else:
            assert name in described(home(module, name)), f"{name}: write a text under it"


@each_room
def test_every_public_name_is_on_the_page_of_its_room(room: str) -> None:
    page = (PAGES / f"{room}.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\.\. auto\w+:: (?:[\w.]+\.)?(\w+)$", page, re.M))
    whole = set(re.findall(r"^\.\. automodule:: ([\w.]+)$", page, re.M))
    for name, what in public(importlib.import_module(f"prefdyn.{room}")).items():
        if isinstance(what, ModuleType):
            assert what.__name__ in whole or f":: {what.__name__}" in page, name
        else:
            assert name in listed or cache._home(f"prefdyn.{room}", name) in whole, name


def test_names_of_the_library_are_on_its_first_page() -> None:
    page = (PAGES / "prefdyn.md").read_text(encoding="utf-8")
    for name, what in public(prefdyn).items():
        assert f"`{name}`" in page or f"`prefdyn.{name}" in page or f":: {name}" in page, name
        if not isinstance(what, ModuleType):
            assert f"{what.__module__}.".startswith("prefdyn.") and what.__doc__, name


@pytest.mark.parametrize(
    "module",
    [
        "prefdyn",
        "prefdyn.data",
        "prefdyn.measures",
        "prefdyn.measures.estimates",
        "prefdyn.measures.geometry",
        "prefdyn.measures.halves",
        "prefdyn.theory",
        "prefdyn.theory.noise",
        "prefdyn.theory.ranking",
    ],
)
def test_what_needs_no_torch_does_not_load_it(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_name_that_a_room_passes_on_is_looked_up_where_it_is_defined() -> None:
    """So a kept result depends on what made it, and not on all of a room."""
    assert cache._home("prefdyn", "Pair") == cache._home("prefdyn.data", "Pair") == "prefdyn.data.pairs"
    assert cache._home("prefdyn.engine", "losses") == "prefdyn.engine.losses"
    assert "prefdyn.data.datasets" not in cache.modules_behind("prefdyn.engine.training")


def test_missing_package_of_an_extra_is_one_sentence() -> None:
    with (
        pytest.raises(PrefdynError, match=r"no_such_package is not installed.*'prefdyn\[hub\]'"),
        extra("hub"),
    ):
        importlib.import_module("no_such_package")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), extra("hub"):
        importlib.import_module("prefdyn.no_such_module")
