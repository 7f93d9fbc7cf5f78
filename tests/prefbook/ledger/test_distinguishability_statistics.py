"""Chapter 1's statistics on tables made by hand, where the answer is known, and on its reference edition."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from written import write_table

from prefbook.ledger.claims import load_claims
from prefbook.ledger.derived import distinguishability as derived
from prefbook.ledger.judging import measure
from prefbook.ledger.quoted import distinguishability as quoted
from prefbook.ledger.statistics import distinguishability as statistics
from prefbook.ledger.tables import NotMeasured, Tables
from prefdyn import data
from prefdyn.measures import estimates

ROOT = Path(__file__).parents[3]
REFERENCE = Tables(ROOT / "results" / "reference" / "distinguishability")
NAMES = [f"b{i}" for i in range(10)]
FAMILIES = ["one"] * 5 + ["two"] * 5
DELTAS = np.arange(1.0, 11)


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    made = {
        "embeddings": {
            "behaviour": NAMES,
            "family": FAMILIES,
            "δ": DELTAS,
            "δ of chance": 2.5,
            "Yes or No": [0.001, *[0.02] * 9],
        },
        "unembedding": {
            "behaviour": NAMES,
            "family": FAMILIES,
            "δ": DELTAS,
            "δ of training": DELTAS,
            "δ / √Tr Σ": -DELTAS,
            "fall of the loss": DELTAS**2,
            "fall foretold": DELTAS**2 / np.linspace(0.9, 0.99, 10),
            "accuracy before": 0.5,
            "accuracy after": DELTAS / 10,
            "error of the first step": [1e-3, -1e-3, *[1e-12] * 8],
        },
        "theorem_4_1": {
            "behaviour": NAMES,
            "R²": [0.9, *[0.99] * 9],
            "holds": [True] * 9 + [False],
            "steps above": [2, 1, *[0] * 8],
            "steps above ours": [*[0] * 9, 7],
            "steps": 100,
            "slack": np.linspace(10, 20, 10),
        },
        "boundary": {
            "begins below 0": [True, False],
            "steps below bound": [1, 0],
            "steps above actual": [0, 3],
            "steps": 300,
            "guaranteed": [0.1, 0.25],
            "share of Yes": [0.5, 0.6],
        },
        "pairs": {"error": [2e-15, 1e-3]},
        "joint_training": {
            "first": NAMES[1:],
            "second": NAMES[:-1],
            "priority gap": np.linspace(0.9, 0.1, 9),
            "loss gap": np.append(-1, np.linspace(0.2, 0.9, 8)),
        },
        "fine_tuning": {
            "behaviour": NAMES,
            "family": FAMILIES,
            "δ": DELTAS,
            "δ of training": DELTAS,
            "fall of the loss": [*DELTAS[4::-1], *DELTAS[:4:-1]],  # rises between families, falls in each
            "accuracy before": 0.5,
            "accuracy after": 0.75,
        },
        "fine_tuning_curves": {  # falls in the order of δ at first, and as above at last
            "behaviour": np.tile(NAMES, 3),
            "step": np.repeat([0, 2, 8], 10),
            "loss": 20 - np.concatenate([np.zeros(10), DELTAS, DELTAS[4::-1], DELTAS[:4:-1]]),
        },
        "clouds": {
            "behaviour": [*NAMES[:3], *NAMES[:3], *NAMES[:3]],
            "trained on": np.repeat([derived.OWN, derived.SHUFFLED, derived.OTHER], 3),
            "δ before": [1.0, 2.0, 4.0, 1.0, 2.0, 4.0, 1.0, 2.0, 4.0],
            "δ after": [2.0, 4.0, 8.0, 1.0, 2.0, 4.0, 0.5, 1.0, 2.0],
            "Tr Σ before": 1.0,
            "Tr Σ after": [4.0, 4.0, 4.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0],
        },
        "misalignment": {
            "behaviour": np.tile(NAMES[:5], 3),
            "accuracy": np.tile([0.9, 0.8, 0.75, 0.9, 0.6], 3),
            "start": np.repeat(["base", "aligned", "aligned on another behaviour"], 5),
            "fall": [0, 0, 0, 0, 9, 0.1, 0.2, 0.3, -0.1, 0, 0.2, 0.2, 0.2, 0.2, 5],
        },
        "last_layer_undone": {
            "behaviour": NAMES,
            "δ² ratio": DELTAS,
            "fall from base": 0.1,
            "fall from aligned": 0.4,
            "fall of all weights": DELTAS,
        },
        "beta_falls": {
            "β": np.repeat([1.0, 0.1], 10),
            "family": np.tile(NAMES, 2),
            "δ": np.tile(DELTAS, 2),
            "fall of the loss": [*DELTAS, *np.roll(DELTAS, 3)],
        },
        "gradients": {"behaviour": NAMES, "absolute": [*DELTAS[4::-1], *DELTAS[:4:-1]]},
        "gradients_by_layer": {
            "part": np.repeat(["embed", "layer 0", "layer 1"], 10),
            "behaviour": np.tile(NAMES, 3),
            "absolute": np.tile(DELTAS, 3),
        },
        "intervention": {
            "behaviour": np.repeat(NAMES[:3], 6),
            "arm": np.tile(["large projections", "small projections", "shuffled labels"], 6),
            "fall": [3, 1, 9, 5, 1, 9, 3, 2, 9, 3, 2, 9, 4, 4, 9, 4, 4, 9],
            "δ": [4, 2, 1] * 6,
        },
        "equalised": {
            "draw": np.repeat([0, 1, 2], 4),
            "arm": np.tile(np.repeat(["equal weights", "weights that undo the priority"], 2), 3),
            "fall": [0, 2, 1, 1, 0, 4, 0, 2, 1, 1, 1, 1],
        },
        "equalised_last_layer": {
            "arm": np.repeat(["equal weights", "weights that undo the priority"], 2),
            "fall": [1.0, 3.0, 2.0, 2.0],
        },
        "text": {
            "run": ["aligning"] * 2
            + ["misaligning the aligned model"] * 2
            + ["misaligning the base model"] * 2,
            "pairs": 6,
            "step": [0, 3] * 3,
            "logp_chosen": [-100, -98, -98, -101, -100, -101],
            "logp_rejected": [-120, -125, -125, -121, -120, -119.5],
        },
        "text_by_pair": {
            "CHES": DELTAS,
            "chosen": [1, *-DELTAS[1:]],
            "chosen tokens": 2,
            "rejected": -3.0,
            "rejected tokens": 5,
            "lead by aligning": 7.0,
            "lead by undoing": -2.0,
            "lead by misaligning": [-1.0, -1.5] * 5,
        },
    }
    for name, columns in made.items():
        write_table(pd.DataFrame(columns).assign(seed=4), tmp_path / f"{name}.csv")
    return Tables(tmp_path)


def test_identities_count_what_departs_from_them(tables: Tables) -> None:
    assert statistics.departures_from_the_first_step(tables) == estimates.Estimate(2, 2, 2, 10)
    assert statistics.departures_from_the_joint_step(tables) == estimates.Estimate(1, 1, 1, 2)
    assert statistics.fall_over_the_one_foretold(tables).value == pytest.approx(0.945)


def test_theorem_counts_steps_of_all_behaviours(tables: Tables) -> None:
    assert statistics.steps_above_the_bound(tables) == estimates.Estimate(3, 3, 3, 1000)
    assert statistics.steps_above_our_bound(tables) == estimates.Estimate(7, 7, 7, 1000)
    assert statistics.straightness(tables).value == 0.99


def test_pairs_are_resampled_by_behaviour(tables: Tables) -> None:
    found, pairs = statistics.priority_and_loss_gap(tables), tables["joint_training"]
    ends = pairs[["first", "second"]]
    assert found == estimates.spearman_over_pairs(pairs["priority gap"], pairs["loss gap"], ends, seed=4)
    assert found.n == 10


def test_bootstraps_are_drawn_by_the_tables_seed_and_by_family(tables: Tables) -> None:
    table, families = tables["fine_tuning"], ["one"] * 3 + NAMES[3:]
    write_table(table.assign(family=families), tables.folder / "fine_tuning.csv")
    found = statistics.fall_of_all_weights(tables)
    assert found == estimates.spearman(table["δ"], table["fall of the loss"], 4, families)
    assert found.low < found.high
    assert statistics.accuracy_of_last_layer(tables).value == pytest.approx(1)
    assert derived.accuracy_by_size(tables).value == pytest.approx(-1)


def test_what_holds_between_families_need_not_hold_within(tables: Tables) -> None:
    assert statistics.fall_of_all_weights(tables).value > 0
    assert statistics.fall_within_families(tables).value == pytest.approx(-1)


def test_falls_by_the_first_quarter_are_held_against_those_by_the_end(tables: Tables) -> None:
    table, curves = tables["fine_tuning"], tables["fine_tuning_curves"]
    first, last = (20 - curves[curves["step"] == step]["loss"].to_numpy() for step in (2, 8))
    assert (
        statistics.fall_at_first(tables).value == pytest.approx(1)
        and statistics.fall_at_first(tables).n == 10
    )
    assert derived.with_falls_by_step(tables)[8].value == statistics.fall_of_all_weights(tables).value
    more = statistics.more_at_first(tables)
    expected = 1 - spearmanr(table["δ of training"], last).statistic
    assert more.value == pytest.approx(expected) and np.isnan(more.low)  # of two families
    assert list(derived.falls_by_step(tables)[2]) == first.tolist()


def test_middle_leaves_out_both_tenths(tables: Tables) -> None:
    assert statistics.fall_in_the_middle(tables).n == 8


def test_clouds_change_on_a_logarithmic_scale_and_against_controls(tables: Tables) -> None:
    two = np.log(2)
    values = {
        statistics.clouds_part: two,
        statistics.clouds_part_by_labels: two,
        statistics.clouds_part_by_the_behaviour: 2 * two,
        statistics.clouds_shrink: 2 * two,
        statistics.clouds_small_for_their_distance: 0,
        statistics.clouds_small_by_labels: -two,
    }
    for statistic, value in values.items():
        found = statistic(tables)
        assert (found.value, found.low, found.high, found.n) == pytest.approx((value, value, value, 3))


def test_only_what_was_learned_counts_as_undone(tables: Tables) -> None:
    assert statistics.misaligned_faster(tables) == estimates.mean([0.1, 0.2, 0.3, -0.1])
    found = statistics.misaligned_faster_than_elsewhere(tables)
    assert (found.value, found.n) == pytest.approx((-0.075, 4))
    assert statistics.distance_and_undoing(tables).value == pytest.approx(1)


def test_gaps_of_the_papers_pairs_are_found_by_their_names(tables: Tables) -> None:
    with pytest.raises(NotMeasured, match="was not trained"):
        quoted.QUOTED["large gap"](tables)
    (one, other), (third, fourth) = data.PAPER_PAIRS
    pairs = {"first": ["b", other, third], "second": ["a", one, fourth], "loss gap": [9, 0.25, -0.5]}
    write_table(pd.DataFrame(pairs).assign(seed=4), tables.folder / "joint_training.csv")
    assert quoted.QUOTED["large gap"](tables) == "+0.250"
    assert quoted.QUOTED["small gap"](tables) == "−0.500"


def test_means_over_behaviours_resample_families(tables: Tables) -> None:
    changes, names = np.linspace(-1, 2, 10), ["desire-for-sleep", "desire-for-tea", *NAMES[2:]]
    clouds = {"behaviour": names, "trained on": derived.OWN, "δ before": 1.0, "δ after": np.exp(changes)}
    write_table(pd.DataFrame(clouds).assign(seed=4), tables.folder / "clouds.csv")
    found = statistics.clouds_part(Tables(tables.folder))
    expected = estimates.mean(changes, ["desire"] * 2 + NAMES[2:], seed=4)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.low != pytest.approx(estimates.mean(changes).low)


def test_fewer_than_three_learned_leave_the_claim_open(tables: Tables) -> None:
    table = tables["misalignment"].assign(accuracy=0.7)
    write_table(table, tables.folder / "misalignment.csv")
    found = statistics.misaligned_faster(Tables(tables.folder))
    assert np.isnan(found.value) and found.n == 0


def test_every_beta_is_judged_by_the_lowest(tables: Tables) -> None:
    by_beta = derived.falls_by_beta(tables)
    assert list(by_beta) == [0.1, 1.0]
    assert statistics.fall_at_every_beta(tables) == by_beta[0.1]
    assert by_beta[0.1].low < by_beta[1.0].low


def test_text_is_compared_pair_by_pair(tables: Tables) -> None:
    assert statistics.text_misaligned_faster(tables) == estimates.mean([-1.0, -0.5] * 5)
    assert statistics.similarity_and_displacement(tables).value == pytest.approx(-1)


def test_gradient_is_compared_with_distinguishability(tables: Tables) -> None:
    plain = statistics.fall_of_all_weights(tables).value
    assert derived.fall_by_gradient(tables).value == pytest.approx(1)
    assert statistics.gain_of_the_gradient(tables).value == pytest.approx(1 - plain)
    by_layer = derived.falls_by_layer(tables)
    assert list(by_layer) == ["layer 0", "layer 1"] and by_layer["layer 0"].value == pytest.approx(plain)


def test_draws_of_a_behaviour_are_one_unit(tables: Tables) -> None:
    assert statistics.larger_distance_learned_faster(tables) == estimates.mean([3, 1, 0])


def test_spread_is_compared_draw_by_draw(tables: Tables) -> None:
    found = statistics.evened_out(tables)
    half = np.sqrt(2)
    assert found == estimates.mean([0 - half, half - 2 * half, 0])


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("behaviours", "10"),
        ("trained", "10"),
        ("range of δ", "1 to 10"),
        ("below chance", "2 of 10"),
        ("Yes or No", "2%"),
        ("condition holds", "9 of 10"),
        ("least R²", "0.9000"),
        ("slack", "15.0 (10.0 to 20.0)"),
        ("accuracy before", "0.50"),
        ("accuracy after", "0.55"),
        ("crossings", "4 of 900"),
        ("bounded", "1 of 2"),
        ("guaranteed", "25.0%"),
        ("always Yes", "60%"),
        ("pairs", "2"),
        ("pairs trained", "9"),
        ("first-step error", "1e−03"),
        ("right way", "8 of 9"),
        ("mean accuracy", "0.75"),
        ("mean accuracy before", "0.50"),
        ("δ factor", "2.00 [2.00, 2.00]"),
        ("δ factor, shuffled", "1.00 [1.00, 1.00]"),
        ("δ factor, another", "0.50 [0.50, 0.50]"),
        ("trace factor", "4.00 [4.00, 4.00]"),
        ("ratio factor", "1.00 [1.00, 1.00]"),
        ("distances of halves", "4.0 and 2.0"),
        ("falls of halves", "3.667 and 2.333"),
        ("learned", "4 of 5"),
        ("faster from elsewhere", "0.2 [0.2, 0.2]"),
        ("boundaries followed", "2"),
        ("last layer undone", "4.0"),
        ("spread, equal", "0.71"),
        ("spread, weighted", "0.00"),
        ("times less", "1"),
        ("mean fall, equal", "1.333"),
        ("mean fall, weighted", "1.000"),
        ("chosen", "−10.6 [−15.5, −5.7]"),
        ("rejected", "−15.0 [−15.0, −15.0]"),
        ("displaced", "90% [60%, 98%]"),
        ("text aligning", "+7.0 [+7.0, +7.0]"),
        ("text undoing", "−2.0 [−2.0, −2.0]"),
        ("text from base", "−1.2 [−1.4, −1.1]"),
        ("text pairs", "10"),
        ("text spread", "0.26"),  # of −1 and −0.5, five times each: ¼ √(10/9)
        ("text pairs needed", "2"),  # (2.8 · 0.2635 / 0.5)² = 2.18
    ],
)
def test_quoted_numbers(tables: Tables, key: str, told: str) -> None:
    assert quoted.QUOTED[key](tables) == told


# The reference edition ----------------------------------------------------------------------------


def test_every_function_serves_a_claim() -> None:
    claims = [claim for claim in load_claims().values() if claim.chapter == "distinguishability"]
    assert {part.function for claim in claims for part in claim.statistics} == set(statistics.STATISTICS)


def test_reference_edition_gives_every_number() -> None:
    for seed in REFERENCE.seeds:
        tables = REFERENCE.of(seed)
        for claim in load_claims().values():
            if claim.chapter == "distinguishability":
                for part in claim.statistics:
                    with contextlib.suppress(NotMeasured):
                        found = measure(claim, part, tables)
                        assert found.low <= found.value <= found.high
        for tell in quoted.QUOTED.values():
            with contextlib.suppress(NotMeasured):
                assert tell(tables)


def test_judging_imports_no_torch() -> None:
    code = "import sys, prefbook.ledger.quoted, prefbook.ledger.statistics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
