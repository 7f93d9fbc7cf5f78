"""Numbers that the text of the chapter `ranking` quotes beside its claims', as text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from prefbook.ledger.derived.ranking import (
    LLMBAR,
    MIDDLE_BETA,
    PAPERS_BETA,
    TRAINED_ON,
    VOTED,
    accuracy,
    at_lowest_loss,
    clear_pairs,
    flipped,
    flips_found_and_foretold,
    idealized,
    judge_accuracy,
    log_ratio,
    over_prompts,
)
from prefbook.ledger.quoted import ranking_world
from prefbook.ledger.quoted.forms import MISSING, measured, number, share
from prefbook.ledger.quoted.ranking_world import crossed, found_over_foretold, gain_and_c
from prefbook.ledger.statistics.ranking import hardness_and_length, likelier_when_tuned, raised
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate
from prefdyn.theory import ranking as theory


def _accuracy(tables: Tables, data: str, per_token: bool) -> str:
    found = accuracy(tables, (data,), per_token)
    return MISSING if np.isnan(found.value) else share(found.value)


def _optimum(tables: Tables, beta: float, per_token: bool, by_code: bool = False) -> str:
    return share(idealized(tables, per_token, by_code)[beta].value)


def _largest(tables: Tables) -> str:
    return share(max(one.value for one in idealized(tables, False, False).values()))


def _with_ties(tables: Tables, by_code: bool, optimum: bool) -> str:
    """Ranking accuracy of whole responses with ties counted, on human votes: of the model, or of the optimum
    at the middle strength, to which tied pairs are what they are to the reference.
    """
    scored = tables["scored"]
    voted = scored[scored["data"].isin(VOTED)]
    if voted.empty:
        return MISSING
    first, second, alpha = voted["logp 1"].to_numpy(), voted["logp 2"].to_numpy(), voted["alpha"]
    if by_code and optimum:
        hits = theory.code_idealized(first, second, alpha, MIDDLE_BETA, False)
    elif by_code:
        hits = theory.code_ranked_right(first, second, alpha, False)
    else:
        ratio = theory.idealized_log_ratio(first - second, alpha, MIDDLE_BETA) if optimum else first - second
        tied = np.array([theory.ranked_right(pair, (0, 0)) for pair in zip(first, second, strict=True)])
        ahead = np.where(voted["preferred"] == 1, ratio >= 0, ratio <= 0)
        hits = np.where(voted["preferred"] == 0, tied, ahead)
    return share(float(hits.mean()))


def _gap_of_three_votes(tables: Tables) -> str:
    """RA-2a's gap of whole responses where three votes of three count as 0.8, (3 + 1)/(3 + 2) by Laplace."""
    pairs = clear_pairs(tables, VOTED)
    ratio = log_ratio(pairs, False)
    ideal = theory.idealized_log_ratio(ratio, pairs["alpha"].clip(upper=0.8), PAPERS_BETA) > 0
    return measured(over_prompts(ideal.astype(float) - (ratio >= 0), pairs["cluster"], tables.seed))


def _foretold(tables: Tables, split: str) -> str:
    """The share of wrong pairs of HH-RLHF that would flip by the lowest validation loss if they gained what
    right ones do.
    """
    pairs = at_lowest_loss(tables, split)
    _, foretold = flips_found_and_foretold(pairs, np.ones((1, len(pairs))))
    return number(float(foretold[0]))


def _flipped_half_as_late(tables: Tables) -> str:
    """The share of wrong trained pairs that have flipped at the look that is nearest to half of the updates
    of the lowest validation loss, all runs together.
    """
    trained = tables["followed"].query("split == 'trained'")
    best = tables["flips"].query("split == 'trained'").set_index("run")["step"]
    apart = (trained["step"] - trained["run"].map(best) / 2).abs()
    nearest = trained.loc[apart.groupby(trained["run"]).transform("min") == apart]
    first = nearest.groupby("run")["step"].transform("min") == nearest["step"]
    return measured(flipped(nearest[first], tables.seed))


def _beyond_length(tables: Tables, names: tuple[str, ...]) -> str:
    """The share of pairs ranked right as whole once a straight line through the origin in the difference of
    the responses' tokens is taken off their log-ratios.
    """
    pairs = clear_pairs(tables, names)
    longer, ratio = pairs["chosen"] - pairs["rejected"], log_ratio(pairs, False)
    if len(pairs) < 3 or not longer.any():
        return MISSING
    left = ratio - longer * (longer @ ratio) / (longer @ longer)
    return str(estimates.proportion(left >= 0, pairs["cluster"]))


def _longer(tables: Tables, names: tuple[str, ...]) -> str:
    """How often the chosen response has more tokens."""
    pairs = clear_pairs(tables, names)
    return share(float((pairs["chosen"] > pairs["rejected"]).mean())) if len(pairs) else MISSING


def _longer_likelier(tables: Tables, names: tuple[str, ...]) -> str:
    """How often the longer of two responses is the likelier one per token."""
    pairs = clear_pairs(tables, names)
    longer = np.sign((pairs["chosen"] - pairs["rejected"]).to_numpy())
    pairs, ratio, longer = pairs[longer != 0], log_ratio(pairs, True)[longer != 0], longer[longer != 0]
    if len(pairs) < 3:
        return MISSING
    return str(estimates.proportion(ratio * longer > 0, pairs["cluster"]))


def _raised_on(tables: Tables, names: tuple[str, ...]) -> str:
    """RA-7's change of the ranking accuracy per token, on some of its data sets."""
    return measured(raised(tables, names, per_token=True))


def _mean_gain(tables: Tables, split: str, right: bool) -> str:
    """Mean gain by the lowest validation loss of the pairs that the reference has right, or wrong (nats)."""
    pairs = at_lowest_loss(tables, split)
    some = pairs[(pairs["c"] <= 0) == right]
    return measured(over_prompts(some["gain"], some["cluster"], tables.seed))


def _prompts(tables: Tables) -> str:
    return f"{clear_pairs(tables, VOTED)['prompt'].nunique():,}"


def _rho(tables: Tables, what: str) -> str:
    """Rank correlations of c, of the model as it came, on the data that training takes."""
    pairs = clear_pairs(tables, TRAINED_ON)
    c = -log_ratio(pairs, False)
    x, y = (
        (np.abs(c), pairs["chosen"] + pairs["rejected"])
        if what == "size"
        else (c, pairs["chosen"] - pairs["rejected"])
    )
    return str(estimates.spearman(x, y, tables.seed, pairs["cluster"]))


def no_verdict(tables: Tables) -> str:
    """The share of its questions on which the judge of the design gave no verdict."""
    return share(float(tables["judge"].iloc[0].get("no verdict", 0)))


def _offline(tables: Tables, names: tuple[str, ...], judge: str) -> str:
    """The accuracy of an offline judge on some data."""
    return measured(judge_accuracy(tables, names, judge))


def _judge(tables: Tables) -> str:
    judge = tables["judge"].iloc[0]
    if np.isnan(judge["accuracy"]):
        return "not known"
    return str(Estimate(judge["accuracy"], judge["low"], judge["high"], int(judge["n"])))


QUOTED: dict[str, Callable[[Tables], str]] = {
    "llmbar-natural": lambda tables: _accuracy(tables, "llmbar-natural", False),
    "llmbar-adversarial": lambda tables: _accuracy(tables, "llmbar-adversarial", False),
    "ideal-per-token": lambda tables: _optimum(tables, PAPERS_BETA, True),
    "ideal-whole": lambda tables: _optimum(tables, PAPERS_BETA, False),
    "code-whole": lambda tables: _optimum(tables, MIDDLE_BETA, False, by_code=True),
    "theorem-whole": lambda tables: _optimum(tables, MIDDLE_BETA, False),
    "code-least": lambda tables: _optimum(tables, max(theory.BETAS), False, by_code=True),
    "theorem-least": lambda tables: _optimum(tables, max(theory.BETAS), False),
    "largest-whole": _largest,
    "longer-hh": lambda tables: _longer(tables, TRAINED_ON),
    "longer-pandalm": lambda tables: _longer(tables, VOTED),
    "longer-adversarial": lambda tables: _longer(tables, LLMBAR[1:]),
    "ties-printed": lambda tables: _with_ties(tables, by_code=False, optimum=False),
    "ties-code": lambda tables: _with_ties(tables, by_code=True, optimum=False),
    "ties-ideal-printed": lambda tables: _with_ties(tables, by_code=False, optimum=True),
    "ties-ideal-code": lambda tables: _with_ties(tables, by_code=True, optimum=True),
    "pandalm-prompts": _prompts,
    "votes-lost-trained": lambda tables: crossed(at_lowest_loss(tables, "trained"), to_wrong=True),
    "votes-lost-unseen": lambda tables: crossed(at_lowest_loss(tables, "unseen"), to_wrong=True),
    "gap-three-votes": _gap_of_three_votes,
    "gain-c-trained": lambda tables: gain_and_c(at_lowest_loss(tables, "trained"), tables.seed),
    "gain-c-unseen": lambda tables: gain_and_c(at_lowest_loss(tables, "unseen"), tables.seed),
    "foretold-trained": lambda tables: _foretold(tables, "trained"),
    "foretold-unseen": lambda tables: _foretold(tables, "unseen"),
    "ratio-unseen": lambda tables: found_over_foretold(at_lowest_loss(tables, "unseen"), tables.seed),
    "ratio-trained": lambda tables: found_over_foretold(at_lowest_loss(tables, "trained"), tables.seed),
    "beyond-length-hh": lambda tables: _beyond_length(tables, TRAINED_ON),
    "beyond-length-pandalm": lambda tables: _beyond_length(tables, VOTED),
    "flips-half-as-late": _flipped_half_as_late,
    "rho-length": lambda tables: str(hardness_and_length(tables)),
    "rho-size": lambda tables: _rho(tables, "size"),
    "rho-difference": lambda tables: _rho(tables, "difference"),
    "judge-length": lambda tables: _offline(tables, VOTED, "length alone"),
    **{
        f"judge-{key}-hh": partial(_offline, names=TRAINED_ON, judge=judge)
        for key, judge in (
            ("states", "states of the model"),
            ("encoder", "a sentence encoder"),
            ("length", "length alone"),
        )
    },
    "longer-likelier-hh": lambda tables: _longer_likelier(tables, TRAINED_ON),
    "longer-likelier-pandalm": lambda tables: _longer_likelier(tables, VOTED),
    "tuned-hh": lambda tables: _raised_on(tables, TRAINED_ON),
    "tuned-pandalm": lambda tables: _raised_on(tables, VOTED),
    "tuned-rejected": lambda tables: measured(likelier_when_tuned(tables, "rejected")),
    **{
        f"gain-{side}-{split}": partial(_mean_gain, split=split, right=side == "right")
        for side in ("right", "wrong")
        for split in ("trained", "unseen")
    },
    "judge-accuracy": _judge,
    "judge-no-verdict": no_verdict,
    **ranking_world.QUOTED,
}
