"""Correlations across halves against scipy, one resample at a time, and on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from prefdyn.errors import PrefdynError
from prefdyn.measures.estimates import Estimate, resample_counts
from prefdyn.measures.halves import as_table, correlations, divide, from_table


def test_parts_are_disjoint_balanced_and_positive_first() -> None:
    labels = np.array([1, -1, -1, 1, 1, -1, 1, 1, -1, -1, 1])
    parts = divide(labels, 2, 50, np.random.default_rng(0))
    assert parts.shape == (50, 2, 4)
    assert (labels[parts] == [1, 1, -1, -1]).all()
    assert all(len(set(division.ravel())) == 8 for division in parts)
    assert set(parts.ravel()) == set(range(11)), "every statement has its turn"


def test_too_few_statements_are_named() -> None:
    with pytest.raises(PrefdynError, match="1 statements of a label cannot be divided into 2 parts"):
        divide([1, 1, -1], 2, 1, np.random.default_rng(0))


def measured(seed: int, units: int = 9, splits: int = 2, values: int = 4) -> dict[str, np.ndarray]:
    """Measures with many ties."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, values, (units, splits, 2)) + np.arange(units)[:, None, None] // 3
        for name in "xyz"
    }


def test_a_unit_that_lacks_a_measure_is_in_no_correlation() -> None:
    whole, lacking = measured(3), measured(3)
    lacking["z"] = lacking["z"].astype(float)
    lacking["z"][4, 1, 0] = np.nan
    found, kinds = correlations(lacking, clusters=[*"aabbccdde"]), [*"aabbcdde"]
    without = {name: np.delete(values, 4, axis=0) for name, values in whole.items()}
    expected = correlations(without, clusters=kinds)
    assert found.units == 8
    np.testing.assert_array_equal(found.drawn, expected.drawn)


def test_families_are_drawn_whole() -> None:
    measures, kinds = measured(5), np.array([0, 0, 0, 1, 1, 2, 2, 2, 3])
    found = correlations(measures, seed=7, resamples=5, clusters=list(kinds))
    for row, weights in zip(found.drawn[1:], resample_counts(4, 7, 5), strict=True):
        units = np.repeat(np.arange(9), weights[kinds].astype(int))
        x, y = measures["x"][units], measures["y"][units]
        np.testing.assert_allclose(row[0, 1], by_scipy(x, y), atol=1e-9)


def test_few_families_have_no_interval() -> None:
    measures = measured(5)
    for kinds, known in ((None, True), (list("aabcdefgh"), True), (list("aaabcdefg"), False)):
        found = correlations(measures, resamples=50, clusters=kinds).between("x", "y")
        assert np.isfinite(found.value) and np.isfinite([found.low, found.high]).all() == known


def by_scipy(x: np.ndarray, y: np.ndarray) -> float:
    return np.mean(
        [
            stats.spearmanr(x[:, split, a], y[:, split, 1 - a]).statistic
            for split in range(x.shape[1])
            for a in (0, 1)
        ]
    )


@settings(max_examples=4)
@given(st.integers(0, 10**6))
def test_every_resample_is_what_scipy_makes_of_the_drawn_units(seed: int) -> None:
    measures = measured(seed)
    found = correlations(measures, seed=7, resamples=5)
    drawn = resample_counts(9, 7, 5)
    for row, weights in zip(found.drawn, [np.ones(9), *drawn], strict=True):
        units = np.repeat(np.arange(9), weights.astype(int))
        for i, x in enumerate(measures.values()):
            for j, y in enumerate(measures.values()):
                assert row[i, j] == pytest.approx(by_scipy(x[units], y[units]), abs=1e-9)


def test_shared_noise_makes_no_correlation_across_halves() -> None:
    """Two measures with nothing in common but the noise of the statements that both were taken on."""
    noise = np.random.default_rng(0).normal(size=(400, 4, 2))
    own = np.random.default_rng(1).normal(size=(2, 400, 1, 1))
    x, y = own[0] + 2 * noise, own[1] + 2 * noise
    found = correlations({"x": x, "y": y}, resamples=500)
    assert stats.spearmanr(x[:, 0, 0], y[:, 0, 0]).statistic > 0.6
    across = found.between("x", "y")
    assert across.low < 0 < across.high and abs(across.value) < 0.1


def test_diagonal_is_the_reliability() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(1500, 1, 1))
    noisy = truth + rng.normal(size=(1500, 1, 2))
    assert correlations({"x": noisy}, resamples=2).between("x", "x").value == pytest.approx(
        6 / np.pi * np.arcsin(0.5 / 2), abs=0.06
    )


def test_without_noise_what_is_left_is_the_numerator_of_the_partial_correlation() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(size=60)
    x, y = z + rng.normal(size=60), z - 0.5 * rng.normal(size=60)
    found = correlations(
        {name: np.tile(v[:, None, None], (1, 3, 2)) for name, v in zip("xyz", (x, y, z), strict=True)},
        resamples=300,
    )
    xy, xz, yz = (stats.spearmanr(*pair).statistic for pair in ((x, y), (x, z), (y, z)))
    left = found.left("x", "y", through="z")
    assert left.value == pytest.approx(xy - xz * yz)
    assert left.low < left.value < left.high and left.n == 60
    gain = found.gain("y", "x", "z")
    assert gain.value == pytest.approx(yz - xz) and gain.value > 0


def test_nothing_is_left_of_what_goes_through_a_third_however_noisily_that_is_measured() -> None:
    rng = np.random.default_rng(5)
    truth = rng.normal(size=(1500, 1, 1))
    x, y = (
        truth + 0.5 * rng.normal(size=(1500, 1, 1)) + 0.2 * rng.normal(size=(1500, 2, 2)) for _ in range(2)
    )
    found = correlations({"x": x, "y": y, "z": truth + rng.normal(size=(1500, 2, 2))}, resamples=100)
    xy, xz, yz = found.between("x", "y").value, found.between("x", "z").value, found.between("y", "z").value
    assert (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)) > 0.4, (
        "the usual partial correlation finds what is not there"
    )
    assert abs(found.left("x", "y", through="z").value) < 0.05


def test_interval_covers_as_it_says() -> None:
    """Over many draws of 30 units, about 95% of the intervals hold the true rank correlation."""
    rng = np.random.default_rng(4)
    truth, held = 6 / np.pi * np.arcsin(0.6 / 2), 0
    for number in range(150):
        x, y = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=30).T
        interval = correlations(
            {"x": np.tile(x[:, None, None], (1, 1, 2)), "y": np.tile(y[:, None, None], (1, 1, 2))},
            number,
            400,
        )
        held += interval.between("x", "y").low <= truth <= interval.between("x", "y").high
    assert 0.88 <= held / 150 <= 0.99


def test_constant_measure_has_no_correlation() -> None:
    found = correlations(
        {"x": np.ones((6, 2, 2)), "y": np.random.default_rng(0).random((6, 2, 2))}, resamples=20
    )
    for estimate in (found.between("x", "y"), found.left("y", "y", "x"), found.gain("x", "y", "y")):
        assert isinstance(estimate, Estimate) and np.isnan(estimate.value)


def test_fewer_than_five_personas_are_too_few() -> None:
    with pytest.raises(PrefdynError, match="4 personas are too few"):
        correlations({"x": np.zeros((4, 1, 2))})


def test_rounding_ranks_nobody() -> None:
    """Equal shares, summed in another order, are ties; so a table's six digits give the same correlations."""
    rng = np.random.default_rng(6)
    x, y = rng.integers(0, 5, (2, 9, 2, 2)) / 10
    exact = correlations({"x": x, "y": y}, resamples=50)
    rounded = correlations({"x": x + rng.normal(size=x.shape) * 1e-15, "y": 3 * y}, resamples=50)
    np.testing.assert_array_equal(exact.drawn, rounded.drawn)


def test_table_gives_back_the_measures() -> None:
    given = {name: np.random.default_rng(7).random((3, 4, 2)) for name in "xy"}
    table = as_table(given, "persona", ["a", "b", "c"])
    assert list(table.columns) == ["persona", "split", "half", "x", "y"]
    assert table.query("persona == 'b' and split == 2 and half == 1")["y"].item() == given["y"][1, 2, 1]
    for name, values in from_table(table, ["y", "x"]).items():
        np.testing.assert_array_equal(values, given[name])
