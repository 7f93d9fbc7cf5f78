"""Slides: they open alone, nothing overflows, and they hold the findings, what is numbered and the ledger."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from prefbook.ledger.editions import reference
from prefbook.project import chapters
from prefbook.publishing import slides
from prefdyn.errors import PrefdynError

ROOT = Path(__file__).parents[3]
CHAPTERS = chapters(ROOT)
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS)


def numbered(html: Path, chapter: str) -> list[str]:
    """Captions of the definitions, theorems and figures of a page's main line, such as "Figure 1.2"."""
    page = BeautifulSoup((html / "book" / f"{chapter}.html").read_text(encoding="utf-8"), "html.parser")
    for aside in page.select(", ".join(f"section#{name}" for name in slides.ASIDE)):
        aside.decompose()
    boxes = page.select("article figure[id]:has(img), article div.proof[id]")
    found = [box.select_one(".caption-number") for box in boxes]
    return [number.get_text().strip() for number in found if number]


@pytest.fixture(scope="session")
def decks(html: Path) -> dict[str, Path]:
    """Those of the built site."""
    return {chapter: html / "slides" / f"{chapter}.html" for chapter in CHAPTERS}


OVERFLOWING = """() => [...document.querySelectorAll('.frame')].flatMap((frame, number) => {
  Reveal.slide(number);
  const room = frame.getBoundingClientRect();
  return [...frame.querySelectorAll('*')].filter((node) => {
    const box = node.getBoundingClientRect();
    const out = box.bottom > room.bottom + 1 || box.right > room.right + 1 ||
      box.left < room.left - 1 || box.top < room.top - 1;
    return out && box.width > 0 && !node.closest('mjx-assistive-mml');
  }).map((node) => `${number + 1}: ${node.tagName} ${node.textContent.slice(0, 30)}`);
})"""


@pytest.mark.site
@each_chapter
def test_deck_opens_alone_and_nothing_overflows(
    browser: Any, html: Path, decks: dict[str, Path], chapter: str
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    requests: list[str] = []
    errors: list[str] = []
    page.on(
        "request",
        lambda request: requests.append(request.url) if not request.url.startswith("data:") else None,
    )
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(decks[chapter].as_uri())
    page.evaluate("window.ready")
    assert requests == [decks[chapter].as_uri()] and errors == []
    assert (
        page.evaluate("Reveal.getTotalSlides()")
        == page.locator(".frame").count()
        > len(numbered(html, chapter))
    )
    assert page.evaluate(OVERFLOWING) == []
    assert (
        page.locator("mjx-merror, [data-mjx-error]").count() == 0
        and page.locator("mjx-container").count() > 5
    )
    assert page.locator("section section").count() == 0
    sizes = page.evaluate(
        "[...document.querySelectorAll('.text')].map((text) => parseFloat(getComputedStyle(text).fontSize))"
    )
    assert min(sizes) >= 20
    page.close()


@pytest.fixture(scope="module")
def judged() -> dict[str, dict[str, Any]]:
    """The claims as the reference edition has them, by id."""
    return reference(ROOT).entries


@pytest.mark.site
@each_chapter
def test_deck_has_the_findings_what_the_main_line_numbers_and_the_ledger(
    html: Path, decks: dict[str, Path], judged: dict[str, dict[str, Any]], chapter: str
) -> None:
    shown = BeautifulSoup(decks[chapter].read_text(encoding="utf-8"), "html.parser").select_one(".slides")
    assert shown is not None
    text = shown.get_text()
    assert shown.find("h2", string="In short")
    for caption in numbered(html, chapter):
        assert re.search(rf"{re.escape(caption)}(?!\d)", text), caption
    for entry in judged.values():
        if entry["chapter"] == chapter:
            assert entry["id"] in text and entry["sentence"] in text and entry["verdict"] in text
            assert all(part["statistic"] in text for part in entry["statistics"])
    assert "here)" not in text and not shown.select(".here")
    assert all(
        str(image["src"]).startswith("data:image/") and len(image["alt"]) > 20
        for image in shown.select("img")
    )


@pytest.mark.site
def test_site_leads_to_every_deck_and_a_deck_asks_before_it_shows(html: Path, decks: dict[str, Path]) -> None:
    sessions = BeautifulSoup((html / "book" / "sessions.html").read_text(encoding="utf-8"), "html.parser")
    links = [str(link["href"]) for link in sessions.select('article a[href^="../slides/"]')]
    assert {(html / "book" / link).resolve() for link in links} == {path.resolve() for path in decks.values()}
    deck = BeautifulSoup(decks["noise"].read_text(encoding="utf-8"), "html.parser")
    kinds = [
        "question" if frame.select_one(".question") else "picture"
        for frame in deck.select(".frame")
        if frame.select_one(".question, .picture")
    ]
    assert kinds.count("picture") == sum(caption.startswith("Fig") for caption in numbered(html, "noise")) > 4
    asked = [before for before, kind in itertools.pairwise(kinds) if kind == "picture"]
    assert set(asked) == {"question"}


# On a page made by hand ---------------------------------------------------------------------------

PAGE = """<article><section>
<h1><span class="section-number">9. </span>What <em>is</em> it?<a class="headerlink">#</a></h1>
<p>First &amp; second.
Third &lt;b&gt;.
Fourth.
Fifth.</p>
<div class="in-short admonition"><p class="admonition-title">In short</p>
<ul><li><p>It is <strong>1</strong> <span class="here">2 here</span>.</p></li></ul><p>Nine minutes.</p></div>
<section id="idea"><h2>The idea</h2><p>A lead, with a <a href="#x">link</a>.
More.</p>
<div class="proof theorem admonition" id="thm">
<p class="admonition-title"><span class="caption-number">Theorem 9.1</span></p>
<section><p>It holds.</p></section></div>
<details class="sd-dropdown predict"><summary>
<span class="sd-summary-text">Predict: is it <em>so</em>?</span></summary>
<div><p>It is.</p></div></details>
<div class="proof admonition" id="p"><p class="admonition-title">Proof</p><p>Trivial.</p></div>
<p>Long.
So it is</p><div class="math" id="e1">\\[a\\]</div><div class="math" id="e2">\\[b\\]</div></section>
<section id="referee-s-notes"><h2>Notes</h2><p>No.</p><div class="math" id="e3">\\[c\\]</div></section>
</section></article>"""


def test_rule_of_the_slides(tmp_path: Path) -> None:
    page, frame = tmp_path / "page.html", tmp_path / "frame.html"
    page.write_text(PAGE, encoding="utf-8")
    frame.write_text(
        "{{ title }}|{{ opening }}|{{ reveal and mathjax and reveal_css and 1 }}"
        "{% for slide in slides %}\n"
        "{{ slide.kind }}|{{ slide.heading }}|{{ slide.lead }}|{{ slide.body }}{% endfor %}"
    )
    made = slides.deck(page, frame)
    lines = re.sub(r"\n(?!(text|statement|question)\|)", " ", made).split("\n")
    assert lines[0] == "What is it?|First &amp; second. Third &lt;b&gt;. Fourth.|1"
    assert lines[1] == "text|In short||<ul><li><p>It is <strong>1</strong> .</p></li></ul>"
    assert lines[2].startswith("statement|The idea|A lead, with a link.|<div") and "It holds." in lines[2]
    assert lines[3] == "question|The idea||<p>Predict: is it <em>so</em>?</p>"
    assert lines[4].startswith("text|The idea||<p>So it is</p><div") and "b" in lines[4]
    assert len(lines) == 5 and "It is.<" not in made and "Trivial" not in made and "Notes" not in made


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PrefdynError, match="the slides need the package no-such-package: install the extra"):
        slides._package("no_such_package")
