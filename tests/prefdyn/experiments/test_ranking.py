"""The experiments of chapter 4 on the tiny model, against what a reader would compute by hand."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_chapters import RANKING as SMALL
from stand_in import close, reply, says, serve

from prefdyn.engine.training import Settings
from prefdyn.errors import PrefdynError
from prefdyn.experiments import flipping, offline_judges, ranking, supervised
from prefdyn.experiments.bench import Bench
from prefdyn.measures import judges
from prefdyn.theory.ranking import dpo_threshold


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Bench("smoke", device="cpu", precision="float32")


# Given responses ------------------------------------------------------------------------------------


def test_scored_pairs_are_what_accuracy_counts(bench: Bench) -> None:
    tables = ranking.ranking_accuracy(bench, SMALL)
    scored, accuracy = tables["scored"], tables["ranking_accuracy"].set_index(["ties", "responses"])
    assert len(scored) == 24 and set(scored["data"]) == {"sample"} and scored["alpha"].between(0, 1).all()
    clear = scored[scored["preferred"] > 0]
    sign = np.where(clear["preferred"] == 1, 1, -1)
    ahead = {
        "whole": clear["logp 1"] - clear["logp 2"],
        "per token": clear["logp 1"] / clear["tokens 1"] - clear["logp 2"] / clear["tokens 2"],
    }
    for kind in ranking.KINDS:
        part = accuracy["accuracy"].drop("counted", level="ties", errors="ignore").xs(kind, level="responses")
        assert part.item() == pytest.approx((sign * ahead[kind] >= 0).mean())
    assert ((scored["alpha"] > 0.5) == (scored["preferred"] == 1)).all()


def test_no_response_is_cut_where_the_bound_is_far(bench: Bench) -> None:
    rankings = bench.rankings("sample", SMALL.ranked)
    whole = bench.scores(rankings, 8192)
    for one, score in zip(rankings, whole, strict=True):
        texts = bench.lm.tokenizer([one.prompt + response for response in one.responses])["input_ids"]
        before = len(bench.lm.tokenizer(one.prompt)["input_ids"])
        assert score.tokens.tolist() == [len(ids) - before for ids in texts]


def test_fewer_of_the_long_data_sets_are_scored() -> None:
    few = replace(SMALL, ranked_lists=4)
    names = ("hh-rlhf", "pandalm", "llmbar-natural", "alpaca-eval", "alpaca-eval-rankings")
    assert [few.limit(name) for name in names] == [24, 5, 5, 3, 4]


# Fine-tuning alone ----------------------------------------------------------------------------------


def test_every_pair_is_ranked_after_fine_tuning_on_other_prompts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[set[str], set[str]]] = []

    def seen(bench: Bench, design: Any, train: Any, rankings: Any) -> Any:
        asked.append(({pair.prompt for pair in train}, {one.prompt for one in rankings}))
        return bench.scores(rankings, design.max_length)

    monkeypatch.setattr(supervised, "_scores_after", seen)
    table = supervised.supervised(bench, SMALL)["supervised"]
    assert len(asked) == 2 and all(not train & ranked for train, ranked in asked)
    assert asked[0][0] == asked[1][1] and table["pair"].tolist() == list(range(len(table)))
    for which in ("chosen", "rejected"):  # nothing was trained
        np.testing.assert_allclose(table[f"{which} after"], table[f"{which} before"], atol=1e-3)


def test_what_is_fine_tuned_on_gets_likelier(bench: Bench) -> None:
    rankings = bench.rankings("sample", 24)
    pairs = [one.pair for one in rankings if not one.tied]
    how = Settings(1e-3, 6, 8, loss="sft")
    after = supervised.tuned_scores(bench.lm, pairs, how, rankings, 100)
    before = bench.scores(rankings, 100)
    assert sum(score.total.sum() for score in after) > sum(score.total.sum() for score in before) + 1
    again = supervised.tuned_scores(bench.lm, pairs, how, rankings, 100)  # the weights had come back
    np.testing.assert_allclose([s.total for s in again], [s.total for s in after], rtol=1e-5)


def test_cards_are_the_ends_of_c_and_the_least_wrong(bench: Bench) -> None:
    tables = supervised.supervised(bench, SMALL)
    table, cards = tables["supervised"], tables["cards"]
    c = (table["rejected after"] - table["chosen after"]).set_axis(table["pair"]).sort_values()
    assert cards.query("kind == 'Hard'")["pair"].tolist() == c.index[-2:][::-1].tolist()
    assert cards.query("kind == 'Easy'")["pair"].tolist() == c.index[:2].tolist()
    assert cards.query("kind == 'Easy to flip'")["pair"].tolist() == c[c > 0].index[:2].tolist()
    np.testing.assert_allclose(cards["threshold"], dpo_threshold(cards["c"], 0.2))
    assert (cards["chosen"].str.len() <= supervised.RESPONSE_SHOWN + 1).all()
    assert not cards["prompt"].str.endswith("Assistant:").any()


# Offline judges -------------------------------------------------------------------------------------


def test_offline_judges_say_how_often_they_agree(bench: Bench) -> None:
    table = offline_judges.offline_judges(bench, SMALL)
    assert table["judge"].tolist() == [offline_judges.STATES, offline_judges.LENGTH]
    assert (table["n"] == 20).all() and table["accuracy"].between(0, 1).all()
    assert (table["low"] <= table["accuracy"]).all() and (table["accuracy"] <= table["high"]).all()


def test_encoder_reads_the_answer_and_its_nearness_to_the_prompt(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"p": [1.0, 0.0], "q": [0.0, 1.0], "a": [0.6, 0.8], "b": [0.8, 0.6]}

    def encode(texts: list[str]) -> np.ndarray:
        return np.array([known[text] for text in texts])

    encode.__module__ = offline_judges.encoders.__name__
    monkeypatch.setattr(offline_judges.encoders, "encode", encode)
    found = offline_judges.encoded(["p", "q", "p"], ["a", "a", "b"])
    assert found.tolist() == [[0.6, 0.8, 0.6, 0.0], [0.6, 0.8, 0.0, 0.8], [0.8, 0.6, 0.8, 0.0]]


# Single pairs ---------------------------------------------------------------------------------------


def test_parts_share_no_pair_and_zero_trains_on_the_rest(bench: Bench) -> None:
    found = flipping.parts(bench, SMALL)
    sizes = [len(part) for part in (found.train, found.unseen, found.validation, found.judge)]
    assert sizes == [8, 6, 4, 10]
    every = [*found.train, *found.unseen, *found.validation, *found.judge]
    assert len({(pair.prompt, pair.chosen, pair.rejected) for pair in every}) == 28
    rest = flipping.parts(bench, replace(SMALL, trained=0))
    known = ranking.short_pairs(bench.rankings("sample"), SMALL)
    assert len(rest.train) == len(known) - 20


def test_training_on_a_split_of_its_own_leaves_the_test_split_to_the_others(
    tmp_path: Path, bench: Bench
) -> None:
    known = ranking.short_pairs(bench.rankings("sample"), SMALL)
    (tmp_path / "hh-rlhf" / "some").mkdir(parents=True)
    for split, count in (("train", 12), ("test", 20)):
        rows = [
            {
                which: f"\n\nHuman: {split} {i}\n\nAssistant: {getattr(pair, which)}"
                for which in ("chosen", "rejected")
            }
            for i, pair in enumerate(known[:count])
        ]
        lines = "\n".join(map(json.dumps, rows))
        (tmp_path / "hh-rlhf" / "some" / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    apart = Bench("smoke", str(tmp_path), device="cpu", precision="float32")
    all_of_it = replace(SMALL, train_split="train", trained=0)
    found = flipping.parts(apart, all_of_it)
    assert len({pair.prompt for pair in found.train}) == 12
    assert all("train" in pair.prompt for pair in found.train)
    others = [*found.unseen, *found.validation, *found.judge]
    assert len({pair.prompt for pair in others}) == 20 and all("test" in pair.prompt for pair in others)
    with pytest.raises(PrefdynError, match="the split train of hh-rlhf has 12 pairs"):
        flipping.parts(apart, replace(all_of_it, trained=13))
    with pytest.raises(PrefdynError, match=r"judge_pairs ask for 6 \+ 4 \+ 11 pairs and hh-rlhf has 20"):
        flipping.parts(apart, replace(all_of_it, judge_pairs=11))
    with pytest.raises(PrefdynError, match="sample has no splits"):
        flipping.parts(bench, all_of_it)


def test_followed_pairs_tell_what_the_table_of_flips_says(bench: Bench) -> None:
    tables = flipping.followed(bench, SMALL)
    followed, shares = tables["followed"], tables["flips"]
    assert followed.groupby(["run", "split"]).size().tolist() == [18] * 4
    np.testing.assert_allclose(
        followed["loss"], np.logaddexp(0, -SMALL.beta * followed["gain"]), rtol=5e-5, atol=2e-4
    )
    away = followed[(followed["gain"] - followed["c"]).abs() > 1e-3]
    assert ((away["gain"] > away["c"]) == away["right"]).all()
    for row in shares.to_dict("records"):
        losses = tables["validation"].query(f"run == {row['run']}").set_index("step")["loss"]
        assert row["step"] == losses.idxmin() and set(losses.index) == {0, 2, 4} and row["violations"] == 0
        part = followed.query(f"run == {row['run']} and split == {row['split']!r} and c > 0")
        assert row["wrong pairs"] == (part["step"] == 0).sum()
        if row["wrong pairs"] > 2:
            assert row["flipped there"] == pytest.approx(part.query(f"step == {row['step']}")["right"].mean())


def test_runs_have_orders_of_their_own_and_the_same_pairs(bench: Bench) -> None:
    one, other = (flipping.phases(bench, SMALL, run) for run in (0, 1))
    assert one[1].train == other[1].train and one[1].settings.seed != other[1].settings.seed
    assert one[1].settings.optimizer == "rmsprop" and one[0].settings.loss == "sft"


def test_each_split_of_a_run_is_the_part_of_its_name(bench: Bench) -> None:
    found, (tuning, dpo) = flipping.parts(bench, SMALL), flipping.phases(bench, SMALL, 0)
    assert tuning.train == dpo.train == found.train
    assert dpo.evaluate["trained"] == found.train[: SMALL.followed]
    assert dpo.evaluate["unseen"] == found.unseen and dpo.evaluate["validation"] == found.validation
    assert list(dpo.answer) == [pair.prompt for pair in found.train[: SMALL.answered]]


def test_seed_draws_other_pairs(bench: Bench) -> None:
    assert flipping.parts(bench, SMALL).train != flipping.parts(bench.seeded(1), SMALL).train


# Answers --------------------------------------------------------------------------------------------


def test_win_rate_is_the_mean_of_the_wins(bench: Bench) -> None:
    tables = flipping.win_rate(bench, SMALL)
    answers, wins = tables["win_rate"], tables["wins"]
    means = wins.groupby(["run", "step"])["win"].mean()
    right = flipping.followed(bench, SMALL)["followed"].query("split == 'trained'")
    right = right.groupby(["run", "step"])["right"].mean()
    for row in answers.to_dict("records"):
        assert row["win rate"] == pytest.approx(means[row["run"], row["step"]])
        assert row["ranking accuracy"] == pytest.approx(right[row["run"], row["step"]])
    start = answers[answers["step"] == 0]
    assert (start["win rate"] == 0.5).all() and (start["distance"] == 0).all()
    assert tables["judge"]["n"].tolist() == [10] and tables["judge"]["accuracy"].between(0, 1).all()


def test_verdicts_of_a_judge_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert flipping.win_rate(bench, SMALL)["judge"]["no verdict"].tolist() == [0]

    @functools.wraps(judges.in_both_orders)
    def once_more(*_: object) -> None:
        pytest.fail("judged once more")

    monkeypatch.setattr(judges, "in_both_orders", once_more)
    flipping.win_rate(bench, SMALL)


def test_odd_answers_of_an_endpoint_stop_nothing_and_are_counted(bench: Bench) -> None:
    server = serve()
    server.script = [200, reply("<html>", status=404), reply(says("7/10"))]
    name = f"http://127.0.0.1:{server.server_port}/v1#<b>$x^{{$</b>"
    tables = flipping.win_rate(bench, replace(SMALL, judge=name))
    close(server)
    judged = tables["judge"].iloc[0]
    assert judged["name"] == "<b>$x^{$</b>" and np.isnan(judged["accuracy"])
    assert 0 < judged["no verdict"] < 0.5


# The design -----------------------------------------------------------------------------------------


def test_more_pairs_than_there_are_is_an_error(bench: Bench) -> None:
    with pytest.raises(PrefdynError, match=r"8 \+ 6 \+ 4 \+ 1004 pairs and sample has \d+"):
        flipping.followed(bench, replace(SMALL, judge_pairs=1004))
    with pytest.raises(PrefdynError, match=r"ask for 2 × 9000 prompts, and the data has \d+"):
        ranking.check_design(replace(SMALL, world_prompts=9000), "sample")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"followed": 9}, "followed is 9: it must be at most trained, 8"),
        ({"answered": 7}, "answered is 7: it must be at most followed, 6"),
        ({"ranked": 15}, r"ranked is 15: it must be 0 \(all\) or at least 16"),
        ({"judged": 9}, r"judged is 9: it must be 0 \(all\) or at least 16"),
        ({"world_betas": [0.1, 1.0, 0.1]}, "each value must be there once"),
        ({"objectives": ["IPO", "KTO"]}, "choose from γ 0, γ 2, IPO"),
        ({"objectives": ["IPO", "IPO"]}, "each once"),
        ({"world_steps": 6}, "world_steps is 6: it must be a multiple of 4"),
        ({"world_pairs": 3}, "world_pairs is 3: it must be a multiple of 2"),
        ({"judge": "gpt-4"}, "the judge is 'gpt-4': write embedded, reward:HUB_ID"),
    ],
)
def test_settings_that_do_not_go_together_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PrefdynError, match=message):
        replace(SMALL, **changes)


def test_plan_counts_every_run() -> None:
    settings = {**{name: getattr(SMALL, name) for name in SMALL.__dataclass_fields__}, "data": "sample"}
    once, thrice = (
        {work.name: work.runs for work in ranking.work({**settings, "seeds": seeds})}
        for seeds in ([0], [0, 1, 2])
    )
    assert once["DPO on response pairs"] == once["SFT on response pairs"] == 2
    # Two β in each of two draws, six objectives, and a refresh: what goes before it, and two ways on.
    assert once["trainings with a known judge"] == 2 * 2 + 6 + 3
    for name in ("DPO on response pairs", "SFT on response pairs", "fine-tuning on halves", "answers"):
        assert thrice[name] == 3 * once[name]
