"""Chance in labels and votes, against the distributions that they are said to have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published import make_persona
from scipy.stats import binom, binomtest

from prefdyn import data


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.9])
def test_a_binomial_share_of_each_label_is_turned(rate: float) -> None:
    labels = np.repeat(np.array([1, -1], dtype=np.int8), 10_000)
    flipped = data.mislabel(labels, rate, seed=3) != labels
    for half in (flipped[:10_000], flipped[10_000:]):
        assert binomtest(int(half.sum()), len(half), rate).pvalue > 1e-4


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**31))
def test_larger_rate_turns_a_superset(one: float, other: float, seed: int) -> None:
    labels = make_persona(40, 40).labels
    few, many = (data.mislabel(labels, rate, seed) != labels for rate in sorted((one, other)))
    assert not (few & ~many).any()


def test_rates_zero_and_one_turn_none_and_all() -> None:
    labels = make_persona(30, 20).labels
    assert (data.mislabel(labels, 0.0, 1) == labels).all()
    assert (data.mislabel(labels, 1.0, 1) == -labels).all()


def test_votes_follow_the_bradley_terry_probability() -> None:
    rng = np.random.default_rng(0)
    votes = [data.simulate_votes(1.5, 0.5, 25, rng) for _ in range(4000)]
    assert {chosen + rejected for chosen, rejected in votes} == {25}
    assert binomtest(sum(chosen for chosen, _ in votes), 25 * 4000, 1 / (1 + np.exp(-1.0))).pvalue > 1e-4
    spread = np.var([chosen for chosen, _ in votes])
    assert spread == pytest.approx(binom(25, 1 / (1 + np.exp(-1.0))).var(), rel=0.1)
