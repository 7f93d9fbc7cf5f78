"""The fast path against a plain loop: full softmax, one sequence at a time, torch's own optimizers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import rounding
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from prefdyn import data
from prefdyn.data import Pair
from prefdyn.engine import losses, objectives, training
from prefdyn.engine.likelihood import TokenPair, log_probs, tokenize_pairs, tokenize_persona
from prefdyn.engine.objectives import reference_log_probs
from prefdyn.engine.training import RECORD, Settings, batch_order, fine_tune
from prefdyn.engine.weights import restoring
from prefdyn.errors import PrefdynError
from prefdyn.measures.response_tokens import response_tokens
from prefdyn.models import LanguageModel, loading
from prefdyn.models.token_trees import ATTENTION

PAD = 0
GOOD = {"learning_rate": 1e-3, "steps": 1, "batch_size": 1, "beta": 0.1}


def load() -> LanguageModel:
    return loading.load("smoke", device="cpu", precision="float32")


def untied(lm: LanguageModel) -> LanguageModel:
    """The same shape with a W of its own and, like the smoke model, a padding token."""
    described = {**lm.model.config.to_dict(), "tie_word_embeddings": False}
    torch.manual_seed(11)
    model = (
        LlamaForCausalLM(LlamaConfig(**described, attn_implementation=ATTENTION)).eval().requires_grad_(False)
    )
    return LanguageModel("untied", "none", model, lm.tokenizer, "float32")


def answers(lm: LanguageModel, personas: int = 1, per_label: int = 4) -> list[TokenPair]:
    names = data.persona_names()[:personas]
    return [
        pair for name in names for pair in tokenize_persona(lm, data.load_persona(name).balanced(per_label))
    ]


def with_padding(lm: LanguageModel) -> list[TokenPair]:
    """One-token answers whose prompts hold the padding token, which may also be an answer."""
    pairs = [
        TokenPair((9, PAD, *pair.prompt[-12:], PAD, 30 + i), pair.chosen, pair.rejected, "g")
        for i, pair in enumerate(answers(lm))
    ]
    return [*pairs, TokenPair((40, 41, PAD), (PAD,), (50,), "g"), TokenPair((PAD, 42), (51,), (PAD,), "g")]


def responses(lm: LanguageModel) -> list[TokenPair]:
    pairs = tokenize_pairs(
        lm, [Pair(f"Is rain {i} wet?", "very" + "!" * (i % 3), " the Yes" * (1 + i % 2)) for i in range(9)]
    )
    return [*pairs, TokenPair((40, PAD, 41), (7, PAD, 8), (9,), "pairs")]


def log_ratio(model: PreTrainedModel, pair: TokenPair) -> torch.Tensor:
    """log pi(y_w|x) - log pi(y_l|x) by the model's own forward pass and the whole softmax."""
    rows = []
    if pair.one_token:
        row = F.log_softmax(model(torch.tensor([list(pair.prompt)]), use_cache=False).logits[0, -1], dim=-1)
        return row[pair.chosen[0]] - row[pair.rejected[0]]
    for response in (pair.chosen, pair.rejected):
        ids = torch.tensor([[*pair.prompt, *response]])
        table = F.log_softmax(model(ids, use_cache=False).logits[0, len(pair.prompt) - 1 : -1], dim=-1)
        rows.append(table.gather(1, ids[0, len(pair.prompt) :, None]).sum())
    return rows[0] - rows[1]


def plain_loop(model: PreTrainedModel, pairs: Sequence[TokenPair], settings: Settings) -> list[float]:
    """DPO as a textbook has it; trains `model` in place and returns the loss of each step."""
    with torch.no_grad():
        reference = [log_ratio(model, pair) for pair in pairs]
    model.requires_grad_(True)
    weights = list(model.parameters())
    optimizer = {
        "adamw": lambda: torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0),
        "sgd": lambda: torch.optim.SGD(weights, lr=settings.learning_rate),
        "rmsprop": lambda: torch.optim.RMSprop(weights, lr=settings.learning_rate, alpha=0.99),
    }[settings.optimizer]()
    out = []
    for batch in batch_order(len(pairs), settings):
        margins = torch.stack([settings.beta * (log_ratio(model, pairs[i]) - reference[i]) for i in batch])
        loss = F.softplus(-margins).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        out.append(loss.item())
    model.requires_grad_(False)
    return out


def longest(pairs: Sequence[TokenPair]) -> int:
    """Tokens of the responses of a pair that has most."""
    return max(len(pair.chosen) + len(pair.rejected) for pair in pairs)


# Against the plain loop ---------------------------------------------------------------------------


@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("make_pairs", [answers, with_padding, responses])
@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.05), ("adamw", 1e-4), ("rmsprop", 1e-5)])
def test_training_is_that_of_the_plain_loop(
    tie: bool, make_pairs: object, optimizer: str, rate: float
) -> None:
    ours = load() if tie else untied(load())
    start, plain = copy.deepcopy(ours.model), copy.deepcopy(ours.model)
    pairs = make_pairs(ours)  # type: ignore[operator]
    settings = Settings(learning_rate=rate, steps=6, batch_size=4, beta=0.5, optimizer=optimizer, seed=1)  # type: ignore[arg-type]
    record = fine_tune(ours, pairs, settings)
    expected = plain_loop(plain, pairs, settings)
    loss = (record["loss"] * record["n"]).groupby(record["step"]).sum() / 4
    np.testing.assert_allclose(
        loss, expected, rtol=0, atol=rounding.of_training(plain, settings.beta, longest(pairs))
    )
    share = rounding.of_gradients if optimizer == "sgd" else rounding.of_normalised_steps
    rounding.assert_same_weights(ours.model, plain, start, share(plain))


@pytest.mark.parametrize("make_pairs", [answers, responses])
def test_a_batch_run_in_parts_gives_the_same_step(smoke: LanguageModel, make_pairs: object) -> None:
    whole, parts = load(), load()
    pairs = make_pairs(whole)  # type: ignore[operator]
    base = {"learning_rate": 0.05, "steps": 3, "batch_size": 8, "beta": 0.5, "optimizer": "sgd"}
    records = [
        fine_tune(whole, pairs, Settings(**base)),
        fine_tune(parts, pairs, Settings(**base, tokens_per_forward=1)),
    ]
    rounding.assert_same_weights(parts.model, whole.model, smoke.model, rounding.of_gradients(smoke.model))
    allowed = rounding.of_training(smoke.model, 0.5, longest(pairs))
    pd.testing.assert_frame_equal(*records, rtol=0, atol=allowed)


def test_tied_weights_stay_tied_and_no_other_rows_move(
    fresh_smoke: LanguageModel, smoke: LanguageModel
) -> None:
    lm = fresh_smoke
    pairs = answers(lm)
    fine_tune(lm, pairs, Settings(learning_rate=1e-3, steps=3, batch_size=8, beta=1.0))
    assert lm.unembedding is lm.model.get_input_embeddings().weight
    assert lm.unembedding.shape == smoke.unembedding.shape
    used = sorted({token for pair in pairs for token in (*pair.prompt, *pair.chosen, *pair.rejected)})
    moved = (lm.unembedding != smoke.unembedding).any(dim=1).nonzero()[:, 0].tolist()
    assert moved == used


def test_failure_in_the_middle_leaves_a_whole_model(
    fresh_smoke: LanguageModel, smoke: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_optimizer", fail)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(
            fresh_smoke, answers(fresh_smoke), Settings(learning_rate=1e-3, steps=3, batch_size=8, beta=1.0)
        )
    for one, other in zip(fresh_smoke.model.parameters(), smoke.model.parameters(), strict=True):
        assert torch.equal(one, other) and not one.requires_grad and one.grad is None


# The record ---------------------------------------------------------------------------------------


def test_record_starts_at_margin_zero_and_loss_log_two(fresh_smoke: LanguageModel) -> None:
    lm = fresh_smoke
    held_out = answers(lm, personas=2)
    settings = Settings(learning_rate=1e-3, steps=2, batch_size=6, beta=0.3)
    record = fine_tune(lm, held_out, settings, {"test": held_out}, evaluate_at=[0, 2])
    assert list(record.columns) == RECORD
    first = record[record["step"] == 0]
    allowed = rounding.of_margins(lm.model, settings.beta)
    np.testing.assert_allclose(first["margin"], 0, atol=allowed)
    np.testing.assert_allclose(first["loss"], math.log(2), rtol=0, atol=allowed)
    assert sorted(set(zip(record["step"], record["split"], strict=True))) == [
        (0, "test"),
        (0, "train"),
        (1, "train"),
        (2, "test"),
    ]
    assert record[record["split"] == "train"].groupby("step")["n"].sum().tolist() == [6, 6]
    assert set(record[record["split"] == "test"]["group"]) == set(data.persona_names()[:2])
    assert record["distance"].isna().all() and record[["logp_chosen", "logp_rejected"]].isna().all(axis=None)


def test_pair_without_a_difference_counts_as_risk_and_as_ranked(fresh_smoke: LanguageModel) -> None:
    tie = TokenPair((5, 6), (7,), (7,), "tie")
    (row,) = fine_tune(fresh_smoke, [tie], Settings(learning_rate=1, steps=1, batch_size=1, beta=1)).to_dict(
        "records"
    )
    assert (row["margin"], row["accuracy"], row["ranking_accuracy"]) == (0, 0, 1), (
        "P(r <= 0) is the risk, pi(y_w) >= pi(y_l) is ranked"
    )


@pytest.mark.parametrize("make_pairs", [answers, responses])
def test_evaluation_is_what_a_plain_forward_pass_measures(make_pairs: object) -> None:
    lm = load()
    pairs = make_pairs(lm)  # type: ignore[operator]
    settings = Settings(learning_rate=1e-3, steps=3, batch_size=4, beta=0.3, loss="ipo")
    before = torch.stack([log_ratio(lm.model, pair) for pair in pairs])
    record = fine_tune(lm, pairs, settings, {"test": pairs}, evaluate_at=[3])
    after = torch.stack([log_ratio(lm.model, pair) for pair in pairs])
    (row,) = record[record["split"] == "test"].to_dict("records")
    margin = 0.3 * (after - before)
    allowed = rounding.of_margins(lm.model, 0.3, longest(pairs))
    slope = 2 * (margin - 1).abs().max().item()  # of (r - 1)^2
    assert row["n"] == len(pairs)
    assert row["margin"] == pytest.approx(margin.mean().item(), abs=allowed)
    assert row["loss"] == pytest.approx((margin - 1).square().mean().item(), abs=slope * allowed)
    assert row["accuracy"] == pytest.approx((margin > 0).float().mean().item())
    assert row["ranking_accuracy"] == pytest.approx((after >= 0).float().mean().item())
    if make_pairs is responses:
        allowed = rounding.of_log_probs(lm.model, longest(pairs))
        assert row["logp_chosen"] - row["logp_rejected"] == pytest.approx(after.mean().item(), abs=allowed)
        assert row["logp_chosen"] < 0


def test_record_does_not_change_the_run(smoke: LanguageModel) -> None:
    settings = Settings(learning_rate=1e-3, steps=4, batch_size=4, beta=0.3)
    plain, watched = load(), load()
    pairs = answers(plain)
    few = fine_tune(plain, pairs, settings)
    many = fine_tune(watched, pairs, settings, {"test": pairs[:3]}, evaluate_at=range(5))
    pd.testing.assert_frame_equal(few, many[many["split"] == "train"].reset_index(drop=True))
    for one, other in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_same_seed_gives_the_same_record_and_another_seed_another() -> None:
    def run(seed: int) -> pd.DataFrame:
        lm = load()
        return fine_tune(
            lm, answers(lm), Settings(learning_rate=1e-3, steps=4, batch_size=3, beta=0.3, seed=seed)
        )

    pd.testing.assert_frame_equal(run(0), run(0), rtol=0, atol=0)
    assert not np.allclose(run(0)["loss"], run(1)["loss"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("make_pairs", [answers, responses])
def test_distance_is_the_norm_of_the_change_of_all_weights(make_pairs: object) -> None:
    lm = untied(load())
    start = copy.deepcopy(lm.model)
    pairs = make_pairs(lm)  # type: ignore[operator]
    settings = Settings(learning_rate=1e-3, steps=3, batch_size=4, beta=0.3, track_distance=True)
    record = fine_tune(lm, pairs, settings, {"test": pairs}, evaluate_at=[0, 3])
    test = record[record["split"] == "test"].set_index("step")["distance"]
    assert test[0] == 0
    by_hand = rounding.distance(lm.model, start)
    count = sum(weight.numel() for weight in lm.model.parameters())
    assert test[3] == pytest.approx(by_hand, rel=rounding.rounding(1, count)) and by_hand > 1e-2


def test_reference_is_measured_in_the_order_given_whatever_the_batches(smoke: LanguageModel) -> None:
    pairs = responses(smoke)[::-1]
    with torch.no_grad():
        expected = torch.stack([log_ratio(smoke.model, pair) for pair in pairs])
    for tokens in (1, 60, 10**6):
        allowed = rounding.of_log_probs(smoke.model, longest(pairs))
        torch.testing.assert_close(
            reference_log_probs(smoke, pairs, tokens).log_ratio, expected, rtol=0, atol=allowed
        )


def test_bfloat16_trains_float32_weights_to_nearly_the_same_losses() -> None:
    exact, half = load(), loading.load("smoke", device="cpu", precision="bfloat16")
    settings = Settings(learning_rate=1e-3, steps=5, batch_size=8, beta=0.3)
    records = [fine_tune(lm, answers(lm), settings) for lm in (exact, half)]
    assert {weight.dtype for weight in half.model.parameters()} == {torch.float32}
    # bfloat16 rounds to 2^-9. Five standard deviations of beta times a log-ratio of at most 4, through the 17
    # products, norms and sums of the model, now and before: 5 * 0.3 * 4 * 2^-9 * sqrt(2 * 17 / 3).
    np.testing.assert_allclose(records[0]["loss"], records[1]["loss"], rtol=0, atol=0.04)
    assert not torch.equal(exact.unembedding, half.unembedding)


@pytest.mark.parametrize("make_pairs", [answers, responses])
def test_known_reference_is_not_measured_again_and_changes_nothing(
    make_pairs: Callable[..., list[TokenPair]],
) -> None:
    settings = Settings(learning_rate=1e-3, steps=3, batch_size=4, beta=0.5)
    fresh = load()
    alone = fine_tune(fresh, make_pairs(fresh), settings)
    lm, known = load(), objectives.Reference()
    flipped = [replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in make_pairs(lm)]
    with restoring(lm):
        fine_tune(lm, flipped, settings, {"all": flipped}, reference=known)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            objectives, "reference_log_probs", lambda *_: pytest.fail("the reference was measured again")
        )
        again = fine_tune(lm, make_pairs(lm), settings, reference=known)
    assert again["accuracy"].tolist() == alone["accuracy"].tolist()
    pd.testing.assert_frame_equal(
        again, alone, rtol=0, atol=rounding.of_training(lm.model, settings.beta, longest(flipped))
    )


def test_before_training_no_margin_is_above_zero_and_no_rounding_counts() -> None:
    lm = untied(load())
    pairs = answers(lm, personas=2, per_label=20)
    # Batches other than those in which the reference is measured, so that they round otherwise.
    settings = Settings(learning_rate=1e-2, steps=3, batch_size=7, beta=1.0)
    record = fine_tune(lm, pairs, settings, {"test": pairs}, evaluate_at=[0, 3])
    start, later = record[record["step"] == 0], record[record["step"] > 0]
    assert set(start["split"]) == {"train", "test"}
    assert (start["margin"] == 0).all() and (start["accuracy"] == 0).all()
    assert (later["margin"] != 0).all() and (later["accuracy"] > 0).any()


def test_before_training_gamma_leaves_the_margin_that_it_makes(smoke: LanguageModel) -> None:
    pairs, lm = responses(smoke), load()
    settings = Settings(learning_rate=1e-3, steps=1, batch_size=len(pairs), beta=0.5, gamma=0.25)
    record = fine_tune(lm, pairs, settings)
    with torch.no_grad():
        expected = 0.5 * 0.75 * torch.stack([log_ratio(smoke.model, pair) for pair in pairs])
    assert (record["n"] @ record["margin"]) / len(pairs) == pytest.approx(
        float(expected.mean()), abs=rounding.of_log_probs(smoke.model, longest(pairs))
    )
    assert (record["n"] @ record["accuracy"]) / len(pairs) == float((expected > 0).double().mean())


def test_only_what_is_drawn_is_measured_for_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, seen = load(), []
    measure = objectives.reference_log_probs
    monkeypatch.setattr(
        objectives,
        "reference_log_probs",
        lambda lm, pairs, *rest: seen.extend(pairs) or measure(lm, pairs, *rest),
    )
    pairs = answers(lm, per_label=8)
    settings = Settings(learning_rate=1e-3, steps=2, batch_size=3, beta=0.5)
    fine_tune(lm, pairs, settings)
    assert (
        set(seen) == {pairs[i] for batch in batch_order(len(pairs), settings) for i in batch}
        and len(seen) == 6
    )


@pytest.mark.gpu
@pytest.mark.parametrize("make_pairs", [answers, responses])
def test_record_on_cuda_is_that_of_the_cpu(cuda: torch.device, make_pairs: object) -> None:
    here, there = load(), loading.load("smoke", device=str(cuda), precision="float32")
    settings = Settings(learning_rate=1e-4, steps=5, batch_size=4, beta=0.3, track_distance=True)
    records = [
        fine_tune(lm, make_pairs(lm), settings, {"test": make_pairs(lm)}, [0, 5]) for lm in (here, there)
    ]  # type: ignore[operator]
    measured = [record.drop(columns=["accuracy", "ranking_accuracy"]) for record in records]
    # A response's log-probability is larger than a margin by 1 / beta, and a distance is a share of itself.
    allowed = rounding.of_training(here.model, 1.0, longest(make_pairs(here)))  # type: ignore[operator]
    pd.testing.assert_frame_equal(*measured, rtol=rounding.of_normalised_steps(here.model), atol=allowed)


# What is refused ----------------------------------------------------------------------------------


def text_pair() -> Pair:
    return Pair("Is rain wet?", " Yes", " No")


@pytest.mark.parametrize("loss", ["dpo", "sft"])
def test_pairs_of_texts_are_told_from_pairs_of_tokens(smoke: LanguageModel, loss: str) -> None:
    settings = Settings(1e-3, 1, 1, beta=0 if loss == "sft" else 0.1, loss=loss)
    tokens, texts = answers(smoke), [text_pair()]
    for run in (
        lambda: fine_tune(smoke, texts, settings),  # type: ignore[arg-type]
        lambda: fine_tune(smoke, tokens, settings, {"test": texts}, [0]),  # type: ignore[dict-item]
        lambda: reference_log_probs(smoke, texts),  # type: ignore[arg-type]
        lambda: log_probs(smoke.model, texts),  # type: ignore[arg-type]
        lambda: response_tokens(smoke, texts),  # type: ignore[arg-type]
    ):
        with pytest.raises(PrefdynError, match="a Pair is no TokenPair: make those by tokenize_pairs or"):
            run()


@pytest.mark.parametrize("steps", [[], [0], [1]])
def test_split_without_preferences_is_named(smoke: LanguageModel, steps: list[int]) -> None:
    with pytest.raises(PrefdynError, match="nothing to evaluate in the split 'held out': leave it out"):
        fine_tune(smoke, answers(smoke), Settings(**GOOD), {"held out": []}, steps)


@pytest.mark.parametrize("step", [-1, 2])
def test_step_outside_the_run_is_named(smoke: LanguageModel, step: int) -> None:
    pairs = answers(smoke)
    with pytest.raises(PrefdynError, match=f"evaluate_at has the step {step}, and the run goes from 0 to 1"):
        fine_tune(smoke, pairs, Settings(**GOOD), {"test": pairs}, [0, step])


def test_training_warns_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    lm = load()
    fine_tune(lm, answers(lm), Settings(**GOOD), {"test": responses(lm)}, [0, 1])
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("make_pairs", [answers, responses])
@pytest.mark.parametrize("loss", ["dpo", "sft"])
def test_model_that_computes_nan_is_named_before_it_trains(
    make_pairs: Callable[..., list[TokenPair]], loss: str
) -> None:
    lm = load()
    lm.model.model.norm.weight[3] = math.nan
    settings = Settings(**GOOD | {"loss": loss, "beta": 0 if loss == "sft" else 0.1})
    with pytest.raises(PrefdynError, match="the model 'smoke' computes what is no number"):
        fine_tune(lm, make_pairs(lm), settings)


# Order and settings -------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 30), st.integers(0, 1000))
def test_batches_are_full_and_every_epoch_holds_each_example_once(
    examples: int, batch: int, steps: int, seed: int
) -> None:
    settings = Settings(learning_rate=1, steps=steps, batch_size=batch, beta=1, seed=seed)
    order = batch_order(examples, settings)
    assert [len(part) for part in order] == [min(batch, examples)] * steps
    stream = np.concatenate(order)
    for start in range(0, len(stream), examples):
        epoch = stream[start : start + examples].tolist()
        assert len(set(epoch)) == len(epoch) and set(epoch) <= set(range(examples))
    assert np.array_equal(stream, np.concatenate(batch_order(examples, settings)))


@given(
    st.lists(st.integers(1, 5).map(lambda half: 2 * half), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(1, 20),
    st.integers(0, 1000),
)
def test_balanced_batches_hold_of_each_kind_what_the_data_do(
    sizes: list[int], times: int, steps: int, seed: int
) -> None:
    kinds = [kind for kind, size in enumerate(sizes) for _ in range(size)]
    batch = times * len(sizes)
    settings = Settings(1, steps, batch, beta=1, seed=seed, balanced=True)
    order = batch_order(len(kinds), settings, kinds)
    stream = np.concatenate(order)
    for start in range(0, len(stream), len(kinds)):
        epoch = stream[start : start + len(kinds)].tolist()
        assert len(set(epoch)) == len(epoch)
        # Evenly spaced: what is there so far of a kind is its share, to one place of each kind beside it.
        seen = np.cumsum([[kinds[i] == kind for kind in range(len(sizes))] for i in epoch], axis=0)
        shares = np.arange(1, len(epoch) + 1)[:, None] * np.array(sizes) / len(kinds)
        assert np.abs(seen - shares).max() <= 1 + len(sizes) / 2
    if len(set(sizes)) == 1 and sum(sizes) % batch == 0:
        assert all(np.bincount([kinds[i] for i in part]).tolist() == [times] * len(sizes) for part in order)


def test_seeds_balance_in_orders_of_their_own() -> None:
    orders = {
        tuple(np.concatenate(batch_order(8, Settings(1, 2, 4, 1, seed=seed, balanced=True), "aaaabbbb")))
        for seed in range(6)
    }
    assert len(orders) == 6


def test_a_record_tells_that_its_batches_were_balanced(fresh_smoke: LanguageModel) -> None:
    persona = data.load_persona(data.persona_names()[0]).balanced(6)
    pairs = [replace(p, group=str(p.chosen)) for p in tokenize_persona(fresh_smoke, persona)]
    record = fine_tune(fresh_smoke, pairs, Settings(1e-4, 3, 4, 0.1, balanced=True))
    assert record.query("split == 'train'")["n"].tolist() == [2] * 6


@pytest.mark.parametrize("name", ["learning_rate", "steps", "batch_size", "beta", "tokens_per_forward"])
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(PrefdynError, match=f"{name} is {value}: it must be above 0"):
        Settings(**{**GOOD, name: value})


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"optimizer": "adam"}, "'adam' is unknown: choose adamw, rmsprop or sgd"),
        ({"loss": "ppo"}, "no loss 'ppo': choose one of dpo"),
        ({"loss": "cdpo"}, "needs a label smoothing"),
        ({"loss": "rdpo", "smoothing": 0.5}, "must lie in"),
        ({"smoothing": 0.1}, "takes no label smoothing"),
    ],
)
def test_settings_that_name_nothing_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(PrefdynError, match=says):
        Settings(**{**GOOD, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "smoothing"), [("ipo", None), ("slic", None), ("cdpo", 0.1), ("rdpo", 0.1)])
def test_every_loss_trains_its_own_function(name: str, smoothing: float | None) -> None:
    lm = load()
    settings = Settings(**GOOD | {"batch_size": 8, "steps": 2}, loss=name, smoothing=smoothing)
    record = fine_tune(lm, answers(lm), settings)
    at_zero = float(losses.get(name, smoothing).value(torch.zeros(1)))
    assert record["loss"][0] == pytest.approx(at_zero, abs=2 * rounding.of_margins(lm.model, settings.beta))
    assert record["loss"][1] < at_zero


def test_a_loss_object_trains_as_its_name_does() -> None:
    settings = Settings(1e-3, 3, 4, beta=0.5)
    own = losses.Loss.of("mine", losses.dpo().value)
    by_name, by_object = (
        fine_tune(lm, answers(lm), replace(settings, loss=loss)) for loss in ("dpo", own) for lm in [load()]
    )
    pd.testing.assert_frame_equal(by_object, by_name)
    assert replace(settings, loss=own).describe() == {**settings.describe(), "loss": own.describe()}
    assert settings.describe()["loss"] == "dpo"
