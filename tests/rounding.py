"""How far apart two float32 results of the same arithmetic may lie, derived from how they are rounded.

Every operation rounds its result by at most u = 2^-24 of its size. Of n operations on numbers of size M each
leaves an error of at most u M; as these fall either way, together they leave sqrt(n) u M / sqrt(3) as a
standard deviation, not n u M (Higham & Mary 2019). Two ways to the same number, in other batches, with other
vector units or on another device, add in another order and so differ by sqrt(2) times that; five standard
deviations of it are 4 sqrt(n) u M. What a test allows is that, with the n and the M of its own arithmetic,
and never what some machine gave.
"""

from __future__ import annotations

import math

import torch
from transformers import PreTrainedModel

UNIT = 2.0**-24
"""u of float32: half the distance from 1 to the next larger number."""
CANCELLING = 10.0
"""Terms of a gradient may be so many times as large as their sum, as chosen and rejected responses cancel."""


def rounding(magnitude: float, operations: float) -> float:
    """Allowed between two sums of so many terms, whose partial sums stay below the magnitude."""
    return 4 * math.sqrt(operations) * UNIT * magnitude


def operations(model: PreTrainedModel, length: int = 64) -> int:
    """Roundings on the way from a token's embedding to its last hidden state, `length` tokens into a text.

    A layer adds d numbers in each of its norms, projections and the product before the nonlinearity,
    d / heads for an attention score, `length` for the softmax and again for the mean, and f behind the
    nonlinearity.
    """
    config = model.config
    d, f = config.hidden_size, getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    layer = 5 * d + d // config.num_attention_heads + 2 * length + f
    return config.num_hidden_layers * layer + d


def of_states(model: PreTrainedModel, length: int = 64) -> float:
    """Allowed between hidden states, as a share of their largest entry."""
    return rounding(1, operations(model, length))


def of_log_probs(model: PreTrainedModel, tokens: int = 1, length: int = 64) -> float:
    """Allowed between sums of the log-probabilities of `tokens` tokens, or their differences, in nats.

    A logit is at most |g| |W_y|, with |g| = sqrt(d) behind a norm whose weights are 1; the logarithm of the
    sum over the vocabulary is at most that and log V. The sum over tokens itself is rounded at its own size.
    """
    config, weight = model.config, model.get_output_embeddings().weight
    logit = math.sqrt(config.hidden_size) * float(weight.norm(dim=1).max())
    one = 2 * logit + math.log(config.vocab_size)
    ways = operations(model, length) + config.hidden_size + config.vocab_size
    return rounding(one, tokens * ways) + (rounding(tokens * one, tokens) if tokens > 1 else 0.0)


def of_margins(model: PreTrainedModel, beta: float, tokens: int = 1, length: int = 64) -> float:
    """Allowed between margins of pairs with `tokens` tokens in both responses together, and between losses.

    A margin is beta times the difference of two sums of log-probabilities, now and before; the slope of a
    loss is at most about 1.
    """
    return 2 * beta * of_log_probs(model, tokens, length)


def of_training(model: PreTrainedModel, beta: float, tokens: int = 1, length: int = 64) -> float:
    """Allowed between margins, and between losses, along two runs of the same training.

    To the rounding of the margins comes that of the gradients, on a way of margins of at most about 1.
    """
    return of_margins(model, beta, tokens, length) + of_gradients(model, length)


def of_gradients(model: PreTrainedModel, length: int = 64) -> float:
    """Allowed between gradients, and between what plain descent makes of them, as a share of their norm.

    Backward takes twice the operations of forward.
    """
    return rounding(CANCELLING, 3 * operations(model, length))


def of_normalised_steps(model: PreTrainedModel, length: int = 64) -> float:
    """Allowed between what AdamW or RMSprop make of gradients, as a share of the way that weights moved.

    They move every weight by about the learning rate, whatever the size of its gradient: where that is itself
    rounding, either way. Of normally distributed gradients that is the share `of_gradients`, so that the norm
    of all differences is twice its root.
    """
    return 2 * math.sqrt(of_gradients(model, length))


@torch.no_grad()
def distance(one: PreTrainedModel, other: PreTrainedModel) -> float:
    """The norm of the difference of all weights, in float64."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return math.sqrt(sum(float((a - b).double().square().sum()) for a, b in pairs))


def assert_same_weights(
    ours: PreTrainedModel, theirs: PreTrainedModel, start: PreTrainedModel, share: float
) -> None:
    """Two trainings ended at the same weights, but for a share of the way that they moved them."""
    moved = distance(theirs, start)
    assert moved > 0 and distance(ours, theirs) < share * moved
