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
