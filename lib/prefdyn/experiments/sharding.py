"""A group of processes of this machine that runs a sharded model: one for each GPU, or on a CPU.

They come up when the first task asks for the model, and stay. All of them do every task; the first answers.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import tempfile
import traceback
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import cloudpickle
import torch
import torch.distributed as dist

from prefdyn.engine import sharded
from prefdyn.errors import PrefdynError
from prefdyn.experiments.tasks import Runner, Task
from prefdyn.models import LanguageModel, devices


def check(processes: int, device: torch.device) -> None:
    """See that a model can be spread over so many devices.

    Raises:
        PrefdynError: there are not so many.
    """
    if processes < 2:
        raise PrefdynError(f"a model cannot be sharded over {processes} devices: give at least 2")
    if device.type == "cuda" and processes > torch.cuda.device_count():
        here = torch.cuda.device_count()
        raise PrefdynError(f"a model cannot be sharded over {processes} GPUs: this machine has {here}")
    if device.type not in ("cpu", "cuda"):
        raise PrefdynError(
            f"a model cannot be sharded over devices of the kind {device.type}: choose cuda or cpu"
        )


class Group:
    """The processes, and a line to each."""

    def __init__(self, runner: Runner) -> None:
        check(runner.shard, runner.device)
        self.meeting = tempfile.TemporaryDirectory(prefix="prefdyn-")
        context = multiprocessing.get_context("spawn")
        self.lines: list[Connection] = []
        self.processes = []
        about = (runner.model_name, runner.device.type)
        for rank in range(runner.shard):
            ours, theirs = context.Pipe()
            arguments = (rank, runner.shard, str(Path(self.meeting.name) / "meeting"), theirs, *about)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self.lines.append(ours)
            self.processes.append(process)

    def do(self, task: Task, precision: str) -> Any:
        """The result of a task, with matrix products in a precision. After an error the group is over: `end`
        it.

        Raises:
            PrefdynError: what stopped the task, or a process died.
        """
        asked = cloudpickle.dumps((task, precision))  # pickle knows no lambdas, of which a loss may be made
        for line in self.lines:
            line.send_bytes(asked)
        results: dict[Connection, Any] = {}
        while len(results) < len(self.lines):
            answering = wait([line for line in self.lines if line not in results])
            for line in (line for line in self.lines if line not in results and line in answering):
                try:
                    results[line], error = line.recv()
                except (EOFError, ConnectionResetError):
                    error = MemoryError("a process died")
                if error is not None:
                    raise self._reason(task, error)
        return results[self.lines[0]]

    def _reason(self, task: Task, error: Exception) -> Exception:
        """Why a task has no result, in a sentence where that is nobody's mistake."""
        # The others miss a process before the system says that it is gone.
        died = bool(wait([process.sentinel for process in self.processes], timeout=2))
        if died or devices.out_of_memory(error):
            what = "lost a process, most often for lack of memory" if died else "ran out of memory"
            return PrefdynError(
                f"{task.name} {what}: shard the model over more devices than {len(self.lines)}"
            )
        return error

    def end(self) -> None:
        """Of the processes; some may wait for one that is no more."""
        for process in self.processes:
            process.kill()
            process.join()


class _Rank(Runner):
    """Of one process, which holds its part of the model."""

    def _load(self) -> LanguageModel:
        return sharded.load(self.model_name, self.device, self.precision)


def _serve(rank: int, size: int, meeting: str, line: Connection, model: str, kind: str) -> None:
    """What each process does: tasks, until nobody is at the other end."""
    device = torch.device(kind, rank) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // size))
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=size)
    runner = _Rank(model, str(device))
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            task, precision = cloudpickle.loads(line.recv_bytes())
            try:
                result = runner.rounded(precision).do(task)
            except Exception as error:
                error.add_note(traceback.format_exc())
                line.send((None, error))
            else:
                line.send((result if rank == 0 else None, None))
