"""Best of n and ties, by hand, by all permutations, and as reward-bench 0.1.4 has them.

That package wants transformers 4.51 and does not install beside ours, so what its functions made of these
rows is kept here.
"""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from prefdyn.measures import best_of

ROWS = [
    ("ref:0", [2.0, 0.5], 1),
    ("tied:0", [1.5, 1.0, 0.2, -0.4], 2),
    ("ref:1", [0.3, 0.6, 0.1], 1),
    ("tied:1", [2.0, 0.1, 0.4], 2),
    ("ref:2", [4.0, 1.0], 1),
    ("tied:2", [3.0, 3.0, 1.0, 0.0], 2),
    ("ref:3", [1.0, 0.9], 1),
    ("tied:3", [0.7, 0.2], 1),
    ("ref:4", [2.5, -1.0], 1),
    ("tied:4", [2.0, 1.8, 1.9, -0.5, -2.0], 3),
    ("ref:5", [0.0, -3.0], 1),
    ("tied:6", [1.0, 0.5, 0.9], 2),
]
"""Questions with the scores of their responses, of which the first so many are correct: all that can happen
to a pair, such as one correct answer where several are expected, equal scores, and a missing partner.
"""
PEER = 0.7523889898756819
"""What `rewardbench.process_single_model` of reward-bench 0.1.4 makes of them."""


def of_rows(rows: list[tuple[str, list[float], int]]) -> tuple[dict[str, best_of.Margins], ...]:
    kinds: dict[str, dict[str, best_of.Margins]] = {"ref": {}, "tied": {}}
    for name, scores, correct in rows:
        kind, pair = name.split(":")
        kinds[kind][pair] = best_of.margins(scores, [0] * correct + [1] * (len(scores) - correct))
    return kinds["ref"], kinds["tied"]


def test_ties_are_scored_as_reward_bench_scores_them() -> None:
    assert best_of.ties(*of_rows(ROWS)).value == pytest.approx(PEER, abs=1e-12)


def test_ties_by_hand() -> None:
    """Pair 0 is right in everything: the worst correct answer is 0.8 above the incorrect ones and 0.5 below
    the best correct one, and the reference is 1.5 apart; the ratio of 0.8 to 0.5 is 1.6.
    """
    (score,) = [best_of.ties(*of_rows(ROWS[:2]))]
    assert score.value == pytest.approx(1 + 0.01 * math.tanh(0.6)) and math.isnan(score.low)
    only_reference_right = [("ref:0", [2.0, 0.5], 1), ("tied:0", [1.0, 0.1, 0.4], 2)]
    below = math.tanh(-0.3 / 0.9 - 1)
    assert best_of.ties(*of_rows(only_reference_right)).value == pytest.approx(0.3 + 0.01 * below)


def test_interval_of_ties_covers_the_score_of_more_pairs() -> None:
    def drawn(pairs: int, seed: int) -> tuple[dict[str, best_of.Margins], ...]:
        rng = np.random.default_rng(seed)
        rows = []
        for i in range(pairs):
            rows.append((f"ref:{i}", [0.8, *rng.normal(size=2)], 1))
            rows.append((f"tied:{i}", [*(0.8 + 0.5 * rng.normal(size=3)), *rng.normal(size=2)], 3))
        return of_rows(rows)

    truth = best_of.ties(*drawn(4000, 0)).value
    some = [best_of.ties(*drawn(40, seed)) for seed in range(1, 41)]
    assert sum(one.low <= truth <= one.high for one in some) >= 34  # of 40 at 95%, binomial
    assert np.mean([one.high - one.low for one in some]) < 0.4


def test_the_best_of_n_shares_its_credit_with_what_scores_alike() -> None:
    """The shares are those of `rewardbench.reroll_and_score_dataset`, reward-bench 0.1.4."""
    rows = [
        (1.0, 0.5, 0.2, 0.1),
        (1.0, 1.0, 0.2, 0.1),
        (0.1, 0.5, 0.5, 0.1),
        (2.0, 2.0, 2.0, 1.0),
        (0.0,) * 4,
    ]
    assert [best_of.found(row, (0, 1, 1, 1)) for row in rows] == pytest.approx([1, 1 / 2, 0, 1 / 3, 1 / 4])
    assert best_of.found((0.1, 3.0, 2.0), (2, 0, 1)) == 1  # whatever the order of the others
    assert best_of.found((2.0, 1.0, 0.0), (0, 0, 1)) == 1 and best_of.found((2.0, 0.0, 1.0), (0, 0, 1)) == 0


def test_order_is_a_coin_where_scores_are_alike() -> None:
    assert (
        best_of.ordered((3.0, 2.0, 1.0), (0, 1, 2)) == 1 and best_of.ordered((3.0, 2.0, 1.0), (0, 2, 1)) == 0
    )
    assert best_of.ordered((1.0, 1.0), (1, 0)) == 1 / 2
    assert best_of.ordered((1.0, 1.0, 1.0, 0.0), (2, 0, 1, 3)) == 1 / 6
    assert best_of.ordered((1.0, 1.0, 2.0), (0, 1, 2)) == 0


@pytest.mark.parametrize("ranks", [(0, 1), (0, 1, 1, 1), (0, 0, 1), (0, 0, 1, 1, 1), (2, 0, 1)])
def test_chance_is_the_share_of_orders_that_find_the_best(ranks: tuple[int, ...]) -> None:
    orders = list(permutations(range(len(ranks))))
    share = np.mean([best_of.found(order, ranks) for order in orders])
    assert best_of.found_by_chance(ranks) == pytest.approx(share)
