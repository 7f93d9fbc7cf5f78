"""Independent tasks of a model on Ray: a worker has a GPU, or some cores, and loads the model once.

A worker takes the cores that `OMP_NUM_THREADS` says, or one: small matrices gain little from a second. There
are as many workers as there are tasks, GPUs, cores, and memory to train in. Results go to the runner, which
keeps them; a lost worker's task is taken up again. Workers need this very library, and a model that is a
folder or a file under the same path.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import platform
import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from prefdyn.cache import science_version
from prefdyn.errors import PrefdynError, extra
from prefdyn.experiments import plan
from prefdyn.experiments.tasks import Runner, Task
from prefdyn.models import devices

with extra("scale"):
    import ray

TRIES = 3
"""How often a task is begun whose worker is lost."""
OBJECT_STORE = 2**28
"""Bytes of a local Ray's store, which holds the tasks and the results on their way."""
SECONDS_BETWEEN = 10.0
"""Between two words of how far the tasks are."""
MORE_MEMORY = (
    "fewer workers have more each (OMP_NUM_THREADS=N gives each N cores), or a larger machine will do"
)


def check(on: str) -> None:
    """See that tasks can be sent there.

    Raises:
        PrefdynError: it is no address.
    """
    if on != "ray" and not re.fullmatch(r"ray://.+:\d+", on):
        raise PrefdynError(f"tasks cannot run on {on!r}: write ray, or ray://HOST:PORT of a cluster")


def cores() -> int:
    """That a worker on a CPU has."""
    return int(os.environ.get("OMP_NUM_THREADS", "1").partition(",")[0])


def memory(size: plan.Size) -> float:
    """Bytes that a worker on a CPU is promised, in which a training has room."""
    return plan.Work("", "train", 1, 0.0).memory(size)


def workers_here(size: plan.Size, device: torch.device) -> tuple[int, int]:
    """How many workers a Ray of this machine has room for, one at least, and the threads of each."""
    if device.type == "cuda":
        return max(1, torch.cuda.device_count()), 0
    room = min((os.cpu_count() or 1) // cores(), int(plan.free_memory(device) // memory(size)))
    return max(1, room), cores()


class _Worker:
    """Does tasks, one at a time."""

    def __init__(self, cores: int, model: str, device: str) -> None:
        self.cores, self.about = cores, (model, device)

    @functools.cached_property
    def runner(self) -> Runner:
        """Made when it is asked for, because a worker that comes up again is not asked to be ready again."""
        torch.set_num_threads(self.cores)
        model, device = self.about
        return Runner(model, device)

    def ready(self) -> None:
        """Answers once the worker is there.

        Raises:
            PrefdynError: its machine has no such device.
        """
        assert self.runner

    def do(self, task: Task, precision: str, code: str, fingerprint: str) -> Any:
        """The result of a task, with matrix products in a precision.

        Raises:
            PrefdynError: here the library or the model is another.
        """
        if science_version(task.by.__module__) != code:
            raise PrefdynError(
                f"{platform.node()} has another prefdyn, or other packages behind it: install those from here"
            )
        if task.of_model and self.runner.lm.fingerprint != fingerprint:
            raise PrefdynError(
                f"{platform.node()} has another {self.runner.model_name}: bring the same there"
            )
        return self.runner.rounded(precision).do(task)


class Pool:
    """The workers of a runner, who come up as tasks ask for them and last as long as the process."""

    def __init__(self, runner: Runner) -> None:
        """Connect, or use the Ray that this process is connected to.

        Raises:
            PrefdynError: there is no Ray there, or none that has what a task needs.
        """
        check(runner.on)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
        how: dict[str, Any] = {"address": runner.on}
        if runner.on == "ray":
            how = {"address": "local", "include_dashboard": False, "object_store_memory": OBJECT_STORE}
        try:
            if not ray.is_initialized():
                ray.init(**how, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, TimeoutError) as error:
            first = str(error).strip().splitlines()[0]
            raise PrefdynError(f"no Ray answers at {runner.on} ({first})") from error
        self.fingerprint = runner.fingerprint
        self.cores = cores()
        self.about = (runner.model_name, runner.device.type)
        needed = memory(plan.model_size(runner.model_name))
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.options: dict[str, float] = {"num_gpus": 1}
        self.most, asked = sum(int(node.get("GPU", 0)) for node in nodes), "a GPU"
        if runner.device.type != "cuda":
            self.options = {"num_cpus": self.cores, "memory": needed}
            room = [min(node.get("CPU", 0) // self.cores, node.get("memory", 0) // needed) for node in nodes]
            self.most, asked = int(sum(room)), f"{self.cores} cores with {needed / 2**30:.1f} GiB"
        if not self.most:
            raise PrefdynError(f"no machine of the Ray at {runner.on} has {asked}, which a task needs")
        self.workers: list[Any] = []

    def run(self, tasks: Sequence[Task], precision: str) -> Iterator[tuple[int, Any]]:
        """The results of tasks as they come, each with its task's number; matrix products are in a precision.

        Raises:
            PrefdynError: what stopped a task; those begun by then are finished first, the others not begun.
        """
        while len(self.workers) < min(self.most, len(tasks)):
            worker = ray.remote(_Worker).options(max_restarts=-1, max_task_retries=TRIES - 1, **self.options)
            self.workers.append(worker.remote(self.cores, *self.about))
        left, at_work, done = deque(range(len(tasks))), 0, 0
        failed: Exception | None = None
        said = time.monotonic()
        # A worker that has not come up yet has no task to keep from others.
        begun = {worker.ready.remote(): (worker, -1) for worker in self.workers}
        while at_work or (left and failed is None):
            if time.monotonic() - said > SECONDS_BETWEEN:
                said = time.monotonic()
                print(f"prefdyn: {done} of {len(tasks)} tasks done on Ray, {at_work} at work", flush=True)
            with contextlib.redirect_stdout(io.StringIO()):  # Ray tells it at length of a lost worker
                answers, _ = ray.wait(list(begun), num_returns=1, timeout=SECONDS_BETWEEN)
            for answer in answers:
                worker, number = begun.pop(answer)
                try:
                    result = ray.get(answer)
                except ray.exceptions.RayError as error:
                    failed = failed or _reason("a worker" if number < 0 else tasks[number].name, error)
                else:
                    if number >= 0:
                        yield number, result
                        done += 1
                at_work -= number >= 0
                if left and failed is None:
                    number = left.popleft()
                    code = science_version(tasks[number].by.__module__)
                    answer = worker.do.remote(tasks[number], precision, code, self.fingerprint)
                    begun[answer] = (worker, number)
                    at_work += 1
        if failed is not None:
            raise failed


def _reason(task: str, error: Exception) -> Exception:
    """Why a task has no result, in a sentence where that is nobody's mistake."""
    cause = getattr(error, "cause", error)
    if isinstance(cause, PrefdynError):
        return PrefdynError(f"{task}: {cause}")
    if devices.out_of_memory(cause) or isinstance(cause, ray.exceptions.OutOfMemoryError):
        return PrefdynError(f"{task} ran out of memory on a worker: {MORE_MEMORY}")
    if isinstance(error, ray.exceptions.RayTaskError):
        return cause
    return PrefdynError(f"{task} lost its worker {TRIES} times, most often for lack of memory: {MORE_MEMORY}")
