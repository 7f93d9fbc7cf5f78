"""Numbers that the text of the chapter `generalization` quotes beside its claims', as text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from prefbook.ledger.derived.generalization import (
    HELD_OUT,
    TRAINED,
    b_over_a,
    geometric_mean,
    logarithms,
    margins_left,
    over_families,
)
from prefbook.ledger.quoted.forms import minus
from prefbook.ledger.statistics.generalization import log_left, off_the_law, rare_label_all_weights
from prefbook.ledger.tables import NotMeasured, Tables
from prefdyn.measures.estimates import Estimate
from prefdyn.theory import clusters


def _many(samples: float) -> str:
    """A large number in words."""
    return f"{samples / 1e9:.1f} billion" if samples >= 1e9 else f"{samples:,.0f}"


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


def _failing(tables: Tables) -> str:
    """The conditions that the wide clusters break."""
    curves = tables["curves"]
    return str(curves.loc[curves["v"] == curves["v"].max(), "conditions that fail"].iloc[0])


def _vacuous(tables: Tables) -> str:
    """Margins outside the band where the conditions hold and the theorem may fail for sure."""
    band = tables["band"]
    rest = band[band["failure allowed"] >= 1]
    return f"{rest['outside the band'].sum()} of {rest['margins'].sum():,}"


def _gap(steps: int, tables: Tables) -> str:
    gaps = tables["descent"].set_index("steps")["gap"]
    return minus(f"{gaps[steps]:.1e}".replace("e-0", "e-"))


def _order_of_convergence(tables: Tables) -> str:
    gaps = tables["descent"].set_index("steps")["gap"]
    return f"{np.log2(gaps[20] / gaps[40]):.2f}"


def _of_the_data(column: str, tables: Tables) -> str:
    return _many(float(tables["bound_of_the_data"][column].iloc[0]))


def _needed(concepts: int, tables: Tables, form: str = "Theorem 4.2") -> str:
    """Samples a cluster from which a bound is below 1."""
    return _many(tables["samples_needed"].set_index("form")[f"Q for K = {concepts}"][form])


def _held_out(tables: Tables, column: str, last: bool) -> str:
    """A mean over the anchors of the nested sets, held-out statements, alone or among the most."""
    table = tables["nested_sets"].query("split == 'held out'")
    count = table["K"].max() if last else table["K"].min()
    return f"{table.loc[table['K'] == count, column].mean():.2f}"


def _right_sign(response: str, tables: Tables) -> str:
    """The share of tokens of which the equation foretells whether their reward rises or falls."""
    table = tables["moved"]
    part = table[table["response"] == response]
    return f"{(np.sign(part['rate']) == np.sign(part['moved'])).mean():.0%}"


def _same_way(response: str, up: bool, tables: Tables) -> str:
    """The share of tokens whose reward rises, or falls."""
    moved = tables["moved"].query("response == @response")["moved"]
    return f"{(moved > 0 if up else moved < 0).mean():.0%}"


def _least_constant(tables: Tables) -> str:
    """The constant of Lemma A.1 above which its second term is below 1 where its first is."""
    samples = float(tables["bound_of_the_data"]["Q for a failure below 1"].iloc[0])
    return f"{clusters.least_constant(clusters.at_the_limits(1, round(samples), 1)):.2g}"


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
    "gn-gap-5": partial(_gap, 5),
    "gn-gap-40": partial(_gap, 40),
    "gn-order": _order_of_convergence,
    "gn-failing": _failing,
    "gn-promised": lambda tables: str(int((tables["risk"]["log₁₀ failure"] < 0).sum())),
    "gn-vacuous": _vacuous,
    "gn-promise-q": partial(_of_the_data, "Q for a failure below 1"),
    "gn-data-k": partial(_of_the_data, "K"),
    "gn-data-q": partial(_of_the_data, "Q"),
    "gn-least-constant": _least_constant,
    "gn-bound-q": partial(_of_the_data, "Q for a bound below 1"),
    "gn-appendix-q": partial(_needed, 135, form="Theorem A.2, Z = 1"),
    "gn-needed-1": partial(_needed, 1),
    "gn-needed-135": partial(_needed, 135),
    "gn-appendix-1": partial(_needed, 1, form="Theorem A.2, Z = 1"),
    "gn-accuracy-alone": partial(_held_out, column="accuracy", last=False),
    "gn-accuracy-most": partial(_held_out, column="accuracy", last=True),
    "gn-loss-alone": partial(_held_out, column="loss", last=False),
    "gn-loss-most": partial(_held_out, column="loss", last=True),
    "gn-b-over-a": lambda tables: f"{b_over_a(tables):.2f}",
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
