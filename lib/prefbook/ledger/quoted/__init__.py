"""Numbers that are quoted beside the claims': a chapter's are functions of its tables, by the key to glue."""

from collections.abc import Callable, Collection, Mapping

from prefbook.ledger.quoted import across, distinguishability, generalization, noise, ranking
from prefbook.ledger.tables import Tables

QUOTED: Mapping[str, Mapping[str, Callable[[Tables], str]]] = {
    "distinguishability": distinguishability.QUOTED,
    "generalization": generalization.QUOTED,
    "noise": noise.QUOTED,
    "ranking": ranking.QUOTED,
    "across": across.QUOTED,
}
"""Numbers that a chapter's text quotes, as text, by chapter and glued key."""

OF_OTHER_MODELS: Mapping[str, Collection[str]] = {
    "distinguishability": (
        "beginnings by seed",
        "ends by seed",
        "falls of halves",
        "guaranteed",
        "more at first by seed",
        "right way",
        "text difference at one length",
        "undone among learned",
    ),
}
"""Of these numbers a chapter's text quotes those of other models' editions, too."""

ON_THE_SCOREBOARD: Mapping[str, Mapping[str, Callable[[Tables], str]]] = {
    "generalization": generalization.ON_THE_SCOREBOARD,
}
"""The same, of what the scoreboard alone quotes."""
