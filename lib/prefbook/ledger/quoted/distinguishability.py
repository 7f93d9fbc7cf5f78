"""Numbers that the text of the chapter `distinguishability` quotes beside its claims', as text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from prefbook.ledger.derived.distinguishability import (
    BASE,
    ELSEWHERE,
    EQUAL,
    LEARNED,
    OTHER,
    OWN,
    SHUFFLED,
    WEIGHTED,
    accuracy_by_size,
    fall_by_gradient,
    faster_undone,
    log_change,
    mean_over_behaviours,
)
from prefbook.ledger.quoted import distinguishability_text
from prefbook.ledger.quoted.forms import UNDEFINED, further_seeds, of, said, signed
from prefbook.ledger.statistics.distinguishability import (
    evened_out,
    fall_at_every_beta,
    fall_at_first,
    fall_of_all_weights,
    gain_of_the_gradient,
    larger_distance_learned_faster,
    more_at_first,
    priority_and_loss_gap,
)
from prefbook.ledger.tables import NotMeasured, Tables
from prefdyn.data import PAPER_PAIRS, family
from prefdyn.measures import estimates


def _range_of_delta(tables: Tables) -> str:
    deltas = tables["embeddings"]["δ"]
    return f"{deltas.min():.2g} to {deltas.max():.2g}"


def _below_chance(tables: Tables) -> str:
    table = tables["embeddings"]
    return of(table["δ"] < table["δ of chance"])


def _slack(tables: Tables) -> str:
    slack = tables["theorem_4_1"]["slack"]
    return f"{slack.median():.1f} ({slack.min():.1f} to {slack.max():.1f})"


def _crossings(tables: Tables) -> str:
    turns = tables["boundary"]
    crossed = turns["steps below bound"].sum() + turns["steps above actual"].sum()
    bounded = turns.loc[~turns["begins below 0"], "steps"].sum()  # by the first of the two theorems
    return f"{crossed} of {turns['steps'].sum() + bounded:,}"


def _papers_pair(tables: Tables, place: int) -> str:
    """Gap in held-out loss of one of the pairs that the paper trains together (nats).

    Raises:
        NotMeasured: the data have no such behaviours.
    """
    pairs = tables["joint_training"]
    both = {tuple(sorted(pair)): gap for *pair, gap in pairs[["first", "second", "loss gap"]].to_numpy()}
    if (known := tuple(sorted(PAPER_PAIRS[place]))) not in both:
        raise NotMeasured(f"the pair {' and '.join(known)} was not trained")
    return signed(both[known], ".3f")


def _factor(tables: Tables, quantity: str, trained_on: str = OWN) -> str:
    change = mean_over_behaviours(tables, log_change(tables, quantity, trained_on))
    value, low, high = np.exp([change.value, change.low, change.high])
    return f"{value:.2f}" if np.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _rates_at_an_end(tables: Tables) -> str:
    """Of the learning rates chosen for further strengths, with every seed: how many are the least or the
    largest of those tried.
    """
    tried = Tables(tables.folder)["learning_rates"]
    rates = tried["learning rate"]
    return of(rates[tried["chosen"]].isin([rates.min(), rates.max()]))


def _of_halves(tables: Tables, column: str, form: str) -> str:
    """Means of a column over behaviours, of the half of large projections and of that of small ones."""
    means = tables["intervention"].groupby("arm")[column].mean()
    return f"{means['large projections']:{form}} and {means['small projections']:{form}}"


def _more(tables: Tables, column: str) -> pd.Series:
    """A column of the half of large projections less that of small ones, by behaviour."""
    halves = tables["intervention"].pivot_table(column, "behaviour", "arm")
    return halves["large projections"] - halves["small projections"]


def _agreement(tables: Tables) -> str:
    distance, fall = _more(tables, "projected δ"), _more(tables, "fall")
    return said(estimates.spearman(distance, fall, tables.seed, distance.index.map(family)))


def _more_over_seeds(tables: Tables, column: str) -> str:
    """The mean of `_more` over the behaviours of every seed together; one may be there with several."""
    whole = Tables(tables.folder)
    seeds = sorted(set(whole.seeds) - set(whole.pending.get("intervention", ())))
    more = pd.concat([_more(whole.of(seed), column) for seed in seeds])
    return str(mean_over_behaviours(tables, more))


def _times_as_far(tables: Tables) -> str:
    """The projected distance of the half of large projections over that of small ones."""
    means = tables["intervention"].groupby("arm")["projected δ"].mean()
    return f"{means['large projections'] / means['small projections']:.1f}"


def _undone_among_learned(tables: Tables) -> str:
    """LD-13's rank correlation over the behaviours that had been learned."""
    table = tables["last_layer_undone"]
    table = table[table["accuracy"] >= LEARNED]
    if len(table) < 3:
        return UNDEFINED
    family = table["behaviour"].map(tables["embeddings"].set_index("behaviour")["family"])
    return str(estimates.spearman(table["δ² ratio"], table["fall of all weights"], tables.seed, family))


def _faster_from_elsewhere(tables: Tables) -> str:
    return said(faster_undone(tables, ELSEWHERE, than=BASE))


def _learned(tables: Tables) -> str:
    table = tables["misalignment"].drop_duplicates("behaviour")
    return of(table["accuracy"] >= LEARNED)


def _last_layer_undone(tables: Tables) -> str:
    """Fall by the last layer alone after alignment over before, geometric mean."""
    table = tables["last_layer_undone"]
    return f"{np.exp(np.log(table['fall from aligned'] / table['fall from base']).mean()):.1f}"


def _spread(tables: Tables, arm: str) -> str:
    falls = tables["equalised_last_layer"]
    own = falls[falls["arm"] == arm]["fall"]
    return f"{own.std() / own.mean():.2f}"


def _cost_of_evenness(tables: Tables) -> str:
    means = tables["equalised_last_layer"].groupby("arm")["fall"].mean()
    return f"{means[EQUAL] / means[WEIGHTED]:.0f}"


def _unlearned(tables: Tables, arm: str) -> str:
    falls = tables["equalised_last_layer"]
    return f"{(falls[falls['arm'] == arm]['fall'] < 0).sum()}"


def _without_weight(tables: Tables) -> str:
    falls = tables["equalised_last_layer"]
    return of(falls[falls["arm"] == WEIGHTED]["weight"] == 0)


def _order_within_draws(tables: Tables, arm: str) -> str:
    """Rank correlation of δ with the fall, all weights free, mean over draws."""
    falls = tables["equalised"]
    falls = falls[falls["arm"] == arm]
    deltas = falls["behaviour"].map(tables["embeddings"].set_index("behaviour")["δ"])
    ranks = falls.assign(δ=deltas).groupby("draw")[["δ", "fall"]].rank().assign(draw=falls["draw"])
    found = ranks.groupby("draw").apply(lambda one: one["δ"].corr(one["fall"])).mean()
    return UNDEFINED if np.isnan(found) else signed(found, ".2f")


def _mean_fall(tables: Tables, arm: str) -> str:
    falls = tables["equalised"]
    return f"{falls[falls['arm'] == arm]['fall'].mean():.3f}"


def _relative_spread(tables: Tables) -> str:
    falls = tables["equalised"].groupby(["draw", "arm"])["fall"]
    relative = (falls.std() / falls.mean()).unstack()
    return str(estimates.mean(relative[WEIGHTED] - relative[EQUAL]))


QUOTED: dict[str, Callable[[Tables], str]] = {
    "behaviours": lambda tables: f"{len(tables['embeddings'])}",
    "trained": lambda tables: f"{len(tables['fine_tuning'])}",
    "range of δ": _range_of_delta,
    "below chance": _below_chance,
    "Yes or No": lambda tables: f"{100 * tables['embeddings']['Yes or No'].median():.2g}%",
    "condition holds": lambda tables: of(tables["theorem_4_1"]["holds"]),
    "least R²": lambda tables: f"{tables['theorem_4_1']['R²'].min():.4f}",
    "slack": _slack,
    "accuracy before": lambda tables: f"{tables['unembedding']['accuracy before'].mean():.2f}",
    "accuracy after": lambda tables: f"{tables['unembedding']['accuracy after'].mean():.2f}",
    "accuracy by size": lambda tables: str(accuracy_by_size(tables)),
    "crossings": _crossings,
    "boundaries followed": lambda tables: f"{len(tables['boundary'])}",
    "bounded": lambda tables: of(~tables["boundary"]["begins below 0"]),
    "guaranteed": lambda tables: f"{tables['boundary']['guaranteed'].max():.1%}",
    "always Yes": lambda tables: f"{tables['boundary']['share of Yes'].max():.0%}",
    "pairs": lambda tables: f"{len(tables['pairs'])}",
    "pairs by seed": further_seeds(priority_and_loss_gap, "joint_training"),
    "pairs trained": lambda tables: f"{len(tables['joint_training'])}",
    "first-step error": lambda tables: f"{tables['pairs']['error'].max():.0e}".replace("e-", "e−"),
    "right way": lambda tables: of(tables["joint_training"]["loss gap"] > 0),
    "large gap": lambda tables: _papers_pair(tables, 0),
    "small gap": lambda tables: _papers_pair(tables, 1),
    "mean accuracy": lambda tables: f"{tables['fine_tuning']['accuracy after'].mean():.2f}",
    "mean accuracy before": lambda tables: f"{tables['fine_tuning']['accuracy before'].mean():.2f}",
    "δ factor": lambda tables: _factor(tables, "δ"),
    "δ factor, shuffled": lambda tables: _factor(tables, "δ", SHUFFLED),
    "δ factor, another": lambda tables: _factor(tables, "δ", OTHER),
    "trace factor": lambda tables: _factor(tables, "Tr Σ"),
    "ratio factor": lambda tables: _factor(tables, "Tr Σ / δ²"),
    "ratio factor, unsquared": lambda tables: _factor(tables, "Tr Σ / δ"),
    "ends by seed": further_seeds(fall_of_all_weights, "fine_tuning"),
    "beginnings by seed": further_seeds(fall_at_first, "fine_tuning_curves"),
    "more at first by seed": further_seeds(more_at_first, "fine_tuning_curves"),
    "by gradient": lambda tables: str(fall_by_gradient(tables)),
    "rates at an end": _rates_at_an_end,
    "lowest by seed": further_seeds(fall_at_every_beta, "beta_falls"),
    "gains by seed": further_seeds(gain_of_the_gradient, "gradients"),
    "distances of halves": lambda tables: _of_halves(tables, "δ", ".1f"),
    "falls of halves": lambda tables: _of_halves(tables, "fall", ".3f"),
    "halves by seed": further_seeds(larger_distance_learned_faster, "intervention"),
    "halves of all seeds": lambda tables: _more_over_seeds(tables, "fall"),
    "accuracy of halves": lambda tables: _more_over_seeds(tables, "accuracy"),
    "agreement of halves": _agreement,
    "halves, times as far": _times_as_far,
    "learned": _learned,
    "faster from elsewhere": _faster_from_elsewhere,
    "undone among learned": _undone_among_learned,
    "last layer foretold": lambda tables: (
        f"{np.exp(np.log(tables['last_layer_undone']['δ² ratio']).mean()):.0f}"
    ),
    "last layer undone": _last_layer_undone,
    "evenness by seed": further_seeds(evened_out, "equalised"),
    "spread, equal": lambda tables: _spread(tables, EQUAL),
    "spread, weighted": lambda tables: _spread(tables, WEIGHTED),
    "times less": _cost_of_evenness,
    "without weight": _without_weight,
    "unlearned, equal": lambda tables: _unlearned(tables, EQUAL),
    "order, equal": lambda tables: _order_within_draws(tables, EQUAL),
    "order, weighted": lambda tables: _order_within_draws(tables, WEIGHTED),
    "mean fall, equal": lambda tables: _mean_fall(tables, EQUAL),
    "mean fall, weighted": lambda tables: _mean_fall(tables, WEIGHTED),
    "relative spread": _relative_spread,
    **distinguishability_text.QUOTED,
}
