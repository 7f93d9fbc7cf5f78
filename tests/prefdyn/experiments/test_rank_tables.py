"""Tables of how models rank, counted by hand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from prefdyn.data.examples import Example
from prefdyn.engine.scoring import ResponseLogProbs
from prefdyn.experiments import rank_tables
from prefdyn.experiments.rank_tables import BASELINE, BEST, ORDER, PER_TOKEN, REWARD, TIES, WHOLE, Scored
from prefdyn.measures.estimates import proportion
from prefdyn.measures.paired import compare

SHORT, LONG = "Yes.", "Yes, please, with milk."


CUPS = itertools.count(1)


def example(ranks: Sequence[int], responses: Sequence[str] = (), asked: str = "", **about: str) -> Example:
    """With a prompt that no other has, unless it is given one."""
    turns = (("user", asked or f"Cup {next(CUPS)}?"),)
    return Example(turns, tuple(responses or "abcde"[: len(ranks)]), tuple(ranks), **about)


def likelihoods(*totals: float, tokens: Sequence[int] = ()) -> ResponseLogProbs:
    return ResponseLogProbs(np.array(totals), np.array(tokens or [1] * len(totals)))


def scored(
    examples: Sequence[Example],
    scores: Sequence[ResponseLogProbs],
    reference: Sequence[ResponseLogProbs] | None = None,
    model: str = "m",
) -> Scored:
    return Scored(model, "d", [one.put("none") for one in examples], scores, reference, beta=0.5)


PAIRS = [example((0, 1), (SHORT, LONG)), example((1, 0), (SHORT, LONG)), example((0, 1), (LONG, SHORT))]
SCORES = [
    likelihoods(-4, -6, tokens=(4, 2)),  # right in both ways: -1 a token against -3
    likelihoods(-9, -6, tokens=(3, 1)),  # whole: right; per token -3 against -6: wrong
    likelihoods(-4, -6, tokens=(1, 6)),  # whole: right; per token -4 against -1: wrong
]
REFERENCE = [likelihoods(-5, -5), likelihoods(-12, -5), likelihoods(-4, -6)]
"""Rewards are half of (1, -1), (3, -1) and (0, 0): right, wrong, and a coin."""


def of(table: pd.DataFrame, score: str, right: str = ORDER, data: str = "d", ties: str = "none") -> pd.Series:
    wanted = {"score": score, "right": right, "data": data, "ties": ties}
    (row,) = [row for _, row in table.iterrows() if all(row[name] == value for name, value in wanted.items())]
    return row


def test_accuracy_of_pairs_beside_its_baselines() -> None:
    table = rank_tables.accuracy({"d": PAIRS}, [scored(PAIRS, SCORES, REFERENCE)])
    assert list(table.columns) == rank_tables.ACCURACY and set(table["examples"]) == {3}
    shares = {score: of(table, score)["accuracy"] for score in table["score"]}
    assert shares == pytest.approx(
        {
            "chance": 1 / 2,
            "shorter wins": 1 / 3,
            "longer wins": 2 / 3,
            PER_TOKEN: 1 / 3,
            WHOLE: 1,
            REWARD: 1 / 2,
        }
    )
    assert table.loc[table["model"] == BASELINE, "score"].tolist() == [
        "chance",
        "shorter wins",
        "longer wins",
    ]
    whole = proportion([1, 1, 1])
    assert of(table, WHOLE)[["low", "high"]].tolist() == pytest.approx([whole.low, whole.high])


def test_how_often_the_shorter_response_is_preferred() -> None:
    table = rank_tables.accuracy({"d": PAIRS}, [scored(PAIRS, SCORES, REFERENCE)])
    found = {score: of(table, score)["prefers_shorter"] for score in table["score"] if score != "chance"}
    # The shorter response has the higher sum in the first pair alone; the reward of the third is a tie.
    assert found == pytest.approx(
        {"shorter wins": 1, "longer wins": 0, PER_TOKEN: 1, WHOLE: 1 / 3, REWARD: (1 + 1 + 1 / 2) / 3}
    )


def test_a_model_that_is_its_own_reference_is_a_coin() -> None:
    """Rewards are all 0; "at least as high" would call every pair right."""
    table = rank_tables.accuracy({"d": PAIRS}, [scored(PAIRS, SCORES, SCORES)])
    assert of(table, REWARD)["accuracy"] == 1 / 2


def test_beta_scales_rewards_and_turns_no_order() -> None:
    for beta in (0.01, 1, 10):
        one = Scored("m", "d", [], SCORES, REFERENCE, beta)
        np.testing.assert_allclose(one.values[REWARD], beta * np.array([(1, -1), (3, -1), (0, 0)]))
        assert of(rank_tables.accuracy({"d": PAIRS}, [one]), REWARD)["accuracy"] == 1 / 2


def test_one_and_two_examples_have_a_share_and_no_interval() -> None:
    table = rank_tables.accuracy({"d": PAIRS[:2]}, [scored(PAIRS[:2], SCORES[:2])])
    row = of(table, PER_TOKEN)
    assert (
        row["accuracy"] == 1 / 2 and row["examples"] == 2 and np.isnan(row["low"]) and np.isnan(row["high"])
    )


def test_raters_ties_are_left_out_and_counted() -> None:
    examples = [*PAIRS, example((0, 0), (SHORT, LONG))]
    scores = [*SCORES, likelihoods(-400, -600)]  # both likelihoods are nearly 0: alike, as raters have them
    table = rank_tables.accuracy({"d": examples}, [scored(examples, scores, [*REFERENCE, scores[-1]])])
    assert of(table, WHOLE, ties="left out")["examples"] == 3
    assert of(table, PER_TOKEN, ties="left out")["accuracy"] == pytest.approx(1 / 3)
    assert of(table, WHOLE, ties="counted")[["examples", "accuracy"]].tolist() == [4, 1]
    assert table.loc[table["ties"] == "counted", "score"].tolist() == [PER_TOKEN, WHOLE]


def test_rankings_are_right_in_their_whole_order_or_in_their_best() -> None:
    examples = [example((2, 0, 1)), example((2, 0, 1))]
    scores = [likelihoods(-3, -1, -2), likelihoods(-2, -1, -3)]
    table = rank_tables.accuracy({"d": examples}, [scored(examples, scores)])
    assert of(table, WHOLE)["accuracy"] == 1 / 2 and of(table, WHOLE, BEST)["accuracy"] == 1
    assert of(table, "chance")["accuracy"] == pytest.approx(1 / 6)
    assert of(table, "chance", BEST)["accuracy"] == pytest.approx(1 / 3)


def test_good_and_bad_responses_have_no_order_among_themselves() -> None:
    examples = [example((0, 1, 1, 1))] * 3
    scores = [likelihoods(-1, -2, -3, -4), likelihoods(-2, -1, -3, -4), likelihoods(-1, -1, -3, -4)]
    table = rank_tables.accuracy({"d": examples}, [scored(examples, scores)])
    assert set(table["right"]) == {BEST}
    assert of(table, WHOLE, BEST)["accuracy"] == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert of(table, "chance", BEST)["accuracy"] == pytest.approx(1 / 4)


def test_subsets_have_rows_of_their_own_and_ties_a_score() -> None:
    maths = [example((0, 1, 1, 1), subset="Math")] * 2
    tied = [example((0, 1, 1), id="ref:0", subset="Ties"), example((0, 0, 1), id="tied:0", subset="Ties")]
    scores = [likelihoods(-1, -2, -3, -4), likelihoods(-2, -1, -3, -4)]
    scores += [likelihoods(-1, -2.5, -3), likelihoods(-1, -1.5, -2.3)]
    table = rank_tables.accuracy({"d": [*maths, *tied]}, [scored([*maths, *tied], scores)])
    assert of(table, WHOLE, BEST, "d/Math")["accuracy"] == 1 / 2
    assert of(table, WHOLE, BEST, "d/Ties")["accuracy"] == 1
    assert of(table, WHOLE, BEST)["accuracy"] == 3 / 4
    score = of(table, WHOLE, TIES, "d/Ties", "counted")
    assert score["accuracy"] == pytest.approx(1 + 0.01 * np.tanh(0.8 / 0.5 - 1)) and score["examples"] == 1


def test_two_models_are_compared_on_the_same_examples() -> None:
    turned = [ResponseLogProbs(one.total[::-1].copy(), one.tokens) for one in SCORES]
    both = [scored(PAIRS, SCORES, REFERENCE, "a"), scored(PAIRS, [SCORES[0], *turned[1:]], None, "b")]
    table = rank_tables.comparisons({"d": PAIRS}, both)
    assert list(table.columns) == rank_tables.COMPARISONS
    assert table["score"].tolist() == [PER_TOKEN, WHOLE]  # one of them has no reference
    row = table.iloc[1]
    assert (row["first"], row["second"], row["only_first"], row["only_second"]) == ("a", "b", 2, 0)
    found = compare([1, 1, 1], [1, 0, 0])
    assert row[["difference", "low", "high", "p"]].tolist() == pytest.approx(
        [2 / 3, found.difference.low, found.difference.high, 0.5]
    )


def test_many_comparisons_are_adjusted_within_a_score() -> None:
    rng = np.random.default_rng(0)
    examples = [example((0, 1)) for _ in range(60)]
    models = [
        scored(examples, [likelihoods(gap, 0) for gap in rng.normal(size=60) + mean], None, name)
        for name, mean in (("a", 2), ("b", 0), ("c", 0))
    ]
    table = rank_tables.comparisons({"d": examples}, models)
    of_whole = table[table["score"] == WHOLE]
    assert len(of_whole) == 3 and (of_whole["p_holm"] >= of_whole["p"]).all()
    assert of_whole["p_holm"].min() == pytest.approx(3 * of_whole["p"].min())


def test_examples_of_one_prompt_are_alike_for_intervals_and_tests() -> None:
    """Ten prompts, each with two pairs that go the same way: ten pieces of evidence, and not twenty."""
    examples = [example((0, 1), asked=f"{number // 2}?") for number in range(20)]
    goods = [number // 2 < 8 for number in range(20)]
    models = [
        scored(examples, [likelihoods(0, -1 if good else 1) for good in whose], None, name)
        for name, whose in (("a", goods), ("b", [False] * 20))
    ]
    table = rank_tables.accuracy({"d": examples}, models)
    ends = table[(table["model"] == "a") & (table["score"] == WHOLE)][["low", "high"]].to_numpy()
    prompts = [number // 2 for number in range(20)]
    expected = proportion(goods, prompts)
    assert ends.tolist() == [[expected.low, expected.high]]
    (row,) = rank_tables.comparisons({"d": examples}, models).query(f"score == '{WHOLE}'").to_dict("records")
    assert row["only_first"] == 16 and row["p"] == pytest.approx(2 / 2**8)  # by pairs it were 2 / 2**16
    gap = compare(goods, [0] * 20, prompts).difference
    assert (row["low"], row["high"]) == (gap.low, gap.high)


def test_one_model_has_nothing_to_be_compared_with() -> None:
    table = rank_tables.comparisons({"d": PAIRS}, [scored(PAIRS, SCORES)])
    assert table.empty and list(table.columns) == rank_tables.COMPARISONS


def test_equal_rewards_are_half_a_hit_where_two_models_are_compared() -> None:
    """A model beside one that has the reference's own weights: 2 of 3 right less one half."""
    trained, same = scored(PAIRS, SCORES, REFERENCE, "trained"), scored(PAIRS, REFERENCE, REFERENCE, "same")
    table = rank_tables.comparisons({"d": PAIRS}, [trained, same])
    (row,) = table.query(f"score == '{REWARD}'").to_dict("records")
    accuracies = rank_tables.accuracy({"d": PAIRS}, [trained, same]).query(f"score == '{REWARD}'")["accuracy"]
    assert row["difference"] == pytest.approx(accuracies.iloc[0] - accuracies.iloc[1])
    assert (row["only_first"], row["only_second"], row["p"]) == (1, 1, 1)


def test_rows_of_examples_agree_with_the_table_where_likelihoods_are_equal() -> None:
    examples = [example((0, 1)) for _ in range(3)]
    scores = [likelihoods(-4, -4), likelihoods(-4, -5), likelihoods(-5, -4)]
    of_models = scored(examples, scores)
    told = [row["right"][WHOLE] for row in rank_tables.example_rows(examples, of_models)]
    assert told == [True, True, False]
    assert of(rank_tables.accuracy({"d": examples}, [of_models]), WHOLE)["accuracy"] == np.mean(told)


def test_rows_of_examples_say_what_a_model_was_given_and_what_it_did() -> None:
    examples = [*PAIRS, example((0, 0), id="17", subset="odd")]
    scores = [*SCORES, likelihoods(-1, -2)]
    first, second, _, last = rank_tables.example_rows(
        examples, scored(examples, scores, [*REFERENCE, scores[-1]])
    )
    assert (
        first["prompt"] == examples[0].turns[0][1]
        and first["responses"] == [SHORT, LONG]
        and first["tokens"] == [4, 2]
    )
    assert first[WHOLE] == [-4, -6] and first[PER_TOKEN] == [-1, -3] and first[REWARD] == [0.5, -0.5]
    assert first["right"] == {PER_TOKEN: True, WHOLE: True, REWARD: True} and first["prompt_cut"] == 0
    assert second["right"] == {PER_TOKEN: False, WHOLE: True, REWARD: False} and second["example"] == 1
    assert (last["id"], last["subset"]) == ("17", "odd") and set(last["right"].values()) == {None}
