"""What the claims of the chapter `ranking` are judged by, and the other numbers that it quotes.

A pair is a unit; pairs of one prompt share responses, and prompts are what is resampled.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from prefbook.ledger.tables import Tables
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
NEAR = 2
"""Tokens by which two responses of one length may differ."""
TENTH = 0.1
UNKNOWN = estimates.unknown(1)
MISSING = "not measured"
"""Where an edition has not what is quoted."""


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


def _mean(values: ArrayLike, clusters: ArrayLike, seed: int) -> Estimate:
    """A mean over pairs, bootstrapped over prompts; without an interval where these are few."""
    x, kinds = np.asarray(values, dtype=float), np.asarray(clusters)
    if len(x) < 3:
        return UNKNOWN
    found = estimates.mean(x, kinds, seed)
    enough = len(set(kinds.tolist())) >= estimates.FEWEST_CLUSTERS
    return found if enough else Estimate(found.value, np.nan, np.nan, found.n)


# RA-1 -----------------------------------------------------------------------------------------------


def accuracy(tables: Tables, names: tuple[str, ...], per_token: bool) -> Estimate:
    """The share of pairs that the model ranks right."""
    pairs = clear_pairs(tables, names)
    if len(pairs) < 3:
        return UNKNOWN
    return estimates.share(log_ratio(pairs, per_token) >= 0, pairs["cluster"], tables.seed)


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
    return _mean(ideal.astype(float) - (ratio >= 0), pairs["cluster"], tables.seed)


def idealized(tables: Tables, per_token: bool, by_code: bool) -> dict[float, Estimate]:
    """Ranking accuracy of the optimum on human votes at each beta, by the theorem or by the authors' code."""
    pairs = clear_pairs(tables, VOTED)
    found = {beta: _ideal_hits(tables, pairs, beta, per_token, by_code) for beta in theory.BETAS}
    return {beta: estimates.share(hits, pairs["cluster"], tables.seed) for beta, hits in found.items()}


def _ideal_hits(
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


def code_less_theorem(tables: Tables) -> Estimate:
    """Ranking accuracy of the optimum at beta 1 by the authors' code, less that by the theorem, of whole
    responses.
    """
    pairs = clear_pairs(tables, VOTED)
    code, ideal = (_ideal_hits(tables, pairs, MIDDLE_BETA, False, by_code) for by_code in (True, False))
    return _mean(code.astype(float) - ideal, pairs["cluster"], tables.seed)


def optimum_less_trained(tables: Tables) -> Estimate:
    """In the world with a known judge, ranking accuracy of the optimum on unseen pairs less that of DPO at
    its end.
    """
    pairs = last_look(tables, "unseen")
    ideal = pairs["difference"] / pairs["β"] > pairs["c"]
    trained = pairs["gain"] >= pairs["c"]
    return _mean(ideal.astype(float) - trained, pairs["cluster"], tables.seed)


def papers_beta(tables: Tables) -> float:
    """The strength of DPO in the world with a known judge that is nearest to the paper's."""
    pairs = tables["world_pairs"]
    known = pairs["β"][pairs["objective"] == "DPO"].unique()
    return float(known[np.abs(np.log(known / PAPERS_BETA)).argmin()])


def last_look(tables: Tables, split: str) -> pd.DataFrame:
    """The pairs of a split at the end of DPO at the paper's strength, all draws of the world."""
    pairs = tables["world_pairs"].query("objective == 'DPO' and split == @split")
    pairs = pairs[(pairs["β"] == papers_beta(tables)) & (pairs["step"] == pairs["step"].max())]
    return pairs.assign(cluster=pairs["run"].astype(str) + " " + pairs["prompt"].astype(str))


# RA-3 -----------------------------------------------------------------------------------------------


def flipped_trained(tables: Tables) -> Estimate:
    """Of the trained pairs that the reference ranks wrong, the share that is ranked right at the lowest
    validation loss, over runs in which that lies between the first and the last look.
    """
    return _flipped(tables, "trained")


def flipped_unseen(tables: Tables) -> Estimate:
    """The same of unseen pairs."""
    return _flipped(tables, "unseen")


def _flipped(tables: Tables, split: str) -> Estimate:
    """Pairs and runs are resampled together."""
    found = tables["flips"].query("split == @split")
    inside = found[(found["step"] > 0) & (found["step"] < found["last"])]
    followed = tables["followed"].query("split == @split").merge(inside[["run", "step"]], on=["run", "step"])
    if followed.empty or (followed["c"] > 0).sum() < 3:
        return UNKNOWN
    wide = followed.assign(wrong=(followed["c"] > 0).astype(float))
    wrong, right = (
        wide.pivot(index="run", columns="pair", values=name).to_numpy() for name in ("wrong", "right")
    )
    flipped = wrong * right
    runs, pairs = wrong.shape
    weights = [estimates.resample_counts(n, tables.seed + k) for k, n in enumerate((runs, pairs))]
    drawn = [np.einsum("br,rp,bp->b", weights[0], part, weights[1]) for part in (flipped, wrong)]
    with np.errstate(invalid="ignore"):
        shares = drawn[0] / drawn[1]
    return estimates.from_resamples(float(flipped.sum() / wrong.sum()), shares, int(wrong.any(axis=0).sum()))


# RA-4 -----------------------------------------------------------------------------------------------


def threshold_violations(tables: Tables) -> Estimate:
    """Pairs at looks that violate Theorem 4.1."""
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


def wins_in_the_first_half(tables: Tables) -> Estimate:
    """Change of the win rate in the first half of DPO in the world with a known judge, mean over strengths,
    prompts and draws.
    """
    return _change(_win_rates(tables), 0, 1, tables.seed)


def wins_in_the_second_half(tables: Tables) -> Estimate:
    """The same in the second half."""
    return _change(_win_rates(tables), 1, 2, tables.seed)


def rankings_in_the_second_half(tables: Tables) -> Estimate:
    """Change of the ranking accuracy of trained pairs in the second half, likewise."""
    return _change(_right(tables), 1, 2, tables.seed)


def _win_rates(tables: Tables) -> pd.DataFrame:
    return tables["world_answers"].query("objective == 'DPO'").assign(value=lambda table: table["win rate"])


def _right(tables: Tables) -> pd.DataFrame:
    pairs = tables["world_pairs"].query("objective == 'DPO' and split == 'trained'")
    return pairs.assign(value=(pairs["gain"] >= pairs["c"]).astype(float))


def _change(table: pd.DataFrame, start: int, end: int, seed: int) -> Estimate:
    """From one half of the updates to another, in means over strengths, bootstrapped over prompts."""
    half = table["step"].max() / 2
    by_prompt = table.groupby(["run", "prompt", "step"])["value"].mean().unstack("step")
    change = (by_prompt[end * half] - by_prompt[start * half]).to_numpy()
    if len(change) < estimates.FEWEST_CLUSTERS:
        return estimates.unknown(len(change))
    return estimates.bootstrap(lambda values, axis: values.mean(axis), change, seed=seed)


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


def tuned(tables: Tables, names: tuple[str, ...]) -> pd.DataFrame:
    """The pairs ranked before and after fine-tuning, of some data sets; c is of the reference after it."""
    pairs = tables["supervised"]
    part = pairs[pairs["data"].isin(names)].reset_index(drop=True)
    cluster = part["data"] + " " + part["prompt"].astype(str)
    return part.assign(c=part["rejected after"] - part["chosen after"], cluster=cluster)


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
    drawn = np.concatenate([gap(part.astype(float)) for part in some])
    return estimates.from_resamples(value, drawn, len(x))


# RA-7 -----------------------------------------------------------------------------------------------


def raised_whole(tables: Tables) -> Estimate:
    """Ranking accuracy of whole responses after supervised fine-tuning less before, on pairs of other
    prompts.
    """
    return _raised(tables, False)


def raised_per_token(tables: Tables) -> Estimate:
    """The same per token."""
    return _raised(tables, True)


def _raised(tables: Tables, per_token: bool) -> Estimate:
    pairs = tuned(tables, (*TRAINED_ON, *VOTED))
    sizes = (pairs["chosen"], pairs["rejected"]) if per_token else (1, 1)
    after, before = (
        pairs[f"chosen {when}"] / sizes[0] >= pairs[f"rejected {when}"] / sizes[1]
        for when in ("after", "before")
    )
    return _mean(after.astype(float) - before, pairs["cluster"], tables.seed)


def likelier_when_tuned(tables: Tables) -> Estimate:
    """What the chosen responses to other prompts gained by supervised fine-tuning, in nats a token: whether
    it did anything.
    """
    pairs = tuned(tables, (*TRAINED_ON, *VOTED))
    gained = (pairs["chosen after"] - pairs["chosen before"]) / pairs["chosen"]
    return _mean(gained, pairs["cluster"], tables.seed)


# RA-8 -----------------------------------------------------------------------------------------------


def accuracy_at_one_length(tables: Tables) -> Estimate:
    """The share of pairs ranked right as whole, where the responses differ by two tokens at most."""
    pairs = clear_pairs(tables, (*TRAINED_ON, *VOTED))
    pairs = pairs[(pairs["chosen"] - pairs["rejected"]).abs() <= NEAR]
    if len(pairs) < 3:
        return UNKNOWN
    return estimates.share(log_ratio(pairs, False) >= 0, pairs["cluster"], tables.seed)


def better_than_shorter(tables: Tables) -> Estimate:
    """Ranking accuracy of whole responses less that of calling the shorter one better; equal lengths count
    half.
    """
    pairs = clear_pairs(tables, (*TRAINED_ON, *VOTED))
    model = log_ratio(pairs, False) >= 0
    return _mean(model.astype(float) - shorter_wins(pairs), pairs["cluster"], tables.seed)


def shorter_wins(pairs: pd.DataFrame) -> NDArray[np.float64]:
    """1 where the chosen response has fewer tokens, 0 where it has more, 1/2 where as many."""
    apart = (pairs["chosen"] - pairs["rejected"]).to_numpy(dtype=float)
    return (1 - np.sign(apart)) / 2


# RA-9 -----------------------------------------------------------------------------------------------


def judged_by_states(tables: Tables) -> Estimate:
    """How often a reward on the model's states agrees with human votes, on prompts it was not fitted to."""
    return judge_accuracy(tables, VOTED, "states of the model")


def judged_by_encoder(tables: Tables) -> Estimate:
    """The same of a reward on a sentence encoder's vectors."""
    return judge_accuracy(tables, VOTED, "a sentence encoder")


def judge_accuracy(tables: Tables, names: tuple[str, ...], judge: str) -> Estimate:
    """The accuracy of an offline judge, where it was measured."""
    found = tables["offline_judges"]
    row = found[found["data"].isin(names) & (found["judge"] == judge)]
    if row.empty:
        return UNKNOWN
    one = row.iloc[0]
    return Estimate(float(one["accuracy"]), float(one["low"]), float(one["high"]), int(one["n"]))


# RA-10 ----------------------------------------------------------------------------------------------


def law_off_unseen(tables: Tables) -> Estimate:
    """How far the share of wrong unseen pairs that flips is from what the gains of right ones foretell."""
    return _law_off(tables, "unseen")


def law_off_trained(tables: Tables) -> Estimate:
    """The same of trained pairs."""
    return _law_off(tables, "trained")


def _law_off(tables: Tables, split: str) -> Estimate:
    pairs = last_look(tables, split)
    names, index = np.unique(pairs["cluster"], return_inverse=True)
    wrong = (pairs["c"] > 0).to_numpy()
    if len(names) < estimates.FEWEST_CLUSTERS or wrong.sum() < 3 or (~wrong).sum() < 3:
        return estimates.unknown(max(1, int(wrong.sum())))
    gain, c = pairs["gain"].to_numpy(), pairs["c"].to_numpy()
    over = (gain[~wrong][:, None] >= c[wrong]).astype(float)
    flipped = (gain[wrong] >= c[wrong]).astype(float)

    def off(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        right, left = weights[:, ~wrong], weights[:, wrong]
        with np.errstate(invalid="ignore"):
            foretold = ((right @ over) * left).sum(1) / (right.sum(1) * left.sum(1))
            return np.abs(foretold - left @ flipped / left.sum(1))

    counts = estimates.resample_counts(len(names), tables.seed)[:, index].astype(float)
    value = float(off(np.ones((1, len(pairs))))[0])
    return estimates.from_resamples(value, off(counts), int(wrong.sum()), widened=True)


STATISTICS: dict[str, Callable[[Tables], Estimate]] = {
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
        flipped_trained,
        flipped_unseen,
        threshold_violations,
        sanity_violations,
        ipo_violations,
        wins_in_the_first_half,
        wins_in_the_second_half,
        rankings_in_the_second_half,
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
        law_off_unseen,
        law_off_trained,
    )
}


# Quoted ---------------------------------------------------------------------------------------------


def _share(value: float) -> str:
    return f"{value:.0%}" if value == 0 or value >= 0.1 else f"{value:.1%}"


def _accuracy(tables: Tables, data: str, per_token: bool) -> str:
    found = accuracy(tables, (data,), per_token)
    return MISSING if np.isnan(found.value) else _share(found.value)


def _optimum(tables: Tables, beta: float, per_token: bool, by_code: bool = False) -> str:
    return _share(idealized(tables, per_token, by_code)[beta].value)


def _largest(tables: Tables) -> str:
    return _share(max(one.value for one in idealized(tables, False, False).values()))


def _ties(tables: Tables, by_code: bool) -> str:
    """Ranking accuracy of whole responses with ties counted, on human votes."""
    scored = tables["scored"]
    voted = scored[scored["data"].isin(VOTED)]
    first, second = voted["logp 1"].to_numpy(), voted["logp 2"].to_numpy()
    if by_code:
        return _share(float(theory.code_ranked_right(first, second, voted["alpha"], False).mean()))
    ranks = {0: (0, 0), 1: (0, 1), 2: (1, 0)}
    pairs = zip(first, second, voted["preferred"], strict=True)
    return _share(float(np.mean([theory.ranked_right((a, b), ranks[which]) for a, b, which in pairs])))


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
    return f"{reach(tables, at):.2g}".replace("-", "−")


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
    "ties-printed": lambda tables: _ties(tables, by_code=False),
    "ties-code": lambda tables: _ties(tables, by_code=True),
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
    "judge-length": lambda tables: str(judge_accuracy(tables, VOTED, "length alone")),
    "judge-accuracy": _judge,
    "judge-no-verdict": no_verdict,
}
