"""What training minimises: a loss of the reward margin, or the negative log-likelihood of the chosen responses (SFT)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from prefdyn import losses
from prefdyn.features import by_length, without_dropout
from prefdyn.likelihood import LogProbs, TokenPair, chosen_log_probs, log_probs
from prefdyn.models import LanguageModel

SFT = "sft"
"""The loss of supervised fine-tuning: the negative log-likelihood of the chosen responses, mean over all of their tokens in a batch."""


class Measured(NamedTuple):
    """Of n preferences, each of shape (n,). The loss of a batch is the sum of `loss` over the sum of `weight`."""

    loss: Tensor
    weight: Tensor
    margin: Tensor
    now: LogProbs


class Margins:
    """f of the reward margin. The reference is run once, and once for a preference that several splits hold.

    Attributes:
        normalised: as `log_probs` has it, for measurements.
    """

    normalised = False

    def __init__(self, lm: LanguageModel, pairs: Sequence[TokenPair], loss: losses.Loss, beta: float, tokens_per_forward: int) -> None:
        self.lm, self.loss, self.beta = lm, loss, beta
        self.rows = {pair: row for row, pair in enumerate(dict.fromkeys(pairs))}
        self.references = reference_log_probs(lm, list(self.rows), tokens_per_forward).log_ratio

    def weights(self, pairs: Sequence[TokenPair]) -> Tensor:
        return torch.ones(len(pairs), device=self.lm.device)

    def forward(self, pairs: Sequence[TokenPair]) -> LogProbs:
        return log_probs(self.lm.model, pairs)

    def measure(self, pairs: Sequence[TokenPair], now: LogProbs) -> Measured:
        reference = self.references[torch.tensor([self.rows[pair] for pair in pairs], device=self.lm.device)]
        margins = losses.reward_margin(now.log_ratio, reference, self.beta)
        return Measured(self.loss.value(margins), self.weights(pairs), margins, now)


class Likelihood:
    """The negative log-likelihood of the chosen responses. There are no margins, and training never runs the rejected ones."""

    normalised = True

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm

    def weights(self, pairs: Sequence[TokenPair]) -> Tensor:
        return torch.tensor([float(len(pair.chosen)) for pair in pairs], device=self.lm.device)

    def forward(self, pairs: Sequence[TokenPair]) -> LogProbs:
        chosen = chosen_log_probs(self.lm.model, pairs)
        unknown = torch.full_like(chosen, torch.nan).detach()
        return LogProbs(unknown, chosen, unknown)

    def measure(self, pairs: Sequence[TokenPair], now: LogProbs) -> Measured:
        return Measured(-now.chosen, self.weights(pairs), torch.full_like(now.chosen, torch.nan).detach(), now)


@torch.no_grad()
def reference_log_probs(
    lm: LanguageModel, pairs: Sequence[TokenPair], tokens_per_forward: int = 4096, normalised: bool = False
) -> LogProbs:
    """Log-probabilities of the pairs under the model as it is, in the order given: what the reference contributes to a margin.

    Args:
        normalised: as in `log_probs`.
    """
    out = torch.empty(3, len(pairs), device=lm.device)
    for part in by_length([pair.length for pair in pairs], tokens_per_forward):
        with lm.autocast(), without_dropout(lm.model):
            out[:, torch.from_numpy(part).to(lm.device)] = torch.stack(log_probs(lm.model, [pairs[i] for i in part], normalised))
    return LogProbs(*out)
