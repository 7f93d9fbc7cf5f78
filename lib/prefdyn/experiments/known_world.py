"""A world in which the judge is known, and trainings in it.

Responses are the model's own samples, of a fixed number of tokens. Their reward is a fixed function of the
text, and raters vote by it as Bradley and Terry have it, so that the share of raters, the win rate and the
optimum of Theorem 3.1 are known exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from prefdyn.engine.likelihood import TokenPair
from prefdyn.engine.memory import copy_of, short, takes
from prefdyn.engine.objectives import Reference, add_to_reference, reference_log_probs
from prefdyn.engine.states import TOKENS_PER_FORWARD, without_dropout
from prefdyn.engine.training import Settings, fine_tune
from prefdyn.engine.weights import restoring
from prefdyn.models import LanguageModel

WORTH = 0.6
"""Of a word, in the units of a reward: by so much the log-odds of raters change."""
FOLLOWED = 2
"""Trained pairs of a prompt that are followed."""
ANSWERS = 2
"""To each prompt at a look."""
TOGETHER = 128
"""Responses that are sampled at once."""

Tokens = tuple[int, ...]


def reward(text: str) -> float:
    """0.6 for every different word that begins with a, e, i, o or u."""
    words = {word for word in re.findall(r"[a-z]+", text.lower()) if word[0] in "aeiou"}
    return WORTH * len(words)


# Sampling -------------------------------------------------------------------------------------------


@torch.no_grad()
def sample(lm: LanguageModel, prompts: Sequence[Tokens], tokens: int, seed: Sequence[int]) -> list[Tokens]:
    """A response of so many tokens to each prompt, from the model's own distribution.

    Nothing ends it early: a mark of the end is a token like others. So the log-likelihood of these tokens is
    the model's, and responses to a prompt are of one length.
    """
    out: list[Tokens] = []
    generator = torch.Generator(lm.device).manual_seed(int(np.random.default_rng(seed).integers(2**62)))
    with lm.autocast(), without_dropout(lm.model):
        for start in range(0, len(prompts), TOGETHER):
            part = prompts[start : start + TOGETHER]
            longest = max(map(len, part))
            ids = torch.zeros(len(part), longest, dtype=torch.long)
            seen = torch.zeros_like(ids)
            for row, prompt in enumerate(part):
                ids[row, longest - len(prompt) :] = torch.tensor(prompt)
                seen[row, longest - len(prompt) :] = 1
            drawn = lm.run(_sampled, ids.to(lm.device), seen.to(lm.device), tokens, generator)
            out.extend(map(tuple, drawn.tolist()))
    return out


def _sampled(model: Any, ids: Tensor, seen: Tensor, tokens: int, generator: torch.Generator) -> Tensor:
    drawn: list[Tensor] = []
    places = (seen.cumsum(1) - 1).clamp(min=0)
    kept = None
    for _ in range(tokens):
        found = model(
            input_ids=ids, attention_mask=seen, position_ids=places, past_key_values=kept, use_cache=True
        )
        kept = found.past_key_values
        odds = torch.softmax(found.logits[:, -1].float(), dim=-1)
        ids = torch.multinomial(odds, 1, generator=generator)
        drawn.append(ids)
        seen = torch.cat([seen, torch.ones_like(ids)], dim=1)
        places = places[:, -1:] + 1
    return torch.cat(drawn, dim=1)


# The world ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labelled:
    """Pairs with their raters' choice.

    Attributes:
        pairs: the preferred response first; the group is the number of the prompt.
        difference: the preferred response's reward less the other's, shape (n,).
    """

    pairs: list[TokenPair]
    difference: list[float]

    def take(self, numbers: Sequence[int]) -> Labelled:
        return Labelled([self.pairs[i] for i in numbers], [self.difference[i] for i in numbers])


@dataclass(frozen=True)
class World:
    """One draw: prompts, responses of the reference, and a vote on each pair.

    Attributes:
        prompts: as tokens.
        train, unseen: pairs; those of a prompt stand together.
        rewards: of all of the reference's responses to each prompt, shape (prompts, responses).
    """

    prompts: list[Tokens]
    train: Labelled
    unseen: Labelled
    rewards: list[list[float]]

    @property
    def followed(self) -> Labelled:
        """Some trained pairs of each prompt."""
        each = len(self.train.pairs) // len(self.prompts)
        return self.train.take([i for i in range(len(self.train.pairs)) if i % each < FOLLOWED])


def make_world(
    lm: LanguageModel, prompts: Sequence[str], tokens: int, train: int, unseen: int, seed: int
) -> World:
    """A world of the model's samples: so many pairs of each kind to each prompt."""
    asked = [tuple(ids) for ids in lm.tokenizer(list(prompts))["input_ids"]]
    each = 2 * (train + unseen)
    drawn = sample(lm, [prompt for prompt in asked for _ in range(each)], tokens, (seed, 0))
    rewards = _rewards(lm, drawn)
    rng = np.random.default_rng([seed, 1])
    kinds: tuple[Labelled, Labelled] = (Labelled([], []), Labelled([], []))
    for number, prompt in enumerate(asked):
        first = number * each
        for k in range(train + unseen):
            i, j = first + 2 * k, first + 2 * k + 1
            _vote(kinds[k >= train], prompt, number, drawn[i], drawn[j], rewards[i] - rewards[j], rng)
    by_prompt = np.array(rewards).reshape(len(asked), each).tolist()
    return World(asked, *kinds, by_prompt)


def _vote(
    into: Labelled,
    prompt: Tokens,
    number: int,
    first: Tokens,
    second: Tokens,
    ahead: float,
    rng: np.random.Generator,
) -> None:
    """Append a pair, labelled by one rater."""
    if rng.random() >= expit(ahead):
        first, second, ahead = second, first, -ahead
    into.pairs.append(TokenPair(prompt, first, second, str(number)))
    into.difference.append(round(ahead, 4))


def _rewards(lm: LanguageModel, responses: Sequence[Tokens]) -> list[float]:
    ids = [list(response) for response in responses]
    return [round(reward(text), 4) for text in lm.tokenizer.batch_decode(ids, skip_special_tokens=True)]


# A training in it -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Course:
    """A training in a world.

    Attributes:
        record: see `training.RECORD`; the pairs of the splits "trained" and "unseen" are groups, by number.
        rewards: by look, of the answers to each prompt, shape (prompts, answers).
        gained: by look, of each answer, log pi(y|x) / pi_ref(y|x) in nats, shape (prompts, answers); its mean
            is the KL divergence from the reference, estimated.
    """

    record: pd.DataFrame
    rewards: dict[int, list[list[float]]]
    gained: dict[int, list[list[float]]]


def train_in(
    lm: LanguageModel, world: World, settings: Settings, looks: Sequence[int], tokens: int, seed: int
) -> Course:
    """Train on a world's pairs from the model as it is, which has its weights back afterwards."""
    seen: dict[int, list[Tokens]] = {}
    log_probs: dict[int, NDArray[np.float64]] = {}

    def visit(step: int) -> None:
        seen[step] = _answers(lm, world, tokens, seed)
        log_probs[step] = _of_answers(lm, world, seen[step])

    splits = _splits(world)
    with restoring(lm):
        record = fine_tune(lm, world.train.pairs, settings, splits, looks, visit=visit)
    return _course(lm, world, record, seen, log_probs)


def refresh_in(
    lm: LanguageModel, world: World, settings: Settings, tokens: int, train: int, seed: int
) -> dict[str, Course]:
    """Train, then go on from there: once on the same pairs, and once on fresh ones that are the policy's own
    samples, labelled by the same rater. The reference stays the model as it comes in.

    Args:
        train: fresh pairs of each prompt.
    """
    seen: dict[str, dict[int, list[Tokens]]] = {}
    log_probs: dict[str, dict[int, NDArray[np.float64]]] = {}
    records: dict[str, pd.DataFrame] = {}
    splits = _splits(world)
    with restoring(lm):
        fine_tune(lm, world.train.pairs, settings)
        asked = [prompt for prompt in world.prompts for _ in range(2 * train)]
        drawn = sample(lm, asked, tokens, (seed, 2))
        weights = list(lm.model.parameters())
        # Beside it, training takes a gradient, a moment and the start of each weight.
        on_host = short(lm, takes(lm, weights, 4, TOKENS_PER_FORWARD))
        middle = [copy_of(weight, on_host) for weight in weights]
    rewards, fresh, rng = _rewards(lm, drawn), Labelled([], []), np.random.default_rng([seed, 3])
    for k in range(0, len(drawn), 2):
        number = k // (2 * train)
        prompt, ahead = world.prompts[number], rewards[k] - rewards[k + 1]
        _vote(fresh, prompt, number, drawn[k], drawn[k + 1], ahead, rng)
    known: Reference = {}
    for pairs in (world.train.pairs, fresh.pairs, *splits.values()):
        _remember(lm, pairs, known)
    with restoring(lm):
        for name, part in (("DPO, same pairs", world.train), ("DPO, fresh pairs", fresh)):
            _set_weights(lm, middle)
            found: dict[int, list[Tokens]] = {}
            values: dict[int, NDArray[np.float64]] = {}

            def visit(step: int, found: dict = found, values: dict = values) -> None:
                found[step] = _answers(lm, world, tokens, seed)
                values[step] = _of_answers(lm, world, found[step])

            # Before the first update a record has the reference's values, so nothing is measured there.
            looks = (settings.steps,)
            records[name] = fine_tune(lm, part.pairs, settings, splits, looks, dict(known), visit)
            seen[name], log_probs[name] = found, values
    return {name: _course(lm, world, records[name], seen[name], log_probs[name]) for name in records}


def _splits(world: World) -> dict[str, list[TokenPair]]:
    parts = {"trained": world.followed, "unseen": world.unseen}
    return {
        name: [TokenPair(p.prompt, p.chosen, p.rejected, str(k)) for k, p in enumerate(part.pairs)]
        for name, part in parts.items()
    }


def _answers(lm: LanguageModel, world: World, tokens: int, seed: int) -> list[Tokens]:
    """`ANSWERS` to each prompt, with the same random numbers at every look."""
    return sample(lm, [prompt for prompt in world.prompts for _ in range(ANSWERS)], tokens, (seed, 4))


def _of_answers(lm: LanguageModel, world: World, answers: Sequence[Tokens]) -> NDArray[np.float64]:
    """Log-probabilities under the model as it is, shape (prompts, 2)."""
    pairs = [
        TokenPair(prompt, answers[2 * k], answers[2 * k + 1], "") for k, prompt in enumerate(world.prompts)
    ]
    found = reference_log_probs(lm, pairs)
    return torch.stack([found.chosen, found.rejected], dim=1).double().cpu().numpy()


def _course(
    lm: LanguageModel,
    world: World,
    record: pd.DataFrame,
    seen: Mapping[int, list[Tokens]],
    log_probs: Mapping[int, NDArray[np.float64]],
) -> Course:
    """With the weights of the reference back, whose log-probabilities of the answers are taken now."""
    shape = (len(world.prompts), ANSWERS)
    return Course(
        record[record["split"] != "train"].reset_index(drop=True),
        {step: np.reshape(_rewards(lm, found), shape).tolist() for step, found in seen.items()},
        {
            step: (log_probs[step] - _of_answers(lm, world, found)).round(4).tolist()
            for step, found in seen.items()
        },
    )


def _set_weights(lm: LanguageModel, values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for weight, value in zip(lm.model.parameters(), values, strict=True):
            weight.copy_(value)


def _remember(lm: LanguageModel, pairs: Sequence[TokenPair], known: Reference) -> None:
    """Log-probabilities of pairs under the model as it is, for a training that begins elsewhere."""
    for pair, found in zip(pairs, torch.stack(reference_log_probs(lm, pairs), dim=1).tolist(), strict=True):
        add_to_reference(known, pair, *found)
