"""Maps of statements, each point of which tells its statement."""

from __future__ import annotations

import html
import io
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from prefbook.figures import style


def statement_maps(
    maps: Mapping[str, tuple[ArrayLike, Sequence[str], ArrayLike]], label: str, columns: int = 3
) -> str:
    """Scatter plots of statements as HTML in which a reader sees the statement behind a point by hovering,
    tapping or focusing it.

    Args:
        maps: by title, the points' positions, shape (n, 2), their statements, and their labels, +1 or -1.
        label: what the figure shows, for those who do not see it.
    """
    figure, axes = style.panels(-(-len(maps) // columns), columns, height=3.4)
    for ax in axes[len(maps) :]:
        ax.set_axis_off()
    statements: dict[str, list[str]] = {}
    for number, (ax, (title, (places, texts, labels))) in enumerate(zip(axes, maps.items(), strict=False)):
        points, signs = np.asarray(places), np.asarray(labels)
        for sign, colour, marker, name in (
            (1, style.POSITIVE, "o", "would say (Yes)"),
            (-1, style.NEGATIVE, "s", "would not say (No)"),
        ):
            mask = signs == sign
            drawn = ax.scatter(
                *points[mask].T, s=26, c=colour, marker=marker, edgecolor="white", linewidth=0.5, label=name
            )
            gid = f"points-{number}-{sign + 1}"
            drawn.set_gid(gid)
            statements[gid] = [
                f"{text} ({'Yes' if sign > 0 else 'No'})"
                for text, here in zip(texts, mask, strict=True)
                if here
            ]
        ax.set(title=title, xticks=[], yticks=[])
        ax.grid(False)
    style.legend_below(figure)
    drawing = _with_titles(figure, statements)
    plt.close(figure)
    return (
        f'<figure class="statement-map" role="group" aria-label="{html.escape(label)}">{drawing}'
        '<output class="statement-shown">Point at a statement, tap it, or move with tab and the arrow keys, '
        "to read it here.</output>"
        "</figure>"
    )


def _with_titles(figure: Figure, statements: Mapping[str, Sequence[str]]) -> str:
    """A figure as inline SVG, each point of the named groups carrying its statement as a title.

    It is kept small: words are text, a group's points share its style, and places have one decimal.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg")
    namespace = "http://www.w3.org/2000/svg"
    ET.register_namespace("", namespace)
    ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ET.fromstring(buffer.getvalue())
    for gid, texts in statements.items():
        group = root.find(f".//{{{namespace}}}g[@id='{gid}']")
        assert group is not None
        uses = group.findall(f".//{{{namespace}}}use")
        group.set("style", uses[0].get("style", "") if uses else "")
        for use, text in zip(uses, texts, strict=True):
            use.attrib.pop("style", None)
            for name in ("x", "y"):
                use.set(name, f"{float(use.get(name, 0)):.1f}")
            use.set("tabindex", "0")
            use.set("class", "statement-point")
            ET.SubElement(use, f"{{{namespace}}}title").text = text
    _make_unique(root)
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    for metadata in root.findall(f"{{{namespace}}}metadata"):
        root.remove(metadata)
    return ET.tostring(root, encoding="unicode")


def _make_unique(root: ET.Element) -> None:
    """Give every id, and what refers to it, a beginning that no other inline SVG on the page has."""
    own = f"map-{uuid.uuid4().hex[:12]}-"
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, own + value)
            elif name.endswith("href") and value.startswith("#"):
                element.set(name, f"#{own}{value[1:]}")
            elif "url(#" in value:
                element.set(name, value.replace("url(#", f"url(#{own}"))
