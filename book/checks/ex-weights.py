"""Check of the exercise ex-weights: `fair` against the inner products of the three behaviours."""

import numpy as np
from otter.test_files import test_case

OK_FORMAT = False
name = "ex-weights"
points = 3

THREE = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 1.0]])


@test_case(failure_message="`fair` must be an array of three weights, none of them negative.")
def test_shape(fair):
    assert np.shape(fair) == (3,) and (np.asarray(fair) >= 0).all()


@test_case(failure_message="The weights must sum up to 3.")
def test_sum(fair):
    assert abs(np.sum(fair) - 3) < 1e-9


@test_case(failure_message="The three gains, b_j times the weighted sum of all b_i, are not the same.")
def test_gains(fair):
    gains = THREE @ (np.asarray(fair) @ THREE)
    np.testing.assert_allclose(gains, gains.mean(), rtol=1e-9)
