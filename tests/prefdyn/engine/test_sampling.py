"""Sampling against the model's own next-token distribution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from prefdyn.engine import sampling
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel
from prefdyn.models.token_trees import ATTENTION


def test_first_tokens_follow_the_models_distribution(smoke: LanguageModel) -> None:
    prompt = "Is it so?"
    texts = sampling.answers(smoke, [prompt] * 600, 1, seed=3)
    with torch.no_grad():
        ids = torch.tensor([smoke.tokenizer(prompt)["input_ids"]])
        expected = torch.softmax(smoke.model(ids).logits[0, -1].double(), dim=-1).numpy()
    heaviest = np.argsort(expected)[::-1]
    word = next(token for token in heaviest if smoke.tokenizer.decode([token]).isalnum())
    share = np.mean([text == smoke.tokenizer.decode([word]) for text in texts])
    assert abs(share - expected[word]) < 4 * np.sqrt(expected[word] / 600)


@pytest.mark.parametrize(
    ("prompts", "tokens", "temperature", "named"),
    [
        ([""], 4, 1.0, "prompt 0 is empty"),
        (["Why?", ""], 4, 1.0, "prompt 1 is empty"),
        (["Why?"], 0, 1.0, "max_tokens is 0"),
        (["Why?"], 4, 0.0, "temperature 0"),
        (["Why?"], 10**6, 1.0, "places for"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    smoke: LanguageModel, prompts: list[str], tokens: int, temperature: float, named: str
) -> None:
    with pytest.raises(PrefdynError, match=named):
        sampling.answers(smoke, prompts, tokens, 0, temperature)


def test_padding_does_not_change_what_is_likely(smoke: LanguageModel) -> None:
    # At a temperature near 0 sampling is greedy, so company of another length must not change an answer.
    prompts = ["Is it so?", "Once upon a time there was a question about the rain. Is it so?", "Why?"]
    together = sampling.answers(smoke, prompts, 8, seed=0, temperature=1e-4)
    alone = [sampling.answers(smoke, [prompt], 8, seed=0, temperature=1e-4)[0] for prompt in prompts]
    assert together == alone


def test_gpt2_answers_too(smoke: LanguageModel) -> None:
    size = {"vocab_size": 266, "initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(
        GPT2Config(n_embd=32, n_layer=2, n_head=4, **size), attn_implementation=ATTENTION
    )
    lm = replace(smoke, model=model.eval().requires_grad_(False))
    prompts = ["Is it so?", "Why is it that it rains so much here?"]
    together = sampling.answers(lm, prompts, 6, seed=0, temperature=1e-4)
    assert together == [sampling.answers(lm, [prompt], 6, seed=0, temperature=1e-4)[0] for prompt in prompts]


def test_same_seed_same_answers_and_nobody_elses_randomness_moves(smoke: LanguageModel) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = sampling.answers(smoke, ["Is it so?"] * 3, 12, seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (
        first
        == sampling.answers(smoke, ["Is it so?"] * 3, 12, seed=5)
        != sampling.answers(smoke, ["Is it so?"] * 3, 12, seed=6)
    )


def test_answers_stop_where_the_next_turn_begins(smoke: LanguageModel, monkeypatch: object) -> None:
    text = " Yes.\n\nHuman: And now?"
    ids = torch.tensor([smoke.tokenizer(text)["input_ids"]])
    monkeypatch.setattr(smoke.model, "generate", lambda input_ids, **_: torch.cat([input_ids, ids], dim=1))  # type: ignore[attr-defined]
    assert sampling.answers(smoke, ["\n\nHuman: Is it so?\n\nAssistant:"], 30, seed=0) == [" Yes."]
