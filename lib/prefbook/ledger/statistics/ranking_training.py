"""What the claims of the chapter `ranking` about DPO itself are judged by: which pairs it turns, whether they
obey the threshold, what it does to the win rate, and whether gains tell who is turned.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from prefbook.ledger.derived.ranking import (
    UNKNOWN,
    change,
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
    """Pairs and runs are resampled together."""
    found = tables["flips"].query("split == @split")
    inside = found[(found["step"] > 0) & (found["step"] < found["last"])]
    followed = tables["followed"].query("split == @split").merge(inside[["run", "step"]], on=["run", "step"])
    if followed.empty or (followed["c"] > 0).sum() < 3:
        return UNKNOWN
    wide = followed.assign(wrong=(followed["c"] > 0).astype(float))
    wrong, right = (
        wide.pivot(index="run", columns="pair", values=name).to_numpy() for name in ("wrong", "right")
    )
    flipped = wrong * right
    runs, pairs = wrong.shape
    weights = [estimates.resample_counts(n, tables.seed + k) for k, n in enumerate((runs, pairs))]
    drawn = [np.vecdot(weights[0] @ part, weights[1]) for part in (flipped, wrong)]
    with np.errstate(invalid="ignore"):
        shares = drawn[0] / drawn[1]
    n = int(wrong.any(axis=0).sum())
    return estimates.from_resamples(float(flipped.sum() / wrong.sum()), shares, n, pairs)


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
    names, index = np.unique(pairs["cluster"], return_inverse=True)
    wrong = (pairs["c"] > 0).to_numpy()
    if len(names) < estimates.FEWEST_CLUSTERS or wrong.sum() < 3 or (~wrong).sum() < 3:
        return estimates.unknown(int(wrong.sum()))
    gain, c = pairs["gain"].to_numpy(), pairs["c"].to_numpy()
    over = (gain[~wrong][:, None] >= c[wrong]).astype(float)
    flipped = (gain[wrong] >= c[wrong]).astype(float)

    def off(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        right, left = weights[:, ~wrong], weights[:, wrong]
        with np.errstate(invalid="ignore"):
            foretold = ((right @ over) * left).sum(1) / (right.sum(1) * left.sum(1))
            return np.abs(foretold - left @ flipped / left.sum(1))

    counts = estimates.resample_counts(len(names), tables.seed)[:, index]
    value = float(off(np.ones((1, len(pairs))))[0])
    return estimates.from_resamples(value, off(counts), int(wrong.sum()), len(names), widened=True)


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
