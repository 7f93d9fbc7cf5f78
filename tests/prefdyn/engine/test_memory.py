"""Activations that are made twice, and a copy on the host: less is held, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    MistralConfig,
    PreTrainedConfig,
)

from prefdyn import data
from prefdyn.engine import memory
from prefdyn.engine.likelihood import TokenPair, tokenize_pairs
from prefdyn.engine.lora import adapted
from prefdyn.engine.memory import recomputing
from prefdyn.engine.training import Settings, fine_tune
from prefdyn.engine.weights import restoring
from prefdyn.models import LanguageModel, loading
from prefdyn.models.token_trees import ATTENTION, last_hidden_states, pack

SMALL = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
CONFIGS: dict[str, PreTrainedConfig] = {
    "gpt2": GPT2Config(vocab_size=61, n_embd=32, n_layer=4, n_head=4),
    "gpt_neox": GPTNeoXConfig(**SMALL, num_attention_heads=4),
    "gemma3": Gemma3TextConfig(**SMALL, **HEADS, sliding_window=4),
    "mistral": MistralConfig(**SMALL, **HEADS, sliding_window=4),
}
TREES = [([5, 6, 7, 8, 9, 10], [[12, 13, 14, 15], [18, 19]]), ([], [[22, 23, 24], [25]])]


def pairs_of(lm: LanguageModel) -> list[TokenPair]:
    return tokenize_pairs(lm, data.load_pairs()[:6], max_length=60)


def bytes_kept(forward: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """What a forward pass returns, and the bytes of the distinct tensors that it keeps for backward."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        return forward(), sum(kept.values())


@pytest.mark.parametrize("one_by_one", [True, False], ids=["one by one", "all at once"])
@pytest.mark.parametrize("name", CONFIGS)
def test_recomputed_activations_give_the_same_gradients_and_are_not_kept(name: str, one_by_one: bool) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name], attn_implementation=ATTENTION).eval()
    weights = sum(weight.nbytes for weight in model.parameters())
    packed = pack(TREES, one_by_one=one_by_one)
    gradients, kept = [], []
    for active in (False, True):
        with recomputing(model, active):
            hidden, held = bytes_kept(lambda: last_hidden_states(model, packed))
            (hidden * torch.linspace(-1, 1, hidden.numel()).view_as(hidden)).sum().backward()
        gradients.append([weight.grad for weight in model.parameters() if weight.grad is not None])
        kept.append(held)
        model.zero_grad(set_to_none=True)
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    assert 0 < kept[1] < (kept[0] - weights) / 2
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_training_with_recomputed_activations_is_the_same_training(
    smoke: LanguageModel, dropout: float
) -> None:
    records = []
    for active in (False, True):
        lm = loading.load("smoke", device="cpu", precision="float32")
        settings = Settings(learning_rate=1e-3, steps=4, batch_size=3, beta=0.5)
        with adapted(lm, rank=4, alpha=16, dropout=dropout), recomputing(lm.model, active):
            torch.manual_seed(5)
            records.append(fine_tune(lm, pairs_of(lm), settings, {"test": pairs_of(lm)}, [2, 4]))
    pd.testing.assert_frame_equal(*records, rtol=0, atol=0)


def test_training_takes_a_gradient_and_moments_of_each_weight_and_activations(smoke: LanguageModel) -> None:
    weights = list(smoke.model.parameters())
    count = sum(weight.numel() for weight in weights)
    assert memory.takes(smoke, weights, 3, 0) == 12 * count
    assert memory.takes(smoke, [], 3, 50) == memory.ACTIVATION_BYTES * 50 * 32 * 2
    assert not memory.short(smoke, 1e30), "a CPU's memory is checked before a chapter starts"


@pytest.mark.gpu
def test_where_a_gpu_is_short_the_copy_is_on_the_host(
    cuda: torch.device, smoke: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = loading.load("smoke", device=str(cuda), precision="float32")
    free = memory.free_memory(cuda)
    assert not memory.short(lm, 0.5 * free) and memory.short(lm, 1.1 * free)
    monkeypatch.setattr(memory, "ACTIVATION_BYTES", free)
    with restoring(lm):
        fine_tune(lm, pairs_of(lm), Settings(learning_rate=1e-2, steps=2, batch_size=4, beta=1.0))
    assert memory.copy_of(next(iter(lm.model.parameters())), True).is_pinned()
    for one, other in zip(lm.model.parameters(), smoke.model.parameters(), strict=True):
        assert torch.equal(one.cpu(), other)
