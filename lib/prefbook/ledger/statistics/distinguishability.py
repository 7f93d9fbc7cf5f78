"""What the claims of the chapter `distinguishability` are judged by, and the other numbers that it quotes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate

FALL, FALL_OF_HALF = "fall of the loss", "fall"
EXACT = 1e-6
"""How far what an identity says may be off, relatively: float64 leaves a thousandth of it."""
LEARNED = 0.75
"""Held-out accuracy from which on a behaviour counts as learned."""
OWN, SHUFFLED, OTHER = "its own labels", "shuffled labels", "another behaviour"
EQUAL, WEIGHTED = "equal weights", "weights that undo the priority"
BASE, ALIGNED, ELSEWHERE = "base", "aligned", "aligned on another behaviour"

# Statistics of the claims -----------------------------------------------------------------------------


def departures_from_the_first_step(tables: Tables) -> Estimate:
    """Behaviours whose mean margin after the first step of the unembedding is not what the identity says."""
    error = tables["unembedding"]["error of the first step"].abs()
    return estimates.count(int((error > EXACT).sum()), len(error))


def fall_over_the_one_foretold(tables: Tables) -> Estimate:
    """Fall of the loss over that of the first step repeated, the unembedding alone, median."""
    table = tables["unembedding"]
    return estimates.median(table[FALL] / table["fall foretold"], tables.seed)


def accuracy_of_last_layer(tables: Tables) -> Estimate:
    """Rank correlation of distinguishability with held-out accuracy after training, the unembedding alone,
    over behaviours; resampled by family.
    """
    return _with_accuracy(tables, "δ of training")


def accuracy_by_size(tables: Tables) -> Estimate:
    """The same of the distance for the size of the clouds."""
    return _with_accuracy(tables, "δ / √Tr Σ")


def straightness(tables: Tables) -> Estimate:
    """R² of a straight line through the origin fitted to the weights' movement, median over behaviours."""
    return estimates.median(tables["theorem_4_1"]["R²"], tables.seed)


def steps_above_the_bound(tables: Tables) -> Estimate:
    """Steps at which a behaviour's weights have moved beyond the bound of Theorem 4.1, of all steps."""
    return _steps(tables, "steps above")


def steps_above_our_bound(tables: Tables) -> Estimate:
    """The same of the bound that convexity gives."""
    return _steps(tables, "steps above ours")


def departures_from_the_joint_step(tables: Tables) -> Estimate:
    """Pairs that do not gain in the first joint step of the unembedding what their priorities say."""
    error = tables["pairs"]["error"]
    return estimates.count(int((error > EXACT).sum()), len(error))


def priority_and_loss_gap(tables: Tables) -> Estimate:
    """Rank correlation of the gap in priority with the gap in held-out loss over pairs trained together, all
    weights; resampled by behaviour.
    """
    return _over_pairs(tables, "joint_training", tables["joint_training"]["priority gap"])


def fall_of_all_weights(tables: Tables) -> Estimate:
    """Rank correlation of distinguishability with the fall of the held-out loss, all weights, over
    behaviours; resampled by family.
    """
    return _with_fall(tables["fine_tuning"], tables.seed)


def fall_in_the_middle(tables: Tables) -> Estimate:
    """The same over behaviours between the tenth and the ninetieth percentile of distinguishability."""
    table = tables["fine_tuning"]
    low, high = table["δ"].quantile([0.1, 0.9])
    return _with_fall(table[table["δ"].between(low, high)], tables.seed)


def fall_within_families(tables: Tables) -> Estimate:
    """The same within families of at least five behaviours."""
    table = tables["fine_tuning"]
    return estimates.spearman_within(table["δ of training"], table[FALL], table["family"], tables.seed)


def clouds_part(tables: Tables) -> Estimate:
    """Change of log δ of held-out statements by training on them, mean over behaviours."""
    return estimates.mean(log_change(tables, "δ", OWN))


def clouds_part_by_labels(tables: Tables) -> Estimate:
    """That change less the one by training on shuffled labels."""
    return _less(tables, "δ", SHUFFLED)


def clouds_part_by_the_behaviour(tables: Tables) -> Estimate:
    """That change less the one by training on another behaviour."""
    return _less(tables, "δ", OTHER)


def clouds_shrink(tables: Tables) -> Estimate:
    """Change of log Tr Σ of held-out statements by training, mean over behaviours."""
    return estimates.mean(log_change(tables, "Tr Σ", OWN))


def clouds_small_for_their_distance(tables: Tables) -> Estimate:
    """Change of log (Tr Σ / δ²) of held-out statements by training, mean over behaviours."""
    return estimates.mean(log_change(tables, "Tr Σ / δ²", OWN))


def clouds_small_by_labels(tables: Tables) -> Estimate:
    """That change less the one by training on shuffled labels."""
    return _less(tables, "Tr Σ / δ²", SHUFFLED)


def misaligned_faster(tables: Tables) -> Estimate:
    """Fall of the loss on opposite labels, from the aligned model less from the base model (nats), mean over
    behaviours that had been learned.
    """
    return _less_from(tables, BASE)


def misaligned_faster_than_elsewhere(tables: Tables) -> Estimate:
    """The same less from a model aligned on another behaviour."""
    return _less_from(tables, ELSEWHERE)


def distance_and_undoing(tables: Tables) -> Estimate:
    """Rank correlation of how far alignment raised δ² with the fall on opposite labels after it."""
    table = tables["last_layer_undone"]
    return estimates.spearman(
        table["δ² ratio"], table["fall of all weights"], tables.seed, _families(tables, table)
    )


def fall_at_every_beta(tables: Tables) -> Estimate:
    """The rank correlation of distinguishability with the fall of the held-out loss at the β where its
    interval reaches lowest.
    """
    return min(falls_by_beta(tables).values(), key=lambda rho: rho.low)


def falls_by_beta(tables: Tables) -> dict[float, Estimate]:
    """For each β, from the smallest, the rank correlation of distinguishability with the fall of the loss."""
    falls = tables["beta_falls"]
    parts = {float(beta): falls[falls["β"] == beta] for beta in sorted(falls["β"].unique())}
    return {
        beta: estimates.spearman(part["δ"], part[FALL], tables.seed, part["family"])
        for beta, part in parts.items()
    }


def text_misaligned_faster(tables: Tables) -> Estimate:
    """Change of the chosen response's lead by opposite labels, from the aligned less from the base model
    (nats), mean over held-out pairs.
    """
    pairs = tables["text_by_pair"]
    return estimates.mean(pairs["lead by undoing"] - pairs["lead by misaligning"])


def similarity_and_displacement(tables: Tables) -> Estimate:
    """Rank correlation of CHES with the change of the chosen response's log-probability a token."""
    pairs = tables["text_by_pair"]
    return estimates.spearman(pairs["CHES"], pairs["chosen"], tables.seed)


def gain_of_the_gradient(tables: Tables) -> Estimate:
    """Rank correlation of the first gradient's absolute values with the fall of the held-out loss, less that
    of distinguishability; resampled by family.
    """
    table = tables["fine_tuning"].merge(tables["gradients"][["behaviour", "absolute"]], on="behaviour")
    return estimates.gain_in_spearman(
        table["absolute"], table["δ of training"], table[FALL], tables.seed, table["family"]
    )


def fall_by_gradient(tables: Tables) -> Estimate:
    """Rank correlation of the first gradient's absolute values with the fall of the held-out loss."""
    table = tables["fine_tuning"].merge(tables["gradients"][["behaviour", "absolute"]], on="behaviour")
    return estimates.spearman(table["absolute"], table[FALL], tables.seed, table["family"])


def falls_by_layer(tables: Tables) -> dict[str, Estimate]:
    """The same of every layer alone, from the first to the last."""
    layers = tables["gradients_by_layer"]
    layers = layers[layers["part"].str.startswith("layer")]
    falls = tables["fine_tuning"][["behaviour", "family", FALL]]
    found = {}
    for part in dict.fromkeys(layers["part"]):
        table = falls.merge(layers[layers["part"] == part], on="behaviour")
        found[str(part)] = estimates.spearman(table["absolute"], table[FALL], tables.seed, table["family"])
    return found


def larger_distance_learned_faster(tables: Tables) -> Estimate:
    """Fall of the held-out loss, from the half of large projections less from that of small ones (nats), mean
    over behaviours.
    """
    falls = tables["intervention"].pivot_table("fall", "behaviour", "arm")
    return estimates.mean(falls["large projections"] - falls["small projections"])


def evened_out(tables: Tables) -> Estimate:
    """Standard deviation of the falls of behaviours trained together, with weights that undo the priority
    less with equal ones (nats), mean over draws.
    """
    spread = tables["equalised"].groupby(["draw", "arm"])["fall"].std().unstack()
    return estimates.mean(spread[WEIGHTED] - spread[EQUAL])


def _steps(tables: Tables, column: str) -> Estimate:
    rates = tables["theorem_4_1"]
    return estimates.count(int(rates[column].sum()), int(rates["steps"].sum()))


def _with_fall(table: pd.DataFrame, seed: int) -> Estimate:
    if len(table) < 3:
        return estimates.unknown(len(table))
    return estimates.spearman(table["δ of training"], table[FALL], seed, table["family"])


def _with_accuracy(tables: Tables, column: str) -> Estimate:
    table = tables["unembedding"]
    return estimates.spearman(table[column], table["accuracy after"], tables.seed, table["family"])


def _over_pairs(tables: Tables, name: str, gap: pd.Series) -> Estimate:
    pairs = tables[name]
    return estimates.spearman_over_pairs(gap, pairs["loss gap"], pairs[["first", "second"]], tables.seed)


def _families(tables: Tables, table: pd.DataFrame) -> pd.Series:
    return table["behaviour"].map(tables["embeddings"].set_index("behaviour")["family"])


def log_change(tables: Tables, quantity: str, trained_on: str) -> pd.Series:
    """Change of the logarithm of a quantity of the clouds by a training, by behaviour."""
    table = tables["clouds"]
    table = table[table["trained on"] == trained_on].set_index("behaviour")
    if quantity == "Tr Σ / δ²":
        return log_change(tables, "Tr Σ", trained_on) - 2 * log_change(tables, "δ", trained_on)
    ratio: pd.Series = table[f"{quantity} after"] / table[f"{quantity} before"]
    return ratio.map(np.log)


def _less(tables: Tables, quantity: str, control: str) -> Estimate:
    """Of the training on a behaviour's own labels, less that of a control, mean over behaviours with both."""
    change = (log_change(tables, quantity, OWN) - log_change(tables, quantity, control)).dropna()
    return estimates.mean(change) if len(change) > 2 else estimates.unknown(len(change))


def _less_from(tables: Tables, start: str) -> Estimate:
    table = tables["misalignment"]
    falls = table[table["accuracy"] >= LEARNED].pivot_table("fall", "behaviour", "start")
    if len(falls) < 3:
        return estimates.unknown(len(falls))
    return estimates.mean(falls[ALIGNED] - falls[start])


STATISTICS: dict[str, Callable[[Tables], Estimate]] = {
    function.__name__: function
    for function in (
        departures_from_the_first_step,
        fall_over_the_one_foretold,
        accuracy_of_last_layer,
        straightness,
        steps_above_the_bound,
        steps_above_our_bound,
        departures_from_the_joint_step,
        priority_and_loss_gap,
        fall_of_all_weights,
        fall_in_the_middle,
        fall_within_families,
        clouds_part,
        clouds_part_by_labels,
        clouds_part_by_the_behaviour,
        clouds_shrink,
        clouds_small_for_their_distance,
        clouds_small_by_labels,
        misaligned_faster,
        misaligned_faster_than_elsewhere,
        distance_and_undoing,
        fall_at_every_beta,
        text_misaligned_faster,
        similarity_and_displacement,
        gain_of_the_gradient,
        larger_distance_learned_faster,
        evened_out,
    )
}

# Other numbers that the text quotes -------------------------------------------------------------------


def _range_of_delta(tables: Tables) -> str:
    deltas = tables["embeddings"]["δ"]
    return f"{deltas.min():.2g} to {deltas.max():.2g}"


def _below_chance(tables: Tables) -> str:
    table = tables["embeddings"]
    return _of(table["δ"] < table["δ of chance"])


def _slack(tables: Tables) -> str:
    slack = tables["theorem_4_1"]["slack"]
    return f"{slack.median():.1f} ({slack.min():.1f} to {slack.max():.1f})"


def _crossings(tables: Tables) -> str:
    turns = tables["boundary"]
    crossed = turns["steps below bound"].sum() + turns["steps above actual"].sum()
    return f"{crossed} of {2 * turns['steps'].sum():,}"


def _papers_pair(tables: Tables, place: int) -> str:
    """Gap in held-out loss of one of the pairs that the paper trains together (nats)."""
    return _signed(tables["joint_training"]["loss gap"].iloc[place], ".3f")


def _factor(tables: Tables, quantity: str, trained_on: str = OWN) -> str:
    change = estimates.mean(log_change(tables, quantity, trained_on))
    value, low, high = np.exp([change.value, change.low, change.high])
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _of_halves(tables: Tables, column: str, form: str) -> str:
    """Means of a column over behaviours, of the half of large projections and of that of small ones."""
    means = tables["intervention"].groupby("arm")[column].mean()
    return f"{means['large projections']:{form}} and {means['small projections']:{form}}"


def _learned(tables: Tables) -> str:
    table = tables["misalignment"].drop_duplicates("behaviour")
    return _of(table["accuracy"] >= LEARNED)


def _last_layer_undone(tables: Tables) -> str:
    """Fall by the last layer alone after alignment over before, geometric mean."""
    table = tables["last_layer_undone"]
    return f"{np.exp(np.log(table['fall from aligned'] / table['fall from base']).mean()):.1f}"


def _over_text(of: Callable[[pd.DataFrame], pd.Series]) -> Callable[[Tables], str]:
    """A quantity of held-out response pairs (nats), mean over them."""

    def tell(tables: Tables) -> str:
        found = estimates.mean(of(tables["text_by_pair"]))
        value, low, high = (_signed(number, ".1f") for number in (found.value, found.low, found.high))
        return f"{value} [{low}, {high}]"

    return tell


def _displaced(tables: Tables) -> str:
    share = estimates.proportion(tables["text_by_pair"]["chosen"] < 0)
    return f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"


def _spread(tables: Tables, arm: str) -> str:
    falls = tables["equalised_last_layer"]
    own = falls[falls["arm"] == arm]["fall"]
    return f"{own.std() / own.mean():.2f}"


def _cost_of_evenness(tables: Tables) -> str:
    means = tables["equalised_last_layer"].groupby("arm")["fall"].mean()
    return f"{means[EQUAL] / means[WEIGHTED]:.0f}"


def _mean_fall(tables: Tables, arm: str) -> str:
    falls = tables["equalised"]
    return f"{falls[falls['arm'] == arm]['fall'].mean():.3f}"


def _relative_spread(tables: Tables) -> str:
    falls = tables["equalised"].groupby(["draw", "arm"])["fall"]
    relative = (falls.std() / falls.mean()).unstack()
    return str(estimates.mean(relative[WEIGHTED] - relative[EQUAL]))


def _of(mask: pd.Series | np.ndarray) -> str:
    return f"{int(np.sum(mask))} of {len(mask)}"


def _signed(value: float, form: str) -> str:
    return f"{value:+{form}}".replace("-", "−")


QUOTED: dict[str, Callable[[Tables], str]] = {
    "behaviours": lambda tables: f"{len(tables['embeddings'])}",
    "trained": lambda tables: f"{len(tables['fine_tuning'])}",
    "range of δ": _range_of_delta,
    "below chance": _below_chance,
    "Yes or No": lambda tables: f"{100 * tables['embeddings']['Yes or No'].median():.2g}%",
    "condition holds": lambda tables: _of(tables["theorem_4_1"]["holds"]),
    "least R²": lambda tables: f"{tables['theorem_4_1']['R²'].min():.4f}",
    "slack": _slack,
    "accuracy before": lambda tables: f"{tables['unembedding']['accuracy before'].mean():.2f}",
    "accuracy after": lambda tables: f"{tables['unembedding']['accuracy after'].mean():.2f}",
    "accuracy by size": lambda tables: str(accuracy_by_size(tables)),
    "crossings": _crossings,
    "bounded": lambda tables: _of(~tables["boundary"]["begins below 0"]),
    "guaranteed": lambda tables: f"{tables['boundary']['guaranteed'].max():.1%}",
    "always Yes": lambda tables: f"{tables['boundary']['share of Yes'].max():.0%}",
    "pairs": lambda tables: f"{len(tables['pairs'])}",
    "pairs trained": lambda tables: f"{len(tables['joint_training'])}",
    "first-step error": lambda tables: f"{tables['pairs']['error'].max():.0e}".replace("e-", "e−"),
    "right way": lambda tables: _of(tables["joint_training"]["loss gap"] > 0),
    "large gap": lambda tables: _papers_pair(tables, 0),
    "small gap": lambda tables: _papers_pair(tables, 1),
    "mean accuracy": lambda tables: f"{tables['fine_tuning']['accuracy after'].mean():.2f}",
    "mean accuracy before": lambda tables: f"{tables['fine_tuning']['accuracy before'].mean():.2f}",
    "δ factor": lambda tables: _factor(tables, "δ"),
    "δ factor, shuffled": lambda tables: _factor(tables, "δ", SHUFFLED),
    "δ factor, another": lambda tables: _factor(tables, "δ", OTHER),
    "trace factor": lambda tables: _factor(tables, "Tr Σ"),
    "ratio factor": lambda tables: _factor(tables, "Tr Σ / δ²"),
    "by gradient": lambda tables: str(fall_by_gradient(tables)),
    "distances of halves": lambda tables: _of_halves(tables, "δ", ".1f"),
    "falls of halves": lambda tables: _of_halves(tables, FALL_OF_HALF, ".3f"),
    "learned": _learned,
    "last layer undone": _last_layer_undone,
    "spread, equal": lambda tables: _spread(tables, EQUAL),
    "spread, weighted": lambda tables: _spread(tables, WEIGHTED),
    "times less": _cost_of_evenness,
    "mean fall, equal": lambda tables: _mean_fall(tables, EQUAL),
    "mean fall, weighted": lambda tables: _mean_fall(tables, WEIGHTED),
    "relative spread": _relative_spread,
    "chosen": _over_text(lambda pairs: pairs["chosen"] * pairs["chosen tokens"]),
    "rejected": _over_text(lambda pairs: pairs["rejected"] * pairs["rejected tokens"]),
    "displaced": _displaced,
    "text aligning": _over_text(lambda pairs: pairs["lead by aligning"]),
    "text undoing": _over_text(lambda pairs: pairs["lead by undoing"]),
    "text from base": _over_text(lambda pairs: pairs["lead by misaligning"]),
    "text pairs": lambda tables: f"{len(tables['text_by_pair'])}",
}
