"""Chapter 1's statistics on tables made by hand, where the answer is known, and on its reference edition."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prefbook.ledger.claims import load_claims
from prefbook.ledger.judging import measure
from prefbook.ledger.statistics import distinguishability as statistics
from prefbook.ledger.statistics.distinguishability import QUOTED, STATISTICS
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates

ROOT = Path(__file__).parents[3]
REFERENCE = Tables(ROOT / "results" / "reference" / "distinguishability")
NAMES = [f"b{i}" for i in range(10)]
DELTAS = np.arange(1.0, 11)


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    made = {
        "embeddings": {"behaviour": NAMES, "δ": DELTAS, "δ of chance": 2.5},
        "unembedding": {
            "behaviour": NAMES,
            "δ": DELTAS,
            "fall of the loss": DELTAS**2,
            "rate": -DELTAS,
            "accuracy after": np.minimum(1, DELTAS / 8),
        },
        "theorem_4_1": {
            "R²": [0.9, *[0.99] * 9],
            "holds": [True] * 9 + [False],
            "steps above": [2, 1, *[0] * 8],
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
        "pairs": {
            "first": NAMES[1:],
            "second": NAMES[:-1],
            "priority gap": np.linspace(0.9, 0.1, 9),
            "loss gap": np.append(-1, np.linspace(0.2, 0.9, 8)),
            "error": 2e-15,
        },
        "fine_tuning": {
            "behaviour": NAMES,
            "δ": DELTAS,
            "fall of the loss": np.roll(DELTAS, 1),
            "training margins > 0": [0.5, 0.5, *[1.0] * 8],
            "held-out margins > 0": [0.5, 0.75, 0.5, *[1.0] * 7],
        },
        "joint_training": {
            "pair": ["large gap in priority"] * 4 + ["small gap in priority"] * 2,
            "has priority": [True, False, True, False, True, False],
            "split": "training",
            "step": [0, 0, 5, 5, 5, 5],
            "loss": [0.7, 0.7, 0.5, 0.6, 0.6, 0.55],
        },
        "before_and_after": {
            "δ before": [1.0, 2.0, 4.0],
            "δ after": [2.0, 4.0, 8.0],
            "Tr Σ before": [1.0, 1.0, 1.0],
            "Tr Σ after": [0.5, 2.0, 4.0],
            "Tr Σ / δ² before": [1.0, 2.0, 3.0],
            "Tr Σ / δ² after": [0.5, 1.0, 1.5],
        },
        "misalignment": {"aligned minus base": [-0.1, -0.2, -0.3, 0.1]},
        "text": {
            "run": ["aligning"] * 2
            + ["misaligning the aligned model"] * 2
            + ["misaligning the base model"] * 2,
            "pairs": 6,
            "step": [0, 3] * 3,
            "logp_chosen": [-100, -98, -98, -101, -100, -101],
            "logp_rejected": [-120, -125, -125, -121, -120, -119.5],
        },
        "beta_falls": {
            "β": np.repeat([1.0, 0.1], 10),
            "δ": np.tile(DELTAS, 2),
            "fall of the loss": [*DELTAS, *np.roll(DELTAS, 3)],
        },
    }
    for name, columns in made.items():
        pd.DataFrame(columns).assign(seed=4).to_csv(tmp_path / f"{name}.csv", index=False)
    return Tables(tmp_path)


def test_perfect_order_is_one_and_its_reverse_minus_one(tables: Tables) -> None:
    assert statistics.fall_of_last_layer(tables) == estimates.Estimate(1, 1, 1, 10)
    assert statistics.movement_of_last_layer(tables) == estimates.Estimate(-1, -1, -1, 10)


def test_theorem_counts_steps_of_all_behaviours(tables: Tables) -> None:
    assert statistics.steps_above_the_bound(tables) == estimates.Estimate(3, 3, 3, 1000)
    assert statistics.straightness(tables).value == 0.99


def test_pairs_are_resampled_by_behaviour(tables: Tables) -> None:
    found, pairs = statistics.priority_and_loss_gap(tables), tables["pairs"]
    ends = pairs[["first", "second"]]
    assert found == estimates.spearman_over_pairs(pairs["priority gap"], pairs["loss gap"], ends, seed=4)
    assert found.n == 10


def test_bootstraps_are_drawn_by_the_tables_seed(tables: Tables) -> None:
    table = tables["fine_tuning"]
    found = statistics.fall_of_all_weights(tables)
    assert found == estimates.spearman(table["δ"], table["fall of the loss"], seed=4)


def test_clouds_change_on_a_logarithmic_scale(tables: Tables) -> None:
    parted, small = statistics.clouds_part(tables), statistics.clouds_small_for_their_distance(tables)
    assert (parted.value, small.value) == pytest.approx((np.log(2), -np.log(2)))
    assert (parted.low, parted.high, parted.n) == pytest.approx((np.log(2), np.log(2), 3))


def test_misalignment_is_the_mean_difference(tables: Tables) -> None:
    assert statistics.misaligned_faster(tables) == estimates.mean([-0.1, -0.2, -0.3, 0.1])


def test_every_beta_is_judged_by_the_lowest(tables: Tables) -> None:
    by_beta = statistics.falls_by_beta(tables)
    assert list(by_beta) == [0.1, 1.0]
    assert statistics.fall_at_every_beta(tables) == by_beta[0.1]
    assert by_beta[0.1].low < by_beta[1.0].low


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("behaviours", "10"),
        ("trained", "10"),
        ("range of δ", "1 to 10"),
        ("below chance", "2 of 10"),
        ("condition holds", "9 of 10"),
        ("least R²", "0.9000"),
        ("slack", "15.0 (10.0 to 20.0)"),
        ("crossings", "4 of 1,200"),
        ("bounded", "1 of 2"),
        ("guaranteed", "25.0%"),
        ("always Yes", "60%"),
        ("pairs", "9"),
        ("first-step error", "2e−15"),
        ("right way", "8 of 9"),
        ("large gap", "+0.100"),
        ("small gap", "−0.050"),
        ("δ factor", "2.00 [2.00, 2.00]"),
        ("ratio factor", "0.50 [0.50, 0.50]"),
        ("trace rises", "2 of 3"),
        ("one answer", "1 of 10"),
        ("undone faster", "3 of 4"),
        ("chosen", "+2.0"),
        ("rejected", "−5.0"),
        ("text aligning", "+7.0"),
        ("text undoing", "−7.0"),
        ("text from base", "−1.5"),
        ("text pairs", "6"),
    ],
)
def test_quoted_numbers(tables: Tables, key: str, told: str) -> None:
    assert QUOTED[key](tables) == told


def test_numerator_of_the_priority_is_a_correlation_with_squares(tables: Tables) -> None:
    pairs = tables["pairs"]
    squares = DELTAS[1:] ** 2 - DELTAS[:-1] ** 2
    ends = pairs[["first", "second"]]
    assert QUOTED["squared gap"](tables) == str(
        estimates.spearman_over_pairs(squares, pairs["loss gap"], ends, seed=4)
    )


# The reference edition ----------------------------------------------------------------------------


def test_every_function_serves_a_claim() -> None:
    claims = [claim for claim in load_claims().values() if claim.chapter == "distinguishability"]
    assert {part.function for claim in claims for part in claim.statistics} == set(STATISTICS)


def test_reference_edition_gives_every_number() -> None:
    for seed in REFERENCE.seeds:
        tables = REFERENCE.of(seed)
        for claim in load_claims().values():
            if claim.chapter == "distinguishability":
                for part in claim.statistics:
                    found = measure(claim, part, tables)
                    assert found.low <= found.value <= found.high
        assert all(tell(tables) for tell in QUOTED.values())


def test_falls_by_beta_are_those_of_the_table() -> None:
    for seed in REFERENCE.seeds:
        tables = REFERENCE.of(seed)
        by_beta = statistics.falls_by_beta(tables)
        for row in tables["beta"].to_dict("records"):
            rho = by_beta[row["β"]]
            assert (rho.value, rho.low, rho.high) == pytest.approx(
                (row["rank correlation"], row["low"], row["high"]), rel=1e-5
            )


def test_judging_imports_no_torch() -> None:
    code = "import sys, prefbook.ledger.statistics.distinguishability; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
