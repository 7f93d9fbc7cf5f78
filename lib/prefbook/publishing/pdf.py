"""The book as one PDF file: the pages of the built site, put one after the other and printed by Chromium.

Jupyter Book's own builders were tried, and lose what the pages show: `pdfhtml` stops at a folded cell
(sphinx-exercise registers its nodes for that builder, and Sphinx then forgets everybody else's), and
`pdflatex`, which needs 400 MB of TeX, prints "<IPython.core.display.HTML object>" for every number, table and
ledger.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prefbook.project import read_sections
from prefdyn.errors import PrefdynError
from prefdyn.files import atomic_file

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

SCREEN = "book/api/"
"""Pages that are for looking up on a screen, and are not printed."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 900
"""Seconds that the printing may take."""


def build(root: Path, index: Path) -> Path:
    """Print the book.

    Solutions are unfolded. Code that the site folds away is left out: it is in the notebooks.

    Args:
        root: the folder that holds _toc.yml.
        index: the site's index.html, as `site.build` returns it.

    Returns:
        The path of book.pdf, beside the site's folder.

    Raises:
        PrefdynError: there is no Chromium, a page is missing, or the printing fails.
    """
    browser = find_browser()
    toc = read_sections(root / "_toc.yml")
    files = [toc["root"], *(chapter["file"] for part in toc.get("parts", []) for chapter in part["chapters"])]
    names = [file for file in files if not file.startswith(SCREEN)]
    folder, made = index.parent / "book", index.parents[1] / "book.pdf"
    with (
        tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=folder, prefix=".print-", suffix=".html"
        ) as whole,
        atomic_file(made) as file,
    ):
        whole.write(one_page([index.parent / f"{name}.html" for name in names]))
        whole.flush()
        _print(browser, Path(whole.name), file)
        file.chmod(0o644)
    return made


def find_browser() -> str:
    """The program that the environment variable CHROMIUM names, else a Chromium of this machine.

    Raises:
        PrefdynError: there is none.
    """
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        raise PrefdynError(
            "no Chromium on this machine to print with: install it, "
            "or name it in the environment variable CHROMIUM"
        )
    return found


def one_page(pages: Sequence[Path]) -> str:
    """The articles of built pages of one folder as a single page, with links between them turned into links
    inside it.
    """
    from bs4 import BeautifulSoup

    names = {page.name for page in pages}
    whole = None
    for page in pages:
        try:
            soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        except FileNotFoundError as error:
            raise PrefdynError(f"{page}: no such file, and the book needs it") from error
        article = soup.select_one("article.bd-article")
        if article is None:
            raise PrefdynError(f"{page}: no article on this page")
        _make_own(article, page.stem, names)
        if whole is None:
            whole = _empty(soup)
        assert whole.body is not None
        whole.body.append(article)
    if whole is None:
        raise PrefdynError("a book without pages cannot be printed")
    return str(whole)


def _empty(soup: BeautifulSoup) -> BeautifulSoup:
    """The page with its head (style sheets, formulas) and nothing in its body."""
    from bs4 import BeautifulSoup

    head = soup.head
    assert head is not None
    for script in head.find_all("script", src=True):
        if "mathjax" not in str(script["src"]):
            script.decompose()
    return BeautifulSoup(
        f'<html lang="en" data-theme="light" data-mode="light">{head}<body class="printed"></body></html>',
        "html.parser",
    )


def _make_own(article: Tag, name: str, names: set[str]) -> None:
    """Give a page's ids its name, send its links to where their targets now are, and open what is folded."""
    own = {figure["id"] for figure in article.select("figure[id]:has(> script)")}  # which it is found by
    for node in article.find_all(True):
        for key, value in list(node.attrs.items()):
            if key in ("id", "for", "aria-labelledby", "aria-describedby"):
                words = str(value).split()
                node[key] = " ".join(word if word in own else f"{name}--{word}" for word in words)
            elif key.endswith("href"):
                if link := _inside(str(value), name, names):
                    node[key] = link
                else:
                    del node[key]
            elif "url(#" in str(value):
                node[key] = str(value).replace("url(#", f"url(#{name}--")
    article["id"] = name
    for node in article.select(".headerlink, .toggle-button, details.hide"):
        node.decompose()
    for node in article.select("details"):
        node["open"] = ""
    for node in article.select(".dropdown"):
        node["class"] = " ".join(
            word for word in node.get_attribute_list("class") if word and word != "dropdown"
        )


def _inside(link: str, name: str, names: set[str]) -> str:
    """A link to one of the pages, or within its own, as a link within the whole; "" where it leads to what
    is not printed.
    """
    page, _, anchor = link.partition("#")
    if re.match(r"[a-z]+:", link):
        return link
    if page and page not in names:
        return ""
    target = Path(page).stem if page else name
    return f"#{target}--{anchor}" if anchor else f"#{target}"


def _print(browser: str, page: Path, file: Path) -> None:
    """Print a page with an outline of its headings, after its formulas are set."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            "--no-pdf-header-footer",
        ]
        command += [
            "--generate-pdf-document-outline",
            "--virtual-time-budget=120000",
            f"--print-to-pdf={file}",
            page.as_uri(),
        ]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.insert(1, "--no-sandbox")  # Chromium does not start for root otherwise
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False, timeout=PATIENCE
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PrefdynError(f"{browser} could not print {page}: {error}") from error
    if done.returncode or not file.stat().st_size:
        raise PrefdynError(f"{browser} could not print {page}: {done.stderr.strip()[-500:]}")
