"""Every token of response pairs with the hidden state that predicts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prefdyn.engine.likelihood import TokenPair, as_trees, response_rows
from prefdyn.engine.states import without_dropout
from prefdyn.models import LanguageModel
from prefdyn.models.token_trees import last_hidden_states


@dataclass(frozen=True)
class ResponseTokens:
    """Every token of the responses of N pairs, P tokens in all.

    Attributes:
        states: g(i, j, w/l), the hidden state that predicts the token, shape (P, d).
        tokens: y, the token's id, shape (P,).
        signs: +1 in a chosen response, -1 in a rejected one, shape (P,).
        pair: i, the number of the token's pair, shape (P,).
    """

    states: Tensor
    tokens: Tensor
    signs: Tensor
    pair: Tensor

    @property
    def pairs(self) -> int:
        """N."""
        return int(self.pair.max()) + 1


@torch.no_grad()
def response_tokens(lm: LanguageModel, pairs: Sequence[TokenPair]) -> ResponseTokens:
    """The tokens of the pairs' responses with their hidden states under the model, in float64."""
    trees, rows, tokens, branch = response_rows(as_trees(pairs), lm.device)
    with lm.autocast("float32"), without_dropout(lm.model):
        states = lm.run(last_hidden_states, trees)[rows]
    device = _float64_device(lm)
    signs = torch.where(branch % 2 == 0, 1.0, -1.0)
    return ResponseTokens(
        states.double().to(device), tokens.to(device), signs.double().to(device), (branch // 2).to(device)
    )


def unembedding(lm: LanguageModel) -> Tensor:
    """W in float64, shape (V, d), where the tokens of `response_tokens` are."""
    return lm.unembedding.detach().to(_float64_device(lm)).double()


def _float64_device(lm: LanguageModel) -> torch.device:
    return torch.device("cpu") if lm.device.type == "mps" else lm.device  # Apple's accelerator has no float64


def ches(tokens: ResponseTokens) -> Tensor:
    """Centered hidden embedding similarity of each pair's responses, shape (N,), of any scale of the states.

    With c and r the sums of the hidden states of the chosen and the rejected response it is c.r - |c|^2
    (Razin et al. 2025, Definition 2): the larger it is, the more pushing the rejected response down takes the
    chosen one along. Both sums are divided by their responses' lengths, as the length-normalised score has
    it: else long responses alone decide.
    """
    chosen, rejected = (_means(tokens, sign) for sign in (1, -1))
    return (chosen * rejected).sum(1) - chosen.square().sum(1)


def _means(tokens: ResponseTokens, sign: int) -> Tensor:
    """Of the states of each pair's chosen (+1) or rejected (-1) response, shape (N, d)."""
    own = tokens.signs == sign
    index, states = tokens.pair[own], tokens.states[own]
    sums = states.new_zeros(tokens.pairs, states.shape[1]).index_add(0, index, states)
    return sums / torch.bincount(index, minlength=tokens.pairs)[:, None]
