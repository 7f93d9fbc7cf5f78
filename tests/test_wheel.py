"""The wheel works outside the checkout, and says in one sentence which extra is not there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ABSENT = [
    "accelerate",
    "datasets",
    "ipykernel",
    "jupyter_book",
    "jupytext",
    "matplotlib",
    "nbformat",
    "openai",
    "papermill",
    "peft",
    "seaborn",
    "trl",
    "umap",
]
"""What a base installation lacks: packages of the extras, by the names that they are imported under."""


def call(command: list[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, for a build leaves files beside its sources."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    shutil.copytree(ROOT / "lib", source / "lib", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    done = call([*pip, "wheel", ".", "--no-deps", "--no-build-isolation", "-w", "wheels"], source)
    assert done.returncode == 0, done.stderr
    (found,) = (source / "wheels").iterdir()
    return found


def environment(folder: Path, wheel: Path, absent: list[str]) -> Path:
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
    lines = [sysconfig.get_path("purelib"), f"import sys; sys.modules.update(dict.fromkeys({absent}))"]
    (packages / "others.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return programs


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """Programs of an environment without extras."""
    return environment(tmp_path_factory.mktemp("base"), wheel, ABSENT)


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
    prefdyn.engine.trl_engine
except prefdyn.PrefdynError as error:
    assert "prefdyn[scale]" in str(error), error
else:
    raise AssertionError("trl is there")
"""


def test_library_works_without_extras(base: Path, tmp_path: Path) -> None:
    done = call([base / "python", "-c", LIBRARY.format(venv=str(base.parent))], tmp_path)
    assert done.returncode == 0, done.stderr


def test_commands_that_need_no_extra_work(base: Path, tmp_path: Path) -> None:
    version, models = (call([base / "prefdyn", word], tmp_path) for word in ("--version", "models"))
    assert version.returncode == 0 and version.stdout.strip()
    assert models.returncode == 0 and "smollm2-135m" in models.stdout
    ranked = call([base / "prefdyn", "rank", "smoke", "--data", "sample", "--quiet"], tmp_path)
    assert ranked.returncode == 0 and "smoke" in ranked.stdout, ranked.stderr


@pytest.mark.parametrize(
    ("words", "extra"),
    [("rank smoke --data shp", "hub"), ("run noise", "book"), ("course", "book"), ("build", "book")],
)
def test_missing_extra_is_named_in_one_sentence(base: Path, tmp_path: Path, words: str, extra: str) -> None:
    done = call([base / "prefdyn", *words.split()], tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("prefdyn: ") and done.stderr.count("\n") == 1, done.stderr
    assert f"pip install 'prefdyn[{extra}]'" in done.stderr


@pytest.mark.parametrize("words", ["run noise", "course", "build", "claims"])
def test_the_book_is_asked_for_where_it_is_not(whole: Path, tmp_path: Path, words: str) -> None:
    done = call([whole / "prefdyn", *words.split()], tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("prefdyn: ") and done.stderr.count("\n") == 1, done.stderr
    assert "is not inside the book" in done.stderr
