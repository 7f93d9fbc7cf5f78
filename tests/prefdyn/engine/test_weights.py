"""A model's weights around a training: brought back to the bit, with gradients for a while, and measured."""

from __future__ import annotations

import math

import pytest
import torch

from prefdyn import data
from prefdyn.data import Pair
from prefdyn.engine.likelihood import tokenize_pairs, tokenize_persona
from prefdyn.engine.training import Settings, fine_tune
from prefdyn.engine.weights import distance, requiring_grad, restoring, vocabulary_of
from prefdyn.models import LanguageModel


def test_restoring_gives_back_every_weight_exactly_even_after_an_error(
    fresh_smoke: LanguageModel, smoke: LanguageModel
) -> None:
    lm = fresh_smoke
    answers = tokenize_persona(lm, data.load_persona(data.persona_names()[0]).balanced(4))
    responses = tokenize_pairs(lm, [Pair(f"Is rain {i} wet?", " very" + "!" * i, " no") for i in range(4)])
    with pytest.raises(KeyboardInterrupt), restoring(lm):
        for pairs in (answers, responses):
            fine_tune(lm, pairs, Settings(learning_rate=1e-2, steps=2, batch_size=4, beta=1.0))
        assert not torch.equal(lm.unembedding, smoke.unembedding)
        raise KeyboardInterrupt
    for one, other in zip(lm.model.parameters(), smoke.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_gradients_are_there_for_as_long_as_they_are_asked_for() -> None:
    weights = [torch.nn.Parameter(torch.ones(3), requires_grad=False) for _ in range(2)]
    with pytest.raises(KeyboardInterrupt), requiring_grad(weights):
        (weights[0].sum() + 2 * weights[1].sum()).backward()
        assert [weight.grad.tolist() for weight in weights] == [[1, 1, 1], [2, 2, 2]]
        raise KeyboardInterrupt
    assert all(weight.grad is None and not weight.requires_grad for weight in weights)


def test_distance_is_that_of_all_weights_together() -> None:
    now = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0], [12.0]])]
    assert float(distance(now, [torch.zeros(2), torch.zeros(2, 1)])) == math.sqrt(9 + 16 + 144)


def test_words_that_do_not_occur_are_away_and_come_back_as_they_were(fresh_smoke: LanguageModel) -> None:
    lm = fresh_smoke
    pairs = tokenize_persona(lm, data.load_persona(data.persona_names()[0]).balanced(2))
    used = {token for pair in pairs for token in (*pair.prompt, *pair.chosen, *pair.rejected)}
    table = lm.model.get_input_embeddings()
    before, whole = table.weight.detach().clone(), table.weight
    with vocabulary_of(lm.model, pairs, active=True) as written:
        assert len(table.weight) == len(used) < len(before)
        for pair in pairs:
            small = written(pair)
            assert torch.equal(table.weight[list(small.prompt)], before[list(pair.prompt)])
        with torch.no_grad():
            table.weight += 1
    moved = torch.zeros(len(before), dtype=torch.bool)
    moved[sorted(used)] = True
    assert table.weight is whole
    assert torch.equal(whole[~moved], before[~moved]) and torch.equal(whole[moved], before[moved] + 1)
