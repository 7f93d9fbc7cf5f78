"""What the claims of the chapter `generalization` are judged by, and the other numbers that it quotes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate

HELD_OUT, TRAINED = "held out", "trained"
EXACT = 1e-9
"""How far margins may depart from an identity, relatively: float64 leaves a millionth of it."""
SIGNIFICANT = 0.05
"""Of all clusters together, the probability with which one may seem to have more errors than its bound."""


def _exact(value: float, n: int) -> Estimate:
    """A number that nothing is sampled for."""
    return Estimate(value, value, value, n)


def _size(signed: Estimate) -> Estimate:
    """An estimate's size, from the smallest to the largest in its interval."""
    low = 0.0 if signed.low <= 0 <= signed.high else min(abs(signed.low), abs(signed.high))
    return Estimate(abs(signed.value), low, max(abs(signed.low), abs(signed.high)), signed.n)


# Hidden states ------------------------------------------------------------------------------------------


def _over_pairs(tables: Tables, column: str, drawn: bool = False) -> Estimate:
    """The mean size of a cosine over pairs of personas, resampled by family; of the ten that are drawn, by
    persona.
    """
    personas, pairs = tables["personas"], tables["cosines"]
    ends = pairs[["first", "second"]].to_numpy()
    values, clusters = pairs[column].abs().to_numpy(), personas["family"].to_numpy()
    if drawn:
        kept = np.flatnonzero(personas["drawn"])
        inside = np.isin(ends, kept).all(axis=1)
        ends, values, clusters = np.searchsorted(kept, ends[inside]), values[inside], kept
    return estimates.mean_over_pairs(values, ends, tables.seed, clusters)


# Clusters -----------------------------------------------------------------------------------------------


def promised(tables: Tables) -> pd.DataFrame:
    """The settings of the band's table at which the theorem may not fail for sure."""
    band = tables["band"]
    return band[band["failure allowed"] < 1]


def margins_outside_the_band(tables: Tables) -> Estimate:
    """Training margins that leave the band where the theorem promises something."""
    band = promised(tables)
    return estimates.count(int(band["outside the band"].sum()), int(band["margins"].sum()))


def failure_allowed(tables: Tables) -> Estimate:
    """log₁₀ of the probability with which the theorem may fail, at the most of those settings."""
    band = promised(tables)
    return _exact(float(np.log10(band["failure allowed"].max())) if len(band) else np.nan, len(band))


def risks_above_the_bound(tables: Tables) -> Estimate:
    """Draws whose risk is above the smaller of the two bounds."""
    risk = tables["risk"]
    smallest = risk[["log₁₀ bound", "log₁₀ bound, appendix"]].min(axis=1)
    return estimates.count(int((risk["log₁₀ risk"] > smallest).sum()), len(risk))


def bound_with_failure(tables: Tables) -> Estimate:
    """log₁₀ of the appendix's bound plus the probability with which it may fail, at the largest of the
    settings at which it may not fail for sure.
    """
    risk = tables["risk"]
    sure = risk[risk["log₁₀ failure"] < 0]
    both = np.log10(10 ** sure["log₁₀ bound, appendix"] + 10 ** sure["log₁₀ failure"])
    return _exact(float(both.max()), len(sure))


def bound_at_the_data(tables: Tables) -> Estimate:
    """log₁₀ of the smaller bound for the personas of the data and their statements."""
    row = tables["bound_of_the_data"].iloc[0]
    return _exact(float(min(row["log₁₀ bound"], row["log₁₀ bound, appendix"])), int(row["K"]))


# More concepts ------------------------------------------------------------------------------------------


def margins_left(tables: Tables, split: str, column: str = "margin", of: str = "nested_sets") -> pd.DataFrame:
    """Mean margin of a set's anchors, or what is foretold, over that of the same anchors trained alone; a row
    a set and a column a number of personas.

    Args:
        of: the table, "nested_sets" or "rounding".
    """
    table = tables[of]
    table = table[table["split"] == split]
    means = table.pivot_table(column, "set", "K")
    return means.div(means[1], axis=0)


def _log_left(tables: Tables, split: str, of: str = "nested_sets") -> Estimate:
    """Log of what is left of the margin among the most personas, mean over sets."""
    return estimates.mean(_logs(margins_left(tables, split, of=of).iloc[:, -1]))


def _off(tables: Tables, power: float) -> Estimate:
    """Log of what is left of the held-out margin among the most personas, less a power of what the law
    foretells; mean over sets, by its size.
    """
    left, law = (margins_left(tables, HELD_OUT, column).iloc[:, -1] for column in ("margin", "foretold"))
    return _size(estimates.mean(_logs(left) - power * _logs(law)))


def _logs(ratios: pd.Series) -> pd.Series:
    """NaN where there is none: a mean margin that is not positive leaves a claim open."""
    return np.log(ratios.where(ratios > 0))


def risk_as_samples_grow(tables: Tables) -> Estimate:
    """Held-out risk among the most personas less that alone, with statements that grow as log K; mean over
    personas.
    """
    table = tables["company"]
    table = table[table["arm"] == "as log K"]
    risks = table.pivot_table("risk", ["persona", "family"], "K")
    return over_families((risks.iloc[:, -1] - risks[1]).reset_index(name="more"), "more", tables.seed)


def over_families(table: pd.DataFrame, column: str, seed: int) -> Estimate:
    """The mean of a column over personas, resampled by family; without those for which it has no value."""
    known = table.dropna(subset=column)
    if len(known) < 3:
        return estimates.unknown(len(known))
    return estimates.mean(known[column], known["family"], seed)


def risk_by_own_answers(tables: Tables) -> Estimate:
    """Held-out risk with two tokens of its own for each persona less that with Yes and No for all; mean over
    sets of sixteen.
    """
    table = tables["own_answers"]
    by_set = table.groupby(["set", "pairs", "Z"])["risk"].mean().reset_index()
    own = by_set[(by_set["Z"] == 1)].set_index("set")["risk"]
    shared = by_set[by_set["pairs"] == 1].set_index("set")["risk"]
    gain = own - shared
    return estimates.mean(gain) if len(gain) > 2 else estimates.unknown(len(gain))


def departures(tables: Tables, place: int) -> Estimate:
    """Whether margins depart from an identity, by its place in the table."""
    row = tables["identities"].iloc[place]
    return estimates.count(int(row["departure"] > EXACT), int(row["margins"]))


# More samples, and lopsided ones ------------------------------------------------------------------------


def _risk_change(tables: Tables, of: str) -> Estimate:
    """Held-out risk with the most statements less that with the fewest, mean over personas."""
    table = tables["more_samples"]
    risks = table[table["of"] == of].pivot_table("risk", ["persona", "family"], "Q")
    change = (risks.iloc[:, -1] - risks.iloc[:, 0]).reset_index(name="change")
    return over_families(change, "change", tables.seed)


def slope_of_wait(tables: Tables) -> Estimate:
    """Slope of the log time to a given training loss in the log of the statements, mean over personas."""
    return over_families(slopes_of_wait(tables), "slope", tables.seed)


def slopes_of_wait(tables: Tables) -> pd.DataFrame:
    """That slope of every persona, NaN where a wait outlasts the training."""
    table = tables["more_samples"]
    waits = table[table["of"] == "everyone"].set_index(["persona", "family", "Q"])["wait"].unstack("Q")
    x = np.log(waits.columns.to_numpy(dtype=float))
    x -= x.mean()
    slopes = (np.log(waits) * x).sum(axis=1, skipna=False) / (x**2).sum()
    return slopes.reset_index(name="slope")


def _rare_label(tables: Tables, arm: str = "three to one", when: str = "first step") -> Estimate:
    """Share of held-out statements of the rarer label whose margin is positive, the unembedding alone; mean
    over personas.
    """
    table = tables["imbalance"]
    return over_families(table[(table["arm"] == arm) & (table["when"] == when)], "rare", tables.seed)


def _rare_label_all_weights(tables: Tables, arm: str = "three to one", last: bool = False) -> Estimate:
    """The same with all weights free, after half of the updates or all."""
    table = tables["imbalance_all_weights"]
    step = table["step"].max() if last else table["step"].min()
    return estimates.mean(table.loc[(table["arm"] == arm) & (table["step"] == step), "rare"])


def errors_above_the_bound(tables: Tables) -> Estimate:
    """Clusters with more errors than their bound allows, by an exact binomial test of all at once."""
    table = tables["cantelli"]
    tail = stats.binom.sf(table["wrong"] - 1, table["statements"], table["bound high"])
    return estimates.count(int((tail < SIGNIFICANT / len(table)).sum()), len(table))


def typical_bound(tables: Tables) -> Estimate:
    """Cantelli's bound on the error, median over clusters."""
    table = tables["cantelli"]
    return estimates.median(table["bound"], tables.seed, table["family"])


# Longer responses ---------------------------------------------------------------------------------------


def error_of_token_rates(tables: Tables) -> Estimate:
    """The largest relative error of any token's rate."""
    error = tables["tokens"]["relative error"]
    return _exact(float(error.max()), len(error))


def _order_of_rates(tables: Tables, response: str) -> Estimate:
    """Rank correlation of the rate that Equation 16 gives with the measured change of a token's reward, over
    tokens; resampled by pair.
    """
    table = tables["moved"]
    table = table[table["response"] == response]
    return estimates.spearman(table["rate"], table["moved"], tables.seed, table["pair"])


STATISTICS: dict[str, Callable[[Tables], Estimate]] = {
    "cosine_of_statements": partial(_over_pairs, column="statements"),
    "cosine_of_statements_of_ten": partial(_over_pairs, column="statements", drawn=True),
    "cosine_of_centred_statements": partial(_over_pairs, column="statements centred"),
    "cosine_of_centred_statements_of_ten": partial(_over_pairs, column="statements centred", drawn=True),
    "cosine_of_concepts": partial(_over_pairs, column="concepts"),
    "margins_outside_the_band": margins_outside_the_band,
    "failure_allowed": failure_allowed,
    "risks_above_the_bound": risks_above_the_bound,
    "bound_with_failure": bound_with_failure,
    "bound_at_the_data": bound_at_the_data,
    "held_out_margin_left": partial(_log_left, split=HELD_OUT),
    "training_margin_left": partial(_log_left, split=TRAINED),
    "off_the_law": partial(_off, power=1.0),
    "off_the_root_of_the_law": partial(_off, power=0.5),
    "risk_with_more_samples": partial(_risk_change, of="everyone"),
    "risk_with_all_samples": partial(_risk_change, of="all statements"),
    "slope_of_wait": slope_of_wait,
    "departures_by_strength": partial(departures, place=0),
    "departures_by_doubling": partial(departures, place=1),
    "departures_by_company": partial(departures, place=2),
    "risk_as_samples_grow": risk_as_samples_grow,
    "risk_by_own_answers": risk_by_own_answers,
    "rare_label": _rare_label,
    "rare_label_all_weights": _rare_label_all_weights,
    "errors_above_the_bound": errors_above_the_bound,
    "typical_bound": typical_bound,
    "error_of_token_rates": error_of_token_rates,
    "order_of_chosen_rates": partial(_order_of_rates, response="chosen"),
    "order_of_rejected_rates": partial(_order_of_rates, response="rejected"),
}
# Other numbers of the text ----------------------------------------------------------------------------


def _signed(text: str) -> str:
    return text.replace("-", "−")


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


def b_over_a(tables: Tables) -> float:
    """B/A: mean product of two personas' concept vectors over that of one's in training and held out."""
    rates = _foretold(tables)
    most = int(rates.index[-1])
    return float((rates.iloc[-1] / rates.loc[1] - 1 / most) / (1 - 1 / most))


def _foretold(tables: Tables) -> pd.Series:
    """Mean rate at the start by the concept vectors, by number of personas."""
    table = tables["company"]
    rates: pd.Series = table[table["arm"] == "all"].groupby("K")["foretold"].mean()
    return rates


def risks(tables: Tables, arm: str) -> pd.Series:
    """Mean held-out risk by number of personas."""
    table = tables["company"]
    found: pd.Series = table[table["arm"] == arm].groupby("K")["risk"].mean()
    return found


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
    return f"{gaps[steps]:.1e}".replace("e-0", "e-").replace("-", "−")


def _order_of_convergence(tables: Tables) -> str:
    gaps = tables["descent"].set_index("steps")["gap"]
    return f"{np.log2(gaps[20] / gaps[40]):.2f}"


def _of_the_data(column: str, tables: Tables) -> str:
    return _many(float(tables["bound_of_the_data"][column].iloc[0]))


def _needed(concepts: int, tables: Tables, form: str = "Theorem 4.2") -> str:
    """Samples a cluster from which a bound is below 1."""
    return _many(tables["samples_needed"].set_index("form")[f"Q for K = {concepts}"][form])


def _left(tables: Tables, split: str) -> str:
    """What is left of the margin among the most personas, geometric mean over sets."""
    found = estimates.mean(_logs(margins_left(tables, split).iloc[:, -1]))
    value, low, high = np.exp([found.value, found.low, found.high])
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _precision(tables: Tables) -> str:
    """That in which the sets are trained again."""
    return ", ".join(tables["rounding"]["precision"].unique()) or "none"


def _left_rounded(split: str, tables: Tables) -> str:
    """What GN-4 measures, in the other precision."""
    return str(_log_left(tables, split, "rounding")) if len(tables["rounding"]) else "not measured"


def _law(tables: Tables, power: float) -> str:
    """What the law leaves of the margin of the anchors among the most personas, mean over sets."""
    logs = _logs(margins_left(tables, HELD_OUT, "foretold").iloc[:, -1])
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
    return f"{_rare_label_all_weights(tables, arm, last).value:.2f}"


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
    return _signed(f"{row['total'].iloc[0]:.2g}")


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
    "gn-bound-q": partial(_of_the_data, "Q for a bound below 1"),
    "gn-appendix-q": partial(_needed, 135, form="Theorem A.2, Z = 1"),
    "gn-needed-1": partial(_needed, 1),
    "gn-needed-135": partial(_needed, 135),
    "gn-b-over-a": lambda tables: f"{b_over_a(tables):.2f}",
    "gn-sets": lambda tables: str(tables["nested_sets"]["set"].nunique()),
    "gn-largest": lambda tables: str(tables["nested_sets"]["K"].max()),
    "gn-left": partial(_left, split=HELD_OUT),
    "gn-left-trained": partial(_left, split=TRAINED),
    "gn-precision": _precision,
    "gn-left-rounded": partial(_left_rounded, HELD_OUT),
    "gn-left-trained-rounded": partial(_left_rounded, TRAINED),
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
