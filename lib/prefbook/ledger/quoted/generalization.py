"""Numbers that the text of the chapter `generalization` quotes beside its claims', as text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from prefbook.ledger.derived.generalization import b_over_a, over_families
from prefbook.ledger.quoted import generalization_bounds, generalization_sets
from prefbook.ledger.quoted.forms import minus
from prefbook.ledger.statistics.generalization import rare_label_all_weights
from prefbook.ledger.tables import Tables


def _width(tables: Tables) -> int:
    """d of the hidden states."""
    asked = tables["conditions_of_the_data"]
    return int(asked.loc[asked["condition"] == "d ≤ 5Q", "value"].iloc[0])


def _shared_length(tables: Tables) -> str:
    personas = tables["personas"]
    return f"{np.median(2 * personas['shared length'] / personas['δ']):.0f}"


def risks(tables: Tables, arm: str) -> pd.Series:
    """Mean held-out risk by number of personas."""
    table = tables["company"]
    found: pd.Series = table[table["arm"] == arm].groupby("K")["risk"].mean()
    return found


def _at_most_personas(tables: Tables, column: str, alone: bool = False) -> float:
    """A mean over personas after the longer training, among the most of them or of one alone."""
    means = tables["longer_company"].groupby("K")[column].mean()
    return float(means.iloc[0 if alone else -1])


def _above_alone(table: str, arm: str, tables: Tables) -> str:
    """Held-out risk among the most personas of an arm less that of each alone on the most samples, mean over
    personas.
    """
    alone, many = tables["company"], tables[table]
    alone = alone[(alone["arm"] == "all") & (alone["K"] == 1)]
    many = many[(many["arm"] == arm) & (many["K"] == many["K"].max())]
    risks = many.merge(alone, on=["persona", "family"], suffixes=("", " alone"))
    more = risks.assign(more=risks["risk"] - risks["risk alone"])
    return str(over_families(more, "more", tables.seed))


def _samples_of(tables: Tables, last: bool) -> str:
    """Statements of each label of the arm that grows, with one persona or with the most."""
    table = tables["company"]
    sizes = table[table["arm"] == "as log K"].groupby("K")["Q"].first()
    return str(int(sizes.iloc[-1 if last else 0]))


def _right_sign(response: str, tables: Tables) -> str:
    """The share of tokens of which the equation foretells whether their reward rises or falls."""
    table = tables["moved"]
    part = table[table["response"] == response]
    return f"{(np.sign(part['rate']) == np.sign(part['moved'])).mean():.0%}"


def _same_way(response: str, up: bool, tables: Tables) -> str:
    """The share of tokens whose reward rises, or falls."""
    moved = tables["moved"].query("response == @response")["moved"]
    return f"{(moved > 0 if up else moved < 0).mean():.0%}"


def _answers(tables: Tables, column: str, own: bool) -> str:
    """Mean margin or risk of sixteen personas with answers of their own, or with one pair for all."""
    table = tables["own_answers"]
    part = table[table["Z"] == 1] if own else table[table["pairs"] == 1]
    return f"{part[column].mean():.2f}"


def _rare(tables: Tables, arm: str, when: str) -> str:
    table = tables["imbalance"]
    part = table[(table["arm"] == arm) & (table["when"] == when)]
    return f"{part['rare'].mean():.2f}"


def _rare_of_all_weights(tables: Tables, arm: str, last: bool) -> str:
    return f"{rare_label_all_weights(tables, arm, last).value:.2f}"


def _misprinted(tables: Tables) -> str:
    """The error of the printed formula, as a share of the norm of all rates."""
    tokens = tables["tokens"]
    error = np.linalg.norm(tokens["rate as printed"] - tokens["rate"]) / np.linalg.norm(tokens["rate"])
    return f"{error:.1%}"


def _total_rate(response: str, last: bool, tables: Tables) -> str:
    """The sum of the factors at the first or last step, over the tokens of chosen or rejected responses."""
    factors = tables["factors"]
    at = factors["step"].max() if last else factors["step"].min()
    row = factors[(factors["step"] == at) & (factors["response"] == response)]
    return minus(f"{row['total'].iloc[0]:.2g}")


def _share_of_the_fall(tables: Tables) -> str:
    """How much of the margins' mean change in a step of all weights the unembedding alone would bring."""
    table = tables["moved"]
    signs = np.where(table["response"] == "chosen", 1, -1)
    return f"{(signs * table['rate']).sum() / (signs * table['moved']).sum():.0%}"


def _still_inside(tables: Tables) -> str:
    broken = tables["conditions"].query("`conditions that fail` != 'none'")
    return f"{(broken['share outside'] == 0).sum()} of {len(broken)}"


def _conditions_met(tables: Tables) -> str:
    holds = tables["conditions_of_the_data"]["holds"]
    return f"{holds.sum()} of {len(holds)}"


def _promises_nothing(tables: Tables) -> str:
    allowed = tables["band"]["failure allowed"]
    return f"{(allowed >= 1).sum()} of {len(allowed)}"


QUOTED: dict[str, Callable[[Tables], str]] = {
    **generalization_bounds.QUOTED,
    **generalization_sets.QUOTED,
    "gn-width": lambda tables: str(_width(tables)),
    "gn-random-cosine": lambda tables: f"{np.sqrt(2 / np.pi / _width(tables)):.3f}",
    "gn-own-cosine": lambda tables: f"{tables['personas']['own statements'].mean():.2f}",
    "gn-shared-length": _shared_length,
    "gn-risk-alone": lambda tables: f"{risks(tables, 'all').loc[1]:.0%}",
    "gn-risk-first": lambda tables: f"{_at_most_personas(tables, 'risk', alone=True):.0%}",
    "gn-longer-at-equal-samples": partial(_above_alone, "longer_company", "as log K"),
    "gn-company-at-equal-time": partial(_above_alone, "company", "all"),
    "gn-risk-longer": lambda tables: f"{_at_most_personas(tables, 'risk'):.0%}",
    "gn-margin-longer": lambda tables: f"{_at_most_personas(tables, 'margin'):.2f}",
    "gn-margin-alone": lambda tables: f"{_at_most_personas(tables, 'margin', alone=True):.2f}",
    "gn-risk-company": lambda tables: f"{risks(tables, 'all').iloc[-1]:.0%}",
    "gn-most-personas": lambda tables: str(risks(tables, "all").index[-1]),
    "gn-most-samples": lambda tables: str(int(tables["company"].query("arm == 'all'")["Q"].iloc[0])),
    "gn-log-first": partial(_samples_of, last=False),
    "gn-log-last": partial(_samples_of, last=True),
    "gn-b-over-a": lambda tables: f"{b_over_a(tables):.2f}",
    "gn-margin-own": partial(_answers, column="margin", own=True),
    "gn-margin-shared": partial(_answers, column="margin", own=False),
    "gn-risk-own": partial(_answers, column="risk", own=True),
    "gn-risk-shared": partial(_answers, column="risk", own=False),
    "gn-rare-random": partial(_rare, arm="at random", when="first step"),
    "gn-rare-balanced": partial(_rare, arm="as many of both", when="first step"),
    "gn-rare-random-end": partial(_rare, arm="at random", when="end"),
    "gn-rare-end": partial(_rare, arm="three to one", when="end"),
    "gn-rare-all-end": partial(_rare_of_all_weights, arm="three to one", last=True),
    "gn-pairs": lambda tables: str(int(tables["places"]["pairs"].iloc[0])),
    "gn-place-cosine": lambda tables: f"{tables['places']['median cosine'].iloc[0]:.2f}",
    "gn-misprinted": _misprinted,
    "gn-moved": lambda tables: str(tables["moved"]["pair"].nunique()),
    "gn-moved-share": _share_of_the_fall,
    "gn-moved-sign-chosen": partial(_right_sign, "chosen"),
    "gn-moved-sign-rejected": partial(_right_sign, "rejected"),
    "gn-moved-rise": partial(_same_way, "chosen", True),
    "gn-moved-fall": partial(_same_way, "rejected", False),
    **{
        f"gn-total-{response}-{when}": partial(_total_rate, response, when == "last")
        for response in ("chosen", "rejected")
        for when in ("first", "last")
    },
}

ON_THE_SCOREBOARD: dict[str, Callable[[Tables], str]] = {
    "still inside": _still_inside,
    "conditions met": _conditions_met,
    "promises nothing": _promises_nothing,
}
