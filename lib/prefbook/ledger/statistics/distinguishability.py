"""What the claims of the chapter `distinguishability` are judged by."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from prefbook.ledger.derived.distinguishability import (
    ALIGNED,
    BASE,
    ELSEWHERE,
    EQUAL,
    FALL,
    OTHER,
    OWN,
    SHUFFLED,
    WEIGHTED,
    falls_by_beta,
    falls_by_step,
    faster_undone,
    log_change,
    mean_over_behaviours,
    with_accuracy,
    with_falls_by_step,
)
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate

EXACT = 1e-6
"""How far what an identity says may be off, relatively: float64 leaves a thousandth of it."""


def departures_from_the_first_step(tables: Tables) -> Estimate:
    """Behaviours whose mean margin after the first step of the unembedding is not what the identity says."""
    error = tables["unembedding"]["error of the first step"].abs()
    return estimates.count(int((error > EXACT).sum()), len(error))


def fall_over_the_one_foretold(tables: Tables) -> Estimate:
    """Fall of the loss over that of the first step repeated, the unembedding alone, median."""
    table = tables["unembedding"]
    return estimates.median(table[FALL] / table["fall foretold"], tables.seed, table["family"])


def accuracy_of_last_layer(tables: Tables) -> Estimate:
    """Rank correlation of distinguishability with held-out accuracy after training, the unembedding alone,
    over behaviours; resampled by family.
    """
    return with_accuracy(tables, "δ of training")


def straightness(tables: Tables) -> Estimate:
    """R² of a straight line through the origin fitted to the weights' movement, median over behaviours."""
    table = tables["theorem_4_1"]
    return estimates.median(table["R²"], tables.seed, _families(tables, table))


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
    behaviours; resampled by family, as all statistics over behaviours are.
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


def fall_at_first(tables: Tables) -> Estimate:
    """Rank correlation of distinguishability with the fall of the held-out loss after a quarter of the
    updates, all weights, over behaviours.
    """
    found = with_falls_by_step(tables)
    return found[min(found)]


def more_at_first(tables: Tables) -> Estimate:
    """That correlation less the one after all updates."""
    falls = falls_by_step(tables)
    table = tables["fine_tuning"].set_index("behaviour").loc[falls.index]
    first, last = falls.iloc[:, 0], falls.iloc[:, -1]
    return estimates.gain_in_spearman(first, last, table["δ of training"], tables.seed, table["family"])


def clouds_part(tables: Tables) -> Estimate:
    """Change of log δ of held-out statements by training on them, mean over behaviours."""
    return mean_over_behaviours(tables, log_change(tables, "δ", OWN))


def clouds_part_by_labels(tables: Tables) -> Estimate:
    """That change less the one by training on shuffled labels."""
    return _less(tables, "δ", SHUFFLED)


def clouds_part_by_the_behaviour(tables: Tables) -> Estimate:
    """That change less the one by training on another behaviour."""
    return _less(tables, "δ", OTHER)


def clouds_shrink(tables: Tables) -> Estimate:
    """Change of log Tr Σ of held-out statements by training, mean over behaviours."""
    return mean_over_behaviours(tables, log_change(tables, "Tr Σ", OWN))


def clouds_small_for_their_distance(tables: Tables) -> Estimate:
    """Change of log (Tr Σ / δ²) of held-out statements by training, mean over behaviours."""
    return mean_over_behaviours(tables, log_change(tables, "Tr Σ / δ²", OWN))


def clouds_small_by_labels(tables: Tables) -> Estimate:
    """That change less the one by training on shuffled labels."""
    return _less(tables, "Tr Σ / δ²", SHUFFLED)


def misaligned_faster(tables: Tables) -> Estimate:
    """Fall of the loss on opposite labels, from the aligned model less from the base model (nats), mean over
    behaviours that had been learned.
    """
    return faster_undone(tables, ALIGNED, than=BASE)


def misaligned_faster_than_elsewhere(tables: Tables) -> Estimate:
    """The same less from a model aligned on another behaviour."""
    return faster_undone(tables, ALIGNED, than=ELSEWHERE)


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


def larger_distance_learned_faster(tables: Tables) -> Estimate:
    """Fall of the held-out loss, from the half of large projections less from that of small ones (nats), mean
    over behaviours.
    """
    falls = tables["intervention"].pivot_table("fall", "behaviour", "arm")
    return mean_over_behaviours(tables, falls["large projections"] - falls["small projections"])


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


def _over_pairs(tables: Tables, name: str, gap: pd.Series) -> Estimate:
    pairs = tables[name]
    return estimates.spearman_over_pairs(gap, pairs["loss gap"], pairs[["first", "second"]], tables.seed)


def _families(tables: Tables, table: pd.DataFrame) -> pd.Series:
    return table["behaviour"].map(tables["embeddings"].set_index("behaviour")["family"])


def _less(tables: Tables, quantity: str, control: str) -> Estimate:
    """Of the training on a behaviour's own labels, less that of a control, mean over behaviours with both."""
    change = (log_change(tables, quantity, OWN) - log_change(tables, quantity, control)).dropna()
    return mean_over_behaviours(tables, change)


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
        fall_at_first,
        more_at_first,
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
