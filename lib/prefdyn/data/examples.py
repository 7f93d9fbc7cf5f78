"""Prompts with ranked responses before they have a form: of a named data set, of RewardBench, or of one's
own file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefdyn.data import datasets, prompts
from prefdyn.data.prompts import Template, Turn
from prefdyn.data.rankings import Ranking
from prefdyn.data.sources import Source, check_text, from_hub, read_jsonl
from prefdyn.errors import PrefdynError, extra, first_line
from prefdyn.files import at_home

REWARD_BENCH = {
    "reward-bench": ("allenai/reward-bench", "filtered"),
    "reward-bench-2": ("allenai/reward-bench-2", "test"),
}
"""RewardBench's data sets: repository on the hub, and the split that its authors score."""
NAMES = {**datasets.NAMES, "reward-bench": "RewardBench", "reward-bench-2": "RewardBench 2"}
"""Every data set that `load` knows by name, with its title."""
DIALOGUES = ("sample", "hh-rlhf")
"""Data sets whose publishers wrote prompts as dialogues."""
ROLES = ("system", "user", "assistant")
FILES = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True)
class Example:
    """A question with at least two responses and their order.

    Attributes:
        turns: what was said before the responses; the last turn is the user's.
        responses: as the publisher has them.
        ranks: of each response, 0 for the best; equal ranks are a tie.
        dialogue: the whole prompt where its publisher wrote it as a dialogue; "" elsewhere.
        subset: the part of the data set that it belongs to; "" where there are none.
        id: of the row, where it has one.
    """

    turns: tuple[Turn, ...]
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    dialogue: str = ""
    subset: str = ""
    id: str = ""

    def put(self, template: Template, tokenizer: Any = None) -> Ranking:
        """As a model is given it; see `prompts.put`."""
        prompt, responses = prompts.put(self.turns, self.dialogue, self.responses, template, tokenizer)
        return Ranking(prompt, responses, self.ranks)


def is_file(name: str) -> bool:
    """Whether the name of a data set is one's own file."""
    return name.endswith(FILES)


def load(name: str, source: Source = "hub", limit: int = 0, seed: int = 0) -> list[Example]:
    """A data set's examples, or `limit` of them drawn by the seed (0: all, in their order).

    Args:
        name: one of `NAMES`, with a split after a colon where it is not the default one, or a file of
            examples in lines of JSON (see `example`), plain or gzipped.
        source: of a named one: "hub", or a folder in the publishers' layout.

    Raises:
        PrefdynError: an unknown name or split, data that is not there, or a row that is not of its schema.
    """
    if is_file(name):
        path = at_home(name)
        found = [example(row, f"{path}, line {i}") for i, row in read_jsonl(path, {"prompt": object})]
        return _drawn(found, limit, seed)
    bare, _, split = name.partition(":")
    if bare in REWARD_BENCH:
        return _drawn(list(_reward_bench(bare, source, split)), limit, seed)
    if bare not in NAMES:
        raise PrefdynError(
            f"there is no data set {bare!r}: choose from {', '.join(NAMES)}, or give a file {FILES[0]}"
        )
    return [_of(ranking, bare in DIALOGUES) for ranking in datasets.load(name, source, limit, seed)]


def form(found: Sequence[Example], template: Template) -> str:
    """In words, how the prompts of a data set are put."""
    if template == "chat":
        return "prompts are in each model's chat template"
    dialogues = sum(bool(one.dialogue) for one in found)
    if found and dialogues == len(found):
        return "prompts are dialogues as published"
    shown = "\\n\\nHuman: QUESTION\\n\\nAssistant:"
    put = {
        "none": "prompts are the bare questions, and responses follow as they stand",
        "dialogue": f'questions have no form of their own and are put as "{shown}"',
    }[template]
    return f"{put}; {dialogues} prompts are dialogues as published" if dialogues else put


def _drawn(found: list[Example], limit: int, seed: int) -> list[Example]:
    if 0 < limit < len(found):
        return [found[i] for i in np.random.default_rng(seed).permutation(len(found))[:limit]]
    return found


def _of(ranking: Ranking, is_dialogue: bool) -> Example:
    prompt = ranking.prompt
    if is_dialogue:
        return Example(prompts.turns_of(prompt), ranking.responses, ranking.ranks, prompt)
    return Example((("user", prompts.question_of(prompt)),), ranking.responses, ranking.ranks)


def _reward_bench(name: str, source: Source, split: str) -> Iterator[Example]:
    repository, usual = REWARD_BENCH[name]
    with extra("hub"):
        import datasets as hub
    split = split or usual
    if source == "sample":
        raise PrefdynError(f"the embedded sample holds no {NAMES[name]}: give --source hub or a folder")
    if source == "hub":
        with from_hub(repository):
            rows: Iterable[Mapping[str, Any]] = hub.load_dataset(repository, split=split)
        where = f"{repository}, {split}"
    else:
        folder = at_home(source) / name
        where = f"{folder}, {split}"
        if not folder.is_dir():
            raise PrefdynError(f"{folder}: not there; it must hold the files of the hub's {repository}")
        try:
            rows = hub.load_dataset(str(folder), split=split)
        except Exception as error:  # each builder raises errors of its own
            raise PrefdynError(
                f"{folder}: `datasets` cannot read the split {split!r} there ({first_line(error)})"
            ) from error
    yield from (example(row, f"{where}, row {number}") for number, row in enumerate(rows, start=1))


# Rows ---------------------------------------------------------------------------------------------


def example(row: Mapping[str, Any], where: str) -> Example:
    """A row of one's own file, or of RewardBench.

    - `prompt`: a text, or a list of messages with `role` and `content`, of which the last is the user's. A
      text that begins with `\\n\\nHuman:` and ends with `\\n\\nAssistant:` is a dialogue, any other is a
      question.
    - either `chosen` and `rejected`: a text, a list of texts, or a list of messages, of which the last is
      the response, the assistant's;
    - or `responses`, a list of texts, and `ranks`, a whole number for each, 0 for the best; equal ranks are
      a tie.
    - `subset` and `id`, which may be left out. RewardBench 2's ties are of the subset "Ties", with ids such
      as "ref:0" and "tied:0".

    Raises:
        PrefdynError: it is none of these; the message names the row and the field.
    """
    dialogue = ""
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        check_text(prompt, f"{where}: the field 'prompt'")
        if not prompt.strip():
            raise PrefdynError(f"{where}: the field 'prompt' is empty")
        is_dialogue = prompts.is_dialogue(prompt)
        dialogue = prompt if is_dialogue else ""
        turns = prompts.turns_of(prompt) if is_dialogue else (("user", prompt),)
    else:
        turns = _messages(prompt, where, "prompt", "user")
    if "responses" in row:
        responses, ranks = _ranked(row, where)
    else:
        chosen, rejected = (_responses(row.get(name), where, name) for name in ("chosen", "rejected"))
        responses, ranks = (*chosen, *rejected), (0,) * len(chosen) + (1,) * len(rejected)
    subset, number = (row.get(name) for name in ("subset", "id"))
    about = (str(subset or ""), "" if number is None else str(number))
    for name, text in zip(("subset", "id"), about, strict=True):
        check_text(text, f"{where}: the field {name!r}")
    return Example(turns, responses, ranks, dialogue, *about)


def is_ties(some: Iterable[Example]) -> bool:
    """Whether examples are RewardBench 2's ties, whose ids pair a reference with a tied question."""
    return all(re.fullmatch(r"(ref|tied):\w+", one.id) for one in some)


def _messages(value: Any, where: str, name: str, last: str) -> tuple[Turn, ...]:
    """Messages of which the last is of a role."""
    wanted = "it must be a text or a list of messages, each with a role and a content"
    if not isinstance(value, list) or not value:
        found = "missing" if value is None else f"a {type(value).__name__}" if value != [] else "empty"
        raise PrefdynError(f"{where}: the field {name!r} is {found}, {wanted}")
    for message in value:
        if (
            not isinstance(message, Mapping)
            or message.get("role") not in ROLES
            or not isinstance(message.get("content"), str)
        ):
            raise PrefdynError(
                f"{where}: the field {name!r} holds what is no message: each has a role "
                f"({', '.join(ROLES)}) and a content, a text"
            )
        check_text(message["content"], f"{where}: the field {name!r}")
    if value[-1]["role"] != last:
        raise PrefdynError(
            f"{where}: the last message of the field {name!r} is of the {value[-1]['role']}, it must be of "
            f"the {last}"
        )
    if not value[-1]["content"].strip():
        raise PrefdynError(f"{where}: the last message of the field {name!r} is empty")
    return tuple((message["role"], message["content"]) for message in value)


def _responses(value: Any, where: str, name: str) -> tuple[str, ...]:
    """One response of a text or of messages, or those of a list of texts."""
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        value = _messages(value, where, name, "assistant")[-1][1]
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        found = "missing" if value is None else f"a {type(value).__name__}" if value != [] else "empty"
        raise PrefdynError(
            f"{where}: the field {name!r} is {found}, it must be a text, or a list of texts or messages"
        )
    for text in texts:
        check_text(text, f"{where}: the field {name!r}")
        if not text.strip():
            raise PrefdynError(f"{where}: a response in the field {name!r} is empty")
    return tuple(texts)


def _ranked(row: Mapping[str, Any], where: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    responses = _responses(row["responses"], where, "responses")
    ranks = row.get("ranks")
    if (
        not isinstance(ranks, list)
        or len(ranks) != len(responses)
        or len(ranks) < 2
        or any(type(rank) is not int or rank < 0 for rank in ranks)
    ):
        raise PrefdynError(
            f"{where}: the field 'ranks' must hold a whole number for each of at least two responses, 0 for "
            "the best"
        )
    distinct = sorted(set(ranks))
    return responses, tuple(distinct.index(rank) for rank in ranks)
