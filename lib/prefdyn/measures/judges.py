"""Win rate, and the judges behind it: which of two answers to a prompt is better.

A judge is anything with the method of `Judge`. Here are two: a Bradley-Terry reward model on a language
model's own features, and a reward model from the hub; a third asks an `endpoint`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit

from prefdyn.data import Pair
from prefdyn.engine import states
from prefdyn.errors import PrefdynError, first_line
from prefdyn.measures import estimates
from prefdyn.measures.endpoint import KEY_VARIABLE, EndpointJudge
from prefdyn.measures.estimates import Estimate
from prefdyn.models import LanguageModel, loading

FOLDS = 8
"""Parts of the judge's pairs, each held out once to measure its accuracy."""


class Judge(Protocol):
    """Says which of two answers is better."""

    @property
    def name(self) -> str: ...

    def first_is_better(
        self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]
    ) -> NDArray[np.float64]:
        """The probability that the first answer is better, for each prompt, shape (n,); NaN is no verdict."""
        ...


def win_rate(judge: Judge, prompts: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> Estimate:
    """How often our answers beat theirs, each pair judged in both orders; 1/2 is even."""
    return estimates.mean(wins(judge, prompts, ours, theirs))


def wins(
    judge: Judge, prompts: Sequence[str], ours: Sequence[str], theirs: Sequence[str]
) -> NDArray[np.float64]:
    """For each prompt 1 where our answer wins, 0 where it loses, 1/2 where none does, shape (n,).

    It wins or loses if the judge says so in both orders.
    """
    return counted(in_both_orders(judge, prompts, ours, theirs))


def in_both_orders(
    judge: Judge, prompts: Sequence[str], ours: Sequence[str], theirs: Sequence[str]
) -> NDArray[np.float64]:
    """The probability that our answer is better, shape (2, n): judged with ours first, and with theirs.

    NaN where the judge gives no verdict.
    """
    forward = judge.first_is_better(prompts, ours, theirs)
    return np.stack([forward, 1 - judge.first_is_better(prompts, theirs, ours)])


def counted(judged: NDArray[np.float64]) -> NDArray[np.float64]:
    """What `wins` makes of what `in_both_orders` found, shape (n,)."""
    forward, backward = _verdict(judged)
    return np.where(forward == backward, forward, 0.5)


def _verdict(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where((probability == 0.5) | np.isnan(probability), 0.5, probability > 0.5)


States = Callable[[Sequence[str], Sequence[str]], NDArray[np.float64]]
"""From prompts and answers to hidden states, shape (n, d)."""


# A reward on features -----------------------------------------------------------------------------


@dataclass(frozen=True)
class BradleyTerryJudge:
    """A linear reward on hidden states, fitted as P(first is better) = sigmoid(reward difference).

    Attributes:
        states: hidden states of prompts with their answers, shape (n, d); see `answer_states`.
        weights: shape (d,), of hidden states divided by `scale`.
        accuracy: on held-out pairs, by cross-validation over the prompts of the pairs that it was fitted to.
    """

    states: States
    weights: NDArray[np.float64]
    scale: NDArray[np.float64]
    accuracy: Estimate
    name: str = "Bradley-Terry on the model's own features"

    @classmethod
    def fit(
        cls, states: States, pairs: Sequence[Pair], decay: float = 1.0, seed: int = 0
    ) -> BradleyTerryJudge:
        """Fit to pairs, which must not be those that the judged models were trained on.

        Args:
            decay: of the squared weights, on standardised features; small data needs it.

        Raises:
            PrefdynError: fewer prompts than folds.
        """
        prompts = [pair.prompt for pair in pairs]
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
        if len(numbers) < FOLDS:
            raise PrefdynError(
                f"{len(pairs)} pairs with {len(numbers)} prompts are too few for a judge: "
                f"give at least {FOLDS}"
            )
        chosen, rejected = (
            states(prompts, [pair.chosen for pair in pairs]),
            states(prompts, [pair.rejected for pair in pairs]),
        )
        difference = chosen - rejected
        scale = np.concatenate([chosen, rejected]).std(axis=0) + 1e-6
        x = difference / scale
        # Pairs of one prompt share answers, and are held out together.
        of_prompts = np.random.default_rng(seed).permutation(len(numbers)) % FOLDS
        held_out = of_prompts[[numbers[prompt] for prompt in prompts]]
        hits = np.empty(len(pairs))
        for fold in range(FOLDS):
            w = bradley_terry(x[held_out != fold], decay)
            hits[held_out == fold] = _verdict(expit(x[held_out == fold] @ w))
        return cls(states, bradley_terry(x, decay), scale, estimates.proportion(hits, prompts))

    def rewards(self, prompts: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
        """Shape (n,); only differences between answers to one prompt mean something."""
        return self.states(prompts, answers) / self.scale @ self.weights

    def first_is_better(
        self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]
    ) -> NDArray[np.float64]:
        return expit(self.rewards(prompts, first) - self.rewards(prompts, second))


def bradley_terry(differences: ArrayLike, decay: float) -> NDArray[np.float64]:
    """Weights w, shape (d,), of a logistic regression on differences x_i, shape (n, d).

    They minimise sum_i -log sigmoid(w.x_i) + decay d ||w||^2 / 2. The decay is a feature's: d times as strong
    as for one, so that it does not wane as features are added.
    """
    x = np.asarray(differences, dtype=np.float64)
    strength = decay * x.shape[1]

    def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = x @ w
        return float(np.logaddexp(0, -z).sum() + strength * (w @ w) / 2), -(expit(-z) @ x) + strength * w

    return minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x


def answer_states(
    lm: LanguageModel, prompts: Sequence[str], answers: Sequence[str], tokens: int
) -> NDArray[np.float64]:
    """Hidden states at the last token of each prompt with its answer, shape (n, d).

    Args:
        tokens: answers are cut to so many, at least 1, so that a judge sees pairs and sampled answers of one
            kind.
    """
    read = lm.tokenizer(list(answers), add_special_tokens=False, return_offsets_mapping=True)
    ends = [spans[tokens - 1][1] if len(spans) > tokens else None for spans in read["offset_mapping"]]
    texts = [prompt + answer[:end] for prompt, answer, end in zip(prompts, answers, ends, strict=True)]
    return states.hidden_states(lm, texts).astype(np.float64)


# A reward model from the hub ----------------------------------------------------------------------


@dataclass(frozen=True)
class RewardModelJudge:
    """A sequence classifier with one output, such as OpenAssistant/reward-model-deberta-v3-large-v2.

    Its weights are float32, whatever they are stored as.

    Attributes:
        name: a hub id or a folder.
    """

    name: str
    device: str = "cpu"

    def check(self) -> None:
        """See from its configuration that it is there and is a reward model.

        Raises:
            PrefdynError: it is not.
        """
        outputs = loading.configuration(self.name).num_labels
        if outputs != 1:
            raise PrefdynError(f"{self.name!r} has {outputs} outputs: a reward model has one")

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.check()
        source, revision = self._place
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
            loaded: Any = AutoModelForSequenceClassification.from_pretrained(
                source,
                revision=revision,
                dtype=torch.float32,
                output_loading_info=True,
                trust_remote_code=False,
            )
        except Exception as error:  # what it is depends on which file is wrong, and how
            raise PrefdynError(
                f"the reward model {self.name!r} cannot be loaded ({first_line(error)})"
            ) from error
        model, report = loaded
        if report["missing_keys"]:
            raise PrefdynError(
                f"{self.name!r} is no reward model: it lacks weights, such as {min(report['missing_keys'])}"
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if tokenizer.pad_token is None:
            raise PrefdynError(
                f"the reward model {self.name!r} has no token to pad answers with: set pad_token in its "
                "tokenizer_config.json"
            )
        # A reward is read at the last token that is no padding.
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
        return model.to(self.device).eval(), tokenizer

    @cached_property
    def _place(self) -> tuple[str, str]:
        return loading.locate(self.name)

    @torch.no_grad()
    def rewards(self, prompts: Sequence[str], answers: Sequence[str], batch: int = 16) -> NDArray[np.float64]:
        """Shape (n,); of what is longer than the model has places for, the end is cut.

        Raises:
            PrefdynError: a prompt and its answer are both empty.
        """
        if not all(map(str.strip, map(str.__add__, prompts, answers))):
            raise PrefdynError(f"the reward model {self.name!r} is asked of an empty text: leave it out")
        model, tokenizer = self._loaded
        places = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        longest = min(tokenizer.model_max_length, places or tokenizer.model_max_length)
        out: list[float] = []
        for start in range(0, len(prompts), batch):
            texts = list(prompts[start : start + batch]), list(answers[start : start + batch])
            inputs = tokenizer(
                *texts, return_tensors="pt", padding=True, truncation=True, max_length=longest
            ).to(self.device)
            out.extend(model(**inputs).logits[:, 0].double().tolist())
        return np.array(out)

    def first_is_better(
        self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]
    ) -> NDArray[np.float64]:
        return expit(self.rewards(prompts, first) - self.rewards(prompts, second))

    @property
    def fingerprint(self) -> str:
        """What it is known by, see `loading.locate`: of a hub id the commit."""
        return self._place[1]


# By name ------------------------------------------------------------------------------------------


def named(judge: str, device: str = "cpu") -> RewardModelJudge | EndpointJudge:
    """A judge by its name: "reward:HUB_ID_OR_FOLDER", or "URL#MODEL" for an endpoint.

    Raises:
        PrefdynError: the name is of neither form, or holds what may be a key.
    """
    kind, _, rest = judge.partition(":")
    if kind == "reward" and rest:
        return RewardModelJudge(rest, device)
    url, _, model = judge.partition("#")
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port, or no address in brackets
        whole = False
    if not (whole and model.strip()):
        raise PrefdynError(f"the judge is {judge!r}: write embedded, reward:HUB_ID, or https://HOST/v1#MODEL")
    if parts.username is not None or parts.query:
        raise PrefdynError(
            f"the judge's address at {parts.hostname} holds more than a place, and pages show it: write "
            f"https://HOST/v1#MODEL, and set {KEY_VARIABLE} to the key"
        )
    return EndpointJudge(url, model)
