"""The von Mises-Fisher distribution on the unit sphere of R^d, with density proportional to exp(kappa mu.x).

Only the cosine t = mu.x has a shape: its density is proportional to (1 - t^2)^((d - 3) / 2) exp(kappa t).
Given t, the rest of x is uniform on a sphere around mu. Mardia & Jupp 2000, Section 9.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, ive, logsumexp

from prefdyn.errors import PrefdynError

if TYPE_CHECKING:  # what needs no points drawn needs no torch
    import torch
    from torch import Tensor

SMALLEST = 1e-12
"""A concentration below this is 0."""
POINTS = 8000
"""At which densities are summed."""
LARGEST = 1e6
"""Up to this times sqrt(d) a concentration's variance of the cosine has three digits; beyond, it cancels."""


def sample(
    mean: ArrayLike,
    kappa: float,
    count: int,
    rng: np.random.Generator,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Independent draws, shape (count, d).

    Args:
        mean: mu, shape (d,), d >= 2; it is normalised.
        kappa: concentration, >= 0; 0 is the uniform distribution.
        dtype: float64 if none is given.

    Raises:
        PrefdynError: d < 2, kappa < 0, or a mean of 0.
    """
    import torch

    mu = torch.as_tensor(np.asarray(mean, dtype=np.float64))
    if len(mu) < 2 or not kappa >= 0:
        raise PrefdynError(
            f"no von Mises-Fisher distribution has d = {len(mu)} and kappa = {kappa}: "
            "it needs d >= 2 and kappa >= 0"
        )
    if not mu.norm() > 0:
        raise PrefdynError("a von Mises-Fisher distribution has a mean direction: a mean of 0 has none")
    short = torch.from_numpy(sample_shortfall(len(mu), kappa, count, rng))  # 1 - t
    # Around the first axis, then reflected to mu; torch's normals are filled several times faster than
    # numpy's.
    normals = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    x = torch.empty(count, len(mu), dtype=dtype or torch.float64, device=device).normal_(generator=normals)
    x[:, 0] = 0
    x *= ((short * (2 - short)).sqrt().to(x) / x.norm(dim=1))[:, None]
    x[:, 0] = (1 - short).to(x)
    mirror = -mu / mu.norm()
    mirror[0] += 1
    axes = mirror.nonzero()[:, 0]  # a mean along few axes leaves the others alone
    if len(axes):
        mirror = (mirror[axes] / mirror.norm()).to(x)
        part = x[:, axes]
        x[:, axes] = part.addr_(part @ mirror, mirror, alpha=-2)
    return x


def sample_shortfall(d: int, kappa: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draws of 1 - t, shape (count,), by rejection from a transformed beta variate (Wood 1994).

    1 - t rather than t, so that nothing cancels where kappa is large.
    """
    m = d - 1
    b = m / (2 * kappa + np.hypot(2 * kappa, m))
    highest = 2 * b / (1 + b)  # 1 - t where the ratio of densities is largest
    out = np.empty(0)
    while len(out) < count:
        z = rng.beta(m / 2, m / 2, size=count - len(out) + 16)
        below = 1 - (1 - b) * z
        short = 2 * b * z / below
        # The density over the envelope's, relative to the largest such ratio, in logs.
        ratio = kappa * (highest - short) + m * np.log((1 + b) / (2 * below))
        out = np.append(out, short[np.log(rng.random(len(z))) <= ratio])
    return out[:count]


def mean_cosine(d: int, kappa: float) -> float:
    """A = E[mu.x] = I_{d/2}(kappa) / I_{d/2-1}(kappa), the mean resultant length."""
    if kappa == 0:
        return 0.0
    above, below = ive(d / 2, kappa), ive(d / 2 - 1, kappa)
    if above > 1e-290:
        return float(above / below)
    # Both underflow where the order is large for kappa: there the recurrence downwards from a good guess
    # converges fast.
    order = d / 2 + 200
    ratio = kappa / (order + np.hypot(order, kappa))
    while order > d / 2:
        order -= 1
        ratio = 1 / (2 * order / kappa + ratio)
    return float(ratio)


def cosine_variance(d: int, kappa: float) -> float:
    """Var[mu.x] = 1 - A^2 - (d - 1) A / kappa, for kappa up to `LARGEST` times sqrt(d)."""
    if kappa == 0:
        return 1 / d
    a = mean_cosine(d, kappa)
    return 1 - a**2 - (d - 1) * a / kappa


def cosine_cdf(d: int, kappa: float, cosine: float) -> float:
    """P(mu.x <= cosine), by quadrature over the angle between x and mu; small tails keep their precision.

    Args:
        d: at least 2.
        cosine: in [-1, 1].
    """

    def log_mass(low: float, high: float) -> float:
        angle = low + (np.arange(POINTS) + 0.5) * (high - low) / POINTS
        log = (d - 2) * np.log(np.sin(angle)) + kappa * (np.cos(angle) - 1)
        return float(logsumexp(log) + np.log(high - low))

    border = float(np.arccos(cosine))
    if border in (0.0, np.pi):
        return 1.0 - border / np.pi
    return float(expit(log_mass(border, np.pi) - log_mass(0.0, border)))


def concentration(d: int, cosine: float) -> float:
    """The kappa at which `mean_cosine` is `cosine`.

    Raises:
        PrefdynError: it would be above `LARGEST` times sqrt(d), as where all states are one.
    """
    if cosine <= mean_cosine(d, SMALLEST):
        return 0.0
    largest = LARGEST * np.sqrt(d)
    if cosine > mean_cosine(d, largest):
        raise PrefdynError(
            f"a mean cosine of {cosine:.10g} in {d} dimensions is of a cloud too tight to have a "
            "concentration: are all hidden states one?"
        )
    ends = np.log(SMALLEST), np.log(largest)
    return float(np.exp(brentq(lambda log: mean_cosine(d, np.exp(log)) - cosine, *ends, xtol=1e-12)))


@dataclass(frozen=True)
class Shape:
    """How a cloud of hidden states looks beside a von Mises-Fisher distribution (NZ Appendix C).

    The distribution has the same mean cosine.

    Attributes:
        cosine: mean of the cosine of a state with the direction of their mean: the mean resultant length.
        variance: of that cosine.
        kappa: of the distribution whose mean cosine this is.
        expected_variance: of its cosine.
    """

    cosine: float
    variance: float
    kappa: float
    expected_variance: float


def shape(features: ArrayLike) -> Shape:
    """The shape of hidden states, shape (n, d), of one kind; their lengths are left out."""
    g = np.asarray(features, dtype=np.float64)
    x = g / np.linalg.norm(g, axis=1, keepdims=True)
    mean = x.mean(axis=0)
    t = x @ mean / np.linalg.norm(mean)
    kappa = concentration(g.shape[1], float(t.mean()))
    return Shape(float(t.mean()), float(t.var(ddof=1)), kappa, cosine_variance(g.shape[1], kappa))
