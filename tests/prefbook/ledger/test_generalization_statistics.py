"""Statistics of chapter 2's claims and the numbers that it quotes, from tables that are counted by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from written import write_table

from prefbook.ledger.claims import load_claims
from prefbook.ledger.judging import judge
from prefbook.ledger.quoted import generalization as quoted
from prefbook.ledger.statistics import generalization as statistics
from prefbook.ledger.tables import NotMeasured, Tables
from prefbook.project import home
from prefdyn.measures import estimates

STATISTICS, QUOTED = statistics.STATISTICS, quoted.QUOTED
PERSONAS = [*(f"desire-{i}" for i in range(6)), *(f"own-{i}" for i in range(6))]
FAMILIES = ["desire"] * 5 + PERSONAS[5:]


def nested_sets() -> pd.DataFrame:
    """Four sets of two anchors, of whose held-out margins a quarter is left among four, but for luck."""
    rows = []
    for number, luck in enumerate((0.8, 0.9, 1.1, 1.25)):
        for anchor, size in enumerate((1.0, 3.0)):
            for count, left, law in ((1, 1.0, 1.0), (2, 0.6, 0.7), (4, 0.25, 0.25)):
                chance = 1.0 if count == 1 else luck
                for split, share in (("held out", left), ("trained", left / 2 if count > 1 else 1.0)):
                    rows.append(
                        (number, f"{number}-{anchor}", count, split, size * share * chance, size * law)
                    )
    table = pd.DataFrame(rows, columns=["set", "persona", "K", "split", "margin", "foretold"])
    return table.assign(accuracy=1 - table["K"] / 16, loss=table["K"] / 8)


def small() -> dict[str, pd.DataFrame]:
    """What the chapter's experiments would leave, with numbers that are easy or drawn."""
    draw = np.random.default_rng(2)
    first, second = np.triu_indices(12, k=1)
    cosines = pd.DataFrame(
        {
            "first": first,
            "second": second,
            "statements": draw.uniform(0.95, 1, 66),
            "statements centred": draw.uniform(-0.3, 0.3, 66),
            "dealt": 0.0,
            "concepts": draw.uniform(-0.7, 0.7, 66),
        }
    )
    personas = pd.DataFrame(
        {
            "index": range(12),
            "persona": PERSONAS,
            "family": FAMILIES,
            "drawn": [i % 6 != 0 for i in range(12)],
            "δ": 4.0,
            "shared length": 50.0,
            "own statements": 0.125,
        }
    )
    company = pd.DataFrame(
        [
            (K, arm, q, name, kind, risk + at / 100, rate)
            for at, (name, kind) in enumerate(zip(PERSONAS, FAMILIES, strict=True))
            for K, rate in ((1, 2.0), (4, 1.1))
            for arm, q, risk in (("all", 96, 0.1 * K), ("as log K", 10 * K, 0.2 + 0.05 * K))
        ],
        columns=["K", "arm", "Q", "persona", "family", "risk", "foretold"],
    )
    own_answers = pd.DataFrame(
        [
            (number, pairs, reuse, name, 0.3 - 0.1 * (reuse == 1) + number / 100, 2.0 / pairs)
            for number in range(3)
            for pairs, reuse in ((1, 16), (4, 4), (16, 4), (16, 1))
            for name in PERSONAS[:4]
        ],
        columns=["set", "pairs", "Z", "persona", "risk", "margin"],
    )
    more_samples = pd.DataFrame(
        [
            (name, kind, of, q, risk - 0.02 * np.log2(q), 3.0 * q**0.25)
            for at, (name, kind) in enumerate(zip(PERSONAS, FAMILIES, strict=True))
            for of, sizes in (("everyone", (4, 16)), ("all statements", (16, 64)))
            for q in sizes
            for risk in (0.4 + at / 100,)
        ],
        columns=["persona", "family", "of", "Q", "risk", "wait"],
    )
    imbalance = pd.DataFrame(
        [
            (name, kind, arm, when, rare, 0.9)
            for name, kind in zip(PERSONAS, FAMILIES, strict=True)
            for arm, shares in {
                "as many of both": (0.75, 0.8),
                "at random": (0.25, 0.5),
                "three to one": (0.125, 0.375),
            }.items()
            for when, rare in zip(("first step", "end"), shares, strict=True)
        ],
        columns=["persona", "family", "arm", "when", "rare", "common"],
    )
    lopsided = pd.DataFrame(
        [
            (name, arm, step, rare + at / 10)
            for at, name in enumerate(PERSONAS[:3])
            for arm in ("as many of both", "three to one")
            for step, rare in ((4, 0.0), (8, 0.25))
        ],
        columns=["persona", "arm", "step", "rare"],
    )
    cantelli = pd.DataFrame(
        {
            "persona": np.repeat(PERSONAS, 2),
            "family": np.repeat(FAMILIES, 2),
            "statements": 50,
            "bound": np.linspace(0.2, 0.4, 24),
            "bound high": 0.5,
            "wrong": [40, 26] + [10] * 22,
        }
    )
    moved = pd.DataFrame(
        {
            "pair": np.repeat(range(10), 4),
            "response": ["chosen", "rejected"] * 20,
            "rate": [1.0, -1.0] * 10 + [2.0, -2.0] * 10,
            "moved": [4.0, -4.0] * 10 + [8.0, -8.0] * 9 + [8.0, 8.0],
        }
    )
    tokens = pd.DataFrame(
        {"rate": [3.0, 4.0], "rate as printed": [3.0, 3.0], "relative error": [1e-12, 3e-11]}
    )
    factors = pd.DataFrame(
        {"step": [0, 0, 8, 8], "response": ["chosen", "rejected"] * 2, "total": [0.5, -0.75, 0.01, -0.8]}
    )
    data = {"K": [135], "Q": [500], "log₁₀ bound": [7.487], "log₁₀ bound, appendix": [6.5]}
    data |= {"Q for a bound below 1": [9.09e9], "Q for a failure below 1": [56116.4]}
    risk = pd.DataFrame(
        {
            "log₁₀ risk": [-3.0, 1.0, -9.0],
            "log₁₀ bound": [4.0, 2.0, 8.0],
            "log₁₀ bound, appendix": [5.0, 0.5, -2.0],
            "log₁₀ failure": [4.0, 4.0, -1.0],
        }
    )
    identities = pd.DataFrame(
        {"identity": ["β", "twice", "own"], "margins": [8, 8, 8], "departure": [1e-12, 1e-8, 0.0]}
    )
    return {
        "personas": personas,
        "cosines": cosines,
        "nested_sets": nested_sets(),
        "rounding": nested_sets().assign(precision="float32"),
        "company": company,
        "longer_company": company.assign(
            risk=company["risk"] - 0.2 * (company["K"] > 1), margin=0.5 * company["K"]
        ),
        "own_answers": own_answers,
        "more_samples": more_samples,
        "imbalance": imbalance,
        "imbalance_all_weights": lopsided,
        "cantelli": cantelli,
        "moved": moved,
        "identities": identities,
        "band": pd.DataFrame(
            {
                "margins": [1000, 100, 1000],
                "outside the band": [3, 0, 2],
                "failure allowed": [0.01, 1.0, 1.0],
            }
        ),
        "risk": risk,
        "bound_of_the_data": pd.DataFrame(data),
        "samples_needed": pd.DataFrame(
            {
                "form": ["Theorem 4.2", "Theorem A.2, Z = 1"],
                "Q for K = 1": [5.6e9, 13219.5],
                "Q for K = 135": [9.087e9, 16841.5],
            }
        ),
        "conditions_of_the_data": pd.DataFrame(
            {"condition": ["Z ≤ 1/(4 l_b²)", "d ≤ 5Q"], "value": [5.0, 576.0]}
        ),
        "curves": pd.DataFrame({"v": [0.025, 0.5], "conditions that fail": ["none", "v is too large"]}),
        "descent": pd.DataFrame({"steps": [5, 10, 20, 40], "gap": [8e-4, 4e-4, 2e-4, 1e-4]}),
        "tokens": tokens,
        "factors": factors,
        "places": pd.DataFrame({"pairs": [12], "tokens": [129], "median cosine": [0.4321]}),
    }


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    for name, table in small().items():
        write_table(table.assign(seed=3), tmp_path / f"{name}.csv")
    return Tables(tmp_path).of(3)


def test_cosines_are_means_of_sizes_resampled_by_family(tables: Tables) -> None:
    pairs, ends = tables["cosines"], tables["cosines"][["first", "second"]].to_numpy()
    found = STATISTICS["cosine_of_concepts"](tables)
    assert found == estimates.mean_over_pairs(pairs["concepts"].abs(), ends, 3, FAMILIES)
    assert found.value == pytest.approx(pairs["concepts"].abs().mean()) and found.n == 12


def test_cosines_of_ten_are_those_of_the_ten_that_are_drawn(tables: Tables) -> None:
    pairs = tables["cosines"].query("first % 6 != 0 and second % 6 != 0")
    found = STATISTICS["cosine_of_centred_statements_of_ten"](tables)
    assert found.value == pytest.approx(pairs["statements centred"].abs().mean()) and found.n == 10


def test_violations_of_theorems_are_counted_where_they_promise_something(tables: Tables) -> None:
    assert STATISTICS["margins_outside_the_band"](tables) == estimates.count(3, 1000)
    assert STATISTICS["failure_allowed"](tables).value == pytest.approx(-2)
    # The second draw is under the theorem's bound and above the appendix's.
    assert STATISTICS["risks_above_the_bound"](tables) == estimates.count(1, 3)
    assert STATISTICS["bound_with_failure"](tables).value == pytest.approx(np.log10(0.01 + 0.1))
    assert STATISTICS["bound_at_the_data"](tables).value == pytest.approx(6.5)


def test_what_is_left_is_a_mean_of_logs_over_sets(tables: Tables) -> None:
    luck = np.log([0.8, 0.9, 1.1, 1.25])
    assert STATISTICS["held_out_margin_left"](tables) == estimates.mean(np.log(0.25) + luck)
    assert STATISTICS["training_margin_left"](tables).value == pytest.approx(np.log(0.125) + luck.mean())
    off = STATISTICS["off_the_law"](tables)
    assert off.value == pytest.approx(abs(luck.mean())) and off.low == 0 and off.n == 4
    root = STATISTICS["off_the_root_of_the_law"](tables)
    assert root.value == pytest.approx(abs(luck.mean() + np.log(0.25) / 2)) and root.low > 0


def test_a_margin_that_is_not_positive_leaves_the_claim_open(tables: Tables) -> None:
    table = nested_sets()
    table.loc[(table["set"] == 1) & (table["K"] == 4), "margin"] = -1.0
    write_table(table.assign(seed=3), tables.folder / "nested_sets.csv")
    again = Tables(tables.folder.rename(f"{tables.folder}-again"), 3)
    assert np.isnan(STATISTICS["held_out_margin_left"](again).value)
    assert QUOTED["gn-left"](again) == "none"


def test_risks_are_compared_persona_by_persona(tables: Tables) -> None:
    assert STATISTICS["risk_as_samples_grow"](tables).value == pytest.approx(0.15)
    assert STATISTICS["risk_as_time_grows"](tables).value == pytest.approx(-0.05)
    assert STATISTICS["risk_with_more_samples"](tables).value == pytest.approx(-0.04)
    assert STATISTICS["risk_with_all_samples"](tables).value == pytest.approx(-0.04)
    assert STATISTICS["risk_by_own_answers"](tables).value == pytest.approx(-0.1)
    assert STATISTICS["risk_by_own_answers"](tables).n == 3
    assert STATISTICS["slope_of_wait"](tables).value == pytest.approx(0.25)


def test_a_wait_that_outlasts_the_training_is_left_out(tables: Tables) -> None:
    table = small()["more_samples"]
    table.loc[(table["persona"] == "own-2") & (table["Q"] == 16), "wait"] = np.nan
    write_table(table.assign(seed=3), tables.folder / "more_samples.csv")
    again = Tables(tables.folder.rename(f"{tables.folder}-again"), 3)
    found = STATISTICS["slope_of_wait"](again)
    assert found.n == 11 and found.value == pytest.approx(0.25)


def test_the_rare_label_is_that_of_three_to_one(tables: Tables) -> None:
    assert STATISTICS["rare_label"](tables).value == pytest.approx(0.125)
    few = STATISTICS["rare_label_all_weights"](tables)
    assert few.value == pytest.approx(0.1) and np.isnan(few.low)


def test_personas_of_a_family_are_one_case_where_all_weights_train(tables: Tables) -> None:
    names = ["desire-for-a", "desire-for-b", "desire-for-c", "own-1", "own-2"]
    rows = {"step": 4, "rare": [0.0, 0.3, 0.6, 0.1, 0.2], "persona": names, "arm": "three to one"}
    write_table(pd.DataFrame(rows).assign(seed=3), tables.folder / "imbalance_all_weights.csv")
    again = Tables(tables.folder.rename(f"{tables.folder}-again"), 3)
    assert STATISTICS["rare_label_all_weights"](again) == estimates.proportion([0.3, 0.1, 0.2])


def test_errors_above_a_bound_are_more_than_chance(tables: Tables) -> None:
    # 40 of 50 where a half is allowed is no chance; 26 of 50 is.
    assert STATISTICS["errors_above_the_bound"](tables) == estimates.count(1, 24)
    assert STATISTICS["typical_bound"](tables).value == pytest.approx(0.3)


def test_departures_from_identities_are_told_by_their_place(tables: Tables) -> None:
    names = ("departures_by_strength", "departures_by_doubling", "departures_by_company")
    assert [STATISTICS[name](tables).value for name in names] == [0, 1, 0]


def test_token_rates(tables: Tables) -> None:
    assert STATISTICS["error_of_token_rates"](tables) == estimates.Estimate(3e-11, 3e-11, 3e-11, 2)
    assert STATISTICS["order_of_chosen_rates"](tables).value == pytest.approx(1)


def test_a_bound_that_is_kept_and_promises_nothing_is_vacuous(tables: Tables) -> None:
    claim = load_claims()["GN-3a"]
    about = {"log₁₀ risk": [-9.0], "log₁₀ bound": [4.0], "log₁₀ failure": [-1.0]}
    for appendix, verdict in ((5.0, "vacuous"), (-2.0, "holds here")):
        table = pd.DataFrame({**about, "log₁₀ bound, appendix": [appendix], "seed": [3]})
        folder = Path(f"{tables.folder}-{verdict[:5]}")
        folder.mkdir()
        write_table(table, folder / "risk.csv")
        assert judge(claim, Tables(folder), "here")["verdict"] == verdict


def test_every_statistic_of_the_chapter_is_a_claims_and_has_a_function() -> None:
    claimed = [
        statistic.function
        for claim in load_claims(home() / "book" / "claims.yml").values()
        if claim.chapter == "generalization"
        for statistic in claim.statistics
    ]
    assert sorted(claimed) == sorted(STATISTICS)


def test_numbers_of_the_scoreboard_are_counted() -> None:
    made = {
        "conditions": pd.DataFrame(
            {"conditions that fail": ["none", "K", "v", "v"], "share outside": [0.0, 0.0, 0.2, 0.0]}
        ),
        "conditions_of_the_data": pd.DataFrame({"holds": [True, False, False]}),
        "band": pd.DataFrame({"failure allowed": [0.2, 1.0, 7.5, 0.99]}),
    }
    told = {key: tell(made) for key, tell in quoted.ON_THE_SCOREBOARD.items()}
    assert told == {"still inside": "2 of 3", "conditions met": "1 of 3", "promises nothing": "2 of 4"}


def test_numbers_of_the_text(tables: Tables) -> None:
    with pytest.raises(NotMeasured, match="with one seed"):
        QUOTED["gn-left-again"](tables)
    again = nested_sets()
    again.loc[again["K"] == 4, "margin"] *= 1.44
    both = pd.concat([nested_sets().assign(seed=3), again.assign(seed=4)])
    write_table(both, tables.folder / "nested_sets.csv")
    told = {key: tell(tables) for key, tell in QUOTED.items()}
    assert told["gn-left-again"].startswith("0.36 [")  # 1.44 of a quarter
    assert told["gn-width"] == "576" and told["gn-random-cosine"] == f"{0.798 / 24:.3f}"
    assert told["gn-own-cosine"] == "0.12" and told["gn-shared-length"] == "25"
    assert (told["gn-risk-alone"], told["gn-risk-company"]) == ("16%", "46%")
    # Alone on the most samples 0.1; among four 0.4 at an equal time, and 0.2 + 0.05 * 4 - 0.2 after more.
    assert told["gn-company-at-equal-time"].startswith("0.3 [")
    assert told["gn-longer-at-equal-samples"].startswith("0.1 [") and told["gn-risk-first"] == "23%"
    assert (told["gn-margin-alone"], told["gn-margin-longer"]) == ("0.50", "2.00")
    assert (told["gn-most-personas"], told["gn-most-samples"]) == ("4", "96")
    assert (told["gn-log-first"], told["gn-log-last"]) == ("10", "40")
    assert (told["gn-gap-5"], told["gn-gap-40"], told["gn-order"]) == ("8.0e−4", "1.0e−4", "1.00")
    assert told["gn-failing"] == "v is too large" and told["gn-vacuous"] == "2 of 1,100"
    assert told["gn-promise-q"] == "56,116" and told["gn-bound-q"] == "9.1 billion"
    assert told["gn-appendix-q"] == "16,842" and told["gn-promised"] == "1"
    assert (told["gn-data-k"], told["gn-data-q"]) == ("135", "500")
    assert (told["gn-needed-1"], told["gn-needed-135"]) == ("5.6 billion", "9.1 billion")
    assert told["gn-b-over-a"] == "0.40"  # (1.1/2 − 1/4) / (3/4)
    assert (told["gn-sets"], told["gn-largest"], told["gn-law"], told["gn-root"]) == (
        "4",
        "4",
        "0.25",
        "0.50",
    )
    assert told["gn-left"].startswith("0.25 [")
    assert told["gn-precision"] == "float32"
    assert told["gn-left-rounded"] == str(STATISTICS["held_out_margin_left"](tables))
    assert told["gn-left-trained-rounded"] == str(STATISTICS["training_margin_left"](tables))
    assert told["gn-law-rounded"] == str(STATISTICS["off_the_law"](tables))
    assert told["gn-least-left"] == "0.20"  # 0.8 of a quarter
    assert (told["gn-margin-own"], told["gn-margin-shared"]) == ("0.12", "2.00")
    assert (told["gn-risk-own"], told["gn-risk-shared"]) == ("0.21", "0.31")
    assert (told["gn-rare-random"], told["gn-rare-balanced"], told["gn-rare-end"]) == ("0.25", "0.75", "0.38")
    assert (told["gn-rare-random-end"], told["gn-rare-all-end"]) == ("0.50", "0.35")
    assert (told["gn-pairs"], told["gn-place-cosine"], told["gn-misprinted"]) == ("12", "0.43", "20.0%")
    assert (told["gn-moved"], told["gn-moved-share"]) == ("10", "27%")  # 60 of 224
    assert (told["gn-moved-rise"], told["gn-moved-fall"]) == ("100%", "95%")
    assert told["gn-least-constant"] == "0.02"  # 45 (log 12 + 2 log Q) / Q
    assert (told["gn-moved-sign-chosen"], told["gn-moved-sign-rejected"]) == ("100%", "95%")
    assert (told["gn-accuracy-alone"], told["gn-accuracy-most"]) == ("0.94", "0.75")
    assert (told["gn-loss-alone"], told["gn-loss-most"]) == ("0.12", "0.50")
    assert told["gn-total-chosen-first"] == "0.5" and told["gn-total-rejected-last"] == "−0.8"


def test_no_torch_is_needed() -> None:
    start = "import sys, prefbook.ledger.quoted, prefbook.ledger.statistics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", start], check=False).returncode == 0
