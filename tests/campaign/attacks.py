"""An attack: what is done, and how long it may take."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from house import House


@dataclass(frozen=True)
class Attack:
    """One way to harm the project.

    Attributes:
        name: words for the table; `--only` takes a part of them.
        act: does it in a house, with chance from the generator; raises a Fault where the project does not
            survive, and Skipped where this machine cannot try.
        limit: seconds that one try may take.
        alone: it needs no undisturbed run.
        once: chance plays no part, so that it is not repeated.
    """

    name: str
    act: Callable[[House, random.Random], None]
    limit: int = 300
    alone: bool = False
    once: bool = False
