"""Reward dynamics of one-token preferences under gradient flow on the unembedding (GN Section 3.2).

The loss is any of the GPO family. Gradient flow on W moves it only along differences of answer rows:
W(t) - W(0) = sum_k (y_a - y_b)_k u_k(t)^T, one vector u_k for each distinct pair of answers {a, b}. All
margins, of training samples (Eq. 8) and of new ones (Eq. 9), are linear in these few vectors. So the N
coupled equations of Eq. 8 are solved as K equations in R^d, and the N x N matrix of Eq. 10 is never made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import solve_ivp

from prefdyn.errors import PrefdynError

if TYPE_CHECKING:
    from prefdyn.engine.losses import Loss

Array = NDArray[np.float64]
EVALUATIONS = 50_000
"""Of the right-hand side, after which a solution is given up.

Smooth losses need hundreds where no step is implicit.
"""
JACOBIANS = 100
"""Allowed beyond that; one costs an evaluation a dimension, and stiff systems need some dozens."""


@dataclass(frozen=True)
class OneTokenPreferences:
    """Preferences with one-token responses, as the theory sees them.

    Attributes:
        features: g, shape (n, d).
        chosen, rejected: token ids of y_w and y_l, shape (n,).
    """

    features: Array
    chosen: NDArray[np.int64]
    rejected: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len({len(self.features), len(self.chosen), len(self.rejected)}) > 1:
            raise PrefdynError(
                f"{len(self.features)} features, {len(self.chosen)} chosen and {len(self.rejected)} rejected "
                "tokens: give as many of each"
            )
        if (self.chosen == self.rejected).any():
            raise PrefdynError(
                "a preference has the same token as its chosen and its rejected response: drop it"
            )

    def __len__(self) -> int:
        return len(self.chosen)


def yes_or_no(features: ArrayLike, labels: ArrayLike) -> OneTokenPreferences:
    """The persona task: token 0 is chosen where the label, shape (n,), is +1, and token 1 where it is -1."""
    negative = (np.asarray(labels) < 0).astype(np.int64)
    return OneTokenPreferences(np.asarray(features, dtype=np.float64), negative, 1 - negative)


def token_overlap(a: ArrayLike, b: ArrayLike) -> Array:
    """(y_w - y_l).(y_w' - y_l'), from -2 to 2, shape (m, n).

    Args:
        a, b: token pairs (chosen, rejected), shapes (m, 2) and (n, 2).
    """
    x, y = np.asarray(a)[:, None, :], np.asarray(b)[None, :, :]
    same = (x == y).sum(-1)
    crossed = (x == y[..., ::-1]).sum(-1)
    return (same - crossed).astype(np.float64)


def interactions(of: OneTokenPreferences, on: OneTokenPreferences) -> Array:
    """C(x_j, x_i) of Eq. 10, shape (n, m), of n samples against m training samples.

    It is preference sharing times the inner product of features.
    """
    pairs = [np.stack([part.chosen, part.rejected], axis=1) for part in (of, on)]
    return token_overlap(*pairs) * (of.features @ on.features.T)


class _Blocks:
    """Training samples sorted by their pair of answers, so that each block is one slice."""

    def __init__(self, preferences: OneTokenPreferences) -> None:
        low, high = (
            np.minimum(preferences.chosen, preferences.rejected),
            np.maximum(preferences.chosen, preferences.rejected),
        )
        self.answers, block = np.unique(np.stack([low, high], axis=1), axis=0, return_inverse=True)
        self.order = np.argsort(block.reshape(-1), kind="stable")
        self.signs = np.where(preferences.chosen == low, 1.0, -1.0)[self.order]
        self.features = np.ascontiguousarray(preferences.features[self.order], dtype=np.float64)
        ends = np.cumsum(np.bincount(block.reshape(-1), minlength=len(self.answers)))
        self.slices = [
            slice(end - count, end) for end, count in zip(ends, np.diff(ends, prepend=0), strict=True)
        ]

    def margins(self, directions: Array) -> Array:
        """s_i g_i.direction, each sample with its block's direction, in sorted order, shape (n,).

        Args:
            directions: shape (blocks, d).
        """
        parts = [
            self.features[part] @ direction for part, direction in zip(self.slices, directions, strict=True)
        ]
        return self.signs * np.concatenate(parts)

    def pull(self, weights: Array) -> Array:
        """sum_i s_i weight_i g_i over each block, shape (blocks, d); weights in sorted order."""
        signed = self.signs * weights
        return np.stack([signed[part] @ self.features[part] for part in self.slices])


@dataclass(frozen=True)
class RewardPath:
    """How the unembedding moved, and with it every margin.

    Attributes:
        times: t / tau, shape (T,).
        answers: the distinct pairs of answers of the training samples, lower token id first, shape (K, 2).
        movement: u_k(t), shape (T, K, d).
        beta: of the training.
    """

    times: Array
    answers: NDArray[np.int64]
    movement: Array
    beta: float

    def margins(self, preferences: OneTokenPreferences, start: ArrayLike = 0.0) -> Array:
        """Margins of any samples along the path, shape (T, n).

        They are those of Eq. 8 for training samples, of Eq. 9 for new ones.

        Args:
            start: their margins at t = 0, shape (n,): 0 where the model at t = 0 is the reference.
        """
        blocks = _Blocks(preferences)
        overlap = token_overlap(blocks.answers, self.answers)
        out = np.empty((len(self.times), len(preferences)))
        for row, movement in zip(out, self.movement, strict=True):
            row[blocks.order] = self.beta * blocks.margins(overlap @ movement)
        return out + np.asarray(start)


def _velocity(blocks: _Blocks, beta: float, loss: Loss | None, start: ArrayLike) -> Callable[[Array], Array]:
    """tau du/dt as a function of u, both of shape (K, d): minus the gradient of the mean loss.

    It is Eq. 6 with -f' for sigmoid(-r).
    """
    import torch

    from prefdyn.engine import losses

    f = loss or losses.dpo()
    overlap = token_overlap(blocks.answers, blocks.answers)
    before = np.broadcast_to(np.asarray(start, dtype=np.float64), len(blocks.order))[blocks.order]

    def velocity(movement: Array) -> Array:
        margins = before + beta * blocks.margins(overlap @ movement)
        slope = -f.derivative(torch.from_numpy(margins)).numpy()
        return beta / len(margins) * blocks.pull(slope)

    return velocity


def flow(
    train: OneTokenPreferences,
    times: ArrayLike,
    beta: float,
    loss: Loss | None = None,
    start: ArrayLike = 0.0,
    tolerance: float = 1e-8,
) -> RewardPath:
    """Solve the reward dynamics (Eq. 8) of gradient flow on the mean loss, by scipy's `solve_ivp`.

    Args:
        times: t / tau at which the path is wanted, shape (T,), rising, from 0 on.
        loss: of the GPO family; DPO where none is given.
        start: margins at t = 0, shape (n,). 0 where the reference is the model at t = 0; beta times the
            log-ratio minus the target for SimPO, which has no reference and whose loss is that of DPO (GN
            Section 6).
        tolerance: relative, of a step.

    Raises:
        PrefdynError: times fall or are negative; the solver fails, or does not come on: where -f' jumps, as
            SLiC's does at r = 1, samples can come to rest on the jump, and no step across it is small enough.
            `descend` walks along it.
    """
    blocks = _Blocks(train)
    velocity = _velocity(blocks, beta, loss, start)
    at = np.asarray(times, dtype=np.float64)
    if not len(at) or at[0] < 0 or (np.diff(at) < 0).any():
        raise PrefdynError("the times of a flow rise from 0 on: sort them")
    shape = (len(blocks.answers), train.features.shape[1])
    zero = np.zeros(shape)
    if at[-1] == 0:
        return RewardPath(at, blocks.answers, np.zeros((len(at), *shape)), beta)
    # An error in u below this changes no margin by more than about the tolerance.
    reach = beta * np.abs(blocks.features).sum(axis=1).max()
    evaluations, limit = 0, EVALUATIONS + JACOBIANS * zero.size

    def right_hand_side(time: float, state: Array) -> Array:
        nonlocal evaluations
        evaluations += 1
        if evaluations > limit:
            raise PrefdynError(
                f"the reward dynamics are at t = {time:g} of {at[-1]:g} after {limit} evaluations: samples "
                "rest where the loss's slope jumps; use `descend` with small steps, or a shorter time"
            )
        return velocity(state.reshape(shape)).ravel()

    solution = solve_ivp(
        right_hand_side,
        (0.0, float(at[-1])),
        zero.ravel(),
        t_eval=at,
        method="LSODA",  # turns to implicit steps where a large shared component makes the system stiff
        rtol=tolerance,
        atol=tolerance / reach,
    )
    if not solution.success:
        raise PrefdynError(
            f"the reward dynamics could not be solved up to t = {at[-1]:g}: {solution.message}"
        )
    return RewardPath(at, blocks.answers, solution.y.T.reshape(-1, *shape), beta)


def descend(
    train: OneTokenPreferences,
    steps: int,
    learning_rate: float,
    beta: float,
    loss: Loss | None = None,
    start: ArrayLike = 0.0,
) -> RewardPath:
    """Full-batch gradient descent on the unembedding.

    It is what the flow becomes with steps of size learning_rate in t / tau.
    """
    blocks = _Blocks(train)
    velocity = _velocity(blocks, beta, loss, start)
    movement = np.zeros((steps + 1, len(blocks.answers), train.features.shape[1]))
    for step in range(steps):
        movement[step + 1] = movement[step] + learning_rate * velocity(movement[step])
    return RewardPath(learning_rate * np.arange(steps + 1, dtype=np.float64), blocks.answers, movement, beta)


def initial_rates(
    train: OneTokenPreferences, of: OneTokenPreferences, beta: float, loss: Loss | None = None
) -> Array:
    """tau dr/dt at t = 0 of any samples, shape (n,), exactly: Eq. 9 where all training margins are 0."""
    one_step = descend(train, 1, 1.0, beta, loss)
    return one_step.margins(of)[1]
