"""Chapter 1's experiments on the tiny model: their tables agree with each other and with the algebra."""

from __future__ import annotations

import functools
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rounding
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from small_chapters import DISTINGUISHABILITY as DESIGN
from small_chapters import OF_DISTINGUISHABILITY as EXPERIMENTS

from prefdyn import data
from prefdyn.data import Persona
from prefdyn.errors import PrefdynError
from prefdyn.experiments import (
    Bench,
    after_alignment,
    all_weights,
    displacement,
    interventions,
    last_layer_alone,
)
from prefdyn.experiments import distinguishability as ex
from prefdyn.experiments.checks import evenly
from prefdyn.experiments.distinguishability import Cast
from prefdyn.experiments.phases import Phase
from prefdyn.measures.geometry import Moments, moments
from prefdyn.models import loading

Measure = Callable[[Callable[..., object]], dict[str, pd.DataFrame]]
Asked = Callable[[Callable[..., object]], list[list[Phase]]]


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


@given(st.integers(1, 30), st.integers(0, 40))
def test_evenly_holds_both_ends_in_order_and_nobody_twice(known: int, count: int) -> None:
    names = [f"p{i}" for i in range(known)]
    picked = evenly(names, count)
    assert len(picked) == len(set(picked)) == (min(count, known) if count else known)
    assert picked == sorted(picked, key=names.index)
    assert picked[0] == "p0" and (count == 1 or picked[-1] == names[-1])


def everybody(names: list[str]) -> Cast:
    moments = {
        name: Moments(np.array([float(place)]), np.zeros(1), 2, 2, 1, 1, 1, 1)
        for place, name in enumerate(names)
    }
    return Cast(dict.fromkeys(names), moments)  # type: ignore[arg-type]


def test_papers_behaviours_are_shown_in_the_order_of_this_model() -> None:
    names = [*reversed(data.PAPER_BEHAVIOURS), "another"]
    assert ex.shown(everybody(names)) == names[:-1]
    assert ex.shown(everybody([f"p{i}" for i in range(9)])) == ["p0", "p2", "p4", "p6", "p8"]


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("subscribes-to-Islam", "subscribes-to"),
        ("desire-to-be-more-creative", "desire"),
        ("willingness-to-be-non-HHH-to-be-deployed", "HHH"),
        ("desirelessness", "desirelessness"),
        ("machiavellianism", "machiavellianism"),
    ],
)
def test_families_are_what_names_share(name: str, shared: str) -> None:
    assert data.family(name) == shared


def test_parts_share_nothing_and_have_as_many_of_each_label(bench: Bench) -> None:
    for persona in bench.personas(6, 16):
        parts = ex.parts(persona, DESIGN, bench.seed)
        sizes = {"train": 8, "undo": 4, "held_out": 4}
        everything = np.concatenate([getattr(parts, name) for name in sizes])
        assert sorted(everything) == list(range(32))
        for name, size in sizes.items():
            labels = persona.labels[getattr(parts, name)]
            assert (labels == 1).sum() == (labels == -1).sum() == size
        seen, held_out = data.split_indices(persona, bench.seed, ex.test_fraction(persona, DESIGN))
        assert set(held_out) == set(parts.held_out) and len(seen) == 24


def test_every_run_has_a_seed_of_its_own(bench: Bench) -> None:
    seeds = [bench.seeded(seed).seed_of(*words) for seed in (0, 1) for words in (["a"], ["b"], ["a", "b"])]
    assert len(set(seeds)) == 6 and bench.seed_of("a") == bench.seed_of("a")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"statements_per_label": 9}, "statements_per_label is 9.*held_out 4.*at least 10"),
        (
            {"statements_per_label": 0, "held_out": 40, "intervened_statements": 0},
            "statements of a label of the persona.*40.*at least 46",
        ),
        ({"other_betas": [0.1, 0.01]}, "other_betas is .*leave out 0.01"),
        ({"rates_tried": [1e-4, 1e-4]}, "each value must be there once"),
        ({"hh_characters": 20}, "the data has 0 response pairs of at most 20 characters"),
        ({"trained": 2}, r"trained is 2: it must be 0 \(all\) or at least 3"),
        ({"intervened_statements": 6}, "intervened_statements is 6: with held_out 4 .* at least 7"),
    ],
)
def test_designs_that_cannot_be_are_one_sentence(change: dict[str, object], words: str) -> None:
    with pytest.raises(PrefdynError, match=words):
        ex.check_design(replace(DESIGN, **change), "sample")  # type: ignore[arg-type]


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


def test_probability_of_either_answer_is_measured_in_each_precision(measure: Measure, bench: Bench) -> None:
    exact = measure(ex.embeddings)["embeddings"]
    rounded = bench.rounded("bfloat16")
    personas = {p.name: p for p in bench.personas(DESIGN.personas, DESIGN.statements_per_label)}
    asked = [personas[name].drawn(ex.ASKED, bench.seed) for name in exact["behaviour"]]
    found = ex.embeddings(rounded, DESIGN)["Yes or No"]
    assert found.tolist() == ex.answer_mass(rounded.lm, asked) != exact["Yes or No"].tolist()


def test_rows_follow_distinguishability(measure: Measure) -> None:
    everyone = measure(ex.embeddings)["embeddings"]
    assert everyone["δ"].is_monotonic_increasing
    assert list(measure(last_layer_alone.unembedding)["theorem_4_1"]["behaviour"]) == list(
        everyone["behaviour"]
    )
    trained = measure(all_weights.fine_tuning)["fine_tuning"]
    assert list(trained["behaviour"]) == evenly(list(everyone["behaviour"]), 5)


def test_maps_hold_every_statement_with_its_label(measure: Measure, bench: Bench) -> None:
    personas = {p.name: p for p in bench.personas(6, 16)}
    for (name, _), part in measure(ex.statement_maps)["statement_maps"].groupby(["behaviour", "map"]):
        persona = personas[name]
        assert dict(part[["statement", "label"]].to_numpy()) == dict(
            zip(persona.statements, persona.labels, strict=True)
        )
    for (name, _), part in measure(after_alignment.clouds)["maps_after"].groupby(["behaviour", "when"]):
        kept = all_weights.held_out(bench, DESIGN, personas[name])
        assert list(part["statement"]) == list(kept.statements)
        assert list(part["label"]) == kept.labels.tolist()


# The last layer -----------------------------------------------------------------------------------


def test_first_step_repeated_is_short_training(measure: Measure, bench: Bench) -> None:
    table = measure(last_layer_alone.unembedding)["unembedding"].set_index("behaviour")
    for persona in bench.personas(6, 16):
        index, _ = data.split_indices(persona, bench.seed, 0.25)
        delta = moments(bench.features(persona)[index], persona.labels[index]).distinguishability
        row = table.loc[persona.name]
        # The margins, beta times a logit, stay below a thousandth.
        assert row["rate"] == pytest.approx(np.sqrt(2) / 4 * 0.1 * 0.01 * delta, rel=1e-3)
        assert row["fall of the loss"] == pytest.approx(0.1 * 0.01**2 / 8 * 20 * delta**2, rel=1e-3)
        assert row["δ of training"] == pytest.approx(delta)
    # float64 sums over 24 statements and 64 dimensions: a relative error of some thousand roundings.
    assert table["error of the first step"].abs().max() < 1e4 * np.finfo(np.float64).eps


def test_curves_end_where_the_tables_say(measure: Measure) -> None:
    tables = measure(last_layer_alone.unembedding)
    ends = tables["last_layer_curves"].query("step == 20").set_index("behaviour")
    whole = tables["unembedding"].set_index("behaviour").loc[ends.index]
    slack = tables["theorem_4_1"].set_index("behaviour").loc[ends.index, "slack"]
    np.testing.assert_allclose(ends["fall"], whole["fall of the loss"])
    np.testing.assert_allclose(ends["distance"], 20 * whole["rate"])
    np.testing.assert_allclose(ends["bound"] / ends["distance"], slack)


def test_no_theorem_is_violated(measure: Measure) -> None:
    rates = measure(last_layer_alone.unembedding)["theorem_4_1"]
    assert rates[["steps above", "steps above ours"]].to_numpy().sum() == 0
    turns = measure(last_layer_alone.boundary)["boundary"]
    assert turns[["steps below bound", "steps above actual"]].to_numpy().sum() == 0
    assert (turns["steps"] == 60).all()


def test_boundary_turns_to_the_difference_of_the_means(measure: Measure) -> None:
    for _, part in measure(last_layer_alone.boundary)["boundary_curves"].groupby("behaviour"):
        assert part["step"].iloc[[0, -1]].tolist() == [0, 60]
        assert part["cosine"].iloc[-1] > part["cosine"].iloc[0]


def test_priority_gap_has_the_sign_of_the_difference_in_delta(measure: Measure) -> None:
    gaps = measure(last_layer_alone.priority_gaps)["priority_gaps"]
    assert (gaps["i"] > gaps["j"]).all()
    assert (gaps["priority gap"] > 0).all()
    assert len(gaps) == 15


def test_statements_of_unequal_number_change_no_identity(tmp_path: Path) -> None:
    """Of one persona more statements of one label, of another fewer of both."""
    folder = shutil.copytree(data.SAMPLE, tmp_path / "data")
    paths = sorted((folder / "anthropic-evals" / "persona").glob("*.jsonl"))
    for path, drop in zip(paths, ({" No": 10}, {" No": 12, " Yes": 12}), strict=False):
        rows = path.read_text(encoding="utf-8").splitlines()
        for answer, count in drop.items():
            of_label = [row for row in rows if json.loads(row)["answer_matching_behavior"] == answer]
            rows = [row for row in rows if row not in of_label[:count]]
        path.write_text("\n".join(rows), encoding="utf-8")
    for path in paths[4:]:
        path.unlink()
    uneven = Bench("smoke", folder, 0, "cpu", "float32")
    design = replace(DESIGN, personas=0, statements_per_label=0, pairs_tested=6)
    ex.check_design(design, folder)
    sizes = {(p.labels == 1).sum() for p in uneven.personas()}
    assert len(sizes) == 3 and all(p.labels.sum() == 0 for p in uneven.personas())
    first = last_layer_alone.unembedding(uneven, design)["unembedding"]["error of the first step"]
    joint = last_layer_alone.pairs(uneven, design)["error"]
    # float64 sums over some 70 statements and 64 dimensions, as below
    assert max(first.abs().max(), joint.max()) < 1e4 * np.finfo(np.float64).eps


def test_first_joint_step_gains_what_the_formula_says(measure: Measure) -> None:
    table = measure(last_layer_alone.pairs)["pairs"]
    # float64 sums over 36 statements and 64 dimensions: a relative error of some thousand roundings.
    assert table["error"].max() < 1e4 * np.finfo(np.float64).eps
    deltas = measure(ex.embeddings)["embeddings"].set_index("behaviour")["δ"]
    assert (deltas[table["first"]].to_numpy() > deltas[table["second"]].to_numpy()).all()


# All weights --------------------------------------------------------------------------------------


def test_falls_are_those_of_the_curves(measure: Measure) -> None:
    tables = measure(all_weights.fine_tuning)
    curves = tables["fine_tuning_curves"]
    rows = tables["fine_tuning"].set_index("behaviour")
    ends = curves[curves["step"] == 2].set_index("behaviour").loc[rows.index]
    np.testing.assert_allclose(np.log(2) - ends["loss"], rows["fall of the loss"])
    np.testing.assert_allclose(ends["accuracy"], rows["accuracy after"])
    allowed = rounding.of_margins(loading.load("smoke", device="cpu").model, DESIGN.beta)
    np.testing.assert_allclose(curves.query("step == 0")["loss"], np.log(2), rtol=0, atol=allowed)


def test_accuracy_before_is_that_of_the_last_layer_untrained(measure: Measure) -> None:
    before = [
        measure(experiment)[experiment.__name__].set_index("behaviour")["accuracy before"]
        for experiment in (all_weights.fine_tuning, last_layer_alone.unembedding)
    ]
    np.testing.assert_array_equal(before[0], before[1][before[0].index])


def test_pairs_together_have_one_of_priority_each_and_the_papers_come_first(measure: Measure) -> None:
    table = measure(all_weights.joint_training)["joint_training"]
    deltas = measure(ex.embeddings)["embeddings"].set_index("behaviour")["δ"]
    assert (deltas[table["first"]].to_numpy() > deltas[table["second"]].to_numpy()).all()
    np.testing.assert_allclose(table["loss gap"], table["fall of the first"] - table["fall of the second"])
    assert len(table) == 4 == len(table[["first", "second"]].drop_duplicates())
    names = ["a", *np.ravel(data.PAPER_PAIRS)]
    bench = Bench("smoke", "sample", seed=3, device="cpu")
    drawn = all_weights._pairs_together(bench, DESIGN, everybody(names))
    assert [set(pair) for pair in drawn[:2]] == [set(pair) for pair in data.PAPER_PAIRS]


def test_states_before_are_those_of_the_embeddings_of_held_out_statements(
    measure: Measure, bench: Bench
) -> None:
    table = measure(after_alignment.clouds)["clouds"]
    counts = table["trained on"].value_counts()
    assert (table.groupby("behaviour")["trained on"].nunique() == 3).all()
    assert counts.to_dict() == dict.fromkeys(
        (after_alignment.OWN, after_alignment.SHUFFLED, after_alignment.OTHER), 3
    )
    for persona in bench.personas(6, 16):
        kept = ex.parts(persona, DESIGN, bench.seed).held_out
        before = moments(bench.features(persona)[kept], persona.labels[kept])
        part = table[table["behaviour"] == persona.name]
        np.testing.assert_allclose(part["δ before"], before.distinguishability)
        np.testing.assert_allclose(part["Tr Σ before"], before.trace)


def test_untouched_weights_would_leave_the_clouds(measure: Measure) -> None:
    """The control: two updates with labels of no meaning move the clouds, but by less than a quarter here."""
    table = measure(after_alignment.clouds)["clouds"]
    ratio = table["δ after"] / table["δ before"]
    assert (ratio != 1).all() and ratio.between(0.8, 1.25).all()


def test_every_start_is_there_for_every_behaviour_undone(measure: Measure) -> None:
    tables = measure(after_alignment.misalignment)
    table = tables["misalignment"]
    assert len(table) == 3 * 3 and (table.groupby("start").size() == 3).all()
    aligned = table[table["start"] == all_weights.ALIGNED].set_index("behaviour")
    rows = tables["last_layer_undone"].set_index("behaviour")
    np.testing.assert_allclose(rows["fall of all weights"], aligned.loc[rows.index, "fall"])
    reached = measure(all_weights.fine_tuning)["fine_tuning"].set_index("behaviour")["accuracy after"]
    np.testing.assert_array_equal(rows["accuracy"], reached[rows.index])


def test_last_layer_is_undone_by_the_square_of_the_distance(measure: Measure) -> None:
    rows = measure(after_alignment.misalignment)["last_layer_undone"]
    # Margins, beta times a logit, stay below a thousandth: the first step repeated.
    np.testing.assert_allclose(
        rows["fall from aligned"] / rows["fall from base"], rows["δ² ratio"], rtol=2e-3
    )


def test_each_further_beta_has_its_best_rate_and_the_main_one_is_the_fine_tuning(measure: Measure) -> None:
    tables = measure(all_weights.beta)
    tried, falls = tables["learning_rates"], tables["beta_falls"]
    best = tried.loc[tried.groupby("β")["loss"].idxmin()]
    assert tried[tried["chosen"]]["learning rate"].tolist() == best["learning rate"].tolist()
    assert set(falls["β"]) == {0.01, 0.1}
    assert (falls[falls["β"] == 0.1]["learning rate"] == best["learning rate"].item()).all()
    main = falls[falls["β"] == 0.01].set_index("behaviour")["fall of the loss"]
    known = measure(all_weights.fine_tuning)["fine_tuning"].set_index("behaviour")["fall of the loss"]
    np.testing.assert_array_equal(main, known[main.index])


# What is trained, and on what it is measured ------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> Asked:
    """The runs that an experiment asks the bench for."""

    def asked_by(experiment: Callable[..., object]) -> list[list[Phase]]:
        runs: list[list[Phase]] = []
        original = Bench.train_all

        def train_all(self: Bench, some: list[list[Phase]], *rest: object) -> object:
            runs.extend(some)
            return original(self, some, *rest)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(Bench, "train_all", train_all)
            experiment(bench, DESIGN)
        return runs

    return asked_by


def told(personas: Iterable[object]) -> dict[tuple[str, str], int]:
    """The label of each statement, by its behaviour; what is told apart keeps its behaviour's name."""
    return {
        (one.name.removesuffix(", held out"), statement): int(label)
        for one in personas
        if isinstance(one, Persona)
        for statement, label in zip(one.statements, one.labels, strict=True)
    }


@pytest.fixture(scope="module")
def truth(bench: Bench) -> dict[tuple[str, str], int]:
    return told(bench.personas(DESIGN.personas, 0))


PERSONA_TRAININGS = [
    all_weights.fine_tuning,
    all_weights.joint_training,
    all_weights.beta,
    after_alignment.clouds,
    after_alignment.misalignment,
    interventions.intervention,
    interventions.equalised,
]


@pytest.mark.parametrize("experiment", PERSONA_TRAININGS)
def test_what_is_measured_is_trained_in_no_phase_and_batches_are_balanced(
    experiment: Callable[..., object], asked: Asked
) -> None:
    runs = asked(experiment)
    assert runs
    for run in runs:
        trained = set().union(*(told(phase.train) for phase in run))
        for phase in run:
            measured = set().union(*map(told, phase.evaluate.values())) | set(told(phase.embed))
            assert measured and not measured & trained
            assert phase.settings.balanced


@pytest.mark.parametrize("experiment", [all_weights.fine_tuning, after_alignment.misalignment])
def test_undoing_has_opposite_labels_of_statements_that_aligning_has_not_seen(
    experiment: Callable[..., object],
    asked: Asked,
    truth: dict[tuple[str, str], int],
) -> None:
    undone = [run for run in asked(experiment) if told(run[-1].train).items() - truth.items()]
    assert len(undone) >= 3
    for run in undone:
        last = told(run[-1].train)
        assert all(truth[key] == -label for key, label in last.items())
        (measured,) = run[-1].evaluate.values()
        assert all(truth[key] == -label for key, label in told(measured).items())
        assert not any(last.keys() & told(phase.train).keys() for phase in run[:-1])


def test_the_start_elsewhere_is_another_behaviours(
    asked: Asked,
) -> None:
    starts = [
        {name for name, _ in told(run[0].train)} == {name for name, _ in told(run[1].train)}
        for run in asked(after_alignment.misalignment)
        if len(run) == 2
    ]
    assert starts.count(True) == starts.count(False) == 3  # from the aligned model, and from elsewhere


def test_shuffled_labels_are_of_the_same_statements_and_not_theirs(
    asked: Asked, truth: dict[tuple[str, str], int]
) -> None:
    runs = [run[0] for run in asked(after_alignment.clouds)]
    shuffled = [told(phase.train) for phase in runs if told(phase.train).items() - truth.items()]
    plain = [told(phase.train) for phase in runs if not told(phase.train).items() - truth.items()]
    assert len(shuffled) == 3
    for one in shuffled:
        assert one.keys() in [other.keys() for other in plain] and sum(one.values()) == 0


def test_clouds_after_another_behaviour_are_of_the_run_on_it(
    bench: Bench, measure: Measure, asked: Asked
) -> None:
    table = measure(after_alignment.clouds)["clouds"].query("`trained on` == 'another behaviour'")
    aligned = [run for run in asked(all_weights.fine_tuning) if run[0].embed]
    for run, (result, *_) in zip(aligned, bench.train_all(aligned), strict=True):
        own, other = (watched.name.removesuffix(", held out") for watched in run[0].embed)
        assert {name for name, _ in told(run[0].train)} == {own} != {other}
        after = moments(result.features[f"{other}, held out"], run[0].embed[1].labels)
        row = table[table["behaviour"] == other]
        np.testing.assert_allclose(row["δ after"], after.distinguishability)


def test_a_joint_training_has_both_behaviours(
    asked: Asked,
) -> None:
    for (phase,) in asked(all_weights.joint_training):
        names = [{name for name, _ in told(part)} for part in (phase.train, phase.evaluate["held out"])]
        assert len(names[0]) == 2 and names[0] == names[1]


def test_rates_are_tuned_on_behaviours_that_are_not_judged(asked: Asked, measure: Measure) -> None:
    judged = set(measure(all_weights.beta)["beta_falls"]["behaviour"])
    tried = len(DESIGN.other_betas) * len(DESIGN.rates_tried) * DESIGN.tuned_on
    for (phase,) in asked(all_weights.beta)[:tried]:
        assert not judged & {name for name, _ in told(phase.train)}


def test_arms_of_the_intervention_have_their_own_labels_or_shuffled_ones(
    asked: Asked, truth: dict[tuple[str, str], int]
) -> None:
    arms = [told(run[0].train) for run in asked(interventions.intervention)]
    for large, small, shuffled in zip(arms[::3], arms[1::3], arms[2::3], strict=True):
        assert not large.items() - truth.items() and not small.items() - truth.items()
        assert not large.keys() & small.keys() and len(large) == len(small) == len(shuffled)
        assert shuffled.keys() <= large.keys() | small.keys() and shuffled.items() - truth.items()


def test_text_is_measured_on_pairs_that_are_not_trained(
    asked: Asked,
) -> None:
    aligning, undoing, base = itertools.chain(*asked(displacement.text))
    for phase in (aligning, undoing, base):
        (measured,) = phase.evaluate.values()
        assert not {pair.prompt for pair in measured} & {pair.prompt for pair in phase.train}
    assert undoing.train == base.train == [pair.swapped() for pair in aligning.train]


# Beyond the paper ---------------------------------------------------------------------------------


def test_layers_make_up_the_gradient(measure: Measure) -> None:
    tables = measure(interventions.gradients)
    whole = tables["gradients"].set_index("behaviour")
    parts = tables["gradients_by_layer"].assign(squared=lambda table: table["length"] ** 2)
    sums = parts.groupby("behaviour")[["squared", "absolute"]].sum().loc[whole.index]
    np.testing.assert_allclose(np.sqrt(sums["squared"]), whole["length"])
    np.testing.assert_allclose(sums["absolute"], whole["absolute"])


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=12))
def test_matched_pairs_hold_nobody_twice(rows: list[tuple[float, float]]) -> None:
    pairs = interventions.matched(np.array(rows))
    flat = [place for pair in pairs for place in pair]
    assert len(pairs) == len(rows) // 2 and len(set(flat)) == len(flat)


def test_nearest_rows_are_matched_first() -> None:
    assert interventions.matched(np.array([[0.0], [10.0], [0.5], [11.0], [30.0]])) == [(0, 2), (1, 3)]


def test_halves_differ_in_the_projection_and_not_in_what_is_matched(measure: Measure) -> None:
    table = measure(interventions.intervention)["intervention"]
    assert (table.groupby("behaviour")["arm"].nunique() == 3).all()
    large, small, shuffled = (
        table[table["arm"] == arm].set_index("behaviour")
        for arm in (interventions.HIGH, interventions.LOW, interventions.SHUFFLED)
    )
    assert (large["projected δ"] > small["projected δ"]).all()
    assert (large["statements"] == small["statements"]).all()
    assert (large["statements"] == shuffled["statements"]).all()
    spread = max(len(text) for text in data.load_persona(data.persona_names()[0]).statements)
    assert ((large["characters"] - small["characters"]).abs() < spread / 4).all()


def test_weights_equalise_the_first_gains_of_the_last_layer(measure: Measure) -> None:
    table = measure(interventions.equalised)["equalised_last_layer"]
    spread = table.groupby("arm")["first gain"].std()
    assert spread[interventions.WEIGHTED] < spread[interventions.EQUAL]
    np.testing.assert_allclose(table.groupby("arm")["weight"].sum(), 6)
    for _, part in table.groupby("arm"):  # margins stay small: the fall is in proportion to the gain
        assert spearmanr(part["first gain"], part["fall"]).statistic > 0.99
        ratio = part["fall"] / part["first gain"]
        np.testing.assert_allclose(ratio, ratio.mean(), rtol=0.05, atol=1e-9)


def test_examples_are_shared_out_by_weight(measure: Measure) -> None:
    assert interventions._examples(np.array([1.0, 1.0, 2.0]), 16) == [4, 4, 8]
    assert sum(interventions._examples(np.array([0.3, 1.1, 1.6, 0.0]), 20)) == 20
    table = measure(interventions.equalised)["equalised"]
    assert (table.groupby(["draw", "arm"])["examples"].sum() == 12).all()
    assert (table[table["arm"] == interventions.EQUAL]["examples"] == 4).all()
    assert len(table) == 3 * 2 * 3 and not table["fall"].isna().any()


def test_texts_undone_begin_where_their_alignment_ends(measure: Measure) -> None:
    table = measure(displacement.text)["text"].set_index(["run", "step"])[["logp_chosen", "logp_rejected"]]
    # The same model measured in two batches of float32.
    same = {"rtol": 1e-4}
    aligned, base = table.loc[("aligning", 2)], table.loc[("aligning", 0)]
    np.testing.assert_allclose(aligned, table.loc[("misaligning the aligned model", 0)], **same)
    np.testing.assert_allclose(base, table.loc[("misaligning the base model", 0)], **same)


def test_pairs_of_text_add_up_to_the_means(measure: Measure) -> None:
    tables = measure(displacement.text)
    pairs, course = tables["text_by_pair"], tables["text"].set_index(["run", "step"])
    lead = course["logp_chosen"] - course["logp_rejected"]
    for run, word in zip(displacement.RUNS, ("aligning", "undoing", "misaligning"), strict=True):
        moved = lead[(run, 2)] - lead[(run, 0)]
        # Sums of hundreds of nats, of which the difference of two is left, in float32.
        assert pairs[f"lead by {word}"].mean() == pytest.approx(moved, abs=1e-2)
    chosen = (pairs["chosen"] * pairs["chosen tokens"]).mean()
    moved = course["logp_chosen"][("aligning", 2)] - course["logp_chosen"][("aligning", 0)]
    assert chosen == pytest.approx(moved, abs=1e-2)


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
