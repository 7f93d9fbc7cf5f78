"""Judges: the embedded one against truth without scipy, and a hub's reward model from a folder."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import hub_server
import numpy as np
import pytest
import rounding
import torch
from scipy.special import expit
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from prefdyn import data
from prefdyn.errors import PrefdynError
from prefdyn.measures import judges
from prefdyn.measures.endpoint import EndpointJudge
from prefdyn.measures.judges import BradleyTerryJudge, RewardModelJudge
from prefdyn.models import LanguageModel


class Longer:
    """Prefers the longer answer, and the first of two equally long ones."""

    name = "longer"

    def first_is_better(self, prompts: list[str], first: list[str], second: list[str]) -> np.ndarray:
        return np.array([float(len(a) >= len(b)) for a, b in zip(first, second, strict=True)])


# Win rate -----------------------------------------------------------------------------------------


def test_wins_are_counted_in_both_orders() -> None:
    wins = judges.wins(Longer(), ["p"] * 3, ["long", "as", "a"], ["no", "no", "long"])
    assert wins.tolist() == [1.0, 0.5, 0.0]  # a judge that favours the first place gains nothing by it


class Silent(Longer):
    """Gives no verdict on an answer of its name."""

    def first_is_better(self, prompts: list[str], first: list[str], second: list[str]) -> np.ndarray:
        known = super().first_is_better(prompts, first, second)
        return np.where([self.name in pair for pair in zip(first, second, strict=True)], np.nan, known)


def test_no_verdict_counts_as_a_tie() -> None:
    judge, case = Silent(), (["p"] * 3, ["long", "longer", "a"], ["no", "no", "longer"])
    assert np.isnan(judges.in_both_orders(judge, *case)).tolist() == [[False, True, True]] * 2
    assert judges.wins(judge, *case).tolist() == [1.0, 0.5, 0.5]


def test_one_order_alone_is_no_verdict() -> None:
    one = [[1.0, 1.0, np.nan, 0.0, 0.0, np.nan], [0.5, np.nan, 0.0, 0.5, 0.2, np.nan]]
    assert judges.counted(np.array(one)).tolist() == [0.5, 0.5, 0.5, 0.5, 0.0, 0.5]


def test_win_rate_has_an_interval_around_its_mean() -> None:
    rate = judges.win_rate(Longer(), ["p"] * 4, ["aaa", "aaa", "a", "aa"], ["b", "b", "bb", "bb"])
    assert (
        rate.value == pytest.approx((1 + 1 + 0 + 0.5) / 4)
        and rate.low < rate.value < rate.high
        and rate.n == 4
    )


def states(lm: LanguageModel, tokens: int) -> judges.States:
    return functools.partial(judges.answer_states, lm, tokens=tokens)


# On features --------------------------------------------------------------------------------------


def test_bradley_terry_weights_are_at_the_minimum() -> None:
    x = np.random.default_rng(0).normal(size=(40, 5)) + 0.3
    w = judges.bradley_terry(x, decay=0.2)
    gradient = -(expit(-(x @ w)) @ x) + 0.2 * 5 * w
    assert np.abs(gradient).max() < 1e-3


def test_bradley_terry_finds_the_direction_that_raters_used() -> None:
    rng = np.random.default_rng(1)
    truth = np.array([2.0, -1.0, 0.0, 0.0])
    x = rng.normal(size=(4000, 4))
    x[rng.random(4000) > expit(x @ truth)] *= -1
    np.testing.assert_allclose(judges.bradley_terry(x, decay=1e-6), truth, atol=0.2)


def test_embedded_judge_learns_a_plain_difference_and_says_how_well(smoke: LanguageModel) -> None:
    pairs = [
        data.Pair(f"\n\nHuman: Question {i}?\n\nAssistant:", f" I know {i} Yes", f" I know {i} No")
        for i in range(40)
    ]
    judge = BradleyTerryJudge.fit(states(smoke, 20), pairs, decay=1e-3)
    assert judge.accuracy.n == 40 and judge.accuracy.value > 0.9
    first = judge.first_is_better([pairs[0].prompt], [" 77 Yes"], [" 77 No"])
    assert first[0] > 0.5 and judge.first_is_better([pairs[0].prompt], [" 77 No"], [" 77 Yes"])[
        0
    ] == pytest.approx(1 - first[0])


def test_accuracy_of_an_embedded_judge_is_that_of_chance_on_random_labels(smoke: LanguageModel) -> None:
    rng = np.random.default_rng(0)
    pairs = [pair if rng.random() < 0.5 else pair.swapped() for pair in data.load_pairs()]
    judge = BradleyTerryJudge.fit(states(smoke, 12), pairs)
    assert judge.accuracy.low < 0.5 < judge.accuracy.high  # held-out accuracy, not that of the fit


def test_answers_are_judged_by_their_first_tokens_alone(smoke: LanguageModel) -> None:
    judge = BradleyTerryJudge.fit(states(smoke, 6), data.load_pairs()[:12])
    prompt = ["\n\nHuman: Why?\n\nAssistant:"]
    assert judge.rewards(prompt, ["abcdef, and much more"]) == pytest.approx(
        judge.rewards(prompt, ["abcdef"])
    )


def test_an_answer_is_cut_where_its_tokens_end_and_keeps_its_letters(
    smoke: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of bytes: the sixth token ends inside é, which then stays whole."""
    asked: list[str] = []

    def noted(_: LanguageModel, texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return np.zeros((len(texts), 2))

    monkeypatch.setattr(judges.states, "hidden_states", noted)
    judges.answer_states(smoke, ["p:"] * 3, [" yes", " abcd\u00e9f", " abcdefgh"], 6)
    assert asked == ["p: yes", "p: abcd\u00e9", "p: abcde"]


def test_pairs_of_one_prompt_are_held_out_together() -> None:
    """Else a judge that learns which answer won before seems to know what it never saw."""
    rng = np.random.default_rng(0)
    answers = {f"answer {k}": rng.normal(size=60) for k in range(48)}
    pairs = []
    for prompt in range(16):  # three answers each, in an order that has nothing to do with their states
        best, middle, worst = rng.permutation([f"answer {k}" for k in range(3 * prompt, 3 * prompt + 3)])
        pairs += [data.Pair(f"p{prompt}", a, b) for a, b in ((best, middle), (best, worst), (middle, worst))]

    def known(prompts: list[str], given: list[str]) -> np.ndarray:
        return np.stack([answers[one] for one in given])

    accuracy = BradleyTerryJudge.fit(known, pairs, decay=1e-3).accuracy
    assert accuracy.n == 48 and accuracy.value < 0.6
    apart = [data.Pair(f"p{k}", pair.chosen, pair.rejected) for k, pair in enumerate(pairs)]
    assert BradleyTerryJudge.fit(known, apart, decay=1e-3).accuracy.value > accuracy.value + 0.1


def test_too_few_pairs_for_a_judge(smoke: LanguageModel) -> None:
    with pytest.raises(PrefdynError, match="7 pairs with 7 prompts are too few"):
        BradleyTerryJudge.fit(states(smoke, 6), data.load_pairs()[:7])


# From the hub -------------------------------------------------------------------------------------


def reward_model(
    folder: Path, lm: LanguageModel, outputs: int = 1, dtype: torch.dtype = torch.float32, seed: int = 0
) -> str:
    torch.manual_seed(seed)
    config = LlamaConfig(
        **{**lm.model.config.to_dict(), "num_labels": outputs, "architectures": None},
        attn_implementation="sdpa",
    )
    LlamaForSequenceClassification(config).to(dtype).save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return str(folder)


def change(path: Path, **settings: object) -> None:
    """A file of settings with others in it."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def test_reward_model_scores_each_answer_by_its_own_run(smoke: LanguageModel, tmp_path: Path) -> None:
    judge = RewardModelJudge(reward_model(tmp_path, smoke))
    prompts, answers = ["Why?", "How is it made, and by whom?"], [" So.", " With care, by many."]
    together = judge.rewards(prompts, answers)
    model, tokenizer = judge._loaded
    for prompt, answer, reward in zip(prompts, answers, together, strict=True):
        alone = model(**tokenizer(prompt, answer, return_tensors="pt")).logits.item()
        weight = model.score.weight  # a reward is at most |g| |w|, with |g| = sqrt(d)
        size = weight.shape[1] ** 0.5 * float(weight.detach().norm())
        assert reward == pytest.approx(alone, abs=rounding.rounding(size, rounding.operations(model)))
    assert judge.first_is_better(prompts, answers, answers[::-1]).shape == (2,)


PROMPTS, ANSWERS = ["Why?", "How is it made, and by whom?"], [" So.", " With care, by many."]


def check_rewards(folder: str) -> None:
    """Against runs in double precision, of each answer by itself, so that nothing is padded."""
    model = LlamaForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()
    model.config.pad_token_id = None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        size = float(model.score.weight.norm()) * model.score.weight.shape[1] ** 0.5
        known = [
            model(**tokenizer(*pair, return_tensors="pt")).logits.item()
            for pair in zip(PROMPTS, ANSWERS, strict=True)
        ]
    allowed = rounding.rounding(size, rounding.operations(model))
    found = RewardModelJudge(folder).rewards(PROMPTS, ANSWERS)
    np.testing.assert_allclose(found, known, rtol=0, atol=allowed)


def test_rewards_of_a_stored_half_precision_are_computed_in_float32(
    smoke: LanguageModel, tmp_path: Path
) -> None:
    """In bfloat16 a reward of about 1 has steps of 1/128."""
    check_rewards(reward_model(tmp_path, smoke, dtype=torch.bfloat16))


def test_reward_model_cuts_what_it_has_no_places_for_and_refuses_nothing_at_all(
    smoke: LanguageModel, tmp_path: Path
) -> None:
    judge = judges.RewardModelJudge(reward_model(tmp_path, smoke))
    places = judge._loaded[0].config.max_position_embeddings
    long, longer = ("x" * count for count in (places + 10, places + 500))
    assert judge.rewards(["hi"], [long]) == pytest.approx(judge.rewards(["hi"], [longer]))
    with pytest.raises(PrefdynError, match="empty text"):
        judge.rewards(["hi", ""], ["you", " "])


@pytest.mark.parametrize(("tokenizer", "configuration"), [(None, None), (None, 0), ("<|end|>", 17)])
def test_rewards_are_right_whatever_is_said_of_padding(
    smoke: LanguageModel, tmp_path: Path, tokenizer: str | None, configuration: int | None
) -> None:
    folder = reward_model(tmp_path, smoke)
    change(tmp_path / "tokenizer_config.json", pad_token=tokenizer)
    change(tmp_path / "config.json", pad_token_id=configuration)
    check_rewards(folder)


def test_reward_model_without_any_token_to_pad_with_is_one_sentence(
    smoke: LanguageModel, tmp_path: Path
) -> None:
    folder = reward_model(tmp_path, smoke)
    change(tmp_path / "tokenizer_config.json", pad_token=None, eos_token=None)
    with pytest.raises(PrefdynError, match="no token to pad answers with: set pad_token"):
        RewardModelJudge(folder).rewards(["p"], ["a"])


def test_language_model_does_not_judge_by_a_head_made_up_on_the_spot(
    smoke: LanguageModel, tmp_path: Path
) -> None:
    config = LlamaConfig(**{**smoke.model.config.to_dict(), "num_labels": 1}, attn_implementation="sdpa")
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    smoke.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(PrefdynError, match=r"no reward model: it lacks weights, such as score\.weight"):
        RewardModelJudge(str(tmp_path)).rewards(["p"], ["a"])


@pytest.mark.parametrize("keep", [0, 40, 3000])
def test_damaged_weights_of_a_reward_model_are_named(smoke: LanguageModel, tmp_path: Path, keep: int) -> None:
    folder = reward_model(tmp_path, smoke)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(PrefdynError, match="cannot be loaded") as caught:
        RewardModelJudge(folder).rewards(["p"], ["a"])
    assert folder in str(caught.value) and "\n" not in str(caught.value)


def test_fingerprint_of_a_reward_model_changes_with_its_files(smoke: LanguageModel, tmp_path: Path) -> None:
    before = RewardModelJudge(reward_model(tmp_path, smoke)).fingerprint
    assert RewardModelJudge(str(tmp_path)).fingerprint == before
    assert RewardModelJudge(reward_model(tmp_path, smoke, seed=1)).fingerprint != before


ASKS = """
from prefdyn.measures.judges import RewardModelJudge

judge = RewardModelJudge("some/judge")
judge.check()
print(judge.fingerprint, *judge.rewards(["Why?"], [" So."]))
"""


def test_reward_model_of_the_hub_is_known_by_its_commit(smoke: LanguageModel, tmp_path: Path) -> None:
    """Else verdicts that were kept would outlast the model that gave them."""
    with hub_server.serving() as hub:
        for seed in (0, 1):
            folder = reward_model(tmp_path / "judge", smoke, seed=seed)
            commit = hub.publish("some/judge", Path(folder))
            known, reward = hub.run(ASKS, tmp_path / "home").split()
            assert known == commit
            # On other threads a sum may be made in another order.
            assert float(reward) == pytest.approx(
                RewardModelJudge(folder).rewards(["Why?"], [" So."])[0], 1e-4
            )


def test_classifier_of_several_classes_is_no_reward_model(smoke: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(PrefdynError, match="has 3 outputs"):
        RewardModelJudge(reward_model(tmp_path, smoke, outputs=3)).rewards(["p"], ["a"])


# By name ------------------------------------------------------------------------------------------


def test_judges_by_name() -> None:
    assert judges.named("reward:org/model") == RewardModelJudge("org/model")
    assert judges.named("https://host/v1#gpt") == EndpointJudge("https://host/v1", "gpt")
    assert judges.named("http://localhost:8080/v1#my/model#2") == EndpointJudge(
        "http://localhost:8080/v1", "my/model#2"
    )


@pytest.mark.parametrize(
    "name", ["gpt-4", "", "reward:", "https://host/v1", "https://#m", "http://h:99999/v1#m", "ftp://h/v1#m"]
)
def test_unknown_judge_is_one_sentence(name: str) -> None:
    with pytest.raises(PrefdynError, match="write embedded, reward:HUB_ID"):
        judges.named(name)


@pytest.mark.parametrize("url", ["https://me:hunter2@host/v1", "https://host/v1?api-key=hunter2"])
def test_key_in_an_address_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(PrefdynError, match="set PREFDYN_JUDGE_KEY") as caught:
        judges.named(f"{url}#m")
    assert "hunter2" not in str(caught.value)


def test_missing_reward_model_is_known_from_its_configuration(smoke: LanguageModel, tmp_path: Path) -> None:
    RewardModelJudge(reward_model(tmp_path / "one", smoke)).check()
    with pytest.raises(PrefdynError, match="has 3 outputs"):
        RewardModelJudge(reward_model(tmp_path / "three", smoke, outputs=3)).check()
    with pytest.raises(PrefdynError, match="nothing: no such folder or file"):
        RewardModelJudge(str(tmp_path / "nothing")).check()
