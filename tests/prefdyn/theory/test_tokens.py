"""Equation 16 against autograd on a transformer's tokens, sums written out, and finite differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from prefdyn import data
from prefdyn.engine import losses
from prefdyn.engine.likelihood import tokenize_pairs
from prefdyn.measures.response_tokens import ResponseTokens, response_tokens, unembedding
from prefdyn.models import LanguageModel, loading
from prefdyn.theory import tokens as theory

BETA = 0.2
LOSSES: list[Callable[[], losses.Loss]] = [losses.dpo, losses.ipo, lambda: losses.cdpo(0.2)]


@pytest.fixture(scope="module")
def tokens(smoke: LanguageModel) -> ResponseTokens:
    return response_tokens(smoke, tokenize_pairs(smoke, data.load_pairs()[:3]))


def elsewhere(smoke: LanguageModel) -> torch.Tensor:
    """An unembedding that training might have reached, so that margins are not 0."""
    weight = unembedding(smoke)
    return weight + 0.1 * torch.randn(
        weight.shape, dtype=weight.dtype, generator=torch.Generator().manual_seed(1)
    )


def at(
    tokens: ResponseTokens, weight: torch.Tensor, reference: torch.Tensor, loss: losses.Loss
) -> theory.Factors:
    margins = theory.margins(tokens, BETA * (theory.token_log_probs(tokens, weight) - reference))
    return theory.factors(tokens, weight, -loss.derivative(margins), BETA)


@pytest.mark.parametrize("make", LOSSES)
def test_factors_add_up_to_autograd_s_gradient_of_every_token(
    smoke: LanguageModel, tokens: ResponseTokens, make: Callable[[], losses.Loss]
) -> None:
    reference = theory.token_log_probs(tokens, unembedding(smoke))
    truth = theory.rates_by_autograd(tokens, elsewhere(smoke), reference, BETA, make())
    got = at(tokens, elsewhere(smoke), reference, make())
    assert ((got.total - truth).abs() / truth.abs()).max() < 1e-8
    assert (got.as_printed - truth).norm() / truth.norm() > 1e-3


def test_factors_add_up_on_the_default_model() -> None:
    if not loading.is_cached(loading.DEFAULT):
        pytest.skip("the default model is not in the cache: `prefdyn run` fetches it")
    lm = loading.load(device="cpu", precision="float32")
    tokens = response_tokens(
        lm, tokenize_pairs(lm, sorted(data.load_pairs(), key=lambda p: len(p.chosen + p.rejected))[:2])
    )
    weight, loss = unembedding(lm), losses.dpo()
    reference = theory.token_log_probs(tokens, weight)
    truth = theory.rates_by_autograd(tokens, weight, reference, BETA, loss)
    got = at(tokens, weight, reference, loss).total
    assert ((got - truth).abs() / truth.abs()).max() < 1e-8
    single = ResponseTokens(tokens.states.float(), tokens.tokens, tokens.signs.float(), tokens.pair)
    rough = at(single, weight.float(), reference.float(), loss).total
    assert (rough - truth).norm() / truth.norm() < 1e-4


def test_autograd_s_rates_are_what_a_small_step_does(smoke: LanguageModel, tokens: ResponseTokens) -> None:
    weight = elsewhere(smoke)
    reference = theory.token_log_probs(tokens, unembedding(smoke))
    leaf = weight.clone().requires_grad_(True)
    rewards = BETA * (theory.token_log_probs(tokens, leaf) - reference)
    losses.dpo().value(theory.margins(tokens, rewards)).mean().backward()
    ahead, behind = (theory.token_log_probs(tokens, weight - step * leaf.grad) for step in (1e-5, -1e-5))
    by_difference = BETA * (ahead - behind) / 2e-5
    truth = theory.rates_by_autograd(tokens, weight, reference, BETA, losses.dpo())
    torch.testing.assert_close(truth, by_difference, rtol=1e-6, atol=1e-9)


def test_each_factor_by_hand() -> None:
    """Two tokens of vocabulary {0, 1} in one pair; W = 0, so distributions and slope are 1/2."""
    tokens = ResponseTokens(
        torch.tensor([[1.0, 0], [1, 2]]).double(),
        torch.tensor([0, 1]),
        torch.tensor([1.0, -1]).double(),
        torch.tensor([0, 0]),
    )
    got = theory.factors(tokens, torch.zeros(2, 2).double(), torch.tensor([0.5]).double(), beta=2.0)
    # beta^2 * slope = 2; products of states are 1, 1 and 5; signs + and -.
    assert got.co_occurrence.tolist() == [2, -10]
    assert got.probability_there.tolist() == got.probability_here.tolist() == [-1 + 1, -1 + 5]
    assert got.distribution.tolist() == [1 - 1, 1 - 5]


def test_rewards_weighted_by_probability_stand_still(smoke: LanguageModel, tokens: ResponseTokens) -> None:
    """sum_y S*_y dr(y)/dt = 0: what one token gains another loses."""
    weight = elsewhere(smoke)
    place, vocabulary = tokens.states[:1], weight.shape[0]
    # The place again and again with every token of the vocabulary, in a pair of slope 0 that pushes nothing.
    every = ResponseTokens(
        torch.cat([tokens.states, place.expand(vocabulary, -1)]),
        torch.cat([tokens.tokens, torch.arange(vocabulary)]),
        torch.cat([tokens.signs, torch.ones(vocabulary).double()]),
        torch.cat([tokens.pair, torch.full((vocabulary,), tokens.pairs)]),
    )
    slopes = torch.tensor([0.5] * tokens.pairs + [0.0]).double()
    rates = theory.factors(every, weight, slopes, BETA).total[-vocabulary:]
    assert abs((rates @ (weight @ place[0]).softmax(0)).item()) < 1e-10 * rates.abs().max()


def test_descent_is_torch_s_own(smoke: LanguageModel, tokens: ResponseTokens) -> None:
    weight = unembedding(smoke)
    reference = theory.token_log_probs(tokens, weight)
    leaf = weight.clone().requires_grad_(True)
    optimizer = torch.optim.SGD([leaf], lr=0.3)
    expected = []
    for _ in range(5):
        optimizer.zero_grad()
        r = theory.margins(tokens, BETA * (theory.token_log_probs(tokens, leaf) - reference))
        expected.append(r.detach().numpy())
        losses.dpo().value(r).mean().backward()
        optimizer.step()
    course = list(theory.descend(tokens, weight, BETA, 0.3, 4, losses.dpo()))
    assert [snapshot.step for snapshot in course] == [0, 1, 2, 3, 4]
    assert [snapshot.time for snapshot in course] == pytest.approx([0, 0.3, 0.6, 0.9, 1.2])
    np.testing.assert_allclose([snapshot.margins.numpy() for snapshot in course], expected, atol=1e-10)
    torch.testing.assert_close(weight, unembedding(smoke))
