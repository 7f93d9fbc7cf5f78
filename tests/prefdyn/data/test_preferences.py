"""Preferences: the embedded sample, the publishers' files, the hub, bad input, splits and noise."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom, binomtest

from prefdyn import data
from prefdyn.data import Pair, Persona
from prefdyn.errors import PrefdynError

YES = {"statement": "I like rain", "answer_matching_behavior": " Yes"}
NO = {"statement": "I like sun", "answer_matching_behavior": " No"}
TURNS = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: Go"}


def lines(*rows: object) -> str:
    return "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)


def write_persona(root: Path, content: str | bytes, name: str = "bad") -> Path:
    path = root / "anthropic-evals" / "persona" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_pairs(root: Path, content: bytes, name: str = "test.jsonl") -> Path:
    path = root / "hh-rlhf" / "some-base" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def make_persona(positive: int, negative: int) -> Persona:
    labels = np.array([1] * positive + [-1] * negative, dtype=np.int8)
    labels = np.random.default_rng(7).permutation(labels)
    return Persona("made", tuple(f"statement {i}" for i in range(len(labels))), labels)


# The embedded sample ------------------------------------------------------------------------------


def test_sample_has_sixteen_personas_of_forty_statements_of_each_label() -> None:
    names = data.persona_names()
    assert len(names) >= 16
    for name in names:
        count = Counter(data.load_persona(name).labels.tolist())
        assert count[1] >= 40 and count[-1] >= 40, name


def test_sample_repeats_no_statement_in_any_persona() -> None:
    said = Counter(
        " ".join(re.findall(r"\w+", text.lower()))
        for name in data.persona_names()
        for text in data.load_persona(name).statements
    )
    assert [text for text, count in said.items() if count > 1] == []


def test_sample_labels_are_those_of_its_files() -> None:
    for path in sorted((data.SAMPLE / data.PERSONA_FOLDER).glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        persona = data.load_persona(path.stem)
        assert persona.statements == tuple(row["statement"] for row in rows)
        assert persona.labels.tolist() == [
            {" Yes": 1, " No": -1}[row["answer_matching_behavior"]] for row in rows
        ]
        asked = [row.get("question", question) for row, question in zip(rows, persona.questions, strict=True)]
        assert persona.questions == asked


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


# Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lines(YES, '{"statement": "cut\n'), "line 2: not valid JSON"),
        (
            lines(YES, "\n", {"statement": "I like snow"}),
            "line 3: the field 'answer_matching_behavior' is missing",
        ),
        (lines(YES, {**NO, "statement": 7}), "line 2: the field 'statement' is a int, it must be a str"),
        (
            lines({**YES, "answer_matching_behavior": None}),
            "line 1: the field 'answer_matching_behavior' is a NoneType",
        ),
        (
            lines(YES, {**NO, "answer_matching_behavior": "Maybe"}),
            "line 2: the field 'answer_matching_behavior' is 'Maybe'",
        ),
        (
            lines(YES, ["statement"]),
            "line 2: expected a JSON object with statement, answer_matching_behavior",
        ),
        ("", "the file is empty"),
        ("\n \n", "the file is empty"),
        (b"\xff\xfe\x00", "the file is damaged"),
        (lines(YES, {**YES, "statement": "I like fog"}), "'bad' needs statements of both labels"),
    ],
)
def test_malformed_persona_is_named_by_file_line_and_field(
    tmp_path: Path, content: str | bytes, says: str
) -> None:
    path = write_persona(tmp_path, content)
    with pytest.raises(PrefdynError) as caught:
        data.load_persona("bad", tmp_path)
    assert str(path) in str(caught.value) and says in str(caught.value)
    assert "\n" not in str(caught.value)


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
    ],
)
def test_malformed_pair_is_named_by_file_line_and_field(
    tmp_path: Path, row: dict[str, object], says: str
) -> None:
    path = write_pairs(tmp_path, lines(TURNS, row).encode())
    with pytest.raises(PrefdynError) as caught:
        data.load_pairs(tmp_path)
    assert str(path) in str(caught.value) and says in str(caught.value)


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    rows = lines(*({**TURNS, "number": i} for i in range(2000)))
    whole = gzip.compress(rows.encode())
    cut, wrong_size, no_such_block = (
        whole[: len(whole) // 2],
        whole[:-4] + b"\0\0\0\0",
        whole[:10] + b"\xff" + whole[11:],
    )
    for content in (cut, wrong_size, no_such_block, b"no gzip at all"):
        path = write_pairs(tmp_path, content, "test.jsonl.gz")
        with pytest.raises(PrefdynError, match="damaged after line") as caught:
            data.load_pairs(tmp_path)
        assert str(path) in str(caught.value)
    write_pairs(tmp_path, whole, "test.jsonl.gz")
    assert len(data.load_pairs(tmp_path)) == 2000


def test_unknown_persona_is_told_the_nearest_names(tmp_path: Path) -> None:
    for name in ("likes-rivers", "likes-lakes", "hates-fog"):
        write_persona(tmp_path, lines(YES, NO), name)
    with pytest.raises(PrefdynError, match=r"'likes-river'.*did you mean likes-rivers.*3 in all"):
        data.load_persona("likes-river", tmp_path)


def test_unknown_folder_and_folder_without_data_are_named(tmp_path: Path) -> None:
    for load in (data.persona_names, data.load_pairs):
        with pytest.raises(PrefdynError, match=re.escape(str(tmp_path / "nowhere"))):
            load(tmp_path / "nowhere")
    (tmp_path / "anthropic-evals" / "persona").mkdir(parents=True)
    with pytest.raises(PrefdynError, match="no persona there"):
        data.persona_names(tmp_path)
    write_pairs(tmp_path, lines(TURNS).encode(), "train.jsonl")
    with pytest.raises(PrefdynError, match=r"no file SUBSET/test\.jsonl"):
        data.load_pairs(tmp_path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrefdynError, match=r"gone\.jsonl: no such file"):
        next(data.read_jsonl(tmp_path / "gone.jsonl", {}))


# Dialogues ----------------------------------------------------------------------------------------


def test_dialogue_is_split_at_the_last_turn() -> None:
    start = "\n\nHuman: a\n\nAssistant: b\n\nHuman: say Assistant: now\n\nAssistant:"
    assert data.split_dialogues(start + " c", start + " d\nAssistant: e") == Pair(
        start, " c", " d\nAssistant: e"
    )


def test_dialogues_with_different_prompts_or_no_answer_are_no_pair() -> None:
    assert data.split_dialogues("\n\nHuman: a\n\nAssistant: c", "\n\nHuman: b\n\nAssistant: c") is None
    assert data.split_dialogues("\n\nHuman: a", "\n\nHuman: a") is None


def test_pair_flips_with_its_votes() -> None:
    assert Pair("p", "a", "b", (20, 5)).swapped() == Pair("p", "b", "a", (5, 20))
    assert Pair("p", "a", "b").swapped() == Pair("p", "b", "a", None)


# The publishers' files, and the hub ---------------------------------------------------------------


def test_all_135_personas_load_and_129_have_500_of_each_label(shared_data: Path) -> None:
    names = data.persona_names(shared_data)
    counts = [Counter(data.load_persona(name, shared_data).labels.tolist()) for name in names]
    assert len(names) == 135
    assert sum(count == {1: 500, -1: 500} for count in counts) == 129
    assert all(count[1] == count[-1] for count in counts)


def test_published_question_is_our_template(shared_data: Path) -> None:
    path = shared_data / "anthropic-evals" / "persona" / "risk-seeking.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert data.load_persona("risk-seeking", shared_data).questions == [row["question"] for row in rows]


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


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the layout of the hub's two datasets, in their place."""
    import datasets
    import huggingface_hub

    def files(repository: str, repo_type: str) -> list[str]:
        assert repo_type == "dataset"
        return sorted(
            str(path.relative_to(repository)) for path in Path(repository).rglob("*") if path.is_file()
        )

    for constant in ("PERSONAS_ON_HUB", "PAIRS_ON_HUB"):
        monkeypatch.setattr(data, constant, str(tmp_path / constant))
    monkeypatch.setattr(huggingface_hub, "list_repo_files", files)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    return tmp_path


def test_hub_personas_are_those_of_the_same_files_in_a_folder(hub: Path) -> None:
    local = data.persona_names()[:2]
    (hub / "PERSONAS_ON_HUB" / "persona").mkdir(parents=True)
    (hub / "PERSONAS_ON_HUB" / "README.md").write_text("card")
    for name in local:
        content = (data.SAMPLE / data.PERSONA_FOLDER / f"{name}.jsonl").read_text()
        (hub / "PERSONAS_ON_HUB" / "persona" / f"{name}.jsonl").write_text(content)
    assert data.persona_names("hub") == local
    for name in local:
        assert data.fingerprint([data.load_persona(name, "hub")]) == data.fingerprint(
            [data.load_persona(name)]
        )
    with pytest.raises(PrefdynError, match="did you mean"):
        data.load_persona("no-such-persona", "hub")


def test_unreachable_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "list_repo_files", fail)
    monkeypatch.setattr(datasets, "load_dataset", fail)
    for load in (data.persona_names, data.load_pairs):
        with pytest.raises(
            PrefdynError, match=r"cannot be fetched from the hub \(no route\): check the network"
        ):
            load("hub")


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


# Using --------------------------------------------------------------------------------------------


@given(st.integers(2, 60), st.integers(2, 60), st.integers(0, 2**31))
def test_split_is_disjoint_complete_stratified_and_repeatable(
    positive: int, negative: int, seed: int
) -> None:
    persona = make_persona(positive, negative)
    train, test = data.split(persona, seed)
    label = dict(zip(persona.statements, persona.labels.tolist(), strict=True))
    assert sorted(train.statements + test.statements) == sorted(persona.statements)
    for part in (train, test):
        assert [label[text] for text in part.statements] == part.labels.tolist()
    for sign, count in ((1, positive), (-1, negative)):
        assert abs((test.labels == sign).sum() - max(1, count / 10)) <= 0.5
    again = data.split(persona, seed)
    assert (again[0].statements, again[1].statements) == (train.statements, test.statements)


def test_split_of_a_sample_persona_is_90_to_10_and_depends_on_the_seed() -> None:
    persona = data.load_persona(data.persona_names()[0])
    parts = [data.split(persona, seed) for seed in (0, 1)]
    assert {(len(train.labels), len(test.labels), int(test.labels.sum())) for train, test in parts} == {
        (72, 8, 0)
    }
    assert set(parts[0][1].statements) != set(parts[1][1].statements)
    assert len(set(parts[0][0].labels[:10].tolist())) == 2, "labels come mixed, not in blocks"


def test_split_without_enough_statements_stops() -> None:
    with pytest.raises(PrefdynError, match="too few statements"):
        data.split(make_persona(1, 5), 0)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.9])
def test_flip_labels_flips_a_binomial_share_of_each_label(rate: float) -> None:
    labels = np.repeat(np.array([1, -1], dtype=np.int8), 10_000)
    flipped = data.mislabel(labels, rate, seed=3) != labels
    for half in (flipped[:10_000], flipped[10_000:]):
        assert binomtest(int(half.sum()), len(half), rate).pvalue > 1e-4


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**31))
def test_larger_rate_flips_a_superset(one: float, other: float, seed: int) -> None:
    labels = make_persona(40, 40).labels
    few, many = (data.mislabel(labels, rate, seed) != labels for rate in sorted((one, other)))
    assert not (few & ~many).any()


def test_flip_labels_at_rates_zero_and_one() -> None:
    labels = make_persona(30, 20).labels
    assert (data.mislabel(labels, 0.0, 1) == labels).all()
    assert (data.mislabel(labels, 1.0, 1) == -labels).all()


def test_votes_follow_the_bradley_terry_probability() -> None:
    rng = np.random.default_rng(0)
    votes = [data.simulate_votes(1.5, 0.5, 25, rng) for _ in range(4000)]
    assert {chosen + rejected for chosen, rejected in votes} == {25}
    assert binomtest(sum(chosen for chosen, _ in votes), 25 * 4000, 1 / (1 + np.exp(-1.0))).pvalue > 1e-4
    spread = np.var([chosen for chosen, _ in votes])
    assert spread == pytest.approx(binom(25, 1 / (1 + np.exp(-1.0))).var(), rel=0.1)


def test_balanced_keeps_the_first_of_each_label_in_the_files_order() -> None:
    labels = np.array([1, 1, -1, 1, -1, -1, 1], dtype=np.int8)
    persona = Persona("made", tuple("abcdefg"), labels)
    kept = persona.balanced(2)
    assert kept.statements == tuple("abce") and kept.labels.tolist() == [1, 1, -1, -1]
    assert persona.balanced(9).statements == persona.statements


def test_flipped_persona_turns_every_label() -> None:
    persona = make_persona(3, 4)
    assert persona.opposite().labels.tolist() == (-persona.labels).tolist()
    assert persona.opposite().statements == persona.statements


def test_fingerprint_tells_content_apart_and_nothing_else() -> None:
    persona, pair = make_persona(3, 4), Pair("p", "a", "b", (3, 2))
    same = Persona("made", tuple(persona.statements), persona.labels.astype(np.int64))
    assert data.fingerprint([persona, pair]) == data.fingerprint([same, Pair("p", "a", "b", (3, 2))])
    others = (
        [persona.opposite(), pair],
        [pair, persona],
        [persona, pair.swapped()],
        [persona, Pair("p", "a", "b")],
        [persona],
    )
    assert len({data.fingerprint(items) for items in ([persona, pair], *others)}) == 6
