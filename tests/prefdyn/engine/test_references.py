"""The reference as a table: TRL's own measurement of the same texts, and a training that reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rounding
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from prefdyn import data
from prefdyn.data import Pair
from prefdyn.engine import objectives
from prefdyn.engine.likelihood import tokenize_pairs
from prefdyn.engine.references import REFERENCE_COLUMNS, reference_of, reference_table
from prefdyn.engine.training import Settings, fine_tune
from prefdyn.engine.weights import restoring
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel

pytestmark = pytest.mark.filterwarnings("ignore")  # deprecations between TRL and transformers

NUMBERS = REFERENCE_COLUMNS[3:]
SETTINGS = Settings(learning_rate=1e-3, steps=2, batch_size=4, beta=0.5)


def pairs_of(source: str = "sample") -> list[Pair]:
    return [replace(pair, votes=None) for pair in data.load_pairs(source)[:4]]


def trainer(lm: LanguageModel, table: pd.DataFrame, folder: Path, kind: type[DPOTrainer]) -> DPOTrainer:
    config = DPOConfig(
        output_dir=str(folder),
        beta=SETTINGS.beta,
        precompute_ref_log_probs=True,
        per_device_train_batch_size=4,
        max_steps=1,
        max_length=None,
        logging_steps=1,
        bf16=False,
        use_cpu=True,
        report_to="none",
        gradient_checkpointing=False,
    )
    lm.model.requires_grad_(True)
    rows = Dataset.from_pandas(table, preserve_index=False)
    return kind(model=lm.model, args=config, train_dataset=rows, processing_class=lm.tokenizer)


class Reader(DPOTrainer):
    """Takes the columns as they come, where TRL would measure them."""

    def _precompute_ref_logps(self, dataset: Dataset, *_: object) -> Dataset:
        return dataset


def allowed(lm: LanguageModel) -> float:
    return rounding.of_log_probs(lm.model, 400, 1000)


def test_table_holds_what_trl_measures_and_trl_reads_it(fresh_smoke: LanguageModel, tmp_path: Path) -> None:
    lm = fresh_smoke
    table = reference_table(lm, pairs_of())
    assert list(table) == REFERENCE_COLUMNS and table["chosen"].str.endswith(lm.tokenizer.eos_token).all()
    theirs = trainer(lm, table.drop(columns=NUMBERS), tmp_path, DPOTrainer).train_dataset
    for name in NUMBERS:
        np.testing.assert_allclose(table[name], theirs[name], rtol=0, atol=allowed(lm))

    reading = trainer(lm, table, tmp_path, Reader)
    reading.train()
    (first,) = [entry for entry in reading.state.log_history if "loss" in entry]
    lm.model.__dict__.pop("forward", None)
    assert first["rewards/margins"] == pytest.approx(0, abs=2 * SETTINGS.beta * allowed(lm))
    assert first["loss"] == pytest.approx(np.log(2), abs=2 * SETTINGS.beta * allowed(lm))


def test_table_of_a_model_without_an_end_is_refused(fresh_smoke: LanguageModel) -> None:
    """Else every response would end in the word None."""
    fresh_smoke.tokenizer.eos_token = None
    with pytest.raises(PrefdynError, match="no end-of-sequence token"):
        reference_table(fresh_smoke, pairs_of())


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_training_reads_a_kept_reference_and_measures_none(
    fresh_smoke: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    lm, path = fresh_smoke, tmp_path / f"reference.{kind}"
    table = reference_table(lm, pairs_of())
    if kind == "jsonl":
        table.to_json(path, orient="records", lines=True)
        table = pd.read_json(path, lines=True)
    else:
        table.to_parquet(path)
        table = pd.read_parquet(path)
    known = reference_of(lm, table)
    monkeypatch.setattr(
        objectives, "reference_log_probs", lambda *_: pytest.fail("the reference was measured")
    )
    # Of swapped pairs it tells as well.
    written = [Pair(*row) for row in table[REFERENCE_COLUMNS[:3]].itertuples(index=False, name=None)]
    for pairs in (written, [pair.swapped() for pair in written]):
        with restoring(lm):
            record = fine_tune(lm, tokenize_pairs(lm, pairs, 2**31), SETTINGS, reference=known)
        assert record["margin"][0] == pytest.approx(0, abs=2 * SETTINGS.beta * allowed(lm))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda table: table.drop(columns="ref_chosen_logps"), "lacks ref_chosen_logps"),
        (lambda table: table.assign(ref_rejected_logps=[1.0, None, 2.0, 3.0]), "row 1 .* has a hole"),
        (lambda table: table.assign(chosen=["a", "b", None, "c"]), "row 2 .* has a hole"),
    ],
)
def test_table_that_is_none_is_refused(smoke: LanguageModel, change: object, says: str) -> None:
    with pytest.raises(PrefdynError, match=says):
        reference_of(smoke, change(reference_table(smoke, pairs_of())))  # type: ignore[operator]
