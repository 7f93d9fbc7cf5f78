"""Does it rank (RA): chapter 4's design, and its experiments on given responses.

Training on pairs is in `flipping`, fine-tuning alone in `supervised`, offline judges in `offline_judges`, and
the world in which the judge is known in `known_judge`. Every experiment is a function of a bench and a design
that returns a table, or tables by name. Log-likelihoods and c are in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from prefdyn import data
from prefdyn.data import Pair, Ranking, Source, datasets
from prefdyn.engine.scoring import ResponseLogProbs
from prefdyn.errors import PrefdynError
from prefdyn.experiments import checks, rank
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.plan import CHARACTERS_PER_TOKEN, LISTS, Lengths, Work, largest_batch
from prefdyn.files import public_name
from prefdyn.measures import judges

SMALL = ("pandalm", "llmbar-natural", "llmbar-adversarial")
"""Data sets of fewer than a thousand rankings."""
KINDS = ("per token", "whole")
"""The two likelihoods of a response: the mean of its log-probabilities over tokens, and their sum."""
TEST = "test"
"""The split that is ranked."""
LOOKS = 4
"""At a training in the world with a known judge, after its start."""
OBJECTIVES = ("γ 0", "γ 2", "IPO", "SLiC", "SimPO", "SFT")
"""What is trained beside DPO in the world with a known judge."""


@dataclass(frozen=True)
class Design:
    """The sizes and settings of the chapter's experiments.

    Attributes:
        max_length: tokens of a prompt with its response; what is longer is cut
        ranked: rankings scored of each data set; 0 is all
        ranked_small: of those of PandaLM and LLMBar, which have few; 0 is all
        ranked_long: of those of AlpacaEval, whose responses are long
        ranked_lists: of those of more than two long responses; 0 leaves them out
        tuned_pairs: of the pairs that are scored, those of which the model is fine-tuned on one half and
            ranks the other; 0 is all, as it is with human votes
        judged: of the pairs that are scored, those that offline judges learn from; likewise
        judge: embedded, reward:HUB_ID, or URL#MODEL of an endpoint
        train_split: of the response pairs, the split that is trained on; all others are of the test split
        longest: characters of a pair with its prompt that is trained on, at most; 0 is no bound
        trained: pairs that DPO is trained on; 0 is all that the other parts leave
        followed: of them, pairs that are followed over training, and as many unseen ones
        validation: pairs that tell when to stop
        judge_pairs: pairs that the embedded judge learns from
        runs: trainings, each with its own order of pairs
        answered: prompts that the model answers
        answer_tokens: how long an answer may be
        sft_learning_rate: of supervised fine-tuning, over the pairs once
        beta: strength of the pull to the reference
        learning_rate: of DPO with RMSProp
        steps: updates of DPO
        checkpoints: how often the pairs are looked at
        batch_size: pairs an update
        world_runs: draws of the world with a known judge
        world_prompts: its prompts in each draw
        world_tokens: of each of its responses
        world_pairs: pairs of responses to a prompt that are trained on, and half as many unseen ones
        world_betas: strengths of the pull to the reference in it
        world_learning_rate: of RMSProp in it
        world_steps: updates in it; a multiple of 4
        world_batch_size: pairs an update in it
        objectives: what is trained in its first draw beside DPO
    """

    max_length: int
    ranked: int
    ranked_small: int
    ranked_long: int
    ranked_lists: int
    tuned_pairs: int
    judged: int
    judge: str
    train_split: str
    longest: int
    trained: int
    followed: int
    validation: int
    judge_pairs: int
    runs: int
    answered: int
    answer_tokens: int
    sft_learning_rate: float
    beta: float
    learning_rate: float
    steps: int
    checkpoints: int
    batch_size: int
    world_runs: int
    world_prompts: int
    world_tokens: int
    world_pairs: int
    world_betas: list[float]
    world_learning_rate: float
    world_steps: int
    world_batch_size: int
    objectives: list[str]

    def __post_init__(self) -> None:
        """
        Raises:
            PrefdynError: too few rankings; more pairs are followed than trained on, or prompts answered than
                pairs followed; a strength or an objective is there twice; steps or pairs that cannot be
                halved; no such objective or judge.
        """
        for name in ("ranked", "tuned_pairs", "judged"):
            if 0 < getattr(self, name) < 2 * judges.FOLDS:
                raise PrefdynError(
                    f"{name} is {getattr(self, name)}: it must be 0 (all) or at least {2 * judges.FOLDS}"
                )
        for part, whole in (("followed", "trained"), ("answered", "followed")):
            if 0 < getattr(self, whole) < getattr(self, part):
                raise PrefdynError(
                    f"{part} is {getattr(self, part)}: it must be at most {whole}, {getattr(self, whole)}"
                )
        checks.distinct("world_betas", self.world_betas)
        if len(set(self.objectives)) < len(self.objectives) or not set(self.objectives) <= set(OBJECTIVES):
            raise PrefdynError(
                f"objectives is {self.objectives}: choose from {', '.join(OBJECTIVES)}, each once"
            )
        for name, parts in (("world_steps", LOOKS), ("world_pairs", 2)):
            if getattr(self, name) % parts:
                raise PrefdynError(f"{name} is {getattr(self, name)}: it must be a multiple of {parts}")
        if self.judge != "embedded":
            judges.named(self.judge)

    def limit(self, name: str) -> int:
        """How many rankings of a data set are scored; 0 is all."""
        return _limit(name, asdict(self))


def _limit(name: str, p: Mapping[str, Any]) -> int:
    """How many rankings of a data set are scored under a design's values; 0 is all."""
    if name == "alpaca-eval-rankings":
        return p["ranked_lists"]
    if name == "alpaca-eval":
        return p["ranked_long"]
    return p["ranked_small" if name in SMALL else "ranked"]


def check_design(design: Design, source: Source) -> None:
    """See that a source has what the design needs, and that its judge is there.

    Raises:
        PrefdynError: it has not.
    """
    training_pairs(lambda name: datasets.load(name, source), datasets.pairs_of(source), design)
    if design.judge != "embedded":
        judge = judges.named(design.judge)
        if isinstance(judge, judges.RewardModelJudge):
            judge.check()
    wanted, known = design.world_runs * design.world_prompts, len(known_prompts(source))
    if known < wanted:
        raise PrefdynError(
            f"world_runs and world_prompts ask for {design.world_runs} × {design.world_prompts} prompts, "
            f"and the data has {known}: ask for fewer"
        )


def short_pairs(rankings: Sequence[Ranking], design: Design) -> list[Pair]:
    """The pairs on which raters agree and that are short enough."""
    pairs = [ranking.pair for ranking in rankings if not ranking.tied]
    bound = design.longest or np.inf
    return [pair for pair in pairs if pair.characters <= bound]


def training_pairs(
    load: Callable[[str], Sequence[Ranking]], name: str, design: Design
) -> tuple[list[Pair], list[Pair], int]:
    """Where the pairs that are trained on are drawn from, where all others are (the same, where training
    takes the test split), and how many are trained on.

    Args:
        load: rankings by name.

    Raises:
        PrefdynError: training needs more pairs than there are.
    """
    pairs = short_pairs(load(name), design)
    others = {"followed": design.followed, "validation": design.validation, "judge_pairs": design.judge_pairs}
    least, wanted = design.trained or design.followed, sum(others.values())
    if design.train_split == TEST:
        pool, left = pairs, len(pairs) - wanted
        others, wanted = {"trained": least, **others}, wanted + least
    else:
        pool = short_pairs(load(f"{name}:{design.train_split}"), design)
        left = len(pool)
        if left < least:
            raise PrefdynError(
                f"trained is {design.trained}, of which {design.followed} are followed, and the split "
                f"{design.train_split} of {name} has {left} pairs that are short enough: ask for fewer"
            )
    if len(pairs) < wanted:
        raise PrefdynError(
            f"{', '.join(others)} ask for {' + '.join(map(str, others.values()))} pairs and {name} has "
            f"{len(pairs)} on which raters agree and that are short enough: ask for fewer"
        )
    return pool, pairs, design.trained or left


def known_prompts(source: Source) -> list[str]:
    """The different prompts of the pairs that training takes, from the shortest."""
    rankings = datasets.load(datasets.pairs_of(source), source)
    return sorted({ranking.prompt for ranking in rankings}, key=lambda prompt: (len(prompt), prompt))


# How often a model ranks right ----------------------------------------------------------------------


PAIR_DATA = (
    "sample",
    "hh-rlhf",
    "pandalm",
    "llmbar-natural",
    "llmbar-adversarial",
    "alpaca-eval",
    "alpaca-farm",
)
"""Data sets of two responses a prompt that the table `scored` holds."""


def ranking_accuracy(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """How often the model ranks right on every data set of the source.

    Tables:
        ranking_accuracy: see `rank.COLUMNS`; `low` and `high` bound `accuracy`, a share, by 95%.
        scored: one row a pair of a data set of two responses:

            - data: the data set.
            - pair: its number in the draw.
            - prompt: the number of its prompt; pairs of one prompt are alike.
            - alpha: the share of raters who prefer the first response, empty where it is not known.
            - preferred: 1 or 2, the response that is preferred, or 0 where raters are tied.
            - logp 1, logp 2: log-likelihoods of the responses (nats).
            - tokens 1, tokens 2: their numbers of tokens.
    """
    tables, scored = [], []
    for name in datasets.available(bench.source):
        if name == "alpaca-eval-rankings" and not design.ranked_lists:
            continue
        found = bench.rankings(name, design.limit(name))
        scores = bench.scores(found, design.max_length)
        tables.append(rank.table(found, scores, public_name(bench.model_name), name))
        if name in PAIR_DATA:
            scored.append(_pairs_of(name, found, scores))
    return {
        "ranking_accuracy": pd.concat(tables, ignore_index=True),
        "scored": pd.concat(scored, ignore_index=True),
    }


def _pairs_of(name: str, found: Sequence[Ranking], scores: Sequence[ResponseLogProbs]) -> pd.DataFrame:
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(one.prompt for one in found))}
    rows = [
        {
            "data": name,
            "pair": number,
            "prompt": numbers[one.prompt],
            "alpha": np.nan if one.alpha is None else round(one.alpha, 4),
            "preferred": 0 if one.tied else 1 + int(one.ranks[1] < one.ranks[0]),
            **{f"logp {k + 1}": round(float(score.total[k]), 4) for k in range(2)},
            **{f"tokens {k + 1}": int(score.tokens[k]) for k in range(2)},
        }
        for number, (one, score) in enumerate(zip(found, scores, strict=True))
    ]
    return pd.DataFrame(rows)


def halved_data(source: Source) -> list[str]:
    """The data sets of which one part teaches and the other asks: the one that training takes its pairs from,
    and human votes where a folder holds them.
    """
    votes = ["pandalm"] if source != "hub" and "pandalm" in datasets.available(source) else []
    return [datasets.pairs_of(source), *votes]


def untied(bench: Bench, design: Design, name: str, limit: int) -> list[tuple[Ranking, ResponseLogProbs]]:
    """The pairs of the draw over which raters are not tied, with their likelihoods.

    Args:
        limit: the first so many of the pairs that training takes (0: all); of human votes all are taken.
    """
    limit = limit if name == datasets.pairs_of(bench.source) else 0
    found = bench.rankings(name, design.limit(name))
    scores = bench.scores(found, design.max_length)
    clear = [(one, score) for one, score in zip(found, scores, strict=True) if not one.tied]
    return clear[:limit] if limit else clear


# The plan -------------------------------------------------------------------------------------------


BESIDE = 0.9e9
"""Bytes that the chapter holds beside its model, at most: an encoder, the worlds and their answers. Measured
under the profile `smoke`, where all together are 2.6e9.
"""


def work(p: Mapping[str, Any]) -> list[Work]:
    """The work of chapter 4 under its parameters, for all seeds.

    Of the hub's data sets only the training pairs are read. The others are taken to be as long, with lists of
    as many responses as `plan.LISTS` says.
    """
    every = [*scored_work(p), *_small_work(p), *_training_work(p), *_world_work(p)]
    return [replace(one, beside=BESIDE) for one in every]


def scored_work(p: Mapping[str, Any]) -> list[Work]:
    """The scores of each data set: of all seeds' draws, or of the whole set once."""
    source, seeds = p["data"], len(set(p["seeds"]))
    out = []
    for name in datasets.available(source):
        if name == "alpaca-eval-rankings" and not p["ranked_lists"]:
            continue
        if source == "hub" and name != datasets.pairs_of(source):
            known = len(data.load_pairs(source))
            lengths = Lengths.of(data.load_pairs(source), p["max_length"], LISTS.get(name, 2))
        else:
            found = datasets.load(name, source)
            known, lengths = len(found), Lengths.of(found, p["max_length"])
        count = min(_limit(name, p) or known, known)
        draws = seeds if count < known else 1
        out.append(
            Work(
                f"log-likelihoods on {name}",
                "forward",
                draws,
                count * lengths.each,
                each=lengths.each,
                responses=lengths.share,
            )
        )
    return out


def _small_work(p: Mapping[str, Any]) -> list[Work]:
    """Fine-tuning on halves, with the scores after it, and what offline judges read."""
    seeds = len(set(p["seeds"]))
    pairs = data.load_pairs(p["data"])
    lengths = Lengths.of(pairs, p["max_length"])
    alone = lengths.of_one
    many = len(halved_data(p["data"]))
    tuned = min(p["tuned_pairs"] or p["ranked"] or len(pairs), len(pairs))
    judged = min(p["judged"] or p["ranked"] or len(pairs), len(pairs))
    epoch = -(-tuned // (2 * p["batch_size"]))
    return [
        Work(
            "fine-tuning on halves",
            "train",
            2 * many * seeds,
            tuned / 2 * alone.each,
            epoch,
            tuned / 2 * lengths.each,
            alone.each / lengths.each * largest_batch(pairs, p["batch_size"]),
            each=alone.each,
            responses=alone.share,
        ),
        Work("what offline judges read", "forward", many * seeds, 2 * judged * alone.each, each=alone.each),
    ]


def _training_work(p: Mapping[str, Any]) -> list[Work]:
    """Fine-tuning and DPO on response pairs, with answers."""
    runs = p["runs"] * len(set(p["seeds"]))
    others = p["followed"] + p["validation"] + p["judge_pairs"]
    bound = p["longest"] or np.inf
    every = data.load_pairs(p["data"], p["train_split"])
    pairs = [pair for pair in every if pair.characters <= bound]
    lengths = Lengths.of(pairs or every, p["max_length"])
    alone, largest = lengths.of_one, largest_batch(pairs or every, p["batch_size"], 1.5 * p["max_length"])
    looks = 1 + p["checkpoints"]
    trained = p["trained"] or max(1, len(pairs) - (others if p["train_split"] == TEST else 0))
    passes = trained + looks * (2 * p["followed"] + p["validation"])
    prompt = lengths.each * (1 - lengths.share)
    text = prompt + min(p["answer_tokens"], lengths.each * lengths.share / 2)
    judged = len(set(p["seeds"])) * (2 * p["judge_pairs"]) + p["answered"] * runs * looks
    judge = [Work("the judge's features", "forward", 1, judged * text, each=text)]
    return [
        *(judge if p["judge"] == "embedded" else []),
        Work(
            "SFT on response pairs",
            "train",
            runs,
            trained * alone.each,
            -(-trained // p["batch_size"]),
            0,
            alone.each / lengths.each * largest,
            each=alone.each,
            responses=alone.share,
        ),
        Work(
            "DPO on response pairs",
            "train",
            runs,
            p["steps"] * p["batch_size"] * lengths.each,
            p["steps"],
            passes * lengths.each,
            largest,
            distances=True,
            moments=1,
            each=lengths.each,
            responses=lengths.share,
        ),
        Work(
            "answers",
            "answer",
            runs * looks,
            p["answered"] * (prompt + p["answer_tokens"]),
            each=prompt,
            responses=p["answer_tokens"] / (prompt + p["answer_tokens"]),
            answer_tokens=p["answer_tokens"],
        ),
    ]


def _world_work(p: Mapping[str, Any]) -> list[Work]:
    """The trainings in the world with a known judge, with its answers."""
    seeds = len(set(p["seeds"]))
    prompts, tokens = p["world_prompts"], p["world_tokens"]
    shortest = known_prompts(p["data"])[: p["world_runs"] * prompts]
    prompt = float(np.mean([len(text) for text in shortest])) / CHARACTERS_PER_TOKEN
    each, share = prompt + 2 * tokens, 2 * tokens / (prompt + 2 * tokens)
    trainings = p["world_runs"] * len(p["world_betas"]) + len(p["objectives"]) + 3
    measured = prompts * (p["world_pairs"] * 1.5 + 4) * (1 + LOOKS)
    asked = prompts * (3 * p["world_pairs"] * p["world_runs"] + 2 * (1 + LOOKS) * trainings)
    return [
        Work(
            "trainings with a known judge",
            "train",
            trainings * seeds,
            p["world_steps"] * p["world_batch_size"] * each,
            p["world_steps"],
            measured * each,
            p["world_batch_size"] * each,
            distances=True,
            resumed=True,
            moments=1,
            each=each,
            responses=share,
        ),
        Work(
            "responses with a known judge",
            "answer",
            seeds,
            asked * (prompt + tokens),
            each=prompt,
            responses=tokens / (prompt + tokens),
            answer_tokens=tokens,
        ),
    ]
