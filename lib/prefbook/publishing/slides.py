"""Slides of a chapter, cut from its page of the built site: the findings, what is numbered in the main line,
under its headings, and the ledger.

A deck is one file that needs nothing else: reveal.js, MathJax and the figures are in it. book/slides.html is
its frame, a template of jinja2.
"""

from __future__ import annotations

import base64
import copy
import mimetypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from prefdyn.errors import PrefdynError, extra

ASIDE = ("exercises", "referee-s-notes")
"""Sections that no slide is made of, by their ids."""

LEDGER_ROWS = 6
"""Statistics on a slide of the ledger."""

EQUATIONS = 3
"""Equations on a slide."""


@dataclass(frozen=True)
class Slide:
    """A slide.

    Attributes:
        kind: what stands in it: "text", "statement", "question", "picture" or "ledger".
        heading: of its section.
        body: HTML; of a ledger, rows of a table.
        caption: of a picture.
        lead: the sentence with which its section begins, on the first slide of one.
    """

    kind: str
    heading: str
    body: Markup
    caption: str = ""
    lead: str = ""


def deck(page: Path, frame: Path) -> str:
    """A deck in HTML.

    The rule: a slide for every finding, definition, theorem and numbered figure of the main line, under the
    heading of its section; one for what is to be predicted, without its answer; one for labelled equations
    that follow each other, each with the words that lead to it. The first slide of a section begins with the
    section's first sentence. The ledger takes as many as it needs.

    Args:
        page: a chapter's page of the built site.
        frame: book/slides.html.

    Raises:
        PrefdynError: sphinx-revealjs or the book's MathJax is not installed.
    """
    with extra("book"):
        from bs4 import BeautifulSoup

    article: Any = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").find("article")
    for aside in article.select("a.headerlink, .here"):  # a deck reports the reference edition alone
        aside.decompose()
    _draw_in(article, page.parent)
    chapter = article.find("h1")
    slides = [slide for box in article.select("div.in-short") for slide in _findings(box)]
    for section in chapter.parent.find_all("section", recursive=False):
        if section["id"] not in ASIDE:
            slides += _section(section)
    reveal = _package("sphinx_revealjs") / "_static" / "revealjs" / "dist"
    mathjax = _package("sphinx-mathjax-offline") / "static" / "mathjax"
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        frame.read_text(encoding="utf-8")
    )
    return template.render(
        title=_words(chapter),
        opening=_first_sentences(chapter.find_next_sibling("p"), 3),
        slides=slides,
        reveal_css=Markup((reveal / "reset.css").read_text() + (reveal / "reveal.css").read_text()),
        reveal=_script(reveal / "reveal.js"),
        mathjax=_script(mathjax / "tex-svg-full.js"),
    )


def _package(name: str) -> Path:
    from importlib.util import find_spec

    found = find_spec(name)
    if found is None or found.origin is None:
        raise PrefdynError(
            f"the slides need the package {name.replace('_', '-')}: install the extra that it is in, "
            "pip install 'prefdyn[book]'"
        )
    return Path(found.origin).parent


def _script(path: Path) -> Markup:
    return Markup(path.read_text(encoding="utf-8").replace("</script", r"<\/script"))


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


def _inner(element: Any) -> Markup:
    """What stands in an element, without links."""
    return Markup(_plain(element).decode_contents().strip())


def _first_sentences(paragraph: Any, count: int) -> Markup:
    """The source has a sentence a line, and so has the page."""
    return Markup(" ".join(_inner(paragraph).split("\n")[:count]))


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


def _findings(box: Any) -> Iterator[Slide]:
    """The findings of a chapter as the reference edition has them; not the minutes that it takes."""
    heading = box.find(class_="admonition-title").get_text().strip()
    for findings in box.find_all("ul", recursive=False):
        yield Slide("text", heading, Markup(_plain(findings)))


def _section(section: Any) -> Iterator[Slide]:
    first = section.find("h2").find_next_sibling()
    lead = _first_sentences(first, 1) if first.name == "p" else Markup()
    numbered = section.select("details.predict, div.proof[id], div.math[id], figure[id], table.ledger")
    for (place, equations), group in groupby(numbered, lambda one: (_heading(one), _is_equation(one))):
        elements = list(group)
        cut = _equations if equations else _of_each
        for kind, body, caption in cut(elements):
            yield Slide(kind, place, body, caption, lead)
            lead = Markup()


def _heading(element: Any) -> str:
    return _words(element.find_previous(["h2", "h3"]))


def _is_equation(element: Any) -> bool:
    return "math" in element.get("class", []) and not element.find_parent(class_="admonition")


Cut = Iterator[tuple[str, Markup, Markup]]
"""Kind, body and caption of slides."""


def _equations(elements: Sequence[Any]) -> Cut:
    """Slides of equations that follow each other."""
    for start in range(0, len(elements), EQUATIONS):
        text = Markup()
        for element in elements[start : start + EQUATIONS]:
            before = element.find_previous_sibling("p")
            if before:
                text += Markup("<p>{}</p>").format(Markup(_inner(before).split("\n")[-1]))
            text += Markup(_plain(element))
        yield "text", text, Markup()


def _of_each(elements: Sequence[Any]) -> Cut:
    """Slides of what is no equation: none of a proof, nor of an equation of a theorem or exercise."""
    for element in elements:
        if element.name == "details":
            yield (
                "question",
                Markup("<p>{}</p>").format(_inner(element.select_one(".sd-summary-text"))),
                Markup(),
            )
        elif element.name == "table":
            yield from _ledger(element)
        elif element.name == "figure":
            if picture := element.find("img"):
                yield "picture", Markup(picture), _inner(element.find("figcaption").find("p"))
        elif "caption-number" in str(element.find(class_="admonition-title")):
            yield "statement", Markup(_plain(element)), Markup()


def _ledger(table: Any) -> Cut:
    """The ledger, a few claims a slide, as the first edition of it has them."""
    claims = [_claim(body) for body in table.find_all("tbody")]
    page: list[Markup] = []
    for number, rows in enumerate(claims):
        page += rows
        if number + 1 == len(claims) or len(page) + len(claims[number + 1]) > LEDGER_ROWS:
            yield "ledger", Markup().join(page), Markup()
            page = []


def _claim(body: Any) -> list[Markup]:
    """The rows of a claim; the first also says the claim and its verdict, beside all of them."""
    body = copy.copy(body)
    for aside in body.select(".aside"):
        aside.decompose()
    said, *rows = body.find_all("tr")
    first = Markup('<td rowspan="{0}">{1}</td><td rowspan="{0}">{2}</td>').format(
        len(rows), _inner(said.th), _inner(said.td)
    )
    return [
        Markup("<tr>{}<td>{}</td><td>{}</td></tr>").format(
            Markup() if number else first,
            row.th.get_text().strip(),
            row.select_one(".numbers").get_text(),
        )
        for number, row in enumerate(rows)
    ]


def write_slides(pages: dict[str, Path], frame: Path, output: Path) -> list[Path]:
    """Write a deck for each chapter's page; returns their paths."""
    output.mkdir(parents=True, exist_ok=True)
    made = []
    for chapter, page in pages.items():
        path = output / f"{chapter}.html"
        path.write_text(deck(page, frame), encoding="utf-8")
        made.append(path)
    return made
