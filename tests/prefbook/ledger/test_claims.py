"""The declarations: what book/claims.yml may hold, what it holds, and how an interval meets a criterion."""

from __future__ import annotations

import math
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefbook import project
from prefbook.ledger import claims
from prefbook.ledger.claims import VERDICTS, Criterion, load_claims
from prefbook.project import chapters
from prefdyn.errors import PrefdynError
from prefdyn.measures.estimates import Estimate

ROOT = Path(__file__).parents[3]
DECLARED = load_claims(ROOT / "book" / "claims.yml")

TWO_CLAIMS = """
A-1:
  chapter: first
  kind: empirical
  sentence: One thing rises.
  paper: someone2024
  place: 3
  declared: 0abc123
  statistics:
    slope:
      statistic: slope
      criterion: above 0.5
A-2:
  chapter: first
  kind: theorem
  sentence: It holds, and says something.
  paper: someone2024
  place: Figure 2
  declared: 0abc123
  statistics:
    exceptions:
      statistic: exceptions
      criterion: none
    size:
      statistic: size
      criterion: below 0
      matters: 0.3
      n_for_power: 85
      published: 0.2 (Table 1)
      promise: true
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "claims.yml").write_text(TWO_CLAIMS, encoding="utf-8")
    return tmp_path / "claims.yml"


# An interval meets a criterion --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "low", "high", "outcome"),
    [
        ("above", 1.1, 2, "holds"),
        ("above", 1, 2, "open"),
        ("above", 0, 2, "open"),
        ("above", 0, 1, "open"),
        ("above", 0, 0.9, "fails"),
        ("above", 1, 1, "open"),
        ("below", 0, 0.9, "holds"),
        ("below", 0, 1, "open"),
        ("below", 0, 2, "open"),
        ("below", 1, 2, "open"),
        ("below", 1.1, 2, "fails"),
        ("below", 1, 1, "open"),
    ],
)
def test_outcome_on_a_bound_of_one(kind: Any, low: float, high: float, outcome: str) -> None:
    assert Criterion(kind, 1.0).judge(Estimate((low + high) / 2, low, high, 5)) == outcome


NUMBERS = st.floats(-10, 10)


@given(st.lists(NUMBERS, min_size=3, max_size=3).map(sorted), NUMBERS)
def test_outcome_is_what_every_point_of_the_interval_says(points: list[float], bound: float) -> None:
    low, value, high = points
    for kind, side in (("above", 1), ("below", -1)):
        every = frozenset(side * ((x > bound) - (x < bound)) for x in points)
        expected = {frozenset({1}): "holds", frozenset({-1}): "fails"}.get(every, "open")
        assert Criterion(kind, bound).judge(Estimate(value, low, high, 5)) == expected


@given(NUMBERS)
def test_only_no_violation_at_all_meets_a_rule(violations: float) -> None:
    outcome = Criterion("none").judge(Estimate(violations, violations, violations, 20))
    assert outcome == ("holds" if violations == 0 else "fails")


@pytest.mark.parametrize("kind", ["above", "below", "none"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_missing_number_tells_nothing(kind: Any, place: int) -> None:
    numbers = [0.0, 0.0, 0.0]
    numbers[place] = math.nan
    assert Criterion(kind, -1.0).judge(Estimate(*numbers, 5)) == "open"


def test_infinite_interval_can_meet_a_criterion() -> None:
    assert Criterion("above", 0).judge(Estimate(2, 1, math.inf, 5)) == "holds"


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (-0.2, 0.2, "zero"),
        (-0.2, -0.1, "zero"),
        (-0.3, 0.2, "open"),
        (-0.2, 0.3, "open"),
        (-0.4, -0.1, "fails"),
        (0.1, 0.2, "holds"),
    ],
)
def test_interval_nearer_to_zero_than_what_matters_is_practically_zero(
    low: float, high: float, outcome: str
) -> None:
    for kind, sign in (("above", 1), ("below", -1)):
        ends = sorted((sign * low, sign * high))
        found = Criterion(kind, 0.0, matters=0.3).judge(Estimate(sum(ends) / 2, *ends, 50))  # type: ignore[arg-type]
        assert found == outcome
    assert Criterion("above", 1.0, matters=0.3).judge(Estimate(1, 0.9, 1.1, 9)) == "open", "1 is not zero"


# What a declaration may hold ----------------------------------------------------------------------


def test_declaration_is_read_with_every_field(path: Path) -> None:
    one, two = load_claims(path).values()
    assert (one.kind, one.place, one.declared) == ("empirical", "3", "0abc123")
    assert str(one.statistics[0].criterion) == "interval above 0.5" and one.statistics[0].n_for_power is None
    rule, size = two.statistics
    assert str(rule.criterion) == "no violation" and not rule.promise
    assert (size.words, size.function, size.criterion.matters) == ("size", "size", 0.3)
    assert (size.n_for_power, size.published, size.promise) == (85, "0.2 (Table 1)", True)


def without(line: str) -> str:
    """The first claim lacks a line."""
    return TWO_CLAIMS.replace(f"{line}\n", "", 1)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (without("  sentence: One thing rises."), "A-1.*sentence"),
        (without("  declared: 0abc123"), "A-1.*declared"),
        (without("      criterion: above 0.5"), "A-1.*criterion"),
        (without("      statistic: slope"), "A-1.*statistic"),
        (TWO_CLAIMS.replace("kind: empirical", "kind: guess"), "A-1.*guess.*identity, theorem, empirical"),
        (TWO_CLAIMS.replace("above 0.5", "over 0.5"), "A-1.*over 0.5"),
        (TWO_CLAIMS.replace("above 0.5", "above"), "A-1.*above"),
        (TWO_CLAIMS.replace("above 0.5", "above zero"), "A-1.*zero"),
        (TWO_CLAIMS.replace("above 0.5", "none 3"), "A-1.*none 3"),
        (TWO_CLAIMS.replace("above 0.5", "0.5"), "A-1"),
        (
            TWO_CLAIMS.replace("      statistic: slope", "      statistics: slope"),
            "A-1.*unknown words statistics",
        ),
        (TWO_CLAIMS.replace("    slope:\n", "    - slope:\n"), "claims.yml|A-1"),
        (TWO_CLAIMS.replace("  kind:", "  modelfree: true\n  kind:", 1), "A-1.*modelfree"),
        (TWO_CLAIMS + TWO_CLAIMS, "'A-1' is there twice"),
        (re.sub(r"criterion: above [^\n]*", "criterion: above nan", TWO_CLAIMS, count=1), "A-1.*above nan"),
        (re.sub(r"( +)(criterion: [^\n]*)", r"\1\2\n\1matters: -1", TWO_CLAIMS, count=1), "A-1.*-1"),
        (re.sub(r"( +)(criterion: [^\n]*)", r"\1\2\n\1n_for_power: lots", TWO_CLAIMS, count=1), "A-1.*lots"),
        ("A-1: true\n", "A-1"),
        ("A-1:\n  chapter: [first\n", "claims.yml.*not valid YAML"),
        ("- A-1\n", "claims.yml"),
        ("A-1\n", "claims.yml"),
        (
            re.sub(r"statistics:\n    slope:\n.*?\n.*?\n", "statistics: {}\n", TWO_CLAIMS),
            "A-1.*no statistics",
        ),
    ],
)
def test_malformed_declaration_is_one_sentence_with_its_place(path: Path, content: str, named: str) -> None:
    path.write_text(content, encoding="utf-8")
    with pytest.raises(PrefdynError, match=named) as error:
        load_claims(path)
    assert "\n" not in str(error.value) and "claims.yml" in str(error.value)


def test_claims_outside_a_book_are_those_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_claims() == DECLARED
    monkeypatch.setattr(project, "__file__", str(tmp_path / "project.py"))
    with pytest.raises(PrefdynError, match="not inside the book"):
        load_claims()


# The declared claims ------------------------------------------------------------------------------


def test_every_chapter_has_its_claims() -> None:
    count = {"distinguishability": 19, "generalization": 21, "ranking": 14, "noise": 15, "across": 7}
    assert {name: sum(c.chapter == name for c in DECLARED.values()) for name in count} == count


@pytest.mark.parametrize("id_", DECLARED)
def test_declared_claim_belongs_to_a_chapter_and_to_a_paper_or_this_book(id_: str) -> None:
    claim = DECLARED[id_]
    assert claim.chapter in chapters(ROOT) and claim.kind in VERDICTS
    papers = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    assert claim.paper == claims.THIS_BOOK or f"{{{claim.paper}," in papers
    assert claim.sentence.endswith(".") and claim.place and claim.statistics


def test_claims_were_declared_by_commits_of_this_repository() -> None:
    known = subprocess.run(
        ["git", "cat-file", "--batch-check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        input="\n".join(claim.declared for claim in DECLARED.values()),
        check=False,
    )
    if known.returncode or "missing" in known.stdout.split("\n", 1)[0]:
        pytest.skip("no history of this checkout: `git fetch --unshallow`, or clone it whole")
    assert [line for line in known.stdout.splitlines() if " commit " not in line] == []


@pytest.mark.parametrize("id_", DECLARED)
def test_effect_that_matters_comes_with_the_n_that_finds_it(id_: str) -> None:
    for statistic in DECLARED[id_].statistics:
        if statistic.criterion.kind == "none":
            assert statistic.criterion.matters is None and statistic.n_for_power is None
        else:
            assert (statistic.criterion.matters is None) == (statistic.n_for_power is None), statistic.words
