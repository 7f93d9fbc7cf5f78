"""One short hash for the content of any preferences, the same on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from prefdyn.data.pairs import Pair
from prefdyn.data.personas import Persona
from prefdyn.data.rankings import Ranking


def fingerprint(items: Iterable[Persona | Pair | Ranking]) -> str:
    """The hash of preferences in their order: 16 hexadecimal digits of SHA-256."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(_content(item), ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def _content(item: Persona | Pair | Ranking) -> list[Any]:
    if isinstance(item, Persona):
        return [item.name, list(item.statements), item.labels.tolist()]
    if isinstance(item, Pair):
        return [item.prompt, item.chosen, item.rejected, item.votes]
    return [item.prompt, item.responses, item.ranks, item.alpha]
