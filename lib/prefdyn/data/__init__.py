"""Preferences: personas and their statements, response pairs, rankings of responses; and where they come
from.
"""

from prefdyn.data.fingerprints import fingerprint
from prefdyn.data.noise import mislabel, simulate_votes
from prefdyn.data.pairs import Pair, load_pairs, split_dialogues
from prefdyn.data.personas import TEMPLATE, Persona, load_persona, persona_names, split, split_indices
from prefdyn.data.rankings import Ranking
from prefdyn.data.sources import SAMPLE, Source

__all__ = [
    "SAMPLE",
    "TEMPLATE",
    "Pair",
    "Persona",
    "Ranking",
    "Source",
    "fingerprint",
    "load_pairs",
    "load_persona",
    "mislabel",
    "persona_names",
    "simulate_votes",
    "split",
    "split_dialogues",
    "split_indices",
]
