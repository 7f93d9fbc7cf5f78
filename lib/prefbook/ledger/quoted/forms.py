"""How numbers that are quoted are written."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from prefbook.ledger.tables import NotMeasured, Tables
from prefdyn.measures.estimates import Estimate

UNDEFINED = "not defined"
"""Where a run is too small for a number."""
MISSING = "not measured"
"""Where an edition has not what is quoted."""


def said(found: Estimate) -> str:
    """An estimate with its interval."""
    return UNDEFINED if np.isnan(found.value) else str(found)


def of(mask: pd.Series | np.ndarray) -> str:
    """How many of all."""
    return f"{int(np.sum(mask))} of {len(mask)}"


def signed(value: float, form: str) -> str:
    """A number with its sign, whichever that is."""
    return minus(f"{value:+{form}}")


def share(value: float) -> str:
    """A share as a percentage."""
    return f"{value:.0%}" if value == 0 or value >= 0.1 else f"{value:.1%}"


def rounded(value: float) -> str:
    """A number to two digits."""
    return minus(f"{value:.2g}")


def number(value: float) -> str:
    """A number to two digits, where it was measured."""
    return MISSING if np.isnan(value) else rounded(value)


def measured(found: Estimate) -> str:
    """An estimate with its interval, where it was measured."""
    return MISSING if np.isnan(found.value) else str(found)


def minus(text: str) -> str:
    """With minus signs for hyphens."""
    return text.replace("-", "−")


def further_seeds(statistic: Callable[[Tables], Estimate | str], table: str) -> Callable[[Tables], str]:
    """What a quantity is with each seed besides the first that its table has."""

    def said(tables: Tables) -> str:
        """
        Raises:
            NotMeasured: there is none.
        """
        whole = Tables(tables.folder)
        further = set(whole.seeds) - {tables.seed} - set(whole.pending.get(table, ()))
        if not further:
            raise NotMeasured(f"{table} was made with one seed")
        return " and ".join(str(statistic(whole.of(seed))) for seed in sorted(further))

    return said
