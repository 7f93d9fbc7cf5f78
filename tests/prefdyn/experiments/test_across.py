"""The experiments of chapter 5 on the tiny model: their tables hold what they say, and nothing is measured
twice.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from prefdyn import data
from prefdyn.engine import losses
from prefdyn.engine.last_layer import Descent
from prefdyn.errors import PrefdynError
from prefdyn.experiments import across, persona_halves
from prefdyn.experiments.across import Design
from prefdyn.experiments.bench import Bench
from prefdyn.measures import geometry, halves

DESIGN = Design(
    personas=5,
    statements_per_label=8,
    splits=2,
    beta=0.01,
    unembedding_rate=0.1,
    unembedding_steps=20,
    long_rate=10.0,
    long_steps=15,
    long_divisions=2,
    noise_rates=[0.2, 0.4],
    noise_beta=0.1,
    learning_rate=0.05,
    epochs=3,
    divisions=2,
)
NOT_MEASURED = ("persona", "split", "half")


@pytest.mark.parametrize(
    ("rates", "says"),
    [([], r"noise_rates is \[\]: give at least one rate"), ([0.2, 0.2], "each value must be there once")],
)
def test_noise_rates_that_say_nothing_are_refused(rates: list[float], says: str) -> None:
    with pytest.raises(PrefdynError, match=says):
        replace(DESIGN, noise_rates=rates)


def bench(seed: int = 0) -> Bench:
    return Bench("smoke", seed=seed, device="cpu", precision="float32")


@pytest.fixture(scope="module", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def measured(shared_cache: None) -> dict[str, pd.DataFrame]:
    return across.measures(bench(), DESIGN)


@pytest.fixture(scope="module")
def correlated(shared_cache: None) -> dict[str, pd.DataFrame]:
    return across.correlations(bench(), DESIGN)


ROUNDED = 0.5e-4 + 1e-9
"""What the fourth decimal hides."""


def test_a_row_for_every_persona_split_and_half(measured: dict[str, pd.DataFrame]) -> None:
    raw = measured["measures"]
    names = [persona.name for persona in bench().personas(5, 8)]
    expected = pd.MultiIndex.from_product([names, [0, 1], [0, 1]])
    assert list(raw[["persona", "split", "half"]].itertuples(index=False, name=None)) == list(expected)
    personas = measured["personas"]
    assert list(personas["family"]) == [data.family(name) for name in personas["persona"]]
    assert [*raw.columns] == [
        *NOT_MEASURED,
        *(one for one in across.MEASURES if one not in across.MEANS_ALONE),
    ]
    assert not raw.isna().any(axis=None)


def test_personas_are_the_means_of_the_measures_least_distinguishable_first(
    measured: dict[str, pd.DataFrame],
) -> None:
    raw, personas = measured["measures"], measured["personas"]
    assert personas["δ"].is_monotonic_increasing
    means = raw.drop(columns=["split", "half"]).groupby("persona").mean().loc[personas["persona"]]
    assert_frame_equal(personas.set_index("persona")[list(means.columns)], means, rtol=0, atol=ROUNDED)
    for suffix, cost in (("", "cost of noise"), (", centred", "cost, centred")):
        lost = personas[f"accuracy{suffix}"] - personas[f"under noise{suffix}"]
        np.testing.assert_allclose(personas[cost], lost, atol=1e-12)
    assert (personas["violations"] == 0).all() and (personas["statements"] == 2 * 16).all()
    assert personas["stops early"].between(0, 1).all()


def test_every_measure_is_taken_on_its_own_half(measured: dict[str, pd.DataFrame]) -> None:
    """The first draws of the run are the splits; so the halves are known, and what was measured on them."""
    lab = bench()
    persona = lab.personas(5, 8)[0]
    parts = halves.divide(persona.labels, 2, 2, np.random.default_rng(0))
    raw = measured["measures"].query("persona == @persona.name")
    right = persona.labels * (lab.features(persona) @ lab.answer_difference) >= 0
    means = measured["personas"].set_index("persona")
    assert means.loc[persona.name, "right before"] == pytest.approx(right[parts].mean())
    for row in raw.to_dict("records"):
        index = parts[row["split"], row["half"]]
        m = geometry.moments(lab.features(persona)[index], persona.labels[index])
        assert row["δ"] == pytest.approx(m.distinguishability, abs=ROUNDED)
        assert row["δ/√Tr Σ"] == pytest.approx(m.distinguishability / np.sqrt(m.trace), abs=ROUNDED)


def test_noise_is_measured_with_the_settings_of_the_design(measured: dict[str, pd.DataFrame]) -> None:
    """All random numbers come from one generator: of everybody's splits, of the long trainings, of noise."""
    lab = bench()
    rng = np.random.default_rng(0)
    people = [
        persona_halves.Statements.of(lab.features(p), p.labels, lab.answer_difference, 2, rng)
        for p in lab.personas(5, 8)
    ]
    for p in people:
        p.divided(DESIGN.long_divisions, rng)
    scale = np.concatenate([np.linalg.norm(p.features, axis=1) for p in people]).mean()
    parts = people[0].divided(DESIGN.divisions, rng)
    found = persona_halves.under_noise(
        people[0],
        losses.dpo(),
        Descent(0.1, 0.05, 3),
        [0.0, 0.2, 0.4],
        parts,
        rng.random(parts[:, :, :, 0].shape),
        scale,
    )
    rows = measured["measures"].iloc[:4]
    np.testing.assert_allclose(rows["accuracy"], found[..., 0].ravel(), atol=ROUNDED)
    cost = found[..., 0] - found[..., 1:].mean(-1)
    np.testing.assert_allclose(rows["cost of noise"], cost.ravel(), atol=ROUNDED)


def test_another_seed_splits_otherwise(measured: dict[str, pd.DataFrame]) -> None:
    other = across.measures(bench(1), DESIGN)["measures"]
    assert (other["δ"] != measured["measures"]["δ"]).all()


def test_nothing_is_measured_twice(
    measured: dict[str, pd.DataFrame], correlated: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the second experiment nor the second call measures anything, and no model is loaded."""

    def refuse(name: str) -> Any:
        @functools.wraps(getattr(persona_halves, name))
        def fail(*arguments: object, **options: object) -> None:
            raise AssertionError(f"{name} was called")

        return fail

    for name in ("before_training", "learn", "flipped_half_way", "under_noise", "together"):
        monkeypatch.setattr(persona_halves, name, refuse(name))
    assert_frame_equal(across.measures(bench(), DESIGN)["measures"], measured["measures"])
    again = across.correlations(bench(), DESIGN)
    assert_frame_equal(again["correlations"], correlated["correlations"])
    with pytest.raises(AssertionError, match="learn was called"):
        across.measures(bench(), replace(DESIGN, unembedding_steps=21))


def test_correlations_are_those_of_the_measures(
    measured: dict[str, pd.DataFrame], correlated: dict[str, pd.DataFrame]
) -> None:
    names = ("δ", "accuracy", "cost of noise", "flipped", "in company", "depth")
    raw = measured["measures"]
    families = [data.family(name) for name in raw["persona"].unique()]
    rho = halves.correlations(halves.from_table(raw, names), seed=0, clusters=families)
    pairs = correlated["correlations"].set_index(["measure", "with"])
    assert len(pairs) == len(across.MEASURES) * (len(across.MEASURES) + 1) / 2
    for x, y in (("accuracy", "δ"), ("flipped", "flipped"), ("in company", "accuracy")):
        e = rho.between(x, y)
        np.testing.assert_allclose(
            pairs.loc[(x, y), ["ρ", "low", "high"]].astype(float), [e.value, e.low, e.high]
        )
    held = correlated["held"].set_index("outcome")
    assert dict(held["held"]) == across.HELD
    left = rho.left("δ", "flipped", through="depth")
    np.testing.assert_allclose(
        held.loc["flipped", ["left", "left low", "left high"]].astype(float),
        [left.value, left.low, left.high],
    )
    related = pairs[pairs["by definition"]].index
    assert set(related) == set(across.BY_DEFINITION)


def test_docstrings_name_every_column(
    measured: dict[str, pd.DataFrame], correlated: dict[str, pd.DataFrame]
) -> None:
    for experiment, tables in ((across.measures, measured), (across.correlations, correlated)):
        words = str(experiment.__doc__)
        for name, table in tables.items():
            assert f"{name}: one row" in words
            assert [column for column in table if str(column) not in words] == []


def test_fewer_than_five_personas_are_refused() -> None:
    with pytest.raises(PrefdynError, match="4 personas are too few"):
        across.correlations(bench(), replace(DESIGN, personas=4))
