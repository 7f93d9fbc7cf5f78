"""Ranking accuracy of models on data sets, as a table: RA's Tables 2 to 6 for one's own models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn.data import Ranking, Source, datasets
from prefdyn.engine.scoring import ResponseLogProbs
from prefdyn.errors import PrefdynError
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.plan import model_size
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate
from prefdyn.models import loading
from prefdyn.theory import ranking as theory

COLUMNS = ["model", "data", "examples", "responses", "ties", "accuracy", "low", "high", "chance"]
"""Of the table, one row a model, data set and kind of accuracy: whether rankings with ties are in it, and
which likelihoods it is of.
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
    """Ranking accuracy over rankings, with Wilson's interval.

    Args:
        normalised: of the likelihoods per token (RA's R with a tilde) instead of those of whole responses.

    Raises:
        PrefdynError: fewer than three rankings.
    """
    return estimates.proportion(hits(rankings, scores, normalised))


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
        by_chance = float(np.mean([theory.chance(ranking.ranks) for ranking in some]))
        for normalised in (True, False):
            found = accuracy(some, of, normalised)
            kind = "per token" if normalised else "whole"
            rows.append((model, name, found.n, kind, ties, found.value, found.low, found.high, by_chance))
    return pd.DataFrame(rows, columns=COLUMNS)


def rank(
    models: Sequence[str],
    names: Sequence[str],
    source: Source = "hub",
    limit: int = 1000,
    seed: int = 0,
    device: str = "auto",
    max_length: int = 512,
    progress: bool = True,
) -> Iterator[pd.DataFrame]:
    """Score every model on every data set; after each, the table so far, see `COLUMNS`.

    What was scored before, or by a run that was killed, is not scored again.

    Args:
        names: as `datasets.load` takes them; "sample" is the embedded pairs whatever the source.
        limit: rankings of each data set, drawn by the seed; 0 is all.

    Raises:
        PrefdynError: no such model or data set, or data that is not of its schema, before anything is scored;
            a model that cannot be loaded, or gives no numbers.
    """
    from tqdm import tqdm

    if not names:
        raise PrefdynError("no data set is named: give --data NAME")
    for model in models:
        model_size(loading.full_name(model))
    rankings = {name: datasets.load(name, source, limit, seed) for name in names}
    found: list[pd.DataFrame] = []
    for model in models:
        bench = Bench(model, seed=seed, device=device, precision="float32")
        for name, some in rankings.items():
            with tqdm(
                total=len(some), desc=f"{bench.model_name} on {name}", unit="ranking", disable=not progress
            ) as bar:
                scores = bench.scores(some, max_length, done=bar.update)
            found.append(table(some, scores, bench.model_name, name))
            yield pd.concat(found, ignore_index=True)
