"""Response pairs: a prompt with a chosen and a rejected response, read from the dialogues of HH-RLHF."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefdyn.data.sources import Source, check_length, folder_of, from_hub, read_jsonl
from prefdyn.errors import PrefdynError, extra

PAIRS_FOLDER = Path("hh-rlhf")
PAIRS_ON_HUB = "Anthropic/hh-rlhf"
LONGEST = 50_000
"""Characters of a dialogue, at most: prompts that a model answers are not cut."""


@dataclass(frozen=True)
class Pair:
    """A prompt with a preferred and a less preferred response.

    Attributes:
        prompt: with whatever stands between it and a response, such as "\\n\\nAssistant:".
        chosen, rejected: the responses, from their first space on.
        votes: raters who preferred each response (chosen, rejected), where known; one or more in all.
    """

    prompt: str
    chosen: str
    rejected: str
    votes: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.votes is not None and not sum(self.votes):
            raise PrefdynError(
                "a pair has the votes 0 and 0: leave them out, or give those of one rater or more"
            )

    @property
    def characters(self) -> int:
        """Of the prompt and both responses."""
        return len(self.prompt) + len(self.chosen) + len(self.rejected)

    def swapped(self) -> Pair:
        """The same pair with the other response preferred."""
        return Pair(self.prompt, self.rejected, self.chosen, self.votes and (self.votes[1], self.votes[0]))


TURN = "\n\nAssistant:"
"""After the last of these in a dialogue stands the response."""


def split_dialogues(chosen: str, rejected: str) -> Pair | None:
    """A pair from two whole dialogues of HH-RLHF.

    The response follows the last "Assistant:", the prompt precedes it. None where the two prompts differ:
    such a pair compares no two answers to one question.

    Args:
        chosen, rejected: "\\n\\nHuman: ...\\n\\nAssistant: ...", any number of turns.
    """
    prompt, found, response = chosen.rpartition(TURN)
    other_prompt, _, other_response = rejected.rpartition(TURN)
    if not found or prompt != other_prompt:
        return None
    return Pair(prompt + TURN, response, other_response)


def load_pairs(source: Source = "sample", split: str = "test") -> list[Pair]:
    """All pairs of HH-RLHF's subsets that the source holds; those whose prompts differ are dropped.

    Args:
        source: "sample", "hub", or a folder that holds hh-rlhf/SUBSET/SPLIT.jsonl or .jsonl.gz; of a subset
            that has both, the plain file is read.

    Raises:
        PrefdynError: a missing folder or a malformed file.
    """
    if source == "hub":
        with extra("hub"):
            from datasets import load_dataset
        with from_hub(PAIRS_ON_HUB):
            rows: Iterable[tuple[int, Mapping[str, Any]]] = enumerate(
                load_dataset(PAIRS_ON_HUB, split=split), start=1
            )
        return list(_pairs(rows, f"{PAIRS_ON_HUB}, {split}"))
    folder = folder_of(source, PAIRS_FOLDER)
    plain = {path.parent: path for path in folder.glob(f"*/{split}.jsonl")}
    packed = {path.parent: path for path in folder.glob(f"*/{split}.jsonl.gz")}
    paths = sorted((packed | plain).values())
    if not paths:
        raise PrefdynError(f"{folder}: no file SUBSET/{split}.jsonl or .jsonl.gz there")
    found = []
    for path in paths:
        rows = list(read_jsonl(path, {"chosen": str, "rejected": str}))
        pairs = list(_pairs(rows, str(path)))
        if rows and not pairs:
            raise PrefdynError(
                f"{path}: no line is a pair: both texts are dialogues with the same prompt, up to the last "
                f"{TURN.strip()!r}, and a response after it"
            )
        found += pairs
    return found


def _pairs(rows: Iterable[tuple[int, Mapping[str, Any]]], where: str) -> Iterator[Pair]:
    for number, row in rows:
        for field in ("chosen", "rejected"):
            check_length(row[field], LONGEST, f"{where}, line {number}: the field {field!r}")
        pair = split_dialogues(row["chosen"], row["rejected"])
        if pair is None:
            continue
        votes = None
        if "votes_chosen" in row or "votes_rejected" in row:
            votes = (_votes(row, "votes_chosen", where, number), _votes(row, "votes_rejected", where, number))
        try:
            yield replace(pair, votes=votes)
        except PrefdynError as error:
            raise PrefdynError(f"{where}, line {number}: {error}") from error


def _votes(row: Mapping[str, Any], field: str, where: str, number: int) -> int:
    votes = row.get(field)
    if type(votes) is not int or votes < 0:
        raise PrefdynError(
            f"{where}, line {number}: the field {field!r} is {votes!r}, it must be a number of raters"
        )
    return votes
