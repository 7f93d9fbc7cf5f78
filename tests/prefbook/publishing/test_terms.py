"""Words of the glossary: a link to one has its definition, which is shown on hover and on focus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from docutils import nodes
from sphinx.application import Sphinx

from prefbook.publishing import terms

ROOT = Path(__file__).parents[3]

WORDS = """# Words

```{glossary}
margin
  The rise $r_i = 2\\beta u \\cdot g_i$ of a *log-ratio*.
  Used in {doc}`page`.

twin
clone
  One of two.
```
"""
PAGE = """# A page

A {term}`margin`, {term}`margins <margin>`, a {term}`clone`; [elsewhere](words.md), and {term}`margin` again.
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built page with terms."""
    root = tmp_path_factory.mktemp("book of words")
    (root / "book").mkdir()
    (root / "book" / "words.md").write_text(WORDS)
    (root / "book" / "page.md").write_text(PAGE)
    (root / "index.md").write_text("# Index\n\n```{toctree}\nbook/words\nbook/page\n```\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terms, "GLOSSARY", "book/words")
        settings = {
            "extensions": ["myst_parser", "prefbook.publishing.terms"],
            "myst_enable_extensions": ["dollarmath"],
        }
        app = Sphinx(root, None, root / "html", root / "trees", "html", confoverrides=settings, status=None)
        app.build()
    return root / "html" / "book" / "page.html"


def test_link_to_a_word_has_the_first_line_of_its_definition(page: Path) -> None:
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    found = [(link.get_text(), link.get("title")) for link in soup.select("a.reference.internal")]
    rise = "The rise r_i = 2βu⋅g_i of a log-ratio."
    linked = [("margin", rise), ("margins", rise), ("clone", "One of two."), ("elsewhere", None)]
    assert [pair for pair in found if pair in linked] == [*linked, ("margin", rise)]


@pytest.mark.parametrize(
    ("formula", "line"),
    [
        (r"\delta = \lVert \mu_+ - \mu_- \rVert", "δ = ‖μ_+−μ_−‖"),
        (r"^\gamma", "^γ"),
        (r"\frac{a}{b}", "a / b"),
        (r"-\log \sigma(r) < 1", "−log σ(r) < 1"),
        (r"(r - 1)^2", "(r−1)^2"),
    ],
)
def test_formula_is_written_in_a_line(formula: str, line: str) -> None:
    assert terms.plain(nodes.math(formula, formula)) == line


@pytest.mark.site
def test_definition_is_shown_on_hover_and_on_focus_and_goes_with_escape(page: Path, browser: Any) -> None:
    tab = browser.new_page(viewport={"width": 390, "height": 700})
    tab.goto(page.as_uri())
    tab.add_style_tag(path=ROOT / "book" / "_static" / "style.css")
    tab.add_script_tag(path=ROOT / "book" / "_static" / "terms.js")
    tip, links = tab.locator("#definition"), tab.locator("a:has(> .std-term)")
    assert tip.is_hidden()
    assert links.first.get_attribute("title") is None, "or the browser shows it a second time"

    links.first.hover()
    assert tip.is_visible() and tip.inner_text().startswith("The rise r_i")
    box = tip.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    tip.hover()
    tab.wait_for_timeout(400)
    assert tip.is_visible(), "a definition can be pointed at"
    tab.mouse.move(380, 690)
    tip.wait_for(state="hidden")

    links.nth(2).focus()
    assert tip.inner_text() == "One of two."
    assert links.nth(2).get_attribute("aria-describedby") == tip.get_attribute("id")
    assert tip.get_attribute("role") == "tooltip"
    tab.keyboard.press("Escape")
    assert tip.is_hidden() and links.nth(2).get_attribute("aria-describedby") is None
    links.nth(0).focus()
    assert tip.is_visible()
    links.nth(0).blur()
    tip.wait_for(state="hidden")
    tab.close()


@pytest.mark.site
def test_every_word_of_a_chapter_has_its_definition(html: Path) -> None:
    text = (html / "book" / "distinguishability.html").read_text(encoding="utf-8")
    soup = BeautifulSoup(text, "html.parser")
    links = [word.parent for word in soup.select("article a > .std-term")]
    assert len(links) > 10 and all(len(str(link.get("title", ""))) > 20 for link in links if link)
