"""Claims that are said to be about drawn points alone: they can be judged where no model can be had."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from small_chapters import GENERALIZATION, NOISE

from prefbook.ledger.claims import load_claims
from prefbook.ledger.judging import judge_all
from prefbook.ledger.tables import Tables
from prefdyn.errors import PrefdynError
from prefdyn.experiments import noise_clouds, synthetic
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.provenance import Provenance, save_table

EXPERIMENTS = {
    "generalization": (GENERALIZATION, [synthetic.band, synthetic.risk]),
    "noise": (NOISE, [noise_clouds.controlled, noise_clouds.phase_map, noise_clouds.kinds_of_noise]),
}
OF = ("commit", "model_fingerprint", "data_fingerprint", "profile", "seeds", "precision")


@pytest.mark.parametrize("chapter", EXPERIMENTS)
def test_claims_without_a_model_need_none(
    chapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFDYN_CACHE", str(tmp_path / "cache"))
    bench = Bench(str(tmp_path / "no model"), device="cpu", precision="float32")
    with pytest.raises(PrefdynError):
        _ = bench.lm
    design, experiments = EXPERIMENTS[chapter]
    folder = tmp_path / chapter
    about = Provenance.of(device=bench.device, data="", model="", **dict.fromkeys(OF, ""), seconds=0.0)
    for experiment in experiments:
        found = experiment(bench, design)
        tables = {experiment.__name__: found} if isinstance(found, pd.DataFrame) else found
        for name, table in tables.items():
            save_table(table.assign(seed=0), folder / f"{name}.csv", about)
    free = [claim for claim in load_claims().values() if claim.model_free and claim.chapter == chapter]
    assert free and set(judge_all(free, Tables(folder), "")) == {claim.id for claim in free}
