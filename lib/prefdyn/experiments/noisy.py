"""Training of the unembedding on wrong labels: many noise rates and losses at once, as matrix products.

A trial draws its points once. Every label has one uniform number, and is wrong at all noise rates above it;
so one matrix of labels holds every rate, and a step of descent for all rates and losses is two matrix
products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from prefdyn.data import noise as label_noise
from prefdyn.engine import losses as known
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
        x, s, test, uniforms = _drawn(cloud, per_label, (*seed, trial), device)
        labels = mislabelled(s, uniforms, noise)
        parts: list[tuple] = []
        for name, descent in descents.items():
            right = accuracy(descend(x, labels, list(losses.values()), descent), *test).cpu().numpy()
            parts.extend((name, loss, trial, row) for loss, row in zip(losses, right, strict=True))
        return parts

    return _long(_over_trials(run, trials, device), ["training", "loss", "trial"], np.asarray(rates))


def through_time(
    cloud: Cloud,
    losses: Mapping[str, Loss],
    descents: Mapping[float, Descent],
    rates: ArrayLike,
    per_label: int,
    trials: int,
    seed: Sequence[int] = (0,),
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """The same at several lengths of training, in a table with a column a noise rate.

    Args:
        descents: by the time that they are called by.

    Returns:
        Columns loss, time, trial; loss ratio: of the training loss at the end to that at the beginning, under
        the first noise rate; and the accuracy at each noise rate, called by the rate.
    """
    noise = torch.as_tensor(np.asarray(rates), dtype=torch.float32, device=device)
    names = [f"{rate:g}" for rate in np.asarray(rates)]

    def run(trial: int) -> list[dict[str, Any]]:
        x, s, test, uniforms = _drawn(cloud, per_label, (*seed, trial), device)
        labels = mislabelled(s, uniforms, noise)
        rows: list[dict[str, Any]] = []
        for time, descent in descents.items():
            u = descend(x, labels, list(losses.values()), descent)
            margins = 2 * descent.beta * labels[0] * (u[:, 0] @ x.T)
            for (name, loss), right, r in zip(losses.items(), accuracy(u, *test), margins, strict=True):
                ratio = float(loss.value(r).mean() / loss.value(torch.zeros_like(r)).mean())
                about: dict[str, float | str] = {"loss": name, "time": time, "trial": trial}
                about["loss ratio"] = ratio
                rows.append({**about, **dict(zip(names, right.tolist(), strict=True))})
        return rows

    return pd.DataFrame(_over_trials(run, trials, device))


ROBUST = ("cDPO", "rDPO")
"""Losses that are told a noise rate."""


def by_kind(
    cloud: Cloud,
    descents: Mapping[float, Descent],
    rates: Sequence[float],
    told: float,
    per_label: int,
    trials: int,
    seed: Sequence[int] = (0,),
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """Noise that is a coin and noise that is not, at the same mean rates, with DPO and with losses that are
    told the rate, or another one.

    An example is clear or not by its distance from the boundary between the two means.

    Args:
        descents: by the time that they are called by.
        told: the rate that `ROBUST` losses are told where they are not told the true one.

    Returns:
        Columns kind, loss ("cDPO" is told the rate, "cDPO, told 0.2" is not), time, trial, rate, accuracy.
    """

    def run(trial: int) -> list[tuple]:
        x, s, test, uniforms = _drawn(cloud, per_label, (*seed, trial), device)
        margins, signs = x[:, 1].cpu().numpy(), s.cpu().numpy()  # the means differ along the second axis
        rows: list[tuple] = []
        for rate in rates:
            wrong = np.stack(
                [label_noise.flip_probabilities(kind, signs, margins, rate) for kind in label_noise.KINDS]
            )
            odds = torch.from_numpy(wrong).to(uniforms)
            labels = torch.where(uniforms < odds, -s, s)
            family = {
                "DPO": known.dpo(),
                **{name: known.get(name.lower(), min(rate, 0.49)) for name in ROBUST},
                **{f"{name}, told {told:g}": known.get(name.lower(), told) for name in ROBUST},
            }
            for time, descent in descents.items():
                right = accuracy(descend(x, labels, list(family.values()), descent), *test)
                rows.extend(
                    (kind, loss, time, trial, rate, value)
                    for loss, row in zip(family, right.tolist(), strict=True)
                    for kind, value in zip(label_noise.KINDS, row, strict=True)
                )
        return rows

    return pd.DataFrame(
        _over_trials(run, trials, device), columns=["kind", "loss", "time", "trial", "rate", "accuracy"]
    )


def _drawn(
    cloud: Cloud, per_label: int, seed: Sequence[int], device: torch.device | str
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], Tensor]:
    """Of a trial: points, their labels, test points with theirs, and a uniform number for each label."""
    rng = np.random.default_rng(seed)
    (x, s), test = (cloud.draw(per_label, rng, device) for _ in range(2))
    return x, s, test, torch.from_numpy(rng.random(len(s), dtype=np.float32)).to(device)


def _over_trials(run: Callable[[int], list[Any]], trials: int, device: torch.device | str) -> list[Any]:
    """The rows of all trials."""
    with _workers(device) as pool:
        return [row for rows in pool.map(run, range(trials)) for row in rows]


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
