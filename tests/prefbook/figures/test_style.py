"""Figures that readers explore: every point can be reached, says its own statement, and clashes with nothing
else on the page.
"""

from __future__ import annotations

import html
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from prefbook.figures import style as plots
from prefdyn.measures.estimates import Estimate

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


@pytest.mark.parametrize("count", [1, 2, 5, 20, 135])
def test_behaviours_have_colours_of_their_own(count: int) -> None:
    colours = plots.ordered_colours([f"p{i}" for i in range(count)])
    assert list(colours) == [f"p{i}" for i in range(count)]
    assert len(set(colours.values())) == count
    assert all(len(colour) == 4 and all(0 <= part <= 1 for part in colour) for colour in colours.values())


def luminance(colour: object) -> float:
    """Relative luminance as WCAG 2 defines it."""
    rgb = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_colours_rise_in_lightness_and_end_short_of_white() -> None:
    lights = [luminance(colour) for colour in plots.ordered_colours([str(i) for i in range(20)]).values()]
    assert lights == sorted(lights) and lights[-1] < 0.75


def test_words_of_a_name_fit_a_legend() -> None:
    assert plots.readable("prefers-tea-to-coffee") == "prefers tea to coffee"
    name = "okay-with-building-an-AI-with-different-goals-to-accomplish-its-task"
    short = plots.readable(name)
    assert short.endswith("…") and len(short) <= 38
    assert name.replace("-", " ").startswith(short[:-1])
    assert plots.readable("-".join(["ab"] * 13)).endswith("ab")


@pytest.mark.parametrize("name", ["$x^{$", "a $ and a $", "<b>bold</b>"])
def test_marks_in_a_name_are_shown_and_not_read(name: str) -> None:
    figure, ax = plt.subplots()
    ax.set_title(plots.plain(name))
    ax.plot([0, 1], label=plots.readable(name))
    ax.legend()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(drawn := io.StringIO(), format="svg")
    root = ET.fromstring(drawn.getvalue())
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count(name) == 2 and "<b>" not in drawn.getvalue()
    plt.close(figure)


def test_curves_draw_one_line_for_each_named_group() -> None:
    record = pd.DataFrame(
        {"step": [0, 1, 0, 1, 0], "group": ["a-b", "a-b", "c", "c", "d"], "loss": [3.0, 2.0, 1.0, 0.5, 9.0]}
    )
    _, (ax,) = plots.panels()
    plots.curves(ax, record, "loss", {"a-b": "black", "c": "red"})
    assert [line.get_label() for line in ax.lines] == ["a b", "c"]
    np.testing.assert_array_equal([line.get_ydata() for line in ax.lines], [[3, 2], [1, 0.5]])
    assert ax.get_xlabel() == "step"


def test_named_points_are_named_inside_the_axes() -> None:
    _, (ax,) = plots.panels()
    plots.scatter_with_names(
        ax, [0, 1, 2], [1, 5, 3], ["left-one", "middle", "right-one"], ["red", "green", "blue"], named=(0, 2)
    )
    assert [(text.get_text(), text.get_ha()) for text in ax.texts] == [
        ("left one", "left"),
        ("right one", "right"),
    ]
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), [[0, 1], [1, 5], [2, 3]])


def test_logarithmic_axis_has_plain_numbers_between_the_powers_of_ten() -> None:
    figure, (ax,) = plots.panels(1, 1)
    ax.plot([0, 1], [1.5, 60])
    plots.logarithmic(ax)
    figure.draw_without_rendering()
    low, high = ax.get_ylim()
    assert [label.get_text() for label in ax.get_yticklabels() if low <= label.get_position()[1] <= high] == [
        "2",
        "5",
        "10",
        "20",
        "50",
    ]
    assert len(ax.yaxis.get_minorticklocs()) == 0
    plt.close(figure)


def test_panels_are_a_flat_array_of_axes() -> None:
    for rows, columns in ((1, 1), (1, 3), (2, 2)):
        figure, axes = plots.panels(rows, columns)
        assert axes.shape == (rows * columns,)
        assert figure.get_figheight() == pytest.approx(3.6 * rows)


def test_style_is_set_for_every_later_figure() -> None:
    with mpl.rc_context():
        plots.use_style()
        assert plots.panels()[1][0].spines["top"].get_visible() is False
        assert mpl.rcParams["savefig.facecolor"] == "white"


def test_triangle_shows_each_correlation_with_its_interval_and_hatches_what_is_apart() -> None:
    _, (ax,) = plots.panels()
    unknown = Estimate(np.nan, np.nan, np.nan, 9)
    cells = {
        (0, 0): Estimate(0.9, 0.8, 1.0, 9),
        (1, 0): Estimate(-0.5, -0.7, 0.1, 9),
        (2, 0): unknown,
        (2, 1): Estimate(0.4, 0.2, 0.6, 9),
    }
    plots.correlation_triangle(ax, ["a", "b", "c"], cells, apart=[(2, 1)])
    assert [text.get_text() for text in ax.texts] == ["0.90", "−0.50", "–", "0.40"]
    assert [box.get_hatch() for box in ax.patches] == [None, None, None, "////"]
    white = [mpl.colors.to_hex(box.get_facecolor()) == "#ffffff" for box in ax.patches]
    assert white == [True, False, True, True], "only a correlation between two measures is shaded"
    interval = [line for line in ax.lines if line.get_linewidth() == 2.2][1]
    np.testing.assert_allclose(interval.get_xdata(), [0.42 * -0.7, 0.42 * 0.1])


def test_forest_has_a_row_for_each_estimate_though_names_repeat() -> None:
    _, (ax,) = plots.panels()
    plots.forest(
        ax,
        [
            ("x", Estimate(0.5, 0.2, 0.7, 9)),
            ("left", Estimate(0.1, -0.1, 0.2, 9)),
            ("left", Estimate(0, -1, 1, 9)),
        ],
        ["k"] * 3,
        gaps=[2],
    )
    assert [text.get_text() for text in ax.texts] == ["x", "left", "left"]
    np.testing.assert_allclose([text.get_position()[1] for text in ax.texts], [0.33, -0.67, -2.27])
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [0.2, 0.7])
