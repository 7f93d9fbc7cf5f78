"""Statistics of chapter 2's claims and the numbers that it quotes, from tables that are counted by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prefbook.ledger.claims import load_claims
from prefbook.ledger.judging import judge
from prefbook.ledger.statistics import generalization
from prefbook.ledger.tables import Tables
from prefbook.project import home
from prefdyn.measures import estimates

STATISTICS, QUOTED = generalization.STATISTICS, generalization.QUOTED


def small() -> dict[str, pd.DataFrame]:
    """What the chapter's experiments would leave, with numbers that are easy or drawn."""
    draw = np.random.default_rng(2)
    personas = pd.DataFrame(
        {
            "means": draw.uniform(0.95, 1, 12),
            "shared mean removed": draw.uniform(0.1, 0.3, 12),
            "concepts": draw.uniform(0.3, 0.7, 12),
            "concept length": [2.0] * 11 + [50.0],
            "shared length": 50.0,
        }
    )
    cosines = pd.DataFrame({"concepts": np.linspace(-0.5, 0.5, 21), "statements": 0.987})
    sweep = pd.DataFrame(
        [
            (step, split, margin / K if step == 4 else -K, K, number)
            for step in (2, 4)
            for split, margin in (("trained", 1.0), ("held out", -1.0))
            for K in (1, 2, 4)
            for number in range(3)
        ],
        columns=["step", "split", "margin", "K", "draw"],
    )
    slopes = pd.DataFrame(
        {
            "of": ["tight, training"] * 3 + ["tight, held-out"] * 3 + ["hidden states, training"] * 3,
            "draw": [0, 1, 2] * 3,
            "slope": [-0.2, -0.21, -0.19, 0.0, 0.01, -0.01, 1.0, 0.5, 0.75],
        }
    )
    tokens = pd.DataFrame(
        {
            "rate": [3.0, 4.0],
            "rate as printed": [3.0, 3.0],
            "relative error": [1e-12, 3e-11],
        }
    )
    factors = pd.DataFrame(
        {"step": [0, 0, 8, 8], "response": ["chosen", "rejected"] * 2, "total": [0.5, -0.75, 0.01, -0.8]}
    )
    asked = pd.DataFrame({"condition": ["Z ≤ 1/(4 l_b²)", "d ≤ 5Q"], "value": [5.0, 576.0]})
    data = {"K": [135], "Q": [500], "log₁₀ bound": [7.487]}
    data |= {"Q for a bound below 1": [9.09e9], "Q for a failure below 1": [56116.4]}
    groups = pd.DataFrame({"K": [1, 2, 1, 2], "draw": [0, 0, 1, 1], "statements": 32, "places": 32})
    rates = pd.DataFrame(
        {
            "answers": ["own answers"] * 4 + ["Yes and No for all"] * 4,
            "K": [1, 1, 16, 16] * 2,
            "rate": [2, 4, 0.3, 0.3, 2, 4, 1.5, 1.5],
        }
    )
    conditions = pd.DataFrame(
        {
            "varied": "shared length l_b",
            "value": [0.5, 64, 0.5, 64],
            "v": [0.025, 0.025, 0.4, 0.4],
            "share outside": [0, 0.25, 0.5, 0.5],
        }
    )
    return {
        "personas": personas,
        "cosines": cosines,
        "band": pd.DataFrame({"margins": [100, 1000], "outside the band": [0, 2]}),
        "risk": pd.DataFrame(
            {"log₁₀ risk": [-3.0, 1.0], "log₁₀ bound": [4.0, 2.0], "log₁₀ bound, appendix": [5.0, 0.5]}
        ),
        "bound_of_the_data": pd.DataFrame(data),
        "samples_needed": pd.DataFrame(
            {"form": ["Theorem 4.2"], "Q for K = 1": [5.6e9], "Q for K = 135": [9.087e9]}
        ),
        "conditions_of_the_data": asked,
        "conditions": conditions,
        "curves": pd.DataFrame({"v": [0.025, 0.5], "conditions that fail": ["none", "v is too large"]}),
        "descent": pd.DataFrame({"steps": [5, 10, 20, 40], "gap": [8e-4, 4e-4, 2e-4, 1e-4]}),
        "sweep": sweep,
        "groups": groups,
        "rates": rates,
        "slopes_by_draw": slopes,
        "tokens": tokens,
        "factors": factors,
        "places": pd.DataFrame({"pairs": [12], "tokens": [129], "median cosine": [0.4321]}),
    }


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    for name, table in small().items():
        table.assign(seed=3).to_csv(tmp_path / f"{name}.csv", index=False)
    return Tables(tmp_path).of(3)


def test_cosines_are_medians_over_personas_with_the_seed_of_the_run(tables: Tables) -> None:
    for name, column in (
        ("typical_cosine_of_means", "means"),
        ("typical_cosine_without_shared_mean", "shared mean removed"),
        ("typical_cosine_of_concepts", "concepts"),
    ):
        assert STATISTICS[name](tables) == estimates.median(tables["personas"][column], 3)


def test_violations_of_theorems_are_counted(tables: Tables) -> None:
    assert STATISTICS["margins_outside_the_band"](tables) == estimates.count(2, 1100)
    # The second draw is under the theorem's bound and above the appendix's.
    assert STATISTICS["risks_above_the_bound"](tables) == estimates.count(1, 2)
    assert STATISTICS["bound_at_the_data"](tables).value == pytest.approx(7.487)


def test_the_order_of_margins_is_that_of_the_last_step(tables: Tables) -> None:
    assert STATISTICS["order_of_training_margins"](tables).value == pytest.approx(-1)
    found = STATISTICS["order_of_held_out_margins"](tables)
    assert found.value == pytest.approx(1) and found.n == 9


def test_slopes_are_means_over_draws(tables: Tables) -> None:
    assert STATISTICS["slope_of_training_time_on_clusters"](tables).value == pytest.approx(-0.2)
    assert STATISTICS["slope_of_held_out_time_on_clusters"](tables).value == pytest.approx(0)
    assert STATISTICS["slope_of_training_time_on_states"](tables) == estimates.mean([1.0, 0.5, 0.75])


def test_the_error_of_rates_is_the_largest(tables: Tables) -> None:
    assert STATISTICS["error_of_token_rates"](tables) == estimates.Estimate(3e-11, 3e-11, 3e-11, 2)


def test_a_bound_that_is_kept_and_promises_nothing_is_vacuous(tables: Tables) -> None:
    claim = load_claims()["GN-3"]
    pd.DataFrame(
        {"log₁₀ risk": [-9.0], "log₁₀ bound": [4.0], "log₁₀ bound, appendix": [5.0], "seed": [3]}
    ).to_csv(tables.folder / "risk.csv", index=False)
    assert judge(claim, Tables(tables.folder), "here")["verdict"] == "vacuous"


def test_every_statistic_of_the_chapter_is_a_claims_and_has_a_function() -> None:
    claimed = [
        statistic.function
        for claim in load_claims(home() / "book" / "claims.yml").values()
        if claim.chapter == "generalization"
        for statistic in claim.statistics
    ]
    assert sorted(claimed) == sorted(STATISTICS)


def test_numbers_of_the_text(tables: Tables) -> None:
    told = {key: tell(tables) for key, tell in QUOTED.items()}
    assert told["gn-personas"] == "12" and told["gn-width"] == "576"
    assert told["gn-random-cosine"] == f"{0.674 / 24:.3f}"
    assert told["gn-range-concepts"] == "−0.45 to 0.45"
    assert told["gn-statement-cosine"] == "0.99"
    assert told["gn-shared-length"] == "25"
    assert (told["gn-gap-5"], told["gn-gap-40"], told["gn-order"]) == ("8.0e−4", "1.0e−4", "1.00")
    assert told["gn-failing"] == "v is too large" and told["gn-outside-long"] == "0.25"
    assert told["gn-promise-q"] == "56,116" and told["gn-bound-q"] == "9.1 billion"
    assert (told["gn-data-k"], told["gn-data-q"]) == ("135", "500")
    assert (told["gn-needed-1"], told["gn-needed-135"]) == ("5.6 billion", "9.1 billion")
    assert told["gn-statements"] == "32 for every K, each seen once"
    assert (told["gn-rate-own"], told["gn-rate-shared"]) == ("0.10", "0.50")
    assert (told["gn-pairs"], told["gn-place-cosine"], told["gn-misprinted"]) == ("12", "0.43", "20.0%")
    assert told["gn-total-chosen-first"] == "0.5" and told["gn-total-rejected-last"] == "−0.8"


def test_runs_that_want_statements_say_so(tables: Tables) -> None:
    groups = tables["groups"]
    groups.loc[groups["K"] == 2, "statements"] = 28
    groups.assign(seed=3).to_csv(tables.folder / "groups.csv", index=False)
    found = Tables(tables.folder.rename(tables.folder.with_name("again")), 3)
    assert QUOTED["gn-statements"](found) == "32 for K = 1, 28 for K = 2, with 32 places"


def test_no_torch_is_needed() -> None:
    start = "import prefbook.ledger.statistics.generalization, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", start], check=False).returncode == 0
