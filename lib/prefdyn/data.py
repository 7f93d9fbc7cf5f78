"""Preferences: persona statements and response pairs, from the embedded sample, a folder in the publishers' layout, or the hub."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prefdyn.errors import PrefdynError

SAMPLE = Path(__file__).parent / "samples"
PERSONA_FOLDER = Path("anthropic-evals") / "persona"
PAIRS_FOLDER = Path("hh-rlhf")
PERSONAS_ON_HUB = "Anthropic/model-written-evals"
PAIRS_ON_HUB = "Anthropic/hh-rlhf"
TEMPLATE = 'Is the following statement something you would say?\n"{statement}"'

Source = Literal["sample", "hub"] | str | Path
"""Where data comes from: "sample", "hub", or a folder in the publishers' layout."""


@dataclass(frozen=True)
class Persona:
    """The statements of one persona.

    Attributes:
        name: as in the file name.
        statements: n statements; the question asked about each is `TEMPLATE`.
        labels: shape (n,), +1 where the persona would say it (answer Yes), -1 where not.
    """

    name: str
    statements: tuple[str, ...]
    labels: NDArray[np.int8]

    @property
    def questions(self) -> list[str]:
        return [TEMPLATE.format(statement=statement) for statement in self.statements]

    def subset(self, index: NDArray[np.integer]) -> Persona:
        return Persona(self.name, tuple(self.statements[i] for i in index), self.labels[index])

    def flipped(self) -> Persona:
        """The same statements with every label turned round."""
        return Persona(self.name, self.statements, -self.labels)

    def balanced(self, per_label: int) -> Persona:
        """The first `per_label` statements of each label, in the file's order; all where there are fewer."""
        keep = np.concatenate([np.flatnonzero(self.labels == sign)[:per_label] for sign in (1, -1)])
        return self.subset(np.sort(keep))


@dataclass(frozen=True)
class Pair:
    """A prompt with a preferred and a less preferred response.

    Attributes:
        votes: raters who preferred each response (chosen, rejected), where known.
    """

    prompt: str
    chosen: str
    rejected: str
    votes: tuple[int, int] | None = None

    def flipped(self) -> Pair:
        return Pair(self.prompt, self.rejected, self.chosen, self.votes and (self.votes[1], self.votes[0]))


# Reading ----------------------------------------------------------------------------------------------------------------------


def read_jsonl(path: Path, fields: Mapping[str, type]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers (from 1) and objects of a JSON Lines file, plain or gzipped, each with the named fields of the named types.

    Raises:
        PrefdynError: the file is missing, empty or damaged, or a line is no such object; the message names file, line and field.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    empty = True
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                empty = False
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise PrefdynError(f"{path}, line {number}: not valid JSON ({error.msg} at column {error.colno})") from error
                if not isinstance(row, dict):
                    raise PrefdynError(f"{path}, line {number}: expected a JSON object with {', '.join(fields)}")
                for field, kind in fields.items():
                    if field not in row:
                        raise PrefdynError(f"{path}, line {number}: the field {field!r} is missing")
                    if not isinstance(row[field], kind):
                        found = type(row[field]).__name__
                        raise PrefdynError(f"{path}, line {number}: the field {field!r} is a {found}, it must be a {kind.__name__}")
                yield number, row
    except FileNotFoundError as error:
        raise PrefdynError(f"{path}: no such file") from error
    except (gzip.BadGzipFile, zlib.error, EOFError, UnicodeDecodeError) as error:
        raise PrefdynError(f"{path}: the file is damaged after line {number} ({error}): fetch it again") from error
    if empty:
        raise PrefdynError(f"{path}: the file is empty")


@contextmanager
def from_hub(repository: str) -> Iterator[None]:
    """One sentence for whatever the hub's clients raise: each has errors of its own, and its HTTP library's besides."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PrefdynError(f"{repository} cannot be fetched from the hub ({reason}): check the network, or give --data a folder") from error


def _folder(source: Source, inside: Path) -> Path:
    root = SAMPLE if source == "sample" else Path(source).expanduser()
    folder = root / inside
    if not folder.is_dir():
        raise PrefdynError(f"{root}: no folder {inside}/ there; --data takes 'sample', 'hub' or a folder that holds one")
    return folder


_PERSONA_FIELDS = {"statement": str, "answer_matching_behavior": str}


def _persona(name: str, rows: Iterable[tuple[int, Mapping[str, Any]]], where: str) -> Persona:
    statements, labels = [], []
    for number, row in rows:
        answer = row["answer_matching_behavior"].strip()
        if answer not in ("Yes", "No"):
            field = "answer_matching_behavior"
            raise PrefdynError(f"{where}, line {number}: the field {field!r} is {answer!r}, it must be ' Yes' or ' No'")
        statements.append(row["statement"])
        labels.append(1 if answer == "Yes" else -1)
    persona = Persona(name, tuple(statements), np.array(labels, dtype=np.int8))
    if len(set(labels)) < 2:
        raise PrefdynError(f"{where}: the persona {name!r} needs statements of both labels")
    return persona


def persona_names(source: Source = "sample") -> list[str]:
    """Names of all personas of a source, sorted.

    Raises:
        PrefdynError: the folder is missing or holds none.
    """
    if source == "hub":
        from huggingface_hub import list_repo_files

        with from_hub(PERSONAS_ON_HUB):
            files = [Path(name) for name in list_repo_files(PERSONAS_ON_HUB, repo_type="dataset")]
        return sorted(name.stem for name in files if name.parts[0] == "persona" and name.suffix == ".jsonl")
    folder = _folder(source, PERSONA_FOLDER)
    names = sorted(path.stem for path in folder.glob("*.jsonl"))
    if not names:
        raise PrefdynError(f"{folder}: no persona there (files NAME.jsonl)")
    return names


def load_persona(name: str, source: Source = "sample") -> Persona:
    """One persona.

    Raises:
        PrefdynError: unknown name (the nearest ones are named), or a malformed file.
    """
    known = persona_names(source)
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known[:3]
        raise PrefdynError(f"there is no persona {name!r} in {source}: did you mean {', '.join(near)}? ({len(known)} in all)")
    if source == "hub":
        from datasets import load_dataset

        with from_hub(PERSONAS_ON_HUB):
            rows = load_dataset(PERSONAS_ON_HUB, data_files=f"persona/{name}.jsonl", split="train")
        return _persona(name, enumerate(rows, start=1), f"{PERSONAS_ON_HUB}/persona/{name}.jsonl")
    path = _folder(source, PERSONA_FOLDER) / f"{name}.jsonl"
    return _persona(name, read_jsonl(path, _PERSONA_FIELDS), str(path))


def split_dialogues(chosen: str, rejected: str) -> Pair | None:
    """A pair from two whole dialogues of HH-RLHF: the response follows the last "Assistant:", the prompt precedes it.

    None where the two prompts differ: such a pair compares no two answers to one question.
    """
    turn = "\n\nAssistant:"
    prompt, found, response = chosen.rpartition(turn)
    other_prompt, _, other_response = rejected.rpartition(turn)
    if not found or prompt != other_prompt:
        return None
    return Pair(prompt + turn, response, other_response)


def load_pairs(source: Source = "sample", split: str = "test") -> list[Pair]:
    """All pairs of HH-RLHF's subsets that the source holds; those whose prompts differ are dropped.

    Raises:
        PrefdynError: a missing folder or a malformed file.
    """
    if source == "hub":
        from datasets import load_dataset

        with from_hub(PAIRS_ON_HUB):
            rows: Iterable[tuple[int, Mapping[str, Any]]] = enumerate(load_dataset(PAIRS_ON_HUB, split=split), start=1)
        return list(_pairs(rows, f"{PAIRS_ON_HUB}, {split}"))
    folder = _folder(source, PAIRS_FOLDER)
    paths = sorted(folder.glob(f"*/{split}.jsonl*"))
    if not paths:
        raise PrefdynError(f"{folder}: no file SUBSET/{split}.jsonl or .jsonl.gz there")
    return [pair for path in paths for pair in _pairs(read_jsonl(path, {"chosen": str, "rejected": str}), str(path))]


def _pairs(rows: Iterable[tuple[int, Mapping[str, Any]]], where: str) -> Iterator[Pair]:
    for number, row in rows:
        pair = split_dialogues(row["chosen"], row["rejected"])
        if pair is None:
            continue
        votes = None
        if "votes_chosen" in row or "votes_rejected" in row:
            votes = (_votes(row, "votes_chosen", where, number), _votes(row, "votes_rejected", where, number))
        yield Pair(pair.prompt, pair.chosen, pair.rejected, votes)


def _votes(row: Mapping[str, Any], field: str, where: str, number: int) -> int:
    votes = row.get(field)
    if not isinstance(votes, int) or votes < 0:
        raise PrefdynError(f"{where}, line {number}: the field {field!r} is {votes!r}, it must be a number of raters")
    return votes


# Using ------------------------------------------------------------------------------------------------------------------------


def split_indices(persona: Persona, seed: int, test_fraction: float = 0.1) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Indices of train and test statements, shuffled by seed; each label keeps its share in both.

    Raises:
        PrefdynError: a label has too few statements for both parts.
    """
    rng = np.random.default_rng(seed)
    train, test = [], []
    for sign in (1, -1):
        index = rng.permutation(np.flatnonzero(persona.labels == sign))
        held_out = max(1, round(test_fraction * len(index)))
        if held_out >= len(index):
            raise PrefdynError(f"the persona {persona.name!r} has too few statements to hold out {test_fraction:.0%} of each label")
        test.append(index[:held_out])
        train.append(index[held_out:])
    return rng.permutation(np.concatenate(train)), rng.permutation(np.concatenate(test))


def split(persona: Persona, seed: int, test_fraction: float = 0.1) -> tuple[Persona, Persona]:
    """Train and test statements; see `split_indices`."""
    train, test = split_indices(persona, seed, test_fraction)
    return persona.subset(train), persona.subset(test)


def flip_labels(labels: NDArray[np.int8], rate: float, seed: int) -> NDArray[np.int8]:
    """Labels of which each is flipped with probability `rate`, independently; a larger rate flips a superset (NZ Section 2)."""
    uniform = np.random.default_rng(seed).random(len(labels))
    return np.where(uniform < rate, -labels, labels).astype(np.int8)


def simulate_votes(quality_chosen: float, quality_rejected: float, raters: int, rng: np.random.Generator) -> tuple[int, int]:
    """Votes of raters who each prefer `chosen` with the Bradley-Terry probability sigmoid(quality difference)."""
    for_chosen = int(rng.binomial(raters, 1 / (1 + np.exp(quality_rejected - quality_chosen))))
    return for_chosen, raters - for_chosen


def fingerprint(items: Iterable[Persona | Pair]) -> str:
    """A short hash of the content of the data, the same on every machine."""
    digest = hashlib.sha256()
    for item in items:
        if isinstance(item, Persona):
            content: list[Any] = [item.name, list(item.statements), item.labels.tolist()]
        else:
            content = [item.prompt, item.chosen, item.rejected, item.votes]
        digest.update(json.dumps(content, ensure_ascii=False).encode())
    return digest.hexdigest()[:16]
