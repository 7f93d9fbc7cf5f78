"""A Sphinx extension: a link to a word of the glossary has the word's definition as its title.

Without a script a browser shows it under the mouse; with _static/terms.js it is also shown on focus, and can
be dismissed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math import latex2mathml

if TYPE_CHECKING:
    from sphinx.application import Sphinx

GLOSSARY = "book/glossary"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-resolved", _define, priority=900)  # after everything that makes links
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _define(app: Sphinx, doctree: nodes.document, page: str) -> None:
    links = [
        link
        for link in doctree.findall(nodes.reference)
        if any("std-term" in inner.get("classes", []) for inner in link.findall(nodes.Element))
    ]
    if links and not hasattr(app.env, "prefbook_definitions"):
        _read(app)
    known = getattr(app.env, "prefbook_definitions", {})
    for link in links:
        label = link.get("refid") or link.get("refuri", "").rpartition("#")[2]
        if label in known:
            link["reftitle"] = known[label]


def _read(app: Sphinx) -> None:
    """Put what the words mean, by their labels, where every page finds it."""
    app.env.prefbook_definitions = {}  # type: ignore[attr-defined]
    if GLOSSARY in app.env.found_docs:
        glossary = app.env.get_and_resolve_doctree(GLOSSARY, app.builder)
        app.env.prefbook_definitions = dict(definitions(glossary))  # type: ignore[attr-defined]


def definitions(glossary: nodes.document) -> Iterator[tuple[str, str]]:
    """The label of each word, and the first line of its definition as plain text."""
    for item in glossary.findall(nodes.definition_list_item):
        paragraph = next(item.findall(nodes.paragraph), None)
        if paragraph is not None:
            line = plain(paragraph).strip().split("\n")[0]
            yield from ((label, line) for term in item.findall(nodes.term) for label in term["ids"])


def plain(node: nodes.Node) -> str:
    """The text of a node, with formulas as one writes them in a line: δ = ‖μ_+−μ_−‖, (r−1)^2."""
    if isinstance(node, nodes.math):
        markup = latex2mathml.tex2mathml("{}" + node.astext())  # or an index needs something before it
        markup = markup.replace("&ApplyFunction;", "")  # the one entity that XML does not know
        return re.sub(r"\s*([=≈≤≥<>∈])\s*", r" \1 ", _in_a_line(ElementTree.fromstring(markup))).strip()
    return "".join(map(plain, node.children)) if node.children else node.astext()


def _in_a_line(math: ElementTree.Element) -> str:
    inner = [_in_a_line(child) for child in math]
    match math.tag.rpartition("}")[2], inner:
        case "msub", [base, index]:
            return f"{base}_{index}"
        case "msup", [base, power]:
            return f"{base}^{power}"
        case "mfrac", [above, below]:
            return f"{above} / {below}"
        case "mi", [] if math.text and len(math.text) > 1:
            return f"{math.text} "  # such as log
    return "".join(inner) if inner else math.text or ""
