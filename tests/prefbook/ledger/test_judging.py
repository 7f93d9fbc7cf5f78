"""Verdicts follow from tables by the criteria that were declared before, and from nothing else."""

from __future__ import annotations

import json
import math
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefbook.ledger import judging
from prefbook.ledger.claims import load_claims
from prefbook.ledger.judging import Entry, judge
from prefbook.ledger.statistics import STATISTICS
from prefbook.ledger.tables import NotMeasured, Tables
from prefdyn.errors import PrefdynError

ROOT = Path(__file__).parents[3]
UP, DOWN, ACROSS = (2, 1, 3, 9), (-2, -3, -1, 9), (1, -1, 3, 9)
SMALL, ONE = (0.1, -0.1, 0.2, 99), (1, 1, 1, 9)
MISSING = (math.nan, math.nan, math.nan, 0)
Leave = Callable[..., None]


def judged(root: Path, leave: Leave, id_: str, **tables: object) -> Entry:
    leave(root / "runs" / "first", **tables)
    claim = load_claims(root / "book" / "claims.yml")[id_]
    return judge(claim, Tables(root / "runs" / "first"), "some edition")


@pytest.mark.parametrize(
    ("rise", "fall", "verdict"),
    [
        (UP, DOWN, "supported"),
        (UP, ACROSS, "inconclusive"),
        (UP, UP, "not supported"),
        (ACROSS, UP, "not supported"),
        (MISSING, DOWN, "inconclusive"),
        (SMALL, DOWN, "not supported"),
        (SMALL, ACROSS, "inconclusive"),
    ],
)
def test_claim_stands_with_all_its_statistics_and_falls_with_one(
    root: Path, leave: Leave, rise: object, fall: object, verdict: str
) -> None:
    assert judged(root, leave, "E-1", rise=rise, fall=fall)["verdict"] == verdict


@pytest.mark.parametrize(
    ("id_", "exceptions", "size", "verdict"),
    [
        ("I-1", (0, 0, 0, 9), DOWN, "checked"),
        ("I-1", ONE, DOWN, "violated"),
        ("I-1", MISSING, DOWN, "inconclusive"),
        ("T-1", (0, 0, 0, 9), DOWN, "holds here"),
        ("T-1", (0, 0, 0, 9), UP, "vacuous"),
        ("T-1", (0, 0, 0, 9), ACROSS, "conditions not met"),
        ("T-1", MISSING, DOWN, "conditions not met"),
        ("T-1", ONE, UP, "violated"),
    ],
)
def test_words_are_those_of_the_kind(
    root: Path, leave: Leave, id_: str, exceptions: object, size: object, verdict: str
) -> None:
    assert judged(root, leave, id_, exceptions=exceptions, size=size)["verdict"] == verdict


@pytest.mark.parametrize(
    ("id_", "table", "seeds", "verdict"),
    [
        ("E-1", "rise", [UP, UP], "supported"),
        ("E-1", "rise", [UP, ACROSS], "inconclusive"),
        ("E-1", "rise", [UP, DOWN], "inconclusive"),
        ("E-1", "rise", [DOWN, DOWN], "not supported"),
        ("I-1", "exceptions", [(0, 0, 0, 9), ONE], "violated"),
    ],
)
def test_seeds_have_to_agree(
    root: Path, leave: Leave, id_: str, table: str, seeds: list[object], verdict: str
) -> None:
    rest = {"rise": [UP] * 2, "fall": [DOWN] * 2, "exceptions": [(0, 0, 0, 9)] * 2, "size": [DOWN] * 2}
    entry = judged(root, leave, id_, **{**rest, table: seeds})
    assert entry["verdict"] == verdict
    assert [seed["seed"] for seed in entry["statistics"][0]["seeds"]] == [0, 1]
    assert entry["estimate"] == entry["statistics"][0]["seeds"][0]["estimate"]


def test_seed_to_come_is_left_out(root: Path, leave: Leave) -> None:
    folder = root / "runs" / "first"
    leave(folder, rise=[UP, UP, UP], fall=[DOWN])
    claim = load_claims(root / "book" / "claims.yml")["E-1"]
    (folder / "pending.txt").write_text("fall: 1 2\n")
    entry = judge(claim, Tables(folder), "some edition")
    assert entry["verdict"] == "supported"
    assert [[seed["seed"] for seed in part["seeds"]] for part in entry["statistics"]] == [[0, 1, 2], [0]]
    (folder / "pending.txt").write_text("fall: 0 1 2\n")
    with pytest.raises(NotMeasured):
        judge(claim, Tables(folder), "some edition")


def test_judged_claim_is_a_plain_object_with_every_field(root: Path, leave: Leave) -> None:
    entry = judged(root, leave, "E-1", rise=(2, 1, math.inf, 9))
    seed = {"seed": 0, "estimate": 2.0, "interval": [1.0, None], "n": 9, "outcome": "holds"}
    assert json.loads(json.dumps({**entry, "statistics": entry["statistics"][:1]})) == {
        "id": "E-1",
        "chapter": "first",
        "kind": "empirical",
        "sentence": "A sentence of E-1.",
        "paper": "someone2024",
        "place": "Section 3",
        "declared": "0abc123",
        "seen": "",
        "edition": "some edition",
        "model": "some model",
        "data": "sample",
        "profile": "smoke",
        "made": "2026-01-01 00:00 UTC",
        "verdict": "supported",
        "statistic": "rise",
        "estimate": 2.0,
        "interval": [1.0, None],
        "n": 9,
        "criterion": "interval above 0",
        "statistics": [
            {
                "statistic": "rise",
                "criterion": "interval above 0",
                "matters": 0.3,
                "n_for_power": 85,
                "estimate": 2.0,
                "interval": [1.0, None],
                "n": 9,
                "outcome": "holds",
                "verdict": "supported",
                "seeds": [seed],
            }
        ],
    }


def test_missing_table_and_missing_statistic_are_named(root: Path, leave: Leave) -> None:
    leave(root / "runs" / "first")
    claim = load_claims(root / "book" / "claims.yml")["E-1"]
    (root / "runs" / "first" / "fall.csv").unlink()
    with pytest.raises(PrefdynError, match=r"first/fall\.csv: no such table"):
        judge(claim, Tables(root / "runs" / "first"), "")
    del judging.STATISTICS["first"]["rise"]  # type: ignore[attr-defined]
    with pytest.raises(
        PrefdynError, match="E-1 asks for the statistic 'rise', and the chapter first has none"
    ):
        judge(claim, Tables(root / "runs" / "first"), "")


@pytest.mark.parametrize(
    ("statistic", "said"),
    [
        (lambda tables: tables["rise"][[f"column {i}" for i in range(99)]], "None of .*column 0"),
        (lambda tables: tables["fall"]["value"].iloc[0], "out-of-bounds; fall.csv has no rows"),
        (lambda tables: tables["rise"]["value"].astype(str) - 1, "sub"),
        (lambda tables: 1 / len(tables["fall"]), "division by zero; fall.csv has no rows"),
    ],
)
def test_tables_that_no_run_leaves_are_one_sentence(
    root: Path, leave: Leave, monkeypatch: pytest.MonkeyPatch, statistic: Any, said: str
) -> None:
    monkeypatch.setitem(judging.STATISTICS["first"], "rise", statistic)
    told = rf"runs/first: what the claim E-1 is judged by .*\(.*{said}.*\), .*: run it again"
    with pytest.raises(PrefdynError, match=told) as error:
        judged(root, leave, "E-1", fall=[])
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_table_has_a_row_for_each_statistic_and_names_the_claim_once(root: Path, leave: Leave) -> None:
    many = (1234, 1234, 1234, 5000)
    entries = [
        judged(root, leave, "E-1", rise=(2, 1, math.inf, 9), fall=(-1234, -3, -1, 9)),
        judged(root, leave, "I-1", exceptions=many),
    ]
    table = judging.table(entries)
    assert table["claim"].tolist() == ["E-1", "", "I-1"]
    assert table["kind"].tolist() == ["empirical", "", "identity"]
    assert table["verdict"].tolist() == ["supported", "", "violated"]
    assert table["estimate"].tolist() == ["2", "-1.23e+03", "1,234"], "a count is not rounded"
    assert table["95% interval"].tolist() == ["1 to none", "-3 to -1", "1,234 to 1,234"]
    assert table["criterion"].tolist() == ["interval above 0", "interval below 0", "no violation"]


# The book's own -----------------------------------------------------------------------------------

DECLARED = load_claims(ROOT / "book" / "claims.yml")


@pytest.mark.parametrize("id_", DECLARED)
def test_every_declared_statistic_is_a_function_with_words(id_: str) -> None:
    claim = DECLARED[id_]
    for statistic in claim.statistics:
        assert STATISTICS[claim.chapter][statistic.function].__doc__


def test_no_statistic_is_left_over() -> None:
    used = {(claim.chapter, part.function) for claim in DECLARED.values() for part in claim.statistics}
    assert {(chapter, name) for chapter, by_name in STATISTICS.items() for name in by_name} == used


@pytest.mark.skipif(
    not (ROOT / "results" / "reference").is_dir(),
    reason="no reference edition: `git checkout -- results/reference`",
)
def test_reference_is_judged_in_five_times_its_imports_without_torch() -> None:
    """Processors differ by a factor of two; where these imports take a second, the bound is five."""
    imports = "import pandas, scipy.stats"
    program = (
        "import sys; from prefbook import command_line\n"
        "assert command_line.main(['claims', '--from', 'results/reference', '--json']) == 0\n"
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
    )
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    def seconds(program: str) -> tuple[float, str]:
        """What a program uses of a processor, which other work changes little, and what it prints."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            env=one_thread,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout

    seconds(imports)  # compiled once
    took = []
    for _ in range(3):
        yardstick, _ = seconds(imports)
        judging, printed = seconds(program)
        took.append(judging / yardstick)
    entries = json.loads(printed)
    asked = (
        "kind",
        "verdict",
        "estimate",
        "interval",
        "n",
        "criterion",
        "edition",
        "model",
        "data",
        "declared",
    )
    known = [entry["id"] for entry in entries]
    assert known == [id_ for id_ in DECLARED if id_ in known]
    to_come = {DECLARED[id_].chapter for id_ in DECLARED if id_ not in known}
    assert all(Tables(ROOT / "results" / "reference" / chapter).pending for chapter in to_come)
    assert all(name in entry for entry in entries for name in asked)
    assert {entry["edition"] for entry in entries} == {"reference"}
    assert statistics.median(took) < 5
