"""The tokens of responses, against their likelihood."""

from __future__ import annotations

import rounding
import torch

from prefdyn import data
from prefdyn.engine.likelihood import log_probs, tokenize_pairs
from prefdyn.measures.response_tokens import ResponseTokens, ches, response_tokens, unembedding
from prefdyn.models import LanguageModel
from prefdyn.theory import tokens as theory


def test_response_tokens_are_those_of_the_likelihood(smoke: LanguageModel) -> None:
    pairs = tokenize_pairs(smoke, data.load_pairs()[:4])
    tokens = response_tokens(smoke, pairs)
    sums = theory.margins(tokens, theory.token_log_probs(tokens, unembedding(smoke)))
    with torch.no_grad():
        ratios = log_probs(smoke.model, pairs).log_ratio
    most = max(len(pair.chosen) + len(pair.rejected) for pair in pairs)
    allowed = rounding.of_log_probs(smoke.model, most, length=512)
    torch.testing.assert_close(sums, ratios.double(), rtol=0, atol=allowed)
    assert tokens.tokens.tolist() == [token for pair in pairs for token in (*pair.chosen, *pair.rejected)]
    assert tokens.pairs == 4


def test_ches_by_hand() -> None:
    """Means (1, 1) and (2, 0), 2 - 2 = 0; (0, 3) and (0, 3), 9 - 9 = 0; (1, 0) and (0, 4), 0 - 1 = -1."""
    states = torch.tensor(
        [[0.0, 2], [2, 0], [2, 0], [0, 3], [0, 1], [0, 5], [1, 0], [0, 4]], dtype=torch.float64
    )
    signs = torch.tensor([1.0, 1, -1, 1, -1, -1, 1, -1], dtype=torch.float64)
    pair = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    tokens = ResponseTokens(states, torch.zeros(8, dtype=torch.long), signs, pair)
    assert ches(tokens).tolist() == [0.0, 0.0, -1.0]
