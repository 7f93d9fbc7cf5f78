"""Search in a site that is opened as a file.

Sphinx's search shows the words around what it finds, for which it fetches the page. A browser lets no page
that was opened from a file fetch another: _static/search.js then takes the words from a script, which is made
here.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bs4 import Tag

UNSAID = ("script", "style")


def leave_texts(site: Path) -> None:
    """Write down in _static/page_texts.js what every page of a built site says, by its address, as markup of
    sections alone.
    """
    from bs4 import BeautifulSoup, Tag

    texts = {}
    for page in sorted((site / "book").rglob("*.html")):
        main = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").find(role="main")
        if isinstance(main, Tag):
            texts[page.relative_to(site).as_posix()] = f'<div role="main">{_sections(main)}</div>'
    code = f"window.pageTexts = {json.dumps(texts, ensure_ascii=False)};\n"
    (site / "_static").mkdir(exist_ok=True)
    (site / "_static" / "page_texts.js").write_text(code, encoding="utf-8")


def _sections(tag: Tag) -> str:
    """The words of a tag, its sections marked with their ids."""
    from bs4 import NavigableString, Tag

    pieces = []
    for child in tag.children:
        if type(child) is NavigableString:
            pieces.append(html.escape(child))
        elif isinstance(child, Tag) and child.name not in UNSAID:
            if "headerlink" in (child.get("class") or ()):
                continue
            words = _sections(child)
            named = child.name == "section" and child.get("id")
            pieces.append(f'<section id="{named}">{words}</section>' if named else words)
    return "".join(pieces)
