"""Training of the unembedding on wrong labels: many noise rates and losses at once, as matrix products.

A trial draws its points once. Every label has one uniform number, and is flipped at all noise rates above it;
so one matrix of labels holds every rate, and a step of descent for all rates and losses is two matrix
products.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from prefdyn.engine.losses import Loss
from prefdyn.theory import vmf


@dataclass(frozen=True)
class Descent:
    """Full-batch gradient descent on the two answer rows: u <- u + (eta beta / n) sum_i s_i (-f'(r_i)) g_i
    with r_i = 2 beta s_i u.g_i.

    Attributes:
        learning_rate: eta, 1 / tau for steps of length 1.
        steps: epochs, as every step sees all of the data.
    """

    beta: float
    learning_rate: float
    steps: int

    @property
    def time(self) -> float:
        """t / tau at the end."""
        return self.learning_rate * self.steps


@dataclass(frozen=True)
class Cloud:
    """Two von Mises-Fisher distributions of the same concentration.

    Attributes:
        gamma: normalised concentration 2 kappa / d.
        angle: between the two means, in radians; NZ's theta is half of it.
        dimension: d.
    """

    gamma: float
    angle: float
    dimension: int

    @property
    def kappa(self) -> float:
        return self.gamma * self.dimension / 2

    def draw(
        self, per_label: int, rng: np.random.Generator, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """Points, shape (2 per_label, d), float32, positives first, and their labels, +1 and -1."""
        means = np.zeros((2, self.dimension))
        means[:, 0] = np.cos(self.angle / 2)
        means[:, 1] = np.sin(self.angle / 2), -np.sin(self.angle / 2)
        points = [vmf.sample(mean, self.kappa, per_label, rng, torch.float32, device) for mean in means]
        return torch.cat(points), torch.tensor([1.0, -1.0], device=device).repeat_interleave(per_label)


def flipped(labels: Tensor, uniforms: Tensor, rates: Tensor) -> Tensor:
    """Labels at every noise rate, shape (rates, n): a label is flipped where its uniform number lies below
    the rate.
    """
    return torch.where(uniforms < rates[:, None], -labels, labels)


def train(features: Tensor, labels: Tensor, losses: Sequence[Loss], descent: Descent) -> Tensor:
    """u at the end of the descent, shape (losses, rates, d).

    Args:
        features: g, shape (n, d).
        labels: +1 or -1, shape (rates, n).
    """
    n, d = features.shape
    u = torch.zeros(len(losses), len(labels), d, dtype=features.dtype, device=features.device)
    for _ in range(descent.steps):
        margins = (
            (u.flatten(0, 1) @ features.T)
            .view(len(losses), len(labels), n)
            .mul_(labels)
            .mul_(2 * descent.beta)
        )
        slopes = torch.stack([loss.derivative(r) for loss, r in zip(losses, margins, strict=True)]).mul_(
            labels
        )
        u -= descent.learning_rate * descent.beta / n * (slopes.flatten(0, 1) @ features).view_as(u)
    return u


def accuracy(u: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """One minus the population risk P(r <= 0) on features with true labels, shape (losses, rates)."""
    return ((u.flatten(0, 1) @ features.T).view(*u.shape[:2], -1) * labels > 0).double().mean(-1)


def controlled(
    clouds: Mapping[str, Cloud],
    losses: Mapping[str, Loss],
    descents: Mapping[str, Descent],
    rates: ArrayLike,
    per_label: int,
    trials: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """The controlled experiment of NZ Section 4.1: test accuracy over noise rates.

    Args:
        per_label: training points of each label; as many are tested on, drawn afresh in each trial.
        descents: by name; all train on the same points and labels.

    Returns:
        Columns setting, descent, loss, trial, rate, accuracy.
    """
    noise = torch.as_tensor(np.asarray(rates), dtype=torch.float32, device=device)

    def run(case: tuple[int, tuple[str, Cloud], int]) -> list[tuple]:
        number, (name, cloud), trial = case
        rng = np.random.default_rng([seed, number, trial])
        (x, s), test = (cloud.draw(per_label, rng, device) for _ in range(2))
        noisy = flipped(s, torch.from_numpy(rng.random(len(s), dtype=np.float32)).to(device), noise)
        parts: list[tuple] = []
        for descent_name, descent in descents.items():
            right = accuracy(train(x, noisy, list(losses.values()), descent), *test).cpu().numpy()
            parts.extend(
                (name, descent_name, loss, trial, row) for loss, row in zip(losses, right, strict=True)
            )
        return parts

    cases = [(number, item, trial) for number, item in enumerate(clouds.items()) for trial in range(trials)]
    with _workers(device) as pool:
        parts = [part for result in pool.map(run, cases) for part in result]
    return _long(parts, ["setting", "descent", "loss", "trial"], np.asarray(rates))


@contextmanager
def _workers(device: torch.device | str) -> Iterator[ThreadPoolExecutor]:
    """On a CPU, trials side by side with one thread each: a product so small gains little from threads of its
    own.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads if torch.device(device).type == "cpu" else 1) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


def resplit(
    features: ArrayLike,
    labels: ArrayLike,
    loss: Loss,
    descent: Descent,
    rates: ArrayLike,
    trials: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """The same on given features: a trial trains on a random half of each label and tests on the other.

    Args:
        features: shape (n, d).
        labels: true labels, +1 or -1, shape (n,).

    Returns:
        Columns trial, rate, accuracy.
    """
    g, s = np.asarray(features, dtype=np.float32), np.asarray(labels, dtype=np.float32)
    noise = torch.as_tensor(np.asarray(rates), dtype=torch.float32, device=device)
    parts = []
    for trial in range(trials):
        rng = np.random.default_rng([seed, trial])
        order = [rng.permutation(np.flatnonzero(s == sign)) for sign in (1, -1)]
        size = min(map(len, order)) // 2
        chosen = [np.concatenate([part[start : start + size] for part in order]) for start in (0, size)]
        (x, y), test = [
            (torch.from_numpy(g[i]).to(device), torch.from_numpy(s[i]).to(device)) for i in chosen
        ]
        noisy = flipped(y, torch.from_numpy(rng.random(len(y), dtype=np.float32)).to(device), noise)
        parts.append((trial, accuracy(train(x, noisy, [loss], descent), *test)[0].cpu().numpy()))
    return _long(parts, ["trial"], np.asarray(rates))


def _long(parts: Sequence[tuple], names: Sequence[str], rates: NDArray) -> pd.DataFrame:
    """Rows of names and an array over rates, as one row a rate."""
    frame = pd.DataFrame([part[:-1] for part in parts], columns=list(names))
    frame = frame.loc[frame.index.repeat(len(rates))].reset_index(drop=True)
    return frame.assign(
        rate=np.tile(rates, len(parts)), accuracy=np.concatenate([part[-1] for part in parts])
    )
