"""Numbers that the text of the chapter `ranking` quotes beside its claims', as text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from prefbook.ledger.derived.ranking import (
    LLMBAR,
    MIDDLE_BETA,
    PAPERS_BETA,
    TRAINED_ON,
    VOTED,
    accuracy,
    beyond_length,
    clear_pairs,
    idealized,
    judge_accuracy,
    last_look,
    less_dpo,
    log_ratio,
    papers_beta,
)
from prefbook.ledger.statistics.ranking import hardness_and_length
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate
from prefdyn.theory import ranking as theory

MISSING = "not measured"
"""Where an edition has not what is quoted."""


def _share(value: float) -> str:
    return f"{value:.0%}" if value == 0 or value >= 0.1 else f"{value:.1%}"


def _rounded(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")


def _accuracy(tables: Tables, data: str, per_token: bool) -> str:
    found = accuracy(tables, (data,), per_token)
    return MISSING if np.isnan(found.value) else _share(found.value)


def _optimum(tables: Tables, beta: float, per_token: bool, by_code: bool = False) -> str:
    return _share(idealized(tables, per_token, by_code)[beta].value)


def _largest(tables: Tables) -> str:
    return _share(max(one.value for one in idealized(tables, False, False).values()))


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
    return _share(float(hits.mean()))


def _beyond_length(tables: Tables) -> str:
    """Ranking accuracy by what length does not foretell of the log-ratio of whole responses."""
    pairs = clear_pairs(tables, (*TRAINED_ON, *VOTED))
    if len(pairs) < 3:
        return MISSING
    return str(estimates.share(beyond_length(pairs) >= 0, pairs["cluster"], tables.seed))


def _less_dpo(tables: Tables, objective: str, measure: str) -> str:
    found = less_dpo(tables).get(objective)
    if found is None:
        return MISSING
    one = found[measure]
    return _rounded(one.value) if np.isnan(one.low) else str(one)


def _longer(tables: Tables, names: tuple[str, ...]) -> str:
    """How often the chosen response has more tokens."""
    pairs = clear_pairs(tables, names)
    return _share(float((pairs["chosen"] > pairs["rejected"]).mean())) if len(pairs) else MISSING


def _prompts(tables: Tables) -> str:
    return f"{clear_pairs(tables, VOTED)['prompt'].nunique():,}"


def reach(tables: Tables, beta: float) -> float:
    """Slope, through the origin, of what unseen pairs gained by the end of DPO on what they gain at the
    optimum.
    """
    pairs = tables["world_pairs"].query("objective == 'DPO' and split == 'unseen'")
    pairs = pairs[(pairs["β"] == beta) & (pairs["step"] == pairs["step"].max())]
    optimum = pairs["difference"] / beta
    return float((optimum * pairs["gain"]).sum() / (optimum**2).sum())


def _reach(tables: Tables, which: int) -> str:
    betas = sorted(tables["world_pairs"].query("objective == 'DPO'")["β"].unique())
    at = {-1: betas[0], 0: papers_beta(tables), 1: betas[-1]}[which]
    return _rounded(reach(tables, at))


def _in_world(tables: Tables, split: str, what: str) -> str:
    """A share of pairs at the end of DPO at the paper's strength: ranked right; right for the reference;
    right at the optimum; or of the wrong ones, flipped.
    """
    pairs = last_look(tables, split)
    hits = {
        "right": pairs["gain"] >= pairs["c"],
        "reference": pairs["c"] <= 0,
        "ideal": pairs["difference"] / pairs["β"] > pairs["c"],
        "flipped": (pairs["gain"] >= pairs["c"])[pairs["c"] > 0],
    }[what]
    return MISSING if not len(hits) else _share(float(hits.mean()))


def _wins(tables: Tables, objective: str) -> str:
    """The win rate at the end of what went on from DPO."""
    answers = tables["world_answers"].query("objective == @objective")
    return _share(float(answers["win rate"].mean()))


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
    return _share(float(tables["judge"].iloc[0].get("no verdict", 0)))


def _by_length_alone(tables: Tables) -> str:
    """The accuracy of the offline judge that knows the lengths, on human votes."""
    found = judge_accuracy(tables, VOTED, "length alone")
    return MISSING if np.isnan(found.value) else str(found)


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
    "beyond-length": _beyond_length,
    "flips-gamma-0": lambda tables: _less_dpo(tables, "γ 0", "flipped"),
    "flips-gamma-2": lambda tables: _less_dpo(tables, "γ 2", "flipped"),
    "divergence-gamma-0": lambda tables: _less_dpo(tables, "γ 0", "KL"),
    "divergence-gamma-2": lambda tables: _less_dpo(tables, "γ 2", "KL"),
    "wins-gamma-2": lambda tables: _less_dpo(tables, "γ 2", "win"),
    "pandalm-prompts": _prompts,
    "reach-weak": lambda tables: _reach(tables, -1),
    "reach-paper": lambda tables: _reach(tables, 0),
    "reach-strong": lambda tables: _reach(tables, 1),
    "world-ideal": lambda tables: _in_world(tables, "unseen", "ideal"),
    "world-reference": lambda tables: _in_world(tables, "unseen", "reference"),
    "world-unseen": lambda tables: _in_world(tables, "unseen", "right"),
    "world-trained": lambda tables: _in_world(tables, "trained", "right"),
    "world-flips-trained": lambda tables: _in_world(tables, "trained", "flipped"),
    "world-flips-unseen": lambda tables: _in_world(tables, "unseen", "flipped"),
    "fresh-wins": lambda tables: _wins(tables, "DPO, fresh pairs"),
    "same-wins": lambda tables: _wins(tables, "DPO, same pairs"),
    "rho-length": lambda tables: str(hardness_and_length(tables)),
    "rho-size": lambda tables: _rho(tables, "size"),
    "rho-difference": lambda tables: _rho(tables, "difference"),
    "judge-length": _by_length_alone,
    "judge-accuracy": _judge,
    "judge-no-verdict": no_verdict,
}
