"""Personas: those of the sample, of the publishers' files and of the hub; bad input; splits."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published import NO, YES, lines, make_persona, write_persona

from prefdyn import data
from prefdyn.data import Persona
from prefdyn.data.personas import PERSONA_FOLDER
from prefdyn.errors import PrefdynError


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
    for path in sorted((data.SAMPLE / PERSONA_FOLDER).glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        persona = data.load_persona(path.stem)
        assert persona.statements == tuple(row["statement"] for row in rows)
        assert persona.labels.tolist() == [
            {" Yes": 1, " No": -1}[row["answer_matching_behavior"]] for row in rows
        ]
        asked = [row.get("question", question) for row, question in zip(rows, persona.questions, strict=True)]
        assert persona.questions == asked


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


def test_hub_personas_are_those_of_the_same_files_in_a_folder(hub: Path) -> None:
    local = data.persona_names()[:2]
    (hub / "PERSONAS_ON_HUB" / "persona").mkdir(parents=True)
    (hub / "PERSONAS_ON_HUB" / "README.md").write_text("card")
    for name in local:
        content = (data.SAMPLE / PERSONA_FOLDER / f"{name}.jsonl").read_text()
        (hub / "PERSONAS_ON_HUB" / "persona" / f"{name}.jsonl").write_text(content)
    assert data.persona_names("hub") == local
    for name in local:
        assert data.fingerprint([data.load_persona(name, "hub")]) == data.fingerprint(
            [data.load_persona(name)]
        )
    with pytest.raises(PrefdynError, match="did you mean"):
        data.load_persona("no-such-persona", "hub")


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
        (lines(YES, {**NO, "statement": " "}), "line 2: the statement is empty"),
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


def test_unknown_persona_is_told_the_nearest_names(tmp_path: Path) -> None:
    for name in ("likes-rivers", "likes-lakes", "hates-fog"):
        write_persona(tmp_path, lines(YES, NO), name)
    with pytest.raises(PrefdynError, match=r"'likes-river'.*did you mean likes-rivers.*3 in all"):
        data.load_persona("likes-river", tmp_path)


@pytest.mark.parametrize("name", ["7", "1e3", "NA", "null", "nan", "True"])
def test_a_name_that_a_table_would_not_give_back_is_refused(tmp_path: Path, name: str) -> None:
    write_persona(tmp_path, lines(YES, NO), name)
    with pytest.raises(PrefdynError, match=f"cannot hold '{name}' as a name, rename {name}.jsonl"):
        data.persona_names(tmp_path)


def test_balanced_keeps_the_first_of_each_label_in_the_files_order() -> None:
    labels = np.array([1, 1, -1, 1, -1, -1, 1], dtype=np.int8)
    persona = Persona("made", tuple("abcdefg"), labels)
    kept = persona.balanced(2)
    assert kept.statements == tuple("abce") and kept.labels.tolist() == [1, 1, -1, -1]
    assert persona.balanced(9).statements == persona.statements


def test_opposite_persona_turns_every_label() -> None:
    persona = make_persona(3, 4)
    assert persona.opposite().labels.tolist() == (-persona.labels).tolist()
    assert persona.opposite().statements == persona.statements


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


def test_statements_are_drawn_by_the_seed_as_many_of_each_label() -> None:
    persona = data.load_persona(data.persona_names()[0])
    drawn = [persona.drawn(9, seed) for seed in (0, 0, 1)]
    assert drawn[0].statements == drawn[1].statements != drawn[2].statements
    for one in drawn:
        assert Counter(one.labels.tolist()) == {1: 9, -1: 9}
        places = [persona.statements.index(text) for text in one.statements]
        assert places == sorted(places) and len(set(places)) == 18
        assert (persona.labels[places] == one.labels).all()
    assert persona.drawn(10**6, 3).statements == persona.statements == persona.drawn(0, 3).statements
    fewer = np.flatnonzero(persona.labels == 1)[5:]
    uneven = persona.subset(np.concatenate([fewer, np.flatnonzero(persona.labels == -1)]))
    for asked in (0, 10**6):
        assert Counter(uneven.drawn(asked, 3).labels.tolist()) == {1: len(fewer), -1: len(fewer)}
