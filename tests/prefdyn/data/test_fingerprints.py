"""Fingerprints: content and order count, and nothing else."""

from __future__ import annotations

import numpy as np
from published import make_persona

from prefdyn import data
from prefdyn.data import Pair, Persona


def test_fingerprint_tells_content_apart_and_nothing_else() -> None:
    persona, pair = make_persona(3, 4), Pair("p", "a", "b", (3, 2))
    same = Persona("made", tuple(persona.statements), persona.labels.astype(np.int64))
    assert data.fingerprint([persona, pair]) == data.fingerprint([same, Pair("p", "a", "b", (3, 2))])
    others = (
        [persona.opposite(), pair],
        [pair, persona],
        [persona, pair.swapped()],
        [persona, Pair("p", "a", "b")],
        [persona],
    )
    assert len({data.fingerprint(items) for items in ([persona, pair], *others)}) == 6
