"""Supervised fine-tuning alone: does it raise ranking accuracy (RA Section 3.1), and which pairs are hard for
the reference that it leaves (RA Section 4.2, Tables 7 to 9)?

Every pair is ranked by a model that was fine-tuned on other prompts: the prompts are halved, and each half is
ranked after fine-tuning on the chosen responses of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from prefdyn.data import Pair, Ranking, fingerprint
from prefdyn.engine import scoring
from prefdyn.engine.likelihood import tokenize_pairs
from prefdyn.engine.scoring import ResponseLogProbs
from prefdyn.engine.training import Settings, fine_tune
from prefdyn.engine.weights import restoring
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.ranking import Design, halved_data, untied
from prefdyn.models import LanguageModel
from prefdyn.theory import ranking as theory

PROMPT_SHOWN, RESPONSE_SHOWN = 260, 420
"""Characters of a prompt's end and of a response's beginning that the table `cards` keeps."""


def supervised(bench: Bench, design: Design) -> dict[str, pd.DataFrame]:
    """Ranking before and after supervised fine-tuning, on the same pairs, none of them trained on.

    Tables:
        supervised: one row a pair over which raters are not tied:

            - data: the data set.
            - pair: its number in the draw.
            - prompt: the number of its prompt.
            - alpha: the share of raters who prefer the chosen response, empty where it is not known.
            - chosen, rejected: tokens of the responses.
            - chosen before, rejected before, chosen after, rejected after: their log-likelihoods (nats).
        cards: pairs to look at, by c of the fine-tuned reference, of the data that training takes:

            - kind: Hard, Easy, or Easy to flip.
            - pair: its number in the draw.
            - c: log pi_ref(rejected)/pi_ref(chosen) (nats).
            - threshold: the DPO loss that it must reach to be ranked right (nats).
            - prompt: its end; chosen, rejected: the beginnings of the responses.
            - chosen words, rejected words: how many either has.
    """
    tables: list[pd.DataFrame] = []
    shown = pd.DataFrame()
    for name in halved_data(bench.source):
        known = untied(bench, design, name, design.tuned_pairs)
        table = _table(bench, design, name, known)
        if not tables:
            shown = _cards(table, [one.pair for one, _ in known], design.beta)
        tables.append(table)
    return {"supervised": pd.concat(tables, ignore_index=True), "cards": shown}


def _table(
    bench: Bench, design: Design, name: str, known: Sequence[tuple[Ranking, ResponseLogProbs]]
) -> pd.DataFrame:
    prompts = {prompt: number for number, prompt in enumerate(dict.fromkeys(one.prompt for one, _ in known))}
    number = np.array([prompts[one.prompt] for one, _ in known])
    halves = np.random.default_rng(bench.seed).permutation(len(prompts)) % 2
    half = halves[number]
    rows: list[dict[str, Any]] = [{} for _ in known]
    for side in (0, 1):
        train = [one.pair for (one, _), where in zip(known, half, strict=True) if where != side]
        asked = [i for i, where in enumerate(half) if where == side]
        after = _scores_after(bench, design, train, [known[i][0] for i in asked])
        for i, later in zip(asked, after, strict=True):
            ranking, earlier = known[i]
            order = (0, 1) if ranking.ranks[0] < ranking.ranks[1] else (1, 0)
            rows[i] = {
                "data": name,
                "pair": i,
                "prompt": int(number[i]),
                "alpha": np.nan if ranking.alpha_chosen is None else round(ranking.alpha_chosen, 4),
            }
            for which, k in zip(("chosen", "rejected"), order, strict=True):
                rows[i][which] = int(earlier.tokens[k])
                rows[i][f"{which} before"] = round(float(earlier.total[k]), 4)
                rows[i][f"{which} after"] = round(float(later.total[k]), 4)
    return pd.DataFrame(rows)


def _scores_after(
    bench: Bench, design: Design, train: Sequence[Pair], rankings: Sequence[Ranking]
) -> list[ResponseLogProbs]:
    """Log-likelihoods under the model fine-tuned on the chosen responses of `train`, in float32."""
    steps = max(1, len(train) // design.batch_size)
    settings = Settings(design.sft_learning_rate, steps, design.batch_size, loss="sft", seed=bench.seed)
    key = {
        "train": fingerprint(train),
        "settings": settings.describe(),
        "precision": bench.precision,
        "rankings": fingerprint(rankings),
        "max_length": design.max_length,
    }
    return bench.measure("tuned", key, tuned_scores, train, settings, rankings, design.max_length)


def tuned_scores(
    lm: LanguageModel, train: Sequence[Pair], settings: Settings, rankings: Sequence[Ranking], max_length: int
) -> list[ResponseLogProbs]:
    """Fine-tune, score in float32, and put the weights back."""
    prompts, responses = [one.prompt for one in rankings], [one.responses for one in rankings]
    with restoring(lm):
        fine_tune(lm, tokenize_pairs(lm, train, max_length), settings)
        return scoring.score(lm, prompts, responses, max_length)


# Hard, easy, and easy to flip -----------------------------------------------------------------------


def _cards(table: pd.DataFrame, pairs: Sequence[Pair], beta: float) -> pd.DataFrame:
    now = table.assign(c=table["rejected after"] - table["chosen after"]).sort_values("c")
    wrong = now[now["c"] > 0]
    picked = {"Hard": now.tail(2)[::-1], "Easy": now.head(2), "Easy to flip": wrong.head(2)}
    return pd.DataFrame(
        [
            {
                "kind": kind,
                "pair": row["pair"],
                "c": row["c"],
                "threshold": float(theory.dpo_threshold(row["c"], beta)),
                "prompt": _ending(pairs[row["pair"]].prompt),
                "chosen": _beginning(pairs[row["pair"]].chosen),
                "rejected": _beginning(pairs[row["pair"]].rejected),
                "chosen words": len(pairs[row["pair"]].chosen.split()),
                "rejected words": len(pairs[row["pair"]].rejected.split()),
            }
            for kind, part in picked.items()
            for row in part.to_dict("records")
        ]
    )


def _ending(prompt: str) -> str:
    """A prompt's end, without the cue to answer."""
    text = prompt.strip().removesuffix("Assistant:").strip()
    return text if len(text) <= PROMPT_SHOWN else "…" + text[-PROMPT_SHOWN:]


def _beginning(response: str) -> str:
    text = response.strip()
    return text if len(text) <= RESPONSE_SHOWN else text[:RESPONSE_SHOWN].rstrip() + "…"
