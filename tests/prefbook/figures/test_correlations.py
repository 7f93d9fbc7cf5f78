"""Correlations are drawn where they are, with their intervals."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np

from prefbook.figures import correlations as plots
from prefbook.figures import style
from prefdyn.measures.estimates import Estimate


def test_triangle_shows_each_correlation_with_its_interval_and_hatches_what_is_apart() -> None:
    _, (ax,) = style.panels()
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
    _, (ax,) = style.panels()
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
