"""Moments of features against numpy's own covariances and norms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine as cosine_distance

from prefdyn.errors import PrefdynError
from prefdyn.measures import geometry
from prefdyn.measures.geometry import cosine, moments


def clouds(seed: int, positive: int, negative: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.array([1] * positive + [-1] * negative))
    return rng.normal(size=(len(labels), d)) @ rng.normal(size=(d, d)) + 2 * (labels[:, None] > 0), labels


@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(2, 30), st.integers(2, 12))
def test_moments_are_those_of_numpy(seed: int, positive: int, negative: int, d: int) -> None:
    g, s = clouds(seed, positive, negative, d)
    got = moments(g, s)
    plus, minus = g[s == 1], g[s == -1]
    np.testing.assert_allclose(got.mean_positive, plus.mean(axis=0))
    np.testing.assert_allclose(got.mean_negative, minus.mean(axis=0))
    covariances = [np.cov(part, rowvar=False) for part in (plus, minus)]
    norms = [np.linalg.norm(c, ord=2) for c in covariances]
    traces = [np.trace(c) for c in covariances]
    np.testing.assert_allclose([got.operator_norm_positive, got.operator_norm_negative], norms, rtol=1e-8)
    np.testing.assert_allclose([got.trace_positive, got.trace_negative], traces, rtol=1e-8)
    assert (got.count_positive, got.count_negative) == (positive, negative)
    delta = np.linalg.norm(plus.mean(axis=0) - minus.mean(axis=0))
    assert got.distinguishability == pytest.approx(delta)
    assert got.concentration == pytest.approx(max(norms))
    assert got.trace == pytest.approx(sum(traces) / 2)
    assert got.spread_ratio == pytest.approx(sum(traces) / 2 / delta**2)


def test_moments_by_hand() -> None:
    got = moments([[0.0, 0], [2, 0], [0, 3], [0, 5], [0, 7]], [1, 1, -1, -1, -1])
    assert got.mean_difference.tolist() == [1, -5]
    assert (got.trace_positive, got.trace_negative, got.concentration) == pytest.approx((2, 4, 4))
    assert got.distinguishability_of_chance == pytest.approx(np.sqrt(2 / 2 + 4 / 3))


def test_float32_features_lose_no_precision() -> None:
    g, s = clouds(3, 400, 400, 8)
    shifted = (g + 1000).astype(np.float32)
    got, exact = moments(shifted, s), moments(shifted.astype(np.float64), s)
    assert got.trace_positive == exact.trace_positive
    assert got.trace_positive == pytest.approx(np.trace(np.cov(g[s == 1], rowvar=False)), rel=1e-3)


def test_chance_is_the_root_mean_square_delta_of_two_kinds_with_one_mean() -> None:
    rng = np.random.default_rng(5)
    s = np.array([1] * 20 + [-1] * 30)
    draws = [moments(rng.normal(size=(50, 7)) * 1.5, s) for _ in range(600)]
    delta = np.sqrt(np.mean([draw.distinguishability**2 for draw in draws]))
    expected = np.mean([draw.distinguishability_of_chance for draw in draws])
    assert delta == pytest.approx(expected, rel=0.05)


@given(st.integers(0, 10**6))
def test_cosine_is_that_of_scipy_and_broadcasts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, vector = rng.normal(size=(4, 5)), rng.normal(size=5)
    np.testing.assert_allclose(
        cosine(rows, vector), [1 - cosine_distance(row, vector) for row in rows], atol=1e-12
    )
    assert cosine(vector, vector) == pytest.approx(1)


def test_cosines_by_hand() -> None:
    matrix = geometry.cosine_matrix([[2.0, 0], [0, 3], [-1, 1]])
    np.testing.assert_allclose(
        matrix, [[1, 0, -np.sqrt(0.5)], [0, 1, np.sqrt(0.5)], [-np.sqrt(0.5), np.sqrt(0.5), 1]], atol=1e-15
    )
    np.testing.assert_allclose(geometry.off_diagonal(matrix), [0, -np.sqrt(0.5), np.sqrt(0.5)], atol=1e-15)


def test_zero_vector_is_named() -> None:
    with pytest.raises(PrefdynError, match="vector 1 is zero"):
        geometry.cosine_matrix([[1.0, 0], [0, 0]])


def test_one_row_is_in_order() -> None:
    assert geometry.structure_order([[1.0]]).tolist() == [0]


@given(st.integers(0, 10**6))
def test_shuffled_groups_are_neighbours_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(4), 5))
    vectors = 10 * np.eye(4, 8)[group] + 0.5 * rng.normal(size=(20, 8))
    order = geometry.structure_order(geometry.cosine_matrix(vectors))
    assert sorted(order) == list(range(20))
    assert (np.diff(group[order]) != 0).sum() == 3


@given(st.integers(3, 30), st.integers(0, 10**6))
def test_centred_vectors_have_the_mean_cosine_that_the_page_says(count: int, seed: int) -> None:
    """Unit vectors that sum to zero: the mean off-diagonal cosine is -1 / (P - 1), whatever they are."""
    angles = 2 * np.pi * np.arange(count) / count
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(5, 5)))[0]
    vectors = np.stack([np.cos(angles), np.sin(angles), 0 * angles, 0 * angles, 0 * angles], axis=1) @ turn
    assert geometry.off_diagonal(geometry.cosine_matrix(vectors)).mean() == pytest.approx(-1 / (count - 1))
