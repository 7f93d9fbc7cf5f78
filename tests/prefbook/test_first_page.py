"""The first page and the README: five findings, each with its number, its verdict and its figure."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
import yaml

from prefbook.ledger.claims import load_claims
from prefbook.ledger.editions import others, reference
from prefbook.ledger.quoted import QUOTED
from prefbook.publishing import quoting

ROOT = Path(__file__).parents[2]
GLUE = re.compile(r"\{glue\}`([^`]+)`")
ROLE = re.compile(r"\{\w+\}`(?:([^`<]+?) ?<[^`>]*>|([^`]+))`")


def findings() -> list[str]:
    text = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    section = text.partition("## Five findings")[2].partition("\n## ")[0]
    return re.findall(r"^\d\. (.*)$", section, re.M)


@pytest.fixture(scope="module")
def numbers() -> dict[str, str]:
    """Every number of a claim or a chapter as the first page shows it, without markup."""
    claims, shipped = load_claims(ROOT / "book" / "claims.yml"), reference(ROOT)
    told = quoting.of_claims(claims, shipped.entries, None)
    told |= quoting.of_others(claims, {one.title: one.entries for one in others(ROOT)})
    for chapter, tellers in QUOTED.items():
        quoted = quoting.quotes(tellers, shipped.tables(chapter), None)
        told |= {f"{chapter}/{key}": value for key, value in quoted.items()}
    return {key: html.unescape(re.sub(r"<[^>]+>", "", value)).strip() for key, value in told.items()}


def test_five_findings_with_a_number_a_verdict_and_a_figure() -> None:
    found = findings()
    assert len(found) == 5
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.md")]
    figures = {name for page in pages for name in re.findall(r"name: (fig-[\w-]+)", page)}
    for line in found:
        keys = GLUE.findall(line)
        assert any(key.endswith("-verdict") for key in keys), line
        assert any(not key.endswith(("-verdict", "-n")) for key in keys), line
        drawn = re.findall(r"\{(?:num)?ref\}`(?:[^`<]*<)?(fig-[\w-]+)", line)
        assert drawn and set(drawn) <= figures, line
        plain = re.sub(r"\{\w+\}`[^`]*`", "", line)
        assert not re.search(r"\d", plain), "a number that is not glued"


def test_every_finding_was_measured(numbers: dict[str, str]) -> None:
    for line in findings():
        for key in GLUE.findall(line):
            assert numbers[key] not in ("", "not run", "could not be measured"), key


def test_readme_opens_with_the_same_findings(numbers: dict[str, str]) -> None:
    """With the numbers of the shipped tables; what should stand there is in the message."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for number, line in enumerate(findings(), 1):
        text = re.sub(r" \(\{numref\}`[^`]*`\)", "", line)
        text = re.sub(r"\{glue\}`([\w/-]+-verdict)`", lambda match: f"(*{numbers[match[1]]}*)", text)
        text = GLUE.sub(lambda match: numbers[match[1]], text)
        text = ROLE.sub(lambda match: match[1] or match[2], text)
        assert f"{number}. {text}\n" in readme, f"README.md should have:\n{number}. {text}"


def test_version_and_date_are_those_to_cite() -> None:
    cite = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    text = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    assert f"Version {cite['version']} of {cite['date-released']}." in text
    name, year = cite["authors"][0]["name"], cite["date-released"][:4]
    assert f"{name}, *{cite['title']}*, version {cite['version']}, {year}." in text
