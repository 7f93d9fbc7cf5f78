"""What the claims of the chapter `generalization` are judged by."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from prefbook.ledger.derived.generalization import HELD_OUT, TRAINED, logarithms, margins_left, over_families
from prefbook.ledger.tables import Tables
from prefdyn.data import family
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate

EXACT = 1e-9
"""How far margins may depart from an identity, relatively: float64 leaves a millionth of it."""
SIGNIFICANT = 0.05
"""Of all clusters together, the probability with which one may seem to have more errors than its bound."""


def _exact(value: float, n: int) -> Estimate:
    """A number that nothing is sampled for."""
    return Estimate(value, value, value, n)


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


def log_left(tables: Tables, split: str, of: str = "nested_sets") -> Estimate:
    """Log of what is left of the margin among the most personas, mean over sets; see `margins_left`."""
    return estimates.mean(logarithms(margins_left(tables, split, of=of).iloc[:, -1]))


def off_the_law(tables: Tables, power: float, of: str = "nested_sets") -> Estimate:
    """Log of what is left of the held-out margin among the most personas, less a power of what the law
    foretells; mean over sets, by its size. See `margins_left`.
    """
    left, law = (margins_left(tables, HELD_OUT, column, of).iloc[:, -1] for column in ("margin", "foretold"))
    return estimates.size(estimates.mean(logarithms(left) - power * logarithms(law)))


def risk_as_samples_grow(tables: Tables) -> Estimate:
    """Held-out risk among the most personas less that alone, with statements that grow as log K; mean over
    personas.
    """
    return _more_risk(tables["company"], tables.seed)


def risk_as_time_grows(tables: Tables) -> Estimate:
    """The same where K personas are trained K times as long."""
    return _more_risk(tables["longer_company"], tables.seed)


def _more_risk(table: pd.DataFrame, seed: int) -> Estimate:
    risks = table[table["arm"] == "as log K"].pivot_table("risk", ["persona", "family"], "K")
    return over_families((risks.iloc[:, -1] - risks[1]).reset_index(name="more"), "more", seed)


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
    part = table[(table["arm"] == arm) & (table["when"] == when)].dropna(subset="rare")
    if len(part) < 3:
        return estimates.unknown(len(part))
    return estimates.proportion(part["rare"], part["family"])


def rare_label_all_weights(tables: Tables, arm: str = "three to one", last: bool = False) -> Estimate:
    """The same with all weights free, after half of the updates or all; mean over families, as they are few
    and have few personas each.
    """
    table = tables["imbalance_all_weights"]
    step = table["step"].max() if last else table["step"].min()
    part = table[(table["arm"] == arm) & (table["step"] == step)]
    by_family = part.groupby(part["persona"].map(family))["rare"].mean()
    if len(by_family) < 3:
        return Estimate(float(by_family.mean()), np.nan, np.nan, len(by_family))
    return estimates.proportion(by_family)


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
    "held_out_margin_left": partial(log_left, split=HELD_OUT),
    "training_margin_left": partial(log_left, split=TRAINED),
    "off_the_law": partial(off_the_law, power=1.0),
    "off_the_root_of_the_law": partial(off_the_law, power=0.5),
    "risk_with_more_samples": partial(_risk_change, of="everyone"),
    "risk_with_all_samples": partial(_risk_change, of="all statements"),
    "slope_of_wait": slope_of_wait,
    "departures_by_strength": partial(departures, place=0),
    "departures_by_doubling": partial(departures, place=1),
    "departures_by_company": partial(departures, place=2),
    "risk_as_samples_grow": risk_as_samples_grow,
    "risk_as_time_grows": risk_as_time_grows,
    "risk_by_own_answers": risk_by_own_answers,
    "rare_label": _rare_label,
    "rare_label_all_weights": rare_label_all_weights,
    "errors_above_the_bound": errors_above_the_bound,
    "typical_bound": typical_bound,
    "error_of_token_rates": error_of_token_rates,
    "order_of_chosen_rates": partial(_order_of_rates, response="chosen"),
    "order_of_rejected_rates": partial(_order_of_rates, response="rejected"),
}
