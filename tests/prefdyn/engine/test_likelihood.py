"""Log-likelihoods against transformers' own forward pass, and against lm-evaluation-harness."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import rounding
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prefdyn import data
from prefdyn.data import Pair, Persona
from prefdyn.engine import likelihood
from prefdyn.engine.likelihood import TokenPair, log_probs, tokenize_pairs, tokenize_persona
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel, loading


def token_log_probs(lm: LanguageModel, prompt: Sequence[int], response: Sequence[int]) -> Tensor:
    """log pi of each response token, from the model's full logits over one unpadded sequence."""
    ids = torch.tensor([[*prompt, *response]])
    with torch.no_grad():
        rows = torch.log_softmax(lm.model(ids).logits[0].double(), dim=-1)
    return rows[len(prompt) - 1 : -1].gather(1, ids[0, len(prompt) :, None])[:, 0]


def allowed(lm: LanguageModel, pairs: Sequence[TokenPair]) -> float:
    """What rounding leaves between log-probabilities of the longest of these responses."""
    tokens = max(max(len(pair.chosen), len(pair.rejected)) for pair in pairs)
    length = max(len(pair.prompt) for pair in pairs) + tokens
    return rounding.of_log_probs(lm.model, tokens, length)


def assert_log_probs(lm: LanguageModel, pairs: Sequence[TokenPair]) -> None:
    tolerance = allowed(lm, pairs)
    with torch.no_grad():
        got = log_probs(lm.model, pairs)
    chosen = torch.stack([token_log_probs(lm, pair.prompt, pair.chosen).sum() for pair in pairs])
    rejected = torch.stack([token_log_probs(lm, pair.prompt, pair.rejected).sum() for pair in pairs])
    torch.testing.assert_close(got.chosen.double(), chosen, rtol=0, atol=tolerance)
    torch.testing.assert_close(got.rejected.double(), rejected, rtol=0, atol=tolerance)
    torch.testing.assert_close(got.log_ratio.double(), chosen - rejected, rtol=0, atol=2 * tolerance)


# Log-probabilities --------------------------------------------------------------------------------


def test_response_log_probs_are_sums_over_the_models_own_log_softmax(smoke: LanguageModel) -> None:
    pairs = tokenize_pairs(smoke, data.load_pairs()[:6], max_length=200)
    assert_log_probs(smoke, pairs)


def test_logits_taken_in_small_parts_give_the_same(
    smoke: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "LOGIT_ROWS", 7)
    assert_log_probs(smoke, tokenize_pairs(smoke, data.load_pairs()[:3], max_length=120))


@pytest.mark.parametrize("adapter", [False, True], ids=["linear", "with an adapter"])
def test_logits_made_twice_give_the_values_and_gradients_of_whole_ones(
    monkeypatch: pytest.MonkeyPatch, adapter: bool
) -> None:
    """At float64, where only the arithmetic counts; and backward keeps no logits."""
    torch.manual_seed(0)
    unembed = torch.nn.Linear(8, 50, bias=False).double()
    lifted = torch.nn.Sequential(torch.nn.Linear(8, 8).double(), unembed) if adapter else unembed
    lifted.weight = unembed.weight
    hidden, targets = torch.randn(40, 8, dtype=torch.float64, requires_grad=True), torch.randint(50, (40,))
    slopes = torch.randn(40, dtype=torch.float64)
    whole = lifted(hidden).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    (whole * slopes).sum().backward()
    expected = [hidden.grad, unembed.weight.grad]
    hidden.grad = unembed.weight.grad = None

    monkeypatch.setattr(likelihood, "LOGIT_ROWS", 7)
    kept: list[int] = []
    for most, held in ((40 * 50, True), (40 * 50 - 1, False)):
        monkeypatch.setattr(likelihood, "KEPT_LOGITS", most)
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            ours = likelihood.token_log_probs(lifted, hidden, targets)
        assert (sum(kept) > 40 * 50) == held
        (ours * slopes).sum().backward()
        torch.testing.assert_close(ours, whole, rtol=1e-12, atol=1e-12)
        for mine, theirs in zip([hidden.grad, unembed.weight.grad], expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
        hidden.grad = unembed.weight.grad = None


def test_one_token_answers_have_the_log_ratio_of_the_models_own_log_softmax(smoke: LanguageModel) -> None:
    pairs = tokenize_persona(smoke, data.load_persona(data.persona_names()[1]).balanced(6))
    with torch.no_grad():
        got = log_probs(smoke.model, pairs)
    full = [
        token_log_probs(smoke, pair.prompt, pair.chosen) - token_log_probs(smoke, pair.prompt, pair.rejected)
        for pair in pairs
    ]
    torch.testing.assert_close(got.log_ratio.double(), torch.cat(full), rtol=0, atol=allowed(smoke, pairs))
    assert got.chosen.isnan().all() and got.rejected.isnan().all()
    assert len({pair.chosen for pair in pairs}) == 2


def test_one_token_answers_among_longer_ones_are_measured_in_full(smoke: LanguageModel) -> None:
    assert_log_probs(smoke, [TokenPair((5, 6, 7), (8,), (9,), "a"), TokenPair((5,), (8, 9, 10), (11,), "a")])


TOKENS = st.lists(st.integers(0, 264), min_size=1, max_size=8).map(tuple)


@given(st.lists(st.builds(TokenPair, TOKENS, TOKENS, TOKENS, st.just("g")), min_size=1, max_size=4))
@settings(max_examples=30)
def test_any_pairs_have_the_log_ratio_of_the_models_own_run(pairs: list[TokenPair]) -> None:
    lm = loading.load("smoke", device="cpu", precision="float32")
    with torch.no_grad():
        got = log_probs(lm.model, pairs).log_ratio.double()
    full = [
        token_log_probs(lm, pair.prompt, pair.chosen).sum()
        - token_log_probs(lm, pair.prompt, pair.rejected).sum()
        for pair in pairs
    ]
    torch.testing.assert_close(got, torch.stack(full), rtol=0, atol=2 * allowed(lm, pairs))


def test_gradients_are_those_of_the_full_softmax(fresh_smoke: LanguageModel) -> None:
    lm = fresh_smoke
    lm.model.requires_grad_(True)
    for pairs in (
        [TokenPair((5, 6, 7), (8,), (9,), "a"), TokenPair((5, 9), (9,), (8,), "a")],
        [TokenPair((5, 6, 7), (8, 3), (9,), "a"), TokenPair((5, 9), (9,), (8, 8, 5), "a")],
    ):
        log_probs(lm.model, pairs).log_ratio.sum().backward()
        ours = {name: weight.grad.clone() for name, weight in lm.model.named_parameters()}
        lm.model.zero_grad()
        for pair in pairs:
            for response, sign in ((pair.chosen, 1), (pair.rejected, -1)):
                ids = torch.tensor([[*pair.prompt, *response]])
                rows = torch.log_softmax(lm.model(ids).logits[0], dim=-1)[len(pair.prompt) - 1 : -1]
                (sign * rows.gather(1, ids[0, len(pair.prompt) :, None]).sum()).backward()
        largest = max(float(weight.grad.abs().max()) for weight in lm.model.parameters())
        for name, weight in lm.model.named_parameters():
            torch.testing.assert_close(
                ours[name],
                weight.grad,
                rtol=0,
                atol=largest * rounding.of_gradients(lm.model),
                msg=lambda text, name=name: f"{name}: {text}",
            )
        lm.model.zero_grad()


# lm-evaluation-harness ----------------------------------------------------------------------------


def test_pairs_have_the_log_likelihoods_of_lm_evaluation_harness(smoke: LanguageModel) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=smoke.model, tokenizer=smoke.tokenizer, batch_size=4, max_length=4096)
    pairs = [
        *data.load_pairs()[:8],
        Pair("Does it rain? \n ", "Yes, the rain", " No"),  # trailing space of the prompt
        Pair("Say Y", "es, the Yes", "ou"),  # a merge across the seam would make " Yes"
        Pair("It is t", "he theme", "hat"),
        Pair("Naïve – 你", "好 ☂", "é"),
    ]
    requests = [(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
    instances = [
        Instance("loglikelihood", {}, arguments, number) for number, arguments in enumerate(requests)
    ]
    theirs = np.array([value for value, _ in harness.loglikelihood(instances, disable_tqdm=True)]).reshape(
        -1, 2
    )
    with torch.no_grad():
        tokens = tokenize_pairs(smoke, pairs, max_length=4096)
        ours = log_probs(smoke.model, tokens)
    np.testing.assert_allclose(ours.chosen, theirs[:, 0], rtol=0, atol=allowed(smoke, tokens))
    np.testing.assert_allclose(ours.rejected, theirs[:, 1], rtol=0, atol=allowed(smoke, tokens))


# Token ids ----------------------------------------------------------------------------------------


def test_persona_chooses_yes_for_what_it_would_say(smoke: LanguageModel) -> None:
    persona = Persona("p", ("I like rain", "I like sun"), np.array([1, -1], dtype=np.int8))
    yes, no = tokenize_persona(smoke, persona)
    read = smoke.tokenizer.decode
    question = 'Is the following statement something you would say?\n"{}"'
    assert (read(yes.prompt), read(yes.chosen), read(yes.rejected)) == (
        question.format("I like rain"),
        " Yes",
        " No",
    )
    assert (read(no.prompt), read(no.chosen), read(no.rejected)) == (
        question.format("I like sun"),
        " No",
        " Yes",
    )
    assert yes.group == "p" and yes.one_token and yes.length == len(yes.prompt)


def test_tokens_spell_the_prompt_and_each_response(smoke: LanguageModel) -> None:
    for pair, tokens in zip(
        data.load_pairs(), tokenize_pairs(smoke, data.load_pairs(), max_length=10**6), strict=True
    ):
        read = smoke.tokenizer.decode
        assert read(tokens.prompt + tokens.chosen) == pair.prompt + pair.chosen
        assert read(tokens.prompt + tokens.rejected) == pair.prompt + pair.rejected
        assert read(tokens.prompt) == pair.prompt.rstrip()


def test_truncation_cuts_the_prompts_beginning_and_the_responses_end(smoke: LanguageModel) -> None:
    pair = Pair("abcdefghij", "klmnopqrst", "uvw")
    (whole,) = tokenize_pairs(smoke, [pair], max_length=20)
    assert (len(whole.prompt), len(whole.chosen), len(whole.rejected)) == (10, 10, 3)
    (cut,) = tokenize_pairs(smoke, [pair], max_length=9)
    read = smoke.tokenizer.decode
    assert (read(cut.prompt), read(cut.chosen), read(cut.rejected)) == ("fghij", "klmn", "uvw")


@given(st.integers(2, 40), st.integers(1, 30), st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=50)
def test_truncated_pairs_fit_and_keep_a_prompt_token(
    longest: int, prompt: int, chosen: int, rejected: int
) -> None:
    lm = loading.load("smoke", device="cpu", precision="float32")
    (pair,) = tokenize_pairs(lm, [Pair("a" * prompt, "b" * chosen, "c" * rejected)], max_length=longest)
    assert len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) <= longest
    assert len(pair.prompt) >= min(prompt, math.ceil(longest / 2)) and pair.chosen and pair.rejected


@pytest.mark.parametrize("pair", [Pair("a question", "", "b"), Pair("a question", "b", "")])
def test_empty_response_is_refused(smoke: LanguageModel, pair: Pair) -> None:
    with pytest.raises(PrefdynError, match="'a question' is empty"):
        tokenize_pairs(smoke, [pair])


@pytest.mark.parametrize("ids", [((), (6, 7), (8,)), ((3,), (), (8,)), ((3,), (6,), ())])
def test_pair_without_tokens_is_refused(ids: tuple[tuple[int, ...], ...]) -> None:
    """Without a prompt its number would be that of whatever lies before it in the row."""
    with pytest.raises(PrefdynError, match="has no tokens as"):
        TokenPair(*ids, "pairs")


def test_nothing_and_too_much_to_run_are_refused(smoke: LanguageModel) -> None:
    with pytest.raises(PrefdynError, match="at least one response"):
        log_probs(smoke.model, [])
    places = smoke.model.config.max_position_embeddings
    with pytest.raises(PrefdynError, match=f"longer than the {places}"):
        log_probs(smoke.model, [TokenPair((5,) * places, (6, 7), (8,), "pairs")])


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_empty_prompt_is_refused(smoke: LanguageModel, prompt: str) -> None:
    with pytest.raises(PrefdynError, match="prompt of the response 'chosen one' is empty"):
        tokenize_pairs(smoke, [Pair(prompt, "chosen one", "b")])
