"""Log-likelihoods of whole responses, of which ranking accuracy is made (RA Appendix C.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prefdyn.engine.captured import Passes, Responses
from prefdyn.engine.likelihood import response_log_probs, tokenize_responses
from prefdyn.engine.states import TOKENS_PER_FORWARD, by_length, check_numbers, without_dropout
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel, Precision
from prefdyn.models.token_trees import Tree


@dataclass(frozen=True)
class ResponseLogProbs:
    """Of the k responses to one prompt.

    Attributes:
        total: log pi(y|x) of each response, the sum over its tokens, in nats, shape (k,).
        tokens: their numbers of tokens, shape (k,).
        cut: how many tokens the prompt has lost at its beginning, for its longest response, for want of room.
    """

    total: NDArray[np.float64]
    tokens: NDArray[np.int64]
    cut: int = 0

    @property
    def per_token(self) -> NDArray[np.float64]:
        """The mean over tokens: the log of the length-normalised likelihood (RA Eq. 15), shape (k,)."""
        return self.total / self.tokens


@torch.no_grad()
def score(
    lm: LanguageModel,
    prompts: Sequence[str],
    responses: Sequence[Sequence[str]],
    max_length: int = 512,
    precision: Precision = "float32",
    tokens_per_forward: int = TOKENS_PER_FORWARD,
    exact: bool = False,
) -> list[ResponseLogProbs]:
    """Log-likelihoods of the responses to each prompt, in the order given.

    A prompt is run once for all of its responses, and responses that are the same text once together, so that
    they have the same number.

    How far company moves a number was measured on the default model and an x86-64 CPU, with 200 responses of
    the sample's pairs and 128 of PandaLM's, in batches of 1 to 64 prompts in random order. Other prompts in
    the batch moved none. The other response to the same prompt moved some from what `exact` gives: in float32
    by at most 1.1e-4 nats, two millionths of the number, in bfloat16 by at most 0.72 nats, 0.8% of it. No
    pair changed its order. Another device or library of matrix products rounds otherwise. And where a prompt
    with its longest response exceeds `max_length`, so much of it is cut for the other responses, too.

    Args:
        prompts: n of them; a space at the end of one goes to its responses.
        responses: to each prompt, one or more.
        max_length: tokens of a prompt and a response together; what is longer is cut as
            `likelihood.tokenize_pairs` says.
        precision: of the matrix products; bfloat16 is faster where the device has it, and off by up to two
            nats on long responses.
        exact: run each response by itself, so that its number depends on nothing but the prompt and the
            response; otherwise what else is asked moves it by the rounding of its sums.

    Raises:
        PrefdynError: there are not as many lists of responses as prompts, a prompt has no responses,
            `max_length` holds none, a prompt or a response is empty, or a log-likelihood is no number.
    """
    if len(prompts) != len(responses):
        raise PrefdynError(f"{len(prompts)} prompts have {len(responses)} lists of responses: give each one")
    distinct = [list(dict.fromkeys(tails)) for tails in responses]
    together = [
        (prompt, some)
        for prompt, tails in zip(prompts, distinct, strict=True)
        for some in ([[tail] for tail in tails] if exact and tails else [tails])
    ]
    if not together:
        return []
    asked = Responses([tokenize_responses(lm, prompt, tails, max_length) for prompt, tails in together])
    totals: list[NDArray[np.float64]] = [np.empty(0)] * len(asked.trees)
    replayed = None if exact else Passes(lm, precision).of(asked, tokens_per_forward)
    parts = replayed or _as_ever(lm, asked, 1 if exact else tokens_per_forward, precision)
    # Copies of their own, which are fetched when all are on their way.
    for part, values in [(part, values.clone()) for part, values in parts]:
        found = values.double().cpu().numpy()
        check_numbers(lm, found)
        ends = np.cumsum([len(asked.trees[i][1]) for i in part])
        for i, of_one in zip(part, np.split(found, ends[:-1]), strict=True):
            totals[i] = of_one
    lengths = np.array([len(tail) for _, tails in asked.trees for tail in tails], dtype=np.int64)
    lost = np.array(
        [_lost(lm, prompt, tree, max_length) for (prompt, _), tree in zip(together, asked.trees, strict=True)]
    )
    lost = np.repeat(lost, [len(tails) for _, tails in asked.trees])
    ends = np.cumsum([len(tails) for tails in distinct])[:-1]
    split = zip(*(np.split(of, ends) for of in (np.concatenate(totals), lengths, lost)), strict=True)
    out = []
    for tails, some, (total, count, cut) in zip(responses, distinct, split, strict=True):
        index = [some.index(tail) for tail in tails]
        out.append(ResponseLogProbs(total[index], count[index], int(cut.max())))
    return out


def _lost(lm: LanguageModel, prompt: str, tree: Tree, max_length: int) -> int:
    """How many of a prompt's tokens were cut."""
    kept, tails = tree
    if len(kept) + max(map(len, tails)) < max_length:
        return 0
    return len(lm.tokenizer(prompt.rstrip())["input_ids"]) - len(kept)


def _as_ever(
    lm: LanguageModel, asked: Responses, tokens_per_forward: int, precision: Precision
) -> Iterator[tuple[NDArray[np.integer], Tensor]]:
    for part in by_length(asked.lengths(), tokens_per_forward):
        with lm.autocast(precision), without_dropout(lm.model):
            yield part, lm.run(response_log_probs, asked.take(part).trees)
