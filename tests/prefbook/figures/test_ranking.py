"""Figures of chapter 4: what the tables hold is what is drawn, and this machine's points are marked."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from small_chapters import RANKING, two_editions

from prefbook.figures import ranking, style
from prefbook.ledger.tables import Tables
from prefdyn.experiments import ranking as experiments
from prefdyn.theory.ranking import dpo_threshold

EXPERIMENTS = (
    experiments.ranking_accuracy,
    experiments.lengths,
    experiments.idealized,
    experiments.followed,
    experiments.cards,
    experiments.win_rate,
)
DRAWN = [
    ranking.accuracies,
    ranking.optimum,
    ranking.groups,
    ranking.thresholds,
    ranking.win_rates,
    ranking.gammas,
    ranking.lengths,
]
each_figure = pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)


@pytest.fixture(scope="module")
def editions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Tables]:
    """Two runs on the tiny model, with the seeds 0 and 1."""
    folder = tmp_path_factory.mktemp("editions")
    return two_editions(folder, EXPERIMENTS, replace(RANKING, ranked=20, followed=8))


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    style.use_style()
    yield
    plt.close("all")


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def hollow(figure: Figure) -> int:
    """Points that are drawn as this machine's."""
    lines = [line for ax in figure.axes for line in ax.lines if line.get_marker() == style.HERE["marker"]]
    faces = [to_hex(line.get_markerfacecolor()) for line in lines]
    return sum(
        np.size(line.get_xdata()) for line, face in zip(lines, faces, strict=True) if face == "#ffffff"
    )


@each_figure
def test_reference_alone_has_no_mark_of_this_machine(
    draw: Callable[[Tables, Tables | None], Figure], editions: tuple[Tables, Tables]
) -> None:
    figure = draw(editions[0], None)
    assert "this machine" not in labels(figure) and hollow(figure) == 0


@each_figure
def test_this_machine_is_drawn_over_it_and_named_once(
    draw: Callable[[Tables, Tables | None], Figure], editions: tuple[Tables, Tables]
) -> None:
    figure = draw(*editions)
    assert labels(figure).count("this machine") == 1 and len(labels(figure)) == len(set(labels(figure)))
    assert hollow(figure) > 0
    assert len(draw(editions[0], None).axes) == len(figure.axes)


def test_points_are_ranked_right_below_the_threshold(editions: tuple[Tables, Tables]) -> None:
    figure = ranking.thresholds(editions[0], None)
    for ax in figure.axes:
        right, wrong, curve = ax.lines
        assert curve.get_label() == "threshold, β = 0.2"
        for line, below in ((right, True), (wrong, False)):
            c, loss = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
            decided = np.abs(loss - dpo_threshold(c, 0.2)) > 1e-5
            assert ((loss < dpo_threshold(c, 0.2)) == below)[decided].all()


def test_titles_say_what_was_measured(editions: tuple[Tables, Tables]) -> None:
    judge = editions[0]["judge"]["accuracy"].item()
    assert (
        ranking.win_rates(*editions).axes[0].get_title("left")
        == f"judge right on {judge:.0%} of unseen pairs"
    )
    assert all(ax.get_title("left").startswith("ρ = ") for ax in ranking.lengths(*editions).axes)


def test_a_judge_of_unknown_accuracy_is_named_as_it_is(
    editions: tuple[Tables, Tables], tmp_path: Path
) -> None:
    for path in editions[0].folder.glob("*.csv"):
        shutil.copy(path, tmp_path)
    name = "<script>alert(1)</script> $x^{$"
    unknown = {"accuracy": np.nan, "low": np.nan, "high": np.nan, "n": np.nan, "no verdict": 0.25, "seed": 0}
    pd.DataFrame([{"name": name, **unknown}]).to_csv(tmp_path / "judge.csv", index=False)
    for draw in (ranking.win_rates, ranking.gammas):
        figure = draw(Tables(tmp_path), None)
        figure.savefig(drawn := io.StringIO(), format="svg")
        assert "<script" not in drawn.getvalue()
        assert figure.axes[0].get_title("left") == style.plain(f"{name}, no verdict on 25%")


def test_rows_of_both_editions_data_sets_are_drawn(editions: tuple[Tables, Tables], tmp_path: Path) -> None:
    other = editions[1]["ranking_accuracy"].assign(data="hh-rlhf")
    other.to_csv(tmp_path / "ranking_accuracy.csv", index=False)
    (ax,) = ranking.accuracies(editions[0], Tables(tmp_path)).axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["The embedded pairs", "HH-RLHF"]


def test_cards_of_this_machine_are_folded(editions: tuple[Tables, Tables]) -> None:
    alone, both = ranking.pair_cards(editions[0], None), ranking.pair_cards(*editions)
    assert "<details>" not in alone and both.startswith(alone)
    assert alone.count('class="pair-card"') == len(editions[0]["cards"])
    assert both.count('class="pair-card"') == len(editions[0]["cards"]) + len(editions[1]["cards"])
