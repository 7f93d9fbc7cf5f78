"""How to cite: CITATION.cff, codemeta.json and the paper agree with each other, with the packages and with
the bibliography.
"""

from __future__ import annotations

import json
import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

import prefdyn
from prefbook.ledger.claims import THIS_BOOK, load_claims

ROOT = Path(__file__).parents[1]
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
CODEMETA: dict[str, Any] = json.loads((ROOT / "codemeta.json").read_text(encoding="utf-8"))
PAPER = (ROOT / "paper.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BIBLIOGRAPHY = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
ENTRIES = {key: text for key, text in re.findall(r"^@\w+\{(\S+),\n(.*?)^\}", BIBLIOGRAPHY, re.M | re.S)}
EXISTING = {
    "2403.18742": "Understanding the Learning Dynamics of Alignment with Human Feedback",
    "2408.03459": "Can DPO Learn Diverse Human Values? A Theoretical Scaling Law",
    "2510.01458": "How Well Can Preference Optimization Generalize Under Noisy Feedback?",
    "2405.19534": "Preference Learning Algorithms Do Not Learn Preference Rankings",
}
"""The four papers under the titles of their latest versions, by their number at arXiv."""


def plain(title: str) -> str:
    return re.sub(r"[{}]", "", title)


def test_citation_has_what_its_format_asks() -> None:
    assert CITATION["cff-version"] == "1.2.0" and CITATION["type"] in ("software", "dataset")
    assert CITATION["message"] and CITATION["title"] and CITATION["authors"]
    date.fromisoformat(CITATION["date-released"])
    for work in CITATION["references"]:
        assert {"type", "title", "authors", "year", "doi"} <= set(work)
        assert all({"family-names", "given-names"} == set(person) for person in work["authors"])


def test_papers_are_cited_in_the_versions_that_exist() -> None:
    cited = {work["doi"].removeprefix("10.48550/arXiv."): work["title"] for work in CITATION["references"]}
    assert cited == EXISTING
    versions = {work["title"]: work["version"] for work in CITATION["references"] if "version" in work}
    assert versions == {EXISTING["2408.03459"]: "v5", EXISTING["2510.01458"]: "v2"}, "those with a new title"
    own = {
        work["@id"].removeprefix("https://doi.org/10.48550/arXiv."): work["name"]
        for work in CODEMETA["referencePublication"]
    }
    assert own == EXISTING


def test_every_paper_that_is_measured_is_cited() -> None:
    papers = {claim.paper for claim in load_claims(ROOT / "book" / "claims.yml").values()} - {THIS_BOOK}
    numbers = {key: re.search(r"eprint *= *\{([\d.]+)\}", ENTRIES[key]) for key in papers}
    # The text that chapter 3 measures was under anonymous review, and has no number.
    known = {found[1] for found in numbers.values() if found}
    assert len(known) >= 3 and {"2403.18742", "2408.03459", "2405.19534"} <= known


def test_bibliography_has_the_papers_that_exist() -> None:
    found = {
        number[1]: plain(title[1])
        for text in ENTRIES.values()
        if (number := re.search(r"eprint *= *\{([\d.]+)\}", text))
        and (title := re.search(r"title *= *\{(.+)\},?\n", text))
    }
    assert found["2510.01458"] == EXISTING["2510.01458"]
    assert found["2405.19534"] == EXISTING["2405.19534"]


def test_codemeta_says_the_same() -> None:
    assert CODEMETA["@context"] == "https://w3id.org/codemeta/3.0"
    assert CODEMETA["@type"] == "SoftwareSourceCode"
    assert (CODEMETA["name"], CODEMETA["alternateName"]) == (PROJECT["name"], CITATION["title"])
    assert CODEMETA["description"] == CITATION["abstract"] and CODEMETA["keywords"] == CITATION["keywords"]
    assert CODEMETA["version"] == CITATION["version"] == prefdyn.__version__
    assert CODEMETA["dateModified"] == CITATION["date-released"]
    assert [author["name"] for author in CODEMETA["author"]] == [who["name"] for who in CITATION["authors"]]
    assert [place.rpartition("/")[2] for place in CODEMETA["license"]] == CITATION["license"]
    assert (
        CODEMETA["runtimePlatform"] == "Python 3.11 to 3.13" and PROJECT["requires-python"] == ">=3.11,<3.14"
    )
    for name in (
        "readme",
        "softwareHelp",
        "buildInstructions",
        "continuousIntegration",
        "softwareRequirements",
    ):
        assert (ROOT / CODEMETA[name]).is_file(), name


# The paper ----------------------------------------------------------------------------------------


FRONT: dict[str, Any] = yaml.safe_load(PAPER.split("---\n")[1])
TEXT = PAPER.split("---\n", 2)[2]


def test_paper_has_the_form_that_the_journal_asks_for() -> None:
    assert {"title", "tags", "authors", "affiliations", "date", "bibliography"} <= set(FRONT)
    indices = {place["index"] for place in FRONT["affiliations"]}
    assert all(author["affiliation"] in indices for author in FRONT["authors"])
    assert (ROOT / FRONT["bibliography"]).is_file()
    headings = re.findall(r"^# (.+)$", TEXT, re.M)
    assert headings[:3] == ["Summary", "Statement of need", "Learning objectives"]
    assert headings[-2:] == ["Acknowledgements", "References"]
    assert 900 <= len(TEXT.split()) <= 1100


def test_paper_cites_what_the_bibliography_has() -> None:
    cited = set(re.findall(r"@(\w+)", TEXT))
    assert len(cited) >= 8 and cited <= set(ENTRIES)
    eprints = " ".join(ENTRIES[key] for key in cited)
    assert all(number in eprints for number in EXISTING)


def test_paper_types_no_measured_number() -> None:
    assert not re.search(r"\d[.,]\d|\d ?%|[ρδ] ?=", TEXT)


@pytest.mark.parametrize("line", [line for line in TEXT.splitlines() if re.match(r"\d\. ", line)])
def test_objectives_are_those_of_the_teaching_page(line: str) -> None:
    assert line in (ROOT / "book" / "teach.md").read_text(encoding="utf-8").splitlines()
