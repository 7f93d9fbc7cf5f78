"""What the claims of the chapter `distinguishability` are judged by, and the other numbers that it quotes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate

FALL = "fall of the loss"

# Statistics of the claims -----------------------------------------------------------------------------


def fall_of_last_layer(tables: Tables) -> Estimate:
    """Rank correlation of distinguishability with the fall of the loss, the unembedding alone, over
    behaviours.
    """
    return _with_delta(tables, "unembedding", FALL)


def movement_of_last_layer(tables: Tables) -> Estimate:
    """Rank correlation of distinguishability with the movement of the weights a step, over behaviours."""
    return _with_delta(tables, "unembedding", "rate")


def accuracy_of_last_layer(tables: Tables) -> Estimate:
    """Rank correlation of distinguishability with accuracy after training, the unembedding alone."""
    return _with_delta(tables, "unembedding", "accuracy after")


def straightness(tables: Tables) -> Estimate:
    """R² of a straight line through the origin fitted to the weights' movement, median over behaviours."""
    return estimates.median(tables["theorem_4_1"]["R²"], tables.seed)


def steps_above_the_bound(tables: Tables) -> Estimate:
    """Steps at which a behaviour's weights have moved beyond the bound of Theorem 4.1, of all steps."""
    rates = tables["theorem_4_1"]
    return estimates.count(int(rates["steps above"].sum()), int(rates["steps"].sum()))


def priority_and_loss_gap(tables: Tables) -> Estimate:
    """Rank correlation of the gap in priority with the gap in loss over pairs trained together, the
    unembedding alone; resampled by behaviour.
    """
    return _over_pairs(tables, tables["pairs"]["priority gap"])


def fall_of_all_weights(tables: Tables) -> Estimate:
    """Rank correlation of distinguishability with the fall of the loss, all weights, over behaviours."""
    return _with_delta(tables, "fine_tuning", FALL)


def clouds_part(tables: Tables) -> Estimate:
    """Change of log δ by training, mean over behaviours."""
    return _log_change(tables, "δ")


def clouds_small_for_their_distance(tables: Tables) -> Estimate:
    """Change of log (Tr Σ / δ²) by training, mean over behaviours."""
    return _log_change(tables, "Tr Σ / δ²")


def misaligned_faster(tables: Tables) -> Estimate:
    """Loss on opposite labels after training on them, from the aligned model less from the base model (nats),
    mean over behaviours.
    """
    return estimates.mean(tables["misalignment"]["aligned minus base"])


def fall_at_every_beta(tables: Tables) -> Estimate:
    """The rank correlation of distinguishability with the fall of the loss at the β where its interval
    reaches lowest.
    """
    return min(falls_by_beta(tables).values(), key=lambda rho: rho.low)


def falls_by_beta(tables: Tables) -> dict[float, Estimate]:
    """For each β, from the smallest, the rank correlation of distinguishability with the fall of the loss."""
    falls = tables["beta_falls"]
    parts = {beta: falls[falls["β"] == beta] for beta in sorted(falls["β"].unique())}
    return {beta: estimates.spearman(part["δ"], part[FALL], tables.seed) for beta, part in parts.items()}


def _with_delta(tables: Tables, name: str, column: str) -> Estimate:
    return estimates.spearman(tables[name]["δ"], tables[name][column], tables.seed)


def _over_pairs(tables: Tables, gap: pd.Series) -> Estimate:
    pairs = tables["pairs"]
    return estimates.spearman_over_pairs(gap, pairs["loss gap"], pairs[["first", "second"]], tables.seed)


def _log_change(tables: Tables, quantity: str) -> Estimate:
    change = tables["before_and_after"]
    return estimates.mean(np.log(change[f"{quantity} after"] / change[f"{quantity} before"]))


STATISTICS: dict[str, Callable[[Tables], Estimate]] = {
    function.__name__: function
    for function in (
        fall_of_last_layer,
        movement_of_last_layer,
        straightness,
        steps_above_the_bound,
        priority_and_loss_gap,
        fall_of_all_weights,
        clouds_part,
        clouds_small_for_their_distance,
        misaligned_faster,
        fall_at_every_beta,
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


def _squared_gap(tables: Tables) -> str:
    squares = tables["embeddings"].set_index("behaviour")["δ"] ** 2
    pairs = tables["pairs"]
    gap = squares[pairs["first"]].to_numpy() - squares[pairs["second"]].to_numpy()
    return str(_over_pairs(tables, pd.Series(gap)))


def _end_gap(tables: Tables, pair: str) -> str:
    """Loss at the end, of the lower priority less that of the higher (nats)."""
    table = tables["joint_training"]
    part = table[(table["pair"] == pair) & (table["split"] == "training")]
    last = part[part["step"] == part["step"].max()].set_index("has priority")["loss"]
    return _signed(last[False] - last[True], ".3f")


def _factor(tables: Tables, quantity: str) -> str:
    change = _log_change(tables, quantity)
    value, low, high = np.exp([change.value, change.low, change.high])
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _one_answer(tables: Tables) -> str:
    """Behaviours whose margins are positive for exactly half of the statements, trained on and held out: one
    answer gained everywhere.
    """
    table = tables["fine_tuning"]
    shares = [table[f"{split} margins > 0"] for split in ("training", "held-out")]
    return _of(np.all(np.isclose(shares, 0.5), axis=0))


def _text_change(tables: Tables, run: str, of: Callable[[pd.DataFrame], pd.Series]) -> str:
    """How far a quantity of response pairs moves in a run (nats)."""
    table = tables["text"]
    part = table[table["run"] == run].set_index("step")
    values = of(part)
    return _signed(values[part.index.max()] - values[0], ".1f")


def _lead(part: pd.DataFrame) -> pd.Series:
    return part["logp_chosen"] - part["logp_rejected"]


def _of(mask: pd.Series | np.ndarray) -> str:
    return f"{int(np.sum(mask))} of {len(mask)}"


def _signed(value: float, form: str) -> str:
    return f"{value:+{form}}".replace("-", "−")


QUOTED: dict[str, Callable[[Tables], str]] = {
    "behaviours": lambda tables: f"{len(tables['embeddings'])}",
    "trained": lambda tables: f"{len(tables['fine_tuning'])}",
    "range of δ": _range_of_delta,
    "below chance": _below_chance,
    "condition holds": lambda tables: _of(tables["theorem_4_1"]["holds"]),
    "least R²": lambda tables: f"{tables['theorem_4_1']['R²'].min():.4f}",
    "slack": _slack,
    "accuracy": lambda tables: str(accuracy_of_last_layer(tables)),
    "crossings": _crossings,
    "bounded": lambda tables: _of(~tables["boundary"]["begins below 0"]),
    "guaranteed": lambda tables: f"{tables['boundary']['guaranteed'].max():.1%}",
    "always Yes": lambda tables: f"{tables['boundary']['share of Yes'].max():.0%}",
    "pairs": lambda tables: f"{len(tables['pairs'])}",
    "first-step error": lambda tables: f"{tables['pairs']['error'].max():.0e}".replace("e-", "e−"),
    "squared gap": _squared_gap,
    "right way": lambda tables: _of(tables["pairs"]["loss gap"] > 0),
    "large gap": lambda tables: _end_gap(tables, "large gap in priority"),
    "small gap": lambda tables: _end_gap(tables, "small gap in priority"),
    "δ factor": lambda tables: _factor(tables, "δ"),
    "ratio factor": lambda tables: _factor(tables, "Tr Σ / δ²"),
    "trace factor": lambda tables: _factor(tables, "Tr Σ"),
    "trace rises": lambda tables: _of(
        tables["before_and_after"]["Tr Σ after"] > tables["before_and_after"]["Tr Σ before"]
    ),
    "one answer": _one_answer,
    "undone faster": lambda tables: _of(tables["misalignment"]["aligned minus base"] < 0),
    "chosen": lambda tables: _text_change(tables, "aligning", lambda part: part["logp_chosen"]),
    "rejected": lambda tables: _text_change(tables, "aligning", lambda part: part["logp_rejected"]),
    "text aligning": lambda tables: _text_change(tables, "aligning", _lead),
    "text undoing": lambda tables: _text_change(tables, "misaligning the aligned model", _lead),
    "text from base": lambda tables: _text_change(tables, "misaligning the base model", _lead),
    "text pairs": lambda tables: f"{tables['text']['pairs'].iloc[0]}",
}
