"""Losses of the GPO family: functions f(r) of the reward margin r, each with its derivative.

A loss is data, not a module: training needs f and autograd, theory needs f' alone (GN Section 6 replaces
sigmoid(-r) by -f'(r)).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prefdyn.errors import PrefdynError


@dataclass(frozen=True)
class Loss:
    """A loss f on reward margins: one of `LOSSES`, or one of your own.

    Attributes:
        name: as in `LOSSES`, or any other word.
        value: f, elementwise on a tensor of margins of any shape.
        derivative: f', likewise; see `of` where autograd shall have it.
    """

    name: str
    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, name: str, value: Callable[[Tensor], Tensor]) -> Loss:
        """A loss of your own: f alone, in operations of torch; f' is autograd's."""

        def derivative(margins: Tensor) -> Tensor:
            with torch.enable_grad():
                r = margins.detach().requires_grad_()
                return torch.autograd.grad(value(r).sum(), r)[0]

        return cls(name, value, derivative)

    def describe(self) -> dict[str, Any]:
        """Its name and a hash of f and f' at margins from -1000 to 1000.

        By these kept results tell losses apart.
        """
        size = torch.cat([torch.zeros(1), torch.logspace(-3, 3, 400)]).double()
        r = torch.cat([-size, size])
        digest = hashlib.sha256(torch.stack([self.value(r), self.derivative(r)]).numpy().tobytes())
        return {"name": self.name, "values": digest.hexdigest()[:16]}


def dpo() -> Loss:
    """DPO: f(r) = -log sigmoid(r). Rafailov et al. 2023, Equation 7."""
    return Loss("dpo", lambda r: -F.logsigmoid(r), lambda r: -torch.sigmoid(-r))


def ipo() -> Loss:
    """IPO: f(r) = (r - 1)^2, with r = beta h.

    This is Equation 17 of Azar et al. 2023, whose tau is beta / 2, times beta^2.
    """
    return Loss("ipo", lambda r: (r - 1) ** 2, lambda r: 2 * (r - 1))


def slic() -> Loss:
    """SLiC: f(r) = max(0, 1 - r). Zhao et al. 2023.

    At the kink r = 1 the derivative is 0, as autograd has it.
    """
    return Loss("slic", lambda r: F.relu(1 - r), lambda r: -(r < 1).to(r.dtype))


def cdpo(smoothing: float) -> Loss:
    """Conservative DPO: f(r) = -(1 - e) log sigmoid(r) - e log sigmoid(-r). Mitchell 2023.

    Args:
        smoothing: e, in [0, 1/2).

    Raises:
        PrefdynError: the smoothing is out of range.
    """
    e = _check_smoothing(smoothing)
    return Loss(
        "cdpo",
        lambda r: -(1 - e) * F.logsigmoid(r) - e * F.logsigmoid(-r),
        lambda r: -(1 - e) * torch.sigmoid(-r) + e * torch.sigmoid(r),
    )


def rdpo(smoothing: float) -> Loss:
    """Robust DPO: f(r) = [-(1 - e) log sigmoid(r) + e log sigmoid(-r)] / (1 - 2e), unbiased under e-noise.

    Chowdhury et al. 2024, Equation 12.

    Args:
        smoothing: e, in [0, 1/2).

    Raises:
        PrefdynError: the smoothing is out of range.
    """
    e = _check_smoothing(smoothing)
    return Loss(
        "rdpo",
        lambda r: (-(1 - e) * F.logsigmoid(r) + e * F.logsigmoid(-r)) / (1 - 2 * e),
        lambda r: (-(1 - e) * torch.sigmoid(-r) - e * torch.sigmoid(r)) / (1 - 2 * e),
    )


def simpo_margin(mean_logp_chosen: Tensor, mean_logp_rejected: Tensor, beta: float, target: float) -> Tensor:
    """SimPO's margin: beta (mean log-prob of chosen - of rejected) - target; its loss is `dpo` of this.

    Meng et al. 2024, Equation 6.

    Args:
        mean_logp_chosen, mean_logp_rejected: means over the tokens of each response, in nats, shape (n,).

    Returns:
        Shape (n,).
    """
    return beta * (mean_logp_chosen - mean_logp_rejected) - target


def reward_margin(log_ratio: Tensor, reference_log_ratio: Tensor, beta: float, gamma: float = 1.0) -> Tensor:
    """r = beta [log pi(y_w)/pi(y_l) - gamma log pi_ref(y_w)/pi_ref(y_l)].

    With gamma = 1 this is the margin of DPO (Rafailov et al. 2023, Equation 7), with others that of DPO^gamma
    (RA Equation 4).

    Args:
        log_ratio, reference_log_ratio: in nats, shape (n,).

    Returns:
        Shape (n,).
    """
    return beta * (log_ratio - gamma * reference_log_ratio)


def _check_smoothing(smoothing: float) -> float:
    if not 0 <= smoothing < 0.5:
        raise PrefdynError(f"label smoothing is {smoothing}: it must lie in [0, 0.5)")
    return smoothing


LOSSES: dict[str, Callable[..., Loss]] = {"dpo": dpo, "ipo": ipo, "slic": slic, "cdpo": cdpo, "rdpo": rdpo}
"""Every loss on margins, by name."""


def get(name: str | Loss, smoothing: float | None = None) -> Loss:
    """The loss called `name`, or the loss itself where it is one already.

    Args:
        smoothing: of the labels, for cdpo and rdpo, which need it.

    Raises:
        PrefdynError: the name is unknown, or smoothing is missing, out of range or not this loss's.
    """
    if isinstance(name, Loss):
        if smoothing is not None:
            raise PrefdynError(f"the loss {name.name!r} takes no label smoothing: it is given as it is")
        return name
    if name not in LOSSES:
        raise PrefdynError(f"there is no loss {name!r}: choose one of {', '.join(LOSSES)}")
    smoothed = name in ("cdpo", "rdpo")
    if smoothed != (smoothing is not None):
        raise PrefdynError(f"the loss {name!r} {'needs a' if smoothed else 'takes no'} label smoothing")
    return LOSSES[name](smoothing) if smoothed else LOSSES[name]()
