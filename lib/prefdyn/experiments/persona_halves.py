"""Measures of one persona from all four papers, each on both halves of many random splits of its statements.

All are of the two-row model (`engine.last_layer`). Its u never leaves the span of the states that it was
trained on, u = sum_i a_i g_i, so that with n statements everything follows from their n x n inner products:
thousands of small trainings are one batched product a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from prefdyn.engine.last_layer import Descent, descend, descend_coefficients, mislabelled
from prefdyn.engine.losses import Loss
from prefdyn.measures.geometry import cosine, moments
from prefdyn.measures.halves import divide
from prefdyn.theory import ranking

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Statements:
    """The statements of a persona and their splits into halves.

    Attributes:
        features: g, shape (n, d).
        labels: +1 or -1, shape (n,).
        log_ratio: of the preferred answer before training, s W_B(0).g, in nats, shape (n,); below 0 is ranked
            wrong.
        halves: indices, shape (splits, 2, h), of each half the positive statements first.
    """

    features: Array
    labels: Array
    log_ratio: Array
    halves: NDArray[np.int64]

    @classmethod
    def of(
        cls, features: ArrayLike, labels: ArrayLike, weights: ArrayLike, splits: int, rng: np.random.Generator
    ) -> Statements:
        """Split at random.

        Args:
            weights: W_B(0), shape (d,).
        """
        g, s = np.asarray(features, dtype=np.float64), np.asarray(labels, dtype=np.float64)
        return cls(g, s, s * (g @ np.asarray(weights, dtype=np.float64)), divide(s, 2, splits, rng))

    @property
    def inner(self) -> Tensor:
        """Inner products of all states, shape (n, n)."""
        return torch.from_numpy(self.features @ self.features.T)

    def divided(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Every half divided in two, `count` times: indices, shape (splits, 2, count, 2, q)."""
        splits, _, size = self.halves.shape
        places = divide(np.repeat([1, -1], size // 2), 2, splits * 2 * count, rng)
        parts = places.reshape(splits, 2, count, 2, -1)
        return np.take_along_axis(self.halves[:, :, None, None, :], parts, axis=-1)


def before_training(persona: Statements) -> dict[str, Array]:
    """What is known before any training, each of shape (splits, 2).

    Returns: "delta": ||mu_+ - mu_-||. "separation": delta / sqrt(Tr S), free of scale.
    """
    # In an orthonormal basis of their span the states have fewer coordinates, and the same inner products.
    coordinates = np.linalg.qr(persona.features.T)[1].T
    out = np.empty((2, *persona.halves.shape[:2]))
    for place in np.ndindex(out.shape[1:]):
        index = persona.halves[place]
        m = moments(coordinates[index], persona.labels[index])
        out[:, *place] = m.distinguishability, m.spread_ratio**-0.5
    return dict(zip(("delta", "separation"), out, strict=True))


@dataclass(frozen=True)
class Learned:
    """A training on each half, measured on the statements that it was trained on; arrays of shape (splits,
    2).

    Attributes:
        right_before: share of statements that the model ranks right before training.
        flipped: share of those ranked wrong before that are ranked right after; NaN where none is.
        depth: median |log-ratio| before training of those ranked wrong, in nats; 0 where none is.
        violations: statements for which Theorem 4.1 of RA does not hold.
    """

    right_before: Array
    flipped: Array
    depth: Array
    violations: int


def learn(persona: Statements, loss: Loss, descent: Descent) -> Learned:
    """Train on every half for a fixed number of steps.

    The violations are those of DPO's theorem, so the loss should be DPO.
    """
    index = persona.halves
    inner = persona.inner[index[..., :, None], index[..., None, :]]
    labels = torch.from_numpy(persona.labels[index])[..., None, :]
    end = descend_coefficients(inner, labels, loss, descent)[-1]
    gain = 2 * (labels * (end @ inner))[..., 0, :]
    losses = loss.value(descent.beta * gain)
    start = persona.log_ratio[index]
    now = start + gain.numpy()
    violated = ranking.violations(now >= 0, losses, -start, now, descent.beta)
    wrong = np.where(start < 0, -start, np.nan)
    depth = np.zeros(start.shape[:2])
    any_wrong = (start < 0).any(-1)
    depth[any_wrong] = np.nanmedian(wrong[any_wrong], axis=-1)
    return Learned(
        (start >= 0).mean(-1),
        share_flipped(start, now),
        depth,
        int(violated.sum()),
    )


def share_flipped(before: ArrayLike, after: ArrayLike) -> Array:
    """Of the log-ratios below 0 before, the share at 0 or above after, along the last axis; NaN if none."""
    wrong, right = np.asarray(before) < 0, np.asarray(after) >= 0
    count = wrong.sum(-1)
    return np.where(count > 0, (wrong & right).sum(-1) / np.maximum(count, 1), np.nan)


def flipped_half_way(
    persona: Statements, loss: Loss, descent: Descent, parts: NDArray[np.int64]
) -> tuple[Array, float]:
    """The share flipped at the first step at which the loss on statements kept for validation has fallen half
    of the way to its lowest.

    Args:
        parts: every half divided, as by `Statements.divided`, into statements to train on, of which the share
            is, and as many to validate on.

    Returns:
        The share, mean over the divisions in which there is one, shape (splits, 2); and the share of
        trainings whose lowest loss came before the last step.
    """
    train, test = np.moveaxis(parts, 3, 0)
    inner, s = persona.inner, torch.from_numpy(persona.labels)
    own, other = (
        inner[train[..., :, None], train[..., None, :]],
        inner[train[..., :, None], test[..., None, :]],
    )
    path = descend_coefficients(own, s[train][..., None, :], loss, descent)
    # The steps are rows of one product: as a batch each would have a copy of the other states.
    margins = torch.movedim(torch.movedim(path[..., 0, :], 0, -2) @ other, -2, 0)
    held_out = loss.value(2 * descent.beta * s[test] * margins).mean(-1)
    lowest = held_out.argmin(0)
    stop = (held_out <= (held_out[0] + held_out.amin(0)) / 2).int().argmax(0)
    at_stop = path.gather(0, stop[None, ..., None, None].expand(1, *path.shape[1:]))[0]
    start = persona.log_ratio[train]
    now = start + (2 * s[train] * (at_stop @ own)[..., 0, :]).numpy()
    share = np.ma.masked_invalid(share_flipped(start, now)).mean(-1).filled(np.nan)
    return share, float((lowest < descent.steps).double().mean())


def under_noise(
    persona: Statements,
    loss: Loss,
    descent: Descent,
    rates: Sequence[float],
    parts: NDArray[np.int64],
    uniforms: Array,
    scale: float,
) -> Array:
    """Share of positive margins on held-out statements after training on wrong labels.

    Args:
        rates: E noise rates.
        parts: every half divided, as by `Statements.divided`, into statements to train on and to test on.
        uniforms: a number in [0, 1) for each label to train on, the same at all rates, shape
            (splits, 2, count, q).
        scale: what states are divided by.

    Returns:
        The mean over the divisions, shape (splits, 2, E).
    """
    train, test = np.moveaxis(parts, 3, 0)
    inner, s = persona.inner / scale**2, torch.from_numpy(persona.labels)
    own, other = (
        inner[train[..., :, None], train[..., None, :]],
        inner[train[..., :, None], test[..., None, :]],
    )
    drawn = torch.from_numpy(uniforms)[..., None, :]
    labels = mislabelled(s[train][..., None, :], drawn, torch.tensor(list(rates), dtype=s.dtype))
    end = descend_coefficients(own, labels, loss, descent)[-1]
    right = s[test][..., None, :] * (end @ other) > 0
    return right.double().mean(-1).mean(-2).numpy()


@dataclass(frozen=True)
class Together:
    """All personas trained at once; arrays of shape (personas, splits, 2).

    Attributes:
        company: share of positive margins on a persona's held-out statements, after training on all personas.
        transfer: the same, after training on all personas but this one.
        alignment: cosine of the persona's mean difference with the sum of the others'.
    """

    company: Array
    transfer: Array
    alignment: Array


def together(
    cast: Sequence[Statements],
    loss: Loss,
    descent: Descent,
    parts: Sequence[NDArray[np.int64]],
    scale: float,
) -> Together:
    """Train on one part of every persona's half and test on the other, then the other way round.

    Args:
        parts: of each persona: every half divided in two, shape (splits, 2, 2, q).
        scale: what states are divided by.
    """
    splits, people = len(cast[0].halves), len(cast)
    out = np.zeros((3, people, splits, 2))
    for split, half in np.ndindex(splits, 2):
        differences = np.array([_mean_difference(persona, persona.halves[split, half]) for persona in cast])
        out[2, :, split, half] = cosine(differences, differences.sum(axis=0) - differences)
        for fold in (0, 1):
            chosen = [
                (p, part[split, half, fold], part[split, half, 1 - fold])
                for p, part in zip(cast, parts, strict=True)
            ]
            out[:2, :, split, half] += _company(chosen, loss, descent, scale) / 2
    return Together(*out)


def _mean_difference(persona: Statements, index: NDArray[np.int64]) -> Array:
    """mu_+ - mu_- over statements with equally many of both labels, shape (d,)."""
    return persona.labels[index] @ persona.features[index] / (len(index) / 2)


def _company(
    chosen: Sequence[tuple[Statements, NDArray[np.int64], NDArray[np.int64]]],
    loss: Loss,
    descent: Descent,
    scale: float,
) -> Array:
    """Share of positive margins of each persona on its test part, trained on all and on all others, shape (2,
    personas).
    """
    g = torch.from_numpy(np.concatenate([p.features[train] for p, train, _ in chosen]) / scale).float()
    s = torch.from_numpy(np.concatenate([p.labels[train] for p, train, _ in chosen])).float()
    group = torch.repeat_interleave(
        torch.arange(len(chosen)), torch.tensor([len(train) for _, train, _ in chosen])
    )
    # A label of 0 leaves a statement out of a training.
    labels = torch.stack([torch.where(group == left_out, 0.0, s) for left_out in range(len(chosen))] + [s])
    u = descend(g, labels, [loss], descent)[0].double().numpy()
    right = [
        [(p.labels[test] * (p.features[test] @ row) > 0).mean() for row in (u[-1], u[i])]
        for i, (p, _, test) in enumerate(chosen)
    ]
    return np.array(right).T
