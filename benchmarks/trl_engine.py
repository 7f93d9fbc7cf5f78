"""Preference training by TRL's DPOTrainer, the peer that full fine-tuning is compared with.

It trains on the same token ids in the same order as `training.fine_tune`, so that the two can be compared
step by step. It leaves the same record, but for what the trainer does not report: the groups of a batch are
averaged into one, and ranking accuracy is NaN.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Sequence, Sized
from typing import Any, cast

import numpy as np
import pandas as pd
from datasets import Dataset
from torch.utils.data import SequentialSampler
from trl import DPOConfig, DPOTrainer

from prefdyn.engine import losses
from prefdyn.engine.likelihood import TokenPair, check_tokens
from prefdyn.engine.training import RECORD, Settings, batch_order
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel, Precision

LOSS_TYPES = {"dpo": "sigmoid", "rdpo": "robust", "slic": "hinge"}
"""Our losses by TRL's names, where it has them.

Its smoothed losses of sums of log-probabilities sort the batch: none is cdpo.
"""


class _TokenTrainer(DPOTrainer):
    """DPOTrainer on token ids as they are, in the order given."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> SequentialSampler:
        return SequentialSampler(cast(Sized, self.train_dataset))


def trainer(
    lm: LanguageModel,
    train: Sequence[TokenPair],
    settings: Settings,
    precision: Precision | None = None,
    **options: Any,
) -> DPOTrainer:
    """A DPOTrainer set up to take the same steps as `training.fine_tune`; it trains `lm`'s model in place.

    Args:
        options: further fields of DPOConfig (`gradient_checkpointing`, `fsdp`, `deepspeed`, ...).

    Raises:
        PrefdynError: TRL has no such loss or optimizer, or something else stands for pairs of tokens.
    """
    if not isinstance(settings.loss, str) or settings.loss not in LOSS_TYPES:
        given = settings.loss if isinstance(settings.loss, str) else settings.loss.name
        raise PrefdynError(
            f"TRL's trainer has no loss equal to {given!r}: choose one of {', '.join(LOSS_TYPES)}"
        )
    if settings.optimizer != "adamw":
        raise PrefdynError(f"the TRL engine trains with adamw, not {settings.optimizer!r}")
    if settings.gamma != 1:
        raise PrefdynError(
            f"TRL's trainer does not scale the reference: gamma is {settings.gamma}, it must be 1"
        )
    losses.get(settings.loss, settings.smoothing)
    check_tokens(train)
    order = np.concatenate(batch_order(len(train), settings))
    columns = {
        f"{part}_ids": [list(getattr(train[i], part)) for i in order]
        for part in ("prompt", "chosen", "rejected")
    }
    # TRL would read the reference from the model's source again, which is not the model as it is now.
    reference = None if options.get("precompute_ref_log_probs") else copy.deepcopy(lm.model)
    lm.model.requires_grad_(True)
    config = DPOConfig(
        output_dir=tempfile.mkdtemp(prefix="prefdyn-trl-"),
        beta=settings.beta,
        loss_type=[LOSS_TYPES[settings.loss]],
        label_smoothing=settings.smoothing or 0.0,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        weight_decay=0.0,
        per_device_train_batch_size=min(settings.batch_size, len(train)),
        max_steps=settings.steps,
        max_length=None,
        bf16=(precision or lm.precision) == "bfloat16",
        use_cpu=lm.device.type == "cpu",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=settings.seed,
        **options,
    )
    data = Dataset.from_dict(columns)
    return _TokenTrainer(
        model=lm.model, ref_model=reference, args=config, train_dataset=data, processing_class=lm.tokenizer
    )


def fine_tune(
    lm: LanguageModel, train: Sequence[TokenPair], settings: Settings, **options: Any
) -> pd.DataFrame:
    """Train all weights on the preferences with TRL; returns the record (split "train", group "all")."""
    engine = trainer(lm, train, settings, **options)
    try:
        engine.train()
    finally:
        # Its wrapper around the model's forward would outlive it, and a copy of the model would run the
        # original.
        lm.model.__dict__.pop("forward", None)
        shutil.rmtree(str(engine.args.output_dir), ignore_errors=True)
    steps = [entry for entry in engine.state.log_history if "loss" in entry]
    lm.model.eval().requires_grad_(False)
    record = pd.DataFrame({column: np.nan for column in RECORD}, index=range(len(steps)))
    record["step"] = range(len(steps))
    record["split"], record["group"] = "train", "all"
    record["n"] = min(settings.batch_size, len(train))
    fields = {
        "loss": "loss",
        "margin": "rewards/margins",
        "accuracy": "rewards/accuracies",
        "logp_chosen": "logps/chosen",
    }
    for ours, theirs in {**fields, "logp_rejected": "logps/rejected"}.items():
        record[ours] = [entry[theirs] for entry in steps]
    return record[RECORD]
