"""The tokens of responses, against their likelihood."""

from __future__ import annotations

import rounding
import torch

from prefdyn import data
from prefdyn.engine.likelihood import log_probs, tokenize_pairs
from prefdyn.measures.response_tokens import response_tokens, unembedding
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
