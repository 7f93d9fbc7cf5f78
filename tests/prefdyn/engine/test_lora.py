"""Low-rank adapters: they alone move, their effect is (alpha / r) B A, and they leave no trace."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import rounding
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig

from prefdyn import data
from prefdyn.engine.likelihood import TokenPair, tokenize_persona
from prefdyn.engine.lora import adapted
from prefdyn.engine.objectives import reference_log_probs
from prefdyn.engine.states import hidden_states
from prefdyn.engine.training import Settings, fine_tune
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel, loading
from prefdyn.models.token_trees import ATTENTION

IDS = torch.tensor([[5, 40, 77, 9, 130, 258]])
SETTINGS = Settings(learning_rate=1e-2, steps=4, batch_size=4, beta=1.0)
LORA = {"rank": 4, "alpha": 16, "dropout": 0.0}


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def pairs_of(lm: LanguageModel) -> list[TokenPair]:
    return tokenize_persona(lm, data.load_persona(data.persona_names()[0]).balanced(4))


def adapters(lm: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in lm.model.named_parameters() if "lora_" in name}


def test_adapters_start_without_effect(fresh_smoke: LanguageModel, smoke: LanguageModel) -> None:
    with adapted(fresh_smoke, **LORA):
        assert torch.equal(logits(fresh_smoke.model), logits(smoke.model))
        assert len(adapters(fresh_smoke)) == 2 * 2 * 2
        assert {min(weight.shape) for weight in adapters(fresh_smoke).values()} == {4}


def test_query_and_value_projections_are_adapted_fused_or_not(fresh_smoke: LanguageModel) -> None:
    with adapted(fresh_smoke, **LORA):
        assert {name.split(".lora_")[0].rsplit(".", 1)[1] for name in adapters(fresh_smoke)} == {
            "q_proj",
            "v_proj",
        }
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, attn_implementation=ATTENTION)
    fused = replace(fresh_smoke, model=GPT2LMHeadModel(config).eval().requires_grad_(False))
    before = logits(fused.model)
    with adapted(fused, **LORA):
        assert {name.split(".lora_")[0].rsplit(".", 1)[1] for name in adapters(fused)} == {"c_attn"}
        fine_tune(fused, pairs_of(fused), SETTINGS)
        assert not torch.allclose(
            logits(fused.model), before, rtol=0, atol=10 * rounding.of_log_probs(fused.model)
        )
    assert torch.equal(logits(fused.model), before)


def test_training_moves_adapters_only_by_the_low_rank_formula(
    fresh_smoke: LanguageModel, smoke: LanguageModel
) -> None:
    lm = fresh_smoke
    merged = copy.deepcopy(smoke.model)
    with adapted(lm, **LORA):
        record = fine_tune(lm, pairs_of(lm), SETTINGS)
        state = lm.model.state_dict()
        for name, weight in smoke.model.state_dict().items():
            inside = name if name in state else name.replace(".weight", ".base_layer.weight")
            assert torch.equal(state[inside], weight), name
        with torch.no_grad():
            for layer in merged.model.layers:
                for kind in ("q_proj", "v_proj"):
                    place = f"model.layers.{layer.self_attn.layer_idx}.self_attn.{kind}"
                    a, b = state[f"{place}.lora_A.default.weight"], state[f"{place}.lora_B.default.weight"]
                    assert b.abs().max() > 1e-3
                    getattr(layer.self_attn, kind).weight += 16 / 4 * b @ a
        allowed = rounding.of_log_probs(merged)
        torch.testing.assert_close(logits(lm.model), logits(merged), rtol=0, atol=allowed)
        assert not torch.allclose(logits(lm.model), logits(smoke.model), rtol=0, atol=10 * allowed)
    assert record["loss"].iloc[-1] < record["loss"].iloc[0]


def test_afterwards_the_model_is_as_before(fresh_smoke: LanguageModel, smoke: LanguageModel) -> None:
    lm = fresh_smoke
    with pytest.raises(KeyboardInterrupt), adapted(lm, **LORA):
        fine_tune(lm, pairs_of(lm), SETTINGS)
        raise KeyboardInterrupt
    assert torch.equal(logits(lm.model), logits(smoke.model))
    kinds = [
        {name: type(module) for name, module in model.named_modules()} for model in (lm.model, smoke.model)
    ]
    assert kinds[0] == kinds[1]
    assert [name for name, _ in lm.model.named_parameters()] == [
        name for name, _ in smoke.model.named_parameters()
    ]
    assert not any(weight.requires_grad for weight in lm.model.parameters())
    assert not any(module.training for module in lm.model.modules())
    whole = fine_tune(lm, pairs_of(lm), SETTINGS)
    pd.testing.assert_frame_equal(
        whole, fine_tune(loading.load("smoke", device="cpu", precision="float32"), pairs_of(lm), SETTINGS)
    )


def run(seed: int, dropout: float, evaluate_at: tuple[int, ...] = ()) -> pd.DataFrame:
    lm = loading.load("smoke", device="cpu", precision="float32")
    pairs = pairs_of(lm)
    with adapted(lm, rank=4, alpha=16, dropout=dropout, seed=seed):
        return fine_tune(lm, pairs, SETTINGS, {"test": pairs}, evaluate_at)


def test_training_with_dropout_is_repeated_by_its_seed_and_changed_by_another() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = run(0, 0.5)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random state is left alone"
    torch.manual_seed(2)
    pd.testing.assert_frame_equal(run(0, 0.5), first, rtol=0, atol=0)
    assert not np.allclose(run(1, 0.5)["loss"], first["loss"], rtol=0, atol=1e-6)
    assert not np.allclose(run(0, 0.0)["loss"], first["loss"], rtol=0, atol=1e-6), "dropout is on"


def test_measuring_does_not_change_a_run_with_dropout() -> None:
    watched = run(0, 0.5, evaluate_at=(0, 1, 2, 3, 4))
    trained = watched[watched["split"] == "train"].reset_index(drop=True)
    pd.testing.assert_frame_equal(trained, run(0, 0.5), rtol=0, atol=0)


def test_measurements_are_taken_without_dropout(fresh_smoke: LanguageModel) -> None:
    lm = fresh_smoke
    pairs = pairs_of(lm)
    with adapted(lm, rank=4, alpha=16, dropout=0.5):
        fine_tune(lm, pairs, SETTINGS)
        first, second = (reference_log_probs(lm, pairs).log_ratio for _ in range(2))
        assert torch.equal(first, second)
        features = [hidden_states(lm, ["is the rain wet?", "no"]) for _ in range(2)]
        np.testing.assert_array_equal(*features)
        assert any(module.training for module in lm.model.modules()), "and dropout is on again for training"


def test_architecture_that_peft_does_not_know_is_one_sentence(
    fresh_smoke: LanguageModel, smoke: LanguageModel
) -> None:
    class Another(LlamaConfig):
        model_type = "another"

    fresh_smoke.model.config = Another(**fresh_smoke.model.config.to_dict())
    with (
        pytest.raises(PrefdynError, match=r"^LoRA finds no layers .*: choose another, or train all weights$"),
        adapted(fresh_smoke, **LORA),
    ):
        pass
    assert torch.equal(logits(fresh_smoke.model), logits(smoke.model))
