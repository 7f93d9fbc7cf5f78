"""The style of figures: colours, names and axes."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from prefbook.figures import style as plots


@pytest.fixture(autouse=True)
def without_windows() -> Iterator[None]:
    backend = mpl.get_backend()
    mpl.use("agg")
    yield
    plt.close("all")
    mpl.use(backend)


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
