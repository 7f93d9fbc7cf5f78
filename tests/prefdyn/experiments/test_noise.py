"""The experiments of chapter 3 on the tiny model, against what a reader would compute by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_chapters import NOISE as SMALL

from prefdyn import data
from prefdyn.engine import losses
from prefdyn.experiments import noise, noisy
from prefdyn.experiments.bench import Bench
from prefdyn.measures import estimates, geometry
from prefdyn.theory import noise as theory

BY = ["setting", "loss"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Bench("smoke", device="cpu", precision="float32")


@pytest.fixture(scope="module")
def controlled(bench: Bench) -> dict[str, pd.DataFrame]:
    return noise.controlled(bench, SMALL)


# Two clouds -----------------------------------------------------------------------------------------


def test_every_trial_of_both_losses_is_in_the_table(controlled: dict[str, pd.DataFrame]) -> None:
    table = controlled["accuracies"]
    assert len(table) == 5 * 2 * 4 * 21 and set(table["loss"]) == {"DPO", "IPO"}
    ends = table.pivot_table(index=[*BY, "trial"], columns="rate", values="accuracy")
    np.testing.assert_allclose(ends[0.0] + ends[1.0], 1)  # all labels wrong: the same, turned round


def test_a_setting_is_the_library_run_with_its_number(controlled: dict[str, pd.DataFrame]) -> None:
    cloud, rates = noise.clouds(16)["angle π"], np.round(np.arange(0, 1.01, 0.05), 6)
    short = {"short": noise.descents(SMALL)["short"]}
    alone = noisy.controlled(cloud, {"DPO": losses.dpo()}, short, rates, 30, 4, (0, 4))
    part = controlled["accuracies"].query("setting == 'angle π' and loss == 'DPO'")
    np.testing.assert_allclose(part["accuracy"], alone["accuracy"])


def test_means_losses_and_fits_are_of_those_trials(controlled: dict[str, pd.DataFrame]) -> None:
    means = controlled["accuracies"].groupby([*BY, "rate"])["accuracy"]
    curves = controlled["curves"].query("training == 'short'").set_index([*BY, "rate"])
    assert len(controlled["curves"]) == 5 * 2 * 5 * 21
    for place, sample in means:
        mean = estimates.mean(sample)
        assert tuple(curves.loc[place, ["accuracy", "low", "high"]]) == pytest.approx(
            (mean.value, mean.low, mean.high)
        )
    losses_table = controlled["losses"]
    assert list(losses_table["loss"]) == [*noise.LOSSES] * 2
    first = losses_table.iloc[0]
    assert first["ε = 0.2"] == pytest.approx(means.mean()[noise.REFERENCE, "DPO", 0.2])
    assert (losses_table.query("loss == 'DPO'")["largest difference from DPO"] == 0).all()
    apart = [
        controlled["accuracies"].query(f"loss == '{loss}'")["accuracy"].to_numpy() for loss in ("DPO", "IPO")
    ]
    assert losses_table.query("training == 'short' and loss == 'IPO'")[
        "largest difference from DPO"
    ].item() == pytest.approx(np.abs(apart[0] - apart[1]).max())


def test_fit_of_a_setting_is_the_theorys(controlled: dict[str, pd.DataFrame]) -> None:
    part = controlled["accuracies"].query("setting == 'γ = 1/4' and loss == 'IPO' and rate < 0.36")
    runs = part.pivot(index="trial", columns="rate", values="accuracy")
    fit = theory.bootstrap_fit(runs.columns, 1 - runs, seed=0)
    row = controlled["equation_18"].query("setting == 'γ = 1/4' and loss == 'IPO'").iloc[0]
    for column, estimate in (("c", fit.c), ("R²", fit.r_squared), ("R", fit.clean)):
        assert (row[column], row[f"{column} low"], row[f"{column} high"]) == pytest.approx(
            (estimate.value, estimate.low, estimate.high)
        )
    risks = 1 - runs.to_numpy()
    errors = theory.held_out_errors("quadratic", runs.columns, risks, runs.columns, risks)
    assert row["held out: quadratic"] == pytest.approx(errors.mean())
    order = controlled["ordering"].set_index("setting").loc["γ = 1/4"]
    fits = controlled["equation_18"].query("loss == 'DPO'").set_index("setting")
    assert order["c"] == fits.loc["γ = 1/4", "c"]
    assert order["accuracy at ε = 0"] == pytest.approx(1 - fits.loc["γ = 1/4", "clean risk"])


def test_settings_say_what_was_drawn_and_stopping_what_is_allowed(
    controlled: dict[str, pd.DataFrame],
) -> None:
    table = controlled["settings"].set_index("setting")
    assert table.loc["angle 2π/3", ["relative kappa", "angle", "dimension", "per label"]].tolist() == (
        pytest.approx([1 / 8, 2 * np.pi / 3, 16, 30])
    )
    stopping = controlled["stopping"].set_index("loss")
    assert stopping.loc["IPO", "allowed"] == pytest.approx(np.sin(np.pi / 18) / (4 * 0.01 * 2))
    assert stopping["short"].eq(3 * 0.05).all() and stopping["long"].eq(3 * 2000.0).all()


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
    assert len(drawn) == 5 * 4 * 2 and not other["accuracies"].equals(controlled["accuracies"])
    drawn.clear()
    noise.controlled(bench, replace(SMALL, trials=3))
    assert len(drawn) == 5 * 3 * 2


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


def test_tight_clouds_are_trained_to_the_end_of_the_stopping_time(bench: Bench) -> None:
    table = noise.tight_clouds(bench, SMALL)
    assert len(table) == 4 * 12 and table["rate"].max() >= 0.05
    assert table["risk"].between(0, 1).all() and table["risk"].mean() < 0.05
    assert table["relative kappa"].eq(noise.TIGHT).all() and table["per label"].eq(30).all()


# Hidden states --------------------------------------------------------------------------------------


def test_table_2_and_the_shapes_are_those_of_the_states(bench: Bench) -> None:
    tables = noise.vmf(bench, SMALL)
    looks = tables["vmf_by_behaviour"]
    persona = bench.personas(4, 8)[1]
    g = bench.features(persona).astype(float)
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
    ours = tables["vmf"].set_index("model").loc["smoke"]
    assert ours["average cosine"] == pytest.approx(looks["cosine"].mean())
    assert ours["cosine variance over behaviours"] == pytest.approx(looks["cosine"].var(ddof=0))
    lengths = [np.linalg.norm(bench.features(p), axis=1) for p in bench.personas(4, 8)]
    assert ours["average norm"] == pytest.approx(np.concatenate(lengths).mean())


def test_curves_of_a_behaviour_are_the_library_run_on_its_states(bench: Bench) -> None:
    tables = noise.persona_noise(bench, SMALL)
    cast = bench.personas(4, 8)
    states = [bench.features(persona) for persona in cast]
    shared = np.concatenate(states).mean(axis=0)
    scale = np.linalg.norm(np.concatenate(states), axis=1).mean()
    short = noise.descents(SMALL)["short"]
    summary = tables["persona_noise"].set_index("behaviour")
    for word, centre in (("raw", 0), ("centred", shared)):
        alone = noisy.resplit(
            (states[2] - centre) / scale, cast[2].labels, losses.dpo(), short, noise.PERSONA_RATES, 3
        )
        part = tables["persona_curves"].query(f"behaviour == '{cast[2].name}'")
        np.testing.assert_allclose(part[word], alone.groupby("rate")["accuracy"].mean(), atol=1e-9)
        assert summary.loc[cast[2].name, f"at ε = 0.2, {word}"] == pytest.approx(
            part.set_index("rate").loc[0.2, word]
        )
        assert summary.loc[cast[2].name, f"accuracy, {word}"] == pytest.approx(part[word].iloc[0])
    assert summary.loc[cast[0].name, "δ"] == pytest.approx(
        geometry.moments(states[0], cast[0].labels).distinguishability
    )


def test_correlations_are_over_behaviours(bench: Bench) -> None:
    tables = noise.persona_noise(bench, SMALL)
    table = tables["persona_correlations"]
    assert len(table) == 9 and table["n"].eq(4).all()
    row = table.query("predictor == '‖Σ‖' and outcome == 'c, centred'").iloc[0]
    rho = estimates.spearman(tables["persona_noise"]["‖Σ‖"], tables["persona_noise"]["c, centred"], 0)
    assert (row["correlation"], row["low"], row["high"]) == pytest.approx((rho.value, rho.low, rho.high))


# Text -----------------------------------------------------------------------------------------------


def test_text_runs_share_tests_and_a_higher_rate_turns_more_of_the_same_labels(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    original = Bench.train_all

    def train_all(self: Bench, runs: list, *arguments: object) -> object:
        trained.extend(runs)
        return original(self, runs, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Bench, "train_all", train_all)
    table = noise.text_pairs(bench, SMALL)
    assert len(table) == len(trained) == 6
    tests = {data.fingerprint(phases[1].evaluate["test"]) for phases in trained}
    assert len(tests) == 1 and table["tested"].eq(5).all() and table["trained"].eq(4).all()
    for fine_tuning, preference in trained:
        assert fine_tuning.train == preference.train
        assert not set(fine_tuning.train) & set(preference.evaluate["test"])
        assert fine_tuning.settings.loss == "sft" and preference.settings.loss == "dpo"
        assert preference.settings.steps == 2 and preference.evaluate_at == [2]
    for clean, noisy_run in zip(trained[::2], trained[1::2], strict=True):
        pairs = list(zip(clean[0].train, noisy_run[0].train, strict=True))
        assert all(other in (pair, pair.swapped()) for pair, other in pairs)
    assert table.query("rate == 0")["wrong labels"].eq(0).all()
    turned = [
        sum(a != b for a, b in zip(clean[0].train, wrong[0].train, strict=True))
        for clean, wrong in zip(trained[::2], trained[1::2], strict=True)
    ]
    assert table.query("rate == 0.5")["wrong labels"].tolist() == turned
    assert table["accuracy"].between(0, 1).all() and table["margin"].notna().all()
