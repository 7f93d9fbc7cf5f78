"""A Sphinx extension: a formula and the mark after it, such as a full stop, stay on one line.

A browser takes a formula that MathJax has set for a box of its own, after which a line may end.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MARKS = re.compile(r"[.,;:)!?’”]+")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-resolved", _keep_together)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _keep_together(app: Sphinx, doctree: nodes.document, page: str) -> None:
    for formula in list(doctree.findall(nodes.math)):
        after = formula.next_node(descend=False, siblings=True)
        found = MARKS.match(after) if isinstance(after, nodes.Text) else None
        if found is None:
            continue
        parent, place = formula.parent, formula.parent.index(formula)
        together = nodes.inline("", "", formula.deepcopy(), nodes.Text(found[0]), classes=["together"])
        parent[place : place + 2] = [together, nodes.Text(after[found.end() :])]
