"""Tables of how models rank, from log-likelihoods: accuracies beside those of guesses and of length, and
models compared on the same examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdyn.data.examples import Example, is_ties
from prefdyn.data.rankings import Ranking
from prefdyn.engine.scoring import ResponseLogProbs
from prefdyn.measures import best_of, estimates, paired
from prefdyn.measures.estimates import Estimate
from prefdyn.theory import ranking as theory

ACCURACY = [
    *("data", "model", "score", "right", "ties", "examples"),
    *("accuracy", "low", "high", "prefers_shorter"),
]
"""Of the table of accuracies, a row a model, score and notion of right; see `accuracy`."""
COMPARISONS = [
    *("data", "first", "second", "score", "right", "examples", "only_first", "only_second"),
    *("difference", "low", "high", "p", "p_holm"),
]
"""Of the table of comparisons, a row two models and a score; see `comparisons`."""
PER_TOKEN, WHOLE, REWARD = "log-likelihood per token", "log-likelihood", "implicit reward"
SCORES = (PER_TOKEN, WHOLE, REWARD)
"""The scores of a response. The last is beta (log pi - log pi_ref), of sums over tokens."""
ORDER, BEST, TIES = "whole order", "best of n", "ties of RewardBench 2"
"""What counts as right."""
BASELINE = "baseline"


@dataclass(frozen=True)
class Scored:
    """A data set as a model scored it.

    Attributes:
        rankings: the examples as the model was given them, n of them.
        scores: log-likelihoods of their responses.
        reference: those of the reference, of the same texts; None where there is none.
    """

    model: str
    data: str
    rankings: Sequence[Ranking]
    scores: Sequence[ResponseLogProbs]
    reference: Sequence[ResponseLogProbs] | None = None
    beta: float = 0.1

    @property
    def values(self) -> dict[str, list[NDArray[np.float64]]]:
        """By kind of score, those of the responses of each example."""
        out = {PER_TOKEN: [one.per_token for one in self.scores], WHOLE: [one.total for one in self.scores]}
        if self.reference is not None:
            both = zip(self.scores, self.reference, strict=True)
            out[REWARD] = [self.beta * (one.total - other.total) for one, other in both]
        return out


class _Part(NamedTuple):
    """Examples that a row is of, and what is right there: "ties" says what became of raters' ties."""

    right: str
    ties: str
    members: list[int]


def accuracy(data: Mapping[str, Sequence[Example]], scored: Sequence[Scored]) -> pd.DataFrame:
    """How often each model is right on each data set, beside what knows nothing of the text.

    The model "baseline" guesses ("chance"; the interval is where 95% of guessers are), or takes the response
    with fewer or more characters for the better; it has no rows where ties are counted.

    - whole order: as RA defines it, for likelihoods (`theory.ranking.ranked_right`); where rewards or lengths
      are equal, what a coin would have. It is left out where every example with more than two responses has
      just good and bad ones.
    - best of n: `best_of.found`, where an example has more than two responses.
    - ties of RewardBench 2: `best_of.ties`; `examples` counts pairs of questions.

    Args:
        data: by name, examples; those of a subset SUBSET have rows of their own as well, under NAME/SUBSET.

    Returns: Rows of `ACCURACY`. `ties` says whether examples in which raters are tied are "left out" or
        "counted"; `low` and `high` are the 95% interval, over prompts where examples share them
        (`estimates.proportion`), NaN for fewer than three examples;
        `prefers_shorter` is how often the response with fewer characters has the higher score, of examples
        with two, NaN where there are none.
    """
    rows: list[tuple[Any, ...]] = []
    for name, examples in data.items():
        of_data = [one for one in scored if one.data == name]
        for shown, index in _subsets(name, examples) if of_data else ():
            for part in _parts(examples, index):
                rows += [(shown, *row) for row in _rows(examples, part, of_data)]
            if len(index) > 1 and is_ties(examples[i] for i in index):
                rows += [(shown, *row) for row in _ties(examples, index, of_data)]
    return pd.DataFrame(rows, columns=ACCURACY)


def comparisons(data: Mapping[str, Sequence[Example]], scored: Sequence[Scored]) -> pd.DataFrame:
    """Every two models on the same examples of each data set.

    Returns: Rows of `COMPARISONS`: `only_first` and `only_second`, on how many examples one of them alone is
        right, or is by a larger share where scores are equal; `difference`, how much more often the first is,
        with its 95% interval, and `p`, of McNemar's exact test, both over prompts where examples share them
        (`paired.compare`); `p_holm`, adjusted by Holm's method for all rows of the same score.
    """
    rows: list[tuple[Any, ...]] = []
    for name, examples in data.items():
        parts = [part for part in _parts(examples, range(len(examples))) if part.ties != "counted"]
        for one, other in combinations([one for one in scored if one.data == name], 2):
            mine, theirs = one.values, other.values
            for part in parts:
                for score in mine.keys() & theirs.keys():
                    first, second = (_hits(of[score], examples, part, score) for of in (mine, theirs))
                    found = paired.compare(first, second, _prompts(examples, part))
                    about = (name, one.model, other.model, score, part.right, len(part.members))
                    gap = found.difference
                    rows.append(
                        (*about, found.first, found.second, gap.value, gap.low, gap.high, found.p, 1.0)
                    )
    table = pd.DataFrame(rows, columns=COMPARISONS)
    for score in SCORES:
        same = table["score"] == score
        table.loc[same, "p_holm"] = paired.holm(table.loc[same, "p"].tolist())
    return table.sort_values("score", key=lambda of: of.map(SCORES.index), kind="stable", ignore_index=True)


def example_rows(examples: Sequence[Example], scored: Scored) -> Iterator[dict[str, Any]]:
    """What a model did with each example, as objects that JSON can hold, with the texts as it was given them.

    `right` says for each score whether the model is right: of two responses as the table has it
    (`theory.ranking.ranked_right`, for rewards `best_of.ordered`), of more whether the best has the highest;
    None where raters are tied over all of them. `prompt_cut` is how many tokens the beginning of the prompt
    lost.
    """
    values = scored.values
    for i, (one, ranking) in enumerate(zip(examples, scored.rankings, strict=True)):
        right = {
            score: None
            if _all_tied(one)
            else _verdict(ORDER if len(one.ranks) == 2 else BEST, score)(of[i], one.ranks) == 1
            for score, of in values.items()
        }
        yield {
            "data": scored.data,
            "model": scored.model,
            "example": i,
            "id": one.id,
            "subset": one.subset,
            "prompt": ranking.prompt,
            "responses": list(ranking.responses),
            "ranks": list(one.ranks),
            "tokens": scored.scores[i].tokens.tolist(),
            "prompt_cut": scored.scores[i].cut,
            **{score: np.round(of[i], 6).tolist() for score, of in values.items()},
            "right": right,
        }


def _subsets(name: str, examples: Sequence[Example]) -> Iterator[tuple[str, list[int]]]:
    yield name, list(range(len(examples)))
    for subset in dict.fromkeys(one.subset for one in examples):
        index = [i for i, one in enumerate(examples) if one.subset == subset]
        if subset and len(index) < len(examples):
            yield f"{name}/{subset}", index


def _all_tied(one: Example) -> bool:
    return len(set(one.ranks)) == 1


def _parts(examples: Sequence[Example], index: Sequence[int]) -> Iterator[_Part]:
    """What can be told of some examples."""
    some = list(index)
    many = [i for i in some if len(examples[i].ranks) > 2 and not _all_tied(examples[i])]
    if not many or any(len(set(examples[i].ranks)) > 2 for i in many):
        clear = [i for i in some if len(set(examples[i].ranks)) == len(examples[i].ranks)]
        if clear:
            yield _Part(ORDER, "none" if len(clear) == len(some) else "left out", clear)
        if len(clear) < len(some):
            yield _Part(ORDER, "counted", some)
    if many:
        clear = [i for i in some if not _all_tied(examples[i])]
        yield _Part(BEST, "none" if len(clear) == len(some) else "left out", clear)


def _hits(
    values: Sequence[NDArray[np.float64]], examples: Sequence[Example], part: _Part, score: str
) -> NDArray[np.float64]:
    """How far each example of a part is right, shape (n,)."""
    verdict = _verdict(part.right, score)
    return np.array([float(verdict(values[i], examples[i].ranks)) for i in part.members])


def _verdict(right: str, score: str) -> Callable[..., float]:
    """How far an example is right, by the scores and ranks of its responses."""
    if right == BEST:
        return best_of.found
    return theory.ranked_right if score in (PER_TOKEN, WHOLE) else best_of.ordered


def _prompts(examples: Sequence[Example], part: _Part) -> list[int]:
    """Of each example, the first that asks the same."""
    first: dict[object, int] = {}
    return [first.setdefault((examples[i].turns, examples[i].dialogue), i) for i in part.members]


def _rows(examples: Sequence[Example], part: _Part, scored: Sequence[Scored]) -> Iterator[tuple[Any, ...]]:
    characters = [-np.array([len(text.strip()) for text in one.responses], dtype=float) for one in examples]
    chance = theory.chance if part.right == ORDER else best_of.found_by_chance
    of_kind, prompts = (part.right, part.ties), _prompts(examples, part)
    if part.ties != "counted":  # by RA's rule nearly every model has most ties right, and no order has one
        guess = paired.guessed([chance(examples[i].ranks) for i in part.members])
        yield BASELINE, "chance", *of_kind, *_cells(guess), math.nan
        for name, values in (("shorter wins", characters), ("longer wins", [-one for one in characters])):
            hits = _share(_hits(values, examples, part, name), prompts)
            yield BASELINE, name, *of_kind, *_cells(hits), _prefers(values, characters, part)
    for one in scored:
        for score, values in one.values.items():
            if score == REWARD and part.ties == "counted":
                continue  # RA says when likelihoods are tied, nobody when rewards are
            hits = _share(_hits(values, examples, part, score), prompts)
            yield one.model, score, *of_kind, *_cells(hits), _prefers(values, characters, part)


def _ties(
    examples: Sequence[Example], index: Sequence[int], scored: Sequence[Scored]
) -> Iterator[tuple[Any, ...]]:
    for one in scored:
        for score, values in one.values.items():
            pairs: dict[str, dict[str, best_of.Margins]] = {"ref": {}, "tied": {}}
            for i in index:
                if len(set(examples[i].ranks)) == 1:
                    continue  # nothing is to be found among responses that are all alike
                kind, _, name = examples[i].id.partition(":")
                pairs[kind][name] = best_of.margins(values[i], examples[i].ranks)
            found = best_of.ties(pairs["ref"], pairs["tied"])
            yield one.model, score, TIES, "counted", *_cells(found), math.nan


def _share(hits: NDArray[np.float64], prompts: Sequence[int]) -> Estimate:
    if len(hits) < 3:
        return Estimate(float(hits.mean()), math.nan, math.nan, len(hits))
    return estimates.proportion(hits, prompts)


def _cells(found: Estimate) -> tuple[int, float, float, float]:
    return found.n, found.value, found.low, found.high


def _prefers(
    values: Sequence[NDArray[np.float64]], characters: Sequence[NDArray[np.float64]], part: _Part
) -> float:
    """How often the shorter of two responses has the higher score; alike in either is one half."""
    two = [i for i in part.members if len(values[i]) == 2]
    if not two:
        return math.nan
    signs = [np.sign(values[i][0] - values[i][1]) * np.sign(characters[i][0] - characters[i][1]) for i in two]
    return float((np.mean(signs) + 1) / 2)
