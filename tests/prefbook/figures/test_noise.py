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
from written import write_table

from prefbook.figures import noise, noise_bounds, noise_map, noise_states, style
from prefbook.ledger.derived import noise as derived
from prefbook.ledger.tables import Tables
from prefdyn.experiments import noise_bounds as on_bounds
from prefdyn.experiments import noise_clouds, noise_pairs
from prefdyn.experiments import noise_states as on_states
from prefdyn.theory import noise as theory

EXPERIMENTS = (
    noise_clouds.controlled,
    noise_clouds.phase_map,
    noise_clouds.kinds_of_noise,
    on_bounds.regime,
    on_bounds.sharp_regime,
    on_bounds.tight_clouds,
    on_states.vmf,
    on_states.persona_noise,
    noise_pairs.text_pilot,
    noise_pairs.text_pairs,
)
MEASURED = [
    noise.controlled,
    noise.ipo,
    noise_map.phase_map,
    noise_map.late,
    noise.mirror,
    noise.losses,
    noise.kinds,
    noise_bounds.bound,
    noise_states.personas,
    noise_states.predict,
    noise_states.foretold,
    noise_states.text,
]
COMPUTED = [noise_bounds.slips, noise_states.effective]
each_figure = pytest.mark.parametrize("draw", [*MEASURED, *COMPUTED], ids=lambda draw: draw.__name__)


@pytest.fixture(scope="module")
def editions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Tables]:
    """Two runs on the tiny model, with the seeds 0 and 1."""
    folder = tmp_path_factory.mktemp("editions")
    return two_editions(
        folder,
        EXPERIMENTS,
        replace(NOISE, dimension=64, per_label=60, pilot=[1], text_pairs=2, text_tests=3, text_epochs=1),
    )


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
def test_legend_fits_below_the_figure(draw: Callable[..., Figure], editions: tuple[Tables, Tables]) -> None:
    figure = draw(*editions)
    figure.draw_without_rendering()
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width


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
    assert all(ax.get_xlabel() for ax in figure.axes[-2:])  # above, panels share theirs
    assert figure.axes[0].get_ylabel()


def test_curves_are_the_means_with_the_law_and_the_fit(editions: tuple[Tables, Tables]) -> None:
    reference, here = editions
    figure, name = noise.controlled(reference, here), "60°, γ = 1/4"
    colours = style.ordered_colours(derived.settings(reference))
    mean = derived.accuracies(reference, name).mean().to_numpy()
    drawn = lines(figure, 0, colours[name])
    assert any(len(y) == len(mean) and np.allclose(y, mean) for y in drawn)
    chosen = "setting == @name and loss == 'DPO' and training == 'short'"
    fits = reference["equation_18"].query(chosen).iloc[0]
    fit = 1 - theory.equation_18(noise.FINE[noise.FINE <= 0.351], fits["R"], fits["c"])
    assert any(len(y) == len(fit) and np.allclose(y, fit) for y in drawn)
    own = derived.accuracies(here, name).mean().to_numpy()[noise.FEW]
    assert np.allclose(lines(figure, 0, colours[name], "D")[0], own)
    law = derived.first_step_law(reference, "180°, γ = 1/8", noise.FINE)
    assert any(np.allclose(y, law) for y in lines(figure, 1, style.THEORY, "None"))


def test_ipo_is_drawn_from_its_own_accuracies(editions: tuple[Tables, Tables]) -> None:
    reference, name = editions[0], "60°, γ = 1/8"
    figure = noise.ipo(reference, None)
    colour = style.ordered_colours(derived.settings(reference))[name]
    curve = reference["curves"].query("setting == @name and loss == 'IPO' and training == 'short'")
    expected = curve["accuracy"].to_numpy()
    assert any(len(y) == len(expected) and np.allclose(y, expected) for y in lines(figure, 0, colour))


def test_map_shows_what_is_left_over_in_points(editions: tuple[Tables, Tables]) -> None:
    reference, here = editions
    figure = noise_map.phase_map(reference, here)
    table = reference["map_fits"].query("loss == 'IPO'")
    left = table["excess: straight line"]
    square = (np.sign(left) * left**2).groupby(table["time"]).mean()
    expected = 100 * np.sign(square) * np.sqrt(square.abs())
    drawn = lines(figure, 1, noise_map.MODELS["straight line"], "o")
    assert np.allclose(drawn[0], expected)
    assert len(lines(figure, 1, noise_map.MODELS["straight line"], "D")) == 1


def test_late_has_the_ridge_law_through_the_points_of_ipo(editions: tuple[Tables, Tables]) -> None:
    reference = editions[0]
    figure = noise_map.late(reference, None)
    first = min(reference["map_fits"]["time"])
    law = derived.ridge_law(reference, derived.SHOWN, first).accuracy(noise.FINE[noise.FINE <= 0.5])
    assert any(np.allclose(y, law) for y in lines(figure, 0, style.THEORY, "None") if len(y) == len(law))


def test_losses_are_drawn_as_differences_in_points(editions: tuple[Tables, Tables]) -> None:
    reference = editions[0]
    figure = noise.losses(reference, None)
    chosen = "setting == @derived.SHOWN and training == 'long' and loss == 'SLiC'"
    part = 100 * reference["differences"].query(chosen)["difference"]
    assert any(np.allclose(y, part) for y in lines(figure, 1, noise.LOSSES["SLiC"]))


def test_kinds_are_at_the_first_time_and_losses_at_their_best(editions: tuple[Tables, Tables]) -> None:
    reference = editions[0]
    figure = noise.kinds(reference, None)
    table = reference["kinds_of_noise"]
    first = table[(table["time"] == table["time"].min()) & (table["loss"] == "DPO")]
    margin = first.query("kind == 'by margin'")["accuracy"]
    assert any(np.allclose(y, margin) for y in lines(figure, 0, noise.KINDS["by margin"], "o"))
    (law,) = lines(figure, 0, style.THEORY)
    assert np.allclose(law, derived.first_step_law(reference, derived.SHOWN, noise.FINE[noise.FINE <= 0.4]))
    best = table.query("kind == 'coin' and loss == 'rDPO'").groupby("rate")["accuracy"].max()
    assert any(np.allclose(y, best) for y in lines(figure, 1, noise.LOSSES["rDPO"], "^"))


def test_every_behaviour_has_a_curve_and_theory_alone_is_black(editions: tuple[Tables, Tables]) -> None:
    reference, here = editions
    figure = noise_states.personas(reference, here)
    means = reference["persona_curves"].groupby("rate")[["centred", "centred foretold"]].mean()
    for column, colour in (("centred", style.POSITIVE), ("centred foretold", style.THEORY)):
        (drawn,) = lines(figure, 1, colour, "None")
        np.testing.assert_allclose(drawn, means[column])
    own = here["persona_curves"].groupby("rate")["centred"].mean().to_numpy()[noise.FEW]
    assert any(np.array_equal(y, own) for y in lines(figure, 1, style.POSITIVE, "D"))
    hues = style.ordered_colours(list(reference["persona_noise"].sort_values("δ")["behaviour"]))
    assert all(len(lines(figure, panel, colour)) == 1 for colour in hues.values() for panel in (0, 1))


def test_risk_without_a_wrong_point_stands_at_the_end_of_its_interval(
    editions: tuple[Tables, Tables],
) -> None:
    table = editions[0]["tight_clouds"]
    risks, ceiling = noise_bounds._tight(editions[0])
    assert ceiling == pytest.approx(3 / (4 * 120))
    assert risks.to_numpy() == pytest.approx(table.groupby("rate")["risk"].mean().to_numpy())
    marks = [y for y in lines(noise_bounds.bound(editions[0], None), 0, style.THEORY, "v") if len(y)]
    assert all(np.allclose(y, ceiling) for y in marks)


def test_text_points_are_the_runs_and_the_pilots(editions: tuple[Tables, Tables]) -> None:
    reference, here = editions
    figure = noise_states.text(reference, here)
    runs = derived.text_runs(reference).to_numpy()
    assert np.allclose(lines(figure, 1, style.NEUTRAL, "o"), runs)
    own = derived.text_runs(here).mean().to_numpy()
    assert np.allclose(lines(figure, 1, style.POSITIVE, "D")[0], own)
    pilot = reference["text_pilot"]["accuracy"]
    assert any(np.allclose(y, pilot) for y in lines(figure, 0, style.POSITIVE, "o") if len(y) == len(pilot))


def test_text_without_runs_is_an_empty_panel(tmp_path: Path, editions: tuple[Tables, Tables]) -> None:
    for name in editions[0]:
        table = editions[0][name]
        write_table(table.head(0 if name.startswith("text") else len(table)), tmp_path / f"{name}.csv")
    assert noise_states.text(Tables(tmp_path), None).axes[1].get_xlabel()


def test_circle_needs_no_table(tmp_path: Path) -> None:
    assert "<figure" in noise.circle(Tables(tmp_path), None)


# Tables as they are shown ---------------------------------------------------------------------------


def test_tables_as_they_are_shown(editions: tuple[Tables, Tables]) -> None:
    reference = editions[0]
    fits = noise.fits(reference["equation_18"])
    assert len(fits) == 70 and fits["c [95%]"].str.contains(r"\[").all()
    some = noise_map.points_of_the_map(reference["map_fits"])
    assert len(some) == 7 * 3 and some["time"].nunique() == 3 and "left: quadratic (points)" in some
    sharp = noise_bounds.sharp(reference["sharp_regime"])
    assert len(sharp) == 21 and sharp["γ"].iloc[-1] == "1024"
    looks = noise_states.looks(reference["vmf_by_behaviour"], rows=3)
    assert len(looks) == 3 and looks["ratio"].is_monotonic_increasing
    assert looks["variance of the cosine (10⁻⁶)"].max() == pytest.approx(
        1e6
        * reference["vmf_by_behaviour"]
        .query("state == 'question'")
        .set_index("behaviour")
        .loc[looks["behaviour"], "variance of the cosine"]
        .max()
    )
    regime = noise_bounds.regime(reference["regime"])
    assert "γ for k = 8, Hoeffding" in regime and (regime.iloc[-1, 2:6] == "none").all()
    wide = noise_states.correlations(reference["persona_correlations"])
    assert list(wide["predictor"]) == list(on_states.PREDICTORS)
    assert list(wide.columns[1:]) == ["at ε = 0.2, raw", "at ε = 0.2, centred", "fall, centred", "c, centred"]
