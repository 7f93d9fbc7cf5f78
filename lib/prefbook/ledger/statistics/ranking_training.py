"""What the claims of the chapter `ranking` about DPO itself are judged by: which pairs it turns, whether they
obey the threshold, what it does to the win rate, and whether gains tell who is turned.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from prefbook.ledger.derived.ranking import (
    by_cluster,
    change,
    flipped,
    flips_found_and_foretold,
    last_look,
    over_draws,
    trained_right,
    win_rates,
)
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate

# RA-3 -----------------------------------------------------------------------------------------------


def flipped_trained(tables: Tables) -> Estimate:
    """Of the trained pairs that the reference ranks wrong, the share that is ranked right at the lowest
    validation loss, over runs in which that lies between the first and the last look.
    """
    return _flipped(tables, "trained")


def flipped_unseen(tables: Tables) -> Estimate:
    """The same of unseen pairs."""
    return _flipped(tables, "unseen")


def _flipped(tables: Tables, split: str) -> Estimate:
    found = tables["flips"].query("split == @split")
    inside = found[(found["step"] > 0) & (found["step"] < found["last"])]
    followed = tables["followed"].query("split == @split").merge(inside[["run", "step"]], on=["run", "step"])
    return flipped(followed, tables.seed)


# RA-4 -----------------------------------------------------------------------------------------------


def threshold_violations(tables: Tables) -> Estimate:
    """Pairs at looks that violate Theorem 4.1."""
    return _violations(tables, "Theorem 4.1")


def sanity_violations(tables: Tables) -> Estimate:
    """Those that violate Proposition 2.6."""
    return _violations(tables, "Proposition 2.6")


def ipo_violations(tables: Tables) -> Estimate:
    """Those that violate Proposition A.7."""
    return _violations(tables, "Proposition A.7")


def _violations(tables: Tables, statement: str) -> Estimate:
    found = tables["identities"]
    row = found[found["statement"] == statement]
    points, broken = int(row["points"].item()), int(row["violations"].item())
    return estimates.count(broken, points)


# RA-5 -----------------------------------------------------------------------------------------------


def wins_in_the_first_half(tables: Tables) -> Estimate:
    """Change of the win rate in the first half of DPO in the world with a known judge, mean over strengths,
    prompts and draws.
    """
    return over_draws(change(win_rates(tables), 0))


def wins_in_the_second_half(tables: Tables) -> Estimate:
    """The same in the second half."""
    return over_draws(change(win_rates(tables), 1))


def rankings_in_the_second_half(tables: Tables) -> Estimate:
    """Change of the ranking accuracy of trained pairs in the second half, likewise."""
    return over_draws(change(trained_right(tables), 1))


# RA-10 ----------------------------------------------------------------------------------------------


def law_off_unseen(tables: Tables) -> Estimate:
    """How far the share of wrong unseen pairs that flips is from what the gains of right ones foretell."""
    return _law_off(tables, "unseen")


def law_off_trained(tables: Tables) -> Estimate:
    """The same of trained pairs."""
    return _law_off(tables, "trained")


def _law_off(tables: Tables, split: str) -> Estimate:
    pairs = last_look(tables, split)
    many, wrong = pairs["cluster"].nunique(), int((pairs["c"] > 0).sum())
    if many < estimates.FEWEST_CLUSTERS or min(wrong, len(pairs) - wrong) < 3:
        return estimates.unknown(wrong)

    def off(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        found, foretold = flips_found_and_foretold(pairs, weights)
        return np.abs(foretold - found)

    return by_cluster(off, pairs, tables.seed, wrong, widened=True)


STATISTICS: dict[str, Callable[[Tables], Estimate]] = {
    function.__name__: function
    for function in (
        flipped_trained,
        flipped_unseen,
        threshold_violations,
        sanity_violations,
        ipo_violations,
        wins_in_the_first_half,
        wins_in_the_second_half,
        rankings_in_the_second_half,
        law_off_unseen,
        law_off_trained,
    )
}
