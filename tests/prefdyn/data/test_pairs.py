"""Response pairs: those of the sample, of HH-RLHF and of the hub; dialogues; bad input."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from published import TURNS, lines, write_pairs
from scipy.special import expit

from prefdyn import data
from prefdyn.data import Pair, rankings
from prefdyn.errors import PrefdynError


def test_sample_has_160_different_pairs_with_two_different_responses() -> None:
    pairs = data.load_pairs()
    assert len(pairs) >= 160
    assert len({(pair.prompt, pair.chosen, pair.rejected) for pair in pairs}) == len(pairs)
    assert all(
        pair.chosen.strip() and pair.rejected.strip() and pair.chosen != pair.rejected for pair in pairs
    )


def test_sample_votes_are_bradley_terry_draws_of_the_stated_seed() -> None:
    path = data.SAMPLE / "hh-rlhf" / "helpful-sample" / "test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    ours, plain = np.random.default_rng(20240529), np.random.default_rng(20240529)
    for row in rows:
        written = (row["votes_chosen"], row["votes_rejected"])
        assert data.simulate_votes(row["quality_chosen"], row["quality_rejected"], 25, ours) == written
        drawn = plain.binomial(25, expit(row["quality_chosen"] - row["quality_rejected"]))
        assert written == (drawn, 25 - drawn)
    assert [pair.votes for pair in data.load_pairs()] == [
        (row["votes_chosen"], row["votes_rejected"]) for row in rows
    ]


def test_hh_rlhf_keeps_every_row_whose_prompts_agree_and_loses_no_text(shared_data: Path) -> None:
    with gzip.open(shared_data / "hh-rlhf" / "harmless-base" / "test.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == 2312
    turn = re.compile(r"^(.*\n\nAssistant:)(.*?)$", re.DOTALL)
    kept = []
    for row in rows:
        chosen, rejected = turn.match(row["chosen"]), turn.match(row["rejected"])
        if chosen and rejected and chosen[1] == rejected[1]:
            kept.append(row)
    pairs = data.load_pairs(shared_data)
    assert 2000 < len(pairs) < 2312
    assert [(pair.prompt + pair.chosen, pair.prompt + pair.rejected) for pair in pairs] == [
        (row["chosen"], row["rejected"]) for row in kept
    ]
    assert all(
        pair.prompt.startswith("\n\nHuman:") and pair.prompt.endswith("\n\nAssistant:") for pair in pairs
    )
    assert not any("\n\nAssistant:" in pair.chosen + pair.rejected for pair in pairs)


def test_a_subset_is_read_once_from_its_plain_file(tmp_path: Path) -> None:
    plain = write_pairs(tmp_path, lines(TURNS).encode())
    stale = lines(TURNS, {**TURNS, "chosen": TURNS["chosen"] + " there"}).encode()
    plain.with_suffix(".jsonl.gz").write_bytes(gzip.compress(stale))
    plain.with_suffix(".jsonl.bak").write_bytes(stale)
    plain.with_suffix(".jsonl~").write_bytes(stale)
    assert [pair.chosen for pair in data.load_pairs(tmp_path)] == [" Hello"]
    plain.unlink()
    assert [pair.chosen for pair in data.load_pairs(tmp_path)] == [" Hello", " Hello there"]


def test_hub_pairs_are_those_of_all_subsets(hub: Path) -> None:
    for subset in ("harmless-base", "helpful-base"):
        for part in ("test", "train"):
            path = hub / "PAIRS_ON_HUB" / subset / f"{part}.jsonl.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            row = {key: f"{text} {subset} {part}" for key, text in TURNS.items()}
            other = {**row, "rejected": "\n\nHuman: Else\n\nAssistant: Go"}
            path.write_bytes(gzip.compress(lines(row, other).encode()))
    got = data.load_pairs("hub", "test")
    assert sorted(pair.chosen for pair in got) == [" Hello harmless-base test", " Hello helpful-base test"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"chosen": TURNS["chosen"]}, "line 2: the field 'rejected' is missing"),
        ({**TURNS, "chosen": []}, "line 2: the field 'chosen' is a list"),
        ({**TURNS, "votes_chosen": 3}, "line 2: the field 'votes_rejected' is None"),
        ({**TURNS, "votes_rejected": 3}, "line 2: the field 'votes_chosen' is None"),
        (
            {**TURNS, "votes_chosen": 3, "votes_rejected": "two"},
            "line 2: the field 'votes_rejected' is 'two'",
        ),
        ({**TURNS, "votes_chosen": -1, "votes_rejected": 2}, "line 2: the field 'votes_chosen' is -1"),
        ({**TURNS, "votes_chosen": True, "votes_rejected": 2}, "line 2: the field 'votes_chosen' is True"),
        ({**TURNS, "votes_chosen": 0, "votes_rejected": 0}, "line 2: a pair has the votes 0 and 0"),
        (
            {**TURNS, "chosen": TURNS["chosen"] + "a" * 10**6},
            f"line 2: the field 'chosen' has {10**6 + len(TURNS['chosen'])} characters, it may have 50000",
        ),
    ],
)
def test_malformed_pair_is_named_by_file_line_and_field(
    tmp_path: Path, row: dict[str, object], says: str
) -> None:
    path = write_pairs(tmp_path, lines(TURNS, row).encode())
    with pytest.raises(PrefdynError) as caught:
        data.load_pairs(tmp_path)
    assert str(path) in str(caught.value) and says in str(caught.value)


def test_dialogue_is_split_at_the_last_turn() -> None:
    start = "\n\nHuman: a\n\nAssistant: b\n\nHuman: say Assistant: now\n\nAssistant:"
    assert data.split_dialogues(start + " c", start + " d\nAssistant: e") == Pair(
        start, " c", " d\nAssistant: e"
    )


def test_dialogues_with_different_prompts_or_no_answer_are_no_pair() -> None:
    assert data.split_dialogues("\n\nHuman: a\n\nAssistant: c", "\n\nHuman: b\n\nAssistant: c") is None
    assert data.split_dialogues("\n\nHuman: a", "\n\nHuman: a") is None


def test_swapped_pair_takes_its_votes_along() -> None:
    assert Pair("p", "a", "b", (20, 5)).swapped() == Pair("p", "b", "a", (5, 20))
    assert Pair("p", "a", "b").swapped() == Pair("p", "b", "a", None)


def test_pair_on_which_nobody_voted_is_refused() -> None:
    with pytest.raises(PrefdynError, match="votes 0 and 0: leave them out"):
        Pair("p", "a", "b", (0, 0))
    assert rankings.from_pair(Pair("p", "a", "b", (0, 1))).alpha == 0
