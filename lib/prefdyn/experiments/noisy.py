"""Training of the unembedding on wrong labels: many noise rates and losses at once, as matrix products.

A trial draws its points once. Every label has one uniform number, and is wrong at all noise rates above it;
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

from prefdyn.engine.last_layer import Descent, accuracy, descend, mislabelled
from prefdyn.engine.losses import Loss
from prefdyn.theory import vmf


@dataclass(frozen=True)
class Cloud:
    """Two von Mises-Fisher distributions of the same concentration.

    Attributes:
        relative_kappa: the concentration for its dimension, 2 kappa / d; NZ's gamma.
        angle: between the two means, in radians; NZ's theta is half of it.
        dimension: d.
    """

    relative_kappa: float
    angle: float
    dimension: int

    @property
    def kappa(self) -> float:
        return self.relative_kappa * self.dimension / 2

    def draw(
        self, per_label: int, rng: np.random.Generator, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """Points, shape (2 per_label, d), float32, positives first, and their labels, +1 and -1."""
        means = np.zeros((2, self.dimension))
        means[:, 0] = np.cos(self.angle / 2)
        means[:, 1] = np.sin(self.angle / 2), -np.sin(self.angle / 2)
        points = [vmf.sample(mean, self.kappa, per_label, rng, torch.float32, device) for mean in means]
        return torch.cat(points), torch.tensor([1.0, -1.0], device=device).repeat_interleave(per_label)


def controlled(
    cloud: Cloud,
    losses: Mapping[str, Loss],
    descents: Mapping[str, Descent],
    rates: ArrayLike,
    per_label: int,
    trials: int,
    seed: Sequence[int] = (0,),
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """One setting of the controlled experiment of NZ Section 4.1: test accuracy over noise rates.

    Args:
        descents: by name; all train on the same points and labels.
        per_label: training points of each label; as many are tested on, drawn afresh in each trial.
        seed: numbers that, with a trial's own, decide all that it draws.

    Returns:
        Columns training (which descent), loss, trial, rate, accuracy.
    """
    noise = torch.as_tensor(np.asarray(rates), dtype=torch.float32, device=device)

    def run(trial: int) -> list[tuple]:
        rng = np.random.default_rng([*seed, trial])
        (x, s), test = (cloud.draw(per_label, rng, device) for _ in range(2))
        uniforms = torch.from_numpy(rng.random(len(s), dtype=np.float32)).to(device)
        labels = mislabelled(s, uniforms, noise)
        parts: list[tuple] = []
        for name, descent in descents.items():
            right = accuracy(descend(x, labels, list(losses.values()), descent), *test).cpu().numpy()
            parts.extend((name, loss, trial, row) for loss, row in zip(losses, right, strict=True))
        return parts

    with _workers(device) as pool:
        parts = [part for result in pool.map(run, range(trials)) for part in result]
    return _long(parts, ["training", "loss", "trial"], np.asarray(rates))


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
        wrong = mislabelled(y, torch.from_numpy(rng.random(len(y), dtype=np.float32)).to(device), noise)
        parts.append((trial, accuracy(descend(x, wrong, [loss], descent), *test)[0].cpu().numpy()))
    return _long(parts, ["trial"], np.asarray(rates))


def _long(parts: Sequence[tuple], names: Sequence[str], rates: NDArray) -> pd.DataFrame:
    """Rows of names and an array over rates, as one row a rate."""
    frame = pd.DataFrame([part[:-1] for part in parts], columns=list(names))
    frame = frame.loc[frame.index.repeat(len(rates))].reset_index(drop=True)
    return frame.assign(
        rate=np.tile(rates, len(parts)), accuracy=np.concatenate([part[-1] for part in parts])
    )
