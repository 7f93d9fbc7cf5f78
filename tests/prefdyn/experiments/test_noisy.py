"""The controlled experiment against the unembedding trainer and torch's own optimizer, one noise rate at a
time.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import rounding
import torch
from torch import nn

from prefdyn.engine import last_layer, losses
from prefdyn.engine.last_layer import Descent, train
from prefdyn.engine.training import Settings
from prefdyn.experiments import noisy

EVERY = {name: losses.get(name, 0.1 if name in ("cdpo", "rdpo") else None) for name in losses.LOSSES}
RATES = [0.0, 0.2, 0.5, 1.0]


def points(seed: int = 0, n: int = 40, d: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    x, s = noisy.Cloud(1.0, 2.0, d).draw(n // 2, rng)
    return x, s, torch.from_numpy(rng.random(n, dtype=np.float32))


def allowed(u: torch.Tensor, steps: int, n: int = 40, d: int = 6) -> float:
    """What rounding leaves between ends of a descent: a step adds d numbers for a margin and n for u."""
    return rounding.rounding(float(u.abs().max()), steps * (n + d))


def test_every_rate_and_loss_is_the_run_that_it_would_be_alone() -> None:
    x, s, uniforms = points()
    labels = last_layer.mislabelled(s, uniforms, torch.tensor(RATES))
    u = last_layer.descend(x, labels, list(EVERY.values()), Descent(beta=0.7, learning_rate=3.0, steps=12))
    assert u.shape == (5, 4, 6)
    for i, (name, loss) in enumerate(EVERY.items()):
        smoothing = 0.1 if name in ("cdpo", "rdpo") else None
        for j, rate in enumerate(RATES):
            alone = np.where(uniforms.numpy() < rate, -s.numpy(), s.numpy())
            settings = Settings(3.0, 12, 10**6, 0.7, loss=loss.name, smoothing=smoothing, optimizer="sgd")
            run = train(x.numpy(), alone, settings, np.zeros(6))
            np.testing.assert_allclose(u[i, j], run.path[-1], rtol=0, atol=allowed(u, 12))


def test_it_is_the_two_output_model_with_torchs_optimizer() -> None:
    x, s, uniforms = points(1)
    model = nn.Linear(6, 2, bias=False)
    nn.init.zeros_(model.weight)
    labels = last_layer.mislabelled(s, uniforms, torch.tensor([0.3]))
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    for _ in range(8):
        logits = model(x)
        loss = losses.dpo().value(0.5 * labels[0] * (logits[:, 0] - logits[:, 1])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    u = last_layer.descend(x, labels, [losses.dpo()], Descent(0.5, 2.0, 8))[0, 0]
    torch.testing.assert_close(u, model.weight[0].detach(), rtol=0, atol=allowed(u, 8))
    right = ((model(x) * torch.tensor([1.0, -1.0])).sum(1) * s > 0).double().mean()
    assert last_layer.accuracy(u[None, None], x, s).item() == pytest.approx(right.item())


def test_flips_are_independent_with_the_rate_and_grow_with_it() -> None:
    s = torch.ones(20_000)
    uniforms = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    labels = last_layer.mislabelled(s, uniforms, torch.tensor([0.0, 0.1, 0.6, 1.0]))
    shares = (labels < 0).double().mean(1)
    assert shares[0] == 0 and shares[3] == 1
    np.testing.assert_allclose(shares[1:3], [0.1, 0.6], atol=4 * math.sqrt(0.25 / 20_000))
    assert ((labels[1:] < 0) | (labels[:-1] > 0)).all(), (
        "what is flipped at a rate is flipped at every higher one"
    )


def test_table_has_a_row_for_every_case_and_comes_back_from_its_seed() -> None:
    descents = {"one": Descent(0.1, 1, 1), "ten": Descent(0.1, 1, 10)}
    arguments = (noisy.Cloud(0.5, 1.0, 8), EVERY, descents, RATES, 50, 3)
    table = noisy.controlled(*arguments)
    assert list(table.columns) == ["training", "loss", "trial", "rate", "accuracy"]
    assert len(table) == 2 * 5 * 3 * 4
    by = ["training", "loss", "trial"]
    assert table.groupby(by)["rate"].apply(list).map(RATES.__eq__).all()
    pd.testing.assert_frame_equal(table, noisy.controlled(*arguments))
    for other in ((1,), (0, 1)):
        assert not table["accuracy"].equals(noisy.controlled(*arguments, seed=other)["accuracy"])
    ends = table.pivot_table(index=by, columns="rate", values="accuracy")
    # With every label wrong the boundary is the same, turned round.
    np.testing.assert_allclose(ends[0.0] + ends[1.0], 1)
    wide = noisy.controlled(noisy.Cloud(0.5, math.pi, 8), *arguments[1:])
    assert wide.query("rate == 0")["accuracy"].mean() > ends[0.0].mean()


def test_first_step_is_the_same_for_every_loss() -> None:
    cloud, one = noisy.Cloud(0.5, 2.0, 16), {"": Descent(0.1, 1, 1)}
    table = noisy.controlled(cloud, EVERY, one, RATES, 100, 2)
    assert (table.groupby(["trial", "rate"])["accuracy"].nunique() == 1).all()


def test_through_time_is_the_controlled_experiment_at_each_time() -> None:
    cloud, rates = noisy.Cloud(0.5, 1.0, 8), [0.0, 0.2]
    times = {0.5: Descent(0.1, 10, 5), 5.0: Descent(0.1, 50, 10)}
    some = {name: EVERY[name] for name in ("dpo", "ipo")}
    table = noisy.through_time(cloud, some, times, rates, 50, 3, (4,))
    assert list(table.columns) == ["loss", "time", "trial", "loss ratio", "0", "0.2"] and len(table) == 12
    for time, descent in times.items():
        alone = noisy.controlled(cloud, some, {"": descent}, rates, 50, 3, (4,))
        wide = alone.pivot(index=["loss", "trial"], columns="rate", values="accuracy")
        part = table[table["time"] == time].set_index(["loss", "trial"])
        np.testing.assert_allclose(part.loc[wide.index, ["0", "0.2"]], wide)
    # The loss of the first trial, from the unembedding trainer.
    x, s = cloud.draw(50, np.random.default_rng([4, 0]))
    settings = Settings(50, 10, 10**6, 0.1, optimizer="sgd")
    record = train(x.numpy(), s.numpy(), settings, np.zeros(8)).record
    ratio = record.query("step == 10")["loss"].item() / math.log(2)
    found = table.query("loss == 'dpo' and time == 5 and trial == 0")["loss ratio"].item()
    assert found == pytest.approx(ratio, rel=1e-4)


def test_kinds_of_noise_share_points_and_a_coin_is_the_controlled_experiment() -> None:
    cloud, times = noisy.Cloud(1.0, 1.0, 8), {1.0: Descent(0.1, 10, 10)}
    table = noisy.by_kind(cloud, times, [0.0, 0.3], 0.2, 60, 3, (5,))
    assert len(table) == 4 * 5 * 1 * 3 * 2
    coin = table.query("kind == 'coin' and loss == 'DPO'")
    alone = noisy.controlled(cloud, {"dpo": EVERY["dpo"]}, {"": times[1.0]}, [0.0, 0.3], 60, 3, (5,))
    keys = ["trial", "rate"]
    pd.testing.assert_series_equal(
        coin.set_index(keys)["accuracy"].sort_index(), alone.set_index(keys)["accuracy"].sort_index()
    )
    clean = table.query("rate == 0 and loss in ('DPO', 'cDPO', 'rDPO')")  # told that nothing is wrong
    assert (clean.groupby("trial")["accuracy"].nunique() == 1).all()
    assert table.query("rate == 0.3").groupby("kind")["accuracy"].mean().nunique() > 1


def test_halves_of_given_features_share_no_example() -> None:
    rng = np.random.default_rng(0)
    # Every example has a direction of its own, so that only examples seen in training have a margin.
    features, labels = np.eye(40, dtype=np.float32), np.repeat([1, -1], 20)
    table = noisy.resplit(features, labels, losses.dpo(), Descent(0.1, 1, 5), RATES, trials=4)
    assert len(table) == 16 and (table["accuracy"] == 0).all()
    easy = np.outer(labels, rng.normal(size=5)) + 0.1 * rng.normal(size=(40, 5))
    assert (
        noisy.resplit(easy, labels, losses.dpo(), Descent(0.1, 1, 5), [0.0], trials=3)["accuracy"].eq(1).all()
    )


@pytest.mark.gpu
def test_cuda_trains_as_the_cpu_does(cuda: torch.device) -> None:
    x, s, uniforms = points(n=400, d=64)
    labels = last_layer.mislabelled(s, uniforms, torch.tensor(RATES))
    descent = Descent(0.7, 3.0, 12)
    here = last_layer.descend(x, labels, list(EVERY.values()), descent)
    there = last_layer.descend(x.to(cuda), labels.to(cuda), list(EVERY.values()), descent)
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=allowed(here, 12, n=400, d=64))
