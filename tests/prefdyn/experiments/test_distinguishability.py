"""Chapter 1's experiments on the tiny model: their tables agree with each other and with the algebra."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import rounding
from hypothesis import given
from hypothesis import strategies as st

from prefdyn import data
from prefdyn.errors import PrefdynError
from prefdyn.experiments import Bench
from prefdyn.experiments import distinguishability as ex
from prefdyn.experiments.distinguishability import Cast, Design, spread
from prefdyn.measures import estimates
from prefdyn.measures.geometry import Moments, moments
from prefdyn.models import loading

DESIGN = Design(
    personas=5,
    statements_per_label=10,
    behaviours="spread",
    layout="pca",
    trained=3,
    beta=0.01,
    unembedding_rate=0.1,
    unembedding_steps=20,
    pairs_tested=4,
    learning_rate=2.5e-4,
    steps=2,
    batch_size=4,
    evaluated=4,
    misalign_steps=2,
    other_betas=[0.1],
    other_learning_rates=[2e-4],
    beta_steps=2,
    hh_pairs=4,
    hh_batch_size=4,
    hh_steps=2,
    hh_learning_rate=5e-4,
)
EXPERIMENTS = (
    ex.embeddings,
    ex.statement_maps,
    ex.unembedding,
    ex.boundary,
    ex.priority_gaps,
    ex.pairs,
    ex.fine_tuning,
    ex.joint_training,
    ex.before_and_after,
    ex.misalignment,
    ex.text,
    ex.beta,
)
Measure = Callable[[Callable[..., object]], dict[str, pd.DataFrame]]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Bench("smoke", "sample", seed=3, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def measure(bench: Bench) -> Measure:
    """Tables of an experiment by name."""

    @functools.cache
    def run(experiment: Callable[..., object]) -> dict[str, pd.DataFrame]:
        found = experiment(bench, DESIGN)
        return {experiment.__name__: found} if isinstance(found, pd.DataFrame) else found  # type: ignore[return-value]

    return run


# Who takes part -----------------------------------------------------------------------------------


def test_spread_takes_the_nearest_to_evenly_spaced_values() -> None:
    deltas = {"a": 0.0, "b": 1.9, "c": 2.2, "d": 3.1, "e": 4.0}
    assert spread(deltas, 3) == ["a", "b", "e"]
    assert spread(deltas, 9) == ["a", "b", "c", "d", "e"]


@given(
    st.lists(st.floats(0.1, 9), min_size=2, max_size=12, unique=True),
    st.integers(2, 15),
)
def test_spread_holds_both_ends_in_order_and_nobody_twice(values: list[float], count: int) -> None:
    deltas = {f"p{i}": value for i, value in enumerate(values)}
    picked = spread(deltas, count)
    assert len(picked) == len(set(picked)) == min(count, len(values))
    assert [deltas[name] for name in picked] == sorted(deltas[name] for name in picked)
    assert deltas[picked[0]] == min(values)
    assert count > len(values) or deltas[picked[-1]] == max(values)


def everybody(names: list[str]) -> Cast:
    moments = {
        name: Moments(np.array([float(place)]), np.zeros(1), 2, 2, 1, 1, 1, 1)
        for place, name in enumerate(names)
    }
    return Cast(dict.fromkeys(names), moments)  # type: ignore[arg-type]


def test_papers_behaviours_come_in_the_order_of_this_model() -> None:
    names = [*reversed(ex.PAPER_BEHAVIOURS), "another"]
    assert ex.chosen(everybody(names), replace(DESIGN, behaviours="paper")) == names[:-1]


def test_papers_behaviours_that_the_data_lacks_are_named() -> None:
    with pytest.raises(PrefdynError, match=r"optionality-increasing.*--data hub"):
        ex.chosen(everybody(["another"]), replace(DESIGN, behaviours="paper"))


# What every table has -----------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.__name__)
def test_columns_are_documented_and_full(measure: Measure, experiment: Callable[..., object]) -> None:
    words = str(experiment.__doc__)
    said = words + (str(ex.embeddings.__doc__) + str(ex.statement_maps.__doc__) if "as in" in words else "")
    for name, table in measure(experiment).items():
        assert len(table)
        undocumented = [
            column for column in table if not re.search(rf"(^|[\s:,]){re.escape(column)}(?!\w)", said)
        ]
        assert set(undocumented) <= {
            f"{q} {w}" for q in ("δ", "Tr Σ", "Tr Σ / δ²") for w in ("before", "after")
        }
        assert "seed" not in table
        if name not in ("boundary_curves",):  # where Theorem 4.2 says nothing there is no bound
            assert not table.isna().any().any(), name


def test_rows_follow_distinguishability(measure: Measure) -> None:
    everyone = measure(ex.embeddings)["embeddings"]
    assert everyone["δ"].is_monotonic_increasing
    assert list(measure(ex.unembedding)["theorem_4_1"]["behaviour"]) == list(everyone["behaviour"])
    trained = measure(ex.fine_tuning)["fine_tuning"]
    assert list(trained["behaviour"]) == spread(dict(everyone[["behaviour", "δ"]].to_numpy()), 3)


def test_maps_hold_every_statement_with_its_label(measure: Measure, bench: Bench) -> None:
    texts = {p.name: dict(zip(p.statements, p.labels, strict=True)) for p in bench.personas(5, 10)}
    for table in (measure(ex.statement_maps)["statement_maps"], measure(ex.before_and_after)["maps_after"]):
        for (name, *_), part in table.groupby(["behaviour", *({"map", "when"} & set(table))]):
            assert dict(part[["statement", "label"]].to_numpy()) == texts[name]


# The last layer -----------------------------------------------------------------------------------


def test_first_step_repeated_is_short_training(measure: Measure, bench: Bench) -> None:
    table = measure(ex.unembedding)["unembedding"].set_index("behaviour")
    for persona in bench.personas(5, 10):
        index, _ = data.split_indices(persona, bench.seed)
        delta = moments(bench.features(persona)[index], persona.labels[index]).distinguishability
        row = table.loc[persona.name]
        # The margins, beta times a logit, stay below a thousandth.
        assert row["rate"] == pytest.approx(np.sqrt(2) / 4 * 0.1 * 0.01 * delta, rel=1e-3)
        assert row["fall of the loss"] == pytest.approx(0.1 * 0.01**2 / 8 * 20 * delta**2, rel=1e-3)


def test_curves_end_where_the_tables_say(measure: Measure) -> None:
    tables = measure(ex.unembedding)
    ends = tables["last_layer_curves"].query("step == 20").set_index("behaviour")
    whole = tables["unembedding"].set_index("behaviour").loc[ends.index]
    slack = tables["theorem_4_1"].set_index("behaviour").loc[ends.index, "slack"]
    np.testing.assert_allclose(ends["fall"], whole["fall of the loss"])
    np.testing.assert_allclose(ends["distance"], 20 * whole["rate"])
    np.testing.assert_allclose(ends["bound"] / ends["distance"], slack)


def test_no_theorem_is_violated(measure: Measure) -> None:
    assert measure(ex.unembedding)["theorem_4_1"]["steps above"].sum() == 0
    turns = measure(ex.boundary)["boundary"]
    assert turns[["steps below bound", "steps above actual"]].to_numpy().sum() == 0
    assert (turns["steps"] == 60).all()


def test_boundary_turns_to_the_difference_of_the_means(measure: Measure) -> None:
    for _, part in measure(ex.boundary)["boundary_curves"].groupby("behaviour"):
        assert part["step"].iloc[[0, -1]].tolist() == [0, 60]
        assert part["cosine"].iloc[-1] > part["cosine"].iloc[0]


def test_priority_gap_has_the_sign_of_the_difference_in_delta(measure: Measure) -> None:
    gaps = measure(ex.priority_gaps)["priority_gaps"]
    assert (gaps["i"] > gaps["j"]).all()
    assert (gaps["priority gap"] > 0).all()
    assert len(gaps) == 10


def test_first_joint_step_gains_what_the_formula_says(measure: Measure) -> None:
    table = measure(ex.pairs)["pairs"]
    # float64 sums over 36 statements and 64 dimensions: a relative error of some thousand roundings.
    assert table["error"].max() < 1e4 * np.finfo(np.float64).eps
    deltas = measure(ex.embeddings)["embeddings"].set_index("behaviour")["δ"]
    assert (deltas[table["first"]].to_numpy() > deltas[table["second"]].to_numpy()).all()


# All weights --------------------------------------------------------------------------------------


def test_falls_are_those_of_the_curves(measure: Measure) -> None:
    tables = measure(ex.fine_tuning)
    ends = tables["fine_tuning_curves"].query("split == 'training' and step == 2").set_index("behaviour")
    fell = tables["fine_tuning"].set_index("behaviour")["fall of the loss"]
    np.testing.assert_allclose(np.log(2) - ends["loss"], fell[ends.index])
    batches = tables["fine_tuning_curves"].query("split == 'batch'")
    assert batches.groupby("behaviour")["step"].apply(list).tolist() == [[0, 1]] * 3


def test_every_run_begins_at_log_two(measure: Measure) -> None:
    tables = [
        measure(ex.fine_tuning)["fine_tuning_curves"],
        measure(ex.joint_training)["joint_training"],
        measure(ex.misalignment)["misalignment_curves"],
    ]
    for table in tables:
        allowed = rounding.of_margins(loading.load("smoke", device="cpu").model, DESIGN.beta)
        np.testing.assert_allclose(table.query("step == 0")["loss"], np.log(2), rtol=0, atol=allowed)


def test_pairs_together_have_one_of_priority_each(measure: Measure) -> None:
    table = measure(ex.joint_training)["joint_training"]
    deltas = measure(ex.embeddings)["embeddings"].set_index("behaviour")["δ"]
    for _, part in table.groupby("pair"):
        first, second = (part[part["has priority"] == has]["behaviour"].unique() for has in (True, False))
        assert len(first) == len(second) == 1
        assert deltas[first[0]] > deltas[second[0]]


def test_states_before_are_those_of_the_embeddings(measure: Measure) -> None:
    change = measure(ex.before_and_after)["before_and_after"].set_index("behaviour")
    before = measure(ex.embeddings)["embeddings"].set_index("behaviour").loc[change.index]
    for quantity in ("δ", "Tr Σ", "Tr Σ / δ²"):
        np.testing.assert_allclose(change[f"{quantity} before"], before[quantity])


def test_difference_is_that_of_both_losses(measure: Measure) -> None:
    table = measure(ex.misalignment)["misalignment"]
    difference = table["loss from the aligned model"] - table["loss from the base model"]
    np.testing.assert_allclose(table["aligned minus base"], difference)


def test_texts_undone_begin_where_their_alignment_ends(measure: Measure) -> None:
    table = measure(ex.text)["text"].set_index(["run", "step"])[["logp_chosen", "logp_rejected"]]
    # The same model measured in two batches of float32.
    same = {"rtol": 1e-4}
    aligned, base = table.loc[("aligning", 2)], table.loc[("aligning", 0)]
    np.testing.assert_allclose(aligned, table.loc[("misaligning the aligned model", 0)], **same)
    np.testing.assert_allclose(base, table.loc[("misaligning the base model", 0)], **same)


def test_main_beta_is_the_fine_tuning(measure: Measure) -> None:
    tables = measure(ex.beta)
    falls = tables["beta_falls"]
    main = falls[falls["β"] == 0.01]["fall of the loss"]
    np.testing.assert_allclose(main, measure(ex.fine_tuning)["fine_tuning"]["fall of the loss"])
    for row in tables["beta"].to_dict("records"):
        part = falls[falls["β"] == row["β"]]
        rho = estimates.spearman(part["δ"], part["fall of the loss"], seed=3)
        assert (row["rank correlation"], row["low"], row["high"]) == (rho.value, rho.low, rho.high)


# Kept ---------------------------------------------------------------------------------------------


def test_second_time_no_model_is_loaded(
    measure: Measure, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {name: table for experiment in EXPERIMENTS for name, table in measure(experiment).items()}
    fresh = Bench("smoke", "sample", seed=3, device="cpu", precision="float32")
    monkeypatch.setattr("prefdyn.models.loading.load", None)
    for experiment in EXPERIMENTS:
        found = experiment(fresh, DESIGN)
        again = {experiment.__name__: found} if isinstance(found, pd.DataFrame) else found
        for name, table in again.items():
            pd.testing.assert_frame_equal(table, first[name])
