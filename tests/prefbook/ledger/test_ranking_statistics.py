"""Statistics of chapter 4's claims, from tables small enough to count by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from prefbook.ledger.claims import load_claims
from prefbook.ledger.statistics import ranking
from prefbook.ledger.tables import Tables
from prefbook.project import home
from prefdyn.measures import estimates

PAIRS = 40


def small() -> dict[str, pd.DataFrame]:
    """What the chapter's experiments would leave, with numbers that are drawn."""
    draw = np.random.default_rng(3)
    hits = pd.DataFrame(
        {
            "data": ["hh-rlhf"] * 5 + ["alpaca-eval"] * 4,
            "ranking": [*range(5), *range(4)],
            "responses": 2,
            "tied": [False, False, False, False, True, False, False, False, False],
            "per token": [1, 1, 1, 0, 1, 0, 0, 0, 0],
            "whole": [1, 0, 0, 0, 1, 0, 0, 0, 0],
            "chance": 0.5,
        }
    )
    ratios = draw.normal(0, 4, PAIRS)
    votes = pd.DataFrame(
        {"data": "alpaca-eval", "known": True, "alpha": 0.9, "per token": ratios / 40, "whole": ratios}
    )
    followed = pd.DataFrame(
        [
            (optimizer, 1.0, step, pair, step == 4 and pair < flipping, c)
            for optimizer, flipping in (("RMSProp", 1), ("AdamW", 3))
            for step in (0, 2, 4)
            for pair, c in enumerate([5.0, 1.0, 3.0, 2.0, -1.0])
        ],
        columns=["optimizer", "gamma", "step", "pair", "right", "c"],
    )
    shares = pd.DataFrame({"optimizer": ["RMSProp", "AdamW"], "wrong pairs": 4, "step": [4, 2]})
    distance = np.arange(12.0)
    answers = pd.DataFrame(
        {
            "step": np.arange(12),
            "distance": distance,
            "ranking accuracy": 0.5 + distance / 50,
            "win rate": np.where(distance <= 6, distance, 12.5 - distance) / 20,
        }
    )
    lengths = pd.DataFrame({"chosen": draw.integers(5, 90, PAIRS), "rejected": draw.integers(5, 90, PAIRS)})
    lengths["c"] = 3.0 * (lengths["chosen"] - lengths["rejected"])
    identities = pd.DataFrame(
        {
            "statement": ["Theorem 4.1", "Proposition 2.6", "Proposition A.7"],
            "points": [30, 0, 30],
            "violations": [0, 0, 2],
        }
    )
    return {
        "hits": hits,
        "votes": votes,
        "followed": followed,
        "flips": shares,
        "win_rate": answers,
        "lengths": lengths,
        "identities": identities,
        "judge": pd.DataFrame(
            [{"name": "coin", "accuracy": np.nan, "low": np.nan, "high": np.nan, "n": np.nan}]
        ),
    }


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    for name, table in small().items():
        table.assign(seed=0).to_csv(tmp_path / f"{name}.csv", index=False)
    return Tables(tmp_path).of(0)


def test_accuracy_is_of_the_training_data_without_ties(tables: Tables) -> None:
    assert ranking.accuracy_per_token(tables) == estimates.proportion([1, 1, 1, 0])
    assert ranking.accuracy_whole(tables) == estimates.proportion([1, 0, 0, 0])


def test_gap_is_that_of_the_middle_beta(tables: Tables) -> None:
    ratio = tables["votes"]["whole"]
    turned = (ratio + np.log(9) > 0).mean()  # beta 1, where nine raters of ten agree
    found = ranking.gap_whole(tables)
    assert found.value == pytest.approx(turned - (ratio >= 0).mean()) and found.n == PAIRS
    assert ranking.gap_per_token(tables).value > found.value


def test_flips_are_counted_at_the_lowest_validation_loss(tables: Tables) -> None:
    assert ranking.flipped_rmsprop(tables) == estimates.proportion([1, 0, 0, 0])
    assert ranking.flipped_adamw(tables) == estimates.proportion([0, 0, 0, 0])  # step 2: none has flipped yet


def test_violations_are_counted_where_there_is_something_to_violate(tables: Tables) -> None:
    assert (ranking.threshold_violations(tables).value, ranking.threshold_violations(tables).n) == (0, 30)
    assert np.isnan(ranking.sanity_violations(tables).value)
    assert ranking.ipo_violations(tables).value == 2


def test_border_is_at_the_best_win_rate(tables: Tables) -> None:
    assert ranking.border(tables["win_rate"]) == 6
    assert ranking.correlation_near(tables).value == pytest.approx(1)
    assert ranking.correlation_far(tables).value == pytest.approx(-1)


def test_correlations_of_lengths(tables: Tables) -> None:
    pairs = tables["lengths"]
    total = pairs["chosen"] + pairs["rejected"]
    assert ranking.correlation_of_lengths(tables).value == pytest.approx(
        stats.spearmanr(pairs["c"], total).statistic
    )
    assert ranking.correlation_of_size(tables).value == pytest.approx(
        stats.spearmanr(pairs["c"].abs(), total).statistic
    )
    assert ranking.correlation_of_difference(tables).value == pytest.approx(1)


def test_every_declared_statistic_is_there_and_none_else() -> None:
    claims = load_claims(home() / "book" / "claims.yml").values()
    asked = [part.function for claim in claims if claim.chapter == "ranking" for part in claim.statistics]
    assert sorted(asked) == sorted(ranking.STATISTICS)


def test_an_unknown_judge_and_a_missing_data_set_are_said(tables: Tables) -> None:
    assert ranking.QUOTED["judge-accuracy"](tables) == "not known"
    assert ranking.QUOTED["judge-pairs"](tables) == "0"
    assert ranking.QUOTED["judge-no-verdict"](tables) == "0%"
    judge = tables["judge"].assign(**{"no verdict": 0.125})
    judge.to_csv(tables.folder / "judge.csv", index=False)
    assert ranking.QUOTED["judge-no-verdict"](tables) == "12%"
    accuracy = pd.DataFrame({"data": ["sample"], "responses": ["whole"], "ties": ["none"], "accuracy": [0.5]})
    accuracy.assign(seed=0).to_csv(tables.folder / "ranking_accuracy.csv", index=False)
    assert ranking.QUOTED["alpaca-whole"](tables) == ranking.MISSING
