"""Scores of responses against lm-evaluation-harness, for every architecture of the paper's models."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rounding
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, PretrainedConfig

from prefdyn import data
from prefdyn.engine import scoring
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel
from prefdyn.models.token_trees import ATTENTION

RESPONSES = [
    ("It rains.", "It does not rain at all.", "No."),
    ("Yes", "The Yes is there"),
    ("a", "b", "c", "dd"),
]
PROMPTS = ["Does it rain? ", "Say Y", "It is the\n"]


def allowed(lm: LanguageModel, scores: list[scoring.ResponseLogProbs], length: int = 512) -> float:
    """What rounding leaves between log-likelihoods of the longest of these responses."""
    return rounding.of_log_probs(lm.model, max(int(one.tokens.max()) for one in scores), length)


def with_model(lm: LanguageModel, config: PretrainedConfig) -> LanguageModel:
    torch.manual_seed(5)
    model = (
        AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION).eval().requires_grad_(False)
    )
    return replace(lm, model=model)


def architectures(lm: LanguageModel) -> dict[str, LanguageModel]:
    size = {"vocab_size": 266, "initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 0}
    neox = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "tie_word_embeddings": False,
    }
    return {
        "llama": lm,
        "gpt2": with_model(lm, GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=512, **size)),
        "gpt_neox": with_model(lm, GPTNeoXConfig(**neox, **size)),
    }


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
def test_scores_are_those_of_lm_evaluation_harness(smoke: LanguageModel, name: str) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = architectures(smoke)[name]
    pairs = data.load_pairs()[:4]
    prompts = [*PROMPTS, *(pair.prompt for pair in pairs)]
    responses = [*RESPONSES, *((pair.chosen, pair.rejected) for pair in pairs)]
    harness = HFLM(pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=3, max_length=512)
    requests = [(prompt, text) for prompt, texts in zip(prompts, responses, strict=True) for text in texts]
    instances = [Instance("loglikelihood", {}, request, number) for number, request in enumerate(requests)]
    theirs = [value for value, _ in harness.loglikelihood(instances, disable_tqdm=True)]
    ours = scoring.score(lm, prompts, responses, tokens_per_forward=60)
    totals = np.concatenate([one.total for one in ours])
    np.testing.assert_allclose(totals, theirs, rtol=0, atol=allowed(lm, ours))


def test_per_token_is_the_mean_over_the_responses_own_tokens(smoke: LanguageModel) -> None:
    (scores,) = scoring.score(smoke, ["Is it so?"], [(" Yes", " the Yes", "abc")])
    assert scores.tokens.tolist() == [1, 2, 3]  # " Yes", " the" and the bytes are tokens of the smoke model
    np.testing.assert_allclose(scores.per_token * [1, 2, 3], scores.total)


def in_company(
    lm: LanguageModel, size: int, exact: bool
) -> tuple[np.ndarray, list[scoring.ResponseLogProbs]]:
    """Log-likelihoods of 64 responses, in batches of so many prompts in an order of their own; and all of the
    scores, by prompt.
    """
    prompts = [f"{PROMPTS[i % 3]}{'!' * (i % 5)}" for i in range(32)]
    responses = [(RESPONSES[i % 3][0], RESPONSES[i % 3][1] + " so" * (i % 4)) for i in range(32)]
    scores: list[scoring.ResponseLogProbs] = [None] * 32  # type: ignore[list-item]
    order = np.random.default_rng(size).permutation(32)
    for start in range(0, 32, size):
        part = order[start : start + size]
        some = scoring.score(lm, [prompts[i] for i in part], [responses[i] for i in part], exact=exact)
        for i, one in zip(part, some, strict=True):
            scores[i] = one
    return np.concatenate([one.total for one in scores]), scores


def test_each_prompt_has_its_responses(smoke: LanguageModel) -> None:
    with pytest.raises(PrefdynError, match="2 prompts have 1 lists"):
        scoring.score(smoke, ["a", "b"], [["c"]])


@pytest.mark.parametrize("size", [2, 7, 32])
def test_order_and_company_change_no_more_than_rounding(smoke: LanguageModel, size: int) -> None:
    (alone, _), (together, scores) = in_company(smoke, 1, False), in_company(smoke, size, False)
    assert np.abs(together - alone).max() <= allowed(smoke, scores)


@pytest.mark.parametrize("size", [1, 7, 32])
def test_exact_scores_depend_on_nothing_but_the_prompt_and_the_response(
    smoke: LanguageModel, size: int
) -> None:
    got, scores = in_company(smoke, size, True)
    (plain, _) = in_company(smoke, size, False)
    assert np.array_equal(got, in_company(smoke, 16, True)[0])
    assert np.abs(got - plain).max() <= allowed(smoke, scores)
    (twins,) = scoring.score(smoke, ["Is it so?"], [(" the Yes", " No", " the Yes")], exact=True)
    (other,) = scoring.score(smoke, ["Is it so?"], [(" No", " the Yes")], exact=True)
    assert twins.total[0] == twins.total[2] == other.total[1] and twins.tokens.tolist() == [2, 1, 2]


@pytest.mark.parametrize("capability", ["avx2", "default"])
def test_company_means_as_little_to_other_vector_units(capability: str) -> None:
    """torch chooses its kernels when it is loaded, so they are tried in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0"]
    tests = subprocess.run(
        [*command, __file__, "-k", "company_change or exact_scores"],
        env={**os.environ, "ATEN_CPU_CAPABILITY": capability},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests.returncode == 0 and "6 passed" in tests.stdout, tests.stdout


def test_long_responses_lose_their_end_and_prompts_their_beginning(smoke: LanguageModel) -> None:
    (cut,) = scoring.score(smoke, ["abcdefghij"], [("klmnopqrst", "uvw")], max_length=9)
    (plain,) = scoring.score(smoke, ["fghij"], [("klmn", "uvw")])
    np.testing.assert_allclose(cut.total, plain.total, rtol=0, atol=allowed(smoke, [cut]))
    assert cut.tokens.tolist() == [4, 3] and (cut.cut, plain.cut) == (5, 0)
    (exact,) = scoring.score(smoke, ["abcdefghij"], [("uvw", "klmnopqrst")], max_length=9, exact=True)
    assert exact.cut == 5 and exact.tokens.tolist() == [3, 4]
    (fits,) = scoring.score(smoke, ["abcde"], [("klmn", "uvw")], max_length=9)
    assert fits.cut == 0


def test_the_same_text_has_the_same_number(smoke: LanguageModel) -> None:
    tails = (" Yes, the", " No", " Yes, the", " Yes, the")
    (found,) = scoring.score(smoke, ["Is it so?"], [tails])
    assert found.total[0] == found.total[2] == found.total[3] != found.total[1]
    (once,) = scoring.score(smoke, ["Is it so?"], [tails[:2]])
    assert np.array_equal(found.total[:2], once.total) and found.tokens.tolist() == [
        *once.tokens,
        *once.tokens[[0, 0]],
    ]


@pytest.mark.parametrize(
    ("responses", "max_length", "says"),
    [
        (("", "b"), 512, "a response to the prompt 'a question' is empty"),
        ((), 512, "the prompt 'a question' has no responses: give one or more"),
        (("a", "b"), 1, "max_length is 1: it must be at least 2"),
        (("a", "b"), 0, "max_length is 0: it must be at least 2"),
        (("a", "b"), -1, "max_length is -1: it must be at least 2"),
    ],
)
def test_responses_that_are_none_are_refused(
    smoke: LanguageModel, responses: tuple[str, ...], max_length: int, says: str
) -> None:
    with pytest.raises(PrefdynError, match=says):
        scoring.score(smoke, ["a question"], [responses], max_length)


def test_real_pairs_have_the_harness_log_likelihoods(smoke: LanguageModel, shared_data: Path) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    pairs = [pair for pair in data.load_pairs(shared_data) if pair.chosen.strip() and pair.rejected.strip()][
        :8
    ]
    harness = HFLM(pretrained=smoke.model, tokenizer=smoke.tokenizer, batch_size=4, max_length=4096)
    requests = [(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
    instances = [Instance("loglikelihood", {}, request, number) for number, request in enumerate(requests)]
    theirs = np.array([value for value, _ in harness.loglikelihood(instances, disable_tqdm=True)]).reshape(
        -1, 2
    )
    ours = scoring.score(
        smoke,
        [pair.prompt for pair in pairs],
        [(pair.chosen, pair.rejected) for pair in pairs],
        max_length=4096,
    )
    np.testing.assert_allclose([one.total for one in ours], theirs, rtol=0, atol=allowed(smoke, ours, 4096))


def test_model_that_computes_nan_is_named(fresh_smoke: LanguageModel) -> None:
    fresh_smoke.model.model.norm.weight[3] = float("nan")
    with pytest.raises(PrefdynError, match="the model 'smoke' computes what is no number"):
        scoring.score(fresh_smoke, ["Is it?"], [[" Yes", " No"]])
