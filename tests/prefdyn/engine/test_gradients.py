"""The first gradient of all weights, against autograd on the whole vocabulary."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prefdyn import data
from prefdyn.engine.gradients import mean_log_ratio_gradient
from prefdyn.engine.likelihood import TokenPair, tokenize_persona
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel


@pytest.fixture(scope="module")
def pairs(smoke: LanguageModel) -> list[TokenPair]:
    return tokenize_persona(smoke, data.load_persona(data.persona_names()[0]).balanced(5))


def test_sizes_are_those_of_autograd_one_pair_at_a_time(
    fresh_smoke: LanguageModel, pairs: list[TokenPair]
) -> None:
    model = fresh_smoke.model
    table = mean_log_ratio_gradient(fresh_smoke, pairs).set_index("part")
    weights = dict(model.named_parameters())
    for weight in weights.values():
        weight.requires_grad_(True)
    total = torch.zeros(())
    for pair in pairs:
        logits = model(torch.tensor([pair.prompt])).logits[0, -1].log_softmax(-1)
        total = total + logits[pair.chosen[0]] - logits[pair.rejected[0]]
    (total / len(pairs)).backward()
    parts = {"embed_tokens": "embed_tokens", "layer 0": ".0.", "layer 1": ".1.", "norm": "model.norm.weight"}
    assert set(table.index) == set(parts)
    for part, inside in parts.items():
        own = [weight.grad for name, weight in weights.items() if inside in name and weight.grad is not None]
        expected = [sum(float(g.square().sum()) for g in own), sum(float(g.abs().sum()) for g in own)]
        # Both are float32: a sum of a thousand terms rounds by some hundred times 2^-24 of the largest.
        assert table.loc[part].tolist() == pytest.approx(expected, rel=1e-4)


def test_model_is_left_as_it_was(smoke: LanguageModel, pairs: list[TokenPair]) -> None:
    before = [weight.clone() for weight in smoke.model.parameters()]
    mean_log_ratio_gradient(smoke, pairs)
    for weight, value in zip(smoke.model.parameters(), before, strict=True):
        assert weight.grad is None and not weight.requires_grad and torch.equal(weight, value)


def test_opposite_labels_have_as_long_a_gradient_and_both_together_none(
    smoke: LanguageModel, pairs: list[TokenPair]
) -> None:
    turned = [TokenPair(pair.prompt, pair.rejected, pair.chosen, pair.group) for pair in pairs]
    one, other, both = (mean_log_ratio_gradient(smoke, some) for some in (pairs, turned, pairs + turned))
    columns = ["squared", "absolute"]
    np.testing.assert_allclose(one[columns], other[columns], rtol=1e-5)
    assert (both["absolute"] < 1e-4 * one["absolute"]).all()


def test_nothing_has_no_gradient(smoke: LanguageModel) -> None:
    with pytest.raises(PrefdynError, match="nothing to take a gradient of"):
        mean_log_ratio_gradient(smoke, [])
