"""Quantities of the chapter `ranking` that its figures, statistics and quoted numbers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from prefbook.ledger.tables import NotMeasured, Tables
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate
from prefdyn.theory import ranking as theory

TRAINED_ON = ("sample", "hh-rlhf")
"""The data sets that training takes its pairs from; a source has one of them."""
VOTED = ("sample", "pandalm")
"""Those with human votes, of which a source has one; the sample's are simulated."""
LLMBAR = ("llmbar-natural", "llmbar-adversarial")
ALPACA = ("alpaca-eval",)
PAPERS_BETA = 0.1
"""The strength at which the gap is taken, and at which the paper trains."""
MIDDLE_BETA = 1.0
"""The strength at which an accuracy that falls with beta has its median over the paper's five."""
UNKNOWN = estimates.unknown(0)


def over_prompts(values: ArrayLike, prompts: ArrayLike, seed: int) -> Estimate:
    """A mean over pairs or answers, bootstrapped over prompts; without an interval where these are few.

    Args:
        values, prompts: shape (n,).
    """
    x = np.asarray(values, dtype=float)
    return estimates.mean(x, prompts, seed) if len(x) >= 3 else UNKNOWN


def over_draws(values: pd.Series) -> Estimate:
    """A mean over draws of the world, of which each has models of its own: Student's interval of the draws'
    means, which holds where they differ in scatter, too (Ibragimov and Müller 2010, Journal of Business and
    Economic Statistics 28, 453-468). Fewer than three draws have none.

    Args:
        values: shape (n,), by `run` in the index.

    Returns:
        Its n counts the values.
    """
    means = values.groupby("run").mean()
    if len(means) < 3:
        return Estimate(float(means.mean()), np.nan, np.nan, len(values))
    return replace(estimates.mean(means), n=len(values))


def clear_pairs(tables: Tables, names: tuple[str, ...] = ()) -> pd.DataFrame:
    """The scored pairs over which raters are not tied, of some data sets or all, the chosen response first.

    Columns: data, pair, prompt, cluster (one a prompt); alpha, the share of raters for the chosen response;
    chosen, rejected (tokens); logp chosen, logp rejected (nats).
    """
    scored = tables["scored"]
    part = scored[(scored["preferred"] > 0) & (scored["data"].isin(names) if names else True)]
    first = part["preferred"].to_numpy() == 1
    out = part[["data", "pair", "prompt"]].assign(cluster=part["data"] + " " + part["prompt"].astype(str))
    out["alpha"] = np.where(first, part["alpha"], 1 - part["alpha"])
    for column, to in (("tokens", ""), ("logp", "logp ")):
        one, two = part[f"{column} 1"].to_numpy(), part[f"{column} 2"].to_numpy()
        out[f"{to}chosen"], out[f"{to}rejected"] = np.where(first, one, two), np.where(first, two, one)
    return out.reset_index(drop=True)


def log_ratio(pairs: pd.DataFrame, per_token: bool) -> NDArray[np.float64]:
    """log pi(chosen)/pi(rejected) of means over tokens or of sums, in nats, shape (n,)."""
    chosen, rejected = pairs["logp chosen"], pairs["logp rejected"]
    if per_token:
        chosen, rejected = chosen / pairs["chosen"], rejected / pairs["rejected"]
    return (chosen - rejected).to_numpy(dtype=float)


def accuracy(tables: Tables, names: tuple[str, ...], per_token: bool) -> Estimate:
    """The share of pairs that the model ranks right."""
    pairs = clear_pairs(tables, names)
    if len(pairs) < 3:
        return UNKNOWN
    return estimates.proportion(log_ratio(pairs, per_token) >= 0, pairs["cluster"])


def idealized(tables: Tables, per_token: bool, by_code: bool) -> dict[float, Estimate]:
    """Ranking accuracy of the optimum on human votes at each beta, by the theorem or by the authors' code.

    Raises:
        NotMeasured: no data with human votes were ranked.
    """
    pairs = clear_pairs(tables, VOTED)
    if pairs.empty:
        raise NotMeasured(f"{tables.folder}: none of the ranked data have human votes")
    found = {beta: ideal_hits(tables, pairs, beta, per_token, by_code) for beta in theory.BETAS}
    return {beta: estimates.proportion(hits, pairs["cluster"]) for beta, hits in found.items()}


def ideal_hits(
    tables: Tables, pairs: pd.DataFrame, beta: float, per_token: bool, by_code: bool
) -> NDArray[np.bool_]:
    if not by_code:
        return theory.idealized_log_ratio(log_ratio(pairs, per_token), pairs["alpha"], beta) > 0
    scored = tables["scored"].set_index(["data", "pair"])
    one = scored.loc[list(zip(pairs["data"], pairs["pair"], strict=True))]
    first, second = (
        one[f"logp {k}"].to_numpy() / (one[f"tokens {k}"].to_numpy() if per_token else 1) for k in (1, 2)
    )
    return theory.code_idealized(first, second, one["alpha"], beta, per_token)


def papers_beta(tables: Tables) -> float:
    """The strength of DPO in the world with a known judge that is nearest to the paper's."""
    pairs = tables["world_pairs"]
    known = pairs["β"][pairs["objective"] == "DPO"].unique()
    return float(known[np.abs(np.log(known / PAPERS_BETA)).argmin()])


def last_look(tables: Tables, split: str, beta: float = 0) -> pd.DataFrame:
    """The pairs of a split at the end of DPO at a strength, the paper's where none is given; all draws of the
    world.
    """
    pairs = tables["world_pairs"].query("objective == 'DPO' and split == @split")
    pairs = pairs[(pairs["β"] == (beta or papers_beta(tables))) & (pairs["step"] == pairs["step"].max())]
    return pairs.assign(cluster=pairs["run"].astype(str) + " " + pairs["prompt"].astype(str))


def win_rates(tables: Tables) -> pd.DataFrame:
    """Of DPO in the world with a known judge: `value` by run, prompt, step and strength."""
    return tables["world_answers"].query("objective == 'DPO'").assign(value=lambda table: table["win rate"])


def trained_right(tables: Tables) -> pd.DataFrame:
    """Whether trained pairs are ranked right there: `value`, 1 or 0, by run, prompt, step and strength."""
    pairs = tables["world_pairs"].query("objective == 'DPO' and split == 'trained'")
    return pairs.assign(value=(pairs["gain"] >= pairs["c"]).astype(float))


def change(table: pd.DataFrame, half: int) -> pd.Series:
    """How `value` changes in a half of the updates, 0 or 1: by run and prompt, means over strengths."""
    looks = table["step"].max() / 2 * np.array([half, half + 1])
    by_prompt = table.groupby(["run", "prompt", "step"])["value"].mean().unstack("step")
    return by_prompt[looks[1]] - by_prompt[looks[0]]


def at_lowest_loss(tables: Tables, split: str) -> pd.DataFrame:
    """The followed pairs of a split at the lowest validation loss of their run; every run has the same, so
    that a `cluster` is a pair.
    """
    best = tables["flips"].query("split == @split")[["run", "step"]]
    found: pd.DataFrame = tables["followed"].query("split == @split").merge(best, on=["run", "step"])
    return found.assign(cluster=found["pair"])


def flips_found_and_foretold(pairs: pd.DataFrame, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of wrong pairs that flips, and that which would if they gained what right ones do
    (`theory.ranking.flips_foretold`), all runs together, shape (2, k); NaN without pairs of both kinds.

    Args:
        pairs: with `c` and `gain`, n of them.
        weights: how often each counts, shape (k, n).
    """
    wrong, gain, c = (pairs["c"] > 0).to_numpy(), pairs["gain"].to_numpy(), pairs["c"].to_numpy()
    over = (gain[~wrong][:, None] >= c[wrong]).astype(float)
    turned = (gain[wrong] >= c[wrong]).astype(float)
    right, left = weights[:, ~wrong], weights[:, wrong]
    with np.errstate(invalid="ignore"):
        foretold = ((right @ over) * left).sum(1) / (right.sum(1) * left.sum(1))
        return np.array([left @ turned / left.sum(1), foretold])


def by_cluster(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    pairs: pd.DataFrame,
    seed: int,
    n: int,
    widened: bool = False,
) -> Estimate:
    """A statistic of weights of pairs, shape (k, pairs), with the bootstrap over their clusters; without ends
    where these are few.

    Args:
        n, widened: as in `estimates.from_resamples`.
    """
    many, value = pairs["cluster"].nunique(), float(statistic(np.ones((1, len(pairs))))[0])
    if many < estimates.FEWEST_CLUSTERS:
        return Estimate(value, np.nan, np.nan, n)
    drawn = statistic(estimates.counts_by_cluster(pairs["cluster"], seed))
    return estimates.from_resamples(value, drawn, n, many, widened)


def flipped(followed: pd.DataFrame, seed: int) -> Estimate:
    """Of pairs that the reference ranks wrong, the share that is ranked right, over runs; pairs and runs are
    resampled together.

    Args:
        followed: the same pairs in each run, at one look of it.
    """
    if followed.empty or (followed["c"] > 0).sum() < 3:
        return UNKNOWN
    wide = followed.assign(wrong=(followed["c"] > 0).astype(float))
    wrong, right = (
        wide.pivot(index="run", columns="pair", values=name).to_numpy() for name in ("wrong", "right")
    )
    turned = wrong * right
    runs, pairs = wrong.shape
    weights = [estimates.resample_counts(n, seed + k) for k, n in enumerate((runs, pairs))]
    drawn = [np.vecdot(weights[0] @ part, weights[1]) for part in (turned, wrong)]
    with np.errstate(invalid="ignore"):
        shares = drawn[0] / drawn[1]
    n = int(wrong.any(axis=0).sum())
    return estimates.from_resamples(float(turned.sum() / wrong.sum()), shares, n, pairs)


def by_judge(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs whose responses differ in reward, with whether each of `reference`, `trained` and `ideal`
    (the optimum of Theorem 3.1 at the pair's β) orders them as the rewards do, ties counted as right.
    """
    pairs = pairs[pairs["difference"] != 0]
    ahead = np.sign(pairs["difference"])

    def agrees(gain: pd.Series) -> pd.Series:
        return (gain - pairs["c"]) * ahead >= 0

    optimum = pairs["difference"] / pairs["β"]
    return pairs.assign(reference=agrees(0 * optimum), trained=agrees(pairs["gain"]), ideal=agrees(optimum))


def first_draw(tables: Tables) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The pairs and the answers of DPO at the paper's strength and of all other objectives, in the first draw
    of the world; a pair is `right` where its gain is at least c.
    """
    ours = f"objective == 'DPO' and run == 0 and β == {papers_beta(tables)}"
    pairs, answers = (
        pd.concat([tables[f"world_{name}"].query(ours), tables[f"objective_{name}"]])
        for name in ("pairs", "answers")
    )
    return pairs.assign(right=(pairs["gain"] >= pairs["c"]).astype(float)), answers


def less_dpo(tables: Tables) -> dict[str, dict[str, Estimate]]:
    """What other objectives have at the end less what DPO has, trained on the same pairs for as many updates:
    by objective, the KL divergence from the reference (nats), the shares of unseen pairs ranked right and of
    wrong trained pairs flipped, and the win rate; means over prompts.
    """
    pairs, answers = (table[table["step"] == table["step"].max()] for table in first_draw(tables))
    measures = {
        "KL": (answers.assign(pair=0), "KL"),
        "unseen": (pairs.query("split == 'unseen'"), "right"),
        "flipped": (pairs.query("split == 'trained' and c > 0"), "right"),
        "win": (answers.assign(pair=0), "win rate"),
    }
    out: dict[str, dict[str, Estimate]] = {}
    for measure, (table, column) in measures.items():
        wide = table.pivot(index=["prompt", "pair"], columns="objective", values=column)
        prompts = wide.index.get_level_values("prompt")
        for name in wide.columns.drop("DPO"):
            more = over_prompts(wide[name] - wide["DPO"], prompts, tables.seed)
            out.setdefault(str(name), {})[measure] = more
    return out


def tuned(tables: Tables, names: tuple[str, ...]) -> pd.DataFrame:
    """The pairs ranked before and after fine-tuning, of some data sets; c is of the reference after it."""
    pairs = tables["supervised"]
    part = pairs[pairs["data"].isin(names)].reset_index(drop=True)
    cluster = part["data"] + " " + part["prompt"].astype(str)
    return part.assign(c=part["rejected after"] - part["chosen after"], cluster=cluster)


def shorter_wins(pairs: pd.DataFrame) -> NDArray[np.float64]:
    """1 where the chosen response has fewer tokens, 0 where it has more, 1/2 where as many."""
    apart = (pairs["chosen"] - pairs["rejected"]).to_numpy(dtype=float)
    return (1 - np.sign(apart)) / 2


def judge_accuracy(tables: Tables, names: tuple[str, ...], judge: str) -> Estimate:
    """The accuracy of an offline judge, where it was measured."""
    found = tables["offline_judges"]
    row = found[found["data"].isin(names) & (found["judge"] == judge)]
    if row.empty:
        return UNKNOWN
    one = row.iloc[0]
    return Estimate(float(one["accuracy"]), float(one["low"]), float(one["high"]), int(one["n"]))
