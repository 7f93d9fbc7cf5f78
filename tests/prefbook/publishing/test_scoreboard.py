"""The scoreboard from hand-made ledgers, and the reference runs that come with the book."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from prefbook.ledger import claims
from prefbook.ledger.claims import Criterion
from prefbook.ledger.editions import editions, places
from prefbook.project import chapters
from prefbook.publishing.scoreboard import WIDTH, Scoreboard, ledger, numbers, picture
from prefdyn.errors import PrefdynError
from prefdyn.experiments.provenance import Provenance

ROOT = Path(__file__).parents[3]

CLAIMS = """
A-1:
  chapter: first
  sentence: One thing < another.
  paper: someone2024
  place: Section 3
  statistics:
    slope: above 0.5
    exceptions: none
  published:
    slope: 0.72 (Table 1)
B-1:
  chapter: second
  sentence: It falls.
  paper: other2025
  place: Figure 1
  statistics:
    fall: below 0
"""
FIRST = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  name: python3
---

# First

## Where it's measured

```{code-cell}
ledger.measure("A-1", "slope", slope)
```

## Later

```{code-cell}
ledger.measure("A-1", "exceptions", count)
```
"""


def part(
    statistic: str, estimate: float | None, low: float | None, high: float | None, verdict: str, n: int = 9
) -> dict[str, Any]:
    return {
        "statistic": statistic,
        "estimate": estimate,
        "interval": [low, high],
        "n": n,
        "criterion": "",
        "verdict": verdict,
    }


SLOPE = part("slope", 2.0, 1.0, 3.0, "supported")
NO_EXCEPTION = part("exceptions", 0.0, 0.0, 0.0, "supported", n=640)
FALL = part("fall", 0.5, -1.0, 2.0, "inconclusive")


def write_ledger(folder: Path, id_: str, chapter: str, *parts: dict[str, Any]) -> None:
    worst = next(
        (word for word in ("not supported", "inconclusive") if word in [one["verdict"] for one in parts]),
        "supported",
    )
    about = {"model": "some model", "data": "sample", "profile": "smoke", "made": "2026-01-01 00:00 UTC"}
    folder.mkdir(parents=True)
    entry = {"id": id_, "chapter": chapter, "verdict": worst, "statistics": list(parts), **about}
    (folder / "claims.json").write_text(json.dumps([entry]), encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A book of two chapters, with nothing run and no reference."""
    (tmp_path / "book").mkdir()
    (tmp_path / "_config.yml").touch()
    (tmp_path / "book" / "claims.yml").write_text(CLAIMS, encoding="utf-8")
    (tmp_path / "book" / "first.md").write_text(FIRST, encoding="utf-8")
    return tmp_path


def board(root: Path) -> Scoreboard:
    return Scoreboard({"someone2024": "Someone & al."}, root)


def parsed(root: Path) -> ElementTree.Element:
    """The table as a tree: only well-formed markup has one."""
    return ElementTree.fromstring(board(root).html())


def words(node: ElementTree.Element | None) -> str:
    assert node is not None
    return " ".join("".join(node.itertext()).split())


def rows(root: Path) -> dict[str, list[list[str]]]:
    """The text of every cell by claim."""
    return {
        body.get("id", ""): [[words(cell) for cell in row] for row in body.iter("tr")]
        for body in parsed(root).iter("tbody")
    }


# Rows ---------------------------------------------------------------------------------------------


def test_without_any_run_every_claim_is_not_run(root: Path) -> None:
    seen = rows(root)
    assert list(seen) == ["claim-a-1", "claim-b-1"]
    assert seen["claim-a-1"] == [
        ["A-1 One thing < another. Someone & al., Section 3", "not run"],
        ["slope criterion: interval above 0.5; the paper has 0.72 (Table 1)", "not run"],
        ["exceptions criterion: no violation", "not run"],
    ]
    assert seen["claim-b-1"][0] == ["B-1 It falls. other2025, Figure 1", "not run"]


def test_run_and_references_stand_side_by_side(root: Path) -> None:
    write_ledger(root / "_build" / "runs" / "first", "A-1", "first", SLOPE, NO_EXCEPTION)
    write_ledger(root / "results" / "second", "B-1", "second", FALL)
    write_ledger(
        root / "results" / "large" / "first",
        "A-1",
        "first",
        {**SLOPE, "verdict": "inconclusive", "interval": [0.0, 3.0]},
    )
    assert [words(head) for head in parsed(root).iter("th")][1:4] == [
        "This run",
        "Reference",
        "Reference large",
    ]
    seen = rows(root)
    assert [row[1:] for row in seen["claim-a-1"]] == [
        ["supported", "not run", "inconclusive"],
        ["2 [1, 3] n = 9", "not run", "2 [0, 3] n = 9"],
        ["0 of 640", "not run", "not run"],
    ]
    assert [row[1:] for row in seen["claim-b-1"]] == [
        ["not run", "inconclusive", "not run"],
        ["not run", "0.5 [−1, 2] n = 9", "not run"],
    ]
    marks = {body.get("id"): body.get("data-verdicts", "").split("|") for body in parsed(root).iter("tbody")}
    assert marks == {
        "claim-a-1": ["0 supported", "1 not run", "2 inconclusive", "differ"],
        "claim-b-1": ["0 not run", "1 inconclusive", "2 not run"],
    }


def test_verdicts_are_counted_for_each_edition(root: Path) -> None:
    write_ledger(root / "_build" / "runs" / "first", "A-1", "first", SLOPE, NO_EXCEPTION)
    write_ledger(root / "results" / "second", "B-1", "second", FALL)
    tally = board(root).tally().set_index("")
    none = {"supported": 0, "not supported": 0, "inconclusive": 0, "differs by seed": 0, "not run": 1}
    assert tally.loc["this run"].to_dict() == none | {"supported": 1}
    assert tally.loc["reference"].to_dict() == none | {"inconclusive": 1}
    assert board(root).sources()["chapter"].tolist() == ["first", "second"]


def test_ledger_of_a_chapter_says_what_its_file_has(root: Path) -> None:
    write_ledger(root / "_build" / "runs" / "first", "A-1", "first", SLOPE, NO_EXCEPTION)
    declared = claims.load_claims(root / "book" / "claims.yml")
    tree = ElementTree.fromstring(ledger({"A-1": declared["A-1"]}, claims.collect(root / "_build" / "runs")))
    assert [words(cell) for cell in tree.iter("td")] == ["supported", "2 [1, 3] n = 9", "0 of 640"]
    assert [words(head) for head in tree.iter("th")][2:] == [
        "A-1 One thing < another. Section 3",
        "slope criterion: interval above 0.5; the paper has 0.72 (Table 1)",
        "exceptions criterion: no violation",
    ]


def test_every_picture_has_words(root: Path) -> None:
    write_ledger(root / "_build" / "runs" / "first", "A-1", "first", SLOPE, NO_EXCEPTION)
    drawn = [svg.get("aria-label") for svg in parsed(root).iter("svg")]
    assert drawn == [
        "against the criterion interval above 0.5, 2 [1, 3]: supported",
        "against the criterion no violation, 0 of 640: supported",
    ]


# Numbers and pictures -----------------------------------------------------------------------------

ABOVE = Criterion("above", 0.5)


@pytest.mark.parametrize(
    ("estimate", "low", "high", "criterion", "text"),
    [
        (-0.25, -1.5, 1e-9, ABOVE, "−0.25 [−1.5, 1e−09]"),
        (2.0, None, 3.0, ABOVE, "2 [−∞, 3]"),
        (2.0, 1.0, None, ABOVE, "2 [1, ∞]"),
        (None, None, None, ABOVE, "could not be measured"),
        (3.0, 0.0, 9.0, Criterion("none"), "3 of 9"),
        (2.0, 0.5, 3.0, ABOVE, "2 [0.5, 3]"),
        (2.0, 0.50004, 3.0, ABOVE, "2 [0.50004, 3]"),
        (0.2, 0.1, 0.49999, ABOVE, "0.2 [0.1, 0.49999]"),
    ],
)
def test_numbers_in_text(
    estimate: float | None, low: float | None, high: float | None, criterion: Criterion, text: str
) -> None:
    assert numbers(part("", estimate, low, high, ""), criterion) == text


def drawn(
    low: float | None, high: float | None, criterion: Criterion, scale: tuple[float, float]
) -> dict[str, list[float]]:
    """The numbers in the attributes of each part of a picture, by its class."""
    svg = ElementTree.fromstring(picture([part("", 2.0, low, high, "supported")], criterion, scale))
    about = {
        node.get("class", node.tag): " ".join(node.get(name, "") for name in ("d", "x", "width", "cx"))
        for node in svg.iter()
    }
    return {name: [float(number) for number in re.findall(r"[\d.]+", text)] for name, text in about.items()}


def test_picture_orders_interval_estimate_and_criterion_as_the_numbers_are() -> None:
    seen = drawn(1.0, 3.0, ABOVE, (0.5, 3.0))
    (criterion, *_), (low, _, high), (estimate,) = seen["criterion"], seen["bar"], seen["circle"]
    assert criterion < low < estimate < high <= WIDTH
    assert (estimate - low) == pytest.approx(high - estimate, abs=0.11)
    assert seen["asked"] == pytest.approx([criterion, WIDTH - criterion], abs=0.11)


def test_tint_is_on_the_side_that_the_criterion_asks_for() -> None:
    at = drawn(1.0, 3.0, Criterion("below", 2.5), (1.0, 3.0))
    assert at["asked"] == [0, at["criterion"][0]]
    assert drawn(1.0, 3.0, Criterion("none"), (0.0, 3.0))["asked"][1] == 0


def test_bar_of_a_one_sided_interval_reaches_the_edge() -> None:
    assert drawn(None, 3.0, ABOVE, (0.5, 3.0))["bar"][0] == 0
    assert drawn(1.0, None, ABOVE, (0.5, 3.0))["bar"][2] == WIDTH


def test_what_could_not_be_measured_has_no_picture() -> None:
    assert picture([part("", None, None, None, "inconclusive")], ABOVE, (0, 1)) == ""


def test_pictures_of_a_row_share_a_scale_that_shows_all_of_them(root: Path) -> None:
    write_ledger(root / "_build" / "runs" / "first", "A-1", "first", SLOPE, NO_EXCEPTION)
    write_ledger(
        root / "results" / "first", "A-1", "first", part("slope", 20.0, 10.0, 30.0, "supported"), NO_EXCEPTION
    )
    lines = [
        float(node.get("d", "").split("V")[0].split()[0][1:])
        for node in parsed(root).iter("path")
        if node.get("class") == "criterion"
    ]
    dots = [float(node.get("cx", "")) for node in parsed(root).iter("circle")]
    assert lines[0] == lines[1] and 0 < dots[0] < dots[1] < WIDTH
    assert lines[2] == dots[2] == dots[3], "no violation: the dot is on the line"


# Several seeds ------------------------------------------------------------------------------------

LESS = part("slope", 1.5, 0.25, 2.5, "inconclusive")


@pytest.fixture
def seeds(root: Path) -> Path:
    """A reference of three seeds, and another model's of two."""
    write_ledger(root / "results" / "first", "A-1", "first", SLOPE, NO_EXCEPTION)
    write_ledger(root / "results" / "seed-1" / "first", "A-1", "first", LESS, NO_EXCEPTION)
    write_ledger(root / "results" / "seed-2" / "first", "A-1", "first", SLOPE, NO_EXCEPTION)
    write_ledger(root / "results" / "large" / "first", "A-1", "first", SLOPE, NO_EXCEPTION)
    write_ledger(root / "results" / "large" / "seed-1" / "first", "A-1", "first", SLOPE, NO_EXCEPTION)
    return root


def test_seeds_of_a_reference_share_its_column(seeds: Path) -> None:
    assert [edition.title for edition in editions(seeds)] == ["this run", "reference", "reference large"]
    claim, slope, exceptions = rows(seeds)["claim-a-1"]
    assert claim[1:] == ["not run", "supported 2 of 3 inconclusive 1 of 3 3 seeds", "supported 2 seeds"]
    assert slope[1:] == [
        "not run",
        "2 [1, 3] n = 9; 1.5 and 2 with other seeds",
        "2 [1, 3] n = 9; 2 with another seed",
    ]
    assert exceptions[1:] == ["not run", "0 of 640 0 and 0 with other seeds", "0 of 640 0 with another seed"]
    tally = board(seeds).tally().set_index("")
    assert tally.loc["reference", "differs by seed"] == 1 and tally.loc["reference large", "supported"] == 1
    (marks,) = [
        body.get("data-verdicts", "") for body in parsed(seeds).iter("tbody") if body.get("id") == "claim-a-1"
    ]
    assert marks == "0 not run|1 differs by seed|2 supported|differ"
    titles = board(seeds).sources()[""].tolist()
    assert titles == [
        "reference",
        "reference, seed-1",
        "reference, seed-2",
        "reference large",
        "reference large, seed-1",
    ]


def test_picture_draws_each_seed_in_the_colour_of_its_verdict(seeds: Path) -> None:
    svg = next(parsed(seeds).iter("svg"))
    bars = [(group.get("class"), group[0].get("d", "")) for group in svg.iter("g")]
    assert [name for name, _ in bars] == ["first supported", "further inconclusive", "further supported"]
    (low, high), (other_low, _), (again_low, again_high) = (
        [float(x) for x in re.findall(r"[MH]([\d.]+)", bar)] for _, bar in bars
    )
    assert other_low < low == again_low < high == again_high
    heights = [float(group[1].get("cy", "")) for group in svg.iter("g")]
    assert heights == sorted(set(heights)) and heights[-1] < float(svg.get("height", ""))
    assert "1.5 [0.25, 2.5]: inconclusive" in svg.get("aria-label", "")


def test_phrase_gives_the_first_seed_its_interval_and_the_others_estimates(seeds: Path) -> None:
    assert board(seeds).said("A-1", "slope") == (
        "not run (this run); **2 [1, 3]**, 1.5 and 2 with other seeds (reference); **2 [1, 3]**, 2 with another seed (reference large)"
    )


def test_only_another_seed_was_run(root: Path) -> None:
    write_ledger(root / "results" / "seed-1" / "second", "B-1", "second", FALL)
    assert board(root).said("B-1", "fall") == "not run (this run); **0.5 [−1, 2]** (reference)"
    assert editions(root)[1].verdict("B-1") == "inconclusive"


# Phrases ------------------------------------------------------------------------------------------


def test_phrase_reads_right_whatever_was_run(root: Path) -> None:
    assert board(root).said("A-1", "slope") == "not run (this run)"
    write_ledger(root / "results" / "first", "A-1", "first", SLOPE)
    assert board(root).said("A-1", "slope") == "not run (this run); **2 [1, 3]** (reference)"
    assert board(root).said("A-1", "exceptions") == "not run (this run); not run (reference)"
    with pytest.raises(KeyError):
        board(root).said("A-1", "slop")


def test_phrase_from_a_table_is_of_each_edition_that_kept_it(root: Path) -> None:
    write_ledger(root / "results" / "first", "A-1", "first", SLOPE)
    (root / "results" / "first" / "tables").mkdir()
    (root / "results" / "first" / "tables" / "lengths.csv").write_text("# seed: 0\nc\n1\n4\n")
    assert (
        board(root).from_tables("first", "lengths", lambda table: table["c"].sum())
        == "not run (this run); **5** (reference)"
    )
    assert "**" not in board(root).from_tables("first", "widths", len)


# Editions and places ------------------------------------------------------------------------------


def test_damaged_reference_is_named(root: Path) -> None:
    (root / "results" / "first").mkdir(parents=True)
    (root / "results" / "first" / "claims.json").write_text("[")
    with pytest.raises(PrefdynError, match=r"results/first/claims.json: the ledger is damaged"):
        editions(root)


@pytest.mark.parametrize("executed", [False, True])
def test_place_of_a_claim_is_the_section_that_first_measures_it(root: Path, executed: bool) -> None:
    import jupytext

    if executed:
        jupytext.write(jupytext.read(root / "book" / "first.md"), root / "book" / "first.ipynb")
        (root / "book" / "first.md").unlink()
    declared = claims.load_claims(root / "book" / "claims.yml")
    assert places(root, declared) == {"A-1": "first.html#where-it-s-measured", "B-1": "second.html"}


def test_every_claim_of_the_book_is_measured_in_a_section() -> None:
    found = places(ROOT, claims.load_claims(ROOT / "book" / "claims.yml"))
    assert all(re.fullmatch(r"[a-z]+\.html#[a-z0-9-]+", place) for place in found.values()), found


def test_scoreboard_is_no_chapter() -> None:
    assert "scoreboard" not in chapters(ROOT) and "distinguishability" in chapters(ROOT)


def test_published_figures_are_of_papers_that_print_them() -> None:
    declared = claims.load_claims(ROOT / "book" / "claims.yml")
    places_given = [words for claim in declared.values() for words in claim.published.values()]
    assert places_given and all(
        re.search(r"\((.*, )?(Table|Section|Figure|Appendix) \d", words) for words in places_given
    ), places_given


# The reference runs -------------------------------------------------------------------------------

LEDGERS = sorted((ROOT / "results").glob("**/claims.json"))
of_each_ledger = pytest.mark.parametrize(
    "ledger", LEDGERS, ids=lambda path: str(path.parent.relative_to(ROOT / "results"))
)


@of_each_ledger
def test_reference_ledger_is_of_declared_claims_with_their_criteria(ledger: Path) -> None:
    declared = claims.load_claims(ROOT / "book" / "claims.yml")
    entries = claims.collect(ledger.parent)
    assert {entry["chapter"] for entry in entries} == {ledger.parent.name} and ledger.parent.name in chapters(
        ROOT
    )
    for entry in entries:
        criteria = {part["statistic"]: part["criterion"] for part in entry["statistics"]}
        assert criteria == {
            name: str(criterion) for name, criterion in declared[entry["id"]].statistics.items()
        }
        assert all(entry[key] for key in ("model", "data", "profile", "made"))


@of_each_ledger
def test_reference_tables_read_back_and_carry_their_provenance(ledger: Path) -> None:
    tables = sorted((ledger.parent / "tables").glob("*.csv"))
    assert tables
    for path in tables:
        lines = path.read_text(encoding="utf-8").splitlines()
        head = dict(line.removeprefix("# ").split(": ", 1) for line in lines if line.startswith("# "))
        assert list(head) == [field.name for field in fields(Provenance)], path
        assert len(pd.read_csv(path, comment="#")) > 0, path


def test_reference_files_are_small_and_none_stands_alone() -> None:
    files = [path for path in (ROOT / "results").rglob("*") if path.is_file() and path.suffix != ".ipynb"]
    assert [path for path in files if path.stat().st_size > 2**20] == []
    known = {
        ROOT / "results" / "README.md",
        *LEDGERS,
        *(table for path in LEDGERS for table in (path.parent / "tables").glob("*.csv")),
    }
    assert set(files) == known
