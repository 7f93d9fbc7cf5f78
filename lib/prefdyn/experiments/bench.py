"""A model and a data set on one bench: every expensive measurement of a chapter, made once and kept."""

from __future__ import annotations

import contextlib
import copy
import functools
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.cache import Result, cached
from prefdyn.data import Pair, Persona, Ranking, Source, datasets
from prefdyn.engine import last_layer, scoring, states
from prefdyn.engine.objectives import SFT, Reference
from prefdyn.engine.scoring import ResponseLogProbs
from prefdyn.engine.training import Settings
from prefdyn.errors import PrefdynError
from prefdyn.experiments import checks, starting_points
from prefdyn.experiments.phases import Adapter, Phase, PhaseResult, run_phases
from prefdyn.experiments.provenance import Provenance, commit
from prefdyn.measures import geometry, judges
from prefdyn.measures.judges import BradleyTerryJudge, Judge
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


class Bench:
    """Measures one model on one source of data, and keeps what it measured.

    Results are kept by content, so that a killed chapter goes on where it stopped. The model is loaded when
    the first result that is not kept yet asks for it.

    Args:
        on: where independent trainings run: "" is here, one after another; "ray" is a local Ray, and
            "ray://HOST:PORT" a cluster's (see `ray_tasks`).
        shard: over how many devices of this machine the model is spread (see `sharding`); 0 is none of it.

    Raises:
        PrefdynError: no such device or precision; both a Ray and shards.
    """

    def __init__(
        self,
        model: str = "default",
        source: Source = "sample",
        seed: int = 0,
        device: str = "auto",
        precision: str = "auto",
        profile: str = "",
        on: str = "",
        shard: int = 0,
    ) -> None:
        if on and shard:
            raise PrefdynError("trainings go to Ray or are sharded over this machine's devices: choose one")
        self.model_name = loading.full_name(model)
        self.source = source
        self.seed = seed
        self.device = devices.choose_device(device)
        if on or shard:  # where each process has one of its own
            self.device = torch.device(self.device.type)
        self.precision: Precision = devices.choose_precision(self.device, precision)
        self.profile = profile
        self.on = on
        self.shard = shard
        self.started = time.time()
        self.commit = commit()
        self._drawn: dict[tuple[Any, ...], list[Any]] = {}
        self._loaded: list[LanguageModel] = []
        self._features: dict[str, NDArray[np.float32]] = {}
        self._references: dict[Precision, Reference] = {}
        self._pools: list[Any] = []
        self._groups: list[Any] = []

    def seeded(self, seed: int) -> Bench:
        """The same bench with another seed: model, features and what was used are shared."""
        other = copy.copy(self)
        other.seed = seed
        return other

    def seed_of(self, *words: str) -> int:
        """A seed of its own for each run, made of the bench's and of what the run is called."""
        name = zlib.crc32(" ".join(words).encode())
        return int(np.random.SeedSequence([self.seed, name]).generate_state(1)[0])

    def rounded(self, precision: str) -> Bench:
        """The same bench with matrix products in another precision; the model and who has it are shared."""
        other = copy.copy(self)
        other.precision = devices.choose_precision(self.device, precision)
        return other

    @property
    def lm(self) -> LanguageModel:
        """The model, loaded when it is first asked for."""
        if not self._loaded:
            self._loaded.append(loading.load(self.model_name, str(self.device), self.precision))
        (lm,) = self._loaded
        return lm if lm.precision == self.precision else replace(lm, precision=self.precision)

    @cached_property
    def fingerprint(self) -> str:
        """The model's, without loading it."""
        return loading.fingerprint(self.model_name)

    def personas(self, limit: int = 0, per_label: int = 0) -> list[Persona]:
        """The source's personas, or `limit` of them, evenly spaced in the alphabet.

        Of each, `per_label` statements of each label, drawn by the seed; 0 stands for all, in both.
        """

        def draw() -> list[Persona]:
            names = checks.taking_part(data.persona_names(self.source), limit)
            personas = [data.load_persona(name, self.source) for name in names]
            return [persona.drawn(per_label, self.seed) for persona in personas] if per_label else personas

        return self._once(("personas", limit, per_label, self.seed), draw)

    def whole(self, names: Sequence[str]) -> list[Persona]:
        """The source's personas of these names, with all of their statements."""
        return self._once(("whole", *names), lambda: [data.load_persona(name, self.source) for name in names])

    def pairs(self, limit: int) -> list[Pair]:
        """`limit` of the source's pairs, drawn by the seed (0: all, in their order)."""

        def draw() -> list[Pair]:
            pairs = data.load_pairs(self.source)
            if not 0 < limit < len(pairs):
                return pairs
            return [pairs[i] for i in np.random.default_rng(self.seed).permutation(len(pairs))[:limit]]

        return self._once(("pairs", limit, self.seed), draw)

    def rankings(self, name: str, limit: int = 0) -> list[Ranking]:
        """The source's rankings of a data set, see `datasets.load`, or `limit` drawn by the seed (0: all)."""
        return self._once(
            ("rankings", name, limit, self.seed), lambda: datasets.load(name, self.source, limit, self.seed)
        )

    def _once(self, what: tuple[Any, ...], draw: Callable[[], list[Any]]) -> list[Any]:
        """What is drawn for the first time counts as used; the same is not read again."""
        if what not in self._drawn:
            self._drawn[what] = draw()
        return list(self._drawn[what])

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

    def features(self, persona: Persona) -> NDArray[np.float32]:
        """g of every statement's question, shape (n, d), float32."""
        key = data.fingerprint([persona])
        if key not in self._features:
            self._features[key] = self.measure(
                "features", {"data": key}, states.hidden_states, persona.questions
            )
        return self._features[key]

    def scores(
        self,
        of: Sequence[Ranking],
        max_length: int = 512,
        part: int = 32,
        done: Callable[[int], object] | None = None,
        exact: bool = False,
    ) -> list[ResponseLogProbs]:
        """Log-likelihoods of the responses of each ranking, in float32.

        They are kept in parts of `part` rankings, so that what a killed run has finished is there when it
        starts again.

        Args:
            done: called after each part with the number of rankings in it.
            exact: as `scoring.score` has it.
        """
        out: list[ResponseLogProbs] = []
        for start in range(0, len(of), part):
            some = of[start : start + part]
            prompts, responses = [ranking.prompt for ranking in some], [ranking.responses for ranking in some]
            key = {"prompts": prompts, "responses": responses, "max_length": max_length}
            how: tuple[Any, ...] = (max_length,)
            if exact:
                key["exact"], how = True, (max_length, "float32", states.TOKENS_PER_FORWARD, True)
            out.extend(self.measure("scores", key, scoring.score, prompts, responses, *how))
            if done is not None:
                done(len(some))
        return out

    def answer_states(
        self, prompts: Sequence[str], answers: Sequence[str], tokens: int
    ) -> NDArray[np.float64]:
        """As `judges.answer_states` has them, kept."""
        key = {"prompts": list(prompts), "answers": list(answers), "tokens": tokens}
        return self.measure("states", key, judges.answer_states, *key.values())

    def judge(self, name: str, pairs: Sequence[Pair], tokens: int) -> Judge:
        """A judge of answers: "embedded", or see `judges.named`.

        The embedded one is a Bradley-Terry reward, fitted to the pairs on the loaded model's features.

        Args:
            tokens: how much of an answer the embedded judge sees.
        """
        if name != "embedded":
            return judges.named(name, str(self.device))

        states_of = functools.partial(self.answer_states, tokens=tokens)
        return BradleyTerryJudge.fit(states_of, pairs, seed=self.seed)

    @cached_property
    def answer_difference(self) -> NDArray[np.float32]:
        """W_B(0) = W[y_+] - W[y_-], shape (d,), before any training."""
        return self.measure("unembedding", {}, loading.answer_difference)

    def train_unembedding(
        self, personas: Sequence[Persona], settings: Settings, test_fraction: float = 0.1
    ) -> last_layer.LastLayerRun:
        """Train the two answer rows on the training statements of all personas together.

        Each persona is a group of the record. The held-out statements of all of them are the split "test".
        """
        parts = [
            (self.features(persona), persona, *data.split_indices(persona, self.seed, test_fraction))
            for persona in personas
        ]
        g, s = [
            np.concatenate(arrays)
            for arrays in zip(*[(f[i], p.labels[i]) for f, p, i, _ in parts], strict=True)
        ]
        test = tuple(
            np.concatenate(arrays)
            for arrays in zip(*[(f[i], p.labels[i]) for f, p, _, i in parts], strict=True)
        )
        groups = np.concatenate([np.full(len(train), p.name) for _, p, train, _ in parts])
        return last_layer.train(g, s, settings, self.answer_difference, groups, (test[0], test[1]))

    def map_2d(
        self, points: NDArray[np.float32], layout: str = "umap", neighbours: int = 15
    ) -> NDArray[np.float32]:
        """Points in the plane, shape (n, 2), kept; see `geometry.plane`."""
        key = {"points": points, "layout": layout, "neighbours": neighbours, "seed": self.seed}
        return cached(
            "maps", key, geometry.plane, lambda: geometry.plane(points, layout, neighbours, self.seed)
        )

    def train(self, phases: Sequence[Phase], adapter: Adapter | None = None) -> list[PhaseResult]:
        """Run phases one after another from the model as it was loaded.

        It has its weights back afterwards.
        """
        return self.train_all([phases], adapter)[0]

    def train_all(
        self, runs: Sequence[Sequence[Phase]], adapter: Adapter | None = None
    ) -> list[list[PhaseResult]]:
        """Trainings that do not depend on each other, each as `train` has it."""
        carried = adapter and {**asdict(adapter), "seed": self.seed}
        return self.keep_all(
            [
                Task(
                    ", then ".join(phase.name for phase in phases),
                    "training",
                    {
                        "precision": self.precision,
                        "adapter": carried,
                        "phases": [phase.key(self.seed) for phase in phases],
                    },
                    run_phases,
                    (phases, self.seed, adapter),
                    of_model=True,
                )
                for phases in runs
            ]
        )

    def provenance(self, seeds: Sequence[int] = ()) -> Provenance:
        """What the measurements made so far rest on.

        Args:
            seeds: with which they were made, if not with this bench's alone.
        """
        used = [item for what, items in self._drawn.items() if what[0] != "rankings" for item in items]
        ranked = [item for what, items in self._drawn.items() if what[0] == "rankings" for item in items]
        digests = [data.fingerprint(items) for items in (used, ranked) if items]
        return Provenance.of(
            commit=self.commit,
            model=self.model_name,
            model_fingerprint=self.fingerprint,
            data=str(self.source),
            data_fingerprint="-".join(digests) or data.fingerprint([]),
            profile=self.profile,
            seeds=", ".join(map(str, seeds or [self.seed])),
            device=self.device,
            precision=self.precision,
            seconds=time.time() - self.started,
        )
