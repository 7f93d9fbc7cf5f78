"""Figures of chapter 2: what the tables hold is what is drawn, and what this machine measured is marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from small_chapters import GENERALIZATION, two_editions

from prefbook.figures import generalization as figures
from prefbook.figures import style
from prefbook.ledger.tables import Tables
from prefdyn.experiments import flows, generalization

EXPERIMENTS = (
    generalization.hidden_states,
    generalization.interactions,
    generalization.curves,
    generalization.conditions,
    generalization.risk,
    generalization.bounds,
    generalization.sweep,
    generalization.rates,
    generalization.samples,
    generalization.tokens,
    generalization.losses,
)
DRAWN = (
    figures.ten,
    figures.everyone,
    figures.interactions,
    figures.band,
    figures.conditions,
    figures.risk,
    figures.sweep,
    figures.rates,
    figures.waits,
    figures.tokens,
    figures.factors,
    figures.losses,
)
each_figure = pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)


@pytest.fixture(scope="module")
def editions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Tables]:
    """Two runs on the tiny model, with the seeds 0 and 1; what is drawn of clusters stands in for itself."""
    folder = tmp_path_factory.mktemp("editions")

    def drawn(of: object, beta: float, draws: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).uniform(0, 0.2, draws)

    def waited(of: object, beta: float, draws: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).uniform(5, 9, (draws, 2))

    with pytest.MonkeyPatch.context() as patch:
        for name, by in (("shares_outside", drawn), ("log_risks", drawn), ("cluster_waits", waited)):
            by.__module__ = flows.__name__
            patch.setattr(flows, name, by)
        return two_editions(folder, EXPERIMENTS, GENERALIZATION)


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
    if draw is figures.interactions:  # one draw of clusters as good as another
        assert diamonds(figure) == 0
        return
    assert any("this machine" in word for word in words(figure))
    if draw not in (figures.ten, figures.everyone):
        assert diamonds(figure) > 0


def test_maps_have_the_cosines_of_the_table(editions: tuple[Tables, Tables]) -> None:
    tables = editions[0]
    figure = figures.everyone(tables, None)
    order = tables["personas"].sort_values("place")["index"].to_numpy()
    for ax, column in zip(figure.axes, figures.MAPS, strict=False):
        matrix = np.asarray(ax.images[0].get_array())
        assert (np.diag(matrix) == 1).all() and (matrix == matrix.T).all()
        for row in tables["cosines"].itertuples(index=False):
            place = [int(np.flatnonzero(order == index)[0]) for index in (row.first, row.second)]
            assert (
                matrix[place[0], place[1]]
                == tables["cosines"][column][
                    (tables["cosines"]["first"] == row.first) & (tables["cosines"]["second"] == row.second)
                ].item()
            )


def test_open_points_break_a_condition(editions: tuple[Tables, Tables]) -> None:
    table = editions[0]["conditions"]
    figure = figures.conditions(editions[0], None)
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


def test_runs_start_where_the_model_is_its_own_reference(editions: tuple[Tables, Tables]) -> None:
    table = editions[0]["sweep"]
    figure = figures.sweep(editions[0], None)
    steps, losses = line(figure.axes[1], "K = 2")
    assert steps.tolist() == [0, 1, 2] and losses[0] == pytest.approx(np.log(2))
    mean = table.query("split == 'trained' and K == 2 and step == 2")["loss"].mean()
    assert losses[-1] == pytest.approx(mean)
    assert line(figure.axes[2], "K = 2")[0].tolist() == [1, 2]


def test_the_theory_is_drawn_with_the_rates(editions: tuple[Tables, Tables]) -> None:
    figure = figures.rates(editions[0], None)
    counts, shares = line(figure.axes[1], "1/K")
    np.testing.assert_allclose(shares, 1 / counts)
    assert any(word.startswith("held out: ρ = ") for word in words(figure))


def test_waits_are_relative_to_the_fewest_samples(editions: tuple[Tables, Tables]) -> None:
    sizes, value, _ = figures._relative_times(editions[0], "hidden states, training")
    times = editions[0]["samples"].query("of == 'hidden states, training'")
    ratio = times.query("Q == 4")["time"].to_numpy() / times.query("Q == 2")["time"].to_numpy()
    assert sizes.tolist() == [2, 4]
    np.testing.assert_allclose(value, [1, np.exp(np.log(ratio).mean())])
