"""Where a number comes from: the commit, the machine, the versions, and tables that carry it all."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from prefdyn.experiments import provenance
from prefdyn.experiments.provenance import Provenance, save_table


def rests_on(**changes: Any) -> Provenance:
    given = {
        "commit": "0123456789ab",
        "model": "smoke",
        "model_fingerprint": "abc",
        "data": "sample",
        "data_fingerprint": "def",
        "profile": "smoke",
        "seeds": "3",
        "precision": "float32",
        "device": torch.device("cpu"),
        "seconds": 12.4,
    }
    return Provenance.of(**{**given, **changes})


def git(folder: Path, *words: str) -> str:
    named = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(folder), *named, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the library seems to run from, in no checkout."""
    folder = tmp_path / "checkout" / "lib"
    folder.mkdir(parents=True)
    (folder / "provenance.py").write_text("# a file\n")
    monkeypatch.setattr(provenance, "__file__", str(folder / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return folder


@pytest.fixture
def committed(library: Path) -> str:
    """The commit of a checkout without changes around that folder."""
    git(library.parent, "init", "--quiet")
    git(library.parent, "add", ".")
    git(library.parent, "commit", "--quiet", "--message", "first")
    return git(library.parent, "rev-parse", "HEAD")


# The commit ---------------------------------------------------------------------------------------


def test_commit_of_a_clean_checkout_is_its_head(committed: str) -> None:
    assert provenance.commit() == committed[:12]


@pytest.mark.parametrize("change", ["provenance.py", "new.py"])
def test_commit_of_a_dirty_checkout_is_marked(committed: str, library: Path, change: str) -> None:
    (library / change).write_text("# changed\n")
    assert provenance.commit() == f"{committed[:12]} with changes"


def test_commit_outside_a_checkout_is_unknown(library: Path) -> None:
    assert provenance.commit() == "unknown"


def test_commit_of_a_checkout_without_commits_is_unknown(library: Path) -> None:
    git(library.parent, "init", "--quiet")
    assert provenance.commit() == "unknown"


def test_commit_without_git_is_unknown(
    committed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.commit() == "unknown"


# The fields ---------------------------------------------------------------------------------------


def test_every_field_has_something_to_say() -> None:
    assert all(str(value) for value in asdict(rests_on()).values())


def test_versions_are_those_that_are_installed() -> None:
    expected = [f"Python {platform.python_version()}"]
    expected += [
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "numpy", "scipy")
    ]
    assert rests_on().versions.split(", ") == expected


def test_time_is_now_in_utc() -> None:
    made = datetime.strptime(rests_on().made, "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - made).total_seconds()) < 120


def test_device_is_told_in_words() -> None:
    device = rests_on().device
    assert device.endswith(f", {torch.get_num_threads()} threads") and not device.startswith(",")
    assert provenance.describe_device(torch.device("mps")) == "mps"


@pytest.mark.gpu
def test_gpu_is_told_by_its_name(cuda: torch.device) -> None:
    assert provenance.describe_device(cuda) == torch.cuda.get_device_name()


@pytest.mark.parametrize(
    ("given", "told"), [("sample", "sample"), ("hub", "hub"), ("/home/someone/private/data", "data")]
)
def test_data_is_told_without_the_path_to_it(given: str, told: str) -> None:
    assert rests_on(data=given).data == told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("default", "default"),
        ("EleutherAI/pythia-160m", "EleutherAI/pythia-160m"),
        ("/home/someone/private/my-model", "my-model"),
        ("/home/someone/private/my-model/", "my-model"),
        ("~/private/tiny.gguf", "tiny.gguf"),
        ("../private/my-model", "my-model"),
        ("private/my-model", "my-model"),
    ],
)
def test_model_is_told_without_the_path_to_it(
    given: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "private" / "my-model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert rests_on(model=given).model == told


def test_page_shows_a_row_for_each_field() -> None:
    table = rests_on().table()
    assert list(table.index) == [field.name.replace("_", " ") for field in fields(Provenance)]
    assert table.loc["seconds", "value"] == "12" and table.loc["model", "value"] == "smoke"


# Tables -------------------------------------------------------------------------------------------


@pytest.fixture
def table() -> pd.DataFrame:
    numbers = np.random.default_rng(0).normal(size=3) * [1e-9, 1, 1e9]
    return pd.DataFrame(
        {
            "behaviour": ["tea, or coffee", 'says "yes"', "δ ünï"],
            "‖Σ‖": numbers,
            "n": [1, 2, 3],
            "gap": [0.5, np.nan, -1],
        }
    )


def test_table_reads_back_with_pandas(tmp_path: Path, table: pd.DataFrame) -> None:
    save_table(table, tmp_path / "tables" / "some.csv", rests_on())
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "tables" / "some.csv", comment="#"), table, rtol=1e-5
    )


def test_table_carries_every_field_above_it(tmp_path: Path, table: pd.DataFrame) -> None:
    made = rests_on()
    save_table(table, tmp_path / "some.csv", made)
    lines = (tmp_path / "some.csv").read_text(encoding="utf-8").splitlines()
    assert lines[: len(fields(Provenance))] == [f"# {name}: {value}" for name, value in asdict(made).items()]
    assert lines[len(fields(Provenance))] == "behaviour,‖Σ‖,n,gap"


def test_table_with_a_number_sign_in_its_text_reads_back(tmp_path: Path) -> None:
    table = pd.DataFrame({"statement": ["the #1 reason", "no sign"], "n": [1, 2], "x": [0.25, 0.5]})
    save_table(table, tmp_path / "some.csv", rests_on())
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "some.csv", comment="#"), table)


def test_table_can_be_read_by_all(tmp_path: Path, table: pd.DataFrame) -> None:
    save_table(table, tmp_path / "some.csv", rests_on())
    assert (tmp_path / "some.csv").stat().st_mode & 0o777 == 0o644
