"""What the claims of the chapter `generalization` are judged by, and the other numbers that it quotes."""

from __future__ import annotations

from collections.abc import Callable

from prefbook.ledger.tables import Tables
from prefdyn.measures.estimates import Estimate

STATISTICS: dict[str, Callable[[Tables], Estimate]] = {}

QUOTED: dict[str, Callable[[Tables], str]] = {}
