"""Rewards of the tokens of longer responses, and the three factors of their gradient.

GN Section 4.3, Eq. 12 to 16, Appendix B. As in the paper the hidden states stand still and gradient flow
moves the whole unembedding W. The paper prints the probability factor as a difference of two probabilities;
the derivation gives their sum, and only the sum agrees with autograd.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import jvp

from prefdyn.engine import losses

if TYPE_CHECKING:  # a theorem needs arrays, not the model that they come from
    from prefdyn.measures.response_tokens import ResponseTokens


def token_log_probs(responses: ResponseTokens, weight: Tensor) -> Tensor:
    """log S(W g)_y of every token, shape (P,), in nats."""
    logits = responses.states @ weight.T
    return logits.gather(1, responses.tokens[:, None])[:, 0] - logits.logsumexp(dim=1)


def margins(responses: ResponseTokens, rewards: Tensor) -> Tensor:
    """The pairs' margins, shape (N,): rewards of chosen tokens minus those of rejected ones (Eq. 12)."""
    return torch.zeros(responses.pairs, dtype=rewards.dtype, device=rewards.device).index_add(
        0, responses.pair, responses.signs * rewards
    )


@dataclass(frozen=True)
class Factors:
    """tau dr/dt of every token in its parts, each of shape (P,): their sum is the gradient (Eq. 16).

    Attributes:
        co_occurrence: from where the same token stands.
        probability_there: from how probable the token is in the other places, S(W g(i, j, w/l)).y.
        probability_here: from how probable the other places' tokens are in this one, S(W g*).y(i, j, w/l).
        distribution: from how alike the two places' whole distributions are.
    """

    co_occurrence: Tensor
    probability_there: Tensor
    probability_here: Tensor
    distribution: Tensor

    @property
    def probability(self) -> Tensor:
        """The probability factor: the sum of both its parts."""
        return self.probability_there + self.probability_here

    @property
    def total(self) -> Tensor:
        """The sum of the three."""
        return self.co_occurrence + self.probability + self.distribution

    @property
    def as_printed(self) -> Tensor:
        """The total with the paper's p(i, j, w/l), in which one of two probabilities has the wrong sign."""
        return self.co_occurrence + self.probability_there - self.probability_here + self.distribution


@torch.no_grad()
def factors(responses: ResponseTokens, weight: Tensor, slopes: Tensor, beta: float) -> Factors:
    """Eq. 16, with the sum of probabilities that its derivation gives.

    (y - S*).(y_p - S_p) = y.y_p - S_p.y - S*.y_p + S*.S_p for a token y with distribution S* and another
    place p; each term is weighted by (beta^2 / N) times the slope of p's pair, the sign of p's response and
    g_p.g*.

    Args:
        weight: W, shape (V, d).
        slopes: -f'(margin) of each pair, shape (N,): sigmoid(-margin) for DPO.
    """
    distributions = (responses.states @ weight.T).softmax(dim=1)
    influence = (
        responses.states
        @ responses.states.T
        * (beta**2 / responses.pairs * responses.signs * slopes[responses.pair])
    )  # (here, there)
    probable = distributions[:, responses.tokens]  # [p, q] = S_p.y_q
    same = (responses.tokens[:, None] == responses.tokens[None, :]).to(influence.dtype)
    return Factors(
        co_occurrence=(influence * same).sum(1),
        probability_there=-(influence * probable.T).sum(1),
        probability_here=-(influence * probable).sum(1),
        distribution=(influence * (distributions @ distributions.T)).sum(1),
    )


def rates_by_autograd(
    responses: ResponseTokens, weight: Tensor, reference: Tensor, beta: float, loss: losses.Loss
) -> Tensor:
    """tau dr/dt of every token, shape (P,), without the decomposition.

    W follows minus the loss's gradient, rewards follow W.

    Args:
        reference: log-probabilities of the tokens under the reference, shape (P,).
    """

    def rewards(w: Tensor) -> Tensor:
        return beta * (token_log_probs(responses, w) - reference)

    leaf = weight.detach().requires_grad_(True)
    loss.value(margins(responses, rewards(leaf))).mean().backward()
    assert leaf.grad is not None
    return jvp(rewards, (weight.detach(),), (-leaf.grad,))[1].detach()


@torch.no_grad()
def first_pull(responses: ResponseTokens, weight: Tensor, beta: float) -> Tensor:
    """N tau dW/dt at margins of 0 under DPO, shape (V, d): the sum over the pairs given of Eq. 61."""
    pull = (beta / 2 * responses.signs)[:, None] * responses.states
    distributions = (responses.states @ weight.T).softmax(dim=1)
    out = -distributions.T @ pull
    return out.index_add_(0, responses.tokens, pull)


@torch.no_grad()
def rates_along(responses: ResponseTokens, weight: Tensor, velocity: Tensor, beta: float) -> Tensor:
    """tau dr/dt of every token, shape (P,), as W moves with tau dW/dt, shape (V, d), and the states stand
    still: beta (y - S*).(dW g*).
    """
    logits = responses.states @ velocity.T
    own = logits.gather(1, responses.tokens[:, None])[:, 0]
    return beta * (own - ((responses.states @ weight.T).softmax(dim=1) * logits).sum(dim=1))


@dataclass(frozen=True)
class Snapshot:
    """Training as it stands at a step.

    Attributes:
        time: t / tau.
        rewards: of the tokens, shape (P,).
        margins: of the pairs, shape (N,).
    """

    step: int
    time: float
    rewards: Tensor
    margins: Tensor
    factors: Factors


@torch.no_grad()
def descend(
    responses: ResponseTokens,
    weight: Tensor,
    beta: float,
    learning_rate: float,
    steps: int,
    loss: losses.Loss,
) -> Iterator[Snapshot]:
    """Full-batch gradient descent on W with the states held still.

    It yields a snapshot after every step, the first before training.
    """
    current = weight.detach().clone()
    reference = token_log_probs(responses, current)
    for step in range(steps + 1):
        rewards = beta * (token_log_probs(responses, current) - reference)
        r = margins(responses, rewards)
        slopes = -loss.derivative(r)
        yield Snapshot(step, step * learning_rate, rewards, r, factors(responses, current, slopes, beta))
        # tau dW/dt = (beta / N) sum_p sign_p slope_p (y_p - S_p) g_p^T, Eq. 61.
        pull = (beta / responses.pairs * responses.signs * slopes[responses.pair])[:, None] * responses.states
        distributions = (responses.states @ current.T).softmax(dim=1)
        current.index_add_(0, responses.tokens, learning_rate * pull)
        current -= learning_rate * distributions.T @ pull
