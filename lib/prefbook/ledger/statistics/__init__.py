"""Statistics of the claims: a chapter's are functions of its tables, by the names in book/claims.yml."""

from collections.abc import Callable, Mapping

from prefbook.ledger.statistics import across, distinguishability, generalization, noise, ranking
from prefbook.ledger.tables import Tables
from prefdyn.measures.estimates import Estimate

STATISTICS: Mapping[str, Mapping[str, Callable[[Tables], Estimate]]] = {
    "distinguishability": distinguishability.STATISTICS,
    "generalization": generalization.STATISTICS,
    "noise": noise.STATISTICS,
    "ranking": ranking.STATISTICS,
    "across": across.STATISTICS,
}
"""By chapter and name."""

QUOTED: Mapping[str, Mapping[str, Callable[[Tables], str]]] = {
    "distinguishability": distinguishability.QUOTED,
    "generalization": generalization.QUOTED,
    "noise": noise.QUOTED,
    "ranking": ranking.QUOTED,
    "across": across.QUOTED,
}
"""Numbers that a chapter's text quotes beside its claims', as text, by chapter and glued key."""

ON_THE_SCOREBOARD: Mapping[str, Mapping[str, Callable[[Tables], str]]] = {
    "generalization": generalization.ON_THE_SCOREBOARD,
}
"""The same, of what the scoreboard alone quotes."""
