"""A model and a data set on one bench: every expensive measurement of a chapter, made once and kept."""

from __future__ import annotations

import copy
import functools
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.cache import cached
from prefdyn.data import Pair, Persona, Ranking, Source, datasets
from prefdyn.engine import last_layer, scoring, states
from prefdyn.engine.scoring import ResponseLogProbs
from prefdyn.engine.training import Settings
from prefdyn.experiments import checks
from prefdyn.experiments.phases import Adapter, Phase, PhaseResult, run_phases
from prefdyn.experiments.provenance import Provenance, commit
from prefdyn.experiments.tasks import Runner, Task
from prefdyn.measures import geometry, judges
from prefdyn.measures.judges import BradleyTerryJudge, Judge
from prefdyn.models import loading


class Bench(Runner):
    """Measures one model on one source of data, and keeps what it measured.

    Results are kept by content, so that a killed chapter goes on where it stopped. Where trainings run, and
    what is raised, is as `Runner` has it.
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
        super().__init__(model, device, precision, on, shard)
        self.source = source
        self.seed = seed
        self.profile = profile
        self.started = time.time()
        self.commit = commit()
        self._drawn: dict[tuple[Any, ...], list[Any]] = {}
        self._features: dict[str, NDArray[np.float32]] = {}

    def seeded(self, seed: int) -> Bench:
        """The same bench with another seed: model, features and what was used are shared."""
        other = copy.copy(self)
        other.seed = seed
        return other

    def seed_of(self, *words: str) -> int:
        """A seed of its own for each run, made of the bench's and of what the run is called."""
        name = zlib.crc32(" ".join(words).encode())
        return int(np.random.SeedSequence([self.seed, name]).generate_state(1)[0])

    def personas(self, limit: int = 0, per_label: int = 0) -> list[Persona]:
        """The source's personas, or `limit` of them, evenly spaced in the alphabet.

        Of each, `per_label` statements of each label, drawn by the seed, or as many of both as there are of
        the rarer one; 0 stands for all, in both.
        """

        def draw() -> list[Persona]:
            names = checks.evenly(data.persona_names(self.source), limit)
            return [data.load_persona(name, self.source).drawn(per_label, self.seed) for name in names]

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
        self, personas: Sequence[Persona], settings: Settings, test_fractions: Sequence[float]
    ) -> last_layer.LastLayerRun:
        """Train the two answer rows on the training statements of all personas together.

        Each persona is a group of the record. The held-out statements of all of them are the split "test".

        Args:
            test_fractions: of each persona's statements, held out.
        """
        parts = [
            (self.features(persona), persona, *data.split_indices(persona, self.seed, fraction))
            for persona, fraction in zip(personas, test_fractions, strict=True)
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

        def compute() -> NDArray[np.float32]:
            threads = torch.get_num_threads()
            try:
                return geometry.plane(points, layout, neighbours, self.seed)
            finally:
                torch.set_num_threads(threads)  # UMAP's numba gives OpenMP all cores

        return cached("maps", key, geometry.plane, compute)

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
