"""The page on one's own research: its blocks run one after another as they stand, on the toy model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rounding

from prefdyn.engine.training import RECORD
from prefdyn.models import loading

PAGE = Path(__file__).parents[2] / "book" / "research.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the blocks leave behind."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.count('model = "default"') == 1
    blocks = BLOCK.findall(text.replace('model = "default"', 'model = "smoke"'))
    assert len(blocks) == 9
    scope: dict[str, Any] = {}
    folder = tmp_path_factory.mktemp("research")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), scope)
    assert [path.name for path in folder.iterdir()] == ["cache"]
    return scope


def test_statements_have_a_distance_and_what_chance_would_give(names: dict[str, Any]) -> None:
    assert names["states"].shape == (8, 32)
    difference = names["states"][:4].mean(axis=0) - names["states"][4:].mean(axis=0)
    allowed = rounding.rounding(1, 8) * np.abs(names["states"]).max() * np.sqrt(32)  # of 32 means of float32
    assert names["moments"].distinguishability == pytest.approx(np.linalg.norm(difference), abs=allowed)
    assert names["moments"].distinguishability_of_chance > 0


def test_training_leaves_records_and_the_model_as_it_was(names: dict[str, Any]) -> None:
    record: pd.DataFrame = names["record"]
    assert list(record.columns) == RECORD
    assert set(record["split"]) == {"train", "held out"}
    first = record[(record["step"] == 0) & (record["split"] == "train")]
    # A pair here has fewer tokens than 100.
    allowed = rounding.of_log_probs(loading.load("smoke", device="cpu").model, tokens=100)
    assert first["loss"].item() == pytest.approx(np.log(2), abs=2 * 0.1 * allowed)
    after = record.query("split == 'train' and step == 7")
    assert after["loss"].item() < first["loss"].item()
    # The adapters and the other losses start where the first training did: from the model as it was loaded.
    for other in (names["by_adapter"], *names["records"].values(), names["mine"]):
        start = other.query("split == 'train' and step == 0")
        assert start["logp_chosen"].item() == pytest.approx(first["logp_chosen"].item(), abs=allowed)


def test_scores_are_of_each_response(names: dict[str, Any]) -> None:
    assert names["ours"].shape == (3, 2) and (names["ours"] < 0).all(axis=None)


def test_a_loss_of_ones_own_trains(names: dict[str, Any]) -> None:
    mine = names["mine"].query("split == 'train'")
    assert mine["loss"].iloc[0] == pytest.approx(1.0) and mine["loss"].iloc[-1] < 1
    assert names["run"].record["loss"].iloc[-1] < 1


def test_results_are_kept(names: dict[str, Any]) -> None:
    assert set(names["result"].record["step"]) >= {0, 8}


def test_every_term_and_page_that_it_names_is_there() -> None:
    """As the site's build would find, in a minute."""
    text = PAGE.read_text(encoding="utf-8")
    for target in re.findall(r"\{doc\}`(?:[^`<]*<)?([^`>]+)>?`", text):
        assert Path(PAGE.parent, f"{target}.md").is_file(), target
