"""The experiments of chapter 2 on the tiny model, against what a reader would compute by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_chapters import GENERALIZATION as SMALL

from prefdyn import data
from prefdyn.errors import PrefdynError
from prefdyn.experiments import flows, generalization, token_rates
from prefdyn.experiments.bench import Bench
from prefdyn.measures import geometry
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


# Hidden states --------------------------------------------------------------------------------------


def test_cosines_are_of_means_of_centred_means_and_of_concepts(bench: Bench) -> None:
    tables = generalization.hidden_states(bench, SMALL)
    cast = bench.personas(5, 10)
    states = [bench.features(persona).astype(float) for persona in cast]
    means = np.array([g.mean(0) for g in states])
    concepts = np.array(
        [g[p.labels > 0].mean(0) - g[p.labels < 0].mean(0) for g, p in zip(states, cast, strict=True)]
    )
    expected = {"means": means, "shared mean removed": means - means.mean(0), "concepts": concepts}
    pairs = tables["cosines"]
    assert len(pairs) == 10 and (pairs["first"] < pairs["second"]).all()
    for name, vectors in expected.items():
        by_hand = [geometry.cosine(vectors[i], vectors[j]) for i, j in pairs[["first", "second"]].to_numpy()]
        np.testing.assert_allclose(pairs[name], by_hand, atol=6e-4)
    unit = [g / np.linalg.norm(g, axis=1, keepdims=True) for g in states]
    np.testing.assert_allclose(pairs["statements"][0], (unit[0] @ unit[1].T).mean(), atol=6e-4)


def test_a_persona_lies_to_the_others_as_its_median_cosine_says(bench: Bench) -> None:
    tables = generalization.hidden_states(bench, SMALL)
    personas, pairs = tables["personas"], tables["cosines"]
    assert sorted(personas["place"]) == [*range(5)]
    assert personas["persona"].tolist() == [persona.name for persona in bench.personas(5, 10)]
    mine = pairs[(pairs["first"] == 2) | (pairs["second"] == 2)]
    assert personas["means"][2] == pytest.approx(mine["means"].median(), abs=1e-3)
    assert personas["concepts"][2] == pytest.approx(mine["concepts"].abs().median(), abs=1e-3)


def test_conditions_of_the_data_are_in_units_of_a_concept(bench: Bench) -> None:
    asked = generalization.conditions_of_the_data(bench, SMALL).set_index("condition")
    personas = generalization.hidden_states(bench, SMALL)["personas"]
    length = np.median(personas["shared length"] / personas["concept length"])
    assert asked.loc["Z ≤ 1/(4 l_b²)", "limit"] == pytest.approx(1 / (4 * length**2))
    assert asked.loc["d ≤ 5Q", ["value", "limit"]].tolist() == [
        bench.features(bench.personas(5, 10)[0]).shape[1],
        50,
    ]
    assert (asked["holds"] == (asked["value"] <= asked["limit"])).all()


# Clusters -------------------------------------------------------------------------------------------


def test_interactions_are_zero_without_a_common_token(bench: Bench) -> None:
    pairs = generalization.interactions(bench, SMALL)
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
    gaps = generalization.descent(bench, SMALL).set_index("steps")["gap"]
    assert np.log2(gaps[20] / gaps[40]) == pytest.approx(1, abs=0.05)


def test_curves_of_tight_clusters_stay_between_the_edges(bench: Bench) -> None:
    curves = generalization.curves(bench, SMALL)
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
    kept = generalization.band(bench, replace(SMALL, synthetic_draws=2))
    assert len(kept) == 6
    row = kept.iloc[1]
    assert row["margins"] == 2 * 800 and row["outside the band"] == 400
    for _, row in kept.iterrows():
        of = Clusters(*(int(row[n]) for n in "KQd"), row["v"], row["l_b"], int(row["Z"]))
        assert all(condition.holds for condition in clusters.conditions(of))
        assert row["failure allowed"] == 1


@pytest.mark.usefixtures("cache")
def test_one_quantity_is_varied_at_a_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, flows, "shares_outside", lambda of, *_: np.array([0.1, 0.2, 0.3]))
    swept = generalization.conditions(bench, SMALL)
    assert swept["share outside"].to_numpy() == pytest.approx(0.2)
    assert swept.groupby("varied")["v"].nunique().to_dict() == {
        title: 6 if field == "spread" else 2 for title, (field, _) in generalization.SWEPT.items()
    }
    long = swept.query("varied == 'shared length l_b' and value == 64 and v == 0.025").iloc[0]
    assert long["conditions that fail"].startswith("Z ≤ 1/(4 l_b²) fails")


@pytest.mark.usefixtures("cache")
def test_risks_are_below_their_bounds_which_say_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, flows, "log_risks", lambda of, *_: np.array([-5.0, -6.0]))
    table = generalization.risk(bench, SMALL)
    assert len(table) == 2 * 4 * 2
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
    tables = generalization.bounds(bench, SMALL)
    needed = tables["samples_needed"].set_index("form")["Q for K = 16"]
    lines = tables["bounds"].query("K == 16").set_index("Q")["log₁₀ bound"]
    assert (lines[lines.index > needed["Theorem 4.2"]] < 0).all() and (lines < 0).sum() > 10
    row = tables["bound_of_the_data"].iloc[0]
    assert row["K"] == 5 and row["Q"] == 40  # of the whole personas, not of those measured
    assert row["log₁₀ bound"] == pytest.approx(np.log10(2 * 5 * 40**2) - 40**0.25 / 6 / np.log(10))
    failure = [
        clusters.log_failure(clusters.at_the_limits(1, round(row["Q for a failure below 1"] * by), 1))
        for by in (0.99, 1.01)
    ]
    assert failure[0] > 0 > failure[1]


# More concepts --------------------------------------------------------------------------------------


def test_a_run_has_its_personas_in_equal_shares(bench: Bench) -> None:
    tables = generalization.sweep(bench, SMALL)
    groups, sweep = tables["groups"], tables["sweep"]
    assert groups.groupby("K")["draw"].apply(list).to_dict() == {k: [0, 1, 2] for k in (1, 2, 4)}
    assert (groups["personas"].str.split("; ").str.len() == groups["K"]).all()
    assert (groups["statements"] == 8).all() and (groups["places"] == 8).all()
    assert sorted(sweep["step"].unique()) == [1, 2]
    assert len(sweep) == 3 * 3 * 2 * 2
    assert sweep["accuracy"].between(0, 1).all()


def test_too_many_personas_are_named(bench: Bench) -> None:
    design = replace(SMALL, cluster_counts=[1, 9])
    for experiment in (generalization.sweep, generalization.rates):
        with pytest.raises(PrefdynError, match="asks for 9 personas and there are 5"):
            experiment(bench, design)


def test_the_papers_personas_need_the_papers_data(bench: Bench) -> None:
    with pytest.raises(PrefdynError, match="has no persona 'subscribes-to-rule-utilitarianism'"):
        generalization.sweep(bench, replace(SMALL, persona_lists="paper"))


def test_the_paper_names_as_many_personas_as_it_trains() -> None:
    assert {count: len(set(names)) for count, names in generalization.PAPER_LISTS.items()} == {
        count: count for count in (1, 2, 4, 8, 16)
    }


def test_rates_at_the_start_are_those_of_the_concepts(bench: Bench) -> None:
    cast = bench.personas(3, 10)
    parts = [(bench.features(persona), persona.labels) for persona in cast]
    c = np.array([(g[s > 0].mean(0, dtype=float) - g[s < 0].mean(0, dtype=float)) / 2 for g, s in parts])
    assert flows.rate_at_start(parts, own_answers=True) == pytest.approx((c**2).sum() / 9)
    assert flows.rate_at_start(parts, own_answers=False) == pytest.approx((c.mean(0) ** 2).sum())
    rates = generalization.rates(bench, SMALL)
    assert len(rates) == 2 * 3 * 40 and (rates["rate"] > 0).all()
    one = rates[rates["K"] == 1].groupby("answers")["rate"]
    assert one.max().nunique() == 1  # with one persona the two are the same


# More samples ---------------------------------------------------------------------------------------


def test_a_wait_ends_when_the_loss_has_fallen(bench: Bench) -> None:
    persona = bench.personas(3, 10)[0]
    g, s = bench.features(persona), persona.labels
    time = flows.wait(g, s, 0.1)
    margins = dynamics.flow(dynamics.yes_or_no(g, s), [0, time], 0.1).margins(dynamics.yes_or_no(g, s))
    assert np.log(2) - np.logaddexp(0, -margins[-1]).mean() == pytest.approx(flows.FALL, rel=1e-3)


def test_twice_every_sample_takes_as_long(bench: Bench) -> None:
    persona = bench.personas(3, 10)[0]
    g, s = bench.features(persona), persona.labels
    twice = flows.wait(np.concatenate([g, g]), np.concatenate([s, s]), 0.1)
    assert twice == pytest.approx(flows.wait(g, s, 0.1), rel=1e-4)


@pytest.mark.usefixtures("cache")
def test_a_slope_is_of_log_time_against_log_samples(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, flows, "cluster_waits", lambda of, *_: np.full((3, 2), of.samples**-0.5))
    stand_in(monkeypatch, flows, "wait", lambda g, s, beta: float(len(s)))
    tables = generalization.samples(bench, SMALL)
    waits, slopes = tables["samples"], tables["slopes"].set_index("time to")
    assert len(waits) == 3 * (4 * 2 * 2 + 2)
    assert slopes.loc["wide, held-out", "slope"] == pytest.approx(-0.5)
    assert slopes.loc["hidden states, training", ["low", "slope", "high"]].to_numpy() == pytest.approx(1.0)
    assert len(tables["slopes_by_draw"]) == 5 * 3
    # Four personas, two labels, so many statements of each.
    assert waits.query("of == 'hidden states, training' and Q == 2")["time"].tolist() == [16.0] * 3


# Tokens and losses ----------------------------------------------------------------------------------


def test_factors_add_up_to_the_rate_and_the_printed_ones_do_not(bench: Bench) -> None:
    tables = generalization.tokens(bench, SMALL)
    tokens, factors = tables["tokens"], tables["factors"]
    np.testing.assert_allclose(tokens["rate by the factors"], tokens["rate"], rtol=1e-8)
    assert tokens["relative error"].max() < 1e-8
    assert np.linalg.norm(tokens["rate as printed"] - tokens["rate"]) > 0.01 * np.linalg.norm(tokens["rate"])
    parts = factors[["co_occurrence", "probability", "distribution"]].sum(axis=1)
    np.testing.assert_allclose(parts, factors["total"], rtol=1e-9)
    start = factors[factors["step"] == 0].set_index("response")
    for word, mine in tokens.groupby("response"):
        assert start.loc[word, "total"] == pytest.approx(mine["rate"].mean())
    assert tables["places"].iloc[0][["pairs", "tokens"]].tolist() == [2, len(tokens)]


@pytest.mark.usefixtures("cache")
def test_short_pairs_are_taken_apart(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[data.Pair] = []

    def measure(lm: object, pairs: list[data.Pair], *how: Any) -> token_rates.TokenRates:
        taken.extend(pairs)
        return token_rates.TokenRates(pd.DataFrame({"rate": [1.0]}), pd.DataFrame(), 0.5)

    stand_in(monkeypatch, token_rates, "measure", measure)
    generalization.tokens(bench, replace(SMALL, pairs_decomposed=3))
    lengths = sorted(len(pair.chosen) + len(pair.rejected) for pair in bench.pairs(0))
    assert [len(pair.chosen) + len(pair.rejected) for pair in taken] == lengths[:12:4]


def test_margins_start_at_zero_but_for_simpo_and_equally_fast(bench: Bench) -> None:
    tables = generalization.losses(bench, SMALL)
    ends, curves = tables["losses"].set_index("loss"), tables["loss_curves"]
    starts = curves[curves["time"] == 0].set_index("loss")
    assert (starts.loc[["DPO", "IPO", "SLiC"], ["lowest", "highest"]] == 0).all(axis=None)
    assert starts.loc["SimPO", "lowest"] < starts.loc["SimPO", "highest"]
    last = curves[curves["time"] == curves["time"].max()].set_index("loss")
    np.testing.assert_allclose(last["median"], ends["median margin"])
    assert ends["not positive"].between(0, 1).all()


def test_the_rounded_corner_is_slic_away_from_it() -> None:
    loss, r = flows.rounded_slic(), torch.tensor([-1.0, 0.0, 0.5, 1.5, 3.0], dtype=torch.float64)
    np.testing.assert_allclose(-loss.derivative(r), [1, 1, 1, 0, 0], atol=1e-4)
    np.testing.assert_allclose(loss.value(r), (1 - r).clamp(min=0), atol=1e-4)


def test_what_was_computed_is_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before = generalization.tokens(bench, SMALL)["tokens"], generalization.rates(bench, SMALL)

    def fail(*arguments: object) -> None:
        raise AssertionError("computed anew")

    for module, name in ((token_rates, "measure"), (flows, "rate_at_start")):
        stand_in(monkeypatch, module, name, lambda *arguments: fail())
    again = Bench("smoke", device="cpu", precision="float32")
    pd.testing.assert_frame_equal(generalization.tokens(again, SMALL)["tokens"], before[0])
    pd.testing.assert_frame_equal(generalization.rates(again, SMALL), before[1])
