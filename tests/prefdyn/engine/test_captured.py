"""Padded parts against the same prompts run as ever; and what would keep a GPU from capturing them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import rounding
import torch
from operators import Operators, waits_or_sorts
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, MixtralConfig

from prefdyn import data
from prefdyn.engine import captured, scoring
from prefdyn.engine.captured import Answers, Passes, Replayed, Responses, Size, few, values_of, worth
from prefdyn.engine.likelihood import TokenPair, log_probs, tokenize_pairs, tokenize_persona
from prefdyn.engine.objectives import reference_log_probs
from prefdyn.models import LanguageModel
from prefdyn.models.token_trees import ATTENTION, ROW_TOKENS

SHAPE = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}


GROWING = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU, too, pads its parts, however few; what it then runs is what a GPU would replay."""
    monkeypatch.setattr(captured, "DEVICES", {"cpu"})
    monkeypatch.setattr(captured, "FROM_PARTS", 1)


def answers(lm: LanguageModel) -> list[TokenPair]:
    names = data.persona_names()[:2]
    return [pair for name in names for pair in tokenize_persona(lm, data.load_persona(name).balanced(5))]


def responses(lm: LanguageModel) -> list[TokenPair]:
    return [*tokenize_pairs(lm, data.load_pairs()[:7], max_length=90), TokenPair((5,), (6,), (7, 8), "g")]


# Padded against plain -----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [answers, responses])
@pytest.mark.parametrize("tokens", [1, 120, 10**6])
def test_padded_parts_give_the_log_probabilities_of_parts_as_they_are(
    smoke: LanguageModel, everywhere: None, make: Any, tokens: int
) -> None:
    pairs = make(smoke)
    with torch.no_grad():
        plain = log_probs(smoke.model, pairs)
    allowed = rounding.of_log_probs(smoke.model, 90, 90)
    got = reference_log_probs(smoke, pairs, tokens)
    for ours, theirs in zip(got, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=allowed, equal_nan=True)


def test_padded_scores_are_those_of_parts_as_they_are(smoke: LanguageModel, everywhere: None) -> None:
    prompts, texts = ["Does it rain? ", "Say Y"], [("Yes.", "No, it does not."), ("a", "b", "the Yes", "dd")]
    padded = scoring.score(smoke, prompts, texts, tokens_per_forward=30)
    for one, prompt, some in zip(padded, prompts, texts, strict=True):
        (alone,) = [values for values in [plain_scores(smoke, prompt, some)]]
        np.testing.assert_allclose(one.total, alone, rtol=0, atol=rounding.of_log_probs(smoke.model, 16))


def plain_scores(lm: LanguageModel, prompt: str, texts: tuple[str, ...]) -> list[float]:
    """From the model's own logits over whole sequences."""
    bare, out = lm.tokenizer(prompt.rstrip())["input_ids"], []
    for text in texts:
        ids = torch.tensor([lm.tokenizer(prompt + text)["input_ids"]])
        with torch.no_grad():
            rows = torch.log_softmax(lm.model(ids).logits[0].double(), dim=-1)[len(bare) - 1 : -1]
        out.append(float(rows.gather(1, ids[0, len(bare) :, None]).sum()))
    return out


@torch.no_grad()
def test_what_fills_a_row_up_is_seen_by_no_token() -> None:
    config = MistralConfig(
        **SHAPE, num_attention_heads=4, num_key_value_heads=2, sliding_window=4, attn_implementation=ATTENTION
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    asked = Responses([([5, 6, 7, 8, 9], [[10, 11, 12], [13]]), ([14], [[15, 16]])])
    size = asked.size()
    exact = values_of(model, Responses, *asked.lay_out(size), size.values)
    wide = Size(size.tokens + 9, size.rows + 5, size.values + 3)
    padded = values_of(model, Responses, *asked.lay_out(wide), wide.values)
    torch.testing.assert_close(padded[: size.values], exact, rtol=0, atol=rounding.of_log_probs(model, 3, 16))
    assert padded[size.values :].tolist() == [0, 0, 0]


# Sizes and the rule -------------------------------------------------------------------------------


def test_parts_are_padded_to_few_sizes_that_hold_them() -> None:
    rng = np.random.default_rng(0)
    sizes = [Size(int(t), int(t) // 2, 8) for t in rng.integers(100, 900, 100)]
    padded = few(sizes)
    assert len(set(padded)) == captured.SIZES
    assert all(np.all(np.array(one) >= other) for one, other in zip(padded, sizes, strict=True))
    assert all(size.tokens % 8 == 0 for size in padded)
    assert sum(size.tokens for size in padded) < 1.25 * sum(size.tokens for size in sizes)
    assert len(set(few(sizes[: captured.FROM_PARTS]))) == 1


def test_only_many_short_parts_of_a_small_model_are_worth_it(
    smoke: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [Size(300, 100, 8)] * captured.FROM_PARTS
    assert not worth(smoke, parts), "a CPU launches as fast as it computes"
    monkeypatch.setattr(captured, "DEVICES", {"cpu"})
    assert worth(smoke, parts) and not worth(smoke, parts[1:])
    assert not worth(smoke, [*parts, Size(ROW_TOKENS + 1, 8, 2)])
    monkeypatch.setattr(captured, "MOST_FLOPS", 6 * 18_592 * 299)
    assert not worth(smoke, parts)


@pytest.mark.parametrize(
    ("changed", "holds"),
    [
        (LlamaConfig(**SHAPE, num_attention_heads=4), True),
        (LlamaConfig(**SHAPE, num_attention_heads=4, rope_parameters=GROWING), False),
        (GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=61), True),
        (MixtralConfig(**SHAPE, num_attention_heads=4, num_key_value_heads=2, num_local_experts=4), False),
    ],
    ids=["rotary", "rotary that grows with the text", "learned positions", "experts"],
)
def test_a_model_that_reads_numbers_back_is_told(changed: Any, holds: bool) -> None:
    model = AutoModelForCausalLM.from_config(changed, attn_implementation=ATTENTION)
    assert captured.reads_nothing_back(model) is holds


# What a graph cannot hold -------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [Answers, Responses])
def test_a_part_waits_for_nothing_sorts_nothing_and_launches_as_much_whatever_its_size(asked: Any) -> None:
    """On the device "meta", which has no values, so that what waited for one would stop."""
    config = LlamaConfig(**SHAPE, num_attention_heads=4, num_key_value_heads=2, attn_implementation=ATTENTION)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config).eval()
    counts = []
    for size in (Size(24, 6, 2), Size(400, 64, 64)):
        tokens, rows = (
            torch.empty(k, n, dtype=torch.long, device="meta") for k, n in ((4, size[0]), (3, size[1]))
        )
        with Operators() as operators:
            values_of(model, asked, tokens, rows, size.values).sum().backward()
        model.zero_grad(set_to_none=True)
        counts.append(operators.ran)
    assert counts[0] == counts[1]
    assert not waits_or_sorts(counts[0])
    assert counts[0]["mm"] >= 3 * 7 * 3 and sum(counts[0].values()) < 150 * 3 + 60


def test_only_new_shapes_get_new_places(smoke: LanguageModel) -> None:
    seen: list[tuple[int, ...]] = []

    def double(x: torch.Tensor) -> torch.Tensor:
        seen.append((x.data_ptr(), *x.shape))
        return 2 * x

    replayed = Replayed(double, torch.device("cpu"))
    given = [torch.arange(3.0), torch.arange(4.0), torch.ones(3)]
    for tensor in given:
        assert torch.equal(replayed(tensor), 2 * tensor)
    assert seen[0] == seen[2] != seen[1] and seen[0][0] != given[0].data_ptr()


@pytest.mark.gpu
def test_replayed_log_probabilities_are_those_of_the_cpu(
    cuda: torch.device, smoke: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefdyn.models import loading

    there = loading.load("smoke", device=str(cuda), precision="float32")
    monkeypatch.setattr(captured, "DEVICES", {"cuda"})
    monkeypatch.setattr(captured, "FROM_PARTS", 3)
    for make in (answers, responses):
        pairs = make(smoke)
        passes = Passes(there, times=9)
        here = reference_log_probs(smoke, pairs)
        for _ in range(4):
            got = reference_log_probs(there, pairs, 200, passes=passes)
            for ours, theirs in zip(got, here, strict=True):
                torch.testing.assert_close(
                    ours.cpu(),
                    theirs,
                    rtol=0,
                    atol=rounding.of_log_probs(smoke.model, 90, 90),
                    equal_nan=True,
                )
        assert any(replayed.graphs for replayed in passes.replayed.values())
