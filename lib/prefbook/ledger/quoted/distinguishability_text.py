"""Numbers about response pairs that the text of the chapter `distinguishability` quotes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats

from prefbook.ledger.quoted.forms import UNDEFINED, further_seeds, minus, signed
from prefbook.ledger.statistics.distinguishability import text_misaligned_faster
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates


def _over_text(of: Callable[[pd.DataFrame], pd.Series]) -> Callable[[Tables], str]:
    """A quantity of held-out response pairs (nats), mean over them."""

    def tell(tables: Tables) -> str:
        found = estimates.mean(of(tables["text_by_pair"]))
        value, low, high = (signed(number, ".1f") for number in (found.value, found.low, found.high))
        return f"{value} [{low}, {high}]"

    return tell


def _at_one_length(of: Callable[[pd.DataFrame], pd.Series]) -> Callable[[Tables], str]:
    """The same where both responses have as many tokens, by a straight line in the difference."""

    def tell(tables: Tables) -> str:
        pairs = tables["text_by_pair"]
        if (pairs["rejected tokens"] - pairs["chosen tokens"]).nunique() < 2:
            return UNDEFINED
        line = stats.linregress(pairs["rejected tokens"] - pairs["chosen tokens"], of(pairs))
        half = stats.t.ppf(0.975, len(pairs) - 2) * line.intercept_stderr
        value, low, high = (signed(line.intercept + by, ".1f") for by in (0, -half, half))
        return f"{value} [{low}, {high}]"

    return tell


def _faster_undone(pairs: pd.DataFrame) -> pd.Series:
    return pairs["lead by undoing"] - pairs["lead by misaligning"]


def _pairs_needed(tables: Tables) -> str:
    """Held-out pairs with which half a nat, which LD-8 says matters, is found in four cases of five."""
    spread = _faster_undone(tables["text_by_pair"]).std()
    return f"{float(f'{(2.8 * spread / 0.5) ** 2:.2g}'):,.0f}"


def _whole_responses(tables: Tables) -> str:
    """LD-15's rank correlation with the change of the whole response."""
    pairs = tables["text_by_pair"]
    return str(estimates.spearman(pairs["CHES"], pairs["chosen"] * pairs["chosen tokens"], tables.seed))


def _whole_responses_at_one_length(tables: Tables) -> str:
    """The same as a partial rank correlation, the number of tokens held constant."""
    pairs = tables["text_by_pair"]
    change = pairs["chosen"] * pairs["chosen tokens"]
    ranks = [stats.rankdata(column) for column in (pairs["CHES"], change, pairs["chosen tokens"])]
    (_, xy, xz), (_, _, yz), _ = np.corrcoef(ranks)
    held = np.sqrt((1 - xz**2) * (1 - yz**2))
    return signed((xy - xz * yz) / held, ".2f") if held > 0 else UNDEFINED


def _longer(tables: Tables) -> str:
    """By how many tokens rejected responses are longer, mean over pairs."""
    pairs = tables["text_by_pair"]
    return minus(f"{(pairs['rejected tokens'] - pairs['chosen tokens']).mean():.1f}")


def _displaced(tables: Tables) -> str:
    share = estimates.proportion(tables["text_by_pair"]["chosen"] < 0)
    return f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"


QUOTED: dict[str, Callable[[Tables], str]] = {
    "chosen": _over_text(lambda pairs: pairs["chosen"] * pairs["chosen tokens"]),
    "rejected": _over_text(lambda pairs: pairs["rejected"] * pairs["rejected tokens"]),
    "displaced": _displaced,
    "CHES and whole responses": _whole_responses,
    "CHES at one length": _whole_responses_at_one_length,
    "text aligning": _over_text(lambda pairs: pairs["lead by aligning"]),
    "text undoing": _over_text(lambda pairs: pairs["lead by undoing"]),
    "text from base": _over_text(lambda pairs: pairs["lead by misaligning"]),
    "text spread": lambda tables: f"{_faster_undone(tables['text_by_pair']).std():.2g}",
    "text pairs needed": _pairs_needed,
    "text by seed": further_seeds(text_misaligned_faster, "text_by_pair"),
    "text difference at one length": _at_one_length(_faster_undone),
    "text at one length by seed": further_seeds(_at_one_length(_faster_undone), "text_by_pair"),
    "text aligning at one length": _at_one_length(lambda pairs: pairs["lead by aligning"]),
    "text longer": _longer,
    "text pairs": lambda tables: f"{len(tables['text_by_pair'])}",
}
