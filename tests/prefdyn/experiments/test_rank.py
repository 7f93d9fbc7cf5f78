"""The command that ranks with any model: its table against counting by hand, its cache, its errors."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prefbook import command_line as cli
from prefdyn.data import Ranking
from prefdyn.engine import scoring
from prefdyn.engine.scoring import ResponseLogProbs
from prefdyn.errors import PrefdynError
from prefdyn.experiments import rank
from prefdyn.measures.estimates import proportion


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

    monkeypatch.setattr(scoring, "score", counted)
    with pytest.raises(KeyboardInterrupt):
        rank.rank(["smoke"], ["sample"], limit=70, device="cpu", max_length=60, progress=False)
    table = rank.rank(["smoke"], ["sample"], limit=70, device="cpu", max_length=60, progress=False)
    assert calls == [32, 32, 32, 6] and set(table["examples"]) == {70}  # the first part was kept
    rank.rank(["smoke"], ["sample"], limit=70, device="cpu", max_length=60, progress=False)
    assert len(calls) == 4


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
        rank.rank(["smoke"], [])
