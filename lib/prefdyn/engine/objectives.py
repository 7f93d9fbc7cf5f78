"""What training minimises: a loss of the reward margin, or for SFT of the chosen responses alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from prefdyn.engine import losses
from prefdyn.engine.captured import Answers, Passes, Responses
from prefdyn.engine.likelihood import (
    LogProbs,
    TokenPair,
    as_trees,
    check_tokens,
    chosen_log_probs,
    log_probs,
    of_answers,
    of_responses,
)
from prefdyn.engine.states import TOKENS_PER_FORWARD, by_length, check_numbers, without_dropout
from prefdyn.models import LanguageModel

SFT = "sft"
"""The loss of supervised fine-tuning.

It is the negative log-likelihood of the chosen responses, mean over all of their tokens in a batch.
"""


class Measured(NamedTuple):
    """Of n preferences, each of shape (n,).

    The loss of a batch is the sum of `loss` over the sum of `weight`.
    """

    loss: Tensor
    weight: Tensor
    margin: Tensor
    now: LogProbs


Content = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""What a pair's log-probabilities depend on: the tokens of its prompt and both responses, not its group."""

Reference = dict[Content, tuple[float, float, float]]
"""The `LogProbs` of pairs under a reference.

Whoever trains several times from one model passes one, and each pair is run once.
"""


class Margins:
    """f of the reward margin.

    Attributes:
        normalised: as `log_probs` has it, for measurements.
        asking, values: what `captured` asks of pairs, and how many values it gets of each.
    """

    normalised = False

    def __init__(
        self,
        lm: LanguageModel,
        pairs: Sequence[TokenPair],
        loss: losses.Loss,
        beta: float,
        gamma: float,
        reference: Reference,
        tokens_per_forward: int,
    ) -> None:
        """Measures what the reference lacks of the pairs.

        What is known of a pair tells of its swapped one too.
        """
        self.lm, self.loss, self.beta, self.gamma, self.reference = lm, loss, beta, gamma, reference
        self.asking = Answers if all(pair.one_token for pair in pairs) else Responses
        self.values = 1 if self.asking is Answers else 2
        distinct = {_content(pair): pair for pair in pairs}
        missing = {content: pair for content, pair in distinct.items() if content not in reference}
        if not missing:
            return
        measured = torch.stack(
            reference_log_probs(lm, list(missing.values()), tokens_per_forward), dim=1
        ).tolist()
        check_numbers(lm, [ratio for ratio, _, _ in measured])
        for pair, found in zip(missing.values(), measured, strict=True):
            add_to_reference(reference, pair, *found)

    def weights(self, pairs: Sequence[TokenPair]) -> Tensor:
        return torch.ones(len(pairs), device=self.lm.device)

    def known(self, pairs: Sequence[TokenPair]) -> Tensor:
        """On the host, of each pair: the reference's log-ratio and its weight, shape (2, n)."""
        return torch.tensor([(self.reference[_content(pair)][0], 1.0) for pair in pairs]).T

    def forward(self, pairs: Sequence[TokenPair]) -> LogProbs:
        return self.lm.run(log_probs, pairs)

    def asked(self, pairs: Sequence[TokenPair]) -> Answers | Responses:
        return Answers(pairs) if self.asking is Answers else Responses(as_trees(pairs))

    def read(self, values: Tensor) -> LogProbs:
        """Of what was asked."""
        return of_responses(values) if self.asking is Responses else of_answers(values)

    def initial(self, pairs: Sequence[TokenPair]) -> LogProbs:
        """Log-probabilities before the first update, which are the reference's."""
        known = torch.tensor([self.reference[_content(pair)] for pair in pairs])
        return LogProbs(*known.to(self.lm.device, non_blocking=True).unbind(1))

    def measure(self, pairs: Sequence[TokenPair], now: LogProbs) -> Measured:
        return self.value(now, self.initial(pairs).log_ratio, self.weights(pairs))

    def value(self, now: LogProbs, reference: Tensor, weight: Tensor) -> Measured:
        margins = losses.reward_margin(now.log_ratio, reference, self.beta, self.gamma)
        return Measured(self.loss.value(margins), weight, margins, now)

    def before_training(self, pairs: Sequence[TokenPair], measured: Measured) -> Measured:
        """With the margins of a model that is its own reference, where a batch has their rounding."""
        return measured._replace(margin=self.measure(pairs, self.initial(pairs)).margin)


class Supervised:
    """The negative log-likelihood of the chosen responses.

    There are no margins, and training never runs the rejected ones.
    """

    normalised = True
    asking, values = Responses, 1

    def __init__(self, lm: LanguageModel, tokens_per_forward: int) -> None:
        self.lm, self.tokens_per_forward = lm, tokens_per_forward

    def weights(self, pairs: Sequence[TokenPair]) -> Tensor:
        return torch.tensor([float(len(pair.chosen)) for pair in pairs], device=self.lm.device)

    def known(self, pairs: Sequence[TokenPair]) -> Tensor:
        """As of `Margins`; there is no reference."""
        return torch.tensor([(torch.nan, float(len(pair.chosen))) for pair in pairs]).T

    def forward(self, pairs: Sequence[TokenPair]) -> LogProbs:
        return self.read(self.lm.run(chosen_log_probs, pairs))

    def asked(self, pairs: Sequence[TokenPair]) -> Responses:
        return Responses([(pair.prompt, (pair.chosen,)) for pair in pairs])

    def read(self, values: Tensor) -> LogProbs:
        unknown = torch.full_like(values, torch.nan).detach()
        return LogProbs(unknown, values, unknown)

    def initial(self, pairs: Sequence[TokenPair]) -> LogProbs:
        return reference_log_probs(self.lm, pairs, self.tokens_per_forward, self.normalised)

    def measure(self, pairs: Sequence[TokenPair], now: LogProbs) -> Measured:
        unknown = torch.full_like(now.chosen, torch.nan).detach()
        return self.value(now, unknown, self.weights(pairs))

    def value(self, now: LogProbs, reference: Tensor, weight: Tensor) -> Measured:
        return Measured(-now.chosen, weight, reference, now)

    def before_training(self, pairs: Sequence[TokenPair], measured: Measured) -> Measured:
        """As it was measured: the first that is computed of the model, as there is no reference.

        Raises:
            PrefdynError: the model computes what is no number.
        """
        check_numbers(self.lm, measured.loss.detach().cpu().numpy())
        return measured


def _content(pair: TokenPair) -> Content:
    return pair.prompt, pair.chosen, pair.rejected


def add_to_reference(
    reference: Reference, pair: TokenPair, ratio: float, chosen: float, rejected: float
) -> None:
    """Enter a pair's `LogProbs` under a reference, which tell those of the swapped pair, too."""
    reference[pair.prompt, pair.chosen, pair.rejected] = (ratio, chosen, rejected)
    reference[pair.prompt, pair.rejected, pair.chosen] = (-ratio, rejected, chosen)


@torch.no_grad()
def reference_log_probs(
    lm: LanguageModel,
    pairs: Sequence[TokenPair],
    tokens_per_forward: int = TOKENS_PER_FORWARD,
    normalised: bool = False,
    passes: Passes | None = None,
) -> LogProbs:
    """Log-probabilities of the pairs under the model as it is, in the order given.

    They are what the reference contributes to a margin.

    Args:
        tokens_per_forward: run at once; bounds the memory of activations.
        normalised: as in `log_probs`.
        passes: of one model asked more than once.

    Raises:
        PrefdynError: something else stands for pairs of tokens.
    """
    check_tokens(pairs)
    out = torch.zeros(3, len(pairs), device=lm.device)
    answers = not normalised and all(pair.one_token for pair in pairs)
    asked = Answers(pairs) if answers else Responses(as_trees(pairs))
    replayed = (passes or Passes(lm)).of(asked, tokens_per_forward)
    if replayed is not None:
        for part, values in replayed:
            at = torch.from_numpy(part).to(lm.device)
            out[:, at] = torch.stack(of_answers(values) if answers else of_responses(values))
        return LogProbs(*out)
    for part in by_length([pair.length for pair in pairs], tokens_per_forward * lm.processes):
        own = part[lm.process :: lm.processes]
        with lm.autocast(), without_dropout(lm.model):
            # A process without a share runs what another has, so that all keep step.
            found = lm.run(log_probs, [pairs[i] for i in (own if len(own) else part[:1])], normalised)
        out[:, torch.from_numpy(own).to(lm.device)] = torch.stack(found)[:, : len(own)]
    return LogProbs(*lm.total(out))
