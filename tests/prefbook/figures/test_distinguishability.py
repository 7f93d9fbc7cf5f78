"""Figures of chapter 1, drawn from a small run, alone and with another run over it."""

from __future__ import annotations

import html
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from small_chapters import DISTINGUISHABILITY, OF_DISTINGUISHABILITY, two_editions
from written import write_table

from prefbook.figures import behaviours
from prefbook.figures import distinguishability as figures
from prefbook.figures import distinguishability_effects as effects
from prefbook.figures import distinguishability_training as trainings
from prefbook.ledger.derived import distinguishability as derived
from prefbook.ledger.tables import Tables
from prefdyn.measures.estimates import Estimate

Editions = tuple[Tables, Tables]
DRAWINGS = (
    figures.last_layer,
    figures.everyone,
    figures.boundary,
    figures.priority,
    trainings.fine_tuning,
    trainings.betas,
    trainings.course,
    trainings.gradients,
    trainings.intervention,
    trainings.equalised,
    effects.clouds,
    effects.misalignment,
    effects.text,
)
MAPS = {figures.statement_maps: "statement_maps", figures.maps_after: "maps_after"}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def editions(tmp_path_factory: pytest.TempPathFactory) -> Editions:
    return two_editions(tmp_path_factory.mktemp("editions"), OF_DISTINGUISHABILITY, DISTINGUISHABILITY)


@pytest.fixture(scope="module")
def known(editions: Editions) -> Tables:
    return editions[0]


def words(figure: Figure) -> set[str]:
    """Every label of a legend."""
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes)]
    return {text.get_text() for legend in legends if legend for text in legend.get_texts()}


def diamonds(ax: Axes) -> list[tuple[np.ndarray, np.ndarray]]:
    return [line.get_data() for line in ax.lines if line.get_marker() == "D"]


def dashed(ax: Axes) -> list[np.ndarray]:
    return [np.asarray(line.get_ydata()) for line in ax.lines if line.get_linestyle() == "--"]


def points(ax: Axes) -> np.ndarray:
    return np.concatenate([np.asarray(part.get_offsets()) for part in ax.collections])


@pytest.mark.parametrize("draw", DRAWINGS, ids=lambda draw: draw.__name__)
def test_this_machine_is_marked_where_it_measured(draw: Callable[..., Figure], editions: Editions) -> None:
    alone, both = draw(editions[0], None), draw(*editions)
    assert not any("this machine" in word for word in words(alone))
    assert any("this machine" in word for word in words(both))
    assert not any(diamonds(ax) for ax in alone.axes)
    assert any(diamonds(ax) for ax in both.axes)


@pytest.mark.parametrize("draw", DRAWINGS, ids=lambda draw: draw.__name__)
def test_every_axis_says_what_it_shows(draw: Callable[..., Figure], known: Tables) -> None:
    for ax in draw(known, None).axes:
        if ax.axison and ax.get_label() != "<colorbar>":
            categories = any(re.match("[a-z]", tick.get_text()) for tick in ax.get_xticklabels())
            assert ax.get_xlabel() or categories or not ax.xaxis.get_tick_params()["labelbottom"]


@pytest.mark.parametrize("draw", MAPS, ids=lambda draw: draw.__name__)
def test_maps_hold_as_many_statements_of_each_label(draw: Callable[..., str], editions: Editions) -> None:
    whole = editions[0][MAPS[draw]]
    kinds = [*({"map", "when"} & set(whole)), "label"]
    table = whole.groupby(kinds).head(figures.MAPPED)
    shown = [
        html.unescape(text) for text in re.findall(r"<title>(.*?)</title>", draw(editions[0], None), re.S)
    ]
    answers = table["label"].map({1: "Yes", -1: "No"})
    assert sorted(shown) == sorted(table["statement"] + " (" + answers + ")")
    assert "<details>" in draw(*editions) and "<details>" not in draw(editions[0], None)


@pytest.fixture(scope="module")
def odd(editions: Editions, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """The same tables with names that begin formulas which matplotlib cannot read, and end a script."""
    folder = tmp_path_factory.mktemp("odd")
    for name in editions[0]:
        table, columns = editions[0][name], {"behaviour", "first", "second"}
        for column in columns & set(table):
            table = table.assign(**{column: "$x^{$ </script>" + table[column].astype(str) + " $\\frac$"})
        write_table(table, folder / f"{name}.csv")
    return Tables(folder)


@pytest.mark.parametrize("draw", [*DRAWINGS, *MAPS, trainings.who_is_who], ids=lambda draw: draw.__name__)
def test_odd_names_begin_no_formula_and_end_no_script(draw: Callable[..., Figure | str], odd: Tables) -> None:
    drawn = draw(odd, odd)
    if isinstance(drawn, Figure):
        drawn.savefig(io.BytesIO())
    else:
        assert drawn.count("</script>") == drawn.count("<script>")


def test_theory_is_drawn_as_the_tables_have_it(known: Tables) -> None:
    table = known["unembedding"].sort_values("δ of training")
    fall, rate, _ = figures.everyone(known, None).axes
    np.testing.assert_array_equal(dashed(fall), [table["fall foretold"]])
    np.testing.assert_array_equal(dashed(rate), [table["rate foretold"]])
    bounds = [part["bound"].to_numpy() for _, part in known["last_layer_curves"].groupby("behaviour")]
    drawn = dashed(figures.last_layer(known, None).axes[1])
    assert len(drawn) == behaviours.SHOWN
    assert all(any(np.array_equal(line, bound) for bound in bounds) for line in drawn)


def test_more_distinguishable_behaviour_has_priority_in_the_heat_map(known: Tables) -> None:
    shades = figures.priority(known, None).axes[0].images[0].get_array()
    assert (np.tril(shades, -1)[np.tril_indices(len(shades), -1)] > 0).all()
    np.testing.assert_array_equal(shades, -shades.T)


def test_undoing_a_text_begins_where_its_alignment_ends(known: Tables) -> None:
    ax = effects.text(known, None).axes[0]
    lines = {line.get_label(): line.get_xydata() for line in ax.lines}
    np.testing.assert_allclose(lines["misaligning the aligned model"][0], lines["aligning"][-1], rtol=1e-2)
    assert lines["misaligning the base model"][0, 1] == pytest.approx(0, abs=1e-2)


def test_every_behaviour_is_a_point(known: Tables) -> None:
    right = trainings.fine_tuning(known, None).axes[2]
    assert sorted(points(right)[:, 1]) == pytest.approx(sorted(known["fine_tuning"]["fall of the loss"]))
    left = trainings.gradients(known, None).axes[0]
    assert len(points(left)) == len(known["fine_tuning"])


def test_course_goes_through_the_estimates(known: Tables) -> None:
    (ax,) = trainings.course(known, None).axes
    (line,) = [line for line in ax.lines if line.get_marker() == "o"]
    found = derived.with_falls_by_step(known)
    assert len(found) > 1 and line.get_xydata().tolist() == [[step, rho.value] for step, rho in found.items()]


def test_rows_of_the_forest_are_the_estimates(known: Tables) -> None:
    (ax,) = trainings.betas(known, None).axes
    drawn = [line.get_xydata()[0] for line in ax.lines if line.get_marker() == "o"]
    found = list(derived.falls_by_beta(known).values())
    assert [x for x, _ in drawn] == [rho.value for rho in found]
    assert [-round(y) for _, y in drawn] == list(range(len(found)))


def test_bars_are_factors_that_training_multiplies_by(known: Tables) -> None:
    left = effects.clouds(known, None).axes[0]
    bars = [line.get_xdata()[0] for line in left.lines if len(set(line.get_xdata())) == 1]
    expected = [np.exp(derived.log_change(known, "δ", training).mean()) for training in effects.TRAININGS]
    assert set(np.round(expected, 9)) <= set(np.round(bars, 9))


def test_starts_are_means_of_what_was_learned(known: Tables, tmp_path: Path) -> None:
    shutil.copytree(known.folder, tmp_path, dirs_exist_ok=True)
    table = known["misalignment"]
    forgotten = table["behaviour"] == table["behaviour"].iloc[0]
    table = table.assign(accuracy=np.where(forgotten, 0.74, 0.76))
    write_table(table, tmp_path / "misalignment.csv")
    left = effects.misalignment(Tables(tmp_path), Tables(tmp_path)).axes[0]
    falls = table[table["accuracy"] >= 0.75].groupby("start")["fall"]
    bars = [line.get_xdata()[0] for line in left.lines if line.get_linewidth() == 2.2]
    assert bars == pytest.approx([falls.mean()[start] for start in effects.STARTS])
    for (mine, _), start in zip(diamonds(left), effects.STARTS, strict=True):
        assert sorted(mine) == sorted(falls.get_group(start))


def test_behaviours_say_who_they_are(known: Tables) -> None:
    drawn = trainings.who_is_who(known, None)
    given = json.loads(re.search(r"const given = (.*);", drawn)[1].replace("\\u003c", "<"))  # type: ignore[index]
    names = list(known["unembedding"]["behaviour"])
    assert [name.replace(" ", "-") for name in given["names"]] == names
    assert set(given["outcomes"]) == set(trainings.OUTCOMES)
    falls = known["fine_tuning"].set_index("behaviour")["fall of the loss"]
    shown = dict(zip(names, given["outcomes"]["fall, all weights"], strict=True))
    assert {name for name, value in shown.items() if value is not None} == set(falls.index)
    assert all(
        value is None or value == pytest.approx(falls[name], abs=1e-4) for name, value in shown.items()
    )


def test_centres_of_the_clouds_to_drag_are_where_the_rings_are(known: Tables) -> None:
    drawn = figures.boundary_explorer(known, None)
    given = json.loads(re.search(r"const given = (.*);", drawn)[1])  # type: ignore[index]
    np.testing.assert_allclose(np.mean(given["offsets"], axis=1), 0, atol=1e-3)


def test_titles_of_narrow_panels_have_two_lines() -> None:
    _, ax = plt.subplots()
    behaviours.titled(ax, "ρ", Estimate(0.5, -0.25, 0.75, 9))
    assert (ax.get_title() or ax.get_title(loc="left")) == "ρ = 0.5\n[−0.25, 0.75]"


def test_few_keeps_the_ends() -> None:
    table = pd.DataFrame({"a": range(135)})
    assert list(figures.few(table)["a"]) == [0, 34, 67, 100, 134]
    assert list(figures.few(table.head(3))["a"]) == [0, 1, 2]
