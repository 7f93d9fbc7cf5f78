"""Figures of chapter 4: what the tables hold is what is drawn, and this machine's points are marked."""

from __future__ import annotations

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
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from small_chapters import OF_RANKING, RANKING, two_editions
from written import write_table

from prefbook.figures import ranking, ranking_training, ranking_world, style
from prefbook.ledger.derived import ranking as derived
from prefbook.ledger.quoted import QUOTED
from prefbook.ledger.statistics import ranking as statistics
from prefbook.ledger.statistics.ranking import STATISTICS
from prefbook.ledger.tables import NotMeasured, Tables
from prefbook.publishing import quoting
from prefdyn.theory.ranking import dpo_threshold, flips_foretold

DRAWN = [
    ranking.accuracies,
    ranking.by_length,
    ranking.optimum,
    ranking.judges,
    ranking_world.thresholds,
    ranking_world.reach,
    ranking_world.win_rates,
    ranking_world.law,
    ranking_world.equal_divergence,
    ranking_world.beside_dpo,
    ranking_training.judged_answers,
]
each_figure = pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)


@pytest.fixture(scope="module")
def editions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tables, Tables]:
    """Two runs on the tiny model, with the seeds 0 and 1."""
    return two_editions(tmp_path_factory.mktemp("editions"), OF_RANKING, RANKING)


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


@pytest.fixture(scope="module")
def without_votes(editions: tuple[Tables, Tables], tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """The second run as if its pairs were HH-RLHF's, which is all that the hub has of two responses."""
    folder = tmp_path_factory.mktemp("without") / "ranking"
    shutil.copytree(editions[1].folder, folder)
    for name in ("scored", "supervised", "offline_judges"):
        path = folder / f"{name}.csv"
        above = [line for line in path.read_text(encoding="utf-8").splitlines(True) if line.startswith("#")]
        table = pd.read_csv(path, comment="#").replace({"data": {"sample": "hh-rlhf"}})
        if "alpha" in table:
            table["alpha"] = np.nan
        path.write_text("".join(above) + table.to_csv(index=False), encoding="utf-8")
    return Tables(folder)


@each_figure
def test_data_without_votes_leave_out_what_rests_on_them(
    draw: Callable[[Tables, Tables | None], Figure], editions: tuple[Tables, Tables], without_votes: Tables
) -> None:
    shown = draw(editions[0], without_votes)
    assert len(draw(editions[0], None).axes) == len(shown.axes)
    if draw is ranking.optimum:
        assert "this machine" not in labels(shown)
        with pytest.raises(NotMeasured, match=r"have human votes$"):
            draw(without_votes, None)
    else:
        assert draw(without_votes, None).axes


def test_numbers_of_data_without_votes_are_said_to_be_missing(without_votes: Tables) -> None:
    told = quoting.quotes(QUOTED["ranking"], without_votes, None)
    assert not {key: value for key, value in told.items() if "nan" in value}
    for name, statistic in STATISTICS.items():
        assert statistic(without_votes.of(without_votes.seed)), name


# Given responses ------------------------------------------------------------------------------------


def test_the_papers_models_are_those_of_its_tables() -> None:
    """GPT-2 and Zephyr-7B-SFT, by hand; and the range that the ledger quotes."""
    assert ranking.PAPERS.shape == (14, 8)
    assert ranking.PAPERS[2].tolist() == [0.499, 0.46, 0.815, 0.659, 0.406, 0.239, 0.502, 0.402]
    assert ranking.PAPERS[-1].tolist() == [0.495, 0.462, 0.943, 0.789, 0.439, 0.235, 0.545, 0.415]
    hh = ranking.PAPERS[:, :2]
    assert (hh.min(0).tolist(), hh.max(0).tolist()) == ([0.495, 0.455], [0.529, 0.467])
    farm = ranking.PAPERS[:, 6:]
    assert (farm.min(0).tolist(), farm.max(0).tolist()) == ([0.498, 0.391], [0.556, 0.421])


def test_models_of_the_paper_and_ours_share_a_row(editions: tuple[Tables, Tables]) -> None:
    for ax, per_token in zip(ranking.accuracies(editions[0], None).axes, (True, False), strict=True):
        ticks = [line for line in ax.lines if line.get_marker() == "|" and len(line.get_xdata()) == 14]
        assert len(ticks) == 4
        (ours,) = [line for line in ax.lines if line.get_marker() in "so" and len(line.get_xdata()) == 1]
        assert ours.get_xdata()[0] == statistics.hh_per_token(editions[0]).value if per_token else True
        assert round(float(ours.get_ydata()[0])) == 0


def test_both_ways_of_table_1_are_drawn(editions: tuple[Tables, Tables]) -> None:
    figure = ranking.optimum(editions[0], None)
    assert {"by the theorem", "by the authors' code", "the model"} <= set(labels(figure))
    for ax, per_token in zip(figure.axes, (True, False), strict=True):
        drawn = [line for line in ax.lines if len(line.get_xdata()) == 5 and line.get_linestyle() != "None"]
        assert len(drawn) == 2
        for line, by_code in zip(drawn, (False, True), strict=True):
            values = [one.value for one in derived.idealized(editions[0], per_token, by_code).values()]
            np.testing.assert_allclose(np.asarray(line.get_ydata(), dtype=float), values)


def test_the_threshold_to_move_holds_no_table(editions: tuple[Tables, Tables]) -> None:
    drawn = ranking.threshold_explorer(*editions)
    given = json.loads(re.search(r"const given = (\{.*\});", drawn).group(1))  # type: ignore[union-attr]
    assert given["betas"] == [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0] and given["unanimity"] == 0.001
    ids = re.findall(r'<figure class="explorer" id="([\w-]+)"', drawn)
    assert len(ids) == 1 and ids[0] not in ranking.threshold_explorer(*editions)


def test_cards_of_this_machine_are_folded(editions: tuple[Tables, Tables]) -> None:
    alone, both = ranking.pair_cards(editions[0], None), ranking.pair_cards(*editions)
    assert "<details>" not in alone and both.startswith(alone)
    assert alone.count('class="pair-card"') == len(editions[0]["cards"])
    assert both.count('class="pair-card"') == len(editions[0]["cards"]) + len(editions[1]["cards"])


@pytest.mark.parametrize(("low", "drawn"), [(0.45, False), (0.55, True)])
def test_judge_that_may_be_a_coin_draws_no_win_rate(
    editions: tuple[Tables, Tables], tmp_path: Path, low: float, drawn: bool
) -> None:
    folder = tmp_path / "ranking"
    shutil.copytree(editions[0].folder, folder)
    about = {"name": "embedded", "accuracy": 0.6, "low": low, "high": 0.7, "n": 90, "seed": 0}
    write_table(pd.DataFrame([about]), folder / "judge.csv")
    figure = ranking_training.judged_answers(Tables(folder), None)
    assert ("win rate" in labels(figure)) == drawn
    assert figure.axes[0].get_title("left").endswith(": no win rate") != drawn


def test_tenths_go_from_easy_to_hard(editions: tuple[Tables, Tables], tmp_path: Path) -> None:
    pair = np.arange(50)
    table = pd.DataFrame({"data": "sample", "pair": pair, "prompt": pair, "alpha": 1 - pair / 100, "seed": 0})
    table = table.assign(
        chosen=10 + pair, rejected=10, **{"chosen after": -50.0, "rejected after": pair - 70.0}
    )
    write_table(table, tmp_path / "supervised.csv")
    tokens, votes = ranking.tenths(Tables(tmp_path), None).axes
    np.testing.assert_allclose(np.asarray(tokens.lines[0].get_ydata(), dtype=float), 22 + 5 * np.arange(10))
    np.testing.assert_allclose(
        np.asarray(votes.lines[0].get_ydata(), dtype=float), 0.98 - 0.05 * np.arange(10)
    )


# Training -------------------------------------------------------------------------------------------


def test_points_are_ranked_right_below_the_threshold(editions: tuple[Tables, Tables]) -> None:
    figure = ranking_world.thresholds(editions[0], None)
    for ax, beta in zip(figure.axes, (0.1, 1.0), strict=True):
        right, wrong, curve = ax.lines
        assert curve.get_label() == "threshold" and ax.get_title("left") == f"β = {beta:g}"
        for line, below in ((right, True), (wrong, False)):
            c, loss = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
            decided = np.abs(np.log(loss / dpo_threshold(c, beta))) > 1e-3
            assert ((loss < dpo_threshold(c, beta)) == below)[decided].all()


@pytest.mark.parametrize("draw", [ranking_training.flows, ranking_world.world_flows])
def test_flows_add_up_on_both_sides(draw: Callable[..., Figure], editions: tuple[Tables, Tables]) -> None:
    for ax in draw(editions[0], None).axes:
        bands = [patch for patch in ax.patches if isinstance(patch, PathPatch)]
        left = sum(band.get_path().vertices[0, 1] - band.get_path().vertices[-2, 1] for band in bands)
        right = sum(band.get_path().vertices[3, 1] - band.get_path().vertices[4, 1] for band in bands)
        assert left == pytest.approx(1) and right == pytest.approx(1)


def test_flows_are_counted(editions: tuple[Tables, Tables]) -> None:
    pairs = derived.last_look(editions[0].of(0), "unseen")
    turned = ((pairs["c"] > 0) & (pairs["gain"] >= pairs["c"])).mean()
    ax = ranking_world.world_flows(editions[0], None).axes[1]
    assert ax.get_title("left") == f"unseen pairs, n = {len(pairs)}"
    shares = [text.get_text() for text in ax.texts]
    assert not turned or f"{turned:.0%}" in shares


def test_the_law_is_drawn_from_the_right_pairs(editions: tuple[Tables, Tables]) -> None:
    for ax, split in zip(ranking_world.law(editions[0], None).axes, ("trained", "unseen"), strict=True):
        pairs = derived.last_look(editions[0].of(0), split)
        curve = next(line for line in ax.lines if line.get_linestyle() == "--")
        c = np.asarray(curve.get_xdata())
        np.testing.assert_allclose(curve.get_ydata(), flips_foretold(pairs["gain"][pairs["c"] <= 0], c))


def test_objectives_begin_together_and_are_all_there(editions: tuple[Tables, Tables]) -> None:
    figure = ranking_world.equal_divergence(editions[0], None)
    assert set(labels(figure)) == set(ranking_world.OBJECTIVES)
    for ax in figure.axes:
        starts = [float(np.asarray(line.get_xdata())[0]) for line in ax.lines]
        np.testing.assert_allclose(starts, 0, atol=1e-3)


def test_a_judge_of_unknown_accuracy_is_named_as_it_is(
    editions: tuple[Tables, Tables], tmp_path: Path
) -> None:
    for path in editions[0].folder.glob("*.csv"):
        shutil.copy(path, tmp_path)
    judge = editions[0]["judge"]["accuracy"].item()
    known = ranking_training.judged_answers(*editions).axes[0].get_title("left")
    assert known.startswith(f"judge right on {judge:.0%} of unseen pairs")
    name = "<script>alert(1)</script> $x^{$"
    unknown = {"accuracy": np.nan, "low": np.nan, "high": np.nan, "n": np.nan, "no verdict": 0.25, "seed": 0}
    write_table(pd.DataFrame([{"name": name, **unknown}]), tmp_path / "judge.csv")
    figure = ranking_training.judged_answers(Tables(tmp_path), None)
    figure.savefig(drawn := io.StringIO(), format="svg")
    assert "<script" not in drawn.getvalue()
    assert figure.axes[0].get_title("left") == style.plain(f"{name}, no verdict on 25%")
