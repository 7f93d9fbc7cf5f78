"""Tasks of a model whose results are kept, and where they run: here, on Ray, or over several devices."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple, NoReturn, Self

import torch
import torch.distributed as dist

from prefdyn.cache import Result, cached
from prefdyn.engine.objectives import SFT, Reference
from prefdyn.errors import PrefdynError
from prefdyn.experiments import starting_points
from prefdyn.experiments.phases import Phase, run_phases
from prefdyn.models import LanguageModel, Precision, devices, loading


class Task(NamedTuple):
    """Work that depends on no other, and whose result is kept.

    Attributes:
        name: in words, for whoever reads that it failed.
        kind, key, by: as `cache.cached` takes them.
        arguments: of `by`.
        of_model: whether `by` takes the loaded model before them; then the key need not name the model.
    """

    name: str
    kind: str
    key: Mapping[str, Any]
    by: Callable[..., Any]
    arguments: tuple[Any, ...]
    of_model: bool = False


class _NotKept(Exception):
    """Instead of the result of a task."""


def _not_kept() -> NoReturn:
    raise _NotKept


def _given(result: Result) -> Result:
    return result


class Runner:
    """One model, and where its tasks run. What they result in is kept.

    The model is loaded when the first result that is not kept yet asks for it.

    Args:
        on: where independent tasks run: "" is here, one after another; "ray" is a local Ray, and
            "ray://HOST:PORT" a cluster's (see `ray_tasks`).
        shard: over how many devices of this machine the model is spread (see `sharding`); 0 is none of it.

    Raises:
        PrefdynError: no such device or precision; both a Ray and shards.
    """

    def __init__(
        self, model: str, device: str = "auto", precision: str = "auto", on: str = "", shard: int = 0
    ) -> None:
        if on and shard:
            raise PrefdynError("trainings go to Ray or are sharded over this machine's devices: choose one")
        self.model_name = loading.full_name(model)
        self.device = devices.choose_device(device)
        if on or shard:  # where each process has one of its own
            self.device = torch.device(self.device.type)
        self.precision: Precision = devices.choose_precision(self.device, precision)
        self.on = on
        self.shard = shard
        self._loaded: list[LanguageModel] = []
        self._references: dict[Precision, Reference] = {}
        self._pools: list[Any] = []
        self._groups: list[Any] = []

    def rounded(self, precision: str) -> Self:
        """The same with matrix products in another precision; the model and who has it are shared."""
        other = copy.copy(self)
        other.precision = devices.choose_precision(self.device, precision)
        return other

    @property
    def lm(self) -> LanguageModel:
        """The model, loaded when it is first asked for."""
        if not self._loaded:
            self._loaded.append(self._load())
        (lm,) = self._loaded
        return lm if lm.precision == self.precision else replace(lm, precision=self.precision)

    def _load(self) -> LanguageModel:
        return loading.load(self.model_name, str(self.device), self.precision)

    @cached_property
    def fingerprint(self) -> str:
        """The model's, without loading it."""
        return loading.fingerprint(self.model_name)

    def keep(
        self, kind: str, key: Mapping[str, Any], by: Callable[..., Any], compute: Callable[[], Result]
    ) -> Result:
        """What `compute` makes of the model, kept as `cache.cached` says; the key need not name the model."""
        return cached(kind, {"model": self.fingerprint, "device": self.device.type, **key}, by, compute)

    def measure(
        self, kind: str, key: Mapping[str, Any], by: Callable[..., Result], *arguments: Any
    ) -> Result:
        """What `by` makes of the model and the arguments, kept; the key need not name the model."""
        task = Task(kind, kind, key, by, arguments, of_model=True)
        return self.keep(kind, key, by, functools.partial(self.do, task))

    def do(self, task: Task) -> Any:
        """The result of a task, made here and not kept."""
        if not task.of_model:
            return task.by(*task.arguments)
        if self.shard:
            return self._sharded(task)
        if task.by is not run_phases:
            return task.by(self.lm, *task.arguments)
        first, *_ = task.arguments[0]
        return task.by(self.lm, *task.arguments, self._reference(first))

    def _reference(self, phase: Phase) -> Reference:
        """What is known of the model as it was loaded, with all that a first phase asks of it.

        That is kept by its preferences alone, so another training on them, here or in a later run, does not
        measure it again.
        """
        known = self._references.setdefault(self.precision, {})
        if phase.settings.loss != SFT and (asked := starting_points.asked_of_reference(self.lm, phase)):
            key = {
                "precision": self.precision,
                "pairs": list(asked),
                "tokens_per_forward": phase.settings.tokens_per_forward,
            }
            how = (self.lm, asked, phase.settings, known)
            measure = starting_points.measure
            found = self._keep_once("reference", key, measure, functools.partial(measure, *how))
            known.update(zip(asked, map(tuple, found.tolist()), strict=True))
        return known

    def _keep_once(
        self, kind: str, key: Mapping[str, Any], by: Callable[..., Any], compute: Callable[[], Result]
    ) -> Result:
        """As `keep`. Of the processes that hold a sharded model the first alone looks and writes: they
        compute together, and would wait for one that found what another did not.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return self.keep(kind, key, by, compute)
        found: list[Any] = [None]
        if dist.get_rank() == 0:
            with contextlib.suppress(_NotKept):
                found = [(self.keep(kind, key, by, _not_kept),)]
        dist.broadcast_object_list(found, src=0)
        if found[0] is not None:
            return found[0][0]
        result = compute()
        if dist.get_rank() == 0:
            self.keep(kind, key, by, functools.partial(_given, result))
        return result

    def keep_all(self, tasks: Iterable[Task]) -> list[Any]:
        """The results of tasks, in the order given; each that is not kept yet is made, and kept at once.

        Raises:
            PrefdynError: what stopped a task, or Ray; what was finished by then is kept.
        """

        def kept(task: Task, compute: Callable[[], Any]) -> Any:
            return (self.keep if task.of_model else cached)(task.kind, task.key, task.by, compute)

        if not self.on:
            return [kept(task, functools.partial(self.do, task)) for task in tasks]
        tasks = list(tasks)
        found: dict[int, Any] = {}
        for number, task in enumerate(tasks):
            with contextlib.suppress(_NotKept):
                found[number] = kept(task, _not_kept)
        missing = [number for number in range(len(tasks)) if number not in found]
        if missing:
            for place, result in self._pool.run([tasks[number] for number in missing], self.precision):
                number = missing[place]
                found[number] = kept(tasks[number], functools.partial(_given, result))
        return [found[number] for number in range(len(tasks))]

    def _sharded(self, task: Task) -> Any:
        """The result of a task of the model that several processes hold, who come up when they are asked."""
        if not self._groups:
            from prefdyn.experiments import sharding

            self._groups.append(sharding.Group(self))
        try:
            return self._groups[0].do(task, self.precision)
        except BaseException:
            self._groups.pop().end()
            raise

    @property
    def _pool(self) -> Any:
        """The workers on Ray, who come up when they are first asked for."""
        if not self._pools:
            from prefdyn.experiments import ray_tasks

            self._pools.append(ray_tasks.Pool(self))
        return self._pools[0]
