"""Wrong labels on response pairs: what the tiny model is trained on, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from small_chapters import NOISE as SMALL

from prefdyn import data
from prefdyn.experiments import noise_pairs
from prefdyn.experiments.bench import Bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Bench("smoke", device="cpu", precision="float32")


def trained_by(patch: pytest.MonkeyPatch) -> list:
    """What the bench is asked to train from now on."""
    trained: list = []
    original = Bench.train_all

    def train_all(self: Bench, runs: list, *arguments: object) -> object:
        trained.extend(runs)
        return original(self, runs, *arguments)  # type: ignore[arg-type]

    patch.setattr(Bench, "train_all", train_all)
    return trained


def test_text_runs_share_tests_and_a_higher_rate_turns_more_of_the_same_labels(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = trained_by(monkeypatch)
    tables = noise_pairs.text_pairs(bench, SMALL)
    table, margins = tables["text_pairs"], tables["text_margins"]
    assert len(table) == len(trained) == 6 and len(margins) == 6 * 5
    tests = {data.fingerprint(phases[1].evaluate["test"]) for phases in trained}
    assert len(tests) == 1 and table["tested"].eq(5).all() and table["trained"].eq(4).all()
    for fine_tuning, preference in trained:
        assert fine_tuning.train == preference.train
        assert not set(fine_tuning.train) & set(preference.evaluate["test"])
        assert fine_tuning.settings.loss == "sft" and preference.settings.loss == "dpo"
        assert fine_tuning.settings.steps == 2 and preference.settings.steps == 4  # two epochs of DPO
        assert preference.evaluate_at == [4]
    for clean, noisy_run in zip(trained[::2], trained[1::2], strict=True):
        pairs = list(zip(clean[0].train, noisy_run[0].train, strict=True))
        assert all(other in (pair, pair.swapped()) for pair, other in pairs)
    assert table.query("rate == 0")["wrong labels"].eq(0).all()
    turned = [
        sum(a != b for a, b in zip(clean[0].train, wrong[0].train, strict=True))
        for clean, wrong in zip(trained[::2], trained[1::2], strict=True)
    ]
    assert table.query("rate == 0.5")["wrong labels"].tolist() == turned
    right = (margins.assign(right=margins["margin"] > 0)).groupby(["run", "rate"])["right"].mean()
    np.testing.assert_allclose(right, table.set_index(["run", "rate"])["accuracy"])


def test_pilot_trains_each_setting_without_noise_and_measures_every_epoch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = trained_by(monkeypatch)
    table = noise_pairs.text_pilot(bench, SMALL)
    assert table[["setting", "epoch"]].to_numpy().tolist() == [[1, 1], [1, 2], [4, 1], [4, 2]]
    people, judge = trained
    assert people[1].evaluate_at == judge[1].evaluate_at == [2, 4]
    assert all(len(pair.chosen) < len(pair.rejected) for pair in judge[0].train)
    assert not set(judge[0].train) & set(judge[1].evaluate["test"])
    whole = noise_pairs.text_pairs(bench, SMALL)["text_pairs"].query("run == 0 and rate == 0").iloc[0]
    assert table.iloc[1]["accuracy"] == whole["accuracy"]  # the same training, of the first run
    assert noise_pairs.text_pilot(bench, replace(SMALL, pilot=[0])).empty


def test_without_runs_tables_have_their_columns(bench: Bench) -> None:
    tables = noise_pairs.text_pairs(bench, replace(SMALL, text_runs=0))
    assert list(tables["text_margins"]) == ["run", "rate", "pair", "margin"]
    assert tables["text_pairs"].empty and "wrong labels" in tables["text_pairs"]
