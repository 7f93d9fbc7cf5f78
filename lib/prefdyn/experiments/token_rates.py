"""The rate at which every token's reward changes, in its factors and by autograd: what chapter 2 measures on
response pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from prefdyn.data import Pair
from prefdyn.engine import losses
from prefdyn.engine.likelihood import tokenize_pairs
from prefdyn.measures import geometry
from prefdyn.measures.response_tokens import ResponseTokens, response_tokens, unembedding
from prefdyn.models import LanguageModel
from prefdyn.theory import tokens as theory

PARTS = ["co_occurrence", "probability", "distribution", "total"]
"""Factors of Eq. 16, and their sum."""
SIGNS = {"chosen": 1, "rejected": -1}


@dataclass(frozen=True)
class TokenRates:
    """What `measure` finds.

    Attributes:
        tokens: a row a token, before training.
        factors: means over the tokens of a response, a row a step and response.
        cosine: median cosine of the states of two places.
    """

    tokens: pd.DataFrame
    factors: pd.DataFrame
    cosine: float


def measure(
    lm: LanguageModel, pairs: Sequence[Pair], beta: float, learning_rate: float, steps: int
) -> TokenRates:
    """Train the unembedding on the pairs by full-batch descent with the states held still, in float64."""
    places, weight, dpo = (
        response_tokens(lm, tokenize_pairs(lm, pairs)),
        unembedding(lm),
        losses.dpo(),
    )
    reference = theory.token_log_probs(places, weight)
    snapshots = list(theory.descend(places, weight, beta, learning_rate, steps, dpo))
    truth = theory.rates_by_autograd(places, weight, reference, beta, dpo)
    found = snapshots[0].factors
    tokens = pd.DataFrame(
        {
            "pair": places.pair.cpu().numpy(),
            "response": np.where(places.signs.cpu().numpy() > 0, "chosen", "rejected"),
            "probability": np.exp(reference.cpu().numpy()),
            "rate": truth.cpu().numpy(),
            "rate by the factors": found.total.cpu().numpy(),
            "rate as printed": found.as_printed.cpu().numpy(),
            "relative error": ((found.total - truth).abs() / truth.abs()).cpu().numpy(),
        }
    )
    factors = pd.DataFrame(
        [_mean(snapshot, places, word, sign) for snapshot in snapshots for word, sign in SIGNS.items()]
    )
    cosines = geometry.off_diagonal(geometry.cosine_matrix(places.states.cpu().numpy()))
    return TokenRates(tokens, factors, float(np.median(cosines)))


def _mean(snapshot: theory.Snapshot, places: ResponseTokens, word: str, sign: int) -> dict[str, object]:
    """A row of the table of factors."""

    def average(values: torch.Tensor) -> float:
        return values[places.signs == sign].mean().item()

    return {
        "step": snapshot.step,
        "response": word,
        **{part: average(getattr(snapshot.factors, part)) for part in PARTS},
        "mean margin": snapshot.margins.mean().item(),
        "token reward": average(snapshot.rewards),
    }
