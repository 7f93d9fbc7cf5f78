"""The experiments of chapter 3 on the tiny model, against what a reader would compute by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_chapters import NOISE as SMALL

from prefdyn import data
from prefdyn.engine import losses, states
from prefdyn.errors import PrefdynError
from prefdyn.experiments import noise, noisy
from prefdyn.experiments.bench import Bench
from prefdyn.measures import estimates, geometry
from prefdyn.theory import noise as theory


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Bench("smoke", device="cpu", precision="float32")


@pytest.fixture(scope="module")
def controlled(bench: Bench) -> dict[str, pd.DataFrame]:
    return noise.controlled(bench, SMALL)


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
    where = "training == 'long' and setting == @noise.REFERENCE and loss == 'IPO'"
    part = apart.query(where).set_index("rate")
    both = controlled["curves"].query("training == 'long' and setting == @noise.REFERENCE")
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
    tables = noise.phase_map(bench, SMALL)
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
    assert noise.region(loss, np.pi / 3, 0.999 * limit) == "stopping"
    assert noise.region(loss, np.pi / 3, 1.001 * limit) == "between"
    assert noise.region(loss, np.pi / 3, noise.LONG) == "long"


def test_kinds_of_noise_gain_over_a_coin_on_the_same_points(bench: Bench) -> None:
    table = noise.kinds_of_noise(bench, SMALL)
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
    again = noise.controlled(bench, SMALL)
    assert not drawn
    for name, table in controlled.items():
        pd.testing.assert_frame_equal(again[name], table)
    other = noise.controlled(bench.seeded(1), SMALL)
    assert len(drawn) == 7 * 4 * 2 and not other["accuracies"].equals(controlled["accuracies"])
    drawn.clear()
    noise.controlled(bench, replace(SMALL, trials=3))
    assert len(drawn) == 7 * 3 * 2


# Where the theorem says something -------------------------------------------------------------------


def test_regime_is_where_the_bound_crosses_one(bench: Bench) -> None:
    table = noise.regime(bench, replace(SMALL, per_label=10**6))
    row = table.iloc[0]
    assert row["angle"] == "180°" and len(table) == 12
    for k in (8, 4):
        kappa = row[f"γ for k = {k}, hoeffding"]
        for factor, below in ((1.01, True), (0.99, False)):
            got = theory.bound(0.0, kappa * factor, np.pi, 2 * 10**6, k, "hoeffding")
            assert bool(got.risk < 1) is below


def test_sharp_regime_is_the_theorems(bench: Bench) -> None:
    table = noise.sharp_regime(bench, replace(SMALL, dimension=64, per_label=1000))
    row = table.query("γ == 32 and angle == 180 and ε == 0").iloc[0]
    assert row["bound"] == theory.sharp_bound(0.0, 64, 32 * 32, np.pi, 2000).risk < 0.5
    highest = row["highest rate"]
    assert theory.sharp_bound(highest, 64, 32 * 32, np.pi, 2000).risk < 0.5
    assert not theory.sharp_bound(highest + 0.01, 64, 32 * 32, np.pi, 2000).risk < 0.5


def test_tight_clouds_are_trained_to_the_end_of_the_stopping_time(bench: Bench) -> None:
    table = noise.tight_clouds(bench, SMALL)
    assert len(table) == 4 * 12 and table["rate"].max() >= 0.05
    assert table["risk"].between(0, 1).all() and table["risk"].mean() < 0.05
    assert table["relative kappa"].eq(noise.TIGHT).all() and table["per label"].eq(30).all()


# Hidden states --------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["statement", "question"])
def test_table_2_and_the_shapes_are_those_of_the_states(bench: Bench, state: str) -> None:
    tables = noise.vmf(bench, SMALL)
    looks = tables["vmf_by_behaviour"].query("state == @state")
    cast = noise._cast(bench, SMALL)
    every = [
        bench.features(p) if state == "question" else states.hidden_states(bench.lm, p.statements)
        for p in cast
    ]
    persona, g = cast[1], every[1].astype(float)
    row = looks.set_index("behaviour").loc[persona.name]
    kinds = [g[persona.labels == sign] for sign in (1, -1)]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in kinds]
    cosines = [x @ (m := x.mean(axis=0)) / np.linalg.norm(m) for x in unit]
    assert row["cosine"] == pytest.approx(np.mean([t.mean() for t in cosines]), rel=1e-5)
    assert row["variance of the cosine"] == pytest.approx(np.mean([t.var(ddof=1) for t in cosines]), rel=1e-4)
    assert row["ratio"] == pytest.approx(row["variance of the cosine"] / row["that of a vMF"])
    means = [x.mean(axis=0) for x in kinds]
    assert np.cos(np.radians(row["angle (°)"])) == pytest.approx(geometry.cosine(*means))
    assert 1 / row["dimension"] < row["widest share"] <= 1 and row["dimension"] == g.shape[1]
    ours = tables["vmf"].query("model == 'smoke' and state == @state").iloc[0]
    assert ours["average cosine"] == pytest.approx(looks["cosine"].mean())
    assert ours["cosine variance over behaviours"] == pytest.approx(looks["cosine"].var(ddof=0))
    lengths = [np.linalg.norm(part, axis=1) for part in every]
    assert ours["average norm"] == pytest.approx(np.concatenate(lengths).mean())


def test_statements_are_drawn_by_the_seed(bench: Bench) -> None:
    first, other = (noise._cast(bench.seeded(seed), SMALL)[0] for seed in (0, 1))
    assert set(first.statements) != set(other.statements)
    assert (first.labels > 0).sum() == (first.labels < 0).sum() == 8


def test_curves_of_a_behaviour_are_the_library_run_on_its_states(bench: Bench) -> None:
    tables = noise.persona_noise(bench, SMALL)
    cast = noise._cast(bench, SMALL)
    every = [bench.features(persona) for persona in cast]
    shared = np.concatenate(every).mean(axis=0)
    scale = np.linalg.norm(np.concatenate(every), axis=1).mean()
    short = noise.descents(SMALL)["short"]
    summary = tables["persona_noise"].set_index("behaviour")
    for word, centre in (("raw", 0), ("centred", shared)):
        alone = noisy.resplit(
            (every[2] - centre) / scale, cast[2].labels, losses.dpo(), short, noise.PERSONA_RATES, 3
        )
        part = tables["persona_curves"].query(f"behaviour == '{cast[2].name}'")
        np.testing.assert_allclose(part[word], alone.groupby("rate")["accuracy"].mean(), atol=1e-5)
        law = theory.accuracy_of_states((every[2] - centre) / scale, cast[2].labels, noise.PERSONA_RATES, 4)
        np.testing.assert_allclose(part[f"{word} foretold"], law, atol=1e-5)
        assert summary.loc[cast[2].name, f"at ε = 0.2, {word}"] == pytest.approx(
            part.set_index("rate").loc[0.2, word], abs=1e-5
        )
        assert summary.loc[cast[2].name, f"accuracy, {word}"] == pytest.approx(part[word].iloc[0], abs=1e-5)
    assert summary.loc[cast[0].name, "δ"] == pytest.approx(
        geometry.moments(every[0], cast[0].labels).distinguishability
    )


def test_correlations_are_over_behaviours(bench: Bench) -> None:
    tables = noise.persona_noise(bench, SMALL)
    table = tables["persona_correlations"]
    assert len(table) == 12 and table["n"].eq(4).all()
    row = table.query("predictor == '‖Σ‖' and outcome == 'c, centred'").iloc[0]
    rho = estimates.spearman(tables["persona_noise"]["‖Σ‖"], tables["persona_noise"]["c, centred"], 0)
    assert (row["correlation"], row["low"], row["high"]) == pytest.approx((rho.value, rho.low, rho.high))


# Text -----------------------------------------------------------------------------------------------


def trained_by(patch: pytest.MonkeyPatch) -> list:
    """What the bench is asked to train from now on."""
    trained: list = []
    original = Bench.train_all

    def train_all(self: Bench, runs: list, *arguments: object) -> object:
        trained.extend(runs)
        return original(self, runs, *arguments)  # type: ignore[arg-type]

    patch.setattr(Bench, "train_all", train_all)
    return trained


def test_text_runs_share_tests_and_a_higher_rate_turns_more_of_the_same_labels(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = trained_by(monkeypatch)
    tables = noise.text_pairs(bench, SMALL)
    table, margins = tables["text_pairs"], tables["text_margins"]
    assert len(table) == len(trained) == 6 and len(margins) == 6 * 5
    tests = {data.fingerprint(phases[1].evaluate["test"]) for phases in trained}
    assert len(tests) == 1 and table["tested"].eq(5).all() and table["trained"].eq(4).all()
    for fine_tuning, preference in trained:
        assert fine_tuning.train == preference.train
        assert not set(fine_tuning.train) & set(preference.evaluate["test"])
        assert fine_tuning.settings.loss == "sft" and preference.settings.loss == "dpo"
        assert fine_tuning.settings.steps == 2 and preference.settings.steps == 4  # two epochs of DPO
        assert preference.evaluate_at == [4]
    for clean, noisy_run in zip(trained[::2], trained[1::2], strict=True):
        pairs = list(zip(clean[0].train, noisy_run[0].train, strict=True))
        assert all(other in (pair, pair.swapped()) for pair, other in pairs)
    assert table.query("rate == 0")["wrong labels"].eq(0).all()
    turned = [
        sum(a != b for a, b in zip(clean[0].train, wrong[0].train, strict=True))
        for clean, wrong in zip(trained[::2], trained[1::2], strict=True)
    ]
    assert table.query("rate == 0.5")["wrong labels"].tolist() == turned
    right = (margins.assign(right=margins["margin"] > 0)).groupby(["run", "rate"])["right"].mean()
    np.testing.assert_allclose(right, table.set_index(["run", "rate"])["accuracy"])


def test_pilot_trains_each_setting_without_noise_and_measures_every_epoch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = trained_by(monkeypatch)
    table = noise.text_pilot(bench, SMALL)
    assert table[["setting", "epoch"]].to_numpy().tolist() == [[1, 1], [1, 2], [4, 1], [4, 2]]
    people, judge = trained
    assert people[1].evaluate_at == judge[1].evaluate_at == [2, 4]
    assert all(len(pair.chosen) < len(pair.rejected) for pair in judge[0].train)
    assert not set(judge[0].train) & set(judge[1].evaluate["test"])
    whole = noise.text_pairs(bench, SMALL)["text_pairs"].query("run == 0 and rate == 0").iloc[0]
    assert table.iloc[1]["accuracy"] == whole["accuracy"]  # the same training, of the first run
    assert noise.text_pilot(bench, replace(SMALL, pilot=[0])).empty


def test_without_runs_tables_have_their_columns(bench: Bench) -> None:
    tables = noise.text_pairs(bench, replace(SMALL, text_runs=0))
    assert list(tables["text_margins"]) == ["run", "rate", "pair", "margin"]
    assert tables["text_pairs"].empty and "wrong labels" in tables["text_pairs"]


def test_long_pairs_are_left_out_and_too_few_are_said() -> None:
    pairs = data.load_pairs("sample")
    lengths = sorted(len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs)
    short = noise._short_pairs(pairs, replace(SMALL, text_longest=lengths[3]))
    assert 4 <= len(short) < len(pairs)
    with pytest.raises(PrefdynError, match=r"response pairs of at most \d+ characters: the chapter needs"):
        noise.check_design(replace(SMALL, text_longest=lengths[1]), "sample")
    with pytest.raises(PrefdynError, match="text_runs is 2"):
        replace(SMALL, text_runs=2)
