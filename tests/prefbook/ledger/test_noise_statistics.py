"""Chapter 3's statistics and quoted numbers, from tables small enough to count by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from written import write_table

from prefbook.ledger.claims import load_claims
from prefbook.ledger.derived import noise as derived
from prefbook.ledger.quoted import noise as quoted
from prefbook.ledger.statistics import noise as statistics
from prefbook.ledger.tables import Tables
from prefbook.project import home
from prefdyn.data.personas import family
from prefdyn.errors import PrefdynError
from prefdyn.theory import noise as theory
from prefdyn.theory import vmf

RATES = np.round(np.arange(0, 1.01, 0.05), 6)
HALF = RATES[RATES <= 0.5]
SETTINGS = {
    "60°, γ = 1/16": (1 / 16, 60, "θ"),
    "60°, γ = 1/8": (1 / 8, 60, "θ"),
    "60°, γ = 1/4": (1 / 4, 60, "θ"),
    "120°, γ = 1/16": (1 / 16, 120, "2θ"),
    "120°, γ = 1/8": (1 / 8, 120, "both"),
    "120°, γ = 1/4": (1 / 4, 120, "2θ"),
    "180°, γ = 1/8": (1 / 8, 180, "θ"),
}
TIMES = {0.005: "stopping", 0.02: "stopping", 5.0: "between", 2000.0: "long"}
TRIALS = 5
EPOCHS = 12
Make = Callable[..., Tables]


def runs(clean: float, c: float, wiggle: float = 0.0) -> np.ndarray:
    """Accuracies that follow Equation 18 up to one half and are its mirror beyond, shape (trials, rates)."""
    below = 1 - clean / (1 - c * np.minimum(RATES, 1 - RATES)) ** 2
    curve = np.where(RATES < 0.49, below, 1 - below)
    curve[np.isclose(RATES, 0.5)] = 0.5
    return curve + wiggle * np.arange(-2, 3)[:, None]


def on_map(setting: int, loss: str, time: float) -> np.ndarray:
    """Accuracies of a point of the map, shape (trials, rates up to one half)."""
    c = 0.4 + 0.1 * (time > 1) + (0.05 if loss == "IPO" and time > 1 else 0)
    return runs(0.3 - 0.03 * setting, c, 0.01)[:, : len(HALF)]


def small() -> dict[str, pd.DataFrame]:
    """What the chapter's experiments would leave."""
    rng = np.random.default_rng(1)
    short = [
        (setting, trial, rate, accuracy)
        for place, setting in enumerate(SETTINGS)
        for trial, row in enumerate(runs(0.3 - 0.03 * place, 0.4, 0.01))
        for rate, accuracy in zip(RATES, row, strict=True)
    ]
    ratios = {"DPO": (1, 0.9999, 0.99, 0.3), "IPO": (1 - 1e-5, 0.9998, 0.9, 0.4)}
    names = [f"{rate:g}" for rate in HALF]
    map_runs = pd.DataFrame(
        [
            {"setting": name, "loss": loss, "time": time, "trial": trial, "loss ratio": ratio}
            | dict(zip(names, row, strict=True))
            for place, name in enumerate(SETTINGS)
            for loss, each in ratios.items()
            for (time, ratio) in zip(TIMES, each, strict=True)
            for trial, row in enumerate(on_map(place, loss, time))
        ]
    )
    map_fits = map_runs[["setting", "loss", "time"]].drop_duplicates().reset_index(drop=True)
    map_fits["region"] = map_fits["time"].map(TIMES)
    map_fits["loss ratio"] = map_fits["time"].map(dict(zip(TIMES, ratios["DPO"], strict=True)))
    late = map_fits["time"] == 2000
    map_fits["excess: Equation 18"] = np.where(late, 0.02, -0.001)
    map_fits["excess: straight line"] = 0.01
    map_fits["excess: quadratic"] = np.where(late, 0.03, -0.002)
    behaviours = [*(f"desire-to-{place}" for place in range(5)), *"abcde", "believes-in-c", "x-HHH-y"]
    looks = pd.concat(
        [
            pd.DataFrame(
                {
                    "behaviour": behaviours,
                    "state": state,
                    "spread of the norm": np.linspace(0.006, 0.008, 12) + shift,
                    "cosine": np.linspace(0.99, 0.996, 12) - shift,
                    "γ": [3.0, *[200.0] * 11],
                    "ratio": rng.uniform(10, 90, 12),
                    "angle (°)": np.linspace(1, 9, 12),
                    "widest share": 0.25,
                    "dimension": 50,
                }
            )
            for state, shift in (("statement", 0.0), ("question", 0.1))
        ],
        ignore_index=True,
    )
    kinds = [
        (kind, loss, time, rate, 0.9 - 0.5 * rate + 0.01 * (time > 1) + 0.02 * (loss == "cDPO"), gain)
        for kind, gain in (("coin", 0.0), ("by margin", 0.02), ("by uncertainty", 0.01), ("one-sided", -0.1))
        for loss in ("DPO", "cDPO", "rDPO")
        for time in (0.005, 5.0)
        for rate in (0.0, 0.2, 0.3)
    ]
    curves = [(name, rate) for name in behaviours for rate in np.arange(0, 0.51, 0.1).round(6)]
    fall = np.linspace(0.2, 0.31, 12)
    return {
        "settings": pd.DataFrame(
            [
                (name, gamma, np.radians(degrees), 512, 1000, TRIALS, TRIALS, EPOCHS, word)
                for name, (gamma, degrees, word) in SETTINGS.items()
            ],
            columns=[
                *("setting", "relative kappa", "angle", "dimension", "per label"),
                *("trials", "kind trials", "epochs", "reading"),
            ],
        ),
        "stopping": pd.DataFrame(
            {"loss": ["DPO", "IPO"], "allowed": [0.1736, 0.004], "short": 0.005, "long": 200.0}
        ),
        "accuracies": pd.DataFrame(short, columns=["setting", "trial", "rate", "accuracy"]),
        "map_runs": map_runs,
        "map_fits": map_fits,
        "differences": pd.DataFrame(
            {
                "training": ["short", "short", "long"],
                "loss": ["IPO", "SLiC", "IPO"],
                "most": [0.001, 0.004, 0.13],
            }
        ),
        "kinds_of_noise": pd.DataFrame(
            kinds, columns=["kind", "loss", "time", "rate", "accuracy", "gain"]
        ).assign(
            **{"gain low": lambda table: table["gain"] - 0.005, "gain high": lambda t: t["gain"] + 0.005}
        ),
        "sharp_regime": pd.DataFrame({"γ": [32.0], "angle": [180], "highest rate": [0.07]}),
        "tight_clouds": pd.DataFrame(
            {
                "trial": [0, 0, 1, 1],
                "rate": [0.0, 0.05] * 2,
                "risk": [0.0, 0.01, 0.0, 0.03],
                "relative kappa": 5000.0,
                "per label": 1000,
            }
        ),
        "vmf_by_behaviour": looks,
        "persona_noise": pd.DataFrame(
            {
                "behaviour": behaviours,
                "δ": np.arange(1.0, 13.0),
                "at ε = 0.2, raw": 0.5,
                "at ε = 0.2, centred": [0.5, *[0.88] * 11],
                "fall, raw": fall,
                "fall, centred": 0.05 + 1e-9 * np.arange(12.0, 0.0, -1.0),
                "foretold off, raw": 0.02,
                "foretold off, centred": np.linspace(0.01, 0.02, 12),
            }
        ),
        "persona_curves": pd.DataFrame(curves, columns=["behaviour", "rate"]).assign(
            **{"raw": 0.6, "centred": 0.7, "raw foretold": 0.57, "centred foretold": 0.7}
        ),
        "persona_correlations": pd.DataFrame(
            {
                "predictor": ["δ", "δ"],
                "outcome": ["fall, centred", "c, centred"],
                "correlation": [-0.5, 0.6],
                "low": [-0.7, 0.2],
                "high": [-0.1, 0.8],
                "n": 12,
            }
        ),
        "text_pilot": pd.DataFrame(
            {
                "setting": [1, 1, 4],
                "epoch": [1, 2, 1],
                "accuracy": [0.5, 0.55, 0.7],
                "low": [0.4, 0.45, 0.6],
                "high": [0.6, 0.65, 0.8],
                "tested": 100,
            }
        ),
        "text_pairs": pd.DataFrame(
            [(run, rate, 0.7 - 0.4 * rate, 600) for run in range(3) for rate in (0.0, 0.25, 0.5)],
            columns=["run", "rate", "accuracy", "trained"],
        ),
        # Of ten pairs 7, 6 and 5 are right, whichever the run.
        "text_margins": pd.DataFrame(
            [
                (run, rate, pair, 1.0 if (pair + run) % 10 < right else -1.0)
                for run in range(3)
                for rate, right in ((0.0, 7), (0.25, 6), (0.5, 5))
                for pair in range(10)
            ],
            columns=["run", "rate", "pair", "margin"],
        ),
    }


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """The tables, of which some are given."""

    def write(**given: pd.DataFrame) -> Tables:
        for name, table in {**small(), **given}.items():
            write_table(table.assign(seed=0), tmp_path / f"{name}.csv")
        return Tables(tmp_path)

    return write


def value(tables: Tables, name: str) -> float:
    return statistics.STATISTICS[name](tables).value


def test_every_statistic_of_the_chapter_is_asked_for_and_has_a_value(make: Make) -> None:
    asked = [
        statistic.function
        for claim in load_claims(home() / "book" / "claims.yml").values()
        if claim.chapter == "noise"
        for statistic in claim.statistics
    ]
    assert sorted(asked) == sorted(statistics.STATISTICS)
    tables = make()
    for name, statistic in statistics.STATISTICS.items():
        found = statistic(tables)
        assert found.low <= found.value <= found.high and found.n >= 3, name
    assert all(tell(tables) for tell in quoted.QUOTED.values())


def test_form_of_the_curve_that_made_the_points_is_left_with_nothing(make: Make) -> None:
    tables = make()
    assert abs(value(tables, "excess_short")) < 2e-3 and statistics.excess(tables, "stopping").n == TRIALS
    assert value(tables, "excess_less_line_short") < -1e-3
    straight = small()["map_runs"]
    names = [name for name in straight if name.replace(".", "", 1).isdigit()]
    straight[names] = (
        0.8 - 0.5 * np.array([float(name) for name in names]) + 1e-3 * straight[["trial"]].to_numpy()
    )
    assert value(make(map_runs=straight), "excess_less_line_long") > 1e-3


def test_excess_is_the_root_mean_square_over_settings_and_times(make: Make) -> None:
    tables = make()
    points = derived.on_map(tables, "DPO", "stopping")
    assert len(points) == 7 * 2 and {time for _, time, _ in points} == {0.005, 0.02}
    squares = []
    for _, _, curve in points:
        near = curve[[rate for rate in curve if rate <= 0.351]]
        squares.append(theory.excess_errors("quadratic", near.columns, 1 - near.to_numpy()))
    mine = np.mean(
        [
            theory.excess_errors("Equation 18", np.array([*n.columns]), 1 - n.to_numpy()).mean()
            for n in (c[[r for r in c if r <= 0.351]] for _, _, c in points)
        ]
    )
    expected = mine - np.mean(squares)
    found = statistics.excess(tables, "stopping", "quadratic").value
    assert found == pytest.approx(np.sign(expected) * np.sqrt(abs(expected)))


def test_a_curve_that_is_its_own_mirror_has_no_asymmetric_rate_and_one_that_is_shifted_has(
    make: Make,
) -> None:
    accuracies = small()["accuracies"]
    exact = make()
    assert value(exact, "asymmetric_rates") == 0
    assert statistics.asymmetric_rates(exact).n == 7 * 10
    assert value(exact, "asymmetry") == pytest.approx(0, abs=1e-9)
    wrong = accuracies["rate"].eq(0.1) & accuracies["setting"].eq("180°, γ = 1/8")
    shifted = accuracies.assign(accuracy=accuracies["accuracy"] + np.where(wrong, 0.2, 0))
    assert value(make(accuracies=shifted), "asymmetric_rates") == 1
    assert value(make(accuracies=shifted), "asymmetry") == pytest.approx(0.2 / 10)


def test_bulge_is_the_mean_over_the_chord() -> None:
    grid = np.linspace(0, 1, 101)
    assert quoted.bulge((1 - grid**2)[None])[0] == pytest.approx(2 / 3 - 1 / 2, abs=1e-4)


def test_neighbours_differ_in_one_thing_under_each_reading(make: Make) -> None:
    assert derived.chains(make(), "θ") == {
        "Concentration": ["60°, γ = 1/16", "60°, γ = 1/8", "60°, γ = 1/4"],
        "Angle": ["60°, γ = 1/8", "120°, γ = 1/8", "180°, γ = 1/8"],
    }
    assert derived.chains(make(), "2θ") == {
        "Concentration": ["120°, γ = 1/16", "120°, γ = 1/8", "120°, γ = 1/4"]
    }


def test_smallest_gain_and_largest_change_of_the_fall_by_hand(make: Make) -> None:
    near, at = HALF <= 0.351, np.flatnonzero(HALF == 0.2)[0]
    curves = [on_map(place, "DPO", 0.005)[2] for place in range(7)]
    steps = [(0, 1), (1, 2), (1, 4), (4, 6)]
    gains = [curves[b][near].mean() - curves[a][near].mean() for a, b in steps]
    assert value(make(), "smallest_gain_whole_short") == pytest.approx(min(gains))
    falls = [curve[0] - curve[at] for curve in curves]
    changes = [falls[b] - falls[a] for a, b in ((3, 4), (4, 5))]
    assert value(make(), "largest_change_of_fall_half_short") == pytest.approx(max(changes))


def test_ipo_is_compared_with_dpo_where_the_loss_has_fallen_alike(make: Make) -> None:
    tables = make()
    levels = statistics.at_equal_loss(tables, "60°, γ = 1/4", "IPO")
    falls = [fall for fall, _ in levels]
    # Both reach from 1e-5, where the first of IPO's is, to 0.6, where its last is.
    assert (
        falls[0] == pytest.approx(1e-5)
        and falls[-1] == pytest.approx(0.6)
        and len(levels) == statistics.LEVELS
    )
    near = HALF <= 0.351
    last = on_map(2, "IPO", 2000.0)[:, near].mean(axis=1)
    before, after = (on_map(2, "DPO", time)[:, near].mean(axis=1) for time in (5.0, 2000.0))
    part = (np.log(0.6) - np.log(0.01)) / (np.log(0.7) - np.log(0.01))
    np.testing.assert_allclose(levels[-1][1], last - (before + part * (after - before)))
    most = max(
        abs(apart.mean()) for name in SETTINGS for _, apart in statistics.at_equal_loss(tables, name, "IPO")
    )
    assert value(tables, "ipo_less_dpo") == pytest.approx(most)


def test_states_by_behaviour(make: Make) -> None:
    tables, looks = make(), small()["vmf_by_behaviour"]
    assert value(tables, "spread_of_norm") == pytest.approx(0.007)
    assert value(tables, "cosine_to_mean") == pytest.approx(0.993)
    for state in ("statement", "question"):
        median = looks[looks["state"] == state]["ratio"].median()
        assert value(tables, f"variance_ratio_{state}") == pytest.approx(median)


def test_families_are_resampled_whole(make: Make) -> None:
    assert family("desire-to-win") == family("desire-for-x") == "desire"
    assert family("a-HHH-b") == "HHH" and family("openness") == "openness"
    # Fifteen behaviours of one family that agree are one piece of evidence, not fifteen.
    table = pd.concat([small()["persona_noise"]] * 3, ignore_index=True)
    named = table.assign(behaviour=["desire-x"] * 15 + [f"b{place}" for place in range(21)])
    apart = named.assign(**{"fall, raw": [0.3] * 15 + [0.05] * 21})
    alone = apart.assign(behaviour=[f"b{place}" for place in range(34)] + ["desire-x", "desire-y"])
    wide, narrow = (
        statistics.cost_of_the_shared_direction(make(persona_noise=part)) for part in (apart, alone)
    )
    assert wide.value == narrow.value and wide.high - wide.low > 1.3 * (narrow.high - narrow.low)


def test_cost_and_gain_of_centring_by_hand(make: Make) -> None:
    tables = make()
    fall = np.linspace(0.2, 0.31, 12)
    assert value(tables, "cost_of_the_shared_direction") == pytest.approx((fall - 0.05).mean(), abs=1e-8)
    assert value(tables, "gain_of_centring") == pytest.approx(0.38 * 11 / 12)
    assert value(tables, "foretold_off_centred") == pytest.approx(0.015)


def test_text_statistics_count_pairs_and_runs(make: Make) -> None:
    tables = make()
    assert value(tables, "text_clean") == pytest.approx(0.7)
    assert value(tables, "text_slope") == pytest.approx(-0.4)
    assert value(tables, "text_bulge") == pytest.approx(0, abs=1e-12)
    assert statistics.text_bulge_share(tables).value == pytest.approx(0, abs=1e-12)
    assert statistics.text_slope(tables).n == 10
    # More pairs that are alike in all runs are wider than pairs that differ between runs would be.
    clean = statistics.text_clean(tables)
    assert clean.low < 0.6 < 0.8 < clean.high
    empty = make(text_margins=small()["text_margins"].head(0))
    assert np.isnan(statistics.text_slope(empty).value) and statistics.text_slope(empty).n == 0


def test_ridge_law_is_the_theorys_at_the_maps_steps(make: Make) -> None:
    law = derived.ridge_law(make(), "60°, γ = 1/4", 2000.0)
    assert law == theory.ridge_law(512, 64.0, np.radians(60), 2000, 20.0, 100)
    early = derived.ridge_law(make(), "60°, γ = 1/4", 0.005)
    assert early == theory.ridge_law(512, 64.0, np.radians(60), 2000, 0.005 / EPOCHS, EPOCHS)


def test_law_is_compared_at_every_noise_rate_and_apart_at_small_ones(make: Make) -> None:
    """Accuracies that are the law's, but for 0.07 at one half and 0.02 at a rate of 0.1, of one setting."""
    tables = make()
    table = tables["accuracies"]
    for setting in SETTINGS:
        law = dict(zip(RATES.round(6), derived.first_step_law(tables, setting, RATES), strict=True))
        own = table["setting"] == setting
        table.loc[own, "accuracy"] = table[own]["rate"].round(6).map(law)
    first = table["setting"] == "60°, γ = 1/4"
    table.loc[first & np.isclose(table["rate"], 0.5), "accuracy"] += 0.07
    table.loc[first & np.isclose(table["rate"], 0.1), "accuracy"] -= 0.02
    off = make(accuracies=table)
    told = [quoted.QUOTED[key](off) for key in ("nz-law-off", "nz-law-off-near")]
    assert told == ["7.0", "2.0"]


def test_law_is_the_theorys_at_the_settings_of_the_table(make: Make) -> None:
    got = derived.first_step_law(make(), "120°, γ = 1/8", RATES)
    np.testing.assert_allclose(got, theory.first_step_accuracy(RATES, 512, 32.0, np.radians(120), 2000))


def test_best_length_is_the_time_with_the_best_mean(make: Make) -> None:
    best = derived.best_length(make(), "coin", "DPO")
    assert best["time"].eq(5.0).all() and best["rate"].tolist() == [0.0, 0.2, 0.3]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("nz-allowed", "DPO 0.174, IPO 0.004"),
        ("nz-short", "0.005"),
        ("nz-long", "200"),
        ("nz-within", "1 of 2"),
        ("nz-clean", "0.760"),
        ("nz-loss-first", "0%"),
        ("nz-loss-last", "70%"),
        ("nz-best-dpo", "0.005"),
        ("nz-left-ipo-end", "2.00"),
        ("nz-line-ipo-end", "1.00"),
        ("nz-quadratic", "21 of 28"),
        ("nz-apart-short", "0.40"),
        ("nz-apart-long", "13.00"),
        ("nz-one-sided", "−0.1 [−0.105, −0.095]"),
        ("nz-robust", "2.00"),
        ("nz-sharp-rate", "0.07"),
        ("nz-tight-risk", "0.03"),
        ("nz-tight-rates", "2 noise rates up to 0.05"),
        ("nz-four", "11 of 12"),
        ("nz-angle", "5°"),
        ("nz-widest", "25%"),
        ("nz-even", "2.0%"),
        ("nz-raw-fifth", "0.60"),
        ("nz-delta-fall", "−1 [−1, −1]"),
        ("nz-delta-fall-raw", "1 [1, 1]"),
        ("nz-law-low", "0.03 [0.03, 0.03]"),
        ("nz-off-raw", "0 of 12"),
        ("nz-clean-limit", "238"),
        ("nz-clean-limit-8", "461"),
        ("nz-text-trained", "600"),
        ("nz-text-rates", "3"),
        ("nz-text-runs", "3"),
        ("nz-cdpo-late", "+2.0"),
        ("nz-rdpo-late", "+0.0"),
        ("nz-left-dpo-end-rest", "2.00"),
        ("nz-line-dpo-end-worst", "1.00"),
        ("nz-pilot-best", "0.7 [0.6, 0.8]"),
    ],
)
def test_what_the_text_quotes(make: Make, key: str, said: str) -> None:
    assert quoted.QUOTED[key](make()) == said


def test_rivals_of_the_law_of_states_by_hand(make: Make) -> None:
    tables = (
        make()
    )  # at six rates: raw curves of 0.6, centred ones of 0.7, and at rate 0 a law of 0.57 and 0.7
    coin, line = (float(quoted.QUOTED[key](tables).split()[0]) for key in ("nz-coin-off", "nz-line-off"))
    assert coin == pytest.approx(np.sqrt((0.03**2 + 5 * 0.1**2) / 6), rel=5e-3)
    falls = 0.2 * np.linspace(0, 1, 6)  # from 0.7 to one half
    assert line == pytest.approx(np.sqrt((falls**2).mean()), rel=5e-3)


def test_changes_over_angles_are_of_the_angle_alone(make: Make) -> None:
    tables = make()
    found = statistics.changes_of_fall(tables, "θ", "stopping", "Angle")
    every = list(statistics._steps(tables, "θ", "stopping", statistics._fall))
    concentrations = statistics.changes_of_fall(tables, "θ", "stopping", "Concentration")
    assert len(every) == 4 and (concentrations, found) == (every[:2], every[2:])
    assert quoted.QUOTED["nz-falls-over-angles"](tables) == " and ".join(map(str, found))


def test_behaviours_far_off_are_counted_by_the_ledgers_own_bound(make: Make) -> None:
    (bound,) = {
        statistic.criterion.bound
        for statistic in load_claims(home() / "book" / "claims.yml")["NZ-8"].statistics
    }
    assert bound == quoted.FORETOLD_OFF
    table = small()["persona_noise"]
    table.loc[[1, 4], "foretold off, centred"] = [0.029, 0.031]
    assert quoted.QUOTED["nz-off-centred"](make(persona_noise=table)) == "1 of 12"


def test_what_the_papers_cosine_would_fix(make: Make) -> None:
    kappa = vmf.concentration(4096, 0.9876)
    assert float(quoted.QUOTED["nz-paper-gamma"](make())) == pytest.approx(2 * kappa / 4096, abs=0.5)
    small_law = quoted.straightness_of_effective_noise(make(), 0.3)
    assert 0 <= small_law < quoted.straightness_of_effective_noise(make(), 0.0)


def test_without_a_pilot_there_is_no_best(make: Make) -> None:
    assert quoted.QUOTED["nz-pilot-best"](make(text_pilot=small()["text_pilot"].head(0))) == "none"


def test_a_missing_table_is_named(make: Make) -> None:
    tables = make()
    (tables.folder / "text_margins.csv").unlink()
    with pytest.raises(PrefdynError, match="text_margins"):
        statistics.text_slope(Tables(tables.folder))


def test_no_torch_is_needed() -> None:
    code = "import sys, prefbook.ledger.quoted, prefbook.ledger.statistics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
