"""Chance in labels and votes, against the distributions that they are said to have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published import make_persona
from scipy.stats import binom, binomtest

from prefdyn import data
from prefdyn.data import Pair, noise
from prefdyn.errors import PrefdynError


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


@pytest.mark.parametrize("kind", noise.KINDS)
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3, 0.5])
def test_every_kind_of_noise_has_the_mean_rate(kind: str, rate: float) -> None:
    rng = np.random.default_rng(0)
    labels, margins = np.repeat([1, -1], 500), rng.normal(size=1000)
    odds = noise.flip_probabilities(kind, labels, margins, rate)
    assert odds.mean() == pytest.approx(rate, abs=1e-9) and (odds >= 0).all() and (odds <= 1).all()


@pytest.mark.parametrize(
    ("kind", "rate", "margins", "named"),
    [
        ("by certainty", 0.1, [1.0, 2.0], "'by certainty'"),
        ("one-sided", 0.7, [1.0, 2.0], "0.7"),
        ("coin", -0.1, [1.0, 2.0], "-0.1"),
        ("by uncertainty", 0.2, [0.0, 0.0], "no temperature gives a noise rate of 0.2: 2 of 2"),
    ],
)
def test_noise_that_cannot_be_is_refused(kind: str, rate: float, margins: list[float], named: str) -> None:
    with pytest.raises(PrefdynError, match=named):
        noise.flip_probabilities(kind, [1, -1], margins, rate)


def test_kinds_of_noise_differ_in_whom_they_hit() -> None:
    labels, margins = np.array([1, 1, -1, -1]), np.array([0.1, -2.0, 1.0, -0.2])
    of = {kind: noise.flip_probabilities(kind, labels, margins, 0.25) for kind in noise.KINDS}
    assert of["coin"].tolist() == [0.25] * 4
    assert of["one-sided"].tolist() == [0.5, 0.5, 0, 0]
    assert of["by margin"].tolist() == [0.5, 0, 0, 0.5]
    # A Bradley-Terry rater: the odds of a right label are exponential in the margin's size.
    odds = np.log(1 / of["by uncertainty"] - 1) / np.abs(margins)
    assert np.allclose(odds, odds[0]) and odds[0] > 0


def test_judge_prefers_the_shorter_response() -> None:
    pairs = [Pair("p", "aa", "b"), Pair("p", "a", "bb"), Pair("p", "a", "b")]
    judged = noise.judged_by_length(pairs)
    assert judged == [Pair("p", "b", "aa"), Pair("p", "a", "bb")]
