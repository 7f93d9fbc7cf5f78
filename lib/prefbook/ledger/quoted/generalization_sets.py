"""Numbers about sets of personas that are fine-tuned together, all weights free, that the text of the chapter
`generalization` quotes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from prefbook.ledger.derived.generalization import (
    HELD_OUT,
    TRAINED,
    geometric_mean,
    logarithms,
    margins_left,
)
from prefbook.ledger.statistics.generalization import log_left, off_the_law
from prefbook.ledger.tables import NotMeasured, Tables
from prefdyn.measures.estimates import Estimate


def _held_out(tables: Tables, column: str, last: bool) -> str:
    """A mean over the anchors of the nested sets, held-out statements, alone or among the most."""
    table = tables["nested_sets"].query("split == 'held out'")
    count = table["K"].max() if last else table["K"].min()
    return f"{table.loc[table['K'] == count, column].mean():.2f}"


def _left(tables: Tables, split: str, of: str = "nested_sets") -> str:
    """What is left of the margin among the most personas, geometric mean over sets."""
    found = geometric_mean(margins_left(tables, split, of=of).iloc[:, -1])
    if np.isnan(found.value):
        return "none"
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _left_again(tables: Tables) -> str:
    """What another seed says is left of the held-out margin; see `_left`.

    Raises:
        NotMeasured: there is no other.
    """
    for seed in Tables(tables.folder).seeds:
        if seed != tables.seed:
            return _left(tables.of(seed), HELD_OUT)
    raise NotMeasured("the sets were trained with one seed")


def _precision(tables: Tables) -> str:
    """That in which the sets are trained again."""
    return ", ".join(_again(tables)["precision"].unique())


def _rounded(statistic: Callable[..., Estimate], tables: Tables) -> str:
    """What a statistic of the sets is in the other precision."""
    _again(tables)
    return str(statistic(tables, of="rounding"))


def _again(tables: Tables) -> pd.DataFrame:
    """The sets in the other precision.

    Raises:
        NotMeasured: they were trained in one alone.
    """
    table = tables["rounding"]
    if table.empty:
        raise NotMeasured("the sets were trained in one precision")
    return table


def _left_rounded(tables: Tables) -> str:
    """What is left of the held-out margin in the other precision; see `_left`."""
    _again(tables)
    return _left(tables, HELD_OUT, "rounding")


def _least_left(tables: Tables, of: str = "nested_sets") -> str:
    """What is left of the margin among the most personas, in the set that has least of `nested_sets`."""
    first, now = (margins_left(tables, HELD_OUT, of=name).iloc[:, -1] for name in ("nested_sets", of))
    return f"{now.iloc[int(np.argmin(first))]:.2f}"


def _least_left_rounded(tables: Tables) -> str:
    """The same set in the other precision."""
    _again(tables)
    return _least_left(tables, "rounding")


def _law(tables: Tables, power: float) -> str:
    """What the law leaves of the margin of the anchors among the most personas, mean over sets."""
    logs = logarithms(margins_left(tables, HELD_OUT, "foretold").iloc[:, -1])
    return f"{np.exp(power * logs.mean()):.2f}"


QUOTED: dict[str, Callable[[Tables], str]] = {
    "gn-accuracy-alone": partial(_held_out, column="accuracy", last=False),
    "gn-accuracy-most": partial(_held_out, column="accuracy", last=True),
    "gn-loss-alone": partial(_held_out, column="loss", last=False),
    "gn-loss-most": partial(_held_out, column="loss", last=True),
    "gn-sets": lambda tables: str(tables["nested_sets"]["set"].nunique()),
    "gn-largest": lambda tables: str(tables["nested_sets"]["K"].max()),
    "gn-left": partial(_left, split=HELD_OUT),
    "gn-left-trained": partial(_left, split=TRAINED),
    "gn-left-again": _left_again,
    "gn-precision": _precision,
    "gn-left-rounded": partial(_rounded, partial(log_left, split=HELD_OUT)),
    "gn-left-trained-rounded": partial(_rounded, partial(log_left, split=TRAINED)),
    "gn-law-rounded": partial(_rounded, partial(off_the_law, power=1.0)),
    "gn-root-rounded": partial(_rounded, partial(off_the_law, power=0.5)),
    "gn-least-left": _least_left,
    "gn-least-left-rounded": _least_left_rounded,
    "gn-left-in-other-precision": _left_rounded,
    "gn-law": partial(_law, power=1.0),
    "gn-root": partial(_law, power=0.5),
}
