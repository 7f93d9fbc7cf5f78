"""What chapter 3's design asks of the data."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_chapters import NOISE as SMALL

from prefdyn import data
from prefdyn.errors import PrefdynError
from prefdyn.experiments import noise


def test_long_pairs_are_left_out_and_too_few_are_said() -> None:
    pairs = data.load_pairs("sample")
    lengths = sorted(len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs)
    short = noise.short_pairs(pairs, replace(SMALL, text_longest=lengths[3]))
    assert 4 <= len(short) < len(pairs)
    with pytest.raises(PrefdynError, match=r"response pairs of at most \d+ characters: the chapter needs"):
        noise.check_design(replace(SMALL, text_longest=lengths[1]), "sample")
    with pytest.raises(PrefdynError, match="text_runs is 2"):
        replace(SMALL, text_runs=2)
