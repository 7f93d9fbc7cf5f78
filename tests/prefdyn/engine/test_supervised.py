"""Supervised fine-tuning against a plain loop with torch's optimizer, and against TRL's SFTTrainer."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import rounding
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel
from trl import SFTConfig, SFTTrainer

from prefdyn import data
from prefdyn.data import Pair
from prefdyn.engine.likelihood import TokenPair, chosen_log_probs, log_probs, tokenize_pairs, tokenize_persona
from prefdyn.engine.training import RECORD, Settings, batch_order, fine_tune
from prefdyn.errors import PrefdynError
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.phases import Phase
from prefdyn.models import LanguageModel, loading

SFT = {"learning_rate": 1e-3, "steps": 5, "batch_size": 4, "loss": "sft", "seed": 1}


def load() -> LanguageModel:
    return loading.load("smoke", device="cpu", precision="float32")


def responses(lm: LanguageModel) -> list[TokenPair]:
    return tokenize_pairs(
        lm, [Pair(f"Is rain {i} wet?", "very" + "!" * (i % 4), " the Yes" * (1 + i % 2)) for i in range(9)]
    )


def answers(lm: LanguageModel) -> list[TokenPair]:
    return tokenize_persona(lm, data.load_persona(data.persona_names()[0]).balanced(4))


def token_log_probs(model: PreTrainedModel, pair: TokenPair) -> torch.Tensor:
    """log pi of each token of the chosen response, by one plain forward pass."""
    ids = torch.tensor([[*pair.prompt, *pair.chosen]])
    rows = F.log_softmax(model(ids, use_cache=False).logits[0, len(pair.prompt) - 1 : -1], dim=-1)
    return rows.gather(1, ids[0, len(pair.prompt) :, None])[:, 0]


def plain_loop(model: PreTrainedModel, pairs: Sequence[TokenPair], settings: Settings) -> list[float]:
    """Cross-entropy over all chosen tokens of a batch; trains in place and returns the loss of each step."""
    model.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    out = []
    for batch in batch_order(len(pairs), settings):
        loss = -torch.cat([token_log_probs(model, pairs[i]) for i in batch]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        out.append(loss.item())
    model.requires_grad_(False)
    return out


@pytest.mark.parametrize("make_pairs", [responses, answers])
@pytest.mark.parametrize("tokens_per_forward", [4096, 1])
def test_training_is_that_of_the_plain_loop(
    smoke: LanguageModel, make_pairs: Any, tokens_per_forward: int
) -> None:
    ours, plain = load(), copy.deepcopy(smoke.model)
    settings = Settings(**SFT, tokens_per_forward=tokens_per_forward)
    record = fine_tune(ours, make_pairs(ours), settings)
    expected = plain_loop(plain, make_pairs(ours), settings)
    np.testing.assert_allclose(record["loss"], expected, rtol=0, atol=allowed(smoke))
    rounding.assert_same_weights(ours.model, plain, smoke.model, rounding.of_normalised_steps(plain))


def allowed(lm: LanguageModel) -> float:
    """What rounding leaves between losses, which are means over tokens, along two runs of one training."""
    return rounding.of_log_probs(lm.model) + rounding.of_gradients(lm.model)


class _InOrder(SFTTrainer):
    def _get_train_sampler(self, *_: Any, **__: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


@pytest.mark.filterwarnings("ignore")  # deprecations between TRL and transformers
def test_losses_are_those_of_trls_trainer(tmp_path: Any) -> None:
    ours, peer = load(), load()
    pairs, settings = responses(ours), Settings(**SFT)
    rows = [pairs[i] for i in np.concatenate(batch_order(len(pairs), settings))]
    columns = {
        "input_ids": [[*pair.prompt, *pair.chosen] for pair in rows],
        "labels": [[-100] * len(pair.prompt) + list(pair.chosen) for pair in rows],
    }
    config = SFTConfig(
        output_dir=str(tmp_path),
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        weight_decay=0.0,
        per_device_train_batch_size=settings.batch_size,
        max_steps=settings.steps,
        max_length=None,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    peer.model.requires_grad_(True)
    trainer = _InOrder(
        model=peer.model,
        args=config,
        train_dataset=Dataset.from_dict(columns),
        processing_class=peer.tokenizer,
    )
    trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    record = fine_tune(ours, pairs, settings)
    np.testing.assert_allclose(
        record["loss"], theirs, rtol=0, atol=allowed(ours) + 5e-5
    )  # it logs four decimals
    assert record["loss"].iloc[-1] < record["loss"].iloc[0] - 0.1


@pytest.mark.parametrize("make_pairs", [responses, answers])
def test_record_has_what_is_measured_and_nan_for_the_rest(make_pairs: Any) -> None:
    lm = load()
    pairs = make_pairs(lm)
    record = fine_tune(lm, pairs, Settings(**SFT), {"test": pairs}, [0, 5])
    assert list(record.columns) == RECORD and record[["margin", "accuracy"]].isna().all(axis=None)
    train, test = (record[record["split"] == split] for split in ("train", "test"))
    assert (
        train[["ranking_accuracy", "logp_rejected"]].isna().all(axis=None)
        and train["logp_chosen"].notna().all()
    )
    with torch.no_grad():
        tokens = [token_log_probs(lm.model, pair) for pair in pairs]
        exact = log_probs(lm.model, pairs, normalised=True)
    last = test.iloc[-1]
    most = rounding.of_log_probs(lm.model, max(len(row) for row in tokens))
    assert last["loss"] == pytest.approx(-torch.cat(tokens).mean().item(), abs=most)
    assert last["logp_chosen"] == pytest.approx(
        torch.stack([row.sum() for row in tokens]).mean().item(), abs=most
    )
    assert last["ranking_accuracy"] == pytest.approx((exact.log_ratio >= 0).float().mean().item())
    assert last["loss"] < test.iloc[0]["loss"]


@pytest.mark.parametrize("make_pairs", [responses, answers])
def test_chosen_log_probs_are_those_of_the_pair(smoke: LanguageModel, make_pairs: Any) -> None:
    pairs = make_pairs(smoke)
    with torch.no_grad():
        exact = torch.stack([token_log_probs(smoke.model, pair).sum() for pair in pairs])
        most = rounding.of_log_probs(smoke.model, max(len(pair.chosen) for pair in pairs))
        for ours in (
            chosen_log_probs(smoke.model, pairs),
            log_probs(smoke.model, pairs, normalised=True).chosen,
        ):
            torch.testing.assert_close(ours, exact, rtol=0, atol=most)


def test_rejected_responses_play_no_part(smoke: LanguageModel) -> None:
    one, other = load(), load()
    pairs = responses(one)
    swapped = [TokenPair(pair.prompt, pair.chosen, (5, 6, 7, 8), pair.group) for pair in pairs]
    for lm, part in ((one, pairs), (other, swapped)):
        fine_tune(lm, part, Settings(**SFT))
    share = rounding.of_normalised_steps(smoke.model)
    rounding.assert_same_weights(one.model, other.model, smoke.model, share)


def test_reference_of_the_next_phase_is_the_fine_tuned_model(cache: Any) -> None:
    pairs = data.load_pairs()[:6]
    lab = Bench("smoke", device="cpu", precision="float32")
    dpo = Settings(learning_rate=1e-3, steps=2, batch_size=6, beta=0.5)
    first, second = lab.train(
        [Phase(pairs, Settings(**SFT), {"all": pairs}, [5]), Phase(pairs, dpo, {"all": pairs}, [0])]
    )
    start = second.record.query("step == 0 and split == 'all'").iloc[0]
    tokens = max(len(pair.chosen) + len(pair.rejected) for pair in tokenize_pairs(lab.lm, pairs))
    most = rounding.of_margins(lab.lm.model, dpo.beta, tokens, length=512)
    assert start["loss"] == pytest.approx(math.log(2), abs=most)
    assert start["margin"] == pytest.approx(0, abs=most)
    assert start["logp_chosen"] == pytest.approx(
        first.record.query("step == 5").iloc[0]["logp_chosen"], abs=most / dpo.beta
    )
    untrained = (
        lab.train([Phase(pairs, dpo, {"all": pairs}, [0])])[0]
        .record.query("step == 0 and split == 'all'")
        .iloc[0]
    )
    assert start["logp_chosen"] > untrained["logp_chosen"] + 1


def test_settings_that_mean_nothing_for_sft_are_refused() -> None:
    for wrong in ({"beta": 0.1}, {"smoothing": 0.1}):
        with pytest.raises(PrefdynError, match="takes no beta, gamma or label smoothing"):
            Settings(**{**SFT, **wrong})
    with pytest.raises(PrefdynError, match=r"beta is 0\.0: it must be above 0"):
        Settings(learning_rate=1e-3, steps=1, batch_size=1)
