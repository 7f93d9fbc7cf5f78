"""Figures that readers explore: every point can be reached, says its own statement, and clashes with nothing
else on the page.
"""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from prefbook.figures import maps as plots

SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}href"
SPECIAL = ["tea & coffee", "5 < 6 > 4", 'says "yes"', "it's <b>bold</b>", "δ ünïcode — 🙂", "$not math$ \\n"]


@pytest.fixture(autouse=True)
def without_windows() -> Iterator[None]:
    backend = mpl.get_backend()
    mpl.use("agg")
    yield
    plt.close("all")
    mpl.use(backend)


def one_map(
    count: int, texts: Sequence[str] = SPECIAL, seed: int = 0
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Positions, statements and alternating labels of `count` points."""
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(count, 2)),
        [f"{texts[i % len(texts)]} {i}" for i in range(count)],
        np.where(np.arange(count) % 2, -1, 1),
    )


def parsed(drawn: str) -> ET.Element:
    """The SVG in the figure, as XML."""
    return ET.fromstring(re.search(r"<svg.*</svg>", drawn, re.DOTALL).group())


def titles(root: ET.Element) -> list[str]:
    return [point.findtext(f"{SVG}title") for point in root.iter() if point.get("class") == "statement-point"]


@pytest.mark.parametrize("count", [2, 4, 18, 60])
def test_every_statement_has_one_point_with_its_text_and_answer(count: int) -> None:
    places, texts, labels = one_map(count)
    root = parsed(plots.statement_maps({"a map": (places, texts, labels)}, "label"))
    expected = [f"{text} ({'Yes' if sign > 0 else 'No'})" for text, sign in zip(texts, labels, strict=True)]
    assert sorted(titles(root)) == sorted(expected)


def test_every_point_can_be_reached_by_keyboard() -> None:
    root = parsed(plots.statement_maps({"a": one_map(12), "b": one_map(8)}, "label"))
    points = [
        element
        for element in root.iter()
        if element.find(f"{SVG}title") is not None and element.get("class") == "statement-point"
    ]
    assert len(points) == 20
    assert all(point.get("tabindex") == "0" for point in points)


def test_statement_stands_at_its_own_place() -> None:
    """The order of the titles is that of the points: further right in the data is further right in the
    drawing.
    """
    places, texts, labels = one_map(30)
    root = parsed(plots.statement_maps({"a": (places, texts, labels)}, "label"))
    x = {
        p.findtext(f"{SVG}title").rpartition(" (")[0]: float(p.get("x"))
        for p in root.iter()
        if p.get("class") == "statement-point"
    }
    drawn = np.array([x[text] for text in texts])
    slope, offset = np.polyfit(places[:, 0], drawn, 1)
    assert slope > 0
    # Places have one decimal, which moves each by at most 0.05, and the fitted line by less than as much.
    np.testing.assert_allclose(drawn, slope * places[:, 0] + offset, atol=0.1)


def test_points_belong_to_the_map_of_their_title() -> None:
    maps = {f"map {i}": (one_map(6, [f"of map {i}"], seed=i)) for i in range(4)}
    root = parsed(plots.statement_maps(maps, "label", columns=2))
    for i in range(4):
        groups = [g for g in root.iter(f"{SVG}g") if re.search(rf"points-{i}-[02]$", g.get("id", ""))]
        assert len(groups) == 2
        assert all(title.startswith(f"of map {i} ") for group in groups for title in titles(group))


def test_label_and_special_characters_are_escaped() -> None:
    label = 'Maps of "tea" & <coffee>'
    drawn = plots.statement_maps({"a": one_map(12)}, label)
    assert f'aria-label="{html.escape(label)}"' in drawn
    assert "<b>bold" not in drawn and "5 &lt; 6 &gt; 4" in drawn and "tea &amp; coffee" in drawn
    assert ET.fromstring(drawn).get("aria-label") == label


def test_ids_are_unique_over_two_figures_and_every_reference_holds() -> None:
    drawn = [parsed(plots.statement_maps({"a": one_map(12)}, "label")) for _ in range(2)]
    ids = [element.get("id") for root in drawn for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids)) > 20
    for root in drawn:
        own = {element.get("id") for element in root.iter()}
        links = [value for e in root.iter() for name, value in e.attrib.items() if name in (XLINK, "href")]
        clips = re.findall(r"url\(#([^)]+)\)", ET.tostring(root, encoding="unicode"))
        assert links and clips
        assert {link.removeprefix("#") for link in links} | set(clips) <= own


def test_drawing_scales_and_asks_for_nothing_outside() -> None:
    root = parsed(plots.statement_maps({"a": one_map(12)}, "label"))
    assert root.get("viewBox") and root.get("width") is None and root.get("height") is None
    drawn = ET.tostring(root, encoding="unicode")
    assert set(re.findall(r"https?://[^\s\"']+", drawn)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_maps_leave_no_figure_open() -> None:
    before = plt.get_fignums()
    plots.statement_maps({"a": one_map(12)}, "label")
    assert plt.get_fignums() == before
