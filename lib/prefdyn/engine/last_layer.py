"""Training of the unembedding alone: two rows of W on fixed features, where the theory of chapters 1 to 3 is
exact.

With labels s_i and u = W_t[y_+] - W_0[y_+] (the row of y_- moves by -u) the margin is r_i = 2 beta s_i u.g_i,
and gradient descent on the mean of f(r) is u <- u + (eta beta / n) sum_i s_i (-f'(r_i)) g_i (LD Section 4.2;
GN Section 6 for other losses).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from prefdyn.engine import losses
from prefdyn.engine.training import RECORD, Settings, batch_order


@dataclass(frozen=True)
class LastLayerRun:
    """A run and its path.

    Attributes:
        record: as every run's; its splits are "train" (all training statements, not a batch) and, where
            given, "test".
        path: u(t), shape (steps + 1, d).
    """

    record: pd.DataFrame
    path: NDArray[np.float64]


def train(
    features: ArrayLike,
    labels: ArrayLike,
    settings: Settings,
    weights: ArrayLike,
    groups: ArrayLike | None = None,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    device: torch.device | str = "cpu",
) -> LastLayerRun:
    """Gradient descent on the two answer rows: exact where a batch is all of the data, stochastic where it is
    smaller.

    Args:
        features: g, shape (n, d).
        labels: +1 or -1, shape (n,).
        settings: `batch_size` >= n gives full-batch descent; the optimizer is always plain gradient descent.
        weights: W_B(0) = W_0[y_+] - W_0[y_-], shape (d,), which decides accuracy but not the dynamics.
        groups: a name for each example, shape (n,); the record keeps them apart.
        test: features and labels of held-out statements.
    """
    loss = losses.get(settings.loss, settings.smoothing)

    def put(array: ArrayLike) -> torch.Tensor:
        return torch.as_tensor(np.asarray(array), dtype=torch.float64, device=device)

    g, s = put(features), put(labels)
    initial = put(weights)
    whole = settings.batch_size >= len(s)
    order = (
        None if whole else [torch.from_numpy(batch).to(g.device) for batch in batch_order(len(s), settings)]
    )
    path = torch.zeros(settings.steps + 1, g.shape[1], dtype=g.dtype, device=g.device)
    for step in range(settings.steps):
        x, y = (g, s) if order is None else (g[order[step]], s[order[step]])
        slope = -loss.derivative(2 * settings.beta * y * (x @ path[step]))
        path[step + 1] = path[step] + settings.learning_rate * settings.beta * ((y * slope) @ x) / len(y)

    names = np.full(len(s), "all") if groups is None else np.asarray(groups)
    parts = [
        ("train", str(name), g[mask], s[mask])
        for name in np.unique(names)
        for mask in [torch.from_numpy(names == name).to(g.device)]
    ]
    if test is not None:
        parts.append(("test", "all", put(test[0]), put(test[1])))
    record = pd.concat(
        [_measure(split, name, x, y, path, initial, loss, settings.beta) for split, name, x, y in parts]
    )
    return LastLayerRun(record.sort_values(RECORD[:3], ignore_index=True)[RECORD], path.cpu().numpy())


def _measure(
    split: str,
    name: str,
    x: torch.Tensor,
    y: torch.Tensor,
    path: torch.Tensor,
    initial: torch.Tensor,
    loss: losses.Loss,
    beta: float,
) -> pd.DataFrame:
    """The record of one group along the whole path."""
    means = []
    for u in path.split(1024):
        r = 2 * beta * y * (u @ x.T)  # (steps, n)
        right = y * ((initial + 2 * u) @ x.T) >= 0
        columns = [
            loss.value(r).mean(1),
            r.mean(1),
            (r > 0).double().mean(1),
            right.double().mean(1),
            u.norm(dim=1) * 2**0.5,
        ]
        means.append(torch.stack(columns, dim=1))
    record = pd.DataFrame(
        torch.cat(means).cpu().numpy(), columns=["loss", "margin", "accuracy", "ranking_accuracy", "distance"]
    )
    return record.assign(
        step=range(len(path)), split=split, group=name, n=len(y), logp_chosen=np.nan, logp_rejected=np.nan
    )
