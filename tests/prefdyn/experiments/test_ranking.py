"""The experiments of chapter 4 on the tiny model, against what a reader would compute by hand."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_chapters import RANKING as SMALL
from stand_in import close, reply, says, serve

from prefdyn import data
from prefdyn.engine.training import Settings
from prefdyn.errors import PrefdynError
from prefdyn.experiments import ranking
from prefdyn.experiments.bench import Bench, Phase
from prefdyn.measures import flips, judges
from prefdyn.theory.ranking import dpo_threshold, idealized_log_ratio


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Bench("smoke", device="cpu", precision="float32")


def test_hits_are_what_accuracy_counts(bench: Bench) -> None:
    tables = ranking.ranking_accuracy(bench, SMALL)
    hits, accuracy = tables["hits"], tables["ranking_accuracy"].set_index(["ties", "responses"])["accuracy"]
    assert len(hits) == 12 and set(hits["data"]) == {"sample"} and (hits["responses"] == 2).all()
    clear = hits[~hits["tied"]]
    for kind in ranking.KINDS:
        part = accuracy.drop("counted", level="ties", errors="ignore").xs(kind, level="responses")
        assert part.item() == pytest.approx(clear[kind].mean())


def test_lengths_say_by_how_much_the_model_is_wrong(bench: Bench) -> None:
    pairs = ranking.lengths(bench, SMALL)
    np.testing.assert_allclose(pairs["c"], pairs["logp_rejected"] - pairs["logp_chosen"], rtol=1e-6)
    hits = ranking.ranking_accuracy(bench, SMALL)["hits"].query("not tied")
    assert (pairs["c"] <= 0).astype(int).tolist() == hits["whole"].tolist()
    per_token = pairs["logp_chosen"] / pairs["chosen"] >= pairs["logp_rejected"] / pairs["rejected"]
    assert per_token.astype(int).tolist() == hits["per token"].tolist()


def test_optimum_counts_log_ratios_that_the_votes_turn(bench: Bench) -> None:
    tables = ranking.idealized(bench, SMALL)
    votes = tables["votes"]
    assert votes["known"].all() and votes["alpha"].between(0.5, 1).all()
    np.testing.assert_allclose(votes["whole"], votes["logp_chosen"] - votes["logp_rejected"])
    for _, row in tables["optimum"].iterrows():
        turned = idealized_log_ratio(votes[row["responses"]], votes["alpha"], row["beta"]) > 0
        assert row["accuracy"] == pytest.approx(turned.mean())
    for about in tables["idealized"].to_dict("records"):
        over = tables["optimum"].query(f"responses == {about['responses']!r}")["accuracy"]
        assert (about["least"], about["median"], about["largest"]) == (over.min(), over.median(), over.max())
        assert about["gap"] == pytest.approx(over.median() - about["actual"])


def test_followed_pairs_tell_what_the_table_of_flips_says(bench: Bench) -> None:
    tables = ranking.followed(bench, SMALL)
    followed, shares = tables["followed"], tables["flips"]
    sizes = followed.groupby(["optimizer", "gamma"]).size().to_dict()
    assert sizes == {("RMSProp", 1): 18, ("AdamW", 1): 18, ("RMSProp", 0): 10, ("RMSProp", 2): 10}
    assert (followed["beta"] == 0.2).all() and set(followed["group"]) <= set(flips.GROUPS)
    for _, row in shares.iterrows():
        losses = tables["validation"].query("optimizer == @row.optimizer").set_index("step")["loss"]
        assert row["step"] == losses.idxmin() and set(losses.index) == {0, 2, 4}
        now = followed.query("optimizer == @row.optimizer and gamma == 1 and step == @row.step and c > 0")
        assert row["wrong pairs"] == max(1, len(now))
        if len(now) > 2:
            assert row["flipped there"] == pytest.approx(now["right"].mean())


def test_cards_are_the_ends_of_c_and_the_least_wrong(bench: Bench) -> None:
    cards = ranking.cards(bench, SMALL)
    followed = ranking.followed(bench, SMALL)["followed"].query("optimizer == 'RMSProp' and gamma == 1")
    c = followed.query("step == 0").set_index("pair")["c"].sort_values()
    assert cards.query("kind == 'Hard'")["pair"].tolist() == c.index[-2:][::-1].tolist()
    assert cards.query("kind == 'Easy'")["pair"].tolist() == c.index[:2].tolist()
    assert cards.query("kind == 'Easy to flip'")["pair"].tolist() == c[c > 0].index[:2].tolist()
    np.testing.assert_allclose(cards["threshold"], dpo_threshold(cards["c"], 0.2))
    assert (cards["chosen"].str.len() <= ranking.RESPONSE_SHOWN + 1).all()
    assert not cards["prompt"].str.endswith("Assistant:").any()


def test_win_rate_is_the_mean_of_the_wins(bench: Bench) -> None:
    tables = ranking.win_rate(bench, SMALL)
    answers, wins = tables["win_rate"], tables["wins"]
    means = wins.groupby(["optimizer", "gamma", "step"])["win"].mean()
    for _, row in answers.iterrows():
        assert row["win rate"] == pytest.approx(means[row["optimizer"], row["gamma"], row["step"]])
    start = answers[answers["step"] == 0]
    assert (start["win rate"] == 0.5).all() and (start["distance"] == 0).all()
    assert tables["gamma"]["gamma"].tolist() == [0, 1, 2] and (tables["gamma"]["step"] == 2).all()
    assert tables["judge"]["n"].tolist() == [10] and tables["judge"]["accuracy"].between(0, 1).all()
    followed = ranking.followed(bench, SMALL)["followed"].query("pair < 5")
    right = followed.groupby(["optimizer", "gamma", "step"])["right"].mean()
    for _, row in answers.iterrows():
        assert row["ranking accuracy"] == pytest.approx(right[row["optimizer"], row["gamma"], row["step"]])


def test_verdicts_of_a_judge_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranking.win_rate(bench, SMALL)["judge"]["no verdict"].tolist() == [0]

    @functools.wraps(judges.in_both_orders)
    def once_more(*_: object) -> None:
        pytest.fail("judged once more")

    monkeypatch.setattr(judges, "in_both_orders", once_more)
    ranking.win_rate(bench, SMALL)


def test_odd_answers_of_an_endpoint_stop_nothing_and_are_counted(bench: Bench) -> None:
    server = serve()
    server.script = [200, reply("<html>", status=404), reply(says("7/10"))]
    name = f"http://127.0.0.1:{server.server_port}/v1#<b>$x^{{$</b>"
    tables = ranking.win_rate(bench, replace(SMALL, judge=name))
    close(server)
    judged = tables["judge"].iloc[0]
    assert judged["name"] == "<b>$x^{$</b>" and np.isnan(judged["accuracy"])
    assert 2 / (2 * len(tables["wins"])) <= judged["no verdict"] < 0.5  # some questions come more than once


def test_identities_hold_and_count_every_point(bench: Bench) -> None:
    table = ranking.identities(bench, SMALL)
    followed = ranking.followed(bench, SMALL)["followed"]
    premise = followed.query("gamma == 1 and c <= 0 and loss <= 0.6")
    assert table["statement"].tolist() == ["Theorem 4.1", "Proposition 2.6", "Proposition A.7"]
    assert table["points"].tolist() == [len(followed), len(premise), len(followed)]
    assert table["violations"].tolist() == [0, 0, 0]


def followed_pairs(bench: Bench) -> pd.DataFrame:
    pairs = data.load_pairs()[:8]
    phase = Phase(pairs, Settings(3e-3, 2, 8, 0.2), {"followed": pairs}, (0, 2), each=["followed"])
    return flips.follow(bench.train([phase])[0].record, "followed")


def test_another_reference_in_the_loss_is_noticed(bench: Bench) -> None:
    followed = followed_pairs(bench)
    other = followed.assign(c=-followed["c"])
    assert ranking.check(followed, 0.2) == {"Theorem 4.1": 0, "Proposition 2.6": 0, "Proposition A.7": 0}
    assert ranking.check(other, 0.2)["Theorem 4.1"] > 0


def test_small_losses_that_do_not_rank_right_are_noticed(bench: Bench) -> None:
    followed = followed_pairs(bench).assign(loss=0.1, right=False)
    assert ranking.check(followed, 0.2)["Proposition 2.6"] == (followed["c"] <= 0).sum()
    assert ranking.check(followed, 0.2, gamma=0.5)["Proposition 2.6"] == 0


def test_seed_draws_other_pairs_and_another_run(bench: Bench) -> None:
    one, other = (ranking.followed(bench.seeded(seed), SMALL)["followed"] for seed in (0, 1))
    assert not np.isclose(one.query("step == 0")["c"], other.query("step == 0")["c"]).any()


def test_more_pairs_than_there_are_is_an_error(bench: Bench) -> None:
    with pytest.raises(PrefdynError, match=r"6 \+ 4 \+ 1004 pairs and sample has \d+"):
        ranking.followed(bench, replace(SMALL, judged=1004))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma_steps": 5}, "gamma_steps is 5: it must be at most steps, 4"),
        ({"gamma_followed": 7}, "gamma_followed is 7: it must be at most followed, 6"),
        ({"answered": 7}, "answered is 7: it must be at most followed, 6"),
        ({"ranked": 2}, r"ranked is 2: it must be 0 \(all\) or at least 3"),
        ({"gammas": [0.0, 2.0, 0.0]}, "each value must be there once"),
        ({"judge": "gpt-4"}, "the judge is 'gpt-4': write embedded, reward:HUB_ID"),
    ],
)
def test_settings_that_do_not_go_together_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PrefdynError, match=message):
        replace(SMALL, **changes)


def test_plan_counts_every_run(bench: Bench) -> None:
    settings = {**{name: getattr(SMALL, name) for name in SMALL.__dataclass_fields__}, "data": "sample"}
    once, thrice = (
        {work.name: work.runs for work in ranking.work({**settings, "seeds": seeds})}
        for seeds in ([0], [0, 1, 2])
    )
    assert once["DPO, two optimizers"] == once["SFT, two optimizers"] == 2 and once["DPO, other gammas"] == 2
    assert all(
        thrice[name] == 3 * runs for name, runs in once.items() if name.endswith(("optimizers", "gammas"))
    )
