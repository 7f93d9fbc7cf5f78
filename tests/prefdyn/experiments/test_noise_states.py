"""Wrong labels on the hidden states of the tiny model, against what a reader would compute by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_chapters import NOISE as SMALL

from prefdyn.engine import losses, states
from prefdyn.experiments import noise, noise_states, noisy
from prefdyn.experiments.bench import Bench
from prefdyn.measures import estimates, geometry
from prefdyn.theory import noise as theory


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Bench("smoke", device="cpu", precision="float32")


@pytest.mark.parametrize("state", ["statement", "question"])
def test_table_2_and_the_shapes_are_those_of_the_states(bench: Bench, state: str) -> None:
    tables = noise_states.vmf(bench, SMALL)
    looks = tables["vmf_by_behaviour"].query("state == @state")
    cast = noise_states._cast(bench, SMALL)
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
    first, other = (noise_states._cast(bench.seeded(seed), SMALL)[0] for seed in (0, 1))
    assert set(first.statements) != set(other.statements)
    assert (first.labels > 0).sum() == (first.labels < 0).sum() == 8


def test_curves_of_a_behaviour_are_the_library_run_on_its_states(bench: Bench) -> None:
    tables = noise_states.persona_noise(bench, SMALL)
    cast = noise_states._cast(bench, SMALL)
    every = [bench.features(persona) for persona in cast]
    shared = np.concatenate(every).mean(axis=0)
    scale = np.linalg.norm(np.concatenate(every), axis=1).mean()
    short = noise.descents(SMALL)["short"]
    summary = tables["persona_noise"].set_index("behaviour")
    seed = bench.seed_of("wrong labels", cast[2].name)
    for word, centre in (("raw", 0), ("centred", shared)):
        states = (every[2] - centre) / scale
        alone = noisy.resplit(
            states, cast[2].labels, losses.dpo(), short, noise_states.PERSONA_RATES, 3, seed
        )
        part = tables["persona_curves"].query(f"behaviour == '{cast[2].name}'")
        np.testing.assert_allclose(part[word], alone.groupby("rate")["accuracy"].mean(), atol=1e-5)
        law = theory.accuracy_of_states(
            (every[2] - centre) / scale, cast[2].labels, noise_states.PERSONA_RATES, 4
        )
        np.testing.assert_allclose(part[f"{word} foretold"], law, atol=1e-5)
        assert summary.loc[cast[2].name, f"at ε = 0.2, {word}"] == pytest.approx(
            part.set_index("rate").loc[0.2, word], abs=1e-5
        )
        assert summary.loc[cast[2].name, f"accuracy, {word}"] == pytest.approx(part[word].iloc[0], abs=1e-5)
    assert summary.loc[cast[0].name, "δ"] == pytest.approx(
        geometry.moments(every[0], cast[0].labels).distinguishability
    )


def test_a_behaviour_has_halves_and_wrong_labels_of_its_own_for_both_kinds_of_states(bench: Bench) -> None:
    persona = noise_states._cast(bench, SMALL)[0]
    g = bench.features(persona)

    def seed(name: str, word: str) -> int:
        return noise_states._resplit(bench, SMALL, replace(persona, name=name), word, g).key["seed"]

    assert seed("one", "raw") == seed("one", "centred")
    assert seed("one", "raw") != seed("other", "raw")


def test_correlations_are_over_behaviours(bench: Bench) -> None:
    tables = noise_states.persona_noise(bench, SMALL)
    table = tables["persona_correlations"]
    assert len(table) == 12 and table["n"].eq(4).all()
    row = table.query("predictor == '‖Σ‖' and outcome == 'c, centred'").iloc[0]
    rho = estimates.spearman(tables["persona_noise"]["‖Σ‖"], tables["persona_noise"]["c, centred"], 0)
    assert row["correlation"] == pytest.approx(rho.value)


def test_their_intervals_resample_families() -> None:
    rng = np.random.default_rng(0)
    outcomes = ("at ε = 0.2, raw", "at ε = 0.2, centred", "fall, centred", "c, centred")
    summary = pd.DataFrame({name: rng.normal(size=24) for name in (*noise_states.PREDICTORS, *outcomes)})
    summary["behaviour"] = [f"desire-for-{i}" if i < 8 else f"trait-{i}" for i in range(24)]
    table = noise_states._correlations(summary, 3)
    row = table.query("predictor == '‖Σ‖' and outcome == 'c, centred'").iloc[0]
    families = ["desire"] * 8 + [f"trait-{i}" for i in range(8, 24)]
    rho = estimates.spearman(summary["‖Σ‖"], summary["c, centred"], 3, families)
    assert (row["correlation"], row["low"], row["high"]) == pytest.approx((rho.value, rho.low, rho.high))
