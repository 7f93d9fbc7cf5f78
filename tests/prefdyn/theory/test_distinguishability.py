"""LD's theorems as inequalities that actual runs must meet, and its identities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from prefdyn.engine.last_layer import train
from prefdyn.engine.training import Settings
from prefdyn.measures.geometry import cosine, moments
from prefdyn.theory import distinguishability as theory

SEEDS = st.integers(0, 10**6)


def gaussians(
    seed: int, n: int = 40, d: int = 30, apart: float = 1.0, spread: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """n features of each label around two means, with an offset that both share."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=d)
    labels = np.repeat([1, -1], n)
    shared = rng.normal(size=d)
    means = shared + apart / 2 * labels[:, None] * direction / np.linalg.norm(direction)
    return means + spread * rng.normal(size=(2 * n, d)), labels


def settings_of(beta: float, rate: float, steps: int) -> Settings:
    return Settings(learning_rate=rate, steps=steps, batch_size=10**6, beta=beta)


# Theorem 4.1 --------------------------------------------------------------------------------------


@given(SEEDS, st.floats(0.05, 6), st.floats(0.05, 1.5), st.floats(0.05, 1))
@settings(max_examples=40)
def test_weight_change_stays_under_the_bound_where_the_conditions_hold(
    seed: int, apart: float, spread: float, share: float
) -> None:
    g, s = gaussians(seed, n=200, apart=apart, spread=spread)
    m = moments(g, s)
    # Chance alone must not make delta: the theorem is of the population's means.
    assume(m.distinguishability > 2 * m.distinguishability_of_chance)
    beta = 0.1
    rate = share / (4 * theory.conditions(m, beta, 1.0).step)
    conditions = theory.conditions(m, beta, rate)
    assert conditions.hold and conditions.step == pytest.approx(share / 4)
    run = train(g, s, settings_of(beta, rate, 60), np.zeros(30))
    bound = theory.weight_change_bound(run.record["step"], m, beta, rate)
    assert (run.record["distance"] <= bound + 1e-12).all()
    # With labels in balance the first step is the longest, as chapter 1 says.
    assert (run.record["distance"] <= bound * np.sqrt(2) / 24 + 1e-12).all()


def test_bound_by_hand() -> None:
    m = moments([[3.0, 0], [3, 0], [0, 4], [0, 4]], [1, 1, -1, -1])
    np.testing.assert_allclose(
        theory.weight_change_bound([0, 1, 10], m, beta=0.1, learning_rate=0.5), [0, 1.5, 15]
    )


def test_movement_by_hand() -> None:
    m = moments([[3.0, 0], [3, 0], [0, 4], [0, 4]], [1, 1, -1, -1])  # delta = 5
    straight = theory.movement([[0.0, 0], [1, 0], [2, 0], [3, 0]], m, beta=0.1, learning_rate=0.5)
    assert (straight.rate, straight.r_squared) == pytest.approx((np.sqrt(2), 1))
    assert straight.violations == 0 and straight.slack == pytest.approx(4.5 / np.sqrt(18))
    # Lengths 0, 1, 1 over sqrt(1/2): the line through the origin is 0, 3/5, 6/5; squares of what is left 4/25
    # + 1/25, of the whole 2/3.
    bent = theory.movement(
        np.array([[0.0, 0], [0, 1], [-1, 0]]) / np.sqrt(2), m, beta=0.01, learning_rate=3.0
    )
    assert (bent.rate, bent.r_squared, bent.violations) == pytest.approx((0.5, 1 - 0.2 / (2 / 3), 1))


@given(SEEDS, st.floats(0.001, 1), st.floats(0.001, 1))
@settings(max_examples=30)
def test_conditions_are_the_smallest_constants_that_the_features_meet(
    seed: int, beta: float, rate: float
) -> None:
    g, s = gaussians(seed)
    d = g.shape[1]
    got = theory.conditions(moments(g, s), beta, rate)
    sizes, norms = [], []
    for sign in (1, -1):
        covariance = np.cov(g[s == sign], rowvar=False)
        sizes.append(np.linalg.norm(g[s == sign].mean(axis=0)) + np.sqrt(np.trace(covariance)))
        norms.append(np.linalg.norm(covariance, ord=2))
    assert got.c_n * np.sqrt(d) == pytest.approx(max(sizes))
    assert got.c_v * np.sqrt(d) == pytest.approx(max(norms))
    assert got.step == pytest.approx((beta * np.sqrt(d)) ** 2 * rate * got.c_n**2)
    assert got.hold == (got.step <= 0.25)


# Theorem 4.2 --------------------------------------------------------------------------------------


@given(SEEDS, st.floats(0.1, 5), st.floats(0.01, 3), st.floats(-1, 1))
def test_boundary_turns_at_least_as_far_as_the_bound(
    seed: int, apart: float, rate: float, toward: float
) -> None:
    g, s = gaussians(seed, d=12, apart=apart)
    difference = moments(g, s).mean_difference
    weights = np.random.default_rng(seed + 1).normal(size=12) + toward * difference
    run = train(g, s, settings_of(0.5, rate, 20), weights)
    bound = theory.boundary_bound(run.path, weights, difference)
    actual = cosine(weights + 2 * run.path, difference)
    if actual[0] < 0:
        assert np.isnan(bound).all()
    else:
        assert bound[0] == pytest.approx(actual[0])
        assert (actual >= bound - 1e-9).all()


def test_bound_on_the_boundary_by_hand() -> None:
    # phi = 0, u along the difference: 0 + (1 - 0) * 6 / (2 + 6).
    assert theory.boundary_bound([[0.0, 0], [3, 0]], [0, 2.0], [5, 0]).tolist() == [0, 0.75]


@given(SEEDS)
@settings(max_examples=30)
def test_bound_is_exact_where_everything_points_one_way(seed: int) -> None:
    direction = np.random.default_rng(seed).normal(size=4)
    bound = theory.boundary_bound(np.outer([0, 1, 2], direction), direction, 3 * direction)
    np.testing.assert_allclose(bound, 1)


# Theorem 4.3 --------------------------------------------------------------------------------------


@given(SEEDS, st.floats(0.1, 8), st.floats(0.1, 1.5), st.floats(0, 3))
def test_guaranteed_accuracy_never_exceeds_the_actual(
    seed: int, apart: float, spread: float, off: float
) -> None:
    g, s = gaussians(seed, d=6, apart=apart, spread=spread)
    g = g - g.mean(axis=0)
    difference = moments(g, s).mean_difference
    boundary = difference + off * np.linalg.norm(difference) * np.random.default_rng(seed + 1).normal(size=6)
    proven = theory.guaranteed_accuracy(g, s, boundary, difference)
    assert 0 <= proven <= (s * (g @ boundary) >= 0).mean() + 1e-12


def test_guaranteed_accuracy_is_not_idle() -> None:
    g, s = gaussians(1, d=6, apart=6, spread=0.5)
    g = g - g.mean(axis=0)
    difference = moments(g, s).mean_difference
    across = np.array([-difference[1], difference[0], 0, 0, 0, 0])
    tilted = difference / np.linalg.norm(difference) + 0.9 * across / np.linalg.norm(across)
    assert theory.guaranteed_accuracy(g, s, difference, difference) > 0.99
    assert 0 < theory.guaranteed_accuracy(g, s, tilted, difference) < 0.99


def test_guaranteed_accuracy_by_hand() -> None:
    # C = 4/5, so a sample must lie along the signed difference with at least 3/4 of its length: 2/sqrt(5) is
    # enough, 1/sqrt(5) is not.
    g = [[2, 1.0], [1, 2], [-2, 1], [-1, 2], [-2, 1]]
    assert theory.guaranteed_accuracy(g, [1, 1, -1, -1, 1], [4, 3], [3, 0]) == pytest.approx(2 / 5)
    assert theory.guaranteed_accuracy(g, [1, 1, -1, -1, 1], [-1, 1], [3, 0]) == 0


# Priorities ---------------------------------------------------------------------------------------


@given(SEEDS, st.integers(2, 6))
@settings(max_examples=40)
def test_priority_gaps_are_antisymmetric_and_those_of_each_pair_alone(seed: int, behaviours: int) -> None:
    b = np.random.default_rng(seed).normal(size=(behaviours, 5))
    gaps = theory.priority_gaps(b)
    np.testing.assert_array_equal(gaps, -gaps.T)
    for i in range(behaviours):
        for j in range(behaviours):
            mean = (b[i] + b[j]) / 2
            scale = np.linalg.norm(mean) * max(np.linalg.norm(b[i]), np.linalg.norm(b[j]))
            assert gaps[i, j] == pytest.approx((mean @ b[i] - mean @ b[j]) / scale, abs=1e-12)


@given(SEEDS, st.integers(1, 6))
@settings(max_examples=40)
def test_priorities_are_at_most_one_and_average_to_the_mean_over_the_largest(
    seed: int, behaviours: int
) -> None:
    b = np.random.default_rng(seed).normal(size=(behaviours, 5)) + 0.5
    got = theory.priorities(b)
    assert (np.abs(got) <= 1 + 1e-12).all()
    assert got.mean() == pytest.approx(np.linalg.norm(b.mean(axis=0)) / np.linalg.norm(b, axis=1).max())
    np.testing.assert_allclose(theory.priorities(7 * b), got)


@given(SEEDS, st.integers(1, 4), st.floats(0.01, 2), st.floats(0.01, 2))
@settings(max_examples=40)
def test_first_joint_step_gains_exactly_what_the_priorities_say(
    seed: int, behaviours: int, beta: float, rate: float
) -> None:
    parts = [gaussians(seed + i, n=8 + 4 * i, d=7, apart=1 + i) for i in range(behaviours)]
    differences = [moments(g, s).mean_difference for g, s in parts]
    sizes = [len(s) for _, s in parts]
    weights = np.random.default_rng(seed).normal(size=7)
    run = train(
        np.vstack([g for g, _ in parts]),
        np.concatenate([s for _, s in parts]),
        settings_of(beta, rate, 1),
        weights,
    )
    before, after = weights + 2 * run.path  # W_B = W[y_+] - W[y_-], whose rows move by u and -u
    measured = [(s * (g @ after) - s * (g @ before)).mean() for g, s in parts]
    np.testing.assert_allclose(
        theory.first_step_gains(differences, beta, rate, sizes), measured, rtol=1e-9, atol=1e-12
    )


def test_equalising_weights_give_every_behaviour_the_same_gain() -> None:
    rng = np.random.default_rng(0)
    b = rng.normal(size=(6, 40)) * rng.uniform(0.5, 3, size=(6, 1)) + 0.3
    weights = theory.equalising_weights(b)
    gains = b @ (weights @ b)
    assert weights.sum() == pytest.approx(6) and (weights >= 0).all()
    np.testing.assert_allclose(gains, gains.mean(), rtol=1e-9)


def test_equalising_weights_by_hand() -> None:
    """At a right angle a gain is w delta^2: lengths 1 and 2 are weighted 4 to 1."""
    np.testing.assert_allclose(theory.equalising_weights([[1, 0], [0, 2]]), [1.6, 0.4])
