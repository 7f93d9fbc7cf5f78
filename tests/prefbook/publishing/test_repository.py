"""A site that is published from a repository: one address in _config.yml switches on all that leads there,
and nothing of it is loaded.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jupytext
import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

from prefbook.publishing import notebooks, repository, site
from prefbook.publishing.repository import Repository
from prefdyn.errors import PrefdynError

ROOT = Path(__file__).parents[3]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
PAGES = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]
HOME = "https://someone.github.io/a-book/"

TABLE_OF_CONTENTS = """format: jb-book
root: book/index
parts: [{caption: Chapters, numbered: true, chapters: [{file: book/small}]}]
"""
FIRST = """---
description: What the whole is about, "quoted" & marked.
---
# What Preference Learning Learns

Read {doc}`small`, or {doc}`its exercise <small>`.
"""
CHAPTER = """---
description: What the chapter is about.
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A small chapter

It has a sentence.

```{code-cell} ipython3
:tags: [parameters]

seed: int = 0  # of the draw
```

```{exercise}
:label: ex-sum
**By hand.** Add one and one.
```

```{solution} ex-sum
Two.
```
"""


def write_book(root: Path, url: str) -> Path:
    """A book of two pages with our settings and another repository; the chapter as an executed notebook."""
    (root / "book" / "checks").mkdir(parents=True)
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    text, changed = re.subn(r"(?m)^(repository:\n  url: ).*$", rf'\g<1>"{url}"', config)
    assert changed == 1
    (root / "_config.yml").write_text(text, encoding="utf-8")
    (root / "_toc.yml").write_text(TABLE_OF_CONTENTS)
    (root / "book" / "index.md").write_text(FIRST)
    (root / "book" / "small.md").write_text(CHAPTER)
    (root / "book" / "claims.yml").touch()
    for name in ("references.bib", "slides.html"):
        shutil.copy(ROOT / "book" / name, root / "book")
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    (root / "results" / "reference" / "small").mkdir(parents=True)
    (root / "results" / "reference" / "small" / "points.csv").write_text("# made: 2026\nseed\n0\n")
    executed = root / "run" / "small.ipynb"
    executed.parent.mkdir()
    nbformat.write(jupytext.reads(CHAPTER, fmt="md:myst"), executed)
    return executed


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site of a book whose repository is named."""
    root = tmp_path_factory.mktemp("book")
    executed = write_book(root, "https://github.com/Someone/a-book.git")
    return site.build(root, {"small": executed}).parent


def page(html: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((html / f"{name}.html").read_text(encoding="utf-8"), "lxml")


def metas(soup: BeautifulSoup) -> dict[str, str]:
    tags = [tag for tag in soup.find_all("meta") if tag.get("property") or tag.get("name")]
    return {str(tag.get("property") or tag.get("name")): str(tag.get("content")) for tag in tags}


# The address --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "owner", "name", "home"),
    [
        ("https://github.com/Someone/a-book", "Someone", "a-book", HOME),
        ("https://github.com/Someone/a-book.git", "Someone", "a-book", HOME),
        ("https://github.com/Someone/a.book/", "Someone", "a.book", "https://someone.github.io/a.book/"),
        ("https://github.com/Me/me.github.io", "Me", "me.github.io", "https://me.github.io/"),
    ],
)
def test_address_names_the_owner_the_repository_and_the_site(
    tmp_path: Path, url: str, owner: str, name: str, home: str
) -> None:
    (tmp_path / "_config.yml").write_text(f"repository: {{url: '{url}'}}\n")
    found = repository.of(tmp_path)
    assert found == Repository(owner, name) and found.site == home
    assert found.url == f"https://github.com/{owner}/{name}"


@pytest.mark.parametrize(
    "text", ["", "repository:\n", "repository: {url: ''}\n", "repository: {branch: x}\n"]
)
def test_no_address_is_no_repository(tmp_path: Path, text: str) -> None:
    (tmp_path / "_config.yml").write_text(text)
    assert repository.of(tmp_path) is None


@pytest.mark.parametrize(
    "url",
    ["github.com/a/b", "https://github.com/a", "https://elsewhere.org/a/b", "https://github.com/a/b/c", 7],
)
def test_other_address_is_refused_in_one_sentence(tmp_path: Path, url: object) -> None:
    (tmp_path / "_config.yml").write_text(f"repository: {{url: {json.dumps(url)}}}\n")
    with pytest.raises(
        PrefdynError, match=r"write https://github\.com/OWNER/NAME, or leave it empty"
    ) as error:
        repository.of(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("named", ["https://github.com/a/b", "[https://github.com/a/b]"])
def test_address_in_another_place_is_refused_in_one_sentence(tmp_path: Path, named: str) -> None:
    (tmp_path / "_config.yml").write_text(f"repository: {named}\n")
    with pytest.raises(PrefdynError, match=r"_config\.yml: .* write its address under `repository: url`"):
        repository.of(tmp_path)


# What every page says of itself -------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_page_is_described_in_its_front_matter(name: str) -> None:
    text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
    words = yaml.safe_load(text.split("---\n")[1])["description"] if text.startswith("---\n") else ""
    assert 50 <= len(words) <= 200 and words.endswith((".", "?")), "a sentence that a search engine shows"
    assert not re.search(r"[{}`*$]|\d\.\d", words), "plain words, and no measured number"


def test_descriptions_differ() -> None:
    texts = [(ROOT / f"{name}.md").read_text(encoding="utf-8") for name in PAGES]
    words = [yaml.safe_load(text.split("---\n")[1])["description"] for text in texts]
    assert len(set(words)) == len(PAGES)


@pytest.mark.site
def test_site_without_a_repository_has_descriptions_alone(html: Path) -> None:
    assert repository.of(ROOT) is None, "the test below looks at a site with one"
    for name in [*PAGES, "index"]:
        soup = page(html, name)
        found = metas(soup)
        assert len(found["description"]) >= 50
        assert not [key for key in found if key.startswith(("og:", "twitter:"))]
        assert soup.find("link", rel="canonical") is None
        assert soup.select(".dropdown-source-buttons, .dropdown-launch-buttons") == []
    for file in ("sitemap.xml", "colab", ".nojekyll"):
        assert not (html / file).exists()


# A published site ---------------------------------------------------------------------------------


BOOK = "What Preference Learning Learns"


@pytest.mark.site
@pytest.mark.parametrize(
    ("name", "heading", "title", "words", "address"),
    [
        ("book/index", BOOK, BOOK, 'What the whole is about, "quoted" & marked.', HOME),
        ("index", BOOK, BOOK, 'What the whole is about, "quoted" & marked.', HOME),
        (
            "book/small",
            "1. A small chapter",
            f"1. A small chapter — {BOOK}",
            "What the chapter is about.",
            f"{HOME}book/small.html",
        ),
    ],
)
def test_page_says_what_it_is_and_where(
    published: Path, name: str, heading: str, title: str, words: str, address: str
) -> None:
    soup = page(published, name)
    found = metas(soup)
    assert soup.title and soup.title.text == title
    assert {image["alt"] for image in soup.select("img.logo__image")} == {f"{BOOK}: the first page"}
    assert found["description"] == found["og:description"] == words
    assert len(soup.find_all("meta", attrs={"name": "description"})) == 1
    assert found["og:title"] == heading and found["og:site_name"] == BOOK
    assert found["og:url"] == address
    assert [link["href"] for link in soup.find_all("link", rel="canonical")] == [address]
    assert found["twitter:card"] == "summary_large_image"
    picture = found["og:image"]
    assert picture.startswith(HOME) and (published / picture.removeprefix(HOME)).is_file()


@pytest.mark.site
def test_buttons_lead_to_the_source_and_to_notebooks(published: Path) -> None:
    def links(name: str, group: str) -> list[str]:
        return [str(link["href"]) for link in page(published, name).select(f".dropdown-{group}-buttons a")]

    source = "https://github.com/Someone/a-book"
    assert links("book/small", "source") == [
        source,
        f"{source}/edit/main/book/small.md",
        f"{source}/issues/new?title=book/small",
    ]
    assert links("book/index", "source")[1] == f"{source}/edit/main/book/index.md"
    assert links("book/small", "launch") == [
        "https://mybinder.org/v2/gh/Someone/a-book/main?urlpath=lab/tree/_build/course/student/small.ipynb",
        "https://colab.research.google.com/github/Someone/a-book/blob/gh-pages/colab/small.ipynb",
    ]
    assert links("book/index", "launch") == [], "only a chapter is a notebook"
    assert links("genindex", "source") == []


@pytest.mark.site
def test_sitemap_has_every_page_once(published: Path) -> None:
    space = {"map": "http://www.sitemaps.org/schemas/sitemap/0.9"}
    found = ElementTree.parse(published / "sitemap.xml").findall("map:url/map:loc", space)
    assert [node.text for node in found] == [HOME, f"{HOME}book/small.html"]
    assert (published / ".nojekyll").is_file(), "or GitHub Pages leaves out _static"


@pytest.mark.site
def test_published_site_loads_nothing_from_elsewhere(published: Path, browser: Any) -> None:
    asked: list[str] = []
    for name in ("index", "book/small"):
        tab = browser.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(f"{published.as_uri()}/{name}.html")
        tab.get_by_role("button", name="The source of this page").click()
        assert tab.get_by_role("link", name="Suggest an edit").is_visible()
        tab.close()
    assert asked and [url for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.mark.site
def test_colab_opens_a_class_notebook_that_fetches_the_book_first(published: Path) -> None:
    notebook = nbformat.read(published / "colab" / "small.ipynb", as_version=4)
    nbformat.validate(notebook)
    first, *rest = notebook.cells
    assert (
        first.cell_type == "code"
        and "git clone --quiet --depth 1 https://github.com/Someone/a-book\n" in first.source
    )
    assert first.source.splitlines()[-1] == "%cd a-book/_build/course/student"
    text = "\n".join(cell.source for cell in rest)
    assert "Add one and one." in text and "Two." not in text


# The first page -----------------------------------------------------------------------------------


def test_index_is_the_first_page_with_links_as_seen_from_the_root(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "first.html").write_text(
        '<html data-content_root="../"><a href="#here">a</a><a href="other.html#there">b</a>'
        '<img src="../_images/p.png"><a href="https://example.org/x">c</a><a href="mailto:a@b">d</a>'
        '<form action="../search.html"></form><a href="api/data.html">e</a><a href="/root">f</a>'
        '<img src="data:image/png;base64,AA"><p>src=&quot;x&quot;</p></html>'
    )
    notebooks.open_with(tmp_path, "book/first")
    assert (tmp_path / "index.html").read_text() == (
        '<html data-content_root="./"><a href="#here">a</a><a href="book/other.html#there">b</a>'
        '<img src="_images/p.png"><a href="https://example.org/x">c</a><a href="mailto:a@b">d</a>'
        '<form action="search.html"></form><a href="book/api/data.html">e</a><a href="/root">f</a>'
        '<img src="data:image/png;base64,AA"><p>src=&quot;x&quot;</p></html>'
    )
