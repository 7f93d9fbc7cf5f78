"""How often a model ranks right: the accuracies of one model on one data set, as a chapter has them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn.data import Ranking
from prefdyn.engine.scoring import ResponseLogProbs
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate
from prefdyn.theory import ranking as theory

COLUMNS = ["model", "data", "examples", "responses", "ties", "accuracy", "low", "high", "chance"]
"""Of the table, one row a model, data set and kind of accuracy: whether rankings with ties are in it, and
which likelihoods it is of. `chance` is empty where ties are counted.
"""


def hits(
    rankings: Sequence[Ranking], scores: Sequence[ResponseLogProbs], normalised: bool
) -> NDArray[np.bool_]:
    """Which rankings the model has right, shape (n,); see `accuracy`."""
    values = [one.per_token if normalised else one.total for one in scores]
    return np.array(
        [theory.ranked_right(value, ranking.ranks) for value, ranking in zip(values, rankings, strict=True)]
    )


def accuracy(rankings: Sequence[Ranking], scores: Sequence[ResponseLogProbs], normalised: bool) -> Estimate:
    """Ranking accuracy over rankings, with Wilson's interval; rankings of one prompt may be alike.

    Args:
        normalised: of the likelihoods per token (RA's R with a tilde) instead of those of whole responses.

    Raises:
        PrefdynError: fewer than three rankings.
    """
    prompts = [ranking.prompt for ranking in rankings]
    return estimates.proportion(hits(rankings, scores, normalised), prompts)


def table(
    rankings: Sequence[Ranking], scores: Sequence[ResponseLogProbs], model: str, name: str
) -> pd.DataFrame:
    """Rows of `COLUMNS` for one model and data set: without ties, and with them where there are any."""
    rows = []
    everyone = list(range(len(rankings)))
    clear = [i for i in everyone if not rankings[i].tied]
    parts = {"left out" if len(clear) < len(everyone) else "none": clear}
    if len(clear) < len(everyone):
        parts["counted"] = everyone
    for ties, part in parts.items():
        if len(part) < 3:
            continue
        some, of = [rankings[i] for i in part], [scores[i] for i in part]
        # By the paper's rule nearly every model has most ties right: no guess of an order is its baseline.
        guess = np.nan if ties == "counted" else np.mean([theory.chance(ranking.ranks) for ranking in some])
        for normalised in (True, False):
            found = accuracy(some, of, normalised)
            kind = "per token" if normalised else "whole"
            rows.append((model, name, found.n, kind, ties, found.value, found.low, found.high, guess))
    return pd.DataFrame(rows, columns=COLUMNS)
