"""Whether it ranks (RA): the experiments of chapter 4.

Every experiment is a function of a bench and a design that returns a table, or tables by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn import data
from prefdyn.data import Pair, Ranking, Source, datasets
from prefdyn.engine.scoring import ResponseLogProbs
from prefdyn.engine.training import Settings
from prefdyn.errors import PrefdynError
from prefdyn.experiments import checks, rank
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.phases import Phase, PhaseResult
from prefdyn.experiments.plan import LISTS, Lengths, Work, largest_batch
from prefdyn.files import public_name
from prefdyn.measures import flips, judges
from prefdyn.theory import ranking as theory

OPTIMIZERS: dict[str, Literal["rmsprop", "adamw"]] = {"RMSProp": "rmsprop", "AdamW": "adamw"}
"""The paper's, and the one that most use."""
PAPERS = "RMSProp"
"""The one under which every gamma is run."""
KINDS = ("per token", "whole")
"""The two likelihoods of a response: the mean of its log-probabilities over tokens, and their sum."""
PROMPT_SHOWN, RESPONSE_SHOWN = 260, 420
"""Characters of a prompt's end and of a response's beginning that the table `cards` keeps."""


@dataclass(frozen=True)
class Design:
    """The sizes and settings of the chapter's experiments.

    Attributes:
        max_length: tokens of a prompt with its response
        ranked: rankings scored of each data set; 0 is all
        followed: training pairs, each followed over training
        validation: pairs that tell when to stop
        judged: pairs that the embedded judge learns from
        judge: embedded, reward:HUB_ID, or URL#MODEL of an endpoint
        answered: prompts that the model answers
        answer_tokens: how long an answer may be
        sft_learning_rate: of supervised fine-tuning
        sft_steps: its updates
        beta: strength of the pull to the reference
        learning_rate: of DPO with AdamW
        rmsprop_learning_rate: of DPO with RMSProp
        steps: updates of DPO
        checkpoints: how often the pairs are looked at
        batch_size: pairs an update
        gammas: weights of the reference
        gamma_steps: updates for each of them, at most `steps`
        gamma_followed: pairs followed for each, at most `followed`
    """

    max_length: int
    ranked: int
    followed: int
    validation: int
    judged: int
    judge: str
    answered: int
    answer_tokens: int
    sft_learning_rate: float
    sft_steps: int
    beta: float
    learning_rate: float
    rmsprop_learning_rate: float
    steps: int
    checkpoints: int
    batch_size: int
    gammas: list[float]
    gamma_steps: int
    gamma_followed: int

    def __post_init__(self) -> None:
        """
        Raises:
            PrefdynError: a gamma is to be followed for longer, or on more pairs, than DPO is, or is there
                twice; more prompts are to be answered than are followed; too few rankings; no such judge.
        """
        if 0 < self.ranked < 3:
            raise PrefdynError(f"ranked is {self.ranked}: it must be 0 (all) or at least 3")
        for part, whole in (
            ("gamma_steps", "steps"),
            ("gamma_followed", "followed"),
            ("answered", "followed"),
        ):
            if getattr(self, part) > getattr(self, whole):
                raise PrefdynError(
                    f"{part} is {getattr(self, part)}: it must be at most {whole}, {getattr(self, whole)}"
                )
        checks.distinct("gammas", self.gammas)
        if self.judge != "embedded":
            judges.named(self.judge)


def check_design(design: Design, source: Source) -> None:
    """See that a source has what the design needs, and that its judge is there.

    Raises:
        PrefdynError: it has not.
    """
    name = datasets.pairs_of(source)
    _enough([one.pair for one in datasets.load(name, source) if not one.tied], name, design)
    if design.judge != "embedded":
        judge = judges.named(design.judge)
        if isinstance(judge, judges.RewardModelJudge):
            judge.check()


# How often a model ranks right ----------------------------------------------------------------------


def ranking_accuracy(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """How often the model ranks right on every data set of the source.

    Tables:
        ranking_accuracy: see `rank.COLUMNS`; `low` and `high` bound `accuracy`, a share, by 95%.
        hits: one row a ranking of a data set: `data`; `ranking`, its number in the draw; `responses`, how
            many it has; `tied`, whether raters are over any two; `per token` and `whole`, 1 where the whole
            order is right by that likelihood, else 0; `chance`, how often a random order would be.
    """
    tables, hits = [], []
    for name in datasets.available(bench.source):
        found = bench.rankings(name, design.ranked)
        scores = bench.scores(found, design.max_length)
        tables.append(rank.table(found, scores, public_name(bench.model_name), name))
        about = {
            "data": name,
            "ranking": range(len(found)),
            "responses": [len(one.responses) for one in found],
            "tied": [one.tied for one in found],
        }
        right = {kind: rank.hits(found, scores, kind == "per token").astype(int) for kind in KINDS}
        hits.append(pd.DataFrame(about | right | {"chance": [theory.chance(one.ranks) for one in found]}))
    return {
        "ranking_accuracy": pd.concat(tables, ignore_index=True),
        "hits": pd.concat(hits, ignore_index=True),
    }


def _scored_pairs(bench: Bench, design: Design, name: str) -> list[tuple[Ranking, ResponseLogProbs]]:
    """The pairs of a data set in the draw over which raters are not tied, with their likelihoods."""
    found = bench.rankings(name, design.ranked)
    scores = bench.scores(found, design.max_length)
    return [(one, score) for one, score in zip(found, scores, strict=True) if not one.tied]


def _chosen_first(ranking: Ranking, values: NDArray[Any]) -> NDArray[Any]:
    return values if ranking.ranks[0] < ranking.ranks[1] else values[::-1]


def lengths(bench: Bench, design: Design) -> pd.DataFrame:
    """The pairs of the data set that training takes its pairs from, over which raters are not tied.

    Returns: One row a pair: `c`, log pi(rejected) - log pi(chosen) of the model in nats, positive where it
        ranks wrong; `chosen` and `rejected`, tokens of either response; `logp_chosen` and `logp_rejected`,
        their log-likelihoods in nats.
    """
    rows = []
    for ranking, score in _scored_pairs(bench, design, datasets.pairs_of(bench.source)):
        total, tokens = _chosen_first(ranking, score.total), _chosen_first(ranking, score.tokens)
        rows.append((total[1] - total[0], *tokens, *total))
    return pd.DataFrame(rows, columns=["c", "chosen", "rejected", "logp_chosen", "logp_rejected"])


# What the optimum would have ------------------------------------------------------------------------


def idealized(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """How often the perfect optimum of the objective would rank right, the model being its reference.

    Tables:
        idealized: one row a kind of likelihood, `responses`: `actual`, the share that the model ranks right;
            `least`, `median` and `largest`, the optimum's over beta; `gap`, the median less the actual, with
            `low` and `high`, its 95% bootstrap interval over pairs.
        optimum: the optimum's `accuracy` by `responses` and `beta`, with Wilson's interval, `low` and `high`.
        votes: one row a pair without a tie: `data`; `known`, whether its votes are (else it is taken as
            unanimous); `alpha`, the share of raters who prefer the chosen response; `per token` and `whole`,
            log pi(chosen)/pi(rejected) of the model, of means over tokens and of sums, in nats; `logp_chosen`
            and `logp_rejected`, the sums.
    """
    voted = datasets.voted(bench.source)
    name = voted or datasets.pairs_of(bench.source)
    rows = []
    for ranking, score in _scored_pairs(bench, design, name):
        alpha = 1.0 if ranking.alpha_chosen is None else ranking.alpha_chosen
        ratios = [-np.diff(_chosen_first(ranking, values))[0] for values in (score.per_token, score.total)]
        rows.append((name, bool(voted), alpha, *ratios, *_chosen_first(ranking, score.total)))
    columns = ["data", "known", "alpha", *KINDS, "logp_chosen", "logp_rejected"]
    votes = pd.DataFrame(rows, columns=columns)
    summary, curve = [], []
    for kind in KINDS:
        ratio = votes[kind].to_numpy()
        found = theory.idealized(ratio, ratio, votes["alpha"], seed=bench.seed)
        over = (found.low.value, found.median.value, found.high.value)
        gap = (found.gap.value, found.gap.low, found.gap.high)
        summary.append((kind, (ratio >= 0).mean(), *over, *gap))
        curve += [(kind, beta, at.value, at.low, at.high) for beta, at in found.by_beta.items()]
    columns = ["responses", "actual", "least", "median", "largest", "gap", "low", "high"]
    return {
        "idealized": pd.DataFrame(summary, columns=columns),
        "optimum": pd.DataFrame(curve, columns=["responses", "beta", "accuracy", "low", "high"]),
        "votes": votes,
    }


# Following single pairs -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parts:
    """Pairs that no two parts share, and the prompts that the model answers."""

    train: list[Pair]
    validation: list[Pair]
    judge: list[Pair]
    prompts: list[str]


def _parts(bench: Bench, design: Design) -> _Parts:
    name = datasets.pairs_of(bench.source)
    pairs = [one.pair for one in bench.rankings(name) if not one.tied]
    needed = _enough(pairs, name, design)
    order = np.random.default_rng(bench.seed).permutation(len(pairs))[:needed]
    train, validation, judge = np.split(order, [design.followed, design.followed + design.validation])
    chosen = [pairs[i] for i in train]
    return _Parts(
        chosen,
        [pairs[i] for i in validation],
        [pairs[i] for i in judge],
        [pair.prompt for pair in chosen[: design.answered]],
    )


def _enough(pairs: Sequence[Pair], name: str, design: Design) -> int:
    """How many pairs the design needs.

    Raises:
        PrefdynError: more than there are.
    """
    needed = design.followed + design.validation + design.judged
    if len(pairs) < needed:
        raise PrefdynError(
            f"followed, validation and judged ask for {design.followed} + {design.validation} + "
            f"{design.judged} pairs and {name} has {len(pairs)} on which raters agree: ask for fewer"
        )
    return needed


@dataclass(frozen=True)
class _Run:
    """DPO after supervised fine-tuning, with every training pair followed (`flips.follow`)."""

    optimizer: str
    gamma: float
    result: PhaseResult
    followed: pd.DataFrame

    @property
    def label(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer, "gamma": self.gamma}


def _dpo(bench: Bench, design: Design, kinds: Sequence[tuple[str, float]]) -> list[_Run]:
    """A run with each of these optimizers and gammas."""
    trained = bench.train_all([_phases(bench, design, *kind) for kind in kinds])
    return [
        _Run(*kind, result, flips.follow(result.record, "followed"))
        for kind, (_, result) in zip(kinds, trained, strict=True)
    ]


def _phases(bench: Bench, design: Design, optimizer: str, gamma: float) -> list[Phase]:
    """Of a run; one with a gamma other than DPO's is shorter, and has no pairs that tell when to stop."""
    parts, plain = _parts(bench, design), gamma == 1
    sft = Settings(design.sft_learning_rate, design.sft_steps, design.batch_size, loss="sft", seed=bench.seed)
    dpo = Settings(
        design.learning_rate if optimizer == "AdamW" else design.rmsprop_learning_rate,
        design.steps if plain else design.gamma_steps,
        design.batch_size,
        design.beta,
        gamma,
        optimizer=OPTIMIZERS[optimizer],
        seed=bench.seed,
        track_distance=True,
    )
    evaluate = {"followed": parts.train[: design.followed if plain else design.gamma_followed]}
    if plain:
        evaluate["validation"] = parts.validation
    looks = [round(design.steps * i / design.checkpoints) for i in range(1, design.checkpoints + 1)]
    return [
        Phase(parts.train, sft, max_length=design.max_length),
        Phase(
            parts.train,
            dpo,
            evaluate,
            sorted({0, design.gamma_steps, *looks}) if plain else (0, design.gamma_steps),
            each=["followed"],
            answer=parts.prompts,
            answer_tokens=design.answer_tokens,
            max_length=design.max_length,
        ),
    ]


def _runs(bench: Bench, design: Design) -> list[_Run]:
    """DPO with each optimizer, then with every other gamma."""
    others = [gamma for gamma in sorted(design.gammas) if gamma != 1]
    return _dpo(
        bench, design, [*((name, 1.0) for name in OPTIMIZERS), *((PAPERS, gamma) for gamma in others)]
    )


def followed(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """What becomes of single training pairs under DPO, with both optimizers.

    Tables:
        followed: one row a pair and step of a run, which `optimizer` and `gamma` (1: DPO) name: `step`;
            `pair`, its number; `loss` in nats; `margin`, the reward margin; `c`, log
            pi_ref(rejected)/pi_ref(chosen) in nats; `right`, 1 where the policy ranks it right, else 0;
            `group`, one of `flips.GROUPS`; `beta`, the strength of the pull to the reference.
        validation: the mean `loss` of the validation pairs, in nats, by `optimizer` and `step`.
        flips: one row an `optimizer`: `wrong pairs`, how many the reference ranks wrong; `step`, that of the
            lowest validation loss; `flipped there`, the share of them that is ranked right by then, with
            `low` and `high`, Wilson's 95% interval; `flipped at the end`, the share after the last update.
    """
    runs = _runs(bench, design)
    tables, losses, shares = [], [], []
    for run in runs:
        columns = ["step", "pair", "loss", "margin", "c", "right", "group"]
        table = run.followed[columns].assign(**run.label, beta=design.beta)
        tables.append(table.astype({"right": int}))
        if run.gamma != 1:
            continue
        loss = flips.mean_loss(run.result.record, "validation")
        losses.append(loss.reset_index().assign(optimizer=run.optimizer))
        best = flips.best_step(run.result.record)
        share = flips.share_flipped(run.followed, best)
        shares.append(
            {
                "optimizer": run.optimizer,
                "wrong pairs": share.n,
                "step": best,
                "flipped there": share.value,
                "low": share.low,
                "high": share.high,
                "flipped at the end": flips.share_flipped(run.followed, design.steps).value,
            }
        )
    return {
        "followed": pd.concat(tables, ignore_index=True),
        "validation": pd.concat(losses, ignore_index=True),
        "flips": pd.DataFrame(shares),
    }


def cards(bench: Bench, design: Design) -> pd.DataFrame:
    """Training pairs to look at: those that DPO will find hard, easy, and easy to flip, by c.

    Returns: One row a pair: `kind`; `pair`, its number; `c`, in nats; `loss` in nats and `right`, at the
        lowest validation loss under RMSProp; `threshold`, the loss that it must reach to be ranked right, in
        nats; `prompt`, its end; `chosen` and `rejected`, the beginnings of the responses; `chosen words` and
        `rejected words`, how many either has.
    """
    (run,), pairs = _dpo(bench, design, [(PAPERS, 1.0)]), _parts(bench, design).train
    now = run.followed[run.followed["step"] == flips.best_step(run.result.record)].sort_values("c")
    wrong = now[now["c"] > 0]
    picked = {"Hard": now.tail(2)[::-1], "Easy": now.head(2), "Easy to flip": wrong.head(2)}
    rows = []
    for kind, part in picked.items():
        for _, row in part.iterrows():
            pair = pairs[int(row["pair"])]
            rows.append(
                {
                    "kind": kind,
                    "pair": int(row["pair"]),
                    "c": row["c"],
                    "loss": row["loss"],
                    "threshold": float(theory.dpo_threshold(row["c"], design.beta)),
                    "right": int(row["right"]),
                    "prompt": _ending(pair.prompt),
                    "chosen": _beginning(pair.chosen),
                    "rejected": _beginning(pair.rejected),
                    "chosen words": len(pair.chosen.split()),
                    "rejected words": len(pair.rejected.split()),
                }
            )
    return pd.DataFrame(rows)


def _ending(prompt: str) -> str:
    """A prompt's end, without the cue to answer."""
    text = prompt.strip().removesuffix("Assistant:").strip()
    return text if len(text) <= PROMPT_SHOWN else "…" + text[-PROMPT_SHOWN:]


def _beginning(response: str) -> str:
    text = response.strip()
    return text if len(text) <= RESPONSE_SHOWN else text[:RESPONSE_SHOWN].rstrip() + "…"


# How low the loss must go ---------------------------------------------------------------------------


def check(followed: pd.DataFrame, beta: float, gamma: float = 1.0) -> dict[str, int]:
    """Violations of Theorem 4.1, Proposition 2.6 and Proposition A.7 (tau = beta / 2) over all steps and
    pairs.

    Proposition 2.6 is about DPO: under another gamma it is not checked, and its entry is 0.

    Args:
        followed: what `flips.follow` returns.
    """
    right, loss, c, ratio = (followed[column].to_numpy() for column in ("right", "loss", "c", "log_ratio"))
    return {
        "Theorem 4.1": int(theory.violations(right, loss, c, ratio, beta, gamma).sum()),
        "Proposition 2.6": int(theory.sanity_violations(right, loss, c).sum()) if gamma == 1 else 0,
        "Proposition A.7": int(theory.ipo_violations(ratio, c, beta / 2).sum()),
    }


def identities(bench: Bench, design: Design) -> pd.DataFrame:
    """What must hold of every pair at every checkpoint of every run.

    Returns: One row a `statement`, by its number in the paper: `points`, pairs at checkpoints at which it
        says something; `violations`, those that violate it.
    """
    points = {"Theorem 4.1": 0, "Proposition 2.6": 0, "Proposition A.7": 0}
    broken = dict.fromkeys(points, 0)
    for run in _runs(bench, design):
        for name, count in check(run.followed, design.beta, run.gamma).items():
            broken[name] += count
        premise = (run.followed["c"] <= 0) & (run.followed["loss"] <= theory.SANITY_LOSS)
        points["Theorem 4.1"] += len(run.followed)
        points["Proposition 2.6"] += int(premise.sum()) if run.gamma == 1 else 0
        points["Proposition A.7"] += len(run.followed)
    return pd.DataFrame(
        {"statement": list(points), "points": list(points.values()), "violations": list(broken.values())}
    )


# Does ranking show in the answers? ------------------------------------------------------------------


def win_rate(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Answers of the trained models against the reference's, beside ranking accuracy.

    Tables:
        win_rate: one row a checkpoint of a run, which `run` and `gamma` (1: DPO) name: `step`; `distance`, of
            the weights from where DPO began; `ranking accuracy`, of the first `gamma_followed` followed
            pairs, with `accuracy low` and `accuracy high` (Wilson), and `win rate` with `win low` and `win
            high` (Student), all shares; `optimizer`; `judge_accuracy`, the judge's on unseen pairs, empty
            where it is not known.
        gamma: of runs with RMSProp, the checkpoint after as many updates as all have, one row a gamma:
            columns of `win_rate`.
        wins: one row a checkpoint and prompt: `optimizer`, `gamma`, `step`, `prompt`, its number, and `win`:
            1 where the judge prefers the answer to the reference's in both orders, 0 where in neither, else
            1/2.
        judge: its `name`, its `accuracy` on `n` unseen pairs, with `low` and `high`, empty where not known;
            `no verdict`, the share of its questions on which it gave none, which count as ties.
    """
    parts = _parts(bench, design)
    judge = bench.judge(design.judge, parts.judge, design.answer_tokens)
    trust = getattr(judge, "accuracy", None)
    courses, wins = [], []
    verdicts: list[NDArray[np.float64]] = []
    for run in _runs(bench, design):
        found = {step: _judged(bench, design, judge, parts, run, step) for step in sorted(run.result.answers)}
        won = {step: judges.counted(one) for step, one in found.items()}
        verdicts.extend(found.values())
        course = flips.trajectory(run.followed, won, design.gamma_followed)
        plain = f"{run.optimizer}, seed {bench.seed}"
        courses.append(
            course.assign(
                run=plain if run.gamma == 1 else f"{run.optimizer}, γ = {run.gamma:g}",
                gamma=run.gamma,
                optimizer=run.optimizer,
                judge_accuracy=trust.value if trust else np.nan,
            )
        )
        for step, each in won.items():
            wins.append(pd.DataFrame({**run.label, "step": step, "prompt": range(len(each)), "win": each}))
    answers = pd.concat(courses, ignore_index=True)
    same = answers["optimizer"].eq(PAPERS) & answers["step"].eq(design.gamma_steps)
    sweep = answers[same & answers["gamma"].isin(design.gammas)].sort_values("gamma")
    measured = ["distance", "ranking accuracy", "win rate"]
    intervals = ["accuracy low", "accuracy high", "win low", "win high"]
    known = {name: getattr(trust, field, np.nan) for name, field in JUDGED.items()}
    return {
        "win_rate": answers,
        "gamma": sweep[["gamma", "step", *measured, *intervals]],
        "wins": pd.concat(wins, ignore_index=True),
        "judge": pd.DataFrame(
            [{"name": public_name(judge.name), **known, "no verdict": np.isnan(verdicts).mean()}]
        ),
    }


JUDGED = {"accuracy": "value", "low": "low", "high": "high", "n": "n"}
"""Columns of the table `judge`, by the field of an estimate that each is."""


def _judged(
    bench: Bench, design: Design, judge: judges.Judge, parts: _Parts, run: _Run, step: int
) -> NDArray[np.float64]:
    """See `judges.in_both_orders`; kept, because a judge may be a large model.

    An endpoint keeps its answers itself, and what it did not answer is to be asked again.
    """
    own, first = run.result.answers[step], run.result.answers[0]
    ask = judges.in_both_orders
    if isinstance(judge, judges.EndpointJudge):
        return ask(judge, parts.prompts, own, first)
    key = {
        "judge": getattr(judge, "fingerprint", design.judge),
        "pairs": data.fingerprint(parts.judge),
        "tokens": design.answer_tokens,
        "seed": bench.seed,
        "prompts": parts.prompts,
        "answers": [own, first],
    }
    return bench.keep("wins", key, ask, lambda: ask(judge, parts.prompts, own, first))


# The plan -------------------------------------------------------------------------------------------


def work(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 4 under its parameters, for all seeds.

    Of the hub's data sets only the training pairs are read. The others are taken to be as long, with lists of
    as many responses as `plan.LISTS` says.
    """
    source, seeds = p["data"], len(set(p["seeds"]))
    pairs = data.load_pairs(source)
    lengths = Lengths.of(pairs, p["max_length"])
    steps, batch, answered = p["steps"], p["batch_size"], p["answered"]
    looks = {round(steps * i / p["checkpoints"]) for i in range(1, p["checkpoints"] + 1)} | {p["gamma_steps"]}
    other = len([gamma for gamma in p["gammas"] if gamma != 1])
    runs = {"two optimizers": 2 * seeds, "other gammas": other * seeds}
    updates = {"two optimizers": steps, "other gammas": p["gamma_steps"]}
    # The reference's pass, and one at each look.
    passes = {
        "two optimizers": (1 + len(looks)) * (p["followed"] + p["validation"]),
        "other gammas": p["followed"] + p["gamma_followed"],
    }
    answers = {"two optimizers": 1 + len(looks), "other gammas": 2}
    largest = largest_batch(pairs, batch, 1.5 * p["max_length"])
    prompt = lengths.each * (1 - lengths.share)
    text = prompt + min(p["answer_tokens"], lengths.each * lengths.share / 2)
    alone = lengths.of_one

    def training(kind: str, phase: str, of: Lengths, count: int, forward: float) -> Work:
        return Work(
            f"{phase}, {kind}",
            "train",
            runs[kind],
            count * batch * of.each,
            count,
            forward,
            of.each / lengths.each * largest,
            distances=phase == "DPO",
            each=of.each,
            responses=of.share,
        )

    work = scored(p)
    judged = 2 * p["judged"] * seeds + answered * sum(runs[kind] * answers[kind] for kind in runs)
    if p["judge"] == "embedded":
        work.append(Work("the judge's features", "forward", 1, judged * text, each=text))
    for kind in [kind for kind in runs if runs[kind]]:
        work += [
            training(kind, "SFT", alone, p["sft_steps"], 0),
            training(kind, "DPO", lengths, updates[kind], passes[kind] * lengths.each),
            Work(
                f"answers, {kind}",
                "answer",
                runs[kind] * answers[kind],
                answered * (prompt + p["answer_tokens"]),
                each=prompt,
                responses=p["answer_tokens"] / (prompt + p["answer_tokens"]),
                answer_tokens=p["answer_tokens"],
            ),
        ]
    return work


def scored(p: Mapping[str, Any]) -> list[Work]:
    """The scores of each data set: of all seeds' draws, or of the whole set once."""
    source, seeds = p["data"], len(set(p["seeds"]))
    work = []
    for name in datasets.available(source):
        if source == "hub" and name != datasets.pairs_of(source):
            known = len(data.load_pairs(source))
            lengths = Lengths.of(data.load_pairs(source), p["max_length"], LISTS.get(name, 2))
        else:
            found = datasets.load(name, source)
            known, lengths = len(found), Lengths.of(found, p["max_length"])
        count = min(p["ranked"] or known, known)
        draws = seeds if count < known else 1
        work.append(
            Work(
                f"log-likelihoods on {name}",
                "forward",
                draws,
                count * lengths.each,
                each=lengths.each,
                responses=lengths.share,
            )
        )
    return work
