"""Files in the publishers' layout, as tests write them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from prefdyn.data import Persona

YES = {"statement": "I like rain", "answer_matching_behavior": " Yes"}
NO = {"statement": "I like sun", "answer_matching_behavior": " No"}
TURNS = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: Go"}


def lines(*rows: object) -> str:
    """JSON Lines; a row of text stands as it is."""
    return "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)


def write_persona(root: Path, content: str | bytes, name: str = "bad") -> Path:
    path = root / "anthropic-evals" / "persona" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_pairs(root: Path, content: bytes, name: str = "test.jsonl") -> Path:
    path = root / "hh-rlhf" / "some-base" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def make_persona(positive: int, negative: int) -> Persona:
    """A persona with so many statements of each label, mixed."""
    labels = np.array([1] * positive + [-1] * negative, dtype=np.int8)
    labels = np.random.default_rng(7).permutation(labels)
    return Persona("made", tuple(f"statement {i}" for i in range(len(labels))), labels)
