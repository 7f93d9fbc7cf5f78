"""Statistics of chapter 3's claims, from tables small enough to count by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prefbook.ledger.claims import load_claims
from prefbook.ledger.statistics import noise
from prefbook.ledger.tables import Tables
from prefbook.project import home
from prefdyn.errors import PrefdynError
from prefdyn.measures import estimates
from prefdyn.theory import noise as theory
from prefdyn.theory import vmf

RATES = np.round(np.arange(0, 1.01, 0.05), 6)
SETTINGS = {
    "γ = 1/16": (1 / 16, 1.0472),
    "γ = 1/8": (1 / 8, 1.0472),
    "γ = 1/4": (1 / 4, 1.0472),
    "angle 2π/3": (1 / 8, 2.0944),
    "angle π": (1 / 8, 3.14159),
}
TRIALS = 5
Make = Callable[..., Tables]


def runs(clean: float, c: float, wiggle: float = 0.0) -> np.ndarray:
    """Accuracies that follow Equation 18 up to one half and are its mirror beyond, shape (trials, rates)."""
    below = 1 - clean / (1 - c * np.minimum(RATES, 1 - RATES)) ** 2
    curve = np.where(RATES < 0.49, below, 1 - below)
    curve[np.isclose(RATES, 0.5)] = 0.5
    return curve + wiggle * np.arange(-2, 3)[:, None]


def small() -> dict[str, pd.DataFrame]:
    """What the chapter's experiments would leave."""
    rng = np.random.default_rng(1)
    table = {
        (setting, loss): runs(0.3 - 0.05 * place, 0.4, 0.01)
        for place, setting in enumerate(SETTINGS)
        for loss in ("DPO", "IPO")
    }
    long = [
        (setting, loss, trial, rate, accuracy)
        for (setting, loss), values in table.items()
        for trial, row in enumerate(values)
        for rate, accuracy in zip(RATES, row, strict=True)
    ]
    fits = pd.DataFrame(
        [
            (
                setting,
                loss,
                0.3,
                0.3,
                0.5 + place,
                0.9 - 0.1 * place,
                0.8 - 0.1 * place,
                0.95,
                0.01,
                0.0,
                0.02,
            )
            for place, setting in enumerate(SETTINGS)
            for loss in ("DPO", "IPO")
        ],
        columns=[
            *("setting", "loss", "clean risk", "R", "c", "R²", "R² low", "R² high"),
            *("largest residual", "largest residual low", "largest residual high"),
        ],
    )
    fits.loc[0, "largest residual high"] = 0.5
    fits.loc[2, "R"] = 0.31
    behaviours = [f"b{place}" for place in range(12)]
    ratios = rng.uniform(10, 90, 12)
    curves = [(name, rate) for name in behaviours for rate in np.arange(0, 0.51, 0.1).round(6)]
    return {
        "settings": pd.DataFrame(
            [(name, *values, 64, 100, TRIALS) for name, values in SETTINGS.items()],
            columns=["setting", "relative kappa", "angle", "dimension", "per label", "trials"],
        ),
        "stopping": pd.DataFrame(
            {"loss": ["DPO", "IPO"], "allowed": [17.36, 0.4], "short": 0.5, "long": 20000.0}
        ),
        "accuracies": pd.DataFrame(long, columns=["setting", "loss", "trial", "rate", "accuracy"]),
        "equation_18": fits,
        "losses": pd.DataFrame(
            {
                "training": ["short", "short", "long", "long"],
                "loss": ["DPO", "IPO"] * 2,
                "ε = 0.2": [0.8, 0.802, 0.8, 0.7],
                "largest difference from DPO": [0.0, 0.004, 0.0, 0.13],
            }
        ),
        "tight_clouds": pd.DataFrame(
            {
                "trial": [0, 0, 1, 1],
                "rate": [0.0, 0.05] * 2,
                "risk": [0.0, 0.01, 0.0, 0.03],
                "relative kappa": 5000.0,
                "per label": 1000,
            }
        ),
        "vmf_by_behaviour": pd.DataFrame(
            {
                "behaviour": behaviours,
                "spread of the norm": np.linspace(0.006, 0.008, 12),
                "cosine": np.linspace(0.99, 0.996, 12),
                "γ": [3.0, *[200.0] * 11],
                "ratio": ratios,
                "angle (°)": np.linspace(1, 9, 12),
                "widest share": 0.25,
                "dimension": 50,
            }
        ),
        "persona_noise": pd.DataFrame(
            {
                "behaviour": behaviours,
                "δ": np.linspace(1, 5, 12),
                "accuracy, raw": [0.4, 0.45, *[0.8] * 10],
                "at ε = 0.2, raw": 0.5,
                "accuracy, centred": [0.5, *[0.9] * 11],
                "at ε = 0.2, centred": [0.5, *[0.88] * 11],
            }
        ),
        "persona_curves": pd.DataFrame(curves, columns=["behaviour", "rate"]).assign(raw=0.6, centred=0.7),
        "persona_correlations": pd.DataFrame(
            {
                "predictor": ["δ", "δ"],
                "outcome": ["at ε = 0.2, raw", "at ε = 0.2, centred"],
                "correlation": [0.5, 0.6],
                "low": [0.1, 0.2],
                "high": [0.7, 0.8],
                "n": 12,
            }
        ),
        "text_pairs": pd.DataFrame(
            [(run, rate, 0.7 - 0.4 * rate + 0.02 * run) for run in range(3) for rate in (0.0, 0.25, 0.5)],
            columns=["run", "rate", "accuracy"],
        ).assign(trained=12, tested=16),
    }


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """The tables, of which some are given."""

    def write(**given: pd.DataFrame) -> Tables:
        for name, table in {**small(), **given}.items():
            table.assign(seed=0).to_csv(tmp_path / f"{name}.csv", index=False)
        return Tables(tmp_path)

    return write


def value(tables: Tables, name: str) -> float:
    return noise.STATISTICS[name](tables).value


def test_every_statistic_of_the_chapter_is_asked_for_and_has_a_value(make: Make) -> None:
    asked = [
        statistic.function
        for claim in load_claims(home() / "book" / "claims.yml").values()
        if claim.chapter == "noise"
        for statistic in claim.statistics
    ]
    assert sorted(asked) == sorted(noise.STATISTICS)
    tables = make()
    for name, statistic in noise.STATISTICS.items():
        found = statistic(tables)
        assert found.low <= found.value <= found.high and found.n >= 3, name
    assert all(tell(tables) for tell in noise.QUOTED.values())


def test_worst_setting_is_the_one_whose_interval_reaches_furthest(make: Make) -> None:
    tables = make()
    assert noise.lowest_r_squared(tables, "DPO") == estimates.Estimate(0.5, 0.4, 0.95, TRIALS)
    assert noise.largest_residual(tables, "DPO").high == 0.5
    assert noise.largest_residual(tables, "IPO").high == 0.02


def test_equation_18_beats_a_line_on_its_own_curve_and_the_error_is_of_all_trials(make: Make) -> None:
    tables = make()
    line = noise.STATISTICS["error_less_line_ipo"](tables)
    assert line.value < 0 and line.n == 5 * TRIALS
    near = RATES <= 0.35 + 1e-9
    risks = 1 - runs(0.3, 0.4, 0.01)[:, near]
    by_hand = [
        theory.held_out_errors(model, RATES[near], risks, RATES[near], risks)
        for model in ("Equation 18", "straight line")
    ]
    only = {"γ = 1/16": small()["accuracies"].query("setting == 'γ = 1/16'")}
    alone = make(accuracies=only["γ = 1/16"], settings=small()["settings"].head(1))
    assert noise.error_less_rival(alone, "DPO", "straight line").value == pytest.approx(
        (by_hand[0] - by_hand[1]).mean()
    )


def test_a_curve_that_is_its_own_mirror_has_no_asymmetric_rate_and_one_that_is_shifted_has(
    make: Make,
) -> None:
    accuracies = small()["accuracies"]
    exact = make()
    assert value(exact, "asymmetric_rates") == 0
    assert noise.asymmetric_rates(exact).n == 5 * 10
    wrong = accuracies["rate"].eq(0.1) & accuracies["setting"].eq("angle π") & accuracies["loss"].eq("DPO")
    shifted = accuracies.assign(accuracy=accuracies["accuracy"] + np.where(wrong, 0.2, 0))
    assert value(make(accuracies=shifted), "asymmetric_rates") == 1


def test_bulge_is_the_mean_over_the_chord(make: Make) -> None:
    grid = np.linspace(0, 1, 101)
    assert noise.bulge((1 - grid**2)[None])[0] == pytest.approx(2 / 3 - 1 / 2, abs=1e-4)
    tables = make()
    assert value(tables, "bulge_below_half") == pytest.approx(-value(tables, "bulge_above_half"))
    assert value(tables, "bulge_below_half") > 0


def test_neighbours_differ_in_one_thing(make: Make) -> None:
    assert noise.chains(make()) == {
        "Concentration": ["γ = 1/16", "γ = 1/8", "γ = 1/4"],
        "Angle": ["γ = 1/8", "angle 2π/3", "angle π"],
    }


def test_smallest_gain_and_largest_change_of_the_fall_by_hand(make: Make) -> None:
    near = RATES <= 0.35 + 1e-9
    means = [runs(0.3 - 0.05 * place, 0.4)[0, near].mean() for place in range(5)]
    gains = [means[b] - means[a] for a, b in ((0, 1), (1, 2), (1, 3), (3, 4))]
    assert value(make(), "smallest_gain_dpo") == pytest.approx(min(gains))
    at = np.flatnonzero(RATES == 0.2)[0]
    falls = [(row := runs(0.3 - 0.05 * place, 0.4)[0])[0] - row[at] for place in range(5)]
    changes = [falls[b] - falls[a] for a, b in ((0, 1), (1, 2), (1, 3), (3, 4))]
    assert value(make(), "largest_change_of_fall_ipo") == pytest.approx(max(changes))


def test_states_by_behaviour(make: Make) -> None:
    tables, looks = make(), small()["vmf_by_behaviour"]
    assert value(tables, "spread_of_norm") == pytest.approx(0.007)
    assert value(tables, "cosine_to_mean") == pytest.approx(0.993)
    assert noise.variance_ratio(tables).value == pytest.approx(np.median(looks["ratio"]))


def test_text_slope_and_rival(make: Make) -> None:
    tables = make()
    assert value(tables, "text_slope") == pytest.approx(-0.4)
    assert noise.text_slope(tables).n == 3
    assert value(tables, "text_line_less_equation_18") < 0, "the runs are straight lines"


def test_law_is_the_theorys_at_the_settings_of_the_table(make: Make) -> None:
    got = noise.first_step_law(make(), "angle 2π/3", RATES)
    np.testing.assert_allclose(got, theory.first_step_accuracy(RATES, 64, 4.0, 2.0944, 200))


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("nz-allowed", "DPO 17.4, IPO 0.4"),
        ("nz-short", "0.5"),
        ("nz-long", "20,000"),
        ("nz-within", "1 of 2"),
        ("nz-clean", "0.800"),
        ("nz-edge", "1 of 5"),
        ("nz-rising-c", "4 of 4"),
        ("nz-apart-short", "0.40"),
        ("nz-apart-long", "13.00"),
        ("nz-spread-short", "0.20"),
        ("nz-spread-long", "10.00"),
        ("nz-tight-risk", "0.03"),
        ("nz-tight-rates", "2 noise rates up to 0.05"),
        ("nz-four", "11 of 12"),
        ("nz-angle", "5°"),
        ("nz-widest", "25%"),
        ("nz-even", "2.0%"),
        ("nz-raw-tenth", "0.60"),
        ("nz-lost-raw-above", "0.300 (n = 10)"),
        ("nz-lost-centred-above", "0.020 (n = 11)"),
        ("nz-delta-raw", "0.5 [0.1, 0.7]"),
        ("nz-text-runs", "3"),
        ("nz-text-clean", "0.72"),
    ],
)
def test_what_the_text_quotes(make: Make, key: str, said: str) -> None:
    assert noise.QUOTED[key](make()) == said


def test_what_the_papers_cosine_would_fix(make: Make) -> None:
    kappa = vmf.concentration(4096, 0.9876)
    assert float(noise.QUOTED["nz-paper-gamma"](make())) == pytest.approx(2 * kappa / 4096, abs=0.5)
    small_law = noise.straightness_of_effective_noise(make(), 0.3)
    assert 0 <= small_law < noise.straightness_of_effective_noise(make(), 0.0)


def test_nothing_starts_above_one_half(make: Make) -> None:
    table = small()["persona_noise"].assign(**{"accuracy, raw": 0.4})
    assert noise.QUOTED["nz-raw-clean"](make(persona_noise=table)) == "none"
    assert noise.QUOTED["nz-lost-raw-above"](make(persona_noise=table)) == "none"


def test_a_missing_table_is_named(make: Make) -> None:
    tables = make()
    (tables.folder / "text_pairs.csv").unlink()
    with pytest.raises(PrefdynError, match="text_pairs"):
        noise.text_slope(Tables(tables.folder))


def test_no_torch_is_needed() -> None:
    code = "import sys, prefbook.ledger.statistics.noise; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
