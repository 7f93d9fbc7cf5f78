"""The world with a known judge: what is sampled, voted and trained there is what its definition says."""

from __future__ import annotations

import gc
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from small_chapters import RANKING as SMALL

from prefdyn.engine.training import Settings
from prefdyn.experiments import known_judge, known_world, ranking
from prefdyn.experiments.bench import Bench
from prefdyn.models import LanguageModel

BETA = 0.1


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Bench("smoke", device="cpu", precision="float32")


@pytest.fixture(scope="module")
def lm(bench: Bench) -> LanguageModel:
    return bench.lm


@pytest.fixture(scope="module")
def tables(bench: Bench) -> dict[str, pd.DataFrame]:
    return known_judge.known_judge(bench, SMALL) | known_judge.objectives(bench, SMALL)


def weights(lm: LanguageModel) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in lm.model.parameters()]


# The world ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [("", 0), ("an apple and an egg", 4), ("An an AN", 1), ("rhythm", 0), ("it's over", 2), ("2 of us", 2)],
)
def test_reward_counts_different_words_that_begin_with_a_vowel(text: str, words: int) -> None:
    assert known_world.reward(text) == pytest.approx(0.6 * words)


def test_samples_follow_the_model_whatever_stands_beside_a_prompt(lm: LanguageModel) -> None:
    short, long = [tuple(lm.tokenizer(text)["input_ids"]) for text in ("Hi", "Tell me of rain and of snow")]
    count = 3000
    drawn = known_world.sample(lm, [short, long] * count, 2, (5,))
    assert {len(response) for response in drawn} == {2}
    for prompt, mine in ((short, drawn[::2]), (long, drawn[1::2])):
        with torch.no_grad():
            odds = torch.softmax(lm.model(torch.tensor([prompt])).logits[0, -1].double(), -1).numpy()
        found = np.bincount([response[0] for response in mine], minlength=len(odds)) / count
        # A share's standard deviation is √(p (1 − p) / n); one in thirty thousand is beyond four of them.
        assert (np.abs(found - odds) <= 4.5 * np.sqrt(odds * (1 - odds) / count) + 1 / count).all()
    assert known_world.sample(lm, [short] * 4, 2, (5,)) == known_world.sample(lm, [short] * 4, 2, (5,))
    assert known_world.sample(lm, [short] * 9, 2, (5,)) != known_world.sample(lm, [short] * 9, 2, (6,))


def test_raters_vote_as_bradley_and_terry_have_it() -> None:
    rng, into = np.random.default_rng(0), known_world.Labelled([], [])
    for k in range(4000):
        known_world._vote(into, (1,), k, (2,), (3,), 1.2, rng)
    first = [pair.chosen == (2,) for pair in into.pairs]
    assert abs(np.mean(first) - expit(1.2)) < 4 * np.sqrt(expit(1.2) * expit(-1.2) / 4000)
    assert into.difference == [1.2 if won else -1.2 for won in first]


def test_world_has_its_pairs_and_their_rewards(lm: LanguageModel) -> None:
    world = known_world.make_world(lm, ["What is rain?", "And snow?"], 4, train=4, unseen=2, seed=3)
    assert (len(world.train.pairs), len(world.unseen.pairs), np.shape(world.rewards)) == (8, 4, (2, 12))
    assert [pair.group for pair in world.followed.pairs] == ["0", "0", "1", "1"]
    for part in (world.train, world.unseen):
        for pair, ahead in zip(part.pairs, part.difference, strict=True):
            texts = lm.tokenizer.batch_decode(
                [list(pair.chosen), list(pair.rejected)], skip_special_tokens=True
            )
            assert ahead == pytest.approx(known_world.reward(texts[0]) - known_world.reward(texts[1]))


# Trainings in it ------------------------------------------------------------------------------------


def test_weights_come_back_and_the_start_is_the_reference(lm: LanguageModel) -> None:
    before = weights(lm)
    world = known_world.make_world(lm, ["What is rain?", "And snow?", "Why?"], 4, 4, 2, seed=3)
    how = Settings(1e-3, 4, 4, BETA, optimizer="rmsprop", track_distance=True)
    course = known_world.train_in(lm, world, how, (0, 2, 4), 4, seed=1)
    more = known_world.refresh_in(lm, world, how, 4, train=2, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(lm), strict=True))
    # The same sums in batches of other company: a rounding of float32 of some tens of nats.
    np.testing.assert_allclose(course.gained[0], 0, atol=1e-4)
    assert np.abs(course.gained[4]).max() > 0.01 and np.shape(course.rewards[4]) == (3, 2)
    assert set(more) == {"DPO, same pairs", "DPO, fresh pairs"} and set(more["DPO, same pairs"].gained) == {4}


def test_a_refresh_holds_the_copies_of_the_weights_that_are_planned(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That to return to, and then that to go on from; training adds its own."""

    def held() -> int:
        found = [one for one in gc.get_objects() if isinstance(one, torch.Tensor)]
        return len({one.data_ptr() for one in found if one.shape == lm.unembedding.shape})

    world = known_world.make_world(lm, ["What is rain?", "And snow?"], 4, 4, 2, seed=3)
    before, beside, train = held(), [], known_world.fine_tune

    def watched(*arguments: object) -> pd.DataFrame:
        beside.append(held() - before)
        return train(*arguments)

    monkeypatch.setattr(known_world, "fine_tune", watched)
    known_world.refresh_in(lm, world, Settings(1e-3, 2, 4, BETA), 4, train=2, seed=1)
    assert beside == [1, 2, 2]
    works = ranking.work({**asdict(SMALL), "data": "sample", "seeds": [0]})
    assert [work.name for work in works if work.resumed] == ["trainings with a known judge"]


def margins(pairs: pd.DataFrame, gamma: float = 1.0) -> np.ndarray:
    """β (log-ratio + γ c), from the table's columns."""
    return (pairs["β"] * (pairs["gain"] + (gamma - 1) * pairs["c"])).to_numpy()


def test_losses_are_those_of_the_gains_even_after_a_refresh(tables: dict[str, pd.DataFrame]) -> None:
    """So the reference stays where it was, in the loss as in c."""
    pairs = tables["world_pairs"]
    assert set(pairs["objective"]) == {"DPO", "DPO, same pairs", "DPO, fresh pairs"}
    for _, part in pairs.groupby("objective"):
        # Gains are written to 1e-4 nats, losses to five digits.
        np.testing.assert_allclose(part["loss"], np.logaddexp(0, -margins(part)), rtol=5e-5, atol=2e-4)


def test_other_objectives_are_what_they_are_called(tables: dict[str, pd.DataFrame]) -> None:
    pairs, tokens = tables["objective_pairs"], SMALL.world_tokens
    of = {name: pairs[pairs["objective"] == name] for name in SMALL.objectives}
    expected = {
        "γ 0": np.logaddexp(0, -margins(of["γ 0"], 0.0)),
        "γ 2": np.logaddexp(0, -margins(of["γ 2"], 2.0)),
        "IPO": (margins(of["IPO"]) - 1) ** 2,
        "SLiC": np.maximum(0, 1 - margins(of["SLiC"])),
        "SimPO": np.logaddexp(0, 1 - 2.5 * (of["SimPO"]["gain"] - of["SimPO"]["c"]) / tokens),
    }
    for name, loss in expected.items():
        np.testing.assert_allclose(of[name]["loss"], loss, rtol=1e-4, atol=5e-4, err_msg=name)
    sft = of["SFT"].query("split == 'trained'").groupby("step")["loss"].mean()
    assert sft.iloc[-1] < sft.iloc[0]


def test_draws_differ_and_objectives_share_the_first(tables: dict[str, pd.DataFrame]) -> None:
    start = tables["world_pairs"].query("objective == 'DPO' and step == 0 and split == 'unseen'")
    by_run = {run: part.query("β == 0.1")["c"].to_numpy() for run, part in start.groupby("run")}
    assert set(by_run) == {0, 1} and not np.isclose(by_run[0], by_run[1]).any()
    other = tables["objective_pairs"].query("objective == 'IPO' and step == 0 and split == 'unseen'")
    np.testing.assert_allclose(other["c"], by_run[0], atol=2e-4)
    assert not set(start["prompt"]) - set(range(SMALL.world_prompts))


def test_answers_win_as_often_as_their_rewards_say(tables: dict[str, pd.DataFrame], bench: Bench) -> None:
    world = known_judge._world(bench, SMALL, 0)
    answers = tables["world_answers"].query("run == 0 and step == 0 and objective == 'DPO' and β == 0.1")
    assert len(answers) == SMALL.world_prompts and np.allclose(answers["KL"], 0, atol=1e-3)
    drawn = known_world._answers(bench.lm, world, SMALL.world_tokens, 0)
    mine = np.reshape(known_world._rewards(bench.lm, drawn), (-1, 2))
    for prompt, (own, theirs) in enumerate(zip(mine, world.rewards, strict=True)):
        wins = np.mean([expit(a - b) for a in own for b in theirs])
        assert answers["win rate"].iloc[prompt] == pytest.approx(wins, abs=1e-4)
    assert answers["reward"].to_numpy() == pytest.approx(mine.mean(axis=1), abs=1e-4)


def test_identities_hold_and_another_reference_is_noticed(tables: dict[str, pd.DataFrame]) -> None:
    table = tables["identities"].set_index("statement")
    assert table["points"]["Theorem 4.1"] == len(tables["world_pairs"]) and not table["violations"].any()
    pairs = tables["world_pairs"].query("objective == 'DPO'")
    pairs = pairs.assign(log_ratio=pairs["gain"] - pairs["c"])
    broken = known_judge._identities(pairs.assign(c=-pairs["c"])).set_index("statement")
    assert broken["violations"]["Theorem 4.1"] > 0


def test_objectives_are_named(bench: Bench) -> None:
    few = replace(SMALL, objectives=["SLiC"])
    assert set(known_judge.objectives(bench, few)["objective_answers"]["objective"]) == {"SLiC"}
    assert set(ranking.OBJECTIVES) == set(known_judge._OBJECTIVES)
