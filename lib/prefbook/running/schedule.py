"""Several chapters run one after the other, or two at a time where a CPU has the cores and the memory for it.

The matrices of a small model keep a second core of a laptop busy for two thirds of the time; two chapters
keep both busy all the time.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait

import psutil
import torch

from prefbook.running import execution
from prefbook.running.runs import Run
from prefdyn.errors import PrefdynError
from prefdyn.experiments import CHAPTERS, plan, sharding
from prefdyn.models import devices, loading

PATIENCE = 10
"""Seconds that an interrupted chapter has to leave nothing behind."""


def memory(run: Run) -> float:
    """Bytes that a run holds at most: those of its heaviest work."""
    work = run.work()
    size = plan.model_size(loading.full_name(run.values["model"])) if work else None
    return max((item.memory(size) for item in work if size), default=plan.FIXED_BYTES)


def at_once(chapters: Sequence[Run]) -> int:
    """How many of them to run at the same time: two on a CPU that has two cores or more and the memory for
    the two largest, else one.
    """
    places = [devices.choose_device(run.values["device"]) for run in chapters]
    if os.environ.get("PREFDYN_ON") or os.environ.get("PREFDYN_SHARD"):  # a chapter takes all there is
        return 1
    if len(chapters) < 2 or any(place.type != "cpu" for place in places) or torch.get_num_threads() < 2:
        return 1
    needs = sorted(map(memory, chapters))
    return 2 if sum(needs[-2:]) <= plan.free_memory(places[0]) else 1


def run_all(chapters: Sequence[Run], progress: bool = True) -> Iterator[tuple[Run, bool]]:
    """Run chapters in the order of `experiments.CHAPTERS`; yields each as it is finished, with whether it ran
    or was up to date.

    A chapter that died beside another, most often for lack of memory, is run again once, and it and what was
    not begun by then run one after the other.

    Raises:
        PrefdynError: what stopped a chapter; those begun by then are finished first, the others are not
            begun.
    """
    order = list(CHAPTERS)
    left = sorted(chapters, key=lambda run: order.index(run.chapter))
    count = at_once([run for run in left if not run.is_done()])
    if count > 1:
        left = yield from _run(left, count, progress)
    yield from _run(left, 1, progress)


def _run(chapters: Sequence[Run], count: int, progress: bool) -> Generator[tuple[Run, bool], None, list[Run]]:
    """Run so many chapters at a time; returns those left to be run, because one died beside another."""
    stopped = threading.Event()
    left: list[Run] = []
    failed: Exception | None = None

    def run_unless_stopped(run: Run) -> bool | None:
        try:
            return None if stopped.is_set() else execution.run_chapter(run, progress)
        except BaseException:
            stopped.set()
            raise

    pool = ThreadPoolExecutor(count)
    with _threads(torch.get_num_threads() // count) if count > 1 else contextlib.nullcontext():
        waiting = {pool.submit(run_unless_stopped, run): run for run in chapters}
        try:
            for done in as_completed(waiting):
                ran = None
                try:
                    ran = done.result()
                except Exception as error:
                    if count == 1 or not isinstance(error, execution.KernelDied):
                        failed = failed or error
                    else:
                        print(f"prefdyn: {error}; it is run again, alone", flush=True)
                if ran is None:
                    left.append(waiting[done])
                else:
                    yield waiting[done], ran
        except BaseException:
            # An interrupt reaches this process, not the kernels, which have sessions of their own.
            stopped.set()
            for _ in range(PATIENCE):
                _stop_kernels()
                if not wait(waiting, timeout=1).not_done:
                    break
            raise
        finally:
            pool.shutdown(wait=False)  # all is done, or the client of a killed kernel never ends
    if failed is not None:
        raise failed
    return [run for run in chapters if run in left]


@contextlib.contextmanager
def spread(chapters: Sequence[Run], on: str, shard: int, here: bool = True) -> Iterator[None]:
    """While it lasts, chapters send their independent trainings to a Ray, or spread the model over so many
    devices; neither where they are "" and 0.

    Args:
        here: whether the devices must be.

    Raises:
        PrefdynError: it is both, or no Ray, the packages for one are not there, or devices are missing.
    """
    if on and shard:
        raise PrefdynError("--on sends trainings to a Ray, --shard spreads a model over devices: give one")
    if on:
        from prefdyn.experiments import ray_tasks

        ray_tasks.check(on)
    for run in chapters if shard else ():
        # Of cards that are not here there are as many as one likes, as there are processes on a CPU.
        device = devices.choose_device(run.values["device"] if here else "cpu")
        sharding.check(shard, device)
    given = {"PREFDYN_ON": on, "PREFDYN_SHARD": str(shard or "")}  # chapters run in processes of their own
    before = {name: os.environ.get(name, "") for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.update(before)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """The number of threads that a process started here computes with, unless the user has set it."""
    names = [name for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS") if name not in os.environ]
    os.environ.update(dict.fromkeys(names, str(count)))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def _stop_kernels() -> None:
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
