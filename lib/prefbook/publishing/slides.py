"""Slides of a chapter, cut from its page of the built site: what is numbered there, under the headings, and
the ledger.

A deck is one file that needs nothing else: reveal.js, MathJax and the figures are in it. book/slides.html is
its frame.
"""

from __future__ import annotations

import base64
import copy
import html
import mimetypes
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from prefdyn.errors import PrefdynError

LEDGER_ROWS = 6
"""Statistics on a slide of the ledger."""

EQUATIONS = 3
"""Equations on a slide."""


def deck(page: Path, frame: Path) -> str:
    """A deck in HTML.

    The rule: a slide for every definition, theorem and numbered figure, under the heading of its section; one
    for labelled equations that follow each other, each with the words that lead to it. The first slide of a
    section begins with the section's first sentence. The ledger takes as many as it needs.

    Args:
        page: a chapter's page of the built site.
        frame: book/slides.html.

    Raises:
        PrefdynError: sphinx-revealjs or the book's MathJax is not installed.
    """
    from bs4 import BeautifulSoup

    article: Any = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").find("article")
    for link in article.select("a.headerlink"):
        link.decompose()
    _draw_in(article, page.parent)
    chapter = article.find("h1")
    name = _words(chapter)
    opening = _first_sentences(chapter.find_next_sibling("p"), 3)
    slides = [f'<div class="frame title"><h1>{html.escape(name)}</h1><p>{opening}</p></div>']
    for section in chapter.parent.find_all("section", recursive=False):
        slides += _section(section)
    reveal, mathjax = (
        _package("sphinx_revealjs") / "_static" / "revealjs" / "dist",
        _package("sphinx-mathjax-offline"),
    )
    filled = frame.read_text(encoding="utf-8")
    for mark, text in {
        "TITLE": html.escape(name),
        "REVEAL-CSS": (reveal / "reset.css").read_text() + (reveal / "reveal.css").read_text(),
        "REVEAL-JS": _script(reveal / "reveal.js"),
        "MATHJAX": _script(mathjax / "static" / "mathjax" / "tex-svg-full.js"),
        "SLIDES": "\n".join(f"<section>{slide}</section>" for slide in slides),
    }.items():
        filled = filled.replace(f"%{mark}%", text)
    return filled


def _package(name: str) -> Path:
    from importlib.util import find_spec

    found = find_spec(name)
    if found is None or found.origin is None:
        raise PrefdynError(
            f"the slides need the package {name.replace('_', '-')}: install it with `make course`"
        )
    return Path(found.origin).parent


def _script(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("</script", r"<\/script")


def _draw_in(article: Any, folder: Path) -> None:
    """Put the pictures themselves in the place of their addresses."""
    for image in article.select("figure img"):
        path = (folder / image["src"]).resolve()
        kind = mimetypes.guess_type(path.name)[0]
        image["src"] = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
        for size in ("width", "height", "style"):
            image.attrs.pop(size, None)


def _words(heading: Any) -> str:
    """A heading without its number."""
    heading = copy.copy(heading)
    for number in heading.select(".section-number"):
        number.decompose()
    return heading.get_text().strip()


def _first_sentences(paragraph: Any, count: int) -> str:
    """The source has a sentence a line, and so has the page."""
    return " ".join(_plain(paragraph).decode_contents().strip().split("\n")[:count])


def _last_sentence(paragraph: Any) -> str:
    return _plain(paragraph).decode_contents().strip().split("\n")[-1]


def _plain(element: Any) -> Any:
    """A copy without links and names, which lead to places that a deck does not have."""
    element = copy.copy(element)
    for link in element.find_all("a"):
        link.unwrap()
    for named in element.select("[id]"):
        del named["id"]
    for inner in element.find_all("section"):
        inner.name = "div"  # a section is a slide
    element.attrs.pop("id", None)
    return element


def _section(section: Any) -> Iterator[str]:
    """The slides of a section: HTML of each."""
    heading = section.find("h2")
    first = heading.find_next_sibling()
    lead = f'<p class="lead">{_first_sentences(first, 1)}</p>' if first.name == "p" else ""
    numbered = section.select("div.proof[id], div.math[id], figure[id], table.ledger")
    for (place, equations), group in groupby(
        numbered, lambda element: (_heading(element), _is_equation(element))
    ):
        elements = list(group)
        bodies = (
            _equations(elements) if equations else (body for element in elements for body in _bodies(element))
        )
        for body in bodies:
            yield f'<div class="frame"><h2>{html.escape(place)}</h2>{lead}{body}</div>'
            lead = ""


def _heading(element: Any) -> str:
    return _words(element.find_previous(["h2", "h3"]))


def _is_equation(element: Any) -> bool:
    return "math" in element.get("class", []) and not element.find_parent(class_="admonition")


def _equations(elements: Sequence[Any]) -> Iterator[str]:
    """Slides of equations that follow each other."""
    for start in range(0, len(elements), EQUATIONS):
        text = ""
        for element in elements[start : start + EQUATIONS]:
            before = element.find_previous_sibling("p")
            text += (f"<p>{_last_sentence(before)}</p>" if before else "") + str(_plain(element))
        yield f'<div class="text">{text}</div>'


def _bodies(element: Any) -> Iterator[str]:
    """What stands under the heading of each slide made of an element; nothing for a proof, and for an
    equation of a theorem or exercise.
    """
    if element.name == "table":
        yield from _ledger(element)
    elif element.name == "figure":
        picture, caption = element.find("img"), element.find("figcaption")
        if picture:
            yield f'<div class="picture">{picture}</div><p class="caption">{_plain(caption.find("p")).decode_contents()}</p>'
    elif "caption-number" in str(element.find(class_="admonition-title")):
        yield f'<div class="text statement">{_plain(element)}</div>'


def _ledger(table: Any) -> Iterator[str]:
    """The ledger, a few claims a slide."""
    head = "<tr><th>claim</th><th>verdict</th><th>measured</th><th>estimate, 95% interval</th></tr>"
    claims = [_claim(body) for body in table.find_all("tbody")]
    page: list[str] = []
    for number, rows in enumerate(claims):
        page += rows
        if number + 1 == len(claims) or len(page) + len(claims[number + 1]) > LEDGER_ROWS:
            yield f'<div class="text"><table class="ledger"><thead>{head}</thead><tbody>{"".join(page)}</tbody></table></div>'
            page = []


def _claim(body: Any) -> list[str]:
    """The rows of a claim; the first also says the claim and its verdict, beside all of them."""
    body = copy.copy(body)
    for aside in body.select(".aside"):
        aside.decompose()
    said, *rows = body.find_all("tr")
    span = f'rowspan="{len(rows)}"'
    first = f"<td {span}>{said.th.decode_contents()}</td><td {span}>{said.td.decode_contents()}</td>"
    cells = [
        f"<td>{row.th.get_text().strip()}</td><td>{row.select_one('.numbers').get_text()}</td>"
        for row in rows
    ]
    return [f"<tr>{first if number == 0 else ''}{cell}</tr>" for number, cell in enumerate(cells)]


def write_slides(pages: dict[str, Path], frame: Path, output: Path) -> list[Path]:
    """Write a deck for each chapter's page; returns their paths."""
    output.mkdir(parents=True, exist_ok=True)
    made = []
    for chapter, page in pages.items():
        path = output / f"{chapter}.html"
        path.write_text(deck(page, frame), encoding="utf-8")
        made.append(path)
    return made
