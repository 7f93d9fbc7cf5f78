"""Judges that need nobody: a Bradley-Terry reward on what a model reads, and how often it agrees with human
votes on prompts that it was not fitted to. One that does not beat a coin judges nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn.cache import cached
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.ranking import Design, halved_data, untied
from prefdyn.measures.judges import BradleyTerryJudge, States
from prefdyn.models import encoders

WHOLE = 100_000
"""Tokens of an answer that a judge reads: more than there are."""
STATES, ENCODER, LENGTH = "states of the model", "a sentence encoder", "length alone"


def offline_judges(bench: Bench, design: Design) -> pd.DataFrame:
    """How often each judge agrees with the raters, on pairs of prompts that it was not fitted to.

    Columns:
        data: the pairs.
        judge: what its reward is linear in: the last hidden state of prompt and answer; a sentence encoder's
            vector of the answer, and its product with that of the prompt, number by number; or the answer's
            logarithm of characters and its square.
        accuracy, low, high: share of pairs on which it prefers the chosen response, with its 95% interval.
        n: pairs.
    """
    rows = []
    for name in halved_data(bench.source):
        pairs = [one.pair for one, _ in untied(bench, design, name, design.judged)]
        for judge, states in _readers(bench).items():
            found = BradleyTerryJudge.fit(states, pairs, seed=bench.seed).accuracy
            about = {"accuracy": found.value, "low": found.low, "high": found.high, "n": found.n}
            rows.append({"data": name, "judge": judge, **about})
    return pd.DataFrame(rows)


def _readers(bench: Bench) -> Mapping[str, States]:
    states: States = functools.partial(bench.answer_states, tokens=WHOLE)
    # The tiny model's runs are for the plumbing, and fetch nothing.
    return {STATES: states, LENGTH: lengths} | ({} if bench.model_name == "smoke" else {ENCODER: encoded})


def encoded(prompts: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
    """What the sentence encoder has of answers, and of how near each is to its prompt, shape (n, 2 d)."""
    distinct = list(dict.fromkeys(prompts))
    index = {prompt: number for number, prompt in enumerate(distinct)}
    asked, given = (
        cached(
            "encoded",
            {"texts": texts, "encoder": encoders.SHA256},
            encoders.encode,
            functools.partial(encoders.encode, texts),
        )
        for texts in (distinct, list(answers))
    )
    asked = asked[[index[prompt] for prompt in prompts]]
    return np.concatenate([given, given * asked], axis=1)


def lengths(prompts: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
    """The logarithm of each answer's characters and its square, shape (n, 2)."""
    size = np.log([max(1, len(answer)) for answer in answers])
    return np.stack([size, size**2], axis=1)
