"""Where Theorem 3.1 says something, against the theory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from small_chapters import NOISE as SMALL

from prefdyn.experiments import noise_bounds
from prefdyn.experiments.bench import Bench
from prefdyn.theory import noise as theory


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Bench("smoke", device="cpu", precision="float32")


def test_regime_is_where_the_bound_crosses_one(bench: Bench) -> None:
    table = noise_bounds.regime(bench, replace(SMALL, per_label=10**6))
    row = table.iloc[0]
    assert row["angle"] == "180°" and len(table) == 12
    for k in (8, 4):
        kappa = row[f"γ for k = {k}, hoeffding"]
        for factor, below in ((1.01, True), (0.99, False)):
            got = theory.bound(0.0, kappa * factor, np.pi, 2 * 10**6, k, "hoeffding")
            assert bool(got.risk < 1) is below


def test_sharp_regime_is_the_theorems(bench: Bench) -> None:
    table = noise_bounds.sharp_regime(bench, replace(SMALL, dimension=64, per_label=1000))
    row = table.query("γ == 32 and angle == 180 and ε == 0").iloc[0]
    assert row["bound"] == theory.sharp_bound(0.0, 64, 32 * 32, np.pi, 2000).risk < 0.5
    highest = row["highest rate"]
    assert theory.sharp_bound(highest, 64, 32 * 32, np.pi, 2000).risk < 0.5
    assert not theory.sharp_bound(highest + 0.01, 64, 32 * 32, np.pi, 2000).risk < 0.5


def test_tight_clouds_are_trained_to_the_end_of_the_stopping_time(bench: Bench) -> None:
    table = noise_bounds.tight_clouds(bench, SMALL)
    assert len(table) == 4 * 12 and table["rate"].max() >= 0.05
    assert table["risk"].between(0, 1).all() and table["risk"].mean() < 0.05
    assert table["relative kappa"].eq(noise_bounds.TIGHT).all() and table["per label"].eq(30).all()
