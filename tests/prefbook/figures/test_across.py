"""Figures of chapter 5: what the tables hold is what is drawn, and this machine's points are marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from written import write_table

from prefbook.figures import across, style
from prefbook.ledger.derived.across import correlation, left
from prefbook.ledger.tables import Tables
from prefdyn.experiments import across as experiments
from prefdyn.measures.estimates import Estimate

FIGURES = [across.outcomes, across.held]
each_figure = pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)


@pytest.fixture(scope="module")
def editions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Tables]:
    """The tables of drawn measures of nine personas with two seeds, and of six with one."""
    return _leave(tmp_path_factory.mktemp("reference"), 9, [0, 1]), _leave(
        tmp_path_factory.mktemp("here"), 6, [0]
    )


def _leave(folder: Path, people: int, seeds: list[int]) -> Tables:
    """What the experiments make of measures that nobody took."""
    names = [SimpleNamespace(name=f"persona-{i}") for i in range(people)]

    def taken(bench: Any, design: Any) -> experiments.Taken:
        draw = np.random.default_rng([bench.seed, people])
        truth = draw.normal(size=(people, 1, 1))
        values = {one: truth + draw.normal(size=(people, 2, 2)) for one in experiments.MEASURES}
        values["flipped half-way"] = np.full((people, 2, 2), 0.5)  # a correlation that is not defined
        return experiments.Taken(values, [0] * people, [80] * people, [1.0] * people)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "_taken", taken)
        patch.setattr(experiments, "_cast", lambda bench, design: names)
        for experiment in (experiments.measures, experiments.correlations):
            parts = {seed: experiment(SimpleNamespace(seed=seed), None) for seed in seeds}  # type: ignore[arg-type]
            for name in parts[seeds[0]]:
                frames = [tables[name].assign(seed=seed) for seed, tables in parts.items()]
                write_table(pd.concat(frames), folder / f"{name}.csv")
    return Tables(folder)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def diamonds(figure: Figure) -> list[np.ndarray]:
    """Where this machine's marks are, a row each."""
    lines = [line for ax in figure.axes for line in ax.lines if line.get_marker() == style.HERE["marker"]]
    return [np.column_stack(line.get_data()) for line in lines]


@each_figure
def test_this_machine_is_drawn_over_the_reference_and_named_once(
    editions: tuple[Tables, Tables], draw: Callable[..., Figure]
) -> None:
    alone = draw(editions[0], None)
    assert diamonds(alone) == [] and alone.legends == []
    both = draw(*editions)
    assert len(diamonds(both)) > 0
    assert [text.get_text() for legend in both.legends for text in legend.texts] == ["this machine"]


@each_figure
def test_the_first_seed_is_drawn(editions: tuple[Tables, Tables], draw: Callable[..., Figure]) -> None:
    whole, first = draw(editions[0], None), draw(editions[0].of(0), None)
    texts = [[text.get_text() for ax in figure.axes for text in ax.texts] for figure in (whole, first)]
    assert texts[0] == texts[1]


def test_a_point_for_every_persona(editions: tuple[Tables, Tables]) -> None:
    figure = across.outcomes(*editions)
    personas, own = (tables.of(0)["personas"] for tables in editions)
    for ax, outcome, mine in zip(figure.axes, across.OUTCOMES, diamonds(figure), strict=True):
        np.testing.assert_allclose(np.asarray(ax.collections[0].get_offsets()), personas[["δ", outcome]])
        np.testing.assert_allclose(mine, own[["δ", outcome]])
        assert (
            ax.get_title(loc="left") or ax.get_title()
        ) == f"ρ = {correlation(editions[0].of(0), 'δ', outcome)}"


def test_what_is_left_stands_below_what_there_was(editions: tuple[Tables, Tables]) -> None:
    reference, here = (tables.of(0) for tables in editions)
    figure = across.held(reference, here)
    places = np.concatenate(diamonds(figure))
    expected = [
        e.value for outcome in across.ROWS for e in (correlation(here, "δ", outcome), left(here, outcome))
    ]
    np.testing.assert_allclose(places[:, 0], expected)
    colours = [line.get_color() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert colours == [style.POSITIVE, style.NEUTRAL] * len(across.ROWS)
    assert [text.get_text() for text in figure.axes[0].texts] == [
        w for pair in across.ROWS.values() for w in pair
    ]


def test_forest_has_a_row_for_each_estimate_though_names_repeat() -> None:
    _, (ax,) = style.panels()
    across.forest(
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
