"""Numbers about the world with a known judge that the text of the chapter `ranking` quotes; what is asked of
pairs there, is asked of pairs of HH-RLHF, too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefbook.ledger.derived.ranking import (
    by_cluster,
    by_judge,
    change,
    first_draw,
    flips_found_and_foretold,
    last_look,
    less_dpo,
    over_draws,
    over_prompts,
    papers_beta,
    trained_right,
    win_rates,
)
from prefbook.ledger.quoted.forms import MISSING, measured, of, rounded, share, signed
from prefbook.ledger.tables import Tables
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate


def gain_and_c(pairs: pd.DataFrame, seed: int) -> str:
    """Rank correlation of the gain in training with c, all runs together."""
    if pairs["gain"].nunique() < 2:
        return MISSING
    return measured(estimates.spearman(pairs["gain"], pairs["c"], seed, pairs["cluster"]))


def _by_judge(tables: Tables, who: str) -> str:
    """The share of unseen pairs that is ordered as the known judge orders them; see `by_judge`."""
    pairs = by_judge(last_look(tables, "unseen"))
    return MISSING if pairs.empty else share(float(pairs[who].mean()))


def _votes_by_judge(tables: Tables) -> str:
    """How often the judge's own order agrees with the votes on unseen pairs, ties counted half."""
    ahead = last_look(tables, "unseen")["difference"]
    return share(float((ahead > 0).mean() + (ahead == 0).mean() / 2))


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
    return MISSING if ends.empty else share(float(ends.mean()))


def crossed(pairs: pd.DataFrame, to_wrong: bool = False) -> str:
    """Of pairs that the reference ranks wrong, how many are right; or of those that it ranks right, how many
    are wrong.
    """
    wrong, right = pairs["c"] > 0, pairs["gain"] >= pairs["c"]
    return of(~right[~wrong] if to_wrong else right[wrong])


def _turned(tables: Tables, objective: str) -> str:
    """How many wrong trained pairs of the first draw are right at the end of an objective."""
    pairs, _ = first_draw(tables)
    pairs = pairs[(pairs["step"] == pairs["step"].max()) & (pairs["objective"] == objective)]
    return MISSING if pairs.empty else crossed(pairs.query("split == 'trained'"))


def found_over_foretold(pairs: pd.DataFrame, seed: int) -> str:
    """The share of wrong pairs that flips over that which the gains of right ones foretell, all runs
    together.
    """

    def ratio(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        found, foretold = flips_found_and_foretold(pairs, weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(foretold > 0, found / foretold, np.nan)

    return measured(by_cluster(ratio, pairs, seed, len(pairs)))


def _went_on(tables: Tables) -> pd.DataFrame:
    """The answers of what went on from DPO, a row a prompt and two columns, fresh pairs and the same."""
    names = {"DPO, fresh pairs": "fresh", "DPO, same pairs": "same"}
    answers = tables["world_answers"]
    answers = answers[answers["objective"].isin(names)].replace({"objective": names})
    last = answers[answers["step"] == answers["step"].max()]
    return last.pivot(index="prompt", columns="objective", values=["win rate", "KL"])


def _fresh_less_same(tables: Tables) -> str:
    wins = _went_on(tables)["win rate"]
    return measured(over_prompts(wins["fresh"] - wins["same"], wins.index, tables.seed))


def _less_dpo(tables: Tables, objective: str, measure: str) -> str:
    found = less_dpo(tables).get(objective)
    if found is None:
        return MISSING
    one = found[measure]
    return rounded(one.value) if np.isnan(one.low) else str(one)


def reach(tables: Tables, beta: float) -> Estimate:
    """Slope, through the origin, of what unseen pairs gained by the end of DPO on what they gain at the
    optimum, over prompts.
    """
    pairs = last_look(tables, "unseen", beta)
    optimum, gain = (pairs["difference"] / beta).to_numpy(), pairs["gain"].to_numpy()

    def slope(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):  # a resample may hold no pair that differs
            found: NDArray[np.float64] = weights @ (optimum * gain) / (weights @ optimum**2)
        return found

    return by_cluster(slope, pairs, tables.seed, len(pairs))


def _reach(tables: Tables, which: int) -> str:
    betas = sorted(tables["world_pairs"].query("objective == 'DPO'")["β"].unique())
    at = {-1: betas[0], 0: papers_beta(tables), 1: betas[-1]}[which]
    return measured(reach(tables, at))


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
    return MISSING if not len(hits) else share(float(hits.mean()))


QUOTED: dict[str, Callable[[Tables], str]] = {
    "flips-gamma-0": lambda tables: _less_dpo(tables, "γ 0", "flipped"),
    "flips-gamma-2": lambda tables: _less_dpo(tables, "γ 2", "flipped"),
    "divergence-gamma-0": lambda tables: _less_dpo(tables, "γ 0", "KL"),
    "divergence-gamma-2": lambda tables: _less_dpo(tables, "γ 2", "KL"),
    "wins-gamma-2": lambda tables: _less_dpo(tables, "γ 2", "win"),
    "wins-ipo": lambda tables: _less_dpo(tables, "IPO", "win"),
    "wins-sft": lambda tables: _less_dpo(tables, "SFT", "win"),
    "unseen-sft": lambda tables: _less_dpo(tables, "SFT", "unseen"),
    "reach-weak": lambda tables: _reach(tables, -1),
    "reach-paper": lambda tables: _reach(tables, 0),
    "reach-strong": lambda tables: _reach(tables, 1),
    "world-ideal": lambda tables: _in_world(tables, "unseen", "ideal"),
    "world-reference": lambda tables: _in_world(tables, "unseen", "reference"),
    "world-unseen": lambda tables: _in_world(tables, "unseen", "right"),
    "world-trained": lambda tables: _in_world(tables, "trained", "right"),
    "world-flips-trained": lambda tables: _in_world(tables, "trained", "flipped"),
    "world-flips-unseen": lambda tables: _in_world(tables, "unseen", "flipped"),
    "world-turned-unseen": lambda tables: crossed(last_look(tables, "unseen")),
    "world-lost-unseen": lambda tables: crossed(last_look(tables, "unseen"), to_wrong=True),
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
    "gain-c-world-trained": lambda tables: gain_and_c(last_look(tables, "trained"), tables.seed),
    "gain-c-world-unseen": lambda tables: gain_and_c(last_look(tables, "unseen"), tables.seed),
    "ratio-world-unseen": lambda tables: found_over_foretold(last_look(tables, "unseen"), tables.seed),
    "ratio-world-trained": lambda tables: found_over_foretold(last_look(tables, "trained"), tables.seed),
}
