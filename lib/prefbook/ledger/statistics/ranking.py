"""What the claims of the chapter `ranking` are judged by.

A pair is a unit; pairs of one prompt share responses, and prompts are what is resampled.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from prefbook.ledger.derived.ranking import (
    ALPACA,
    LLMBAR,
    MIDDLE_BETA,
    PAPERS_BETA,
    TRAINED_ON,
    UNKNOWN,
    VOTED,
    accuracy,
    by_judge,
    clear_pairs,
    ideal_hits,
    judge_accuracy,
    last_look,
    log_ratio,
    over_prompts,
    shorter_wins,
    tuned,
)
from prefbook.ledger.statistics import ranking_training
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate
from prefdyn.theory import ranking as theory

NEAR = 2
"""Tokens by which two responses of one length may differ."""
TENTH = 0.1


# RA-1 -----------------------------------------------------------------------------------------------


def hh_per_token(tables: Tables) -> Estimate:
    """The share of the training data's pairs that the model ranks right by the mean over tokens."""
    return accuracy(tables, TRAINED_ON, True)


def hh_whole(tables: Tables) -> Estimate:
    """The same by the likelihood of whole responses."""
    return accuracy(tables, TRAINED_ON, False)


def pandalm_per_token(tables: Tables) -> Estimate:
    """The share of pairs with human votes that are ranked right by the mean over tokens."""
    return accuracy(tables, ("pandalm",), True)


def pandalm_whole(tables: Tables) -> Estimate:
    """The same by the likelihood of whole responses."""
    return accuracy(tables, ("pandalm",), False)


def llmbar_per_token(tables: Tables) -> Estimate:
    """The share of LLMBar's pairs that are ranked right by the mean over tokens."""
    return accuracy(tables, LLMBAR, True)


def llmbar_whole(tables: Tables) -> Estimate:
    """The same by the likelihood of whole responses."""
    return accuracy(tables, LLMBAR, False)


def alpaca_per_token(tables: Tables) -> Estimate:
    """The share of AlpacaEval's pairs that are ranked right by the mean over tokens."""
    return accuracy(tables, ALPACA, True)


def alpaca_whole(tables: Tables) -> Estimate:
    """The same by the likelihood of whole responses."""
    return accuracy(tables, ALPACA, False)


# RA-2 -----------------------------------------------------------------------------------------------


def gap_per_token(tables: Tables) -> Estimate:
    """Ranking accuracy of the optimum at beta 0.1 with human votes, less the model's, per token."""
    return _gap(tables, True)


def gap_whole(tables: Tables) -> Estimate:
    """The same of whole responses."""
    return _gap(tables, False)


def _gap(tables: Tables, per_token: bool) -> Estimate:
    pairs = clear_pairs(tables, VOTED)
    ratio = log_ratio(pairs, per_token)
    ideal = theory.idealized_log_ratio(ratio, pairs["alpha"], PAPERS_BETA) > 0
    return over_prompts(ideal.astype(float) - (ratio >= 0), pairs["cluster"], tables.seed)


def code_less_theorem(tables: Tables) -> Estimate:
    """Ranking accuracy of the optimum at beta 1 by the authors' code, less that by the theorem, of whole
    responses.
    """
    pairs = clear_pairs(tables, VOTED)
    code, ideal = (ideal_hits(tables, pairs, MIDDLE_BETA, False, by_code) for by_code in (True, False))
    return over_prompts(code.astype(float) - ideal, pairs["cluster"], tables.seed)


def optimum_less_trained(tables: Tables) -> Estimate:
    """In the world with a known judge, ranking accuracy of the optimum on unseen pairs less that of DPO at
    its end.
    """
    pairs = last_look(tables, "unseen")
    ideal = pairs["difference"] / pairs["β"] > pairs["c"]
    trained = pairs["gain"] >= pairs["c"]
    return over_prompts(ideal.astype(float) - trained, pairs["cluster"], tables.seed)


def optimum_less_trained_by_judge(tables: Tables) -> Estimate:
    """The same by the judge's own order, which a single vote may contradict: over pairs that he does not call
    equal, the share that is ordered as he orders them.
    """
    pairs = by_judge(last_look(tables, "unseen"))
    ideal, trained = (pairs[who].astype(float) for who in ("ideal", "trained"))
    return over_prompts(ideal - trained, pairs["cluster"], tables.seed)


# RA-6 -----------------------------------------------------------------------------------------------


def longer_at_the_hard_end(tables: Tables) -> Estimate:
    """Mean logarithm of the tokens of both responses in the tenth of pairs that is hardest for the fine-tuned
    reference, less that in the easiest tenth, on the data that training takes.
    """
    pairs = tuned(tables, TRAINED_ON)
    return _between_tenths(pairs, -1, np.log(pairs["chosen"] + pairs["rejected"]), tables.seed)


def hardness_and_length(tables: Tables) -> Estimate:
    """Rank correlation of c of the model as it came with the tokens of both responses, likewise."""
    pairs = clear_pairs(tables, TRAINED_ON)
    length = pairs["chosen"] + pairs["rejected"]
    return estimates.spearman(-log_ratio(pairs, False), length, tables.seed, pairs["cluster"])


def agreed_at_the_easy_end(tables: Tables) -> Estimate:
    """Mean share of raters for the chosen response in the tenth of pairs that is easiest for the fine-tuned
    reference, less that in the hardest tenth, on human votes.
    """
    pairs = tuned(tables, VOTED)
    return _between_tenths(pairs, 1, pairs["alpha"], tables.seed)


def _between_tenths(pairs: pd.DataFrame, sign: int, values: ArrayLike, seed: int) -> Estimate:
    """The mean of values in the tenth of least c less that in the tenth of greatest c, times a sign, with the
    bootstrap over prompts.
    """
    names, index = np.unique(pairs["cluster"], return_inverse=True)
    if len(names) < estimates.FEWEST_CLUSTERS:
        return estimates.unknown(len(pairs))
    order = np.argsort(pairs["c"].to_numpy(), kind="stable")
    x = np.asarray(values, dtype=float)[order]
    counts = estimates.resample_counts(len(names), seed)[:, index[order]]

    def gap(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        before = weights.cumsum(1) - weights
        tenth = TENTH * weights.sum(1, keepdims=True)
        easy = np.clip(tenth - before, 0, weights)
        hard = np.clip(before + weights - (weights.sum(1, keepdims=True) - tenth), 0, weights)
        return sign * (easy @ x / easy.sum(1) - hard @ x / hard.sum(1))

    value = float(gap(np.ones((1, len(x))))[0])
    some = np.array_split(counts, 40)  # what each needs stays in a processor's cache
    drawn = np.concatenate([gap(part) for part in some])
    return estimates.from_resamples(value, drawn, len(x), len(names))


# RA-7 -----------------------------------------------------------------------------------------------


def raised_whole(tables: Tables) -> Estimate:
    """Ranking accuracy of whole responses after supervised fine-tuning less before, on pairs of other
    prompts.
    """
    return raised(tables, (*TRAINED_ON, *VOTED), per_token=False)


def raised_per_token(tables: Tables) -> Estimate:
    """The same per token."""
    return raised(tables, (*TRAINED_ON, *VOTED), per_token=True)


def raised(tables: Tables, names: tuple[str, ...], per_token: bool) -> Estimate:
    """The same, whole or per token, on some data sets."""
    pairs = tuned(tables, names)
    sizes = (pairs["chosen"], pairs["rejected"]) if per_token else (1, 1)
    after, before = (
        pairs[f"chosen {when}"] / sizes[0] >= pairs[f"rejected {when}"] / sizes[1]
        for when in ("after", "before")
    )
    return over_prompts(after.astype(float) - before, pairs["cluster"], tables.seed)


def likelier_when_tuned(tables: Tables, response: str = "chosen") -> Estimate:
    """What the chosen, or the rejected, responses to other prompts gained by supervised fine-tuning, in nats
    a token: whether it did anything.
    """
    pairs = tuned(tables, (*TRAINED_ON, *VOTED))
    gained = (pairs[f"{response} after"] - pairs[f"{response} before"]) / pairs[response]
    return over_prompts(gained, pairs["cluster"], tables.seed)


# RA-8 -----------------------------------------------------------------------------------------------


def accuracy_at_one_length(tables: Tables) -> Estimate:
    """The share of pairs ranked right as whole, where the responses differ by two tokens at most."""
    pairs = clear_pairs(tables, (*TRAINED_ON, *VOTED))
    pairs = pairs[(pairs["chosen"] - pairs["rejected"]).abs() <= NEAR]
    if len(pairs) < 3:
        return UNKNOWN
    return estimates.proportion(log_ratio(pairs, False) >= 0, pairs["cluster"])


def better_than_shorter(tables: Tables) -> Estimate:
    """Ranking accuracy of whole responses less that of calling the shorter one better; equal lengths count
    half.
    """
    pairs = clear_pairs(tables, (*TRAINED_ON, *VOTED))
    model = log_ratio(pairs, False) >= 0
    return over_prompts(model.astype(float) - shorter_wins(pairs), pairs["cluster"], tables.seed)


# RA-9 -----------------------------------------------------------------------------------------------


def judged_by_states(tables: Tables) -> Estimate:
    """How often a reward on the model's states agrees with human votes, on prompts it was not fitted to."""
    return judge_accuracy(tables, VOTED, "states of the model")


def judged_by_encoder(tables: Tables) -> Estimate:
    """The same of a reward on a sentence encoder's vectors."""
    return judge_accuracy(tables, VOTED, "a sentence encoder")


STATISTICS: dict[str, Callable[[Tables], Estimate]] = {
    **ranking_training.STATISTICS,
    **{
        function.__name__: function
        for function in (
            hh_per_token,
            hh_whole,
            pandalm_per_token,
            pandalm_whole,
            llmbar_per_token,
            llmbar_whole,
            alpaca_per_token,
            alpaca_whole,
            gap_per_token,
            gap_whole,
            code_less_theorem,
            optimum_less_trained,
            optimum_less_trained_by_judge,
            longer_at_the_hard_end,
            hardness_and_length,
            agreed_at_the_easy_end,
            raised_whole,
            raised_per_token,
            likelier_when_tuned,
            accuracy_at_one_length,
            better_than_shorter,
            judged_by_states,
            judged_by_encoder,
        )
    },
}
