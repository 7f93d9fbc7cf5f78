"""The picture that README.md and shared links show is the one that the shipped tables draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from prefbook.figures import cover
from prefbook.publishing import repository

ROOT = Path(__file__).parents[3]


def test_saved_picture_is_what_the_tables_draw_today(tmp_path: Path) -> None:
    """But for one pixel in 5,000, for how another machine rounds; two digits of its title are more."""
    cover.save(ROOT, tmp_path / "now.png")
    now, saved = imread(tmp_path / "now.png"), imread(ROOT / cover.PICTURE)
    assert now.shape == saved.shape and now.std() > 0.1
    other = (np.abs(now - saved).max(axis=-1) > 0.1).mean()
    assert other < 2e-4, "stale: call `.venv/bin/python -m prefbook.figures.cover`, and look at it"


def test_readme_and_shared_links_show_that_picture() -> None:
    assert f"]({cover.PICTURE})" in (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## ")[0]
    assert f"book/{repository.PICTURE}" == cover.PICTURE
