"""Figures of chapter 2: what the tables hold is what is drawn, and what this machine measured is marked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from small_chapters import GENERALIZATION, OF_GENERALIZATION, two_editions

from prefbook.figures import clusters as cluster_figures
from prefbook.figures import generalization as figures
from prefbook.figures import generalization_responses as response_figures
from prefbook.figures import style
from prefbook.ledger.derived import generalization as derived
from prefbook.ledger.tables import Tables
from prefdyn.experiments import flows
from prefdyn.theory import clusters as theory

DRAWN = (
    cluster_figures.interactions,
    cluster_figures.band,
    cluster_figures.conditions,
    cluster_figures.risk,
    cluster_figures.losses,
    figures.concepts,
    figures.left,
    figures.company,
    figures.answers,
    figures.samples,
    figures.imbalance,
    figures.cantelli,
    response_figures.tokens,
    response_figures.moved,
    response_figures.factors,
)
each_figure = pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)


@pytest.fixture(scope="module")
def editions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Tables]:
    """Two runs on the tiny model, with the seeds 0 and 1; what is drawn of clusters stands in for itself."""
    folder = tmp_path_factory.mktemp("editions")

    def drawn(of: object, beta: float, draws: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).uniform(0, 0.2, draws)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("shares_outside", "log_risks"):
            drawn.__module__ = flows.__name__
            patch.setattr(flows, name, drawn)
        return two_editions(folder, OF_GENERALIZATION, GENERALIZATION)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def diamonds(figure: Figure) -> int:
    """Lines that bear the mark of this machine, with points in them."""
    return sum(
        line.get_marker() == style.HERE["marker"] and len(line.get_xdata()) > 0
        for ax in figure.axes
        for line in ax.lines
    )


def words(figure: Figure) -> set[str]:
    """Titles and entries of legends."""
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    told = {text.get_text() for legend in legends for text in legend.get_texts()}
    return told | {ax.get_title(where) for ax in figure.axes for where in ("left", "center")}


@each_figure
def test_the_reference_edition_stands_alone(
    editions: tuple[Tables, Tables], draw: Callable[..., Figure]
) -> None:
    figure = draw(editions[0], None)
    figure.canvas.draw()
    assert diamonds(figure) == 0 and not any("this machine" in word for word in words(figure))


@each_figure
def test_this_machine_is_marked(editions: tuple[Tables, Tables], draw: Callable[..., Figure]) -> None:
    figure = draw(*editions)
    figure.canvas.draw()
    if draw is cluster_figures.interactions:  # one draw of clusters as good as another
        assert diamonds(figure) == 0
        return
    assert any("this machine" in word for word in words(figure))
    assert diamonds(figure) > 0


def test_the_map_has_the_cosines_of_the_table(editions: tuple[Tables, Tables]) -> None:
    tables = editions[0]
    figure = figures.concepts(tables, None)
    order = tables["personas"].sort_values("place")["index"].to_numpy()
    matrix = np.asarray(figure.axes[0].images[0].get_array())
    assert (np.diag(matrix) == 1).all() and (matrix == matrix.T).all()
    for row in tables["cosines"].to_dict("records"):
        place = [int(np.flatnonzero(order == row[end])[0]) for end in ("first", "second")]
        assert matrix[place[0], place[1]] == row["concepts"]


def test_open_points_break_a_condition(editions: tuple[Tables, Tables]) -> None:
    table = editions[0]["conditions"]
    figure = cluster_figures.conditions(editions[0], None)
    for ax, (_, part) in zip(figure.axes, table.groupby("varied", sort=False), strict=True):
        open_ = sum(
            len(points.get_offsets())
            for points in ax.collections
            if hasattr(points, "get_offsets")
            and len(points.get_facecolors())
            and (points.get_facecolors()[0][:3] == 1).all()
        )
        assert open_ == (part["conditions that fail"] != "none").sum()


def line(ax: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    (found,) = [one for one in ax.lines if one.get_label() == label]
    return np.asarray(found.get_xdata(), dtype=float), np.asarray(found.get_ydata(), dtype=float)


def test_the_laws_are_drawn_with_what_is_left(editions: tuple[Tables, Tables]) -> None:
    tables = editions[0].of(0)
    figure = figures.left(editions[0], None)
    counts, law = line(figure.axes[1], "A/K + (1 − 1/K)B")
    share = derived.b_over_a(tables)
    np.testing.assert_allclose(law, 1 / counts + (1 - 1 / counts) * share)
    np.testing.assert_allclose(line(figure.axes[1], "its square root")[1], law**0.5)
    np.testing.assert_allclose(line(figure.axes[1], "1/K: own answers")[1], 1 / counts)


def test_points_of_sets_are_geometric_means_of_what_is_left(editions: tuple[Tables, Tables]) -> None:
    """Of every number: the mean over anchors of a set's margin over theirs alone, and then over sets."""
    table = editions[0].of(0)["nested_sets"]
    figure = figures.left(editions[0], None)
    for split, container in zip(("held out", "trained"), figure.axes[1].containers, strict=False):
        drawn = np.asarray(container.lines[0].get_ydata(), dtype=float)
        margins = table[table["split"] == split].groupby(["set", "K"])["margin"].mean().unstack()
        left = margins.to_numpy() / margins[[1]].to_numpy()
        known = (left > 0).all(axis=0)
        assert known.any() and np.isnan(drawn[~known]).all()
        np.testing.assert_allclose(drawn[known], np.prod(left[:, known], axis=0) ** (1 / len(left)))


def test_every_anchor_has_a_dot_for_each_number(editions: tuple[Tables, Tables]) -> None:
    table = editions[0]["nested_sets"].query("split == 'held out'")
    figure = figures.left(editions[0], None)
    dots = np.concatenate([points.get_offsets() for points in figure.axes[0].collections])
    np.testing.assert_allclose(sorted(dots[:, 0]), sorted(table["margin"]))
    rows = table.drop_duplicates("persona").sort_values("δ")["persona"]
    lowest = table[table["persona"] == rows.iloc[0]]["margin"]
    np.testing.assert_allclose(sorted(dots[dots[:, 1] == 0, 0]), sorted(lowest))


def test_cantelli_has_a_point_for_each_cluster(editions: tuple[Tables, Tables]) -> None:
    table = editions[0]["cantelli"]
    figure = figures.cantelli(editions[0], None)
    points = np.concatenate([points.get_offsets() for points in figure.axes[0].collections])
    np.testing.assert_allclose(sorted(points[:, 1]), sorted(table["wrong"] / table["statements"]))


def test_the_explorer_has_the_values_of_the_theory(editions: tuple[Tables, Tables]) -> None:
    drawn = cluster_figures.bounds_explorer(editions[0], None)
    found = re.search(r"const given = (.*);", drawn)
    assert found
    content = json.loads(found[1])
    counts, samples = content["counts"], 10 ** np.array(content["samples"])
    at = int(np.argmin(np.abs(samples - 1e5)))
    of = theory.at_the_limits(4, round(cluster_figures.SAMPLES[at]), 1)
    failure, appendix, stated = (values[counts.index(4)][at] for values in content["values"])
    assert failure == pytest.approx(theory.log_failure(of) / np.log(10), abs=0.006)
    assert appendix == pytest.approx(theory.log_risk_bound_appendix(of) / np.log(10), abs=0.006)
    assert stated == pytest.approx(float(theory.log_risk_bound(4, 1e5)) / np.log(10), abs=0.01)
    assert content["values"][0][0][0] is None  # ten samples allow no Z
    assert 10 ** content["data"] == pytest.approx(40, rel=1e-2)
