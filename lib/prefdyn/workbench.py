"""A model and a data set on one bench: every expensive measurement of a chapter, made once and kept."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn import data, features, judges, lora, models, rankings, sampling, schemas, scoring, unembedding
from prefdyn.cache import Result, cached
from prefdyn.data import Pair, Persona, Source
from prefdyn.judges import BradleyTerryJudge, Judge
from prefdyn.likelihood import TokenPair, tokenize_pairs, tokenize_persona
from prefdyn.models import LanguageModel, Precision
from prefdyn.objectives import Reference
from prefdyn.provenance import Provenance, commit
from prefdyn.schemas import Ranking
from prefdyn.scoring import Likelihoods
from prefdyn.training import Settings, fine_tune, restoring

Preferences = Sequence[Persona] | Sequence[Pair]


@dataclass(frozen=True)
class Phase:
    """A stretch of training; the model as the phase finds it is its reference.

    Attributes:
        train: personas (each a group of the record) or pairs.
        evaluate: held-out preferences by split name.
        evaluate_at: steps at which those are measured.
        embed: personas whose features are taken after the phase.
        each: names of splits whose every preference is a group of the record, named by its index in the split.
        answer: prompts that the model answers at the steps of `evaluate_at`, by sampling.
        answer_tokens: how long an answer may be.
        max_length: tokens of a response pair's prompt with one of its responses.
    """

    train: Preferences
    settings: Settings
    evaluate: Mapping[str, Preferences] = field(default_factory=dict)
    evaluate_at: Sequence[int] = ()
    embed: Sequence[Persona] = ()
    each: Sequence[str] = ()
    answer: Sequence[str] = ()
    answer_tokens: int = 0
    max_length: int = 512


@dataclass(frozen=True)
class Adapter:
    """LoRA's rank, alpha and dropout; see `lora.adapted`."""

    rank: int
    alpha: int
    dropout: float
    targets: tuple[str, ...] | None = None


@dataclass(frozen=True)
class PhaseResult:
    """What a phase leaves.

    Attributes:
        record: see `training.RECORD`.
        features: by persona name, shape (n, d), of the phase's `embed`.
        answers: by step, an answer to each prompt of the phase's `answer`.
    """

    record: pd.DataFrame
    features: dict[str, NDArray[np.float32]]
    answers: dict[int, list[str]] = field(default_factory=dict)


class Workbench:
    """Measures one model on one source of data; results are kept by content, so that a killed chapter goes on where it stopped.

    The model is loaded when the first result that is not kept yet asks for it.
    """

    def __init__(
        self,
        model: str = "default",
        source: Source = "sample",
        seed: int = 0,
        device: str = "auto",
        precision: str = "auto",
        profile: str = "",
    ) -> None:
        self.model_name = models.resolve(model)
        self.source = source
        self.seed = seed
        self.device = models.choose_device(device)
        self.precision: Precision = models.choose_precision(self.device, precision)
        self.profile = profile
        self.started = time.time()
        self.commit = commit()
        self._used: list[Persona | Pair] = []
        self._ranked: list[Ranking] = []
        self._features: dict[str, NDArray[np.float32]] = {}
        self._reference: Reference = {}

    @cached_property
    def lm(self) -> LanguageModel:
        return models.load(self.model_name, str(self.device), self.precision)

    @cached_property
    def fingerprint(self) -> str:
        """The model's, without loading it where that can be."""
        return models.fingerprint(self.model_name) or self.lm.fingerprint

    def personas(self, limit: int = 0, per_label: int = 0) -> list[Persona]:
        """The source's personas: `limit` of them, evenly spaced in the alphabet (0: all), `per_label` statements of each label (0: all)."""
        names = data.persona_names(self.source)
        if 0 < limit < len(names):
            names = [names[i] for i in np.linspace(0, len(names) - 1, limit).round().astype(int)]
        personas = [data.load_persona(name, self.source) for name in names]
        if per_label:
            personas = [persona.balanced(per_label) for persona in personas]
        self._used.extend(personas)
        return personas

    def pairs(self, limit: int) -> list[Pair]:
        """`limit` of the source's pairs, drawn by the seed (0: all, in their order)."""
        pairs = data.load_pairs(self.source)
        if 0 < limit < len(pairs):
            drawn = np.random.default_rng(self.seed).permutation(len(pairs))[:limit]
            pairs = [pairs[i] for i in drawn]
        self._used.extend(pairs)
        return pairs

    def rankings(self, name: str, limit: int = 0) -> list[Ranking]:
        """The source's rankings of a data set (see `rankings.load`), or `limit` of them drawn by the seed (0: all)."""
        found = rankings.load(name, self.source, limit, self.seed)
        self._ranked.extend(found)
        return found

    def _kept(self, kind: str, key: Mapping[str, Any], compute: Callable[[], Result]) -> Result:
        return cached(kind, {"model": self.fingerprint, "device": self.device.type, **key}, compute)

    def features(self, persona: Persona) -> NDArray[np.float32]:
        """g of every statement's question, shape (n, d), float32."""
        key = data.fingerprint([persona])
        if key not in self._features:
            self._features[key] = self._kept("features", {"data": key}, lambda: features.hidden_states(self.lm, persona.questions))
        return self._features[key]

    def scores(
        self, of: Sequence[Ranking], max_length: int = 512, part: int = 32, done: Callable[[int], object] | None = None
    ) -> list[Likelihoods]:
        """Log-likelihoods of the responses of each ranking, in float32.

        They are kept in parts of `part` rankings, so that what a killed run has finished is there when it starts again.

        Args:
            done: called after each part with the number of rankings in it.
        """
        out: list[Likelihoods] = []
        for start in range(0, len(of), part):
            some = of[start : start + part]
            prompts, responses = [ranking.prompt for ranking in some], [ranking.responses for ranking in some]
            key = {"prompts": prompts, "responses": responses, "max_length": max_length}
            out.extend(self._kept("scores", key, functools.partial(self._score, prompts, responses, max_length)))
            if done is not None:
                done(len(some))
        return out

    def _score(self, prompts: list[str], responses: list[tuple[str, ...]], max_length: int) -> list[Likelihoods]:
        return scoring.score(self.lm, prompts, responses, max_length)

    def judge(self, name: str, pairs: Sequence[Pair], tokens: int) -> Judge:
        """A judge of answers: "embedded", a Bradley-Terry reward fitted to the pairs on the loaded model's features, or see `judges.named`.

        Args:
            tokens: how much of an answer the embedded judge sees.
        """
        if name != "embedded":
            return judges.named(name, str(self.device))

        def states(prompts: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
            key = {"prompts": list(prompts), "answers": list(answers), "tokens": tokens}
            return self._kept("states", key, lambda: judges.answer_states(self.lm, prompts, answers, tokens))

        return BradleyTerryJudge.fit(states, pairs, seed=self.seed)

    @cached_property
    def answer_difference(self) -> NDArray[np.float32]:
        """W_B(0) = W[y_+] - W[y_-], shape (d,), before any training."""

        def compute() -> NDArray[np.float32]:
            yes, no = models.answer_tokens(self.lm.tokenizer)
            weight = self.lm.unembedding.detach().float()
            return (weight[yes] - weight[no]).cpu().numpy()

        return self._kept("unembedding", {}, compute)

    def train_unembedding(self, personas: Sequence[Persona], settings: Settings) -> unembedding.UnembeddingRun:
        """Train the two answer rows on the training statements of the personas together, each a group of the record.

        The held-out statements of all of them are the split "test".
        """
        parts = [(self.features(persona), persona, *data.split_indices(persona, self.seed)) for persona in personas]
        g, s = [np.concatenate(arrays) for arrays in zip(*[(f[i], p.labels[i]) for f, p, i, _ in parts], strict=True)]
        test = tuple(np.concatenate(arrays) for arrays in zip(*[(f[i], p.labels[i]) for f, p, _, i in parts], strict=True))
        groups = np.concatenate([np.full(len(train), p.name) for _, p, train, _ in parts])
        return unembedding.train(g, s, settings, self.answer_difference, groups, (test[0], test[1]))

    def map_2d(self, points: NDArray[np.float32], layout: str = "umap", neighbours: int = 15) -> NDArray[np.float32]:
        """Points in the plane, shape (n, 2), by UMAP (McInnes et al. 2018) or by the first two principal components."""

        def compute() -> NDArray[np.float32]:
            if layout == "pca":
                centred = points - points.mean(axis=0)
                return centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
            from umap import UMAP

            return UMAP(n_neighbors=min(neighbours, len(points) - 1), random_state=self.seed, n_jobs=1).fit_transform(points)

        return cached("maps", {"points": points, "layout": layout, "neighbours": neighbours, "seed": self.seed}, compute)

    def train(self, phases: Sequence[Phase], adapter: Adapter | None = None) -> list[PhaseResult]:
        """Run phases one after another from the model as it was loaded, which has its weights back afterwards."""
        key = {
            "precision": self.precision,
            "adapter": adapter and {**asdict(adapter), "seed": self.seed},
            "phases": [
                {
                    "train": data.fingerprint(phase.train),
                    "settings": phase.settings.describe(),
                    "evaluate": {name: data.fingerprint(part) for name, part in phase.evaluate.items()},
                    "evaluate_at": list(phase.evaluate_at),
                    "embed": [data.fingerprint([persona]) for persona in phase.embed],
                    "each": sorted(phase.each),
                    "max_length": phase.max_length,
                    "answer": [list(phase.answer), phase.answer_tokens, self.seed if phase.answer else None],
                }
                for phase in phases
            ],
        }
        return self._kept("training", key, lambda: self._train(phases, adapter))

    def _train(self, phases: Sequence[Phase], adapter: Adapter | None) -> list[PhaseResult]:
        # A fresh adapter adds nothing yet, so with one, too, the first phase starts from the model as it was loaded.
        references = [self._reference, *({} for _ in phases[1:])]
        training = restoring(self.lm)
        if adapter is not None:
            training = lora.adapted(self.lm, adapter.rank, adapter.alpha, adapter.dropout, adapter.targets, self.seed)
        with training:
            return [self._phase(phase, reference) for phase, reference in zip(phases, references, strict=True)]

    def _phase(self, phase: Phase, reference: Reference) -> PhaseResult:
        evaluate = {name: self._tokens(part, phase.max_length) for name, part in phase.evaluate.items()}
        for name in phase.each:
            evaluate[name] = [replace(pair, group=str(index)) for index, pair in enumerate(evaluate[name])]
        answers: dict[int, list[str]] = {}

        def visit(step: int) -> None:
            answers[step] = sampling.answers(self.lm, phase.answer, phase.answer_tokens, self.seed)

        train = self._tokens(phase.train, phase.max_length)
        record = fine_tune(self.lm, train, phase.settings, evaluate, phase.evaluate_at, reference, visit if phase.answer else None)
        return PhaseResult(record, {p.name: features.hidden_states(self.lm, p.questions) for p in phase.embed}, answers)

    def _tokens(self, preferences: Preferences, max_length: int) -> list[TokenPair]:
        out: list[TokenPair] = []
        for item in preferences:
            out.extend(tokenize_persona(self.lm, item) if isinstance(item, Persona) else tokenize_pairs(self.lm, [item], max_length))
        return out

    def provenance(self) -> Provenance:
        """What the measurements made so far rest on."""
        digests = [data.fingerprint(self._used)] if self._used or not self._ranked else []
        if self._ranked:
            digests.append(schemas.fingerprint(self._ranked))
        return Provenance.of(
            commit=self.commit,
            model=self.model_name,
            model_fingerprint=self.fingerprint,
            data=str(self.source),
            data_fingerprint="-".join(digests),
            profile=self.profile,
            seed=self.seed,
            device=self.device,
            precision=self.precision,
            seconds=time.time() - self.started,
        )
