"""The scoreboard and the ledgers, from hand-made tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import pytest

from prefbook.ledger.claims import VACUOUS, VERDICTS, Criterion, load_claims
from prefbook.ledger.editions import reference
from prefbook.ledger.tables import NotMeasured, Tables
from prefbook.publishing import quoting, scoreboard
from prefbook.publishing.claim_rows import WIDTH, ledger, picture
from prefbook.publishing.quoting import chip, estimate, numbers, quote
from prefbook.publishing.scoreboard import Scoreboard, places
from prefdyn.errors import PrefdynError

ROOT = Path(__file__).parents[3]
KINDS = ("empirical", "identity", "theorem")
UP, DOWN, ACROSS = (2, 1, 3, 9), (-2, -3, -1, 9), (1, -1, 3, 9)
Leave = Callable[..., None]


def board(root: Path) -> Scoreboard:
    return Scoreboard({"someone2024": "Someone & al."}, root)


def parsed(root: Path, *kinds: str) -> ElementTree.Element:
    """The table as a tree: only well-formed markup has one."""
    return ElementTree.fromstring(board(root).html(*(kinds or KINDS)))


def words(node: ElementTree.Element | None) -> str:
    """Of a node, but for what is shown only where a claim is folded."""
    assert node is not None
    whole = ElementTree.fromstring(ElementTree.tostring(node))
    for parent in list(whole.iter()):
        for headline in parent.findall("div[@class='headline']"):
            parent.remove(headline)
    return " ".join("".join(whole.itertext()).split())


def rows(root: Path, *kinds: str) -> dict[str, list[list[str]]]:
    """The text of every cell by claim."""
    return {
        body.get("id", ""): [[words(cell) for cell in row] for row in body.iter("tr")]
        for body in parsed(root, *kinds).iter("tbody")
    }


def marks(root: Path) -> dict[str | None, list[str]]:
    bodies = parsed(root).iter("tbody")
    return {body.get("id"): body.get("data-verdicts", "").split("|") for body in bodies}


# Rows ---------------------------------------------------------------------------------------------


def test_without_any_table_every_claim_is_not_run(root: Path) -> None:
    seen = rows(root)
    assert list(seen) == ["claim-e-1", "claim-i-1", "claim-t-1", "claim-e-2"]
    assert seen["claim-e-1"] == [
        ["E-1 A sentence of E-1. Someone & al., Section 3; declared in 0abc123", "not run"],
        [
            "rise criterion: interval above 0; smallest effect that matters: 0.3; n for 80% power at it: 85",
            "not run",
        ],
        ["fall criterion: interval below 0", "not run"],
    ]


def test_the_declaring_commit_is_linked_where_the_book_is_published(root: Path) -> None:
    assert "/commit/" not in board(root).html(*KINDS)
    (root / "_config.yml").write_text("repository: {url: https://github.com/someone/book}\n")
    claim = next(parsed(root).iter("tbody"))
    links = [one.get("href") for one in claim.iter("a")]
    assert "https://github.com/someone/book/commit/0abc123" in links


def test_editions_stand_side_by_side(root: Path, leave: Leave) -> None:
    leave(root / "results" / "reference" / "first")
    leave(root / "results" / "reference-large" / "first", rise=ACROSS)
    leave(root / "_build" / "runs" / "first", rise=ACROSS, exceptions=(1, 1, 1, 640))
    titles = [words(head) for head in parsed(root).iter("th")][1:4]
    assert titles == ["Reference", "Reference-large", "This machine"]
    seen = rows(root)
    assert [row[1:] for row in seen["claim-e-1"]] == [
        ["supported", "inconclusive", "inconclusive unlike the reference"],
        ["2 [1, 3] n = 9", "1 [−1, 3] n = 9", "1 [−1, 3] n = 9"],
        ["−2 [−3, −1] n = 9"] * 3,
    ]
    assert [row[1:] for row in seen["claim-i-1"]] == [
        ["checked", "checked", "violated unlike the reference"],
        ["0 of 640", "0 of 640", "1 of 640"],
    ]
    assert seen["claim-e-2"][0][1:] == ["not run"] * 3
    assert marks(root) == {
        "claim-e-1": ["0 supported", "1 inconclusive", "2 inconclusive", "differ"],
        "claim-i-1": ["0 checked", "1 checked", "2 violated", "differ"],
        "claim-t-1": ["0 holds here", "1 holds here", "2 violated", "differ"],
        "claim-e-2": ["0 not run", "1 not run", "2 not run"],
    }


def test_claim_without_a_model_is_not_run_with_another(root: Path, leave: Leave) -> None:
    """Nor is it counted there; where it should be, it is not run as ever."""
    declared = root / "book" / "claims.yml"
    declared.write_text(declared.read_text().replace("E-2:\n", "E-2:\n  model_free: true\n"))
    for folder in ("reference", "reference-other"):
        leave(root / "results" / folder / "first")
    assert rows(root)["claim-e-2"][0][1:] == ["not run", "no model"]
    assert rows(root)["claim-e-2"][1][1:] == ["not run", "no model"]
    assert board(root).tally().set_index("")["measured"].to_dict() == {"reference": 1, "reference-other": 1}
    leave(root / "results" / "reference" / "second")
    assert rows(root)["claim-e-2"][0][1:] == ["supported", "no model"]
    assert "differ" not in marks(root)["claim-e-2"]


def test_folded_claim_shows_its_first_statistic(root: Path, leave: Leave) -> None:
    leave(root / "results" / "reference" / "first")
    shown = [" ".join("".join(div.itertext()).split()) for div in parsed(root, "empirical").iter("div")][1:]
    assert shown == ["2 [1, 3] n = 9"]


def test_kinds_stand_apart_with_their_own_verdicts_to_choose_from(root: Path) -> None:
    assert list(rows(root, "empirical")) == ["claim-e-1", "claim-e-2"]
    assert list(rows(root, "identity", "theorem")) == ["claim-i-1", "claim-t-1"]
    options = {option.get("value") for option in parsed(root, "empirical").iter("option")}
    assert {"0 supported", "0 practically zero", "0 not run", "differ"} <= options
    assert not {"0 violated", "0 vacuous"} & options
    assert {"0 vacuous"} <= {option.get("value") for option in parsed(root, "theorem").iter("option")}


def test_only_empirical_claims_are_counted(root: Path, leave: Leave) -> None:
    leave(root / "results" / "reference" / "first")
    tally = board(root).tally().set_index("")
    none = {"not supported": 0, "inconclusive": 0, "practically zero": 0}
    corrected = {"of these after Holm's correction": 1}
    assert list(tally.index) == ["reference"], "no row of what was not run"
    assert tally.loc["reference"].to_dict() == none | {"measured": 1, "supported": 1} | corrected


def test_a_verdict_that_many_tries_would_give_says_so(root: Path, leave: Leave) -> None:
    """Of two claims, one rests on an interval that just ends before the bound: p = .04, and .025 is asked of
    the first, .05 of the second. The interval of the other holds it.
    """
    leave(root / "results" / "reference" / "first", rise=(1, 0.046, 2, 9), fall=(-1, -1.1, -0.9, 9))
    leave(root / "results" / "reference" / "second", rise=ACROSS)
    assert rows(root)["claim-e-1"][0][1:] == ["supported not after Holm's correction"]
    assert board(root).tally().set_index("").loc["reference", "of these after Holm's correction"] == 0


def test_grid_has_a_mark_for_every_claim_that_leads_to_its_row(root: Path, leave: Leave) -> None:
    leave(root / "results" / "reference" / "first", exceptions=(1, 1, 1, 640))
    grid = ElementTree.fromstring(board(root).grid())
    marks = {one.get("href"): one.get("class") for one in grid.iter("a")}
    assert marks == {
        "scoreboard.html#claim-e-1": "mark empirical verdict-supported",
        "scoreboard.html#claim-i-1": "mark identity verdict-violated",
        "scoreboard.html#claim-t-1": "mark theorem verdict-violated",
        "scoreboard.html#claim-e-2": "mark empirical verdict-not-run",
    }
    assert set(rows(root)) == {str(href).partition("#")[2] for href in marks}
    key = words(grid.find("p"))
    assert key.startswith("✓ supported ✕ violated not run could have come out otherwise")
    shapes = [one.get("class") for one in grid.iter("i")][:3]
    assert [str(one).split()[1] for one in shapes] == ["empirical", "identity", "empirical"]


def test_sources_are_what_each_edition_rests_on(root: Path, leave: Leave) -> None:
    leave(root / "results" / "reference" / "first")
    leave(root / "_build" / "runs" / "second")
    sources = board(root).sources()
    assert sources[["", "chapter", "model"]].to_numpy().tolist() == [
        ["reference", "first", "some model"],
        ["this machine", "second", "some model"],
    ]


def test_ledger_of_a_chapter_has_the_columns_that_it_is_given(root: Path, leave: Leave) -> None:
    leave(root / "results" / "reference" / "first")
    claims = load_claims(root / "book" / "claims.yml")
    judged = {"reference": reference(root).entries}
    tree = ElementTree.fromstring(ledger({"I-1": claims["I-1"]}, judged))
    assert [words(cell) for cell in tree.iter("td")] == ["checked", "0 of 640"]
    heads = [words(head) for head in tree.iter("th")]
    assert heads[1:] == [
        "Reference",
        "I-1 A sentence of I-1. identity; Section 3",
        "exceptions criterion: no violation",
    ]


def test_damaged_edition_is_named(root: Path, leave: Leave) -> None:
    leave(root / "results" / "reference" / "first")
    (root / "results" / "reference" / "first" / "rise.csv").unlink()
    with pytest.raises(PrefdynError, match=r"reference/first/rise\.csv: no such table"):
        board(root)


# Numbers, chips and pictures ----------------------------------------------------------------------

ABOVE = Criterion("above", 0.5)


def part(
    estimate: float | None, low: float | None, high: float | None, outcome: str = "holds", n: int = 9
) -> dict[str, Any]:
    seed = {"seed": 0, "estimate": estimate, "interval": [low, high], "n": n, "outcome": outcome}
    return {**seed, "seeds": [seed]}


@pytest.mark.parametrize(
    ("estimate", "low", "high", "criterion", "text"),
    [
        (-0.25, -1.5, 1e-9, ABOVE, "−0.25 [−1.5, 1e−09]"),
        (2.0, None, 3.0, ABOVE, "2 [−∞, 3]"),
        (2.0, 1.0, None, ABOVE, "2 [1, ∞]"),
        (None, None, None, ABOVE, "could not be measured"),
        (3.0, 0.0, 9.0, Criterion("none"), "3 of 9"),
        (12345.0, 12345.0, 12345.0, Criterion("none"), "12,345 of 9"),
        (2.0, 0.5, 3.0, ABOVE, "2 [0.5, 3]"),
        (2.0, 0.50004, 3.0, ABOVE, "2 [0.50004, 3]"),
        (0.2, 0.1, 0.49999, ABOVE, "0.2 [0.1, 0.49999]"),
    ],
)
def test_numbers_in_text(
    estimate: float | None, low: float | None, high: float | None, criterion: Criterion, text: str
) -> None:
    assert numbers(part(estimate, low, high), criterion) == text


def test_chip_says_when_this_machine_disagrees() -> None:
    plain, same, other = chip("supported"), chip("supported", "supported"), chip("supported", "not supported")
    assert plain == '<span class="verdict verdict-supported">supported</span>'
    assert "here" not in same.replace("There", "") and "says the same" in same
    assert "not supported here" in other and "disagree" in other
    assert other.index("verdict-supported") < other.index("not supported here")


def test_quoted_number_is_escaped_and_this_machines_stands_beside_another() -> None:
    assert quote("5 < 6") == "<strong>5 &lt; 6</strong>"
    assert quote("5", "5") == "<strong>5</strong>"
    assert quote("5", "6") == '<strong>5</strong> <span class="here">6 here</span>'
    assert quote("2 [1, 3]", "2", "2 [1, 3]") == "<strong>2 [1, 3]</strong>"
    assert quote("2 [1, 3]", "1", "1 [0, 2]").endswith('<span class="here" title="1 [0, 2]">1 here</span>')
    assert estimate(part(None, None, None), ABOVE) == "none"


def test_every_verdict_has_a_colour() -> None:
    style = (ROOT / "book" / "_static" / "scoreboard.css").read_text(encoding="utf-8")
    others = {VACUOUS, "not run", "no model"}
    every = {word for by_outcome in VERDICTS.values() for word in by_outcome.values()} | others
    assert [word for word in every if f".verdict-{word.replace(' ', '-')}" not in style] == []
    outcomes = {outcome for by_outcome in VERDICTS.values() for outcome in by_outcome}
    assert [outcome for outcome in outcomes if f"svg.interval .{outcome}" not in style] == []


def drawn(
    low: float | None, high: float | None, criterion: Criterion, scale: tuple[float, float]
) -> dict[str, Any]:
    found = picture(part(2.0, low, high), criterion, scale)
    assert found is not None
    return {**found, **found["marks"][0]}


def test_picture_orders_interval_estimate_and_criterion_as_the_numbers_are() -> None:
    seen = drawn(1.0, 3.0, ABOVE, (0.5, 3.0))
    assert seen["bound"] < seen["low"] < seen["at"] < seen["high"] <= WIDTH
    assert (seen["at"] - seen["low"]) == pytest.approx(seen["high"] - seen["at"], abs=0.11)
    assert seen["asked"] == pytest.approx([seen["bound"], WIDTH - seen["bound"]], abs=0.11)


def test_tint_is_on_the_side_that_the_criterion_asks_for() -> None:
    at = drawn(1.0, 3.0, Criterion("below", 2.5), (1.0, 3.0))
    assert at["asked"] == (0, at["bound"])
    assert drawn(1.0, 3.0, Criterion("none"), (0.0, 3.0))["asked"][1] == 0


def test_bar_of_a_one_sided_interval_reaches_the_edge() -> None:
    assert drawn(None, 3.0, ABOVE, (0.5, 3.0))["low"] == 0
    assert drawn(1.0, None, ABOVE, (0.5, 3.0))["high"] == WIDTH


def test_what_could_not_be_measured_has_no_picture() -> None:
    assert picture(part(None, None, None, "open"), ABOVE, (0, 1)) is None


def test_every_picture_has_words(root: Path, leave: Leave) -> None:
    leave(root / "results" / "reference" / "first", rise=ACROSS, exceptions=(1, 1, 1, 640))
    said = {svg.get("aria-label") for svg in parsed(root).iter("svg")}
    assert said == {
        "against the criterion interval above 0, 1 [−1, 3]: cannot be told",
        "against the criterion interval below 0, −2 [−3, −1]: met",
        "against the criterion no violation, 1 of 640: not met",
    }


def test_pictures_of_a_row_share_a_scale_that_shows_all_of_them(root: Path, leave: Leave) -> None:
    leave(root / "results" / "reference" / "first", rise=(20, 10, 30, 9))
    leave(root / "_build" / "runs" / "first")
    (body, *_) = parsed(root).iter("tbody")
    row = body.findall("tr")[1]
    lines = [node.get("d") for node in row.iter("path") if node.get("class") == "criterion"]
    dots = [float(node.get("cx", "")) for node in row.iter("circle")]
    assert lines[0] == lines[1] and WIDTH > dots[0] > dots[1] > 0


# Several seeds ------------------------------------------------------------------------------------


@pytest.fixture
def seeds(root: Path, leave: Leave) -> Path:
    """A reference of three seeds that disagree, and another model's of two."""
    rest = {"fall": [DOWN] * 3, "exceptions": [(0, 0, 0, 640)] * 3, "size": [DOWN] * 3}
    leave(root / "results" / "reference" / "first", rise=[UP, (1.5, -0.25, 2.5, 9), UP], **rest)
    two = {name: every[:2] for name, every in {"rise": [UP] * 2, **rest}.items()}
    leave(root / "results" / "reference-large" / "first", **two)
    return root


def test_seeds_of_an_edition_share_its_column(seeds: Path) -> None:
    claim, rise, _ = rows(seeds)["claim-e-1"]
    assert claim[1:] == ["inconclusive 3 seeds, which differ", "supported 2 seeds"]
    assert rise[1:] == [
        "2 [1, 3] n = 9; 1.5 and 2 with other seeds",
        "2 [1, 3] n = 9; 2 with another seed",
    ]
    (rule,) = [row for row in rows(seeds)["claim-i-1"] if row[0].startswith("exceptions")]
    assert rule[1:3] == ["0 of 640 0 and 0 with other seeds", "0 of 640 0 with another seed"]


def test_picture_draws_each_seed_in_the_colour_of_what_it_says(seeds: Path) -> None:
    svg = next(parsed(seeds).iter("svg"))
    bars = [(group.get("class"), group[0].get("d", "")) for group in svg.iter("g")]
    assert [name for name, _ in bars] == ["first holds", "further open", "further holds"]
    (low, high), (other_low, _), (again_low, again_high) = (
        [float(x) for x in re.findall(r"[MH]([\d.]+)", bar)] for _, bar in bars
    )
    assert other_low < low == again_low < high == again_high
    heights = [float(group[1].get("cy", "")) for group in svg.iter("g")]
    assert heights == sorted(set(heights)) and heights[-1] < float(svg.get("height", ""))
    assert "1.5 [−0.25, 2.5]: cannot be told" in svg.get("aria-label", "")


# What a page quotes -------------------------------------------------------------------------------


@pytest.fixture
def glued(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What was glued, as words."""
    out: dict[str, str] = {}

    def keep(key: str, value: Any, display: bool) -> None:
        out[key] = " ".join(re.sub(r"<[^>]+>", " ", value.data).split())

    monkeypatch.setattr(scoreboard, "glue", keep)
    return out


def test_page_quotes_the_reference_with_this_machine_beside_it(
    seeds: Path, leave: Leave, glued: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(seeds / "_build" / "runs" / "first", fall=ACROSS, exceptions=(2, 2, 2, 99))
    monkeypatch.setattr(scoreboard, "QUOTED", {"first": {"up": lambda tables: str(len(tables["rise"]))}})
    more = {"first": {"down": lambda tables: f"{tables['fall']['value'].iloc[0]:g}"}}
    monkeypatch.setattr(scoreboard, "ON_THE_SCOREBOARD", more)
    board(seeds).glue()
    assert {key: glued[key] for key in ("E-1", "E-1-n", "E-1-2", "E-1-verdict", "I-1")} == {
        "E-1": "2 [1, 3]",
        "E-1-n": "9",
        "E-1-2": "−2 [−3, −1] 1 here",
        "E-1-verdict": "inconclusive",
        "I-1": "0 of 640 2 of 99 here",
    }
    assert (glued["first/up"], glued["first/down"]) == ("1", "-2 1 here")
    assert glued["E-2"] == glued["E-2-verdict"] == "not run", "a page that quotes it says so"


def test_what_this_machine_left_out_leaves_the_references_number_alone(tmp_path: Path) -> None:
    for name, rows in (("reference", "2,0"), ("here", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "fall.csv").write_text(f"# profile: smoke\nvalue,seed\n{rows}\n")
        (tmp_path / name / "rise.csv").write_text("# profile: smoke\nvalue,seed\n1,0\n")
    finding, local = Tables(tmp_path / "reference"), Tables(tmp_path / "here")

    def first(tables: Tables) -> str:
        if tables["fall"].empty:
            raise NotMeasured("nothing fell")
        return str(tables["fall"]["value"].iloc[0])

    assert quoting.quotes({"a": first}, finding, local) == {"a": "<strong>2</strong>"}
    assert quoting.quotes({"a": first}, local, finding) == {"a": "<strong>not run</strong>"}
    with pytest.raises(PrefdynError, match=r"here: the number b .*fall\.csv has no rows"):
        quoting.quotes({"b": lambda tables: str(tables["fall"]["value"].iloc[0])}, finding, local)


# Places -------------------------------------------------------------------------------------------

PAGE = """# First

```{admonition} In short
It is {glue}`E-1`.
```

## Where it's measured

Not {glue}`E-11`, and {glue}`T-1-verdict`.

### Deeper

It is {glue}`E-1-n` and {glue}`E-1`.
"""


@pytest.mark.parametrize("executed", [False, True])
def test_place_of_a_claim_is_the_first_section_that_quotes_it(root: Path, executed: bool) -> None:
    if executed:
        cells = [nbformat.v4.new_markdown_cell(text) for text in PAGE.split("\n\n")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "book" / "first.ipynb")
    else:
        head = "---\njupytext:\n  text_representation:\n    format_name: myst\n---\n\n"
        (root / "book" / "first.md").write_text(head + PAGE, encoding="utf-8")
    assert places(root, load_claims(root / "book" / "claims.yml")) == {
        "E-1": "first.html#deeper",
        "I-1": "first.html",
        "T-1": "first.html#where-it-s-measured",
        "E-2": "second.html",
    }


# The editions that come with the book -------------------------------------------------------------


def test_every_shipped_file_is_small_and_says_where_it_comes_from() -> None:
    for path in (ROOT / "results").glob("reference*/*/*.csv"):
        assert path.stat().st_size <= 2**20, path
        head = path.read_text(encoding="utf-8")
        assert head.startswith("# commit: "), path
        assert "\n# seeds: " in head and re.search(r"\n# made: \d{4}-", head), path
