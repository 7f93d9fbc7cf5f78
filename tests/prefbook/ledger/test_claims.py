"""The ledger: verdicts follow from intervals by the criteria that were declared before, and from nothing
else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefbook import project
from prefbook.ledger import claims
from prefbook.ledger.claims import Criterion, Ledger, load_claims
from prefbook.project import chapters
from prefdyn.errors import PrefdynError
from prefdyn.experiments.provenance import Provenance
from prefdyn.measures.estimates import Estimate

ROOT = Path(__file__).parents[3]
DECLARED = load_claims(ROOT / "book" / "claims.yml")

TWO_CLAIMS = """
A-1:
  chapter: first
  sentence: One thing rises.
  paper: someone2024
  place: 3
  statistics:
    slope: above 0.5
A-2:
  chapter: first
  sentence: Three things hold at once.
  paper: someone2024
  place: Figure 2
  statistics:
    rise: above 0
    fall: below 0
    exceptions: none
B-1:
  chapter: second
  sentence: Something of another chapter.
  paper: someone2024
  place: Figure 3
  statistics:
    slope: above 0
"""

UP, DOWN, ACROSS = Estimate(2, 1, 3, 9), Estimate(-2, -3, -1, 9), Estimate(1, -1, 3, 9)
NOTHING = Estimate(0, 0, 0, 9)


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book with two claims of the chapter "first", as the working folder."""
    (tmp_path / "book").mkdir()
    (tmp_path / "_config.yml").touch()
    (tmp_path / "book" / "claims.yml").write_text(TWO_CLAIMS, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "book")
    return tmp_path


@pytest.fixture
def provenance() -> Provenance:
    fields = {
        "commit": "c",
        "model_fingerprint": "f",
        "data_fingerprint": "g",
        "profile": "smoke",
        "seed": 0,
        "precision": "float32",
        "seconds": 1.0,
    }
    return Provenance.of(model="some model", data="sample", device=torch.device("cpu"), **fields)


@pytest.fixture
def measured(book: Path) -> Ledger:
    ledger = Ledger("first")
    ledger.measure("A-1", "slope", UP)
    for statistic, estimate in (("rise", UP), ("fall", ACROSS), ("exceptions", NOTHING)):
        ledger.measure("A-2", statistic, estimate)
    return ledger


# Verdicts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "low", "high", "verdict"),
    [
        ("above", 1.1, 2, "supported"),
        ("above", 1, 2, "inconclusive"),
        ("above", 0, 2, "inconclusive"),
        ("above", 0, 1, "inconclusive"),
        ("above", 0, 0.9, "not supported"),
        ("above", 1, 1, "inconclusive"),
        ("below", 0, 0.9, "supported"),
        ("below", 0, 1, "inconclusive"),
        ("below", 0, 2, "inconclusive"),
        ("below", 1, 2, "inconclusive"),
        ("below", 1.1, 2, "not supported"),
        ("below", 1, 1, "inconclusive"),
    ],
)
def test_verdict_on_a_bound_of_one(kind: Any, low: float, high: float, verdict: str) -> None:
    assert Criterion(kind, 1.0).judge(Estimate((low + high) / 2, low, high, 5)) == verdict


NUMBERS = st.floats(-10, 10)


@given(st.lists(NUMBERS, min_size=3, max_size=3).map(sorted), NUMBERS)
def test_verdict_is_what_every_point_of_the_interval_says(points: list[float], bound: float) -> None:
    low, value, high = points
    for kind, side in (("above", 1), ("below", -1)):
        every = {side * ((x > bound) - (x < bound)) for x in points}
        expected = {frozenset({1}): "supported", frozenset({-1}): "not supported"}.get(
            frozenset(every), "inconclusive"
        )
        assert Criterion(kind, bound).judge(Estimate(value, low, high, 5)) == expected


@given(NUMBERS)
def test_only_no_violation_at_all_supports_a_rule(violations: float) -> None:
    verdict = Criterion("none").judge(Estimate(violations, violations, violations, 20))
    assert verdict == ("supported" if violations == 0 else "not supported")


@pytest.mark.parametrize("kind", ["above", "below", "none"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_missing_number_is_inconclusive(kind: Any, place: int) -> None:
    numbers = [0.0, 0.0, 0.0]
    numbers[place] = math.nan
    assert Criterion(kind, -1.0).judge(Estimate(*numbers, 5)) == "inconclusive"


def test_infinite_interval_that_meets_the_criterion_supports() -> None:
    assert Criterion("above", 0).judge(Estimate(2, 1, math.inf, 5)) == "supported"


@pytest.mark.parametrize(
    ("rise", "fall", "exceptions", "verdict"),
    [
        (UP, DOWN, NOTHING, "supported"),
        (UP, ACROSS, NOTHING, "inconclusive"),
        (UP, UP, NOTHING, "not supported"),
        (ACROSS, UP, NOTHING, "not supported"),
        (UP, DOWN, Estimate(1, 1, 1, 9), "not supported"),
        (Estimate(math.nan, math.nan, math.nan, 0), DOWN, NOTHING, "inconclusive"),
        (ACROSS, ACROSS, NOTHING, "inconclusive"),
    ],
)
def test_claim_stands_with_all_its_statistics_and_falls_with_one(
    book: Path, rise: Estimate, fall: Estimate, exceptions: Estimate, verdict: str
) -> None:
    ledger = Ledger("first")
    for statistic, estimate in (("rise", rise), ("fall", fall), ("exceptions", exceptions)):
        ledger.measure("A-2", statistic, estimate)
    assert ledger.verdict("A-2") == verdict


def test_measuring_returns_the_verdict_on_the_statistic(book: Path) -> None:
    ledger = Ledger("first")
    assert [ledger.measure("A-2", name, UP) for name in ("rise", "fall")] == ["supported", "not supported"]


# What is said of mistakes -------------------------------------------------------------------------


@pytest.mark.parametrize(("id_", "statistic"), [("A-9", "slope"), ("A-1", "rise"), ("B-1", "slope")])
def test_undeclared_claim_or_statistic_is_named(book: Path, id_: str, statistic: str) -> None:
    with pytest.raises(
        PrefdynError, match=rf"claims.yml declares no claim {id_} of this chapter .*'{statistic}'"
    ):
        Ledger("first").measure(id_, statistic, UP)


def test_unmeasured_statistics_are_named(book: Path, provenance: Provenance) -> None:
    ledger = Ledger("first")
    ledger.measure("A-1", "slope", UP)
    ledger.measure("A-2", "rise", UP)
    with pytest.raises(PrefdynError, match="the claim A-2 was not measured: fall, exceptions"):
        ledger.save(book, provenance)
    assert not (book / "claims.json").exists()


def without(line: str) -> str:
    return "\n".join(kept for kept in TWO_CLAIMS.splitlines() if line not in kept)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (without("sentence: One"), "A-1"),
        (without("slope: above 0.5"), "A-1"),
        (TWO_CLAIMS.replace("above 0.5", "over 0.5"), "A-1.*over 0.5"),
        (TWO_CLAIMS.replace("above 0.5", "above"), "A-1.*above"),
        (TWO_CLAIMS.replace("above 0.5", "above zero"), "A-1.*zero"),
        (TWO_CLAIMS.replace("above 0.5", "none 3"), "A-1.*none 3"),
        (TWO_CLAIMS.replace("above 0.5", "0.5"), "A-1"),
        (TWO_CLAIMS.replace("    slope: above 0.5", "    - slope"), "A-1"),
        ("A-1: true\n", "A-1"),
        (
            TWO_CLAIMS.replace("    slope: above 0.5", "    slope: above 0.5\n  published:\n    rise: 3"),
            "A-1.*published figure.*rise",
        ),
        ("A-1:\n  chapter: [first\n", "claims.yml.*not valid YAML"),
        ("- A-1\n", "claims.yml"),
        ("A-1\n", "claims.yml"),
        (TWO_CLAIMS.replace("    slope: above 0.5\nA-2", "    {}\nA-2"), "A-1.*no statistics"),
    ],
)
def test_malformed_declaration_is_one_sentence_with_its_place(book: Path, content: str, named: str) -> None:
    (book / "book" / "claims.yml").write_text(content, encoding="utf-8")
    with pytest.raises(PrefdynError, match=named) as error:
        Ledger("first")
    assert "\n" not in str(error.value) and "claims.yml" in str(error.value)


def test_ledger_outside_a_book_is_that_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(Ledger("noise").claims) == {f"NZ-{number}" for number in range(1, 7)}
    monkeypatch.setattr(project, "__file__", str(tmp_path / "project.py"))
    with pytest.raises(PrefdynError, match="not inside the book"):
        Ledger("noise")


# The declared claims ------------------------------------------------------------------------------


def test_every_claim_of_chapter_one_is_declared() -> None:
    assert {id_ for id_, claim in DECLARED.items() if claim.chapter == "distinguishability"} == {
        f"LD-{number}" for number in range(1, 8)
    }


def test_every_claim_of_chapter_three_is_declared() -> None:
    assert {id_ for id_, claim in DECLARED.items() if claim.chapter == "noise"} == {
        f"NZ-{number}" for number in range(1, 7)
    }


@pytest.mark.parametrize("id_", DECLARED)
def test_declared_claim_belongs_to_a_chapter_and_to_a_paper_or_this_book(id_: str) -> None:
    claim = DECLARED[id_]
    assert claim.chapter in chapters(ROOT)
    assert claim.paper == claims.THIS_BOOK or f"{{{claim.paper}," in (
        ROOT / "book" / "references.bib"
    ).read_text(encoding="utf-8")
    assert claim.sentence.endswith(".") and claim.place and claim.statistics


def test_ledger_holds_the_claims_of_its_own_chapter(book: Path) -> None:
    assert list(Ledger("first").claims) == ["A-1", "A-2"]


# The written ledger -------------------------------------------------------------------------------


def test_saved_ledger_reads_back_with_every_field(
    measured: Ledger, book: Path, provenance: Provenance
) -> None:
    measured.save(book / "out" / "first", provenance)
    one, three = claims.collect(book / "out")
    assert {**one, "made": ""} == {
        "id": "A-1",
        "chapter": "first",
        "sentence": "One thing rises.",
        "paper": "someone2024",
        "place": "3",
        "verdict": "supported",
        "statistic": "slope",
        "estimate": 2.0,
        "interval": [1.0, 3.0],
        "n": 9,
        "criterion": "interval above 0.5",
        "model": "some model",
        "data": "sample",
        "profile": "smoke",
        "made": "",
        "statistics": [
            {
                "statistic": "slope",
                "estimate": 2.0,
                "interval": [1.0, 3.0],
                "n": 9,
                "criterion": "interval above 0.5",
                "verdict": "supported",
            }
        ],
    }
    assert one["made"] == provenance.made
    assert (three["verdict"], three["statistic"]) == ("inconclusive", "rise")
    assert [part["verdict"] for part in three["statistics"]] == ["supported", "inconclusive", "supported"]
    assert [part["criterion"] for part in three["statistics"]] == [
        "interval above 0",
        "interval below 0",
        "no violation",
    ]


def test_saved_ledger_can_be_read_by_all(measured: Ledger, tmp_path: Path, provenance: Provenance) -> None:
    measured.save(tmp_path, provenance)
    assert (tmp_path / "claims.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_number_that_json_does_not_have_is_null(
    measured: Ledger, tmp_path: Path, provenance: Provenance, value: float
) -> None:
    measured.measure("A-1", "slope", Estimate(value, value, value, 3))
    measured.save(tmp_path, provenance)

    def fail(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    entry = json.loads((tmp_path / "claims.json").read_text(), parse_constant=fail)[0]
    assert entry["estimate"] is None and entry["interval"] == [None, None]
    assert "none to none" in claims.table([entry])["95% interval"].item()


def written(folder: Path, *ids: str) -> Callable[[], list[dict[str, Any]]]:
    folder.mkdir(parents=True)
    (folder / "claims.json").write_text(json.dumps([{"id": id_} for id_ in ids]))
    return lambda: claims.collect(folder.parent)


def test_ledgers_of_all_chapters_are_collected_in_order_of_id(tmp_path: Path) -> None:
    written(tmp_path / "runs" / "z", "LD-2", "LD-1")
    collect = written(tmp_path / "runs" / "a", "NZ-1")
    assert [entry["id"] for entry in collect()] == ["LD-1", "LD-2", "NZ-1"]


def test_nothing_is_collected_where_nothing_was_run(tmp_path: Path) -> None:
    assert claims.collect(tmp_path / "missing") == []


def test_damaged_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "claims.json").write_text('[{"id": ')
    with pytest.raises(PrefdynError, match=r"claims.json: the ledger is damaged .*: delete it"):
        claims.collect(tmp_path)


def test_table_has_a_row_for_each_statistic_and_names_the_claim_once(
    measured: Ledger, provenance: Provenance
) -> None:
    table = claims.table(measured.entries(provenance))
    assert table["claim"].tolist() == ["A-1", "A-2", "", ""]
    assert table["verdict"].tolist() == ["supported", "inconclusive", "", ""]
    assert table["statistic"].tolist() == ["slope", "rise", "fall", "exceptions"]
    assert table["estimate"].tolist() == ["2", "2", "1", "0"]
    assert table["95% interval"].tolist() == ["1 to 3", "1 to 3", "-1 to 3", "0 to 0"]
    assert table["criterion"].tolist()[1:] == ["interval above 0", "interval below 0", "no violation"]
    assert isinstance(table, pd.DataFrame) and (table["n"] == 9).all()
