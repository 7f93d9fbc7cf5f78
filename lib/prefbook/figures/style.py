"""One style for every figure of the book, and the figures that more than one chapter draws.

Colours mean the same thing everywhere: blue is Yes and "positive", orange is No and "negative", dashed black
is theory, and behaviours run from purple (least distinguishable) to yellow (most). All pairs used together
differ for colour-blind readers.
"""

from __future__ import annotations

import html
import io
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import matplotlib.ticker
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from prefdyn.measures.estimates import Estimate

POSITIVE, NEGATIVE = "#0072B2", "#D55E00"
FIRST, SECOND = "#009E73", "#CC79A7"
NEUTRAL, THEORY = "#767676", "#111111"
BELOW = {"loc": "outside lower center", "ncols": 3, "fontsize": 8}
"""Where a legend goes that would lie on the data: `figure.legend(..., **BELOW)`."""
HERE: dict[str, Any] = {
    "marker": "D",
    "markersize": 5.5,
    "markerfacecolor": "white",
    "markeredgewidth": 1.2,
    "linewidth": 1.0,
    "zorder": 4,
}
"""A hollow diamond: what this machine measured, drawn over the reference edition; see `this_machine`."""


def use_style() -> None:
    """Set the book's style for every figure drawn after it."""
    sns.set_theme(style="ticks", context="notebook")
    mpl.rcParams.update(
        {
            "figure.dpi": 96,
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.grid": True,
            "grid.color": "#e6e6e6",
            "grid.linewidth": 0.8,
            "lines.linewidth": 2,
            "legend.frameon": False,
            "svg.fonttype": "path",
        }
    )


def panels(
    rows: int = 1, columns: int = 1, height: float = 3.6, width: float = 8.0, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of the page's width and its axes as an array of shape (rows * columns,)."""
    figure, axes = plt.subplots(rows, columns, figsize=(width, rows * height), squeeze=False, **options)
    return figure, axes.ravel()


def note(words: str) -> Figure:
    """Words in place of a figure."""
    figure, (ax,) = panels(height=0.7)
    ax.text(0, 0.5, words, fontsize=12, color=NEUTRAL, va="center")
    ax.set_axis_off()
    return figure


def ordered_colours(names: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Colours for behaviours given from least to most distinguishable."""
    shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.92, len(names)))
    return {name: tuple(shade) for name, shade in zip(names, shades, strict=True)}


def logarithmic(ax: Axes) -> None:
    """A logarithmic vertical axis over few decades: ticks at 1, 2 and 5 times the powers of ten, with plain
    numbers.
    """
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())


def curves(
    ax: Axes, record: pd.DataFrame, column: str, colours: Mapping[str, Any], by: str = "group", **style: Any
) -> None:
    """One line for each value of `by`: a record's column over steps."""
    for name, colour in colours.items():
        part = record[record[by] == name]
        ax.plot(part["step"], part[column], color=colour, label=readable(name), **style)
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))


def scatter_with_names(
    ax: Axes, x: ArrayLike, y: ArrayLike, names: Sequence[str], colours: Sequence[Any], named: Sequence[int]
) -> None:
    """Points, of which those at the indices `named` carry their name."""
    horizontal, vertical = np.asarray(x), np.asarray(y)
    ax.scatter(horizontal, vertical, c=list(colours), s=46, edgecolor="white", linewidth=0.6, zorder=3)
    middle = (horizontal.max() + horizontal.min()) / 2
    for i in named:
        left = horizontal[i] > middle
        place: dict[str, Any] = {
            "xytext": (-7 if left else 7, 3),
            "textcoords": "offset points",
            "ha": "right" if left else "left",
        }
        ax.annotate(readable(names[i]), (horizontal[i], vertical[i]), fontsize=8.5, color="#333333", **place)


def this_machine(
    ax: Axes, x: ArrayLike, y: ArrayLike, color: Any = THEORY, line: bool = False, **style: Any
) -> None:
    """Points that this machine measured, over those of the reference edition; the legend calls them so.

    Args:
        line: whether they are joined.
    """
    said = {"label": "this machine", "linestyle": "-" if line else "none", "color": color}
    ax.plot(np.asarray(x), np.asarray(y), **{**HERE, **said, **style})


def legend_below(figure: Figure, **options: Any) -> None:
    """One legend below the panels: every label of any of them once, in the order in which they were drawn."""
    entries: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(list(entries.values()), list(entries), **{**BELOW, **options})


def readable(name: str) -> str:
    """A persona's file name as words, shortened to fit a legend."""
    words = name.replace("-", " ")
    return plain(words if len(words) <= 38 else words[:36].rstrip() + "…")


def plain(name: str) -> str:
    """A name from outside for matplotlib, which would read what stands between two dollars as a formula."""
    return name.replace("$", r"\$")


def correlation_triangle(
    ax: Axes,
    names: Sequence[str],
    estimates: Mapping[tuple[int, int], Estimate],
    apart: Sequence[tuple[int, int]],
    here: Mapping[tuple[int, int], Estimate] | None = None,
) -> None:
    """Correlations of measures with each other: every cell a number, a shade, and its interval on a small
    scale from -1 to 1.

    Args:
        estimates: by row and column, the column not after the row; those on the diagonal, reliabilities, have
            no shade.
        apart: cells to hatch instead of shading.
        here: what this machine measured, on the same small scales.
    """
    scale, shade = mpl.colors.Normalize(-1.3, 1.3), mpl.colormaps["PuOr_r"]
    for (row, column), estimate in estimates.items():
        plain = row == column or (row, column) in apart or np.isnan(estimate.value)
        hatch = "////" if (row, column) in apart else None
        face = "white" if plain else shade(scale(estimate.value))
        box = mpl.patches.Rectangle(
            (column - 0.5, row - 0.5), 1, 1, facecolor=face, edgecolor="#dddddd", hatch=hatch, linewidth=0.6
        )
        ax.add_patch(box)
        style: dict[str, Any] = {
            "ha": "center",
            "va": "center",
            "color": "#111111",
            "fontstyle": "italic" if row == column else "normal",
        }
        if np.isnan(estimate.value):
            ax.text(column, row, "–", fontsize=12, **style)
            continue
        ax.text(column, row - 0.14, f"{estimate.value:.2f}".replace("-", "−"), fontsize=12, **style)
        low, high, middle = (column + 0.42 * value for value in (estimate.low, estimate.high, estimate.value))
        ax.plot([column - 0.42, column + 0.42], [row + 0.25] * 2, color="#999999", linewidth=0.6)
        ax.plot([column] * 2, [row + 0.16, row + 0.34], color="#999999", linewidth=0.6)
        ax.plot([low, high], [row + 0.25] * 2, color="#111111", linewidth=2.2, solid_capstyle="butt")
        ax.plot(middle, row + 0.25, "o", color="#111111", markersize=3.6)
    for (row, column), estimate in (here or {}).items():
        this_machine(ax, column + 0.42 * estimate.value, row + 0.39, markersize=4, markeredgewidth=1)
    size = len(names)
    ax.set(
        xlim=(-0.52, size - 0.48),
        ylim=(size - 0.48, -0.52),
        aspect="equal",
        yticks=range(size),
        yticklabels=names,
    )
    ax.set_xticks(range(size), names, rotation=40, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0, labelsize=11.5)
    ax.grid(False)
    ax.spines[["left", "bottom"]].set_visible(False)


def legend_of_both(figure: Figure, here: object, columns: int = 4) -> None:
    """Below the panels: what is drawn in them, and how this machine's points are marked where it has any.

    Args:
        here: this machine's tables, or None.
    """
    if here is not None:
        this_machine(figure.axes[0], [], [])
    legend_below(figure, ncols=columns, fontsize=9)


def ticks(ax: Axes, axis: str, values: ArrayLike, small: bool = False) -> None:
    """Plain numbers on a logarithmic axis, at these values alone."""
    at = np.asarray(values, dtype=float)
    target = ax.xaxis if axis == "x" else ax.yaxis
    target.set_ticks(at, [f"{value:g}" for value in at], fontsize=9 if small else None)
    target.set_minor_locator(mpl.ticker.NullLocator())


def forest(
    ax: Axes,
    rows: Sequence[tuple[str, Estimate]],
    colours: Sequence[str],
    gaps: Sequence[int] = (),
    here: Sequence[Estimate] = (),
) -> None:
    """Estimates with their intervals, one a row from the top under its name, on a scale from -1 to 1.

    Args:
        gaps: rows above which there is some space.
        here: what this machine measured, a row each.
    """
    places = -np.arange(len(rows), dtype=float)
    for gap in gaps:
        places[gap:] -= 0.6
    for place, (name, estimate), colour in zip(places, rows, colours, strict=True):
        ax.text(
            -1,
            place + 0.33,
            name,
            fontsize=10,
            color="#333333",
            zorder=3,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
        ax.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=2)
        ax.plot(estimate.value, place, "o", color=colour, markersize=6)
    for place, estimate, colour in zip(places, here, colours, strict=False):
        ax.plot([estimate.low, estimate.high], [place - 0.3] * 2, color=colour, linewidth=1)
        this_machine(ax, estimate.value, place - 0.3, colour)
    ax.axvline(0, color=NEUTRAL, linewidth=1)
    ax.set(xlim=(-1.05, 1.05), ylim=(places[-1] - 0.5, 0.8), yticks=[])
    ax.spines["left"].set_visible(False)


def statement_maps(
    maps: Mapping[str, tuple[ArrayLike, Sequence[str], ArrayLike]], label: str, columns: int = 3
) -> str:
    """Scatter plots of statements as HTML in which a reader sees the statement behind a point by hovering,
    tapping or focusing it.

    Args:
        maps: by title, the points' positions, shape (n, 2), their statements, and their labels, +1 or -1.
        label: what the figure shows, for those who do not see it.
    """
    figure, axes = panels(-(-len(maps) // columns), columns, height=3.4)
    for ax in axes[len(maps) :]:
        ax.set_axis_off()
    statements: dict[str, list[str]] = {}
    for number, (ax, (title, (places, texts, labels))) in enumerate(zip(axes, maps.items(), strict=False)):
        points, signs = np.asarray(places), np.asarray(labels)
        for sign, colour, marker, name in (
            (1, POSITIVE, "o", "would say (Yes)"),
            (-1, NEGATIVE, "s", "would not say (No)"),
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
    axes[0].legend(loc="best", fontsize=8)
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
