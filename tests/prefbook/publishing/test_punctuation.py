"""A formula and the mark after it are one piece, which no line ends in."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup
from sphinx.application import Sphinx

PAGE = """# A page

With $a$, and with $b$ and ($c$); (see $d$).
Last *$e$*, $f$

> $g$
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> BeautifulSoup:
    root = tmp_path_factory.mktemp("a book of formulas")
    (root / "index.md").write_text(PAGE)
    settings = {
        "extensions": ["myst_parser", "prefbook.publishing.punctuation"],
        "myst_enable_extensions": ["dollarmath"],
    }
    Sphinx(root, None, root / "html", root / "trees", "html", confoverrides=settings, status=None).build()
    return BeautifulSoup((root / "html" / "index.html").read_text(encoding="utf-8"), "html.parser")


def test_marks_stay_with_the_formula_before_them(page: BeautifulSoup) -> None:
    found = [piece.get_text() for piece in page.select("span.together")]
    assert found == [r"\(a\),", r"\(c\));", r"\(d\))."]


def test_the_text_is_what_it_was(page: BeautifulSoup) -> None:
    text = page.select_one("section p").get_text()  # type: ignore[union-attr]
    assert text == "With \\(a\\), and with \\(b\\) and (\\(c\\)); (see \\(d\\)).\nLast \\(e\\), \\(f\\)"
