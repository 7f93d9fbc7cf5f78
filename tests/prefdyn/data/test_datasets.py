"""Every data set's loader, on a small folder in the publisher's own schema that the test writes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefdyn import data
from prefdyn.data import Pair, Ranking, datasets, rankings
from prefdyn.errors import PrefdynError


def asked(prompt: str) -> str:
    return f"\n\nHuman: {prompt}\n\nAssistant:"


def write(folder: Path, name: str, rows: Sequence[Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")


def test_synthetic_instruct(tmp_path: Path) -> None:
    row = {"prompt": "Name a tree.", "chosen": "An oak. ", "rejected": "A stone."}
    write(tmp_path / "synthetic-instruct-gptj-pairwise", "train.jsonl", [row, {**row, "rejected": ""}])
    assert datasets.load("synthetic-instruct", tmp_path) == [
        Ranking(asked("Name a tree."), (" An oak.", " A stone."), (0, 1))
    ]


def answer(text: str, score: int) -> dict[str, Any]:
    fields = {"answer_id": 1, "author": "a", "author_id": 2, "author_profile": "https://a", "selected": False}
    return {**fields, "pm_score": score, "text": text}


def test_stack_exchange_ranks_any_number_of_answers_and_keeps_ties(tmp_path: Path) -> None:
    about = {"date": "2012/01/01", "metadata": ["https://a", "https://b", "https://c"]}
    rows = [
        {
            "qid": 1,
            "question": "<p>Why?</p>",
            "answers": [answer("x", 1), answer("y", 5), answer("z", 1)],
            **about,
        },
        {"qid": 2, "question": "How?", "answers": [answer("u", 0), answer("v", -1)], **about},
        {"qid": 3, "question": "What?", "answers": [answer("alone", 4)], **about},
    ]
    write(tmp_path / "stack-exchange-preferences", "train.jsonl", rows)
    three, two = datasets.load("stack-exchange", tmp_path)
    assert three == Ranking(asked("<p>Why?</p>"), (" x", " y", " z"), (1, 0, 1)) and three.tied
    assert two == Ranking(asked("How?"), (" u", " v"), (0, 1)) and not two.tied


def test_ultrafeedback_ranks_four_by_the_overall_score(tmp_path: Path) -> None:
    def completion(response: str, score: float) -> dict[str, Any]:
        fields = {
            "annotations": {"helpfulness": {"Rating": "4"}},
            "custom_system_prompt": "s",
            "fine-grained_score": 9.0 - score,
        }
        return {
            **fields,
            "critique": "c",
            "model": "m",
            "principle": "p",
            "overall_score": score,
            "response": response,
        }

    completions = [completion(text, score) for text, score in zip("abcd", (7.5, 6.0, 8.0, 3.0), strict=True)]
    row = {
        "source": "evol",
        "instruction": "Sing.",
        "models": ["m"] * 4,
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
    }
    write(tmp_path / "UltraFeedback", "train.jsonl", [{**row, "completions": completions}])
    assert datasets.load("ultrafeedback", tmp_path) == [
        Ranking(asked("Sing."), (" a", " b", " c", " d"), (1, 2, 0, 3))
    ]


def shp(label: int) -> dict[str, Any]:
    times = {"created_at_utc_A": 1, "created_at_utc_B": 2, "seconds_difference": 1.0, "score_ratio": 2.0}
    ids = {"post_id": "p", "domain": "d_test", "upvote_ratio": 0.9, "c_root_id_A": "a", "c_root_id_B": "b"}
    refs = {"history": "A post.", "human_ref_A": "first", "human_ref_B": "second", "score_A": 1, "score_B": 2}
    return {**ids, **times, **refs, "labels": label}


def test_shp_prefers_a_where_the_label_is_1(tmp_path: Path) -> None:
    write(tmp_path / "SHP", "test.jsonl", [shp(1), shp(0)])
    write(tmp_path / "SHP", "train.jsonl", [shp(0)])
    first, second = datasets.load("shp", tmp_path)
    assert (first.pair.chosen, second.pair.chosen) == (" first", " second")
    assert [ranking.pair.chosen for ranking in datasets.load("shp:train", tmp_path)] == [" second"]


def test_shp_label_out_of_range_is_named(tmp_path: Path) -> None:
    write(tmp_path / "SHP", "test.jsonl", [shp(1), shp(2)])
    with pytest.raises(PrefdynError, match=r"row 2: the field 'labels' is 2, it must be 1"):
        datasets.load("shp", tmp_path)


def test_cross_annotations_are_counted_into_alpha(tmp_path: Path) -> None:
    def rows(instruction: str, votes: Sequence[int]) -> list[dict[str, Any]]:
        about = {
            "instruction": instruction,
            "output_1": "one",
            "output_2": "two",
            "dataset": "koala",
            "datasplit": "eval",
        }
        return [{**about, "annotator_index": i, "preference": vote} for i, vote in enumerate(votes)]

    folder = tmp_path / "alpaca_eval"
    folder.mkdir()
    votes = [*rows("Agree.", [1, 1, 1, 1]), *rows("Mostly.", [2, 2, 1, 2]), *rows("Split.", [1, 2, 1, 2])]
    (folder / "alpaca_farm_human_crossannotations.json").write_text(json.dumps(votes))
    agree, mostly, split = datasets.load("alpaca-farm", tmp_path)
    assert [one.alpha for one in (agree, mostly, split)] == [1.0, 0.25, 0.5]
    assert (agree.pair, agree.alpha_chosen) == (Pair(asked("Agree."), " one", " two"), 1.0)
    assert (mostly.pair, mostly.alpha_chosen) == (Pair(asked("Mostly."), " two", " one"), 0.75)
    assert split.tied and split.ranks == (0, 0)
    with pytest.raises(PrefdynError, match="no preference"):
        _ = split.pair


def alpaca_eval(folder: Path, name: str, preferences: Sequence[float]) -> None:
    rows = [
        {
            "instruction": f"task {i}",
            "output_1": "base",
            "generator_1": "g",
            "output_2": f"{name} {i}",
            "generator_2": name,
            "preference": p,
        }
        for i, p in enumerate(preferences)
    ]
    folder.mkdir(exist_ok=True)
    with gzip.open(folder / f"{name}.json.gz", "wt") as file:
        json.dump(rows, file)


def test_alpaca_eval_pairs_have_the_judges_probability_as_alpha(tmp_path: Path) -> None:
    alpaca_eval(tmp_path / "alpaca_eval", "a", [1.2, 1.9])
    first, second = datasets.load("alpaca-eval", tmp_path)
    assert (first.alpha, second.alpha) == (pytest.approx(0.8), pytest.approx(0.1))
    assert (first.pair.chosen, second.pair.chosen) == (" base", " a 1")


def test_alpaca_eval_files_join_into_rankings_of_the_baseline_and_every_model(tmp_path: Path) -> None:
    alpaca_eval(tmp_path / "alpaca_eval", "a", [1.2, 1.5])
    alpaca_eval(tmp_path / "alpaca_eval", "b", [1.7, 1.9])
    first, second = datasets.load("alpaca-eval-rankings", tmp_path)
    assert first == Ranking(asked("task 0"), (" base", " a 0", " b 0"), (1, 2, 0))
    assert second.ranks == (1, 1, 0) and second.tied
    with pytest.raises(PrefdynError, match="GitHub"):
        datasets.load("alpaca-eval", "hub")


def panda(votes: Sequence[int], **change: Any) -> dict[str, Any]:
    about = {"idx": 0, "motivation_app": "m", "cmp_key": "a_b", "instruction": "Sing.", "input": ""}
    said = {"response1": "la", "response2": "do re"}
    return {**about, **said, **{f"annotator{i}": vote for i, vote in enumerate(votes, 1)}, **change}


def write_pandalm(folder: Path, rows: Sequence[Any]) -> None:
    folder.joinpath("pandalm").mkdir(exist_ok=True)
    folder.joinpath("pandalm", "testset-v1.json").write_text(json.dumps(rows))


def test_pandalm_counts_three_votes_of_which_alike_is_half_for_either(tmp_path: Path) -> None:
    rows = [panda([1, 1, 1]), panda([2, 2, 1], input="A hymn."), panda([0, 0, 2]), panda([0, 0, 0])]
    write_pandalm(tmp_path, rows)
    agree, mostly, nearly, tie = datasets.load("pandalm", tmp_path)
    assert agree == Ranking(asked("Sing."), (" la", " do re"), (0, 1), 1.0)
    assert mostly == Ranking(asked("Sing.\n\nA hymn."), (" la", " do re"), (1, 0), pytest.approx(1 / 3))
    assert nearly.alpha == pytest.approx(1 / 3) and nearly.pair.chosen == " do re"
    assert tie.alpha == 0.5 and tie.tied


def test_pandalm_rows_without_text_are_skipped_and_counted(tmp_path: Path) -> None:
    write_pandalm(tmp_path, [panda([1, 1, 2]), panda([1, 1, 1], response2=True), panda([2, 0, 2])])
    with pytest.warns(UserWarning, match="1 rows with a response that is no text"):
        assert len(datasets.load("pandalm", tmp_path)) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotator2": 3}, r"row 1: the votes are \[1, 3, 1\], each must be 1, 2 or 0"),
        ({"annotator3": True}, "'annotator3' is a bool, it must be a int"),
        ({"response1": None}, "'response1' is a NoneType"),
        ({"input": 4}, "'input' is a int"),
    ],
)
def test_pandalm_of_another_schema_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_pandalm(tmp_path, [panda([1, 1, 1], **change)])
    with pytest.raises(PrefdynError, match=message):
        datasets.load("pandalm", tmp_path)


def bar(label: int) -> dict[str, Any]:
    return {"input": "Name a tree.", "output_1": "An oak.", "output_2": "I like trees!", "label": label}


def write_llmbar(folder: Path, part: str, rows: Sequence[Any]) -> None:
    path = folder / "llmbar" / part / "dataset.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(rows))


def test_llmbar_prefers_the_output_that_its_label_names(tmp_path: Path) -> None:
    write_llmbar(tmp_path, "Natural", [bar(1), bar(2)])
    write_llmbar(tmp_path, "Adversarial/Neighbor", [bar(2)])
    write_llmbar(tmp_path, "Adversarial/GPTOut", [bar(1)])
    assert datasets.available(tmp_path) == ["llmbar-natural", "llmbar-adversarial"]
    first, second = datasets.load("llmbar-natural", tmp_path)
    assert first == Ranking(asked("Name a tree."), (" An oak.", " I like trees!"), (0, 1))
    assert second.pair.chosen == " I like trees!"
    both = datasets.load("llmbar-adversarial", tmp_path)
    assert [one.ranks for one in both] == [(1, 0), (0, 1)]
    assert datasets.load("llmbar-adversarial:Adversarial_GPTOut", tmp_path) == both[1:]


def test_llmbar_says_what_is_wrong(tmp_path: Path) -> None:
    write_llmbar(tmp_path, "Natural", [bar(1), bar(0)])
    with pytest.raises(PrefdynError, match=r"row 2: the field 'label' is 0, it must be 1 or 2"):
        datasets.load("llmbar-natural", tmp_path)
    with pytest.raises(PrefdynError, match="no split 'Neighbour': choose from Adversarial_Neighbor"):
        datasets.load("llmbar-adversarial:Neighbour", tmp_path)
    with pytest.raises(PrefdynError, match=r"dataset\.json: no such file"):
        datasets.load("llmbar-adversarial", tmp_path)
    for name in ("llmbar-natural", "pandalm"):
        with pytest.raises(PrefdynError, match=r"holds? "):
            datasets.load(name, "sample")
    with pytest.raises(PrefdynError, match=r"GitHub repository: give a folder that holds pandalm"):
        datasets.load("pandalm", "hub")


def test_hh_rlhf_and_the_sample(tmp_path: Path) -> None:
    folder = tmp_path / "hh-rlhf" / "harmless-base"
    dialogue = "\n\nHuman: Why?\n\nAssistant:"
    write(
        folder,
        "test.jsonl",
        [
            {"chosen": dialogue + " So.", "rejected": dialogue + " No."},
            {"chosen": dialogue, "rejected": dialogue + " x"},
        ],
    )
    assert datasets.load("hh-rlhf", tmp_path) == [Ranking(dialogue, (" So.", " No."), (0, 1))]
    sample = datasets.load("sample")
    assert len(sample) >= 160 and all(one.alpha is not None for one in sample)
    reversed_ = [one for one in sample if one.ranks == (1, 0)]
    assert all(
        one.alpha < 0.5 and one.alpha_chosen > 0.5 and one.pair.chosen == one.responses[1]
        for one in reversed_
    )


def test_sources_say_what_they_hold(tmp_path: Path) -> None:
    write(tmp_path / "SHP", "test.jsonl", [shp(1)])
    alpaca_eval(tmp_path / "alpaca_eval", "a", [1.2])
    assert datasets.available(tmp_path) == ["shp", "alpaca-eval", "alpaca-eval-rankings"]
    assert datasets.available("sample") == ["sample"] and "ultrafeedback" in datasets.available("hub")


def test_publishers_files(shared_data: Path) -> None:
    assert {"hh-rlhf", "alpaca-eval", "alpaca-eval-rankings"} <= set(datasets.available(shared_data))
    voted = datasets.load("pandalm", shared_data)
    # Of 999 pairs six hold no text and 54 an empty response, which `load` leaves out everywhere.
    assert 930 < len(voted) <= 993 and {round(one.alpha * 6) for one in voted} == {0, 1, 2, 3, 4, 5, 6}
    sizes = [len(datasets.load(f"llmbar-{part}", shared_data)) for part in ("natural", "adversarial")]
    assert sizes == [100, 134 + 92 + 47]
    joined = datasets.load("alpaca-eval-rankings", shared_data)
    assert len(joined) == 805 and {len(one.responses) for one in joined} == {4}
    pairs = datasets.load("alpaca-eval", shared_data, limit=50, seed=3)
    assert len(pairs) == 50 and all(0 <= one.alpha <= 1 for one in pairs)
    assert (
        pairs
        == datasets.load("alpaca-eval", shared_data, limit=50, seed=3)
        != datasets.load("alpaca-eval", shared_data, limit=50, seed=4)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": None}, "'answers' is a NoneType"),
        ({"question": 3}, "'question' is a int"),
        ({"answers": [{"text": "x"}]}, "'pm_score' is missing"),
        ({"answers": [{"text": "x", "pm_score": float("nan")}]}, "'pm_score' is NaN"),
        ({"answers": [{"text": "\ud800", "pm_score": 1}]}, "'text' holds half a character"),
        ({"question": "q\udfff"}, "'question' holds half a character"),
    ],
)
def test_row_of_another_schema_is_named(change: dict[str, Any], message: str) -> None:
    row = {"question": "q", "answers": [answer("x", 1), answer("y", 2)], **change}
    with pytest.raises(PrefdynError, match=f"here, row 1: the field {message}"):
        list(rankings.stack_exchange([(1, row)], "here"))


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(PrefdynError, match="no data set 'shq': choose from sample, hh-rlhf"):
        datasets.load("shq", tmp_path)
    with pytest.raises(PrefdynError, match="must hold the files of the hub's stanfordnlp/SHP"):
        datasets.load("shp", tmp_path)
    write(tmp_path / "SHP", "test.jsonl", [shp(1)])
    with pytest.raises(PrefdynError, match="cannot read the split 'nosuch'"):
        datasets.load("shp:nosuch", tmp_path)
    (tmp_path / "alpaca_eval").mkdir()
    (tmp_path / "alpaca_eval" / "a.json.gz").write_bytes(b"\x1f\x8b garbage")
    with pytest.raises(PrefdynError, match="the file is damaged"):
        datasets.load("alpaca-eval", tmp_path)
    for content in (b'[{"preference": ' + b"1" * 5000 + b"}]", b"[" * 100_000):
        (tmp_path / "alpaca_eval" / "a.json.gz").write_bytes(gzip.compress(content))
        with pytest.raises(PrefdynError, match="the file is damaged"):
            datasets.load("alpaca-eval", tmp_path)


def test_fingerprint_follows_the_content() -> None:
    one = Ranking("p", ("a", "b"), (0, 1))
    assert data.fingerprint([one]) == data.fingerprint([Ranking("p", ("a", "b"), (0, 1))])
    others = [
        Ranking("p", ("a", "b"), (1, 0)),
        Ranking("p", ("b", "a"), (0, 1)),
        Ranking("p", ("a", "b"), (0, 1), 0.9),
    ]
    assert len({data.fingerprint([other]) for other in [one, *others]}) == 4


def test_scores_become_ranks() -> None:
    assert rankings.from_scores("p", ["a", "b", "c"], [np.float64(2), 9, 2]).ranks == (1, 0, 1)
