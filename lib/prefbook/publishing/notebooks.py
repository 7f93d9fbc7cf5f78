"""What is done to notebooks and pages before they leave the machine: nothing private in them, nothing heavier
than need be.
"""

from __future__ import annotations

import base64
import io
import posixpath
import re
from pathlib import Path

import nbformat

ICON_SCRIPT = "_static/scripts/fontawesome.js"
"""1.5 MB that draw every icon a second time: the theme's style sheet has them as a web font."""
SEARCHING = re.compile(
    r"""\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>"""
)
"""What loads the search and its index, a quarter of a megabyte."""

LINK = re.compile(
    r"""(?P<name>\s(?:href|src|action|data-content_root)=")(?P<link>(?![a-zA-Z][\w+.-]*:|\#|/)[^"]+)"""
)
"""An attribute of a page that leads to another file of the site."""


def notebook(source: Path, target: Path) -> None:
    """Copy an executed notebook as readers get it, on the page and by the download button.

    Its figures become lighter, and the marks of the run (times, keys) go.
    """
    content = nbformat.read(source, as_version=4)
    for mark in ("papermill", "prefdyn"):
        content.metadata.pop(mark, None)
    for cell in content.cells:
        for mark in ("papermill", "execution"):
            cell.metadata.pop(mark, None)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                picture = base64.b64decode(output.data["image/png"])
                output.data["image/png"] = base64.b64encode(lighter(picture)).decode()
    nbformat.write(content, target)


def lighter(png: bytes) -> bytes:
    """A PNG file with a palette of 256 colours, a third of the size for a figure; as it was where that does
    not help.
    """
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE).save(
        buffer, "PNG", optimize=True
    )
    return min(buffer.getvalue(), png, key=len)


def trim(html: Path) -> None:
    """Empty the theme's icon script in a built site, if it is there, and leave out what no page loads of the
    dozen scripts that are each a whole MathJax. The theme has every page load what searches, for a search as
    one types, which this site has not; only the page of the search keeps it.
    """
    script = html / ICON_SCRIPT
    if script.is_file():
        script.write_text("")
    pages = {page: page.read_text(encoding="utf-8") for page in html.rglob("*.html")}
    for page, text in pages.items():
        if page.name != "search.html" and text != (trimmed := SEARCHING.sub("", text)):
            page.write_text(trimmed, encoding="utf-8")
    for build in (html / "_static" / "mathjax").glob("*.js"):
        if not any(f"mathjax/{build.name}" in text for text in pages.values()):
            build.unlink()


def open_with(html: Path, page: str) -> None:
    """Make a page the one that a built site opens with: as index.html, its links as seen from there."""

    def seen_from_root(found: re.Match[str]) -> str:
        slash = "/" if found["link"].endswith("/") else ""  # the theme's data-content_root is a folder
        link = posixpath.normpath(posixpath.join(posixpath.dirname(page), found["link"]))
        return f"{found['name']}{link}{slash}"

    text = (html / f"{page}.html").read_text(encoding="utf-8")
    (html / "index.html").write_text(LINK.sub(seen_from_root, text), encoding="utf-8")
