"""Wrong labels on two clouds: what tables hold is what a reader would compute by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_chapters import NOISE as SMALL

from prefdyn.engine import losses
from prefdyn.experiments import noise, noise_clouds, noisy
from prefdyn.experiments.bench import Bench
from prefdyn.measures import estimates
from prefdyn.theory import noise as theory


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Bench("smoke", device="cpu", precision="float32")


@pytest.fixture(scope="module")
def controlled(bench: Bench) -> dict[str, pd.DataFrame]:
    return noise_clouds.controlled(bench, SMALL)


# Two clouds -----------------------------------------------------------------------------------------


def test_every_trial_is_in_the_table(controlled: dict[str, pd.DataFrame]) -> None:
    table = controlled["accuracies"]
    assert len(table) == 7 * 4 * 21
    ends = table.pivot_table(index=["setting", "trial"], columns="rate", values="accuracy")
    np.testing.assert_allclose(ends[0.0] + ends[1.0], 1)  # all labels wrong: the same, turned round


def test_a_setting_is_the_library_run_with_its_number(controlled: dict[str, pd.DataFrame]) -> None:
    cloud, rates = noise.clouds(16)["180°, γ = 1/8"], np.round(np.arange(0, 1.01, 0.05), 6)
    short = {"short": noise.descents(SMALL)["short"]}
    alone = noisy.controlled(cloud, {"DPO": losses.dpo()}, short, rates, 30, 4, (0, 6))
    part = controlled["accuracies"].query("setting == '180°, γ = 1/8'")
    np.testing.assert_allclose(part["accuracy"], alone["accuracy"])


def test_settings_are_both_readings_of_the_paper() -> None:
    clouds = noise.clouds(512)
    at = {(round(np.degrees(cloud.angle)), round(1 / cloud.relative_kappa)) for cloud in clouds.values()}
    theta = {(60, 16), (60, 8), (60, 4), (120, 8), (180, 8)}
    twice = {(120, 16), (120, 8), (120, 4)}  # and 240 and 360 degrees, which are 120 and none
    assert at == theta | twice and len(clouds) == 7
    assert clouds["60°, γ = 1/4"].kappa == pytest.approx(512 / 8)


def test_means_differences_and_fits_are_of_those_trials(controlled: dict[str, pd.DataFrame]) -> None:
    means = controlled["accuracies"].groupby(["setting", "rate"])["accuracy"]
    curves = (
        controlled["curves"].query("training == 'short' and loss == 'DPO'").set_index(["setting", "rate"])
    )
    assert len(controlled["curves"]) == 7 * 2 * 5 * 21
    for place, sample in means:
        mean = estimates.mean(sample)
        assert tuple(curves.loc[place, ["accuracy", "low", "high"]]) == pytest.approx(
            (mean.value, mean.low, mean.high)
        )
    apart = controlled["differences"]
    assert set(apart["loss"]) == {"IPO", "SLiC", "cDPO", "rDPO"} and len(apart) == 7 * 2 * 4 * 21
    where = "training == 'long' and setting == @noise_clouds.REFERENCE and loss == 'IPO'"
    part = apart.query(where).set_index("rate")
    both = controlled["curves"].query("training == 'long' and setting == @noise_clouds.REFERENCE")
    wide = both.pivot(index="rate", columns="loss", values="accuracy")
    np.testing.assert_allclose(part["difference"], wide["IPO"] - wide["DPO"], atol=1e-12)
    assert (part["most"] >= part["difference"].abs() - 1e-12).all()
    runs = controlled["accuracies"].query("setting == '60°, γ = 1/4' and rate < 0.36")
    runs = runs.pivot(index="trial", columns="rate", values="accuracy")
    fit = theory.bootstrap_fit(runs.columns, 1 - runs, seed=0, resamples=400)
    fits = controlled["equation_18"]
    assert len(fits) == 7 * 2 * 5
    row = fits.query("setting == '60°, γ = 1/4' and loss == 'DPO' and training == 'short'").iloc[0]
    for column, estimate in (("c", fit.c), ("R²", fit.r_squared), ("R", fit.clean)):
        assert (row[column], row[f"{column} low"], row[f"{column} high"]) == pytest.approx(
            (estimate.value, estimate.low, estimate.high)
        )


# The map --------------------------------------------------------------------------------------------


def test_map_is_the_library_run_and_its_fits_are_of_its_runs(bench: Bench) -> None:
    tables = noise_clouds.phase_map(bench, SMALL)
    runs, fits = tables["map_runs"], tables["map_fits"]
    assert len(runs) == 7 * 3 * 4 * 4 and len(fits) == 7 * 3 * 4
    times = noise.times(SMALL)
    first, *_, last = times
    assert (first, last) == (noise.FIRST, noise.LAST)
    for time, descent in times.items():
        assert descent.time * SMALL.beta**2 == pytest.approx(time, rel=0.01)
        assert descent.learning_rate * SMALL.beta**2 <= noise.LARGEST_STEP * 1.01
    names = [name for name in runs.columns if name.replace(".", "", 1).isdigit()]
    part = runs.query("setting == '120°, γ = 1/8' and loss == 'DPO' and time == @first")[names]
    row = fits.query("setting == '120°, γ = 1/8' and loss == 'DPO' and time == @first").iloc[0]
    assert row["clean"] == pytest.approx(part["0"].mean())
    assert row["fall"] == pytest.approx((part["0"] - part["0.2"]).mean())
    near = [name for name in names if float(name) <= 0.3501]
    rates = np.array([float(name) for name in near])
    square = theory.excess_errors("straight line", rates, 1 - part[near].to_numpy()).mean()
    assert row["excess: straight line"] == pytest.approx(np.sign(square) * np.sqrt(abs(square)))
    assert row["region"] == "stopping" and set(fits["region"]) == {"stopping", "between", "long"}


@pytest.mark.parametrize(("loss", "curvature"), [("DPO", 1 / 4), ("IPO", 2.0), ("SLiC", 1 / 2)])
def test_a_region_ends_at_the_stopping_time_of_its_loss(loss: str, curvature: float) -> None:
    limit = np.sin(np.pi / 18) / (4 * curvature)
    assert noise_clouds.region(loss, np.pi / 3, 0.999 * limit) == "stopping"
    assert noise_clouds.region(loss, np.pi / 3, 1.001 * limit) == "between"
    assert noise_clouds.region(loss, np.pi / 3, noise_clouds.LONG) == "long"


def test_kinds_of_noise_gain_over_a_coin_on_the_same_points(bench: Bench) -> None:
    table = noise_clouds.kinds_of_noise(bench, SMALL)
    assert len(table) == 4 * 5 * 4 * 5
    coin = table.query("kind == 'coin' and loss == 'DPO'")
    assert (coin["gain"] == 0).all()
    other = table.query("kind == 'by margin' and loss == 'DPO'")
    gap = other["accuracy"].to_numpy() - coin["accuracy"].to_numpy()
    np.testing.assert_allclose(other["gain"], gap, atol=1e-12)


def test_settings_say_what_was_drawn_and_stopping_what_is_allowed(
    controlled: dict[str, pd.DataFrame],
) -> None:
    table = controlled["settings"].set_index("setting")
    assert table.loc["120°, γ = 1/8", ["relative kappa", "angle", "dimension", "per label"]].tolist() == (
        pytest.approx([1 / 8, 2 * np.pi / 3, 16, 30])
    )
    readings = table["reading"].to_dict()
    assert readings["120°, γ = 1/8"] == "both" and readings["120°, γ = 1/4"] == "2θ"
    assert [name for name, word in readings.items() if word == "θ"] == [
        "60°, γ = 1/16",
        "60°, γ = 1/8",
        "60°, γ = 1/4",
        "180°, γ = 1/8",
    ]
    stopping = controlled["stopping"].set_index("loss")
    assert stopping.loc["IPO", "allowed"] == pytest.approx(np.sin(np.pi / 18) / (4 * 2))
    assert stopping["short"].eq(3 * 0.05 * SMALL.beta**2).all()


def test_a_second_run_draws_nothing_and_another_seed_does(
    bench: Bench, controlled: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    original = noisy.Cloud.draw

    def draw(self: noisy.Cloud, *arguments: object) -> object:
        drawn.append(self)
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(noisy.Cloud, "draw", draw)
    again = noise_clouds.controlled(bench, SMALL)
    assert not drawn
    for name, table in controlled.items():
        pd.testing.assert_frame_equal(again[name], table)
    other = noise_clouds.controlled(bench.seeded(1), SMALL)
    assert len(drawn) == 7 * 4 * 2 and not other["accuracies"].equals(controlled["accuracies"])
    drawn.clear()
    noise_clouds.controlled(bench, replace(SMALL, trials=3))
    assert len(drawn) == 7 * 3 * 2
