"""Cosines and the order in which they are shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdyn import similarity
from prefdyn.errors import PrefdynError


def test_cosines_by_hand() -> None:
    matrix = similarity.cosine_matrix([[2.0, 0], [0, 3], [-1, 1]])
    np.testing.assert_allclose(matrix, [[1, 0, -np.sqrt(0.5)], [0, 1, np.sqrt(0.5)], [-np.sqrt(0.5), np.sqrt(0.5), 1]], atol=1e-15)
    np.testing.assert_allclose(similarity.off_diagonal(matrix), [0, -np.sqrt(0.5), np.sqrt(0.5)], atol=1e-15)


def test_zero_vector_is_named() -> None:
    with pytest.raises(PrefdynError, match="vector 1 is zero"):
        similarity.cosine_matrix([[1.0, 0], [0, 0]])


def test_typical_entry_of_a_row_leaves_its_diagonal_out() -> None:
    matrix = np.array([[1, -0.4, 0.2, 0.3], [-0.4, 1, 0, 0.1], [0.2, 0, 1, -0.9], [0.3, 0.1, -0.9, 1]])
    assert similarity.typical_per_row(matrix).tolist() == pytest.approx([0.2, 0, 0, 0.1])
    assert similarity.typical_per_row(matrix, absolute=True).tolist() == pytest.approx([0.3, 0.1, 0.2, 0.3])
    assert matrix[0, 0] == 1


@given(st.integers(0, 10**6))
def test_shuffled_groups_are_neighbours_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(4), 5))
    vectors = 10 * np.eye(4, 8)[group] + 0.5 * rng.normal(size=(20, 8))
    order = similarity.structure_order(similarity.cosine_matrix(vectors))
    assert sorted(order) == list(range(20))
    assert (np.diff(group[order]) != 0).sum() == 3


@given(st.integers(3, 30), st.integers(0, 10**6))
def test_centred_vectors_have_the_mean_cosine_that_the_page_says(count: int, seed: int) -> None:
    """Unit vectors that sum to zero: the mean off-diagonal cosine is -1 / (P - 1), whatever they are."""
    angles = 2 * np.pi * np.arange(count) / count
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(5, 5)))[0]
    vectors = np.stack([np.cos(angles), np.sin(angles), 0 * angles, 0 * angles, 0 * angles], axis=1) @ turn
    assert similarity.off_diagonal(similarity.cosine_matrix(vectors)).mean() == pytest.approx(-1 / (count - 1))
