"""Log-likelihoods of whole responses, of which ranking accuracy is made (RA Appendix C.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from prefdyn.engine.likelihood import response_log_probs, tokenize_responses
from prefdyn.engine.states import TOKENS_PER_FORWARD, by_length, without_dropout
from prefdyn.models import LanguageModel, Precision
from prefdyn.models.token_trees import Tree


@dataclass(frozen=True)
class ResponseLogProbs:
    """Of the k responses to one prompt.

    Attributes:
        total: log pi(y|x) of each response, the sum over its tokens, in nats, shape (k,).
        tokens: their numbers of tokens, shape (k,).
    """

    total: NDArray[np.float64]
    tokens: NDArray[np.int64]

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
) -> list[ResponseLogProbs]:
    """Log-likelihoods of the responses to each prompt, in the order given.

    A prompt is run once for all of its responses.

    Args:
        prompts: n of them; a space at the end of one goes to its responses.
        responses: to each prompt, any number.
        max_length: tokens of a prompt and a response together; what is longer is cut as
            `likelihood.tokenize_pairs` says.
        precision: of the matrix products; bfloat16 is faster where the device has it, and off by up to a nat
            on long responses.

    Raises:
        PrefdynError: a prompt or a response is empty.
    """
    trees: list[Tree] = [
        tokenize_responses(lm, *pair, max_length) for pair in zip(prompts, responses, strict=True)
    ]
    lengths = [len(prompt) + sum(map(len, tails)) for prompt, tails in trees]
    out: list[ResponseLogProbs | None] = [None] * len(trees)
    for part in by_length(lengths, tokens_per_forward):
        with lm.autocast(precision), without_dropout(lm.model):
            totals = lm.run(response_log_probs, [trees[i] for i in part]).double().cpu().numpy()
        counts = [len(trees[i][1]) for i in part]
        for i, values in zip(part, np.split(totals, np.cumsum(counts)[:-1]), strict=True):
            out[i] = ResponseLogProbs(values, np.array([len(tail) for tail in trees[i][1]]))
    return [likelihoods for likelihoods in out if likelihoods is not None]
