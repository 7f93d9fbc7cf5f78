"""Figures of chapter 1, drawn from its reference edition, alone and with another run over it."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prefbook.figures import distinguishability as figures
from prefbook.ledger.tables import Tables

ROOT = Path(__file__).parents[3]
REFERENCE = Tables(ROOT / "results" / "reference" / "distinguishability")
DRAWINGS = (
    figures.last_layer,
    figures.everyone,
    figures.boundary,
    figures.priority,
    figures.fine_tuning,
    figures.together,
    figures.change,
    figures.misalignment,
    figures.text,
    figures.betas,
)
MAPS = {figures.statement_maps: "statement_maps", figures.maps_after: "maps_after"}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def here(tmp_path: Path) -> Tables:
    """What another machine may have measured: the first seed alone, three behaviours of those trained."""
    known = REFERENCE.of(REFERENCE.seed)
    kept = list(known["fine_tuning"]["behaviour"])[2:5]
    for name in known:
        table = known[name]
        if name in ("fine_tuning", "fine_tuning_curves", "before_and_after", "misalignment", "beta_falls"):
            table = table[table["behaviour"].isin(kept)]
        table.assign(seed=7).to_csv(tmp_path / f"{name}.csv", index=False)
    return Tables(tmp_path)


def words(figure: Figure) -> set[str]:
    """Every label of a legend."""
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes)]
    return {text.get_text() for legend in legends if legend for text in legend.get_texts()}


def diamonds(ax: Axes) -> list[tuple[np.ndarray, np.ndarray]]:
    return [line.get_data() for line in ax.lines if line.get_marker() == "D"]


def dashed(ax: Axes) -> list[np.ndarray]:
    return [np.asarray(line.get_ydata()) for line in ax.lines if line.get_linestyle() == "--"]


@pytest.mark.parametrize("draw", DRAWINGS, ids=lambda draw: draw.__name__)
def test_this_machine_is_marked_where_it_measured(draw, here: Tables) -> None:  # type: ignore[no-untyped-def]
    alone, both = draw(REFERENCE, None), draw(REFERENCE, here)
    assert not any("this machine" in word for word in words(alone))
    assert any("this machine" in word for word in words(both))
    assert not any(diamonds(ax) for ax in alone.axes)
    assert any(diamonds(ax) for ax in both.axes)


@pytest.mark.parametrize("draw", DRAWINGS, ids=lambda draw: draw.__name__)
def test_every_axis_says_what_it_shows(draw) -> None:  # type: ignore[no-untyped-def]
    for ax in draw(REFERENCE, None).axes:
        if ax.axison and ax.get_label() != "<colorbar>":
            categories = any(re.match("[a-z]", tick.get_text()) for tick in ax.get_xticklabels())
            assert ax.get_xlabel() or categories or not ax.xaxis.get_tick_params()["labelbottom"]


@pytest.mark.parametrize("draw", MAPS, ids=lambda draw: draw.__name__)
def test_maps_hold_every_statement(draw, here: Tables) -> None:  # type: ignore[no-untyped-def]
    table = REFERENCE.of(REFERENCE.seed)[MAPS[draw]]
    shown = [html.unescape(text) for text in re.findall(r"<title>(.*?)</title>", draw(REFERENCE, None), re.S)]
    answers = table["label"].map({1: "Yes", -1: "No"})
    assert sorted(shown) == sorted(table["statement"] + " (" + answers + ")")
    assert "<details>" in draw(REFERENCE, here) and "<details>" not in draw(REFERENCE, None)


@pytest.fixture
def odd(tmp_path: Path) -> Tables:
    """The same tables with names that begin formulas which matplotlib cannot read."""
    known = REFERENCE.of(REFERENCE.seed)
    for name in known:
        table, columns = known[name], {"behaviour", "first", "second"}
        for column in columns & set(table):
            table = table.assign(**{column: "$x^{$ " + table[column].astype(str) + " $\\frac$"})
        table.assign(seed=7).to_csv(tmp_path / f"{name}.csv", index=False)
    return Tables(tmp_path)


@pytest.mark.parametrize("draw", [*DRAWINGS, *MAPS], ids=lambda draw: draw.__name__)
def test_dollar_signs_in_names_begin_no_formula(draw, odd: Tables) -> None:  # type: ignore[no-untyped-def]
    drawn = draw(odd, odd)
    if isinstance(drawn, Figure):
        drawn.savefig(io.BytesIO())


def test_theory_is_drawn_as_the_tables_have_it() -> None:
    known = REFERENCE.of(REFERENCE.seed)
    table = known["unembedding"]
    fall, rate, _ = figures.everyone(REFERENCE, None).axes
    np.testing.assert_array_equal(dashed(fall), [table["fall foretold"]])
    np.testing.assert_array_equal(dashed(rate), [table["rate foretold"]])
    bounds = [part["bound"].to_numpy() for _, part in known["last_layer_curves"].groupby("behaviour")]
    drawn = dashed(figures.last_layer(REFERENCE, None).axes[1])
    assert len(drawn) == figures.SHOWN
    assert all(any(np.array_equal(line, bound) for bound in bounds) for line in drawn)


def test_more_distinguishable_behaviour_has_priority_in_the_heat_map() -> None:
    shades = figures.priority(REFERENCE, None).axes[0].images[0].get_array()
    assert (np.tril(shades, -1)[np.tril_indices(len(shades), -1)] > 0).all()
    np.testing.assert_array_equal(shades, -shades.T)


def test_undoing_a_text_begins_where_its_alignment_ends() -> None:
    (ax,) = figures.text(REFERENCE, None).axes
    lines = {line.get_label(): line.get_xydata() for line in ax.lines}
    np.testing.assert_allclose(lines["misaligning the aligned model"][0], lines["aligning"][-1], rtol=1e-3)
    assert lines["misaligning the base model"][0, 1] == pytest.approx(0, abs=1e-2)


def test_falls_of_every_seed_are_shown() -> None:
    right = figures.fine_tuning(REFERENCE, None).axes[2]
    points = np.concatenate([np.asarray(part.get_offsets()) for part in right.collections])
    table = REFERENCE["fine_tuning"]
    assert sorted(points[:, 1]) == pytest.approx(sorted(table["fall of the loss"]))


def test_few_keeps_the_ends() -> None:
    table = pd.DataFrame({"a": range(135)})
    assert list(figures.few(table)["a"]) == [0, 34, 67, 100, 134]
    assert list(figures.few(table.head(3))["a"]) == [0, 1, 2]
