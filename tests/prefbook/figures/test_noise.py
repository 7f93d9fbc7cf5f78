"""Figures of chapter 3: what the tables hold is what is drawn, and this machine's points are marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from small_chapters import NOISE, two_editions

from prefbook.figures import noise, style
from prefbook.ledger.statistics import noise as measured
from prefbook.ledger.tables import Tables
from prefdyn.experiments import noise as experiments
from prefdyn.theory import noise as theory

EXPERIMENTS = (
    experiments.controlled,
    experiments.regime,
    experiments.tight_clouds,
    experiments.vmf,
    experiments.persona_noise,
    experiments.text_pairs,
)
MEASURED = [
    noise.controlled,
    noise.ipo,
    noise.rivals,
    noise.mirror,
    noise.losses,
    noise.bound,
    noise.personas,
    noise.predict,
    noise.text,
]
COMPUTED = [noise.slips, noise.effective]
each_figure = pytest.mark.parametrize("draw", [*MEASURED, *COMPUTED], ids=lambda draw: draw.__name__)


@pytest.fixture(scope="module")
def editions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Tables]:
    """Two runs on the tiny model, with the seeds 0 and 1."""
    folder = tmp_path_factory.mktemp("editions")
    return two_editions(folder, EXPERIMENTS, replace(NOISE, text_pairs=2, text_tests=3))


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def labels(figure: Figure) -> set[str]:
    return {text.get_text() for legend in figure.legends for text in legend.get_texts()}


def lines(figure: Figure, panel: int, colour: object, marker: str | None = None) -> list[np.ndarray]:
    """Of a panel, the heights of the lines with a colour (and a marker)."""
    return [
        np.asarray(line.get_ydata(), dtype=float)
        for line in figure.axes[panel].lines
        if line.get_color() == colour and marker in (None, line.get_marker()) and len(line.get_ydata())
    ]


@each_figure
def test_this_machine_is_in_the_legend_where_it_measured(
    draw: Callable[..., Figure], editions: tuple[Tables, Tables]
) -> None:
    reference, here = editions
    assert "this machine" not in labels(draw(reference, None))
    assert ("this machine" in labels(draw(reference, here))) is (draw in MEASURED)


@each_figure
def test_every_panel_says_what_it_measures(
    draw: Callable[..., Figure], editions: tuple[Tables, Tables]
) -> None:
    figure = draw(*editions)
    figure.canvas.draw()
    assert all(ax.get_xlabel() or draw is noise.rivals for ax in figure.axes)
    assert figure.axes[0].get_ylabel()


def test_curves_are_the_means_with_the_law_and_the_fit(editions: tuple[Tables, Tables]) -> None:
    reference, here = editions
    figure = noise.controlled(reference, here)
    colours = style.ordered_colours(measured.settings(reference))
    mean = measured.accuracies(reference, "γ = 1/4").mean().to_numpy()
    drawn = lines(figure, 0, colours["γ = 1/4"])
    assert any(len(y) == len(mean) and np.allclose(y, mean) for y in drawn)
    fits = reference["equation_18"].query("setting == 'γ = 1/4' and loss == 'DPO'").iloc[0]
    fit = 1 - theory.equation_18(noise.FINE[noise.FINE <= 0.351], fits["R"], fits["c"])
    assert any(len(y) == len(fit) and np.allclose(y, fit) for y in drawn)
    own = measured.accuracies(here, "γ = 1/4").mean().to_numpy()[noise.FEW]
    assert np.allclose(lines(figure, 0, colours["γ = 1/4"], "D")[0], own)
    law = measured.first_step_law(reference, "angle π", noise.FINE)
    assert any(np.allclose(y, law) for y in lines(figure, 1, style.THEORY, "None"))


def test_ipo_is_drawn_from_its_own_accuracies(editions: tuple[Tables, Tables]) -> None:
    reference = editions[0]
    table = reference["accuracies"]
    figure = noise.ipo(reference, None)
    colour = style.ordered_colours(measured.settings(reference))["γ = 1/8"]
    expected = measured.accuracies(reference, "γ = 1/8", "IPO").mean().to_numpy()
    assert any(len(y) == len(expected) and np.allclose(y, expected) for y in lines(figure, 0, colour))
    assert set(table["loss"]) == {"DPO", "IPO"}


def test_rivals_are_continued_from_what_they_were_fitted_to(editions: tuple[Tables, Tables]) -> None:
    reference = editions[0]
    runs = 1 - measured.accuracies(reference, "angle π")
    rates = runs.columns.to_numpy(dtype=float)
    near, far = rates < 0.36, (rates > 0.36) & (rates < 0.51)
    mean = runs.mean().to_numpy()
    guess = theory.predict("quadratic", rates[near], mean[near], rates[far])
    error, low, high = noise._beyond(reference, "quadratic", "angle π")
    assert error == pytest.approx(np.sqrt(((guess - mean[far]) ** 2).mean()))
    assert low <= error <= high
    law = 1 - measured.first_step_law(reference, "angle π", rates[far])
    assert noise._beyond(reference, "first-step law", "angle π")[0] == pytest.approx(
        np.sqrt(((law - mean[far]) ** 2).mean())
    )


def test_every_behaviour_has_a_curve_and_their_mean_is_black(editions: tuple[Tables, Tables]) -> None:
    reference, here = editions
    figure = noise.personas(reference, here)
    mean = reference["persona_curves"].groupby("rate")["centred"].mean().to_numpy()
    assert any(len(y) == len(mean) and np.allclose(y, mean) for y in lines(figure, 1, style.THEORY, "None"))
    hues = style.ordered_colours(list(reference["persona_noise"].sort_values("δ")["behaviour"]))
    assert all(len(lines(figure, panel, colour)) == 1 for colour in hues.values() for panel in (0, 1))


def test_risk_without_a_wrong_point_stands_at_the_end_of_its_interval(
    editions: tuple[Tables, Tables],
) -> None:
    table = editions[0]["tight_clouds"]
    risks, ceiling = noise._tight(editions[0])
    assert ceiling == pytest.approx(3 / (4 * 60))
    assert risks.to_numpy() == pytest.approx(table.groupby("rate")["risk"].mean().to_numpy())
    marks = [y for y in lines(noise.bound(editions[0], None), 0, style.THEORY, "v") if len(y)]
    assert all(np.allclose(y, ceiling) for y in marks)


def test_text_points_are_the_runs(editions: tuple[Tables, Tables]) -> None:
    reference, here = editions
    figure = noise.text(reference, here)
    for panel, column in enumerate(("accuracy", "margin")):
        runs = measured.text_runs(reference, column).to_numpy()
        assert np.allclose(lines(figure, panel, style.NEUTRAL, "o"), runs)
        own = measured.text_runs(here, column).mean().to_numpy()
        assert np.allclose(lines(figure, panel, style.POSITIVE, "D")[0], own)


def test_circle_needs_no_table(tmp_path: Path) -> None:
    assert "<figure" in noise.circle(Tables(tmp_path), None)


# Tables as they are shown ---------------------------------------------------------------------------


def test_tables_as_they_are_shown(editions: tuple[Tables, Tables]) -> None:
    reference = editions[0]
    fits = noise.fits(reference["equation_18"])
    assert len(fits) == 10 and fits["c [95%]"].str.contains(r"\[").all() and "error: quadratic" in fits
    looks = noise.looks(reference["vmf_by_behaviour"], rows=3)
    assert len(looks) == 3 and looks["ratio"].is_monotonic_increasing
    assert looks["variance of the cosine (10⁻⁶)"].max() == pytest.approx(
        1e6
        * reference["vmf_by_behaviour"]
        .set_index("behaviour")
        .loc[looks["behaviour"], "variance of the cosine"]
        .max()
    )
    regime = noise.regime(reference["regime"])
    assert "γ for k = 8, Hoeffding" in regime and (regime.iloc[-1, 2:6] == "none").all()
    wide = noise.correlations(reference["persona_correlations"])
    assert list(wide["predictor"]) == list(experiments.PREDICTORS)
    assert list(wide.columns[1:]) == ["at ε = 0.2, raw", "at ε = 0.2, centred", "c, centred"]
