"""The pages of the site as one, before it is printed (test_site prints it)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from prefbook.figures import explorer
from prefbook.publishing import pdf
from prefdyn.errors import PrefdynError

PAGE = """<html><head><title>T</title><script src="theme.js"></script></head>
<body><article class="bd-article">
<h1 id="top">Title</h1><a href="#top">up</a><a href="second.html#top">on</a>
<a href="api/data.html#x">look up</a>
<a href="https://example.org/">out</a><details class="sd-dropdown"><p>a note</p></details>
<details class="hide"><p>how it is drawn</p></details></article></body></html>"""


def test_links_lead_where_their_targets_now_are_or_nowhere(tmp_path: Path) -> None:
    pages = [tmp_path / "first.html", tmp_path / "second.html"]
    for page in pages:
        page.write_text(PAGE)
    whole = BeautifulSoup(pdf.one_page(pages), "html.parser")
    articles = whole.select("article")
    assert [article["id"] for article in articles] == ["first", "second"]
    links = {link.get_text(): link.get("href") for link in articles[0].select("a")}
    assert links == {
        "up": "#first--top",
        "on": "#second--top",
        "look up": None,
        "out": "https://example.org/",
    }
    assert len(whole.select("details[open]")) == 2
    assert "how it is drawn" not in whole.get_text() and not whole.select("script")


def test_interactive_figures_are_drawn(browser: Any, tmp_path: Path) -> None:
    pages = [tmp_path / "first.html", tmp_path / "second.html"]
    for page in pages:
        page.write_text(PAGE.replace("</article>", explorer.noise_explorer(draws=2) + "</article>"))
    whole = browser.new_page()
    whole.set_content(pdf.one_page(pages))
    assert [figure.locator("svg").count() for figure in whole.locator("figure").all()] == [2, 2]
    whole.close()


def test_missing_page_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrefdynError, match=r"gone\.html: no such file"):
        pdf.one_page([tmp_path / "gone.html"])
