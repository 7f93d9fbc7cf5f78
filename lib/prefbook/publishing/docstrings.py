"""A Sphinx extension: the library's docstrings are plain text with code in backticks, and reStructuredText
must not read more into their formulas.
"""

from __future__ import annotations

import re
from typing import Any

CODE = re.compile(r"(``?.+?``?)")
MARKS = re.compile(r"(?<=\w)_(?!\w)|\|(?=\S)|(?<!^)(?<=\S)\*|\*(?=\S)")
"""What would begin or end a reference, a substitution or an emphasis: mu_+, |x|, r*."""


def plain(line: str) -> str:
    """A line in which only code is marked up."""
    parts = CODE.split(line)
    return "".join(part if CODE.fullmatch(part) else MARKS.sub(r"\\\g<0>", part) for part in parts)


def setup(app: Any) -> dict[str, Any]:
    def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        lines[:] = map(plain, lines)
        if what in ("property", "attribute", "data"):
            lines[:0] = ["..", ""]  # an empty comment: napoleon takes words before a colon for a type

    def parsable(
        app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
    ) -> tuple[str | None, str | None]:
        return signature and signature.replace("<factory>", "..."), returned

    def field(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
        """Of a named tuple, which its class describes; Python's own words are "Alias for field number 0"."""
        return True if str(obj.__doc__).startswith("Alias for field number") else None

    app.connect("autodoc-process-docstring", process, priority=400)  # before napoleon
    app.connect("autodoc-skip-member", field)
    app.connect("autodoc-process-signature", parsable)
    return {"parallel_read_safe": True}
