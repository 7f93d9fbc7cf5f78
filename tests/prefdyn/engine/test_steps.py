"""Steps whose parts are padded, as a GPU replays them, against steps as ever: the same training."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import rounding
import torch
from operators import Operators, waits_or_sorts
from transformers import LlamaConfig, LlamaForCausalLM

from prefdyn import data
from prefdyn.data import Pair
from prefdyn.engine import captured
from prefdyn.engine.likelihood import TokenPair, tokenize_pairs, tokenize_persona
from prefdyn.engine.lora import adapted
from prefdyn.engine.training import Settings, fine_tune
from prefdyn.models import LanguageModel, loading
from prefdyn.models.token_trees import ATTENTION

SETTINGS = Settings(learning_rate=1e-4, steps=9, batch_size=4, beta=0.5, seed=1)


def answers(lm: LanguageModel) -> list[TokenPair]:
    return tokenize_persona(lm, data.load_persona(data.persona_names()[0]).balanced(5))


def responses(lm: LanguageModel) -> list[TokenPair]:
    return tokenize_pairs(
        lm, [Pair(f"Is rain {i} wet?", "very" + "!" * (i % 3), " the Yes" * (1 + i % 2)) for i in range(9)]
    )


def load(device: str = "cpu") -> LanguageModel:
    return loading.load("smoke", device=device, precision="float32")


def untied(lm: LanguageModel) -> LanguageModel:
    return described(lm, tie_word_embeddings=False)


def described(lm: LanguageModel, **changes: Any) -> LanguageModel:
    """The same with new random weights of another configuration."""
    described = {**lm.model.config.to_dict(), **changes}
    torch.manual_seed(11)
    model = LlamaForCausalLM(LlamaConfig(**described, attn_implementation=ATTENTION)).eval()
    return replace(lm, model=model.requires_grad_(False))


def each_way(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """First steps as ever, then a CPU, too, pads its parts, however few, as a GPU does that replays them."""
    call, called = captured.Replayed.__call__, []
    monkeypatch.setattr(captured.Replayed, "__call__", lambda *given: called.append(given) or call(*given))
    monkeypatch.setattr(captured, "FROM_PARTS", 1)
    for kinds in (frozenset(), {"cpu"}):
        monkeypatch.setattr(captured, "DEVICES", kinds)
        yield
        assert bool(called) == bool(kinds)


def assert_same(records: list[pd.DataFrame], lm: LanguageModel) -> None:
    """But for rounding, which alone decides the signs of margins that are zero."""
    measured = [record.drop(columns=["accuracy", "ranking_accuracy"]) for record in records]
    pd.testing.assert_frame_equal(*measured, rtol=0, atol=rounding.of_training(lm.model, 1.0, 40))


@pytest.mark.parametrize("make", [answers, responses])
@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        replace(SETTINGS, optimizer="sgd", learning_rate=0.05, tokens_per_forward=40),
        replace(SETTINGS, optimizer="rmsprop", learning_rate=1e-5, loss="ipo", gamma=0.5),
        replace(SETTINGS, loss="sft", beta=0.0),
    ],
    ids=["adamw", "sgd in parts", "rmsprop", "sft"],
)
@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
def test_training_in_padded_parts_is_training_as_ever(
    smoke: LanguageModel, monkeypatch: pytest.MonkeyPatch, make: Any, settings: Settings, tie: bool
) -> None:
    start = smoke if tie else untied(smoke)
    trained, records = [], []
    for _ in each_way(monkeypatch):
        lm = replace(start, model=copy.deepcopy(start.model))
        pairs = make(lm)
        records.append(fine_tune(lm, pairs, settings, {"test": pairs}, [0, 4, settings.steps]))
        trained.append(lm.model)
    assert_same(records, start)
    share = rounding.of_gradients if settings.optimizer == "sgd" else rounding.of_normalised_steps
    rounding.assert_same_weights(*trained, start.model, share(start.model))
    assert all(weight.grad is None and not weight.requires_grad for weight in trained[1].parameters())


def test_adapters_train_in_padded_parts(smoke: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    records = []
    for _ in each_way(monkeypatch):
        lm = load()
        with adapted(lm, rank=4, alpha=16, dropout=0.0):
            records.append(fine_tune(lm, responses(lm), replace(SETTINGS, learning_rate=1e-2)))
        for one, other in zip(lm.model.parameters(), smoke.model.parameters(), strict=True):
            assert torch.equal(one, other)
    assert_same(records, smoke)


# What a step launches -------------------------------------------------------------------------------

FORWARD = 2 * 6 + 7 + 2 * 5 + 2 + 2 + 2
"""Of a layer of Llama: two norms (power, mean, sum, root, and two products), seven matrix products, rotations
of queries and of keys (a sign, a joining, two products, a sum), attention and the joining of its parts, the
nonlinearity and its gate, and two sums with what came in.
"""
LAYER = 4 * FORWARD
"""Backward, an operator takes one for the gradient of each of two inputs, and one that adds such a gradient
to another of the same tensor.
"""
CASTS = 4 * 7 + 2 * 3
"""Under autocast: of both factors of each matrix product, forward and backward; and on a CPU of what
attention reads.
"""


def steps_of(
    lm: LanguageModel, make: Any, monkeypatch: pytest.MonkeyPatch, copies: int = 1
) -> list[tuple[Counter[str], Counter[str]]]:
    """What each step of a training runs on the model's device: its only part, and the update."""
    call, ran = captured.Replayed.__call__, []

    def counted(*given: Any) -> torch.Tensor:
        with Operators() as operators:
            out = call(*given)
        ran.append(operators.ran)
        return out

    pairs = make(lm) * copies
    settings = replace(SETTINGS, steps=3, batch_size=len(pairs))
    with monkeypatch.context() as patch:
        patch.setattr(captured, "DEVICES", {"cpu"})
        patch.setattr(captured, "FROM_PARTS", 1)
        patch.setattr(captured.Replayed, "__call__", counted)
        fine_tune(lm, pairs, settings, reference={})
    steps = ran[-2 * settings.steps :]  # before them was the reference's pass
    return list(zip(steps[::2], steps[1::2], strict=True))


@pytest.mark.parametrize("make", [answers, responses])
@pytest.mark.parametrize(("precision", "layer"), [("float32", LAYER), ("bfloat16", LAYER + CASTS)])
def test_a_whole_step_launches_so_much_a_layer_and_once_more_and_sorts_nothing(
    smoke: LanguageModel, monkeypatch: pytest.MonkeyPatch, make: Any, precision: Any, layer: int
) -> None:
    """Forward, backward and the update, as a GPU would replay them; but a GPU's attention takes no groups of
    heads, so that there each layer repeats keys and values, and adds their gradients up: four more.
    """
    parts, updates = [], []
    for layers in (1, 2, 3):
        lm = replace(described(smoke, num_hidden_layers=layers), precision=precision)
        (part, _), (second, update), (third, last) = steps_of(lm, make, monkeypatch)
        assert part == second == third and update == last, "each step launches the same"
        parts.append(part)
        updates.append(update)
        assert sum(part.values()) <= (layers + 1) * layer  # no more outside the layers than in one
        assert not waits_or_sorts(part) and not waits_or_sorts(update)
    assert parts[2] - parts[1] == parts[1] - parts[0], "each layer launches the same"
    more = parts[1] - parts[0]
    assert more["mm"] == 3 * 7 and sum(more.values()) <= layer
    assert sum(count for name, count in more.items() if "scaled_dot_product" in name) == 2
    # The update is three calls, each over all weights: the step's number, AdamW, and zeros for gradients.
    assert updates[0] == updates[2] == Counter(_foreach_add_=1, _fused_adamw_=1, _foreach_zero_=1)


@pytest.mark.parametrize("make", [answers, responses])
def test_a_larger_step_launches_no_more(
    smoke: LanguageModel, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    small, large = (steps_of(described(smoke), make, monkeypatch, copies)[-1] for copies in (1, 4))
    assert small == large


@pytest.mark.gpu
@pytest.mark.parametrize("make", [answers, responses])
def test_captured_training_is_that_of_the_cpu(
    cuda: torch.device, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    monkeypatch.setattr(captured, "DEVICES", {"cuda"})
    monkeypatch.setattr(captured, "FROM_PARTS", 3)
    here, there = load(), load(str(cuda))
    assert_same(
        [fine_tune(lm, make(lm), SETTINGS, {"test": make(lm)}, [0, 4, 9]) for lm in (there, here)], here
    )
