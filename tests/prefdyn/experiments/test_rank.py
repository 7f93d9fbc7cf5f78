"""The command that ranks with any model: its table against counting by hand, its cache, its errors."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from prefbook import command_line as cli
from prefdyn.data import Ranking
from prefdyn.engine import scoring
from prefdyn.engine.scoring import ResponseLogProbs
from prefdyn.errors import PrefdynError
from prefdyn.experiments import rank
from prefdyn.measures.estimates import proportion
from prefdyn.models import loading

LETTERS = "".join(map(chr, range(32, 127)))


def scored(*totals: float, tokens: tuple[int, ...]) -> ResponseLogProbs:
    return ResponseLogProbs(np.array(totals), np.array(tokens))


def test_table_counts_what_is_right_with_and_without_ties() -> None:
    rankings = [Ranking("p", ("a", "b"), ranks) for ranks in [(0, 1), (0, 1), (1, 0), (0, 0)]]
    scores = [
        scored(-4, -6, tokens=(4, 2)),  # right in both ways: -1 against -3 a token
        scored(-9, -6, tokens=(9, 2)),  # wrong whole, right per token
        scored(-4, -6, tokens=(4, 2)),  # wrong in both
        scored(-400, -600, tokens=(4, 2)),  # tied, and both likelihoods are nearly 0
    ]
    table = rank.table(rankings, scores, "m", "d").set_index(["ties", "responses"])
    assert table.loc[("left out", "whole"), "accuracy"] == pytest.approx(1 / 3)
    assert table.loc[("left out", "per token"), "accuracy"] == pytest.approx(2 / 3)
    assert table.loc[("counted", "whole"), "accuracy"] == pytest.approx(2 / 4)
    assert table.loc[("left out", "whole"), "low"] == pytest.approx(proportion([1, 0, 0]).low)
    assert table["examples"].tolist() == [3, 3, 4, 4]
    assert table.loc[("counted", "whole"), "chance"] == pytest.approx(3 / 8)


def test_table_without_ties_has_two_rows() -> None:
    rankings = [Ranking("p", ("a", "b", "c"), (2, 0, 1))] * 3
    table = rank.table(rankings, [scored(-3, -1, -2, tokens=(1, 1, 1))] * 3, "m", "d")
    assert table["ties"].tolist() == ["none", "none"] and table["accuracy"].tolist() == [1.0, 1.0]
    assert table["chance"].iloc[0] == pytest.approx(1 / 6)


def test_command_prints_and_writes_the_table(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "rank",
        "smoke",
        "--data",
        "sample",
        "--limit",
        "12",
        "--max-length",
        "120",
        "--quiet",
        "--csv",
        str(tmp_path / "t.csv"),
    ]
    assert cli.main(words) == 0
    table = pd.read_csv(tmp_path / "t.csv")
    assert list(table.columns) == rank.COLUMNS and set(table["examples"]) == {12}
    assert "per token" in capsys.readouterr().out


def test_killed_run_goes_on_where_it_was(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = scoring.score

    @functools.wraps(real)  # the key covers the code of the module that it names
    def counted(*arguments: object) -> list[ResponseLogProbs]:
        calls.append(len(arguments[1]))  # type: ignore[arg-type]
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    def ranked() -> list[pd.DataFrame]:
        return list(rank.rank(["smoke"], ["sample"], limit=70, device="cpu", max_length=60, progress=False))

    monkeypatch.setattr(scoring, "score", counted)
    with pytest.raises(KeyboardInterrupt):
        ranked()
    (table,) = ranked()
    assert calls == [32, 32, 32, 6] and set(table["examples"]) == {70}  # the first part was kept
    ranked()
    assert len(calls) == 4


def broken_model(folder: Path, letters: str) -> str:
    """A model whose embeddings of some letters are no numbers."""
    lm = loading.load("smoke", device="cpu")
    model = LlamaForCausalLM(LlamaConfig(**{**lm.model.config.to_dict(), "tie_word_embeddings": False}))
    with torch.no_grad():
        model.get_input_embeddings().weight[lm.tokenizer(letters)["input_ids"]] = torch.nan
    model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("letters", "message"),
    [("e", "computes what is no number (NaN or infinite)"), (LETTERS, "its logits are NaN or infinite")],
    ids=["one letter", "all letters"],
)
def test_what_was_finished_is_shown_and_kept_when_a_later_model_fails(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], letters: str, message: str
) -> None:
    broken = broken_model(tmp_path / "broken", letters)
    capsys.readouterr()
    words = ["--data", "sample", "--limit", "8", "--quiet", "--csv", str(tmp_path / "new" / "t.csv")]
    assert cli.main(["rank", "smoke", broken, *words]) == 1
    said = capsys.readouterr()
    table = pd.read_csv(tmp_path / "new" / "t.csv")
    assert set(table["model"]) == {"smoke"} and set(table["examples"]) == {8}
    assert said.out.count("smoke") == len(table)
    error = said.err.splitlines()[-1]
    assert error.startswith("prefdyn: the model ") and message in error and "Traceback" not in said.err


def test_names_are_checked_before_anything_is_scored(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scoring, "score", lambda *_: pytest.fail("scored"))
    (tmp_path / "file").touch()
    for words, message in (
        (["smoke", "--data", "sample", "nosuch"], "there is no data set 'nosuch'"),
        (["smoke", str(tmp_path / "nowhere"), "--data", "sample"], "nowhere"),
        (["smoke", "--data", "sample", "--csv", str(tmp_path)], f"{tmp_path} cannot be written"),
        (["smoke", "--data", "sample", "--csv", str(tmp_path / "file" / "t.csv")], "cannot be written"),
    ):
        assert cli.main(["rank", *words, "--quiet"]) == 1
        said = capsys.readouterr()
        assert said.out == "" and message in said.err and said.err.count("\n") == 1, said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nosuch"], "there is no data set 'nosuch': choose from sample, hh-rlhf"),
        (["--data", "sample", "--limit", "-1"], "--limit is -1: it must be at least 0"),
        (
            ["--data", "shp", "--source", "/no/such/folder"],
            "must hold the files of the hub's stanfordnlp/SHP",
        ),
    ],
)
def test_errors_are_one_sentence(
    cache: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["rank", "smoke", *words, "--quiet"]) == 1
    assert message in capsys.readouterr().err


def test_no_data_set_is_an_error() -> None:
    with pytest.raises(PrefdynError, match="no data set is named"):
        next(rank.rank(["smoke"], []))
