"""What the tests share: a tiny model, a cache of their own, and the publishers' files where they are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from prefdyn import models
from prefdyn.models import LanguageModel

# A shared machine may stall, and a failure must come back on the next run: no deadline, the same examples every time.
settings.register_profile("prefdyn", deadline=None, derandomize=True)
settings.load_profile("prefdyn")

# Tiny models lose more to threads that wait for each other than they gain.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def smoke() -> LanguageModel:
    """The tiny random Llama; a test that changes its weights takes `fresh_smoke`."""
    return models.load("smoke", device="cpu", precision="float32")


@pytest.fixture
def fresh_smoke() -> LanguageModel:
    return models.load("smoke", device="cpu", precision="float32")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, for this test alone."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PREFDYN_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """A folder that holds the publishers' own files."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the publishers' files are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def cuda() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    return torch.device("cuda")
