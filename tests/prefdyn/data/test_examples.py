"""Rows of one's own files and of RewardBench, in every form that is documented; what is none is named."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from published import lines

from prefdyn import data
from prefdyn.data import examples
from prefdyn.data.examples import Example
from prefdyn.errors import PrefdynError

ASK = {"prompt": "Tea?"}
USER = (("user", "Tea?"),)


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def one(row: dict[str, Any]) -> Example:
    return examples.example(row, "rows.jsonl, line 1")


@pytest.mark.parametrize(
    "row",
    [
        {**ASK, "chosen": "Yes", "rejected": "No"},
        {**ASK, "chosen": ["Yes"], "rejected": ["No"]},
        {**ASK, "responses": ["Yes", "No"], "ranks": [0, 1]},
        {**ASK, "responses": ["Yes", "No"], "ranks": [3, 7]},
        {
            "prompt": [message("user", "Tea?")],
            "chosen": [message("assistant", "Yes")],
            "rejected": [message("assistant", "No")],
        },
        {
            **ASK,
            "chosen": [message("user", "Tea?"), message("assistant", "Yes")],
            "rejected": [message("user", "Tea?"), message("assistant", "No")],
        },
    ],
    ids=["texts", "lists", "ranks", "other ranks", "messages", "whole conversations"],
)
def test_a_pair_in_every_form_is_the_same_example(row: dict[str, Any]) -> None:
    assert one(row) == Example(USER, ("Yes", "No"), (0, 1))


def test_best_of_four_ties_and_dialogues() -> None:
    row = {**ASK, "chosen": ["a", "b"], "rejected": ["c", "d"], "subset": "Ties", "id": "tied:3"}
    assert one(row) == Example(USER, ("a", "b", "c", "d"), (0, 0, 1, 1), subset="Ties", id="tied:3")
    assert examples.is_ties([one(row), one({**row, "id": "ref:3"})])
    assert not examples.is_ties([one({**row, "id": 3})])
    dialogue = "\n\nHuman: Tea?\n\nAssistant:"
    found = one({"prompt": dialogue, "chosen": " Yes", "rejected": " No", "id": 7})
    assert found == Example(USER, (" Yes", " No"), (0, 1), dialogue, id="7")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            {"chosen": "a", "rejected": "b"},
            "the field 'prompt' is missing, it must be a text or a list",
        ),
        ({"prompt": " ", "chosen": "a", "rejected": "b"}, "the field 'prompt' is empty"),
        ({"prompt": [], "chosen": "a", "rejected": "b"}, "the field 'prompt' is empty, it must be a text or"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "the field 'prompt' is a int"),
        (
            {"prompt": ["Tea?"], "chosen": "a", "rejected": "b"},
            "'prompt' holds what is no message: each",
        ),
        (
            {"prompt": [message("Human", "x")], "chosen": "a", "rejected": "b"},
            "each has a role .system",
        ),
        (
            {"prompt": [message("user", "x"), message("assistant", "y")], "chosen": "a", "rejected": "b"},
            "last message of the field 'prompt' is of the assistant, it must be of the user",
        ),
        (
            {"prompt": [message("user", "  ")], "chosen": "a", "rejected": "b"},
            "last message of the field 'prompt' is empty",
        ),
        (
            {**ASK, "chosen": [message("assistant", "a"), message("user", "thanks")], "rejected": "b"},
            "last message of the field 'chosen' is of the user, it must be of the assistant",
        ),
        ({**ASK, "chosen": "a"}, "the field 'rejected' is missing, it must be a text, or a list"),
        ({**ASK, "chosen": "a", "rejected": []}, "the field 'rejected' is empty"),
        ({**ASK, "chosen": "a", "rejected": "  "}, "a response in the field 'rejected' is empty"),
        ({**ASK, "chosen": 1.5, "rejected": "b"}, "the field 'chosen' is a float"),
        ({**ASK, "chosen": "a", "rejected": "half \ud800"}, "'rejected' holds half a character"),
        ({**ASK, "responses": ["a", "b"]}, "'ranks' must hold a whole number for each of at least two"),
        ({**ASK, "responses": ["a", "b"], "ranks": [0]}, "'ranks' must hold"),
        ({**ASK, "responses": ["a", "b"], "ranks": [0, -1]}, "'ranks' must hold"),
        ({**ASK, "responses": ["a", "b"], "ranks": [True, 1]}, "'ranks' must hold"),
        ({**ASK, "responses": ["a"], "ranks": [0]}, "at least two responses"),
    ],
)
def test_rows_that_are_none_are_named(row: dict[str, Any], says: str) -> None:
    with pytest.raises(PrefdynError, match=says) as caught:
        one(row)
    assert str(caught.value).startswith("rows.jsonl, line 1: ")


def test_own_files_are_read_plain_and_gzipped_and_drawn_by_the_seed(tmp_path: Path) -> None:
    rows = [{"prompt": f"Is it {i}?", "chosen": "Yes", "rejected": "No"} for i in range(20)]
    (tmp_path / "rows.jsonl").write_text(lines(*rows))
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines(*rows).encode()))
    plain, packed = (examples.load(str(tmp_path / f"rows.jsonl{end}")) for end in ("", ".gz"))
    assert plain == packed and [one.turns[0][1] for one in plain] == [row["prompt"] for row in rows]
    few, same, other = (examples.load(str(tmp_path / "rows.jsonl"), limit=5, seed=s) for s in (1, 1, 2))
    assert few == same != other and len(few) == 5 and set(few) <= set(plain)


def test_a_bad_line_is_named_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(lines({**ASK, "chosen": "Yes", "rejected": "No"}, {**ASK, "chosen": "Yes"}))
    with pytest.raises(PrefdynError, match=r"rows\.jsonl, line 2: the field 'rejected' is missing"):
        examples.load(str(path))
    with pytest.raises(PrefdynError, match=r"nowhere\.jsonl: no such file"):
        examples.load(str(tmp_path / "nowhere.jsonl"))


@pytest.mark.parametrize("name", ["sample:train", "alpaca-eval:foo", "alpaca-eval-rankings:x", "sample:"])
def test_splits_that_are_not_there_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(PrefdynError, match="has no splits, so there is no"):
        examples.load(name, tmp_path)


@pytest.mark.parametrize("split", ["*", "../test", "a b", ""])
def test_what_is_no_split_is_refused(split: str, tmp_path: Path) -> None:
    """A star would take the files of every split."""
    with pytest.raises(PrefdynError, match="is no name of a split of hh-rlhf: write one as in hh-rlhf:train"):
        examples.load(f"hh-rlhf:{split}", tmp_path)


def test_named_data_sets_are_those_that_chapters_read() -> None:
    found, pairs = examples.load("sample"), data.load_pairs("sample")
    assert [(one.dialogue, one.responses) for one in found] == [
        (pair.prompt, (pair.chosen, pair.rejected) if sum(pair.votes or (1, 0)) else ()) for pair in pairs
    ]
    assert [one.put("dialogue").prompt for one in found] == [pair.prompt for pair in pairs]


def test_questions_of_publishers_come_back_without_our_form(tmp_path: Path) -> None:
    folder = tmp_path / "synthetic-instruct-gptj-pairwise"
    folder.mkdir()
    (folder / "train.jsonl").write_text(
        lines({"prompt": "Name a tree.", "chosen": "An oak.", "rejected": "No."})
    )
    (found,) = examples.load("synthetic-instruct", tmp_path)
    assert found.turns == (("user", "Name a tree."),) and found.dialogue == ""
    assert found.put("dialogue").prompt == "\n\nHuman: Name a tree.\n\nAssistant:"
    assert found.put("none").prompt == "Name a tree."


def test_reward_bench_is_read_from_a_folder(tmp_path: Path) -> None:
    first = {"prompt": "Tea?", "chosen": "Yes", "rejected": "No", "subset": "refusals", "id": 1}
    second = {"prompt": "Tea?", "chosen": ["Yes"], "rejected": ["No", "x", "y"], "subset": "Math", "id": "9"}
    for name, split, row in (("reward-bench", "filtered", first), ("reward-bench-2", "test", second)):
        (tmp_path / name / "data").mkdir(parents=True)  # as a clone of the hub's has it
        pd.DataFrame([row]).to_parquet(tmp_path / name / "data" / f"{split}-00000-of-00001.parquet")
    assert examples.load("reward-bench:filtered", tmp_path) == [one(first)]
    assert examples.load("reward-bench-2", tmp_path) == [one(second)]
    with pytest.raises(PrefdynError, match="cannot read the split 'nosuch' there"):
        examples.load("reward-bench-2:nosuch", tmp_path)
    with pytest.raises(PrefdynError, match="it must hold the files of the hub's allenai/reward-bench"):
        examples.load("reward-bench", tmp_path / "empty")


@pytest.mark.parametrize(
    ("dialogues", "template", "says"),
    [
        ([""], "dialogue", r'questions have no form of their own and are put as "\n\nHuman: QUESTION'),
        ([""], "none", "bare questions"),
        (["\n\nHuman: Hi"], "dialogue", "prompts are dialogues as published"),
        (["\n\nHuman: Hi"], "none", "prompts are dialogues as published"),
        (["\n\nHuman: Hi"], "chat", "in each model's chat template"),
        (["", "\n\nHuman: Hi"], "none", "bare questions, and responses follow as they stand; 1 prompts are"),
    ],
)
def test_the_form_of_prompts_is_told(dialogues: list[str], template: Any, says: str) -> None:
    found = [examples.Example((("user", "Hi"),), ("a", "b"), (0, 1), dialogue) for dialogue in dialogues]
    assert says in examples.form(found, template)
