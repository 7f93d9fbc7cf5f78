"""Chapter 2's experiments on hidden states and with all weights, on the tiny model, against what a reader
would compute by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_chapters import GENERALIZATION as SMALL

from prefdyn import data
from prefdyn.errors import PrefdynError
from prefdyn.experiments import company, frozen, generalization, persona_states, statements
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.frozen import States
from prefdyn.measures import geometry
from prefdyn.theory import reward_dynamics as dynamics


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Bench("smoke", device="cpu", precision="float32")


def made(seed: int, length: float = 0.0, size: int = 60, apart: float = 1.0) -> States:
    """States of a persona in 8 dimensions: a shared component, a concept, and noise of 0.5."""
    rng = np.random.default_rng(seed)
    labels = np.tile([1, -1], size).astype(np.int8)
    g = 0.5 * rng.standard_normal((2 * size, 8))
    g[:, 0] += length
    g[:, 1] += apart * labels
    return States(str(seed), g[:size], labels[:size], g[size:], labels[size:])


# Hidden states --------------------------------------------------------------------------------------


def test_cosines_are_means_over_pairs_of_statements(bench: Bench) -> None:
    tables = persona_states.hidden_states(bench, SMALL)
    cast = bench.personas(6, 12)
    states = [bench.features(persona).astype(float) for persona in cast]
    centre = np.mean([g.mean(0) for g in states], axis=0)
    pairs, personas = tables["cosines"], tables["personas"]
    assert len(pairs) == 15 and (pairs["first"] < pairs["second"]).all()

    def every(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return geometry.cosine(a[:, None], b[None])

    for row in pairs.to_dict("records"):
        a, b = states[row["first"]], states[row["second"]]
        assert row["statements"] == pytest.approx(every(a, b).mean(), abs=6e-5)
        assert row["statements centred"] == pytest.approx(every(a - centre, b - centre).mean(), abs=6e-5)
        s, t = cast[row["first"]].labels, cast[row["second"]].labels
        c, d = frozen.half_difference(a, s), frozen.half_difference(b, t)
        assert row["concepts"] == pytest.approx(float(geometry.cosine(c, d)), abs=6e-5)
    own = every(states[2] - centre, states[2] - centre)
    assert personas["own statements"][2] == pytest.approx(own[~np.eye(len(own), dtype=bool)].mean())
    assert pairs["dealt"].abs().mean() < 0.1
    assert personas["drawn"].all() and sorted(personas["place"]) == [*range(6)]


def test_conditions_of_the_data_are_in_units_of_a_concept(bench: Bench) -> None:
    asked = persona_states.conditions_of_the_data(bench, SMALL).set_index("condition")
    personas = persona_states.hidden_states(bench, SMALL)["personas"]
    length = np.median(2 * personas["shared length"] / personas["δ"])
    assert asked.loc["Z ≤ 1/(4 l_b²)", "limit"] == pytest.approx(1 / (4 * length**2))
    width = bench.features(bench.personas(6, 12)[0]).shape[1]
    assert asked.loc["d ≤ 5Q", ["value", "limit"]].tolist() == [width, 5 * 40]  # all statements count
    assert (asked["holds"] == (asked["value"] <= asked["limit"])).all()


def test_a_persona_is_cut_in_two_parts(bench: Bench) -> None:
    for persona, of in zip(bench.personas(6, 12), generalization.states(bench, SMALL), strict=True):
        assert of.name == persona.name and len(of.held_out) == 8 and len(of.train) == 16
        assert (of.held_out_labels.sum(), of.train_labels.sum()) == (0, 0)


# The unembedding alone ------------------------------------------------------------------------------


def test_margins_in_company_start_at_the_rate_that_is_foretold() -> None:
    everyone = [made(seed, length=3.0) for seed in range(4)]
    table = frozen.in_company(everyone, [1, 2, 4], 20, 1e-3, 0.1, [0])
    whole = table[table["arm"] == "all"]
    assert (whole["Q"] == 20).all() and sorted(whole["K"].unique()) == [1, 2, 4]
    # The first step moves the mean held-out margin by β² t/… times c.mean(c), and by what noise along the
    # shared component adds: the same statements in training and in the measure have none.
    same = [replace(of, held_out=of.train, held_out_labels=of.train_labels) for of in everyone]
    exact = frozen.in_company(same, [1, 4], 1000, 1e-6, 0.1, [0])
    exact = exact[exact["arm"] == "all"]
    np.testing.assert_allclose(exact["margin"], 1e-6 * 0.01 * exact["foretold"], rtol=1e-5)


def test_company_that_shares_nothing_costs_time_alone() -> None:
    """Where no two personas share a direction, K of them trained K times as long are each trained alone."""

    def apart(seed: int) -> States:
        of, none = made(seed), np.zeros((60, 32))
        train, held_out = none.copy(), none.copy()
        place = slice(8 * seed, 8 * seed + 8)
        train[:, place], held_out[:, place] = of.train, of.held_out
        return replace(of, train=train, held_out=held_out)

    everyone = [apart(seed) for seed in range(4)]
    table = frozen.in_company(everyone, [1, 4], 1000, 2000.0, 0.1, [0], ("all",), longer=True)
    margins = table[table["arm"] == "all"].pivot_table("margin", "persona", "K")
    np.testing.assert_allclose(margins[4], margins[1], rtol=0.02)  # steps of another length
    shorter = frozen.in_company(everyone, [1, 4], 1000, 2000.0, 0.1, [0])
    ends = shorter[shorter["arm"] == "all"].pivot_table("margin", "persona", "K")
    assert ends[1].equals(margins[1]) and (ends[4] < 0.8 * margins[4]).all()


def test_statements_grow_as_the_logarithm() -> None:
    sizes = [frozen.samples_for("as log K", count, 96, 64) for count in (1, 2, 4, 64)]
    assert sizes == [13, 26, 39, 91] and frozen.samples_for("as with one", 64, 96, 64) == 13
    assert frozen.samples_for("all", 2, 96, 64) == 96


def test_descent_comes_to_the_flow() -> None:
    of = made(3, length=5.0)
    train = of.preferences(of.drawn(20, 20, np.random.default_rng(0)))
    path = frozen.descend(train, 60.0, 0.1)
    exact = of.margins(dynamics.flow(train, [0, 60.0], 0.1))[-1]
    np.testing.assert_allclose(of.margins(path)[-1], exact, atol=0.02 * np.abs(exact).max())


def test_answers_of_their_own_keep_others_away() -> None:
    group = [made(seed, length=2.0) for seed in range(4)]
    arms = company.answer_arms(4)
    assert [(pairs, reuse) for pairs, reuse, _ in arms] == [(1, 4), (2, 2), (4, 2), (4, 1)]
    for pairs, reuse, tokens in arms:
        assert len({tuple(pair) for pair in tokens.tolist()}) == pairs
        assert max(np.bincount(tokens.ravel())) == reuse
    found = frozen.by_answers(group, [tokens for *_, tokens in arms], 20, 30.0, 0.1, [1])
    alone = frozen.by_answers(group[:1], [arms[0][2][:1]], 20, 30.0 / 4, 0.1, [1])
    own = found[(found["arm"] == 3) & (found["persona"] == 0)]
    assert own["margin"].item() == pytest.approx(alone["margin"].item(), rel=0.02)  # steps of another length


def test_other_answers_are_computed_anew(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever order the arms come in, each has its own margins."""
    before = company.own_answers(bench, SMALL)
    arms = company.answer_arms(6)
    monkeypatch.setattr(company, "answer_arms", lambda _: arms[::-1])
    after = company.own_answers(bench, SMALL)
    about = ["pairs", "Z", "persona"]
    assert before["margin"].nunique() > 6 and not before[about].equals(after[about])
    pd.testing.assert_frame_equal(
        before.sort_values(about, ignore_index=True), after.sort_values(about, ignore_index=True)
    )


def test_identities_hold_to_rounding_and_would_not_for_another_time() -> None:
    some = [made(seed, length=2.0) for seed in range(3)]
    found = frozen.departures(some, 10, 30.0, 0.1, [0])
    assert len(found) == 3 and (found["departure"] < 1e-11).all()
    margins = [
        some[0].margins(dynamics.descend(some[0].preferences(np.arange(20)), 100, long / 100, 0.1))[-1]
        for long in (30.0, 31.0)
    ]
    assert np.abs(margins[0] - margins[1]).max() > 1e-3 * np.abs(margins[0]).max()


def test_more_samples_lower_the_risk_of_made_states() -> None:
    of = made(5, size=400, apart=0.3)
    table = frozen.by_samples(of, [2, 150, 10**6], 20, 400.0, 0.1, [0])
    assert table["Q"].tolist() == [2, 150]  # there are no million
    assert table["risk"].iloc[1] < table["risk"].iloc[0] - 0.05
    assert table["wait"].iloc[1] > table["wait"].iloc[0]  # a small set is memorised


def test_personas_of_equal_states_are_drawn_from_by_seeds_of_their_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(5, length=2.0)
    twins = [replace(one, name=name) for name in data.persona_names()[:2]]
    monkeypatch.setattr(statements, "states", lambda *_: twins)
    table = statements.more_samples(bench, SMALL)
    until = generalization.training_time(twins)
    for number, twin in enumerate(twins):
        found = table[(table["persona"] == twin.name) & (table["of"] == "everyone")]
        sizes, seed = SMALL.samples_a_label, [bench.seed, number]
        expected = frozen.by_samples(one, sizes, SMALL.draws, until, generalization.BETA, seed)
        pd.testing.assert_frame_equal(found[list(expected)].reset_index(drop=True), expected)


def test_a_wait_ends_when_the_loss_has_fallen() -> None:
    of = made(1)
    train = of.preferences(of.drawn(20, 20, np.random.default_rng(0)))
    path = frozen.descend(train, 100.0, 0.1)
    losses = np.logaddexp(0, -path.margins(train)).mean(axis=1)
    assert np.interp(frozen.wait(path, train), path.times, losses) == pytest.approx(
        np.log(2) - frozen.FALL, abs=1e-3
    )
    assert np.isnan(frozen.wait(frozen.descend(train, 1.0, 0.1), train))


def test_the_rare_label_turns_where_the_shared_component_is_long() -> None:
    for length, turned in ((0.5, False), (6.0, True)):  # l_b² = 2 is the border for three to one
        table = frozen.lopsided(made(2, length), 40, 50.0, 0.1, [0]).set_index(["arm", "when"])
        rare, common = table.loc[("three to one", "first step"), ["rare", "common"]]
        assert common > 0.9 and (rare < 0.1 if turned else rare > 0.7)
        assert table.loc[("as many of both", "end"), "rare"] > 0.9


@pytest.mark.parametrize(("share", "common"), [(0.5, 20), (0.75, 30)])
def test_labels_are_drawn_in_their_share(share: float, common: int) -> None:
    labels = np.tile([1, -1], 60).astype(np.int8)
    index, rare = frozen.unevenly(labels, 40, share, np.random.default_rng(1))
    assert len(set(index)) == 40 and (labels[index] == -rare).sum() == common


def test_labels_at_random_are_drawn_whatever_they_are() -> None:
    labels = np.tile([1, -1], 60).astype(np.int8)
    found = [frozen.unevenly(labels, 40, 0.0, np.random.default_rng(seed)) for seed in range(40)]
    numbers = [(labels[index] == rare).sum() for index, rare in found]
    assert max(numbers) <= 20 and len(set(numbers)) > 3


def test_cantelli_bounds_the_error_of_made_states_and_is_its_formula() -> None:
    of = made(4, size=4000, apart=0.4)
    table = frozen.cantelli(of, 50.0, 0.1, [0])
    assert (table["wrong"] / table["statements"] <= table["bound"]).all()
    assert (table["bound"] < table["bound high"]).all() and (table["bound"] > 0.1).all()
    assert frozen._bound([2.0, -1.0], [4.0, 4.0]).tolist() == [0.5, 1.0]


# All weights ----------------------------------------------------------------------------------------


def test_sets_share_nobody_and_every_anchor_is_there_once() -> None:
    design = replace(SMALL, cluster_counts=[1, 2, 4, 8], sets=3, anchors=4)
    sets = company.nested([str(i) for i in range(25)], design, seed=1)
    assert [len(one) for one in sets] == [8] * 3 and len({name for one in sets for name in one}) == 24
    for count in design.cluster_counts:
        together = [*company.groups(sets[0], count, 4)]
        assert all(len(group) == count for group in together)
        anchors = [name for group in together for name in group if name in sets[0][:4]]
        assert anchors == sets[0][:4]
    pairs, fours = ([*company.groups(sets[0], count, 4)] for count in (2, 4))
    assert fours == [[*pairs[0], *pairs[1]]]


def test_anchors_are_measured_on_the_same_statements_in_every_company(bench: Bench) -> None:
    table = company.nested_sets(bench, SMALL)
    assert len(table) == 3 * 2 * 2 * 2 and table["set"].nunique() == 3
    assert (table.groupby(["persona", "K", "split"]).size() == 1).all()
    found = {of.name: of for of in generalization.states(bench, SMALL)}
    row = table[(table["K"] == 1) & (table["split"] == "held out")].iloc[0]
    of = found[row["persona"]]
    assert row["foretold"] == pytest.approx(of.concept_held_out @ of.concept)
    assert row["δ"] == pytest.approx(2 * np.linalg.norm(of.concept))


def test_a_set_trains_all_its_personas_and_measures_the_anchors_held_out_statements(bench: Bench) -> None:
    personas = {persona.name: persona for persona in bench.personas(6, 12)}
    together, anchors = list(personas)[:4], list(personas)[1:3]
    phase = company._phase(bench, SMALL, personas, together, anchors)
    assert [one.name for one in phase.train] == together and phase.settings.balanced
    for name, held_out, trained in zip(
        anchors, phase.evaluate["held out"], phase.evaluate["trained"], strict=True
    ):
        kept = generalization.parts(personas[name], SMALL, bench.seed)[1]
        assert set(held_out.statements) == {personas[name].statements[i] for i in kept}
        assert trained == phase.train[together.index(name)]
        assert not set(held_out.statements) & set(trained.statements)


def test_other_precision_changes_margins_by_rounding_alone(bench: Bench) -> None:
    exact, rounded = company.nested_sets(bench, SMALL), company.rounding(bench, SMALL)
    assert set(rounded["precision"]) == {"bfloat16"} and bench.precision == "float32"
    told = ["set", "persona", "K", "split", "δ", "foretold"]
    pd.testing.assert_frame_equal(rounded[told], exact[told])
    assert not rounded["margin"].equals(exact["margin"])
    # Eight bits of each factor are kept, and a margin is a difference of logits that moved by about as much.
    assert rounded["margin"].corr(exact["margin"]) > 0.9
    left_out = company.rounding(bench, replace(SMALL, both_precisions=False))
    assert list(left_out) == list(rounded) and left_out.empty


def test_statements_of_a_run_are_apart_from_those_held_out(bench: Bench) -> None:
    persona = bench.personas(6, 12)[0]
    examples = company._examples(persona, SMALL, 0)
    held_out = persona.subset(generalization.parts(persona, SMALL, 0)[1])
    assert not set(examples.statements) & set(held_out.statements)
    assert sorted(examples.labels) == [-1, -1, 1, 1]


def test_lopsided_runs_have_three_of_one_label(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    phases: list[generalization.Any] = []
    run = bench.train_all

    def watched(runs: list[list[generalization.Any]]) -> object:
        phases.extend(phase for (phase,) in runs)
        return run(runs)

    monkeypatch.setattr(bench, "train_all", watched)
    table = statements.imbalance_all_weights(bench, SMALL)
    assert len(table) == 3 * 3 * 2 and table[["rare", "common"]].to_numpy().min() >= 0
    trained = [phase.train[0] for phase in phases]
    counts = [sorted(((of.labels > 0).sum(), (of.labels < 0).sum())) for of in trained]
    assert counts[::3] == [[4, 4]] * 3 and counts[2::3] == [[2, 6]] * 3
    for phase, of in zip(phases[2::3], trained[2::3], strict=True):
        rarer = 1 if (of.labels > 0).sum() < (of.labels < 0).sum() else -1
        assert {*phase.evaluate["rare"][0].labels} == {rarer}
        assert {*phase.evaluate["common"][0].labels} == {-rarer}


# What is asked of a design --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cluster_counts": [2, 4]}, "begin with 1"),
        ({"cluster_counts": [1]}, "at least two numbers that rise"),
        ({"concept_counts": [1, 4, 2]}, "at least two numbers that rise"),
        ({"anchors": 3, "cluster_counts": [1, 2, 6]}, "anchors is 3: they must fit"),
        ({"samples_a_label": [4, 9]}, "must be 0 .all. or at least 13"),
        ({"samples_a_label": [1, 2]}, "samples_a_label ends with 2: for 4 personas .* at least 3"),
    ],
)
def test_a_design_that_cannot_be_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(PrefdynError, match=said):
        replace(SMALL, **change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sets": 4}, "ask for 8 personas and there are 6"),
        ({"many_samples": [8, 40]}, "many_samples asks for 40"),
        ({"moved_pairs": 10**6}, "response pairs"),
    ],
)
def test_a_design_asks_what_the_data_have(change: dict[str, object], said: str) -> None:
    with pytest.raises(PrefdynError, match=said):
        generalization.check_design(replace(SMALL, **change), "sample")


def test_what_was_computed_is_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    before = company.company(bench, SMALL)

    def fail(*arguments: object) -> None:
        raise AssertionError("computed anew")

    fail.__module__ = frozen.__name__
    monkeypatch.setattr(frozen, "in_company", fail)
    again = company.company(Bench("smoke", device="cpu", precision="float32"), SMALL)
    assert before.equals(again) and data.family("desire-x") == "desire"
