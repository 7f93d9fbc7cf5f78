"""Features: the last hidden state of each prompt, whatever else is in its batch."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import rounding
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.engine.states import by_length, hidden_states
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel, loading


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    questions = data.load_persona(data.persona_names()[0]).questions[:12]
    return [*questions, "No", "a prompt that shares no beginning with the others", questions[0], " Yes"]


def own_run(lm: LanguageModel, prompts: list[str]) -> NDArray[np.float32]:
    """What the model's own run of each prompt hands to its unembedding at the last token."""
    seen = []
    hook = lm.model.get_output_embeddings().register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0][0, -1])
    )
    with torch.no_grad():
        for prompt in prompts:
            lm.model(**lm.tokenizer(prompt, return_tensors="pt"))
    hook.remove()
    return torch.stack(seen).numpy()


def allowed(lm: LanguageModel, prompts: list[str], own: NDArray[np.float32]) -> float:
    """What rounding leaves between hidden states of prompts; a byte is at most a token."""
    return float(rounding.of_states(lm.model, max(map(len, prompts))) * np.abs(own).max())


def test_features_are_what_the_models_own_run_hands_to_the_unembedding(
    smoke: LanguageModel, prompts: list[str]
) -> None:
    got, own = hidden_states(smoke, prompts), own_run(smoke, prompts)
    assert got.dtype == np.float32 and got.shape == (len(prompts), 32)
    np.testing.assert_allclose(got, own, rtol=0, atol=allowed(smoke, prompts, own))


@pytest.mark.parametrize("tokens", [1, 90, 400, 10**6])
def test_batch_size_and_order_do_not_matter(smoke: LanguageModel, prompts: list[str], tokens: int) -> None:
    own = own_run(smoke, prompts)
    order = np.random.default_rng(tokens).permutation(len(prompts))
    got = hidden_states(smoke, [prompts[i] for i in order], tokens_per_forward=tokens)
    np.testing.assert_allclose(got, own[order], rtol=0, atol=allowed(smoke, prompts, own))


def test_features_are_float32_exact_where_training_is_bfloat16(
    smoke: LanguageModel, prompts: list[str]
) -> None:
    half = loading.load("smoke", device="cpu", precision="bfloat16")
    np.testing.assert_array_equal(hidden_states(half, prompts), hidden_states(smoke, prompts))


@pytest.mark.gpu
def test_features_on_cuda_are_those_of_the_cpu(
    smoke: LanguageModel, cuda: torch.device, prompts: list[str]
) -> None:
    there = loading.load("smoke", device=str(cuda), precision="float32")
    own = own_run(smoke, prompts)
    got = hidden_states(there, prompts)
    np.testing.assert_allclose(got, own, rtol=0, atol=allowed(smoke, prompts, own))


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_parts_hold_each_sequence_once_by_length_within_the_budget(lengths: list[int], tokens: int) -> None:
    parts = [part.tolist() for part in by_length(lengths, tokens)]
    flat = [i for part in parts for i in part]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths)
    assert all(len(part) == 1 or sum(lengths[i] for i in part) <= tokens for part in parts)
    for part, following in pairwise(parts):
        assert sum(lengths[i] for i in [*part, following[0]]) > tokens, (
            "a part ends only where the next would not fit"
        )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_model_that_computes_no_numbers_is_named(fresh_smoke: LanguageModel, value: float) -> None:
    fresh_smoke.model.model.norm.weight[3] = value
    with pytest.raises(PrefdynError, match="the model 'smoke' computes what is no number"):
        hidden_states(fresh_smoke, ["Is it?"])


@pytest.mark.parametrize(
    ("prompts", "says"),
    [([], "the list of prompts is empty"), (["Is it?", ""], "prompt 1 is empty: it has no last token")],
)
def test_prompts_without_a_last_token_are_one_sentence(
    smoke: LanguageModel, prompts: list[str], says: str
) -> None:
    with pytest.raises(PrefdynError, match=says):
        hidden_states(smoke, prompts)
