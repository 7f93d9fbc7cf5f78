"""GN's Gaussian clusters, and its theorems as inequalities that solved dynamics must meet."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from prefdyn.errors import PrefdynError
from prefdyn.theory import clusters as theory
from prefdyn.theory import reward_dynamics as dynamics
from prefdyn.theory.clusters import Clusters

BETA = 0.1
INSIDE = Clusters(pairs=4, samples=100, dimension=64, spread=0.025, shared=0.5)


def solved(
    of: Clusters, seed: int = 0, points: int = 6
) -> tuple[dynamics.RewardPath, dynamics.OneTokenPreferences]:
    samples = of.draw(np.random.default_rng(seed))
    return dynamics.flow(samples, np.linspace(0, theory.tau_1(of, BETA), points), BETA), samples


# The data model -----------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 6))
def test_tokens_are_shared_as_reuse_prescribes(pairs: int, reuse: int) -> None:
    reuse = min(reuse, pairs)
    answers = Clusters(pairs, 1, pairs + 1, 0.1, 0.1, reuse).answers
    assert (answers[:, 0] != answers[:, 1]).all()
    assert len({frozenset(pair) for pair in answers.tolist()}) == pairs  # no two pairs of clusters share both
    assert max(Counter(answers.ravel().tolist()).values()) == reuse


def test_centres_are_orthonormal_concepts_beside_a_shared_component() -> None:
    of = Clusters(5, 1, 9, 0.1, 0.7)
    concepts, shared = (of.centres[:, 0] - of.centres[:, 1]) / 2, (of.centres[:, 0] + of.centres[:, 1]) / 2
    np.testing.assert_allclose(concepts @ concepts.T, np.eye(5))
    np.testing.assert_allclose(shared @ concepts.T, 0)
    np.testing.assert_allclose(np.linalg.norm(shared, axis=1), 0.7)


def test_samples_lie_round_their_centres_and_answer_as_their_cluster_does() -> None:
    of = Clusters(3, 4000, 8, 0.3, 0.6, reuse=2)
    samples = of.draw(np.random.default_rng(0))
    assert len(samples) == of.total == 24_000
    g = samples.features.reshape(3, 2, 4000, 8)
    np.testing.assert_allclose(g.mean(axis=2), of.centres, atol=0.03)
    np.testing.assert_allclose(g.std(axis=2), 0.3, atol=0.02)
    tokens = np.stack([samples.chosen, samples.rejected], axis=1).reshape(3, 2, 4000, 2)
    assert (tokens[:, 0] == of.answers[:, None]).all() and (tokens[:, 1] == of.answers[:, None, ::-1]).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"dimension": 4}, "do not fit into 4 dimensions"),
        ({"reuse": 5}, "cannot answer in 5 of 4"),
        ({"spread": -1.0}, "spread is -1.0"),
    ],
)
def test_clusters_that_cannot_be_are_refused(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(PrefdynError, match=words):
        replace(INSIDE, **wrong)


# Theorem 4.1 --------------------------------------------------------------------------------------


def test_conditions_say_which_fails_and_by_how_much() -> None:
    assert all(condition.holds for condition in theory.conditions(INSIDE))
    failing = [
        c for c in theory.conditions(replace(INSIDE, spread=0.1, shared=1.0, dimension=600)) if not c.holds
    ]
    assert [c.left for c in failing] == ["Z", "d", "v"]
    assert [c.excess for c in failing] == pytest.approx([0.75, 100, 0.075])
    assert str(failing[2]) == "v ≤ 1/(4√Q) fails by 0.075: 0.1 against 0.025"
    few = theory.conditions(replace(INSIDE, samples=16))
    assert [c.left for c in few if not c.holds] == ["Z"]


@given(st.integers(1, 5), st.integers(3, 5), st.integers(0, 10**6))
@settings(max_examples=15)
def test_limits_meet_every_condition_and_the_band_holds_there(pairs: int, root: int, seed: int) -> None:
    of = replace(theory.at_the_limits(pairs, root**4), dimension=2 * pairs + 2)
    assert all(condition.holds for condition in theory.conditions(of))
    path, samples = solved(of, seed)
    assert not theory.outside_band(path, samples, of).any()
    last = path.margins(samples)[-1]
    assert (last >= theory.LOG_3 / 40).all() and (last <= theory.LOG_3).all()


def test_band_by_hand() -> None:
    lower, upper = theory.band(INSIDE, [0.0, theory.tau_1(INSIDE, BETA)], BETA)
    assert lower.tolist() == pytest.approx([0, theory.LOG_3 / 40]) and upper.tolist() == pytest.approx(
        [0, theory.LOG_3]
    )
    assert theory.tau_1(INSIDE, BETA) == pytest.approx(4 * theory.LOG_3 / (5 * BETA**2))
    assert theory.tau_1(replace(INSIDE, samples=7), BETA) == pytest.approx(theory.tau_1(INSIDE, BETA))


def test_band_is_left_by_wide_clusters_and_each_margin_outside_is_counted() -> None:
    of = replace(INSIDE, spread=0.8)
    path, samples = solved(of)
    margins = path.margins(samples)
    lower, upper = theory.band(of, path.times, BETA)
    by_hand = [
        any(not lower[t] <= margins[t, j] <= upper[t] for t in range(1, len(lower)))
        for j in range(len(samples))
    ]
    assert theory.outside_band(path, samples, of).tolist() == by_hand
    assert 0.05 < np.mean(by_hand) < 0.95


def test_without_spread_the_rate_is_the_paper_s_sum_for_any_shared_component() -> None:
    """v = 0: every sample starts at beta^2 / N times 2 Q, and equal margins cancel the shared component."""
    for shared in (0.5, 30.0):
        of = Clusters(4, 10, 8, 0.0, shared, reuse=2)
        samples = of.draw(np.random.default_rng(0))
        np.testing.assert_allclose(
            dynamics.initial_rates(samples, samples, BETA), 2 * of.samples * BETA**2 / of.total, rtol=1e-9
        )


def test_ten_thousand_samples_take_seconds() -> None:
    """16 concepts at the theorem's limits; the dense system would be a matrix of 0.8 GB.

    Processor time: of two cores at most 10 s each.
    """
    of = replace(theory.at_the_limits(16, 313, reuse=1), reuse=2, shared=0.35)
    assert of.total > 10_000 and of.dimension == 5 * 313
    samples = of.draw(np.random.default_rng(0))
    start = time.process_time()
    path = dynamics.flow(samples, np.linspace(0, theory.tau_1(of, BETA), 11), BETA)
    assert time.process_time() - start < 20
    assert not theory.outside_band(path, samples, of).any()


# Theorem 4.2 --------------------------------------------------------------------------------------


def test_bounds_by_hand() -> None:
    assert theory.log_risk_bound(3, 10_000.0) == pytest.approx(np.log(2 * 3 * 10_000**2 * np.exp(-10 / 6)))
    of = Clusters(3, 100, 40, 0.025, 0.5)
    epsilon = 1 / (16 * 0.025 * 3)
    exponent = epsilon**2 / (2 * (2 + 40 * 0.025**2 + epsilon * 0.025))
    assert theory.log_risk_bound_appendix(of) == pytest.approx(np.log(2 * 3 * 100**2 * np.exp(-exponent)))
    assert theory.log_failure(of) == pytest.approx(np.log(12 * 3 * 100**2 * np.exp(-(epsilon**2) / 16)))
    assert epsilon / (40 * 0.025) < 1
    exponent = theory.least_constant(of) * epsilon / 0.025 * epsilon / (40 * 0.025)
    assert 12 * 3 * 100**2 * np.exp(-exponent) == pytest.approx(1)
    few = replace(of, dimension=20)  # below epsilon / v, so that the minimum is 1
    assert theory.least_constant(few) == pytest.approx(np.log(12 * 3 * 100**2) / (epsilon / 0.025))
    widest = theory.at_the_limits(1, 90_000)  # one concept: Z = 1, so epsilon / v is Q / 3
    assert theory.least_constant(widest) == pytest.approx(45 * np.log(12 * 90_000**2) / 90_000)
    point = replace(of, spread=0.0)
    assert theory.least_constant(point) == 0
    assert theory.log_risk_bound_appendix(point) == theory.log_failure(point) == -np.inf


@given(st.integers(1, 200))
@settings(max_examples=20)
def test_bound_is_below_one_from_the_found_size_on_and_not_before(pairs: int) -> None:
    size = theory.samples_until(lambda q: theory.log_risk_bound(pairs, q))
    assert theory.log_risk_bound(pairs, size * 0.999) > 0
    assert (theory.log_risk_bound(pairs, size * np.logspace(0.001, 8, 50)) < 0).all()


def test_bounds_that_never_or_always_say_something() -> None:
    assert theory.samples_until(lambda q: 1.0) == float("inf")
    assert theory.samples_until(lambda q: -1.0, smallest=81) == 81


@pytest.mark.parametrize("of", [Clusters(3, 20, 12, 0.6, 0.5), Clusters(4, 5, 12, 0.9, 1.5, reuse=2)])
def test_closed_risk_is_that_of_many_new_samples(of: Clusters) -> None:
    path, _ = solved(of, points=3)
    new = of.draw(np.random.default_rng(1), samples=40_000)
    simulated = (path.margins(new) <= 0).mean(axis=1)
    np.testing.assert_allclose(np.exp(theory.log_risks(path, of)), simulated, atol=0.004)
    assert simulated[0] == 1 and 0.01 < simulated[-1] < 0.4


def test_risk_of_tight_clusters_is_found_where_no_sampling_reaches() -> None:
    of = replace(INSIDE, samples=2000)
    path, _ = solved(of, points=2)
    # Training points along c_i almost exactly, so that a new sample errs 1 / v standard deviations out.
    assert theory.log_risks(path, of)[-1] == pytest.approx(norm.logcdf(-1 / of.spread), rel=0.02)


def test_too_few_samples_allow_no_reuse() -> None:
    with pytest.raises(PrefdynError, match="until Q = 81"):
        theory.at_the_limits(2, 80)
    assert theory.at_the_limits(2, 81).reuse == 1 and theory.at_the_limits(9, 625).reuse == 3
