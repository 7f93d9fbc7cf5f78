"""What the claims of the chapter `generalization` are judged by, and the other numbers that it quotes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate


def _exact(value: float, n: int) -> Estimate:
    """A number that nothing is sampled for."""
    return Estimate(value, value, value, n)


# Statistics of the claims -----------------------------------------------------------------------------


def _typical_cosine(of: str, tables: Tables) -> Estimate:
    """GN-1: the median over personas of each one's median cosine with all others."""
    return estimates.median(tables["personas"][of], tables.seed)


def margins_outside_the_band(tables: Tables) -> Estimate:
    """GN-2: training margins that leave the band in any draw at any setting."""
    band = tables["band"]
    return estimates.count(int(band["outside the band"].sum()), int(band["margins"].sum()))


def risks_above_the_bound(tables: Tables) -> Estimate:
    """GN-3: draws whose risk is above the smaller of the two bounds."""
    risk = tables["risk"]
    smallest = risk[["log₁₀ bound", "log₁₀ bound, appendix"]].min(axis=1)
    return estimates.count(int((risk["log₁₀ risk"] > smallest).sum()), len(risk))


def bound_at_the_data(tables: Tables) -> Estimate:
    """GN-3: log₁₀ of the bound for the personas of the data and their statements."""
    row = tables["bound_of_the_data"].iloc[0]
    return _exact(float(row["log₁₀ bound"]), int(row["K"]))


def _order_of_margins(split: str, tables: Tables) -> Estimate:
    """GN-4: rank correlation of K with the margin after the last step, over runs."""
    sweep = tables["sweep"]
    final = sweep[(sweep["step"] == sweep["step"].max()) & (sweep["split"] == split)]
    return estimates.spearman(final["K"], final["margin"], tables.seed)


def _slope_of_time(of: str, tables: Tables) -> Estimate:
    """GN-5: the mean over draws of the slope of log time against log Q."""
    slopes = tables["slopes_by_draw"]
    return estimates.mean(slopes.loc[slopes["of"] == of, "slope"])


def error_of_token_rates(tables: Tables) -> Estimate:
    """GN-6: the largest relative error of any token's rate."""
    error = tables["tokens"]["relative error"]
    return _exact(float(error.max()), len(error))


STATISTICS: dict[str, Callable[[Tables], Estimate]] = {
    "typical_cosine_of_means": partial(_typical_cosine, "means"),
    "typical_cosine_without_shared_mean": partial(_typical_cosine, "shared mean removed"),
    "typical_cosine_of_concepts": partial(_typical_cosine, "concepts"),
    "margins_outside_the_band": margins_outside_the_band,
    "risks_above_the_bound": risks_above_the_bound,
    "bound_at_the_data": bound_at_the_data,
    "order_of_training_margins": partial(_order_of_margins, "trained"),
    "order_of_held_out_margins": partial(_order_of_margins, "held out"),
    "slope_of_training_time_on_clusters": partial(_slope_of_time, "tight, training"),
    "slope_of_held_out_time_on_clusters": partial(_slope_of_time, "tight, held-out"),
    "slope_of_training_time_on_states": partial(_slope_of_time, "hidden states, training"),
    "error_of_token_rates": error_of_token_rates,
}


# Other numbers of the text ----------------------------------------------------------------------------


def _width(tables: Tables) -> int:
    """d of the hidden states."""
    asked = tables["conditions_of_the_data"]
    return int(asked.loc[asked["condition"] == "d ≤ 5Q", "value"].iloc[0])


def _range(of: str, tables: Tables) -> str:
    """The middle 90% of the cosines of all pairs of personas."""
    low, high = np.percentile(tables["cosines"][of], [5, 95])
    return _signed(f"{low:.2f} to {high:.2f}")


def _signed(text: str) -> str:
    return text.replace("-", "−")


def _shared_length(tables: Tables) -> str:
    personas = tables["personas"]
    return f"{np.median(personas['shared length'] / personas['concept length']):.0f}"


def _failing(tables: Tables) -> str:
    """The conditions that the wide clusters break."""
    curves = tables["curves"]
    return str(curves.loc[curves["v"] == curves["v"].max(), "conditions that fail"].iloc[0])


def _outside_with_a_long_shared_component(tables: Tables) -> str:
    """The share of margins of tight clusters outside the band, at the longest l_b."""
    swept = tables["conditions"]
    long = swept[(swept["varied"] == "shared length l_b") & (swept["v"] == swept["v"].min())]
    return f"{long.loc[long['value'] == long['value'].max(), 'share outside'].iloc[0]:.2g}"


def _gap(steps: int, tables: Tables) -> str:
    gaps = tables["descent"].set_index("steps")["gap"]
    return f"{gaps[steps]:.1e}".replace("e-0", "e-").replace("-", "−")


def _order_of_convergence(tables: Tables) -> str:
    gaps = tables["descent"].set_index("steps")["gap"]
    return f"{np.log2(gaps[20] / gaps[40]):.2f}"


def _of_the_data(column: str, tables: Tables) -> str:
    return _many(float(tables["bound_of_the_data"][column].iloc[0]))


def _needed(concepts: int, tables: Tables) -> str:
    """Samples a cluster from which the bound of Theorem 4.2 is below 1."""
    needed = tables["samples_needed"].set_index("form")[f"Q for K = {concepts}"]
    return _many(needed["Theorem 4.2"])


def _many(samples: float) -> str:
    """A large number in words."""
    return f"{samples / 1e9:.1f} billion" if samples >= 1e9 else f"{samples:,.0f}"


def _statements(tables: Tables) -> str:
    """How many statements the runs of the sweep have, and how many places for them."""
    groups = tables["groups"]
    places = int(groups["places"].iloc[0])
    given = groups[groups["draw"] == 0].set_index("K")["statements"]
    if set(given) == {places}:
        return f"{places} for every K, each seen once"
    return ", ".join(f"{count} for K = {k}" for k, count in given.items()) + f", with {places} places"


def _rate_of_many(answers: str, tables: Tables) -> str:
    """The mean rate at the start with the most personas, as a share of that with the fewest."""
    rates = tables["rates"]
    means = rates[rates["answers"] == answers].groupby("K")["rate"].mean()
    return f"{means.iloc[-1] / means.iloc[0]:.2f}"


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


QUOTED: dict[str, Callable[[Tables], str]] = {
    "gn-personas": lambda tables: str(len(tables["personas"])),
    "gn-width": lambda tables: str(_width(tables)),
    "gn-random-cosine": lambda tables: f"{0.674 / np.sqrt(_width(tables)):.3f}",
    "gn-range-concepts": partial(_range, "concepts"),
    "gn-statement-cosine": lambda tables: f"{tables['cosines']['statements'].median():.2f}",
    "gn-shared-length": _shared_length,
    "gn-gap-5": partial(_gap, 5),
    "gn-gap-40": partial(_gap, 40),
    "gn-order": _order_of_convergence,
    "gn-failing": _failing,
    "gn-outside-long": _outside_with_a_long_shared_component,
    "gn-promise-q": partial(_of_the_data, "Q for a failure below 1"),
    "gn-data-k": partial(_of_the_data, "K"),
    "gn-data-q": partial(_of_the_data, "Q"),
    "gn-bound-q": partial(_of_the_data, "Q for a bound below 1"),
    "gn-needed-1": partial(_needed, 1),
    "gn-needed-135": partial(_needed, 135),
    "gn-statements": _statements,
    "gn-rate-shared": partial(_rate_of_many, "Yes and No for all"),
    "gn-rate-own": partial(_rate_of_many, "own answers"),
    "gn-pairs": lambda tables: str(int(tables["places"]["pairs"].iloc[0])),
    "gn-place-cosine": lambda tables: f"{tables['places']['median cosine'].iloc[0]:.2f}",
    "gn-misprinted": _misprinted,
    **{
        f"gn-total-{response}-{when}": partial(_total_rate, response, when == "last")
        for response in ("chosen", "rejected")
        for when in ("first", "last")
    },
}
