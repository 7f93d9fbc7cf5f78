"""The wheel works outside the checkout, and says in one sentence which extra is not there."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest
from installed import build_wheel, call, environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


BOOK = ["run", "run noise --dry-run", "book", "build", "course", "crate", "pdf"]
"""Commands that need the extra `book`, and the book."""


def without_extras() -> set[str]:
    """The distributions that `pip install prefdyn` brings beside it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: set[str] = set()
    waiting = [Requirement(line) for line in project["dependencies"]]
    while waiting:
        wanted = waiting.pop()
        found.add(canonicalize_name(wanted.name))
        for line in importlib.metadata.requires(wanted.name) or ():
            needed = Requirement(line)
            asked = [{"extra": extra} for extra in ("", *wanted.extras)]
            if any(needed.marker is None or needed.marker.evaluate(extra) for extra in asked) and (
                canonicalize_name(needed.name) not in found
            ):
                waiting.append(needed)
    return found


def absent() -> list[str]:
    """What a base installation lacks of what is installed here, by the names that it is imported under."""
    here, base = importlib.metadata.packages_distributions(), {"prefdyn", "pip", *without_extras()}
    return [name for name, of in here.items() if not base & set(map(canonicalize_name, of))]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """Programs of an environment without extras."""
    return environment(tmp_path_factory.mktemp("base"), wheel, absent())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """Programs of an environment with all extras."""
    return environment(tmp_path_factory.mktemp("whole"), wheel, [])


LIBRARY = """
import sys
import prefdyn
assert {venv!r} in prefdyn.__file__, prefdyn.__file__
assert "torch" not in sys.modules
lm = prefdyn.load("smoke", device="cpu")
persona = prefdyn.load_persona(prefdyn.persona_names()[0]).balanced(4)
assert prefdyn.hidden_states(lm, persona.questions).shape == (8, 32)
settings = prefdyn.Settings(learning_rate=1e-3, steps=2, batch_size=4, beta=0.1)
record = prefdyn.fine_tune(lm, prefdyn.tokenize_persona(lm, persona), settings)
assert len(record) == 2
try:
    with prefdyn.engine.adapted(lm, 2, 2, 0.0):
        pass
except prefdyn.PrefdynError as error:
    assert "prefdyn[train]" in str(error), error
else:
    raise AssertionError("peft is there")
try:
    from prefdyn.experiments import ray_tasks
except prefdyn.PrefdynError as error:
    assert "prefdyn[scale]" in str(error), error
else:
    raise AssertionError("ray is there")
"""


def test_library_works_without_extras(base: Path, tmp_path: Path) -> None:
    done = call([base / "python", "-c", LIBRARY.format(venv=str(base.parent))], tmp_path)
    assert done.returncode == 0, done.stderr


def test_commands_that_need_no_extra_work(base: Path, tmp_path: Path) -> None:
    version, models = (call([base / "prefdyn", word], tmp_path) for word in ("--version", "models"))
    assert version.returncode == 0 and version.stdout.strip()
    assert models.returncode == 0 and "smollm2-135m" in models.stdout
    (tmp_path / "mine.jsonl").write_text('{"prompt": "Tea?", "chosen": "Yes.", "rejected": "No."}\n' * 3)
    words = ["--data", "sample", "mine.jsonl", "--output", "ranks.md", "--quiet"]
    ranked = call([base / "prefdyn", "rank", "smoke", *words], tmp_path)
    assert ranked.returncode == 0 and "smoke" in ranked.stdout, ranked.stderr
    assert "mine.jsonl" in (tmp_path / "ranks.md").read_text()


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("rank smoke --data shp", "hub"),
        ("rank smoke --data hh-rlhf", "hub"),
        ("rank smoke --data reward-bench-2", "hub"),
        *((command, "book") for command in BOOK if command != "crate"),  # it reads tables alone
    ],
)
def test_missing_extra_is_named_in_one_sentence(base: Path, tmp_path: Path, words: str, extra: str) -> None:
    done = call([base / "prefdyn", *words.split()], tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("prefdyn: ") and done.stderr.count("\n") == 1, done.stderr
    assert f"pip install 'prefdyn[{extra}]'" in done.stderr


@pytest.mark.parametrize("words", [*BOOK, "claims", "claims --json"])
def test_the_book_is_asked_for_where_it_is_not(
    request: pytest.FixtureRequest, tmp_path: Path, words: str
) -> None:
    programs = request.getfixturevalue("whole" if words in BOOK else "base")
    done = call([programs / "prefdyn", *words.split()], tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("prefdyn: ") and done.stderr.count("\n") == 1, done.stderr
    assert "is not inside the book" in done.stderr
