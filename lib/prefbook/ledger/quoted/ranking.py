"""Numbers that the text of the chapter `ranking` quotes beside its claims', as text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from prefbook.ledger.derived.ranking import (
    LLMBAR,
    MIDDLE_BETA,
    PAPERS_BETA,
    TRAINED_ON,
    VOTED,
    accuracy,
    at_lowest_loss,
    by_judge,
    change,
    clear_pairs,
    first_draw,
    idealized,
    judge_accuracy,
    last_look,
    less_dpo,
    log_ratio,
    over_draws,
    over_prompts,
    papers_beta,
    trained_right,
    win_rates,
)
from prefbook.ledger.quoted.forms import minus, of, signed
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
    return minus(f"{value:.2g}")


def _number(value: float) -> str:
    return MISSING if np.isnan(value) else _rounded(value)


def _said(found: Estimate) -> str:
    return MISSING if np.isnan(found.value) else str(found)


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


def _gap_of_three_votes(tables: Tables) -> str:
    """RA-2a's gap of whole responses where three votes of three count as 0.8, (3 + 1)/(3 + 2) by Laplace."""
    pairs = clear_pairs(tables, VOTED)
    ratio = log_ratio(pairs, False)
    ideal = theory.idealized_log_ratio(ratio, pairs["alpha"].clip(upper=0.8), PAPERS_BETA) > 0
    return _said(over_prompts(ideal.astype(float) - (ratio >= 0), pairs["cluster"], tables.seed))


def _gain_and_c(pairs: pd.DataFrame) -> str:
    """Rank correlation of the gain in training with c, mean over runs."""
    runs = [estimates.spearman(one["gain"], one["c"]).value for _, one in pairs.groupby("run")]
    return _number(float(np.mean(runs)))


def _foretold(tables: Tables, split: str) -> str:
    """The share of wrong pairs of HH-RLHF that would flip by the lowest validation loss if they gained what
    right ones do, mean over runs.
    """
    shares = []
    for _, run in at_lowest_loss(tables, split).groupby("run"):
        right, wrong = run[run["c"] <= 0], run[run["c"] > 0]
        if len(right) and len(wrong):
            shares.append(float(np.mean(theory.flips_foretold(right["gain"], wrong["c"]))))
    return _number(float(np.mean(shares))) if shares else MISSING


def _flipped_half_as_late(tables: Tables) -> str:
    """The share of wrong trained pairs that have flipped at the look that is nearest to half of the updates
    of the lowest validation loss, mean over runs.
    """
    shares = []
    for _, best in tables["flips"].query("split == 'trained'").iterrows():
        run = tables["followed"].query("split == 'trained'")
        run = run[(run["run"] == best["run"]) & (run["c"] > 0)]
        looks = run["step"].unique()
        if not len(looks):
            continue
        look = looks[np.abs(looks - best["step"] / 2).argmin()]
        shares.append(run[run["step"] == look]["right"].mean())
    return _number(float(np.mean(shares))) if shares else MISSING


def _by_judge(tables: Tables, who: str) -> str:
    """The share of unseen pairs that is ordered as the known judge orders them; see `by_judge`."""
    pairs = by_judge(last_look(tables, "unseen"))
    return MISSING if pairs.empty else _share(float(pairs[who].mean()))


def _votes_by_judge(tables: Tables) -> str:
    """How often the judge's own order agrees with the votes on unseen pairs, ties counted half."""
    ahead = last_look(tables, "unseen")["difference"]
    return _share(float((ahead > 0).mean() + (ahead == 0).mean() / 2))


def _wins_by_draw(tables: Tables, half: int) -> str:
    """Change of the win rate in a half of DPO, each draw of the world."""
    by_draw = change(win_rates(tables), half).groupby("run").mean()
    return ", ".join(signed(one, ".3f") for one in by_draw)


def _trained_in_the_first_half(tables: Tables) -> str:
    """Change of the ranking accuracy of trained pairs in the first half of DPO, as RA-5 has the second."""
    return str(over_draws(change(trained_right(tables), 0)))


def _right_at_the_end(tables: Tables, right: bool) -> str:
    """Of the trained pairs that are ranked right, or wrong, after half of the updates of DPO, the share that
    is right at the end; all strengths and draws.
    """
    table = trained_right(tables)
    by_pair = table.pivot(index=["run", "β", "prompt", "pair"], columns="step", values="value")
    last = table["step"].max()
    ends = by_pair[last][by_pair[last / 2] == right]
    return MISSING if ends.empty else _share(float(ends.mean()))


def _crossed(pairs: pd.DataFrame, to_wrong: bool = False) -> str:
    """Of pairs that the reference ranks wrong, how many are right; or of those that it ranks right, how many
    are wrong.
    """
    wrong, right = pairs["c"] > 0, pairs["gain"] >= pairs["c"]
    return of(~right[~wrong] if to_wrong else right[wrong])


def _turned(tables: Tables, objective: str) -> str:
    """How many wrong trained pairs of the first draw are right at the end of an objective."""
    pairs, _ = first_draw(tables)
    pairs = pairs[(pairs["step"] == pairs["step"].max()) & (pairs["objective"] == objective)]
    return MISSING if pairs.empty else _crossed(pairs.query("split == 'trained'"))


def _found_over_foretold(tables: Tables, split: str, votes: bool) -> str:
    """The share of wrong pairs that flips over that which the gains of right ones foretell: of the world, or
    of HH-RLHF at the lowest validation loss, all runs.
    """
    pairs = at_lowest_loss(tables, split) if votes else last_look(tables, split)
    right, wrong = pairs[pairs["c"] <= 0], pairs[pairs["c"] > 0]
    if not (len(right) and len(wrong)):
        return MISSING
    foretold = np.mean(theory.flips_foretold(right["gain"], wrong["c"]))
    found = (wrong["gain"] >= wrong["c"]).mean()
    return _rounded(float(found / foretold)) if foretold else MISSING


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


def _went_on(tables: Tables) -> pd.DataFrame:
    """The answers of what went on from DPO, a row a prompt and two columns, fresh pairs and the same."""
    names = {"DPO, fresh pairs": "fresh", "DPO, same pairs": "same"}
    answers = tables["world_answers"]
    answers = answers[answers["objective"].isin(names)].replace({"objective": names})
    last = answers[answers["step"] == answers["step"].max()]
    return last.pivot(index="prompt", columns="objective", values=["win rate", "KL"])


def _fresh_less_same(tables: Tables) -> str:
    wins = _went_on(tables)["win rate"]
    return _said(over_prompts(wins["fresh"] - wins["same"], wins.index, tables.seed))


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
    "flips-gamma-0": lambda tables: _less_dpo(tables, "γ 0", "flipped"),
    "flips-gamma-2": lambda tables: _less_dpo(tables, "γ 2", "flipped"),
    "divergence-gamma-0": lambda tables: _less_dpo(tables, "γ 0", "KL"),
    "divergence-gamma-2": lambda tables: _less_dpo(tables, "γ 2", "KL"),
    "wins-gamma-2": lambda tables: _less_dpo(tables, "γ 2", "win"),
    "wins-ipo": lambda tables: _less_dpo(tables, "IPO", "win"),
    "wins-sft": lambda tables: _less_dpo(tables, "SFT", "win"),
    "unseen-sft": lambda tables: _less_dpo(tables, "SFT", "unseen"),
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
    "world-turned-unseen": lambda tables: _crossed(last_look(tables, "unseen")),
    "world-lost-unseen": lambda tables: _crossed(last_look(tables, "unseen"), to_wrong=True),
    "votes-lost-trained": lambda tables: _crossed(at_lowest_loss(tables, "trained"), to_wrong=True),
    "votes-lost-unseen": lambda tables: _crossed(at_lowest_loss(tables, "unseen"), to_wrong=True),
    "turned-dpo": lambda tables: _turned(tables, "DPO"),
    "turned-gamma-0": lambda tables: _turned(tables, "γ 0"),
    "turned-gamma-2": lambda tables: _turned(tables, "γ 2"),
    "judge-votes": _votes_by_judge,
    "judge-reference": lambda tables: _by_judge(tables, "reference"),
    "judge-trained": lambda tables: _by_judge(tables, "trained"),
    "judge-ideal": lambda tables: _by_judge(tables, "ideal"),
    "wins-first-by-draw": lambda tables: _wins_by_draw(tables, 0),
    "wins-second-by-draw": lambda tables: _wins_by_draw(tables, 1),
    "trained-first-half": _trained_in_the_first_half,
    "right-stay-right": lambda tables: _right_at_the_end(tables, True),
    "wrong-turn-right": lambda tables: _right_at_the_end(tables, False),
    "fresh-less-same": _fresh_less_same,
    "fresh-divergence": lambda tables: f"{_went_on(tables)['KL', 'fresh'].mean():.1f}",
    "same-divergence": lambda tables: f"{_went_on(tables)['KL', 'same'].mean():.1f}",
    "gap-three-votes": _gap_of_three_votes,
    "gain-c-trained": lambda tables: _gain_and_c(at_lowest_loss(tables, "trained")),
    "gain-c-unseen": lambda tables: _gain_and_c(at_lowest_loss(tables, "unseen")),
    "gain-c-world-trained": lambda tables: _gain_and_c(last_look(tables, "trained")),
    "gain-c-world-unseen": lambda tables: _gain_and_c(last_look(tables, "unseen")),
    "foretold-trained": lambda tables: _foretold(tables, "trained"),
    "foretold-unseen": lambda tables: _foretold(tables, "unseen"),
    "ratio-unseen": lambda tables: _found_over_foretold(tables, "unseen", votes=True),
    "ratio-trained": lambda tables: _found_over_foretold(tables, "trained", votes=True),
    "ratio-world-unseen": lambda tables: _found_over_foretold(tables, "unseen", votes=False),
    "ratio-world-trained": lambda tables: _found_over_foretold(tables, "trained", votes=False),
    "beyond-length-hh": lambda tables: _beyond_length(tables, TRAINED_ON),
    "beyond-length-pandalm": lambda tables: _beyond_length(tables, VOTED),
    "flips-half-as-late": _flipped_half_as_late,
    "rho-length": lambda tables: str(hardness_and_length(tables)),
    "rho-size": lambda tables: _rho(tables, "size"),
    "rho-difference": lambda tables: _rho(tables, "difference"),
    "judge-length": _by_length_alone,
    "judge-accuracy": _judge,
    "judge-no-verdict": no_verdict,
}
