"""The experiments of chapter 2 on synthetic clusters, against what a reader would compute by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from small_chapters import GENERALIZATION as SMALL

from prefdyn.experiments import flows, synthetic
from prefdyn.experiments.bench import Bench
from prefdyn.theory import clusters
from prefdyn.theory import reward_dynamics as dynamics
from prefdyn.theory.clusters import Clusters


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Bench("smoke", device="cpu", precision="float32")


def stand_in(patch: pytest.MonkeyPatch, module: ModuleType, name: str, by: Callable[..., Any]) -> None:
    """Another function in the place of a module's; its results are kept as the module's."""
    by.__module__ = module.__name__
    patch.setattr(module, name, by)


def test_interactions_are_zero_without_a_common_token(bench: Bench) -> None:
    pairs = synthetic.interactions(bench, SMALL)
    assert len(pairs) == 144 * 145 / 2
    concepts = pairs[["first", "second"]] // 24
    answers = Clusters(6, 12, 64, 0.05, 0.5, 2).answers
    shared = [bool(set(answers[i]) & set(answers[j])) for i, j in concepts.to_numpy()]
    assert (pairs["interaction"][~np.array(shared)] == 0).all()
    # Within a cluster 2 (1 + l_b²), and between the two of a concept 2 (1 − l_b²), but for noise.
    within = pairs.query("first < 12 and second < 12 and first != second")["interaction"]
    between = pairs.query("first < 12 and 12 <= second < 24")["interaction"]
    assert within.mean() == pytest.approx(2.5, abs=0.2) and between.mean() == pytest.approx(1.5, abs=0.2)


def test_descent_comes_to_the_flow_by_first_order(bench: Bench) -> None:
    gaps = synthetic.descent(bench, SMALL).set_index("steps")["gap"]
    assert np.log2(gaps[20] / gaps[40]) == pytest.approx(1, abs=0.05)


def test_curves_of_tight_clusters_stay_between_the_edges(bench: Bench) -> None:
    curves = synthetic.curves(bench, SMALL)
    tight, wide = (part for _, part in curves.query("by == 'flow'").groupby("v"))
    inside = (tight["lowest"] >= tight["lower edge"] - 1e-9) & (
        tight["highest"] <= tight["upper edge"] + 1e-9
    )
    assert inside.all() and (wide["lowest"] < wide["lower edge"]).any()
    assert set(tight["conditions that fail"]) == {"none"} and "v ≤" in wide["conditions that fail"].iloc[0]
    assert tight["time"].iloc[-1] == pytest.approx(1)
    assert (curves["by"] == "descent").sum() == 6


def test_shares_outside_are_those_of_each_draw() -> None:
    of = Clusters(pairs=2, samples=20, dimension=8, spread=0.8, shared=0.5)
    shares = flows.shares_outside(of, 0.1, 2, 5)
    train = of.draw(np.random.default_rng([5, 1]))
    path = dynamics.flow(train, np.linspace(0, clusters.tau_1(of, 0.1), 11), 0.1)
    assert shares[1] == clusters.outside_band(path, train, of).mean() > 0


@pytest.mark.usefixtures("cache")
def test_every_setting_of_the_band_meets_the_conditions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, flows, "shares_outside", lambda of, *_: np.array([0, 0.5, 0]))
    kept = synthetic.band(bench, replace(SMALL, synthetic_draws=2))
    assert len(kept) == 1 + 6
    row = kept[(kept["K"] == 4) & (kept["d"] == 64) & (kept["Q"] == 100)].iloc[0]
    assert row["margins"] == 2 * 800 and row["outside the band"] == 400
    promised = kept.iloc[0]
    assert promised["Q"] == 60_000 and promised["failure allowed"] == pytest.approx(
        12 * 60_000**2 * np.exp(-60_000 / 2304)  # (8Z + 4) K Q² exp(−ε²/16) with ε = √Q/12
    )
    for _, row in kept.iterrows():
        of = Clusters(*(int(row[n]) for n in "KQd"), row["v"], row["l_b"], int(row["Z"]))
        assert all(condition.holds for condition in clusters.conditions(of))
        assert row["failure allowed"] == 1 or row["Q"] == 60_000


@pytest.mark.usefixtures("cache")
def test_one_quantity_is_varied_at_a_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, flows, "shares_outside", lambda of, *_: np.array([0.1, 0.2, 0.3]))
    swept = synthetic.conditions(bench, SMALL)
    assert swept["share outside"].to_numpy() == pytest.approx(0.2)
    assert swept.groupby("varied")["v"].nunique().to_dict() == {
        title: 6 if field == "spread" else 2 for title, (field, _) in synthetic.SWEPT.items()
    }
    long = swept.query("varied == 'shared length l_b' and value == 64 and v == 0.025").iloc[0]
    assert long["conditions that fail"].startswith("Z ≤ 1/(4 l_b²) fails")


@pytest.mark.usefixtures("cache")
def test_risks_are_below_their_bounds_which_say_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, flows, "log_risks", lambda of, *_: np.array([-5.0, -6.0]))
    table = synthetic.risk(bench, SMALL)
    assert len(table) == (2 * 4 + 2) * 2
    bounded, promised = table[table["Q"] == 14_000].iloc[0], table[table["Q"] == 60_000].iloc[0]
    assert bounded["log₁₀ bound, appendix"] < 0 < bounded["log₁₀ failure"]
    assert promised["log₁₀ bound, appendix"] < promised["log₁₀ failure"] < 0
    row = table.iloc[0]
    assert row["log₁₀ risk"] == pytest.approx(-5 / np.log(10))
    assert row["log₁₀ bound"] == pytest.approx(np.log10(2 * 81**2) - 3 / 6 / np.log(10))


def test_a_risk_is_the_share_of_new_samples_that_are_wrong() -> None:
    of = Clusters(pairs=1, samples=20, dimension=4, spread=1.0, shared=0.5)
    (log_risk,) = flows.log_risks(of, 0.1, 1, 3)
    path = dynamics.flow(of.draw(np.random.default_rng([3, 20, 0])), [0, clusters.tau_1(of, 0.1)], 0.1)
    wrong = path.margins(of.draw(np.random.default_rng(7), 40_000))[-1] <= 0
    assert np.exp(log_risk) == pytest.approx(wrong.mean(), abs=3 / np.sqrt(wrong.size) / 2)


def test_bounds_fall_below_one_where_the_table_says(bench: Bench) -> None:
    tables = synthetic.bounds(bench, SMALL)
    needed = tables["samples_needed"].set_index("form")["Q for K = 16"]
    lines = tables["bounds"].query("K == 16").set_index("Q")["log₁₀ bound"]
    assert (lines[lines.index > needed["Theorem 4.2"]] < 0).all() and (lines < 0).sum() > 10
    row = tables["bound_of_the_data"].iloc[0]
    assert row["K"] == 6 and row["Q"] == 40  # of the whole personas, not of those measured
    assert row["log₁₀ bound"] == pytest.approx(np.log10(2 * 6 * 40**2) - 40**0.25 / 6 / np.log(10))
    failure = [
        clusters.log_failure(clusters.at_the_limits(1, round(row["Q for a failure below 1"] * by), 1))
        for by in (0.99, 1.01)
    ]
    assert failure[0] > 0 > failure[1]
