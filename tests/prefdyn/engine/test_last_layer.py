"""Training of two rows of W against autograd on a 2 x d matrix."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st
from numpy.typing import NDArray

from prefdyn.engine import losses
from prefdyn.engine.last_layer import train
from prefdyn.engine.training import RECORD, Settings, batch_order
from prefdyn.errors import PrefdynError

D = 6
F_OF_R = {
    "dpo": lambda r: F.softplus(-r),
    "ipo": lambda r: (r - 1) ** 2,
    "slic": lambda r: torch.clamp(1 - r, min=0),
    "cdpo": lambda r: 0.9 * F.softplus(-r) + 0.1 * F.softplus(r),
    "rdpo": lambda r: (0.9 * F.softplus(-r) - 0.1 * F.softplus(r)) / 0.8,
}


def make_data(seed: int, n: int = 24) -> tuple[NDArray[np.float64], NDArray[np.int8], NDArray[np.float64]]:
    """Features, labels and the two starting rows of W (for y_+ and y_-)."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(n) < 0.4, 1, -1).astype(np.int8)
    labels[:2] = 1, -1
    return rng.normal(size=(n, D)) + 0.5 * labels[:, None] + 0.3, labels, rng.normal(size=(2, D))


def settings(**changes: object) -> Settings:
    return Settings(**{"learning_rate": 0.5, "steps": 8, "batch_size": 10**6, "beta": 0.4, **changes})  # type: ignore[arg-type]


def descend(g: NDArray, s: NDArray, rows: NDArray, how: Settings) -> tuple[list[NDArray], list[float]]:
    """W and the loss at every step of descent by autograd on both rows, with log-softmax over answers."""
    x, start = torch.from_numpy(g), torch.from_numpy(rows)
    weight = start.clone().requires_grad_()
    whole = how.batch_size >= len(s)
    order = [np.arange(len(s))] * how.steps if whole else batch_order(len(s), how)
    path, values = [rows], []

    def mean_loss(w: torch.Tensor, batch: NDArray) -> torch.Tensor:
        chosen = torch.from_numpy((s[batch] < 0).astype(np.int64))[:, None]
        now, before = (F.log_softmax(x[batch] @ matrix.T, dim=1) for matrix in (w, start))
        ratio = (now - before).gather(1, chosen) - (now - before).gather(1, 1 - chosen)
        return F_OF_R[how.loss](how.beta * ratio).mean()

    for batch in order:
        values.append(mean_loss(weight, np.arange(len(s))).item())
        (gradient,) = torch.autograd.grad(mean_loss(weight, batch), weight)
        weight = (weight - how.learning_rate * gradient).detach().requires_grad_()
        path.append(weight.detach().numpy())
    return path, [*values, mean_loss(weight, np.arange(len(s))).item()]


@pytest.mark.parametrize("loss", list(losses.LOSSES))
@pytest.mark.parametrize("batch_size", [10**6, 5])
def test_path_is_that_of_autograd_on_both_rows(loss: str, batch_size: int) -> None:
    g, s, rows = make_data(1)
    how = settings(
        loss=loss, smoothing=0.1 if loss in ("cdpo", "rdpo") else None, batch_size=batch_size, seed=4
    )
    run = train(g, s, how, rows[0] - rows[1])
    path, values = descend(g, s, rows, how)
    np.testing.assert_allclose(run.path, [w[0] - rows[0] for w in path], rtol=0, atol=1e-12)
    np.testing.assert_allclose(-run.path, [w[1] - rows[1] for w in path], rtol=0, atol=1e-12)
    np.testing.assert_allclose(run.record["loss"], values, rtol=1e-12)
    assert np.abs(run.path[-1]).max() > 0.05


def test_record_distance_is_the_frobenius_norm_of_the_change_of_w() -> None:
    g, s, rows = make_data(2)
    run = train(g, s, settings(), rows[0] - rows[1])
    path, _ = descend(g, s, rows, settings())
    np.testing.assert_allclose(run.record["distance"], [np.linalg.norm(w - rows) for w in path], atol=1e-12)


def test_record_measures_margin_accuracy_and_ranking() -> None:
    g, s, rows = make_data(3)
    test_g, test_s, _ = make_data(4)
    run = train(g, s, settings(steps=5), rows[0] - rows[1], test=(test_g, test_s))
    path, _ = descend(g, s, rows, settings(steps=5))
    assert list(run.record.columns) == RECORD and run.path.shape == (6, D)
    for split, x, y in (("train", g, s), ("test", test_g, test_s)):
        part = run.record[run.record["split"] == split]
        assert part["step"].tolist() == list(range(6)) and set(part["n"]) == {len(y)}
        logits = np.array([y * (x @ (w[0] - w[1])) for w in path])
        margins = 0.4 * (logits - logits[0])
        np.testing.assert_allclose(part["margin"], margins.mean(axis=1), atol=1e-12)
        np.testing.assert_allclose(part["accuracy"], (margins > 0).mean(axis=1))
        np.testing.assert_allclose(part["ranking_accuracy"], (logits >= 0).mean(axis=1))
    assert run.record["loss"][0] == pytest.approx(math.log(2))


def test_record_of_a_long_run_follows_its_path_to_the_end() -> None:
    g, s, rows = make_data(8)
    run = train(g, s, settings(steps=2050, learning_rate=0.01), rows[0] - rows[1])
    assert run.record["step"].tolist() == list(range(2051))
    np.testing.assert_allclose(
        run.record["distance"], np.sqrt(2) * np.linalg.norm(run.path, axis=1), atol=1e-12
    )
    np.testing.assert_allclose(
        run.record["margin"], (2 * 0.4 * run.path @ (s[:, None] * g).T).mean(axis=1), atol=1e-12
    )


def test_groups_are_trained_together_and_recorded_apart() -> None:
    g, s, rows = make_data(5)
    groups = np.array(["one", "two", "three"])[np.arange(len(s)) % 3]
    weights = rows[0] - rows[1]
    run, joint = train(g, s, settings(), weights, groups=groups), train(g, s, settings(), weights)
    np.testing.assert_array_equal(run.path, joint.path)
    assert set(run.record["group"]) == {"one", "two", "three"} and run.record["n"].eq(8).all()
    np.testing.assert_allclose(
        run.record.groupby("step")["margin"].mean(), joint.record["margin"], atol=1e-12
    )
    x, y = g[groups == "two"], s[groups == "two"]
    expected = [(2 * 0.4 * y * (x @ u)).mean() for u in joint.path]
    np.testing.assert_allclose(run.record.loc[run.record["group"] == "two", "margin"], expected, atol=1e-12)


@given(
    st.integers(0, 10**6), st.floats(0.001, 5), st.floats(0.001, 5), st.integers(1, 12), st.integers(1, 12)
)
def test_first_step_moves_along_the_signed_mean(
    seed: int, rate: float, beta: float, positive: int, negative: int
) -> None:
    rng = np.random.default_rng(seed)
    plus, minus = rng.normal(size=(positive, D)) + 1, rng.normal(size=(negative, D))
    n = positive + negative
    run = train(
        np.vstack([plus, minus]),
        [1] * positive + [-1] * negative,
        settings(learning_rate=rate, beta=beta, steps=1),
        np.zeros(D),
    )
    expected = rate * beta / 2 * (plus.sum(axis=0) - minus.sum(axis=0)) / n
    np.testing.assert_allclose(run.path[1], expected, rtol=1e-9, atol=1e-12)
    if positive == negative:
        np.testing.assert_allclose(
            run.path[1], rate * beta / 4 * (plus.mean(axis=0) - minus.mean(axis=0)), rtol=1e-9, atol=1e-12
        )


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(PrefdynError, match="nothing to train"):
        train(np.empty((0, 3)), [], Settings(0.1, 2, 4, 0.1), np.zeros(3))


@given(st.integers(0, 10**6))
@settings_of(max_examples=30)
def test_turning_labels_and_features_together_changes_nothing(seed: int) -> None:
    g, s, rows = make_data(seed)
    weights = rows[0] - rows[1]
    np.testing.assert_allclose(
        train(-g, -s, settings(), weights).path, train(g, s, settings(), weights).path, atol=1e-12
    )
    np.testing.assert_allclose(
        train(g, -s, settings(), -weights).path, -train(g, s, settings(), weights).path, atol=1e-12
    )


def test_batches_that_miss_no_one_are_the_full_batch_of_one_epoch() -> None:
    g, s, rows = make_data(6)
    weights = rows[0] - rows[1]
    exact = train(g, s, settings(batch_size=len(s)), weights)
    np.testing.assert_array_equal(exact.path, train(g, s, settings(batch_size=len(s) + 1), weights).path)
    assert not np.allclose(exact.path, train(g, s, settings(batch_size=len(s) - 1), weights).path, atol=1e-6)


def test_gamma_other_than_1_is_refused() -> None:
    g, s, rows = make_data(8)
    with pytest.raises(PrefdynError, match=r"gamma is 0\.5: .* leave it 1"):
        train(g, s, settings(gamma=0.5), rows[0] - rows[1])


@pytest.mark.gpu
def test_path_on_cuda_is_that_of_the_cpu(cuda: torch.device) -> None:
    g, s, rows = make_data(7)
    here, there = (train(g, s, settings(), rows[0] - rows[1], device=device) for device in ("cpu", cuda))
    np.testing.assert_allclose(there.path, here.path, rtol=0, atol=1e-10)
