"""Two models on the same examples: the test against the binomial, the interval by its coverage, exactly."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from prefdyn.errors import PrefdynError
from prefdyn.measures import paired


def test_cells_and_p_of_a_hand_worked_table() -> None:
    first = [1] * 5 + [1] * 6 + [0] * 2 + [0] * 7
    second = [1] * 5 + [0] * 6 + [1] * 2 + [0] * 7
    found = paired.compare(first, second)
    assert (found.both, found.first, found.second, found.neither) == (5, 6, 2, 7)
    assert found.difference.value == pytest.approx(4 / 20) and found.difference.n == 20
    tail = sum(28 if k == 2 else 8 if k == 1 else 1 for k in (0, 1, 2)) / 2**8
    assert found.p == pytest.approx(2 * tail)
    assert found.p == pytest.approx(stats.binomtest(6, 8).pvalue)
    assert paired.compare(second, first).difference.value == pytest.approx(-4 / 20)


@pytest.mark.parametrize(("first", "second"), [([1, 0, 1], [0]), ([], [])])
def test_models_on_other_examples_are_not_compared(first: list[int], second: list[int]) -> None:
    with pytest.raises(PrefdynError, match="on the same examples"):
        paired.compare(first, second)


def test_p_is_mcnemars_where_no_prompt_is_shared() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 9, 40, 700):
        first, second = rng.random((2, n)) < [[0.6], [0.5]]
        found = paired.compare(first, second)
        published = mcnemar([[found.both, found.first], [found.second, found.neither]], exact=True)
        assert found.p == pytest.approx(published.pvalue), n
        assert found == paired.compare(first, second, rng.permutation(n))


def test_sign_flips_by_all_signs() -> None:
    terms = np.array([3, -1, 2, 0, 1, -1, 2])
    sums = [np.dot(signs, terms) for signs in product((1, -1), repeat=7)]
    assert paired.sign_flips(terms) == pytest.approx(np.mean(np.abs(sums) >= 6))
    assert paired.sign_flips([4]) == paired.sign_flips([0, 0]) == paired.sign_flips([2, -2]) == 1
    assert paired.sign_flips([1] * 10) == pytest.approx(2 / 2**10)


def test_examples_of_one_prompt_are_worth_no_more_than_one() -> None:
    """Each of thirty prompts five times: a test that takes the copies for new evidence is too sure."""
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 30)) < [[0.7], [0.5]]
    once = paired.compare(first, second)
    copied = paired.compare(*(np.repeat(hits, 5) for hits in (first, second)), np.repeat(np.arange(30), 5))
    assert (copied.first, copied.second) == (5 * once.first, 5 * once.second)
    assert copied.p == pytest.approx(once.p)
    assert copied.difference.value == pytest.approx(once.difference.value) and copied.difference.n == 150
    widths = [found.difference.high - found.difference.low for found in (once, copied)]
    assert widths[0] < widths[1] < 1.05 * widths[0]  # by the degrees of freedom of thirty prompts
    few = paired.compare(np.repeat([1, 1, 0], 9), np.repeat([0, 0, 0], 9), np.repeat([0, 1, 2], 9))
    assert few.difference.value == 2 / 3 and np.isnan([few.difference.low, few.difference.high]).all()
    assert few.p == 0.5


def test_a_coin_is_one_half_of_a_hit() -> None:
    """A model whose scores are all equal beside one that is right in 12 of 20: 0.6 - 0.5, and no evidence."""
    first, second = [0.5] * 20, [1] * 12 + [0] * 8
    found = paired.compare(first, second)
    assert found.difference.value == pytest.approx(-0.1)
    assert found.difference.low < -0.1 < found.difference.high
    assert (found.both, found.first, found.second, found.neither) == (0, 8, 12, 0)
    assert found.p == pytest.approx(stats.binomtest(8, 20).pvalue)
    thirds = paired.compare([1 / 3, 1, 0], [0, 1, 1 / 3])
    assert thirds.difference.value == 0 and (thirds.both, thirds.first, thirds.second) == (1, 1, 1)


def test_p_knows_by_how_much_one_is_ahead() -> None:
    """Forty small leads weigh up twenty whole ones; and leads of all sizes by all signs."""
    even = paired.compare([0.5] * 40 + [0] * 20, [0] * 40 + [1] * 20)
    assert even.difference.value == 0 and even.p == pytest.approx(1)
    assert (even.first, even.second) == (40, 20)
    first, second = [1, 1, 1 / 2, 1 / 3, 0, 1, 1 / 2], [0, 1 / 2, 1, 1, 1 / 6, 0, 0]
    ahead = np.subtract(first, second)
    sums = np.array([np.dot(signs, ahead) for signs in product((1, -1), repeat=7)])
    expected = np.mean(np.abs(sums) >= abs(ahead.sum()) - 1e-9)
    assert 0.2 < expected < 0.9
    assert paired.compare(first, second).p == pytest.approx(expected)


def test_interval_is_the_published_one_by_hand() -> None:
    """Agresti and Min's of 20 examples with 6 and 2 on which one alone is right."""
    found = paired.difference([1] * 6 + [-1] * 2 + [0] * 12, 20)
    b, c, n = 6.5, 2.5, 22
    half = 1.959964 * np.sqrt((b + c) - (b - c) ** 2 / n) / n
    assert (found.low, found.high) == pytest.approx(((b - c) / n - half, (b - c) / n + half))


def test_models_that_never_differ_have_an_interval_all_the_same() -> None:
    found = paired.compare([1, 0, 1, 1], [1, 0, 1, 1])
    assert found.p == 1 and found.difference.value == 0
    assert found.difference.low < 0 < found.difference.high


@pytest.mark.parametrize(("only_first", "only_second"), [(0.05, 0.05), (0.2, 0.1), (0.3, 0.02), (0.01, 0.01)])
@pytest.mark.parametrize("n", [25, 100])
def test_interval_covers_the_difference_as_often_as_it_says(
    only_first: float, only_second: float, n: int
) -> None:
    truth, covered = only_first - only_second, 0.0
    chances = (only_first, only_second, 1 - only_first - only_second)
    for b in range(n + 1):
        for c in range(n + 1 - b):
            mass = stats.multinomial.pmf((b, c, n - b - c), n, chances) if b + c < 60 else 0.0
            if mass > 1e-9:
                interval = paired.difference([1] * b + [-1] * c + [0] * (n - b - c), n)
                covered += mass * (interval.low <= truth <= interval.high)
    assert covered >= 0.93


def test_pairing_says_what_two_accuracies_leave_open() -> None:
    """Two models right in 60 and 52 of the same 100 examples, and only where the first is right, the second
    is: their Wilson intervals overlap.
    """
    first, second = np.arange(100) < 60, np.arange(100) < 52
    found = paired.compare(first, second)
    assert found.difference.low > 0 and found.p < 0.01


def test_holm_by_hand() -> None:
    assert paired.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert len(paired.holm([])) == 0


def test_guessers_of_equal_chances_are_binomial() -> None:
    found = paired.guessed([0.5] * 100)
    assert (found.value, found.n) == (0.5, 100)
    assert (found.low, found.high) == (0.40, 0.60)  # 95% of a binomial of 100 fair coins lie in 40 to 60


def test_guessers_of_mixed_chances_by_all_outcomes() -> None:
    chances = [0.5, 0.5, 1 / 6, 1 / 24, 0.25, 0.5, 0.25, 1 / 6]
    mass = np.zeros(9)
    for outcome in product((0, 1), repeat=8):
        mass[sum(outcome)] += np.prod([p if hit else 1 - p for p, hit in zip(chances, outcome, strict=True)])
    below = np.cumsum(mass)
    found = paired.guessed(chances)
    assert found.value == pytest.approx(np.mean(chances))
    assert found.low == np.flatnonzero(below >= 0.025)[0] / 8
    assert found.high == np.flatnonzero(below >= 0.975)[0] / 8
