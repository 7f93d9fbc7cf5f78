"""Files that are missing, damaged or out of reach: one sentence names them."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from published import TURNS, lines, write_pairs

from prefdyn import data
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


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrefdynError, match=r"gone\.jsonl: no such file"):
        next(read_jsonl(tmp_path / "gone.jsonl", {}))


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
