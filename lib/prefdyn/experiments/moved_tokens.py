"""What one step of all weights does to the reward of every token, beside what Equation 16 says of it: what
chapter 2 measures on response pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from prefdyn.data import Pair
from prefdyn.engine.gradients import add_mean_log_ratio_gradient
from prefdyn.engine.likelihood import TokenPair, tokenize_pairs
from prefdyn.engine.states import without_dropout
from prefdyn.engine.weights import full_tensor, requiring_grad, restoring
from prefdyn.measures.response_tokens import ResponseTokens, response_tokens, unembedding
from prefdyn.models import LanguageModel
from prefdyn.theory import tokens as theory

FALL = 0.005
"""Nats by which the loss would fall in the step if its slope stayed: so little that it nearly does."""
TOKENS = 1024
"""Run at once, forward and back."""
TOGETHER = 4
"""Pairs whose distributions over all tokens are held at once."""


def measure(lm: LanguageModel, pairs: Sequence[Pair], beta: float) -> pd.DataFrame:
    """A row a token of the pairs' responses: pair, response, rate, moved, as in `responses.moved`."""
    tokens = tokenize_pairs(lm, pairs)
    parts = [tokens[start : start + TOGETHER] for start in range(0, len(tokens), TOGETHER)]
    with restoring(lm):
        before = [response_tokens(lm, part) for part in parts]
        weight = unembedding(lm)
        pull = sum(theory.first_pull(part, weight, beta) for part in before) / len(tokens)
        assert isinstance(pull, Tensor)
        rates = [theory.rates_along(part, weight, pull, beta) for part in before]
        start = [theory.token_log_probs(part, weight) for part in before]
        learning_rate = _step(lm, tokens, beta)
        weight = unembedding(lm)
        after = [theory.token_log_probs(response_tokens(lm, part), weight) for part in parts]
    moved = [beta * (then - now) / learning_rate for now, then in zip(start, after, strict=True)]
    return pd.concat(
        [
            _rows(part, number * TOGETHER, rate, change)
            for number, (part, rate, change) in enumerate(zip(before, rates, moved, strict=True))
        ],
        ignore_index=True,
    )


def _rows(part: ResponseTokens, first: int, rate: Tensor, moved: Tensor) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "pair": first + part.pair.cpu().numpy(),
            "response": np.where(part.signs.cpu().numpy() > 0, "chosen", "rejected"),
            "rate": rate.cpu().numpy(),
            "moved": moved.cpu().numpy(),
        }
    )


def _step(lm: LanguageModel, tokens: Sequence[TokenPair], beta: float) -> float:
    """Take one step down the mean DPO loss, whose reference is the model as it is; its learning rate."""
    weights = list(lm.model.parameters())
    with requiring_grad(weights), without_dropout(lm.model):
        # At margins of 0 the slope of the loss is -1/2.
        add_mean_log_ratio_gradient(lm, tokens, TOKENS, -beta / 2)
        square = sum(
            float(full_tensor(weight.grad.square().sum())) for weight in weights if weight.grad is not None
        )
        learning_rate = FALL / square
        with torch.no_grad():
            for weight in weights:
                if weight.grad is not None:
                    weight.sub_(learning_rate * weight.grad)
    return learning_rate
