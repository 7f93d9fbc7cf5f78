"""What a design asks of the data and of itself, seen before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from prefdyn import data
from prefdyn.data import Source
from prefdyn.errors import PrefdynError


class OfPersonas(Protocol):
    """A design of a chapter that measures personas; 0 is all, in both."""

    @property
    def personas(self) -> int: ...
    @property
    def statements_per_label(self) -> int: ...


def evenly(names: Sequence[str], count: int) -> list[str]:
    """`count` of the names, evenly spaced in their order; all where there are fewer, or where it is 0."""
    if not 0 < count < len(names):
        return list(names)
    return [names[i] for i in np.linspace(0, len(names) - 1, count).round().astype(int)]


def personas(design: OfPersonas, source: Source, fewest: int, each: int) -> dict[str, int]:
    """The names of the personas that take part, and how many statements of either label the design takes.

    Of the hub's only the first three are read; the others are taken to be as they are.

    Raises:
        PrefdynError: there are fewer than `fewest` of them, or one has fewer than `each` statements of a
            label.
    """
    known = data.persona_names(source)
    names = evenly(known, design.personas)
    if len(names) < fewest:
        raise PrefdynError(
            f"personas is {design.personas}, and the data has {len(known)}: the chapter needs at least "
            f"{fewest}"
        )
    wanted = design.statements_per_label
    if 0 < wanted < each:
        raise PrefdynError(f"statements_per_label is {wanted}: it must be 0 (all) or at least {each}")
    read = names[:3] if source == "hub" else names
    labels = {name: data.load_persona(name, source).labels for name in read}
    counts = {name: int(min((of > 0).sum(), (of < 0).sum())) for name, of in labels.items()}
    for name, count in counts.items():
        if count < each:
            raise PrefdynError(
                f"the persona {name!r} has {count} statements of a label: the chapter needs at least {each}"
            )
    most = max(counts.values())
    return {name: min(counts.get(name, most), wanted or most) for name in names}


def pairs(source: Source, fewest: int = 1) -> None:
    """See that a source has response pairs enough.

    Raises:
        PrefdynError: there are fewer than `fewest`.
    """
    count = len(data.load_pairs(source))
    if count < fewest:
        raise PrefdynError(f"the data has {count} response pairs: the chapter needs at least {fewest}")


def distinct(name: str, values: Iterable[float]) -> None:
    """See that no value of a list is there twice.

    Raises:
        PrefdynError: one is.
    """
    seen = list(values)
    if len(set(seen)) < len(seen):
        raise PrefdynError(f"{name} is {seen}: each value must be there once")
