"""TRL as the peer: its trainer's loss values, and its runs step by step."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import rounding
import torch
import trl_engine
from datasets import Dataset
from transformers import PreTrainedModel
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from prefdyn import data
from prefdyn.data import Pair
from prefdyn.engine import losses, training
from prefdyn.engine.likelihood import TokenPair, log_probs, tokenize_pairs, tokenize_persona
from prefdyn.engine.training import RECORD, Settings
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel, loading

pytestmark = pytest.mark.filterwarnings("ignore")  # deprecations between TRL and transformers

BETA = 0.3


def one_token(lm: LanguageModel, count: int = 8) -> list[TokenPair]:
    return tokenize_persona(lm, data.load_persona(data.persona_names()[2]).balanced(count // 2))


def several_tokens(lm: LanguageModel) -> list[TokenPair]:
    pairs = [
        Pair(f"Question {i}: what is the rain?", "wet" + "!" * (i % 3), " the Yes" * (1 + i % 2))
        for i in range(8)
    ]
    return tokenize_pairs(lm, pairs)


def other_policy(lm: LanguageModel) -> LanguageModel:
    """The same model with every weight moved at random."""
    moved = loading.load("smoke", device="cpu", precision="float32")
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in moved.model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return moved


def trl_loss(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    lm: LanguageModel,
    pairs: list[TokenPair],
    folder: str,
    **options: object,
) -> float:
    """The loss of one batch by TRL's own trainer."""
    rows = [
        {f"{part}_ids": list(getattr(pair, part)) for part in ("prompt", "chosen", "rejected")}
        for pair in pairs
    ]
    config = DPOConfig(
        output_dir=folder,
        bf16=False,
        use_cpu=True,
        report_to="none",
        max_length=None,
        gradient_checkpointing=False,
        **options,
    )

    class Plain(DPOTrainer):
        def _prepare_dataset(self, dataset: Dataset, *_: object) -> Dataset:
            return dataset

    trainer = Plain(
        model=copy.deepcopy(policy),
        ref_model=copy.deepcopy(reference),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=lm.tokenizer,
    )
    batch = DataCollatorForPreference(pad_token_id=lm.tokenizer.pad_token_id)(rows)
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, batch))


def our_loss(
    policy: LanguageModel,
    reference: LanguageModel,
    pairs: list[TokenPair],
    loss: losses.Loss,
    beta: float = BETA,
) -> float:
    with torch.no_grad():
        now, before = log_probs(policy.model, pairs), log_probs(reference.model, pairs)
    return float(loss.value(losses.reward_margin(now.log_ratio, before.log_ratio, beta)).mean())


def allowed(lm: LanguageModel, pairs: list[TokenPair], beta: float = BETA) -> float:
    """What rounding leaves between margins, and between losses, of a batch."""
    tokens = max(len(pair.chosen) + len(pair.rejected) for pair in pairs)
    return rounding.of_margins(lm.model, beta, tokens)


# Loss values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_pairs", [one_token, several_tokens])
@pytest.mark.parametrize(("name", "smoothing"), [("dpo", None), ("slic", None), ("rdpo", 0.2)])
def test_loss_of_a_batch_is_trls(
    smoke: LanguageModel, tmp_path: object, make_pairs: object, name: str, smoothing: float | None
) -> None:
    policy, pairs = other_policy(smoke), make_pairs(smoke)  # type: ignore[operator]
    options = {"loss_type": trl_engine.LOSS_TYPES[name], "label_smoothing": smoothing or 0.0, "beta": BETA}
    theirs = trl_loss(policy.model, smoke.model, smoke, pairs, str(tmp_path), **options)
    ours = our_loss(policy, smoke, pairs, losses.get(name, smoothing))
    assert ours == pytest.approx(theirs, abs=allowed(smoke, pairs))
    assert abs(theirs - float(losses.get(name, smoothing).value(torch.zeros(1)))) > 1e-3, (
        "the policy has left the reference"
    )


def test_ipo_is_trls_with_tau_half_of_beta_times_beta_squared(smoke: LanguageModel, tmp_path: object) -> None:
    policy, pairs = other_policy(smoke), one_token(smoke)
    theirs = trl_loss(policy.model, smoke.model, smoke, pairs, str(tmp_path), loss_type="ipo", beta=BETA / 2)
    ours = our_loss(policy, smoke, pairs, losses.ipo())
    slope = 2 * math.sqrt(ours)  # of (r - 1)^2
    assert ours == pytest.approx(BETA**2 * theirs, abs=slope * allowed(smoke, pairs))


def test_cdpo_is_trls_smoothed_loss_on_a_single_pair_only(smoke: LanguageModel, tmp_path: object) -> None:
    policy, pairs = other_policy(smoke), one_token(smoke)
    options = {"loss_type": "aot", "label_smoothing": 0.2, "beta": BETA}
    for pair in [pairs[0], *several_tokens(smoke)[:2]]:
        theirs = trl_loss(policy.model, smoke.model, smoke, [pair], str(tmp_path), **options)
        ours = our_loss(policy, smoke, [pair], losses.cdpo(0.2))
        assert ours == pytest.approx(theirs, abs=allowed(smoke, [pair]))
    together = trl_loss(policy.model, smoke.model, smoke, pairs, str(tmp_path), **options)
    assert our_loss(policy, smoke, pairs, losses.cdpo(0.2)) != pytest.approx(
        together, abs=10 * allowed(smoke, pairs)
    )


# Runs ---------------------------------------------------------------------------------------------


def both_runs(
    pairs: list[TokenPair], settings: Settings, shift: bool = False
) -> tuple[object, object, LanguageModel, LanguageModel]:
    smoke = loading.load("smoke", device="cpu", precision="float32")
    fast, peer = (
        other_policy(smoke) if shift else loading.load("smoke", device="cpu", precision="float32")
        for _ in range(2)
    )
    return training.fine_tune(fast, pairs, settings), trl_engine.fine_tune(peer, pairs, settings), fast, peer


@pytest.mark.parametrize("make_pairs", [one_token, several_tokens])
@pytest.mark.parametrize(("loss", "smoothing"), [("dpo", None), ("rdpo", 0.1), ("slic", None)])
def test_both_engines_take_the_same_steps(
    smoke: LanguageModel, make_pairs: object, loss: str, smoothing: float | None
) -> None:
    pairs = make_pairs(smoke)  # type: ignore[operator]
    settings = Settings(
        learning_rate=1e-4, steps=5, batch_size=4, beta=0.5, loss=loss, smoothing=smoothing, seed=3
    )
    ours, theirs, fast, peer = both_runs(pairs, settings)
    assert list(theirs.columns) == RECORD and list(theirs["step"]) == list(range(5))
    apart = allowed(smoke, pairs, settings.beta) + rounding.of_gradients(smoke.model)
    for column in ("loss", "margin"):
        np.testing.assert_allclose(ours[column], theirs[column], rtol=0, atol=apart)
    np.testing.assert_array_equal(ours["accuracy"][1:], theirs["accuracy"][1:])
    np.testing.assert_array_equal(ours["n"], theirs["n"])
    if not pairs[0].one_token:
        for column in ("logp_chosen", "logp_rejected"):
            np.testing.assert_allclose(ours[column], theirs[column], rtol=0, atol=apart / settings.beta)
    share = rounding.of_normalised_steps(smoke.model)
    rounding.assert_same_weights(fast.model, peer.model, smoke.model, share)


def test_trls_reference_is_the_model_as_it_comes_in_not_as_it_was_loaded(smoke: LanguageModel) -> None:
    pairs = several_tokens(smoke)
    ours, theirs, *_ = both_runs(
        pairs, Settings(learning_rate=1e-3, steps=3, batch_size=8, beta=0.5), shift=True
    )
    apart = allowed(smoke, pairs, 0.5) + rounding.of_gradients(smoke.model)
    assert theirs["loss"][0] == pytest.approx(math.log(2), abs=apart)
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=0, atol=apart)


def test_model_is_usable_after_trl(fresh_smoke: LanguageModel) -> None:
    pairs = one_token(fresh_smoke)
    settings = Settings(learning_rate=1e-3, steps=1, batch_size=8, beta=0.5)
    trl_engine.fine_tune(fresh_smoke, pairs, settings)
    model = fresh_smoke.model
    assert not any(weight.requires_grad for weight in model.parameters()) and not any(
        module.training for module in model.modules()
    )
    clone = copy.deepcopy(model)
    with torch.no_grad():
        clone.get_input_embeddings().weight.zero_()
        assert not torch.equal(clone(torch.tensor([[5, 6]])).logits, model(torch.tensor([[5, 6]])).logits), (
            "a copy runs its own weights"
        )
    again = training.fine_tune(fresh_smoke, pairs, settings)
    assert again["loss"][0] == pytest.approx(math.log(2), abs=allowed(fresh_smoke, pairs, 0.5))


def test_what_trl_has_not_is_refused(smoke: LanguageModel) -> None:
    base = {"learning_rate": 1e-3, "steps": 1, "batch_size": 2, "beta": 0.1}
    for name, smoothing in (("ipo", None), ("cdpo", 0.1)):
        with pytest.raises(PrefdynError, match=f"no loss equal to {name!r}: choose one of dpo"):
            trl_engine.trainer(smoke, [], Settings(**base, loss=name, smoothing=smoothing))
    with pytest.raises(PrefdynError, match="trains with adamw, not 'sgd'"):
        trl_engine.trainer(smoke, [], Settings(**base, optimizer="sgd"))
    with pytest.raises(PrefdynError, match=r"gamma is 2\.0, it must be 1"):
        trl_engine.trainer(smoke, [], Settings(**base, gamma=2.0))
