"""What the tests share: a tiny model, a cache of their own, the executed chapters and the site, and the
publishers' files where they are at hand.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock, Timeout
from hypothesis import settings

from prefbook.publishing import site
from prefbook.running import execution, runs
from prefbook.running.runs import Run
from prefdyn.models import LanguageModel, loading

ROOT = Path(__file__).parents[1]

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# A shared machine may stall, and a failure must come back on the next run: no deadline, the same examples
# every time.
settings.register_profile("prefdyn", deadline=None, derandomize=True)
settings.load_profile("prefdyn")

# Tiny models lose more to threads that wait for each other than they gain.
torch.set_num_threads(1)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Iterator[None]:
    """Say in one line what was left out and what brings it in, before pytest's own last line."""
    yield
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    )
    if reasons:
        said = "; ".join(f"{number} ({reason})" for reason, number in reasons.most_common())
        terminalreporter.write_line(f"left out: {said}")


@pytest.fixture(scope="session")
def smoke() -> LanguageModel:
    """The tiny random Llama; a test that changes its weights takes `fresh_smoke`."""
    return loading.load("smoke", device="cpu", precision="float32")


@pytest.fixture
def fresh_smoke() -> LanguageModel:
    return loading.load("smoke", device="cpu", precision="float32")


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
        pytest.skip(f"no publishers' files: lay them out in {folder}, as book/rerun.md says")
    return folder


@pytest.fixture(scope="session")
def cuda() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: run `.venv/bin/pytest -m gpu` where there is one")
    return torch.device("cuda")


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """What all processes of a test run have in common: the chapters take minutes, and are executed once."""
    return factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else factory.getbasetemp()


@pytest.fixture(scope="session")
def executed_chapters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """Every chapter of the book by name, executed under the smoke profile with a cache of its own, which
    stays set while others use it.
    """
    folder = shared_folder(tmp_path_factory) / "chapters"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(folder / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        prepared = runs.prepare(ROOT, [], "smoke", {}, {}, folder / "runs")
        locks = {run.chapter: FileLock(folder / f"{run.chapter}.lock") for run in prepared}
        for timeout in (0, -1):  # first what no other process is at, then what is left
            for run in prepared:
                with contextlib.suppress(Timeout), locks[run.chapter].acquire(timeout=timeout):
                    execution.run_chapter(run, progress=False)
        assert all(run.is_done() for run in prepared)
        yield {run.chapter: run for run in prepared}


@pytest.fixture(scope="session")
def html(tmp_path_factory: pytest.TempPathFactory, executed_chapters: dict[str, Run]) -> Path:
    """The folder of the built site, at a path with a space."""
    notebooks = {name: run.notebook for name, run in executed_chapters.items()}
    folder = shared_folder(tmp_path_factory) / "the site"
    with FileLock(f"{folder}.lock"):
        return site.build(ROOT, notebooks, folder / "_build").parent


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    found = os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if not found:
        pytest.skip("no Chromium: `apt-get install chromium`, or name one in the variable CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield chromium
        chromium.close()
