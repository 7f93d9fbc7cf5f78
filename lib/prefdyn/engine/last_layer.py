"""Training of the unembedding alone: two rows of W on fixed features.

There the theory of chapters 1 to 3 is exact. With labels s_i and u = W_t[y_+] - W_0[y_+] (the row of y_-
moves by -u) the margin is r_i = 2 beta s_i u.g_i, and gradient descent on the mean of f(r) is
u <- u + (eta beta / n) sum_i s_i (-f'(r_i)) g_i (LD Section 4.2; GN Section 6 for other losses).
`descent_steps` takes these steps, for many losses and labellings at once; all else here is made of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from prefdyn.engine import losses
from prefdyn.engine.losses import Loss
from prefdyn.engine.training import RECORD, Settings, batch_order
from prefdyn.errors import PrefdynError


@dataclass(frozen=True)
class Descent:
    """Full-batch gradient descent on the two answer rows.

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


def descent_steps(
    scores: Tensor,
    labels: Tensor,
    losses: Sequence[Loss],
    descent: Descent,
    moves: Tensor | None = None,
    batches: Sequence[Tensor] | None = None,
) -> Iterator[Tensor]:
    """u before the descent and after each of its steps: one tensor, changed in place.

    u may be given by its d coordinates or, as it never leaves the span of the states, by the coefficients in
    u = sum_i a_i g_i; both are m numbers here.

    Args:
        scores: by which u is multiplied to give u.g_i: the features, transposed, or the inner products of
            the states, shape (..., m, n).
        labels: +1 or -1, or 0 for an example that is left out, shape (..., k, n): k trainings on the same
            states.
        moves: what a unit of weight on each example adds to u, shape (n, m): the features; None where u is
            given by its coefficients.
        batches: indices of the examples that each step sees; all of them where None.

    Yields:
        Shape (losses, ..., k, m).
    """
    u = labels.new_zeros(len(losses), *labels.shape[:-1], scores.shape[-2])
    yield u
    for step in range(descent.steps):
        score, s, move = scores, labels, moves
        if batches is not None:
            score, s = scores[..., batches[step]], labels[..., batches[step]]
            move = None if moves is None else moves[batches[step]]
        margins = (u @ score).mul_(s).mul_(2 * descent.beta)
        slopes = torch.stack([loss.derivative(r) for loss, r in zip(losses, margins, strict=True)]).mul_(s)
        u -= descent.learning_rate * descent.beta / s.shape[-1] * (slopes if move is None else slopes @ move)
        yield u


def descend(features: Tensor, labels: Tensor, losses: Sequence[Loss], descent: Descent) -> Tensor:
    """u at the end of the descent, shape (losses, k, d).

    Args:
        features: g, shape (n, d).
        labels: shape (k, n), as `mislabelled` makes them, for k trainings.
    """
    *_, u = descent_steps(features.T, labels, losses, descent, features)
    return u


def descend_coefficients(inner: Tensor, labels: Tensor, loss: Loss, descent: Descent) -> Tensor:
    """Coefficients of u(t) = sum_i a_i(t) g_i along the descent, for any number of trainings at once.

    Args:
        inner: inner products of the training states, shape (..., n, n).
        labels: +1 or -1 as given, shape (..., k, n): k trainings on the same states.

    Returns:
        a, shape (steps + 1, ..., k, n). A state x has u(t).x = sum_i a_i(t) g_i.x.
    """
    path = labels.new_empty(descent.steps + 1, *labels.shape)
    for at, u in zip(path, descent_steps(inner, labels, [loss], descent), strict=True):
        at.copy_(u[0])
    return path


def mislabelled(labels: Tensor, uniforms: Tensor, rates: Tensor) -> Tensor:
    """Labels at every noise rate, shape (rates, n): turned where the label's uniform number is below it."""
    return torch.where(uniforms < rates[:, None], -labels, labels)


def accuracy(u: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """One minus the population risk P(r <= 0) on features with true labels, shape (losses, k)."""
    return (u @ features.T * labels > 0).double().mean(-1)


# One training and its record ------------------------------------------------------------------------


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
    """Gradient descent on the two answer rows, and its record.

    It is exact where a batch is all of the data, stochastic where it is smaller.

    Args:
        features: g, shape (n, d).
        labels: +1 or -1, shape (n,).
        settings: `batch_size` >= n gives full-batch descent; the optimizer is always plain gradient descent.
        weights: W_B(0) = W_0[y_+] - W_0[y_-], shape (d,), which decides accuracy but not the dynamics.
        groups: a name for each example, shape (n,); the record keeps them apart.
        test: features and labels of held-out statements.

    Raises:
        PrefdynError: no such loss, a gamma other than 1, or nothing to train on.
    """
    if not len(np.asarray(labels)):
        raise PrefdynError("there is nothing to train the two answer rows on: there are no hidden states")
    if settings.gamma != 1:
        raise PrefdynError(
            f"gamma is {settings.gamma}: training of the two answer rows begins at margins of 0, leave it 1"
        )
    loss = losses.get(settings.loss, settings.smoothing)

    def put(array: ArrayLike) -> Tensor:
        return torch.as_tensor(np.asarray(array), dtype=torch.float64, device=device)

    g, s = put(features), put(labels)
    initial = put(weights)
    batches = None
    if settings.batch_size < len(s):
        order = batch_order(len(s), settings, strata=s.tolist())
        batches = [torch.from_numpy(batch).to(g.device) for batch in order]
    descent = Descent(settings.beta, settings.learning_rate, settings.steps)
    path = g.new_empty(settings.steps + 1, g.shape[1])
    for at, u in zip(path, descent_steps(g.T, s[None], [loss], descent, g, batches), strict=True):
        at.copy_(u[0, 0])

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
    x: Tensor,
    y: Tensor,
    path: Tensor,
    initial: Tensor,
    loss: Loss,
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
