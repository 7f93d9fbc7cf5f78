"""Training of the unembedding alone: two rows of W on fixed features, where the theory of chapters 1 to 3 is exact.

With labels s_i and u = W_t[y_+] - W_0[y_+] (the row of y_- moves by -u) the margin is r_i = 2 beta s_i u.g_i, and gradient descent
on the mean of f(r) is u <- u + (eta beta / n) sum_i s_i (-f'(r_i)) g_i (LD Section 4.2; GN Section 6 for other losses).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from prefdyn import losses
from prefdyn.training import RECORD, Settings, batch_order


@dataclass(frozen=True)
class UnembeddingRun:
    """A run and its path.

    Attributes:
        record: as every run's; its splits are "train" (all training statements, not a batch) and, where given, "test".
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
) -> UnembeddingRun:
    """Gradient descent on the two answer rows: exact where a batch is all of the data, stochastic where it is smaller.

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
    names = np.full(len(s), "all") if groups is None else np.asarray(groups)
    parts = [("train", name, g[mask], s[mask]) for name in np.unique(names) for mask in [torch.from_numpy(names == name).to(g.device)]]
    if test is not None:
        parts.append(("test", "all", put(test[0]), put(test[1])))
    whole = settings.batch_size >= len(s)
    order = None if whole else [torch.from_numpy(batch).to(g.device) for batch in batch_order(len(s), settings)]

    u = torch.zeros_like(g[0])
    path, rows = [u], []
    for step in range(settings.steps + 1):
        boundary = initial + 2 * u
        for split, name, x, y in parts:
            r = 2 * settings.beta * y * (x @ u)
            right = y * (x @ boundary) >= 0
            means = torch.stack([loss.value(r).mean(), r.mean(), (r > 0).double().mean(), right.double().mean(), u.norm() * 2**0.5])
            rows.append((step, split, name, len(y), means))
        if step == settings.steps:
            break
        x, y = (g, s) if order is None else (g[order[step]], s[order[step]])
        slope = -loss.derivative(2 * settings.beta * y * (x @ u))
        u = u + settings.learning_rate * settings.beta * ((y * slope) @ x) / len(y)
        path.append(u)

    record = pd.DataFrame([row[:4] for row in rows], columns=RECORD[:4])
    record[["loss", "margin", "accuracy", "ranking_accuracy", "distance"]] = torch.stack([row[4] for row in rows]).cpu().numpy()
    record[["logp_chosen", "logp_rejected"]] = np.nan
    return UnembeddingRun(record[RECORD], torch.stack(path).cpu().numpy())
