"""Tasks on a real local Ray of two workers: what they give is what this process gives, whoever dies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import ray
import rounding
from small_chapters import GENERALIZATION, NOISE

from prefdyn import data
from prefdyn.engine import losses
from prefdyn.engine.last_layer import Descent
from prefdyn.engine.training import Settings
from prefdyn.errors import PrefdynError
from prefdyn.experiments import company, noise_clouds, noisy, ray_tasks
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.noisy import Cloud
from prefdyn.experiments.phases import Phase, PhaseResult
from prefdyn.experiments.tasks import Task

pytestmark = pytest.mark.usefixtures("cache")

Experiment = Callable[[Bench, Any], pd.DataFrame | Mapping[str, pd.DataFrame]]
AT_WORK = "ray::_Worker.do"
"""How the process of a worker is called while it is at a task."""
BETA = 0.1


def trainings(steps: int, count: int = 3) -> list[list[Phase]]:
    """Of one persona each."""
    how = Settings(learning_rate=1e-4, steps=steps, batch_size=4, beta=BETA)
    names = data.persona_names()[:count]
    return [[Phase([data.load_persona(name).balanced(6)], how)] for name in names]


def clouds(per_label: int = 20) -> list[Task]:
    """Of a task that needs no model, three."""
    how = [{"DPO": losses.get("dpo")}, {"": Descent(BETA, 1.0, 5)}, [0.0, 0.2], per_label, 3]
    return [
        Task(
            f"cloud {kappa}",
            "clouds",
            {"of": [kappa, per_label]},
            noisy.controlled,
            (Cloud(kappa, 1.0, 16), *how),
        )
        for kappa in (0.1, 0.2, 0.3)
    ]


def bench(on: str = "") -> Bench:
    return Bench("smoke", device="cpu", precision="float32", on=on)


@pytest.fixture(scope="module")
def on_ray() -> Iterator[Bench]:
    """A bench with two workers, which come up once for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield bench("ray")
        ray.shutdown()


def check_same(found: list[list[PhaseResult]], expected: list[list[PhaseResult]]) -> None:
    """Up to rounding: a worker that has trained knows the reference from other batches."""
    allowed = rounding.of_training(bench().lm.model, BETA, 1)
    for (one,), (other,) in zip(found, expected, strict=True):
        records = [result.record.drop(columns=["accuracy", "ranking_accuracy"]) for result in (one, other)]
        pd.testing.assert_frame_equal(*records, rtol=0, atol=allowed)


def tables_of(found: pd.DataFrame | Mapping[str, pd.DataFrame]) -> list[pd.DataFrame]:
    return [found] if isinstance(found, pd.DataFrame) else [*found.values()]


def workers_at_work(driver: psutil.Process) -> list[psutil.Process]:
    """Waits until there is one."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        found = [child for child in driver.children(recursive=True) if child.name().startswith(AT_WORK[:15])]
        at_work = [child for child in found if child.cmdline()[:1] == [AT_WORK]]
        if at_work:
            return at_work
        time.sleep(0.02)
    raise AssertionError("no worker came to a task")


def test_tasks_on_ray_give_what_they_give_here(
    on_ray: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, trained = on_ray.keep_all(clouds()), on_ray.train_all(trainings(2))
    # What was made on Ray is found without one: where is no part of what.
    with monkeypatch.context() as patch:
        patch.setattr(Bench, "do", lambda self, task: pytest.fail(f"{task.name} is made again"))
        assert all(map(pd.DataFrame.equals, bench().keep_all(clouds()), found))
        check_same(bench().train_all(trainings(2)), trained)
    monkeypatch.setenv("PREFDYN_CACHE", str(tmp_path / "another"))
    for one, other in zip(found, bench().keep_all(clouds()), strict=True):
        pd.testing.assert_frame_equal(one, other)
    check_same(trained, bench().train_all(trainings(2)))


@pytest.mark.parametrize(
    ("experiment", "design"),
    [(company.nested_sets, GENERALIZATION), (noise_clouds.phase_map, NOISE)],
    ids=["trainings", "clouds"],
)
def test_tables_of_a_chapter_are_those_without_a_ray(
    experiment: Experiment, design: Any, on_ray: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tables_of(experiment(on_ray, design))
    monkeypatch.setenv("PREFDYN_CACHE", str(tmp_path / "another"))
    expected = tables_of(experiment(bench(), design))
    allowed = rounding.of_training(bench().lm.model, BETA, 1)
    for one, other in zip(found, expected, strict=True):
        pd.testing.assert_frame_equal(one, other, rtol=0, atol=allowed)


def test_the_same_workers_train_in_the_other_precision(
    on_ray: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [on.train_all(trainings(2, count=1)) for on in (on_ray, on_ray.rounded("bfloat16"))]
    assert on_ray.rounded("bfloat16")._pool is on_ray._pool  # others would wait for cores that these have
    monkeypatch.setenv("PREFDYN_CACHE", str(tmp_path / "another"))
    for precision, trained in zip(("float32", "bfloat16"), found, strict=True):
        check_same(trained, bench().rounded(precision).train_all(trainings(2, count=1)))
    with pytest.raises(AssertionError):
        check_same(*found)


def test_task_of_a_killed_worker_is_taken_up_again(
    on_ray: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    on_ray.keep_all(clouds())  # the workers are there
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(lambda: workers_at_work(psutil.Process())[0].kill())
        found = on_ray.train_all(trainings(60))
        killed.result()
    assert "died or was killed" not in capfd.readouterr().out  # Ray's own words would be on the page
    monkeypatch.setenv("PREFDYN_CACHE", str(tmp_path / "another"))
    check_same(found, bench().train_all(trainings(60)))


def test_task_without_memory_is_named_and_the_others_are_kept(
    on_ray: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, large, last = clouds()[0], clouds(per_label=10**14)[1], clouds()[2]
    with pytest.raises(PrefdynError, match=r"^cloud 0\.2 ran out of memory on a worker: fewer workers .*$"):
        on_ray.keep_all([first, large, last])
    monkeypatch.setattr(Bench, "do", lambda self, task: pytest.fail(f"{task.name} is made again"))
    assert len(bench().keep_all([first])) == 1


def test_mistake_in_a_task_says_which(on_ray: Bench) -> None:
    no_steps = Task("descent", "clouds", {}, Descent, ())
    with pytest.raises(TypeError, match="missing 3 required positional arguments"):
        on_ray.keep_all([no_steps])
    unknown = Task("a loss", "clouds", {"loss": "ppo"}, losses.get, ("ppo",))
    with pytest.raises(PrefdynError, match=r"^a loss: .*no loss 'ppo'"):
        on_ray.keep_all([unknown])


def test_task_that_loses_every_worker_is_named(on_ray: Bench) -> None:
    on_ray.keep_all(clouds())
    with pytest.raises(ray.exceptions.RayError) as error:
        ray.get(ray.remote(lambda: os.kill(os.getpid(), 9)).options(max_retries=0, num_cpus=0).remote())
    said = str(ray_tasks._reason("a training", error.value))
    assert said.startswith("a training lost its worker 3 times, most often for lack of memory: fewer")
    assert "\n" not in said


DRIVER = """
import sys, ray
sys.path[:0] = {folders!r}
import test_ray_tasks as here
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
here.bench("ray").train_all(here.trainings(25, count=8))
"""


def test_killed_driver_leaves_nobody_behind_and_resumes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    here = Path(__file__)
    code = DRIVER.format(folders=[str(here.parent), str(here.parents[2])])
    driver = psutil.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 240

    def kept() -> set[Path]:
        """What is there whole; a result under way has a name that begins with a dot."""
        return {path for path in cache.glob("results/training/*") if not path.name.startswith(".")}

    while not kept():
        assert time.monotonic() < deadline and driver.poll() is None, driver.stderr.read().decode()[-3000:]
        time.sleep(0.05)
    of_ray = driver.children(recursive=True)
    agents = [process for process in of_ray if process.name().endswith("Agent")]
    driver.kill()
    driver.wait()
    others = [process for process in of_ray if process not in agents]
    assert psutil.wait_procs(others, timeout=20)[1] == []
    for agent in agents:  # they would look around for a minute
        agent.kill()
    before = len(kept())
    assert 0 < before < 8
    made: list[str] = []
    do = Bench.do
    monkeypatch.setattr(Bench, "do", lambda self, task: made.append(task.name) or do(self, task))
    assert len(bench().train_all(trainings(25, count=8))) == 8
    assert len(made) == 8 - before


@pytest.mark.parametrize("on", ["rays", "ray://", "ray://head", "http://head:1"])
def test_where_no_ray_can_be_is_refused(on: str) -> None:
    with pytest.raises(PrefdynError, match=f"tasks cannot run on {on!r}: write ray, or ray://HOST"):
        bench(on).keep_all(clouds())
