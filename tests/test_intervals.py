"""Bootstrap intervals: their statistics against scipy, their coverage on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, spearmanr

from prefdyn import intervals
from prefdyn.errors import PrefdynError
from prefdyn.intervals import Estimate

VALUES = st.lists(st.integers(-5, 5).map(float), min_size=4, max_size=20)


@given(VALUES)
@settings(max_examples=15)
def test_values_of_mean_and_median_are_numpys(sample: list[float]) -> None:
    assert intervals.mean(sample).value == pytest.approx(np.mean(sample))
    assert intervals.median(sample).value == pytest.approx(np.median(sample))


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=5, max_size=25, unique=True))
@settings(max_examples=15)
def test_spearman_is_scipys_with_ties(points: list[tuple[int, int]]) -> None:
    x, y = map(list, zip(*points, strict=True))
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert intervals.spearman(x, y).value == pytest.approx(spearmanr(x, y).statistic)


def test_spearman_of_a_monotone_curve_is_one_without_spread() -> None:
    x = np.arange(1.0, 9.0)
    got = intervals.spearman(x, np.exp(x))
    assert (got.value, got.low, got.high, got.n) == (pytest.approx(1), pytest.approx(1), pytest.approx(1), 8)
    assert intervals.spearman(x, -(x**3)).high == pytest.approx(-1)


def test_interval_of_a_mean_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    covered = [(got.low <= 3.0 <= got.high) for got in (intervals.mean(rng.normal(3.0, 2.0, size=40), seed=i) for i in range(200))]
    assert 0.85 <= np.mean(covered) <= 0.99


def test_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    sample = np.random.default_rng(12).normal(size=400)
    got = intervals.mean(sample)
    half = norm.ppf(0.975) * sample.std() / np.sqrt(400)
    assert got.high - got.value == pytest.approx(half, rel=0.1)
    assert got.value - got.low == pytest.approx(half, rel=0.1)


def test_interval_of_a_rank_correlation_covers_that_of_the_population() -> None:
    rng, rho = np.random.default_rng(13), 0.6
    truth = 6 / np.pi * np.arcsin(rho / 2)  # Spearman's for a normal pair
    covered = []
    for i in range(100):
        x, noise = rng.normal(size=(2, 60))
        got = intervals.spearman(x, rho * x + np.sqrt(1 - rho**2) * noise, seed=i)
        covered.append(got.low <= truth <= got.high)
    assert 0.85 <= np.mean(covered) <= 1.0


def test_same_seed_gives_the_same_interval_and_another_nearly() -> None:
    sample = np.random.default_rng(14).normal(size=30)
    first, again, other = intervals.mean(sample), intervals.mean(sample), intervals.mean(sample, seed=1)
    assert first == again != other
    assert first.low == pytest.approx(other.low, abs=0.05)


def test_pairs_are_resampled_together() -> None:
    rng = np.random.default_rng(15)
    x = rng.normal(size=50)
    got = intervals.spearman(x, x + 0.01 * rng.normal(size=50))
    assert got.low > 0.95


@pytest.mark.parametrize("size", [0, 1, 2])
def test_too_few_units_are_refused(size: int) -> None:
    with pytest.raises(PrefdynError, match=f"{size} units are too few"):
        intervals.mean(np.zeros(size))


def test_estimate_reads_as_value_and_interval() -> None:
    assert str(Estimate(0.5, 0.25, 0.75, 9)) == "0.5 [0.25, 0.75]"
