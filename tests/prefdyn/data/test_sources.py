"""Files that are missing, damaged or out of reach: one sentence names them."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import hub_server
import pytest
from published import NO, TURNS, YES, lines, write_pairs, write_persona

from prefdyn import data
from prefdyn.data.pairs import PAIRS_ON_HUB
from prefdyn.data.personas import PERSONA_FOLDER, PERSONAS_ON_HUB
from prefdyn.data.sources import read_jsonl
from prefdyn.errors import PrefdynError


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


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (r'{"statement": "half \ud800", "answer_matching_behavior": " Yes"}', "'statement' holds half a"),
        ('{"statement": ' + "1" * 5000 + ', "answer_matching_behavior": " Yes"}', "not valid JSON .*4300"),
        ("[" * 100_000, "not valid JSON"),
        (
            f'{{"statement": "{"a" * 10**6}", "answer_matching_behavior": " No"}}',
            "1000000 characters, it may",
        ),
    ],
    ids=["half a character", "5,000 digits", "brackets", "a million characters"],
)
def test_lines_that_json_allows_and_nobody_can_use_are_named(tmp_path: Path, line: str, says: str) -> None:
    path = write_persona(tmp_path, lines(YES, NO) + line + "\n", "odd")
    with pytest.raises(PrefdynError, match=rf"line 3: .*{says}") as caught:
        data.load_persona("odd", tmp_path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 400


def test_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    write_persona(tmp_path, lines(YES, NO), "fine")
    (tmp_path / PERSONA_FOLDER / "odd.jsonl").mkdir()
    with pytest.raises(PrefdynError, match=r"odd\.jsonl: the file cannot be read \(Is a directory\)"):
        data.load_persona("odd", tmp_path)
    (tmp_path / "hh-rlhf" / "some-base" / "test.jsonl").mkdir(parents=True)
    with pytest.raises(PrefdynError, match=r"test\.jsonl: the file cannot be read \(Is a directory\)"):
        data.load_pairs(tmp_path)


def test_file_whose_name_is_no_text_is_named(tmp_path: Path) -> None:
    write_persona(tmp_path, lines(YES, NO), "fine")
    odd = os.fsencode(tmp_path / PERSONA_FOLDER) + b"/odd-\xff.jsonl"
    with open(odd, "w") as file:
        file.write(lines(YES, NO))
    with pytest.raises(PrefdynError, match=r"the name of a file in .* holds half a character"):
        data.persona_names(tmp_path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrefdynError, match=r"gone\.jsonl: no such file"):
        next(read_jsonl(tmp_path / "gone.jsonl", {}))


def test_unreachable_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.setattr(datasets, "load_dataset", fail)
    for load in (data.persona_names, data.load_pairs):
        with pytest.raises(
            PrefdynError, match=r"cannot be fetched from the hub \(no route\): check the network"
        ):
            load("hub")


FROM_HUB = """
from prefdyn import data
from prefdyn.data import datasets

names = data.persona_names("hub")
print(*names)
print(data.fingerprint([data.load_persona(names[0], "hub")]))
print(data.fingerprint(data.load_pairs("hub")))
(ranking,) = datasets.load("alpaca-farm", "hub")
print(*ranking.responses)
"""
"""Reads from the hub all that is read from there in another way."""


def test_installed_clients_read_what_the_hub_publishes(tmp_path: Path) -> None:
    row = {"instruction": "Say", "input": "", "output_1": "a", "output_2": "b", "preference": 2}
    (tmp_path / "alpaca_farm_human_crossannotations.json").write_text(f"[{lines(row)}]")
    with hub_server.serving() as hub:
        hub.publish(f"datasets/{PERSONAS_ON_HUB}", data.SAMPLE / PERSONA_FOLDER.parent)
        hub.publish(f"datasets/{PAIRS_ON_HUB}", data.SAMPLE / "hh-rlhf")
        hub.publish("datasets/tatsu-lab/alpaca_eval", tmp_path)
        names, persona, pairs, responses = hub.run(FROM_HUB, tmp_path / "home").splitlines()
    local = data.persona_names()
    assert names.split() == local and persona == data.fingerprint([data.load_persona(local[0])])
    assert pairs == data.fingerprint(data.load_pairs()) and responses.split() == ["a", "b"]


PERSONAS_FROM_HUB = """
from prefdyn import data

print(data.fingerprint([data.load_persona(name, "hub") for name in data.persona_names("hub")]))
"""


def test_personas_that_were_fetched_are_read_without_a_network(tmp_path: Path) -> None:
    with hub_server.serving() as hub:
        hub.publish(f"datasets/{PERSONAS_ON_HUB}", data.SAMPLE / PERSONA_FOLDER.parent)
        first = hub.run(PERSONAS_FROM_HUB, tmp_path)
    offline = "import os\n\nos.environ['HF_HUB_OFFLINE'] = '1'\n"
    local = data.fingerprint([data.load_persona(name) for name in data.persona_names()])
    assert hub.run(offline + PERSONAS_FROM_HUB, tmp_path) == first == f"{local}\n"
