"""What the claims of the chapter `ranking` are judged by, and the other numbers that it quotes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates, flips
from prefdyn.measures.estimates import Estimate
from prefdyn.theory import ranking as theory

TRAINED_ON = ("sample", "hh-rlhf")
"""The data sets that training takes its pairs from; a source has one of them."""
UNKNOWN = Estimate(np.nan, np.nan, np.nan, 1)


# RA-1 -----------------------------------------------------------------------------------------------


def accuracy_per_token(tables: Tables) -> Estimate:
    """The share of the training data's pairs that the model ranks right by the mean over tokens."""
    return estimates.proportion(_pairs(tables)["per token"])


def accuracy_whole(tables: Tables) -> Estimate:
    """The same by the likelihood of whole responses."""
    return estimates.proportion(_pairs(tables)["whole"])


def _pairs(tables: Tables) -> pd.DataFrame:
    hits = tables["hits"]
    return hits[hits["data"].isin(TRAINED_ON) & ~hits["tied"]]


# RA-2 -----------------------------------------------------------------------------------------------


def gap_per_token(tables: Tables) -> Estimate:
    """The alignment gap: the median over beta of the optimum's accuracy, less the model's."""
    return _gap(tables, "per token")


def gap_whole(tables: Tables) -> Estimate:
    """The same of whole responses."""
    return _gap(tables, "whole")


def _gap(tables: Tables, kind: str) -> Estimate:
    votes = tables["votes"]
    return theory.idealized(votes[kind], votes[kind], votes["alpha"], seed=tables.seed).gap


# RA-3 -----------------------------------------------------------------------------------------------


def flipped_rmsprop(tables: Tables) -> Estimate:
    """Of the pairs that the reference ranks wrong, the share that is ranked right at the lowest validation
    loss.
    """
    return _flipped(tables, "RMSProp")


def flipped_adamw(tables: Tables) -> Estimate:
    """The same under AdamW."""
    return _flipped(tables, "AdamW")


def _flipped(tables: Tables, optimizer: str) -> Estimate:
    followed, found = tables["followed"], tables["flips"]
    run = followed[(followed["optimizer"] == optimizer) & (followed["gamma"] == 1)]
    return flips.share_flipped(run, int(found["step"][found["optimizer"] == optimizer].item()))


# RA-4 -----------------------------------------------------------------------------------------------


def threshold_violations(tables: Tables) -> Estimate:
    """Pairs at checkpoints that violate Theorem 4.1."""
    return _violations(tables, "Theorem 4.1")


def sanity_violations(tables: Tables) -> Estimate:
    """Those that violate Proposition 2.6."""
    return _violations(tables, "Proposition 2.6")


def ipo_violations(tables: Tables) -> Estimate:
    """Those that violate Proposition A.7."""
    return _violations(tables, "Proposition A.7")


def _violations(tables: Tables, statement: str) -> Estimate:
    found = tables["identities"]
    row = found[found["statement"] == statement]
    points, broken = int(row["points"].item()), int(row["violations"].item())
    return estimates.count(broken, points) if points else UNKNOWN


# RA-5 -----------------------------------------------------------------------------------------------


def border(answers: pd.DataFrame) -> float:
    """The distance of the checkpoint with the best win rate, which parts near from far."""
    moved = answers[answers["step"] > 0]
    return float(moved["distance"].iloc[moved["win rate"].argmax()])


def correlation_near(tables: Tables) -> Estimate:
    """Rank correlation of ranking accuracy with win rate over checkpoints up to the border."""
    answers = tables["win_rate"]
    return _correlation(answers[answers["distance"] <= border(answers)], tables.seed)


def correlation_far(tables: Tables) -> Estimate:
    """The same from the border on."""
    answers = tables["win_rate"]
    return _correlation(answers[answers["distance"] >= border(answers)], tables.seed)


def _correlation(answers: pd.DataFrame, seed: int) -> Estimate:
    part = answers.drop_duplicates(["distance", "ranking accuracy"])
    return flips.correlate(part["ranking accuracy"], part["win rate"], seed)


# RA-6 -----------------------------------------------------------------------------------------------


def correlation_of_lengths(tables: Tables) -> Estimate:
    """Rank correlation of c with the tokens of both responses, over pairs."""
    pairs = tables["lengths"]
    return flips.correlate(pairs["c"], pairs["chosen"] + pairs["rejected"], tables.seed)


def correlation_of_difference(tables: Tables) -> Estimate:
    """Rank correlation of c with the chosen response's tokens less the rejected one's."""
    pairs = tables["lengths"]
    return flips.correlate(pairs["c"], pairs["chosen"] - pairs["rejected"], tables.seed)


def correlation_of_size(tables: Tables) -> Estimate:
    """Rank correlation of |c| with the tokens of both responses."""
    pairs = tables["lengths"]
    return flips.correlate(pairs["c"].abs(), pairs["chosen"] + pairs["rejected"], tables.seed)


STATISTICS: dict[str, Callable[[Tables], Estimate]] = {
    function.__name__: function
    for function in (
        accuracy_per_token,
        accuracy_whole,
        gap_per_token,
        gap_whole,
        flipped_rmsprop,
        flipped_adamw,
        threshold_violations,
        sanity_violations,
        ipo_violations,
        correlation_near,
        correlation_far,
        correlation_of_lengths,
    )
}


# Quoted ---------------------------------------------------------------------------------------------


MISSING = "not measured"
"""Where an edition has not what is quoted."""


def _share(value: float) -> str:
    return f"{value:.0%}" if value == 0 or value >= 0.1 else f"{value:.1%}"


def _accuracy(tables: Tables, data: str, kind: str) -> str:
    """Ranking accuracy on a data set, rankings with ties left out."""
    found = tables["ranking_accuracy"]
    row = found[(found["data"] == data) & (found["responses"] == kind) & (found["ties"] != "counted")]
    return " ".join(_share(value) for value in row["accuracy"]) or MISSING


def _best_steps(tables: Tables) -> str:
    """Where the validation loss was lowest, under each optimizer."""
    best = {row["optimizer"]: int(row["step"]) for row in tables["flips"].to_dict("records")}
    last = tables["followed"].query("gamma == 1")["step"].max()
    return " and ".join(f"at step {step} ({name})" for name, step in best.items()) + f" of {last}"


def _near_at_ten(tables: Tables) -> str:
    """The share of pairs that the model ranks wrong by less than votes can move a log-ratio at beta 10."""
    ratio = tables["votes"]["whole"]
    reach = np.log((1 - theory.UNANIMITY) / theory.UNANIMITY) / 10
    return _share(float(((ratio < 0) & (ratio > -reach)).mean()))


def _optimum(tables: Tables, kind: str, column: str) -> str:
    found = tables["idealized"]
    return _share(float(found[column][found["responses"] == kind].item()))


def _reach_of_zero(tables: Tables) -> str:
    """How far up the interval of a share of zero reaches, over as many pairs as there are."""
    wrong = int(tables["flips"]["wrong pairs"].min())
    return _share(estimates.proportion(np.zeros(max(3, wrong))).high)


def _judge(tables: Tables) -> str:
    judge = tables["judge"].iloc[0]
    if np.isnan(judge["accuracy"]):
        return "not known"
    return str(Estimate(judge["accuracy"], judge["low"], judge["high"], int(judge["n"])))


def no_verdict(tables: Tables) -> str:
    """The share of its questions on which the judge gave no verdict; a table without it is of the embedded
    judge, which always gives one.
    """
    return _share(float(tables["judge"].iloc[0].get("no verdict", 0)))


QUOTED: dict[str, Callable[[Tables], str]] = {
    "alpaca-per-token": lambda tables: _accuracy(tables, "alpaca-eval", "per token"),
    "alpaca-whole": lambda tables: _accuracy(tables, "alpaca-eval", "whole"),
    "orders-per-token": lambda tables: _accuracy(tables, "alpaca-eval-rankings", "per token"),
    "actual-per-token": lambda tables: _optimum(tables, "per token", "actual"),
    "median-per-token": lambda tables: _optimum(tables, "per token", "median"),
    "actual-whole": lambda tables: _optimum(tables, "whole", "actual"),
    "median-whole": lambda tables: _optimum(tables, "whole", "median"),
    "largest-whole": lambda tables: _optimum(tables, "whole", "largest"),
    "near-at-ten": _near_at_ten,
    "median-alpha": lambda tables: _share(float(tables["votes"]["alpha"].median())),
    "best-steps": _best_steps,
    "reach-of-zero": _reach_of_zero,
    "judge-accuracy": _judge,
    "judge-pairs": lambda tables: f"{tables['judge']['n'].fillna(0).iloc[0]:g}",
    "judge-no-verdict": no_verdict,
    "rho-difference": lambda tables: str(correlation_of_difference(tables)),
    "rho-size": lambda tables: str(correlation_of_size(tables)),
}
