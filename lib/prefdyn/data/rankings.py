"""A ranking of responses, and how a row of each publisher's schema becomes one (RA Appendix C.2)."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefdyn.data.pairs import Pair
from prefdyn.data.sources import check_text
from prefdyn.errors import PrefdynError

DIALOGUE = "\n\nHuman: {prompt}\n\nAssistant:"
"""How a prompt without a format of its own is put to a model: HH-RLHF's; RA names none."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Ranking:
    """A prompt with at least two responses and their order.

    Attributes:
        ranks: of each response, 0 for the best; equal ranks are a tie.
        alpha: for two responses, the share of raters who prefer the first, where known. 1/2 is a tie.
    """

    prompt: str
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    alpha: float | None = None

    @property
    def tied(self) -> bool:
        """Whether any two responses have the same rank."""
        return len(set(self.ranks)) < len(self.ranks)

    @property
    def pair(self) -> Pair:
        """As chosen and rejected.

        Raises:
            PrefdynError: it has more than two responses, or they are tied.
        """
        if len(self.responses) != 2 or self.tied:
            raise PrefdynError(
                f"the ranking of {len(self.responses)} responses {self.ranks} is no preference for one of two"
            )
        first, second = self.responses if self.ranks[0] < self.ranks[1] else self.responses[::-1]
        return Pair(self.prompt, first, second)

    @property
    def alpha_chosen(self) -> float | None:
        """The share of raters who prefer `pair.chosen`, where known; at least 1/2."""
        return None if self.alpha is None else max(self.alpha, 1 - self.alpha)


# Rows ---------------------------------------------------------------------------------------------


def from_scores(prompt: str, responses: Sequence[str], scores: Sequence[float]) -> Ranking:
    """The ranking in which a higher score is better and equal scores are tied."""
    distinct = sorted(set(scores), reverse=True)
    return Ranking(prompt, tuple(responses), tuple(distinct.index(score) for score in scores))


def from_pair(pair: Pair) -> Ranking:
    """The ranking of a pair; its votes, where it has any, decide alpha and with it the order."""
    if pair.votes is None:
        return Ranking(pair.prompt, (pair.chosen, pair.rejected), (0, 1))
    return from_alpha(pair.prompt, (pair.chosen, pair.rejected), pair.votes[0] / sum(pair.votes))


def from_alpha(prompt: str, responses: tuple[str, str], alpha: float) -> Ranking:
    """The ranking that the majority prefers (RA Definition 2.1); a tie at alpha = 1/2 (Definition C.1)."""
    return Ranking(prompt, responses, (0, 0) if alpha == 0.5 else (0, 1) if alpha > 0.5 else (1, 0), alpha)


def field(row: Row, name: str, kind: type | tuple[type, ...], where: str, number: int) -> Any:
    """A field of a row, of the kind that the schema says.

    Raises:
        PrefdynError: the row is no object; the field is missing or of another kind, NaN, or holds half a
            character.
    """
    if not isinstance(row, Mapping):
        raise PrefdynError(f"{where}, row {number}: {name!r} is looked for in a {type(row).__name__}")
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, kind):
        found = "missing" if name not in row else f"a {type(value).__name__}"
        kinds = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise PrefdynError(f"{where}, row {number}: the field {name!r} is {found}, it must be a {kinds}")
    if value != value:
        raise PrefdynError(f"{where}, row {number}: the field {name!r} is NaN, it must be a number")
    check_text(value, f"{where}, row {number}: the field {name!r}")
    return value


NUMBER = (int, float)


def chosen_rejected(rows: Iterable[tuple[int, Row]], where: str) -> Iterator[Ranking]:
    """Dahoas/synthetic-instruct-gptj-pairwise: prompt, chosen, rejected."""
    for number, row in rows:
        prompt, chosen, rejected = (
            field(row, name, str, where, number) for name in ("prompt", "chosen", "rejected")
        )
        yield Ranking(DIALOGUE.format(prompt=prompt), (spaced(chosen), spaced(rejected)), (0, 1))


def stack_exchange(rows: Iterable[tuple[int, Row]], where: str) -> Iterator[Ranking]:
    """HuggingFaceH4/stack-exchange-preferences: a question and its answers with scores made of votes.

    There are two or more, and ties occur.
    """
    for number, row in rows:
        answers = field(row, "answers", list, where, number)
        texts = [spaced(field(answer, "text", str, where, number)) for answer in answers]
        scores = [field(answer, "pm_score", NUMBER, where, number) for answer in answers]
        yield from_scores(DIALOGUE.format(prompt=field(row, "question", str, where, number)), texts, scores)


def ultrafeedback(rows: Iterable[tuple[int, Row]], where: str) -> Iterator[Ranking]:
    """openbmb/UltraFeedback: an instruction and four completions with GPT-4's overall scores; often tied."""
    for number, row in rows:
        completions = field(row, "completions", list, where, number)
        texts = [spaced(field(completion, "response", str, where, number)) for completion in completions]
        scores = [field(completion, "overall_score", NUMBER, where, number) for completion in completions]
        yield from_scores(
            DIALOGUE.format(prompt=field(row, "instruction", str, where, number)), texts, scores
        )


def shp(rows: Iterable[tuple[int, Row]], where: str) -> Iterator[Ranking]:
    """stanfordnlp/SHP: a post and two comments; the label is 1 where A is preferred."""
    for number, row in rows:
        label = field(row, "labels", int, where, number)
        if label not in (0, 1):
            raise PrefdynError(
                f"{where}, row {number}: the field 'labels' is {label}, "
                "it must be 1 (A is preferred) or 0 (B is)"
            )
        first, second = (spaced(field(row, f"human_ref_{which}", str, where, number)) for which in "AB")
        prompt = DIALOGUE.format(prompt=field(row, "history", str, where, number))
        yield Ranking(prompt, (first, second), (0, 1) if label else (1, 0))


def cross_annotations(rows: Iterable[tuple[int, Row]], where: str) -> Iterator[Ranking]:
    """tatsu-lab/alpaca_eval, human cross-annotations of AlpacaFarm: a row a rater.

    The rater prefers output 1 or 2, or neither.
    """
    votes: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for number, row in rows:
        triple = tuple(
            field(row, name, str, where, number) for name in ("instruction", "output_1", "output_2")
        )
        preference = field(row, "preference", NUMBER, where, number)
        votes[triple].append({1: 1.0, 2: 0.0}.get(preference, 0.5))
    for (instruction, first, second), shares in votes.items():
        alpha = sum(shares) / len(shares)
        yield from_alpha(DIALOGUE.format(prompt=instruction), (spaced(first), spaced(second)), alpha)


def pandalm(rows: Iterable[tuple[int, Row]], where: str) -> Iterator[Ranking]:
    """PandaLM's test set: an instruction, often with an input, two responses, and the votes of three people.

    A vote is 1 or 2 for a response, or 0 for alike, which counts half for either. The input follows the
    instruction after an empty line. Rows in which a response is no text (the publisher's file has "true" as a
    truth value in some) are skipped, and a warning says how many.
    """
    skipped = 0
    for number, row in rows:
        instruction, given = (field(row, name, str, where, number) for name in ("instruction", "input"))
        responses = [row.get(name) for name in ("response1", "response2")]
        if any(isinstance(response, bool) for response in responses):
            skipped += 1
            continue
        first, second = (spaced(field(row, f"response{which}", str, where, number)) for which in "12")
        votes = [field(row, f"annotator{which}", int, where, number) for which in "123"]
        if not set(votes) <= {0, 1, 2}:
            raise PrefdynError(
                f"{where}, row {number}: the votes are {votes}, each must be 1, 2 or 0 (alike)"
            )
        alpha = sum({0: 0.5, 1: 1.0, 2: 0.0}[vote] for vote in votes) / len(votes)
        prompt = f"{instruction}\n\n{given}" if given.strip() else instruction
        yield from_alpha(DIALOGUE.format(prompt=prompt), (first, second), alpha)
    if skipped:
        warnings.warn(f"{where}: {skipped} rows with a response that is no text, skipped", stacklevel=2)


def llmbar(rows: Iterable[tuple[int, Row]], where: str) -> Iterator[Ranking]:
    """LLMBar: an input and two outputs; the label, 1 or 2, is the one that does what the input asks."""
    for number, row in rows:
        label = field(row, "label", int, where, number)
        if label not in (1, 2):
            raise PrefdynError(f"{where}, row {number}: the field 'label' is {label}, it must be 1 or 2")
        first, second = (spaced(field(row, f"output_{which}", str, where, number)) for which in "12")
        prompt = DIALOGUE.format(prompt=field(row, "input", str, where, number))
        yield Ranking(prompt, (first, second), (0, 1) if label == 1 else (1, 0))


def spaced(response: str) -> str:
    """A response as it follows "Assistant:"."""
    return " " + response.strip()
