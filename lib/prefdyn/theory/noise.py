"""Theorems 3.1 and 3.2 of NZ, and the curve itself.

The paper is Understanding Generalization of Preference Optimization under Noisy Feedback. The concentration
that NZ calls gamma, 2 kappa / d, is `relative_kappa` here: gamma is the exponent of DPO^gamma.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from prefdyn.errors import PrefdynError
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate
from prefdyn.theory import vmf

if TYPE_CHECKING:  # a loss brings torch, which no formula here needs
    from prefdyn.engine.losses import Loss

CURVATURE = {"dpo": 1 / 4, "ipo": 2.0, "cdpo": 1 / 4, "rdpo": 1 / 4}
"""D = sup |f''| by loss; SLiC, which has none, is given 1 / (2 beta) (NZ Section 2)."""


def stopping_time(loss: Loss, beta: float, angle: float) -> float:
    """The longest t / tau that the theorems allow: sin(theta / 3) / (4 beta^2 D).

    Args:
        angle: between the two means, in radians: 2 theta.
    """
    curvature = 1 / (2 * beta) if loss.name == "slic" else CURVATURE[loss.name]
    return float(np.sin(angle / 6) / (4 * beta**2 * curvature))


@dataclass(frozen=True)
class Bound:
    """Theorem 3.1 for one case. All are NaN where the concentration and the angle are outside its reach.

    Attributes:
        risk: the bound on P(r <= 0); NaN also beyond `highest_rate`.
        clean: R_0.
        probability: with which it holds, at least; may be negative, and then says nothing.
        highest_rate: the largest noise rate it covers; may be negative, and then it covers none.
    """

    risk: float
    clean: float
    probability: float
    highest_rate: float


Deviation = Literal["printed", "hoeffding"]
DEVIATIONS: tuple[Deviation, ...] = get_args(Deviation)


def share_deviation(n: int, deviation: Deviation) -> float:
    """How far the share of flipped labels may be from epsilon.

    As printed it is 2 sqrt(log N) / N (Lemmas B.5 and B.6). Hoeffding's inequality, which the lemma quotes,
    gives sqrt(log(2 N^2) / N) for N / 2 labels at the probability that is stated.
    """
    return float(2 * np.sqrt(np.log(n)) / n if deviation == "printed" else np.sqrt(np.log(2 * n**2) / n))


def bound(
    rate: float,
    relative_kappa: float,
    angle: float,
    n: int,
    constant: float = 8.0,
    deviation: Deviation = "printed",
) -> Bound:
    """Theorem 3.1: risk <= R_0 / (1 - sqrt(R_0 gamma) (epsilon + deviation))^2 with R_0 = c / (gamma room^2).

    Here gamma is the relative kappa, room = 1 - 1/gamma - cos(theta / 3) must be positive, gamma >= 4 (Lemma
    B.1) and epsilon <= room / 2 - deviation. For c > 4 the bracket vanishes before that, at room / sqrt(c),
    and the bound ends there.

    Args:
        rate: epsilon, in [0, 1/2].
        relative_kappa: normalised concentration 2 kappa / d, NZ's gamma.
        angle: between the two means, in radians: 2 theta.
        n: training points of both labels together.
        constant: c, 8 in the appendix and 4 in the main text.
    """
    room = 1 - 1 / relative_kappa - np.cos(angle / 6)
    if relative_kappa < 4 or room <= 0:
        return Bound(np.nan, np.nan, np.nan, np.nan)
    off = share_deviation(n, deviation)
    clean = constant / (relative_kappa * room**2)
    highest = min(room / 2, room / np.sqrt(constant)) - off
    probability = 1 - 2 * clean / (n - rate * n - np.sqrt(np.log(n))) - 2 / n**2
    bracket = 1 - np.sqrt(clean * relative_kappa) * (rate + off)
    risk = clean / bracket**2 if rate < highest else np.nan
    return Bound(float(risk), float(clean), float(probability), float(highest))


def smallest_relative_kappa(
    rate: float, angle: float, n: int, constant: float = 8.0, deviation: Deviation = "printed"
) -> float:
    """The concentration, over d / 2, above which `bound` is below 1; infinite where none is enough."""

    def slack(log_kappa: float) -> float:
        relative_kappa = np.exp(log_kappa)
        return float(
            1
            - 1 / relative_kappa
            - np.cos(angle / 6)
            - np.sqrt(constant) * (rate + share_deviation(n, deviation) + relative_kappa**-0.5)
        )

    low, high = np.log(4.0), np.log(1e15)
    if slack(high) <= 0:
        return np.inf
    return float(np.exp(brentq(slack, low, high))) if slack(low) < 0 else 4.0


# The curve ----------------------------------------------------------------------------------------


def first_step_accuracy(
    rates: ArrayLike, dimension: int, kappa: float, angle: float, n: int
) -> NDArray[np.float64]:
    """Expected test accuracy of the first step of descent, over noise rates; no constant is fitted.

    The step is along u = mean(s g) over n points with noisy labels. In the plane of the two means u is
    Gaussian with mean (1 - 2 epsilon) A sin(theta) along mu_+ - mu_-; outside it u has the length that chance
    gives. A test point projected on u is Gaussian. Both are the central limit theorem's, so this is for large
    d and n.

    Args:
        angle: between the two means, in radians: 2 theta.
    """
    a, spread = vmf.mean_cosine(dimension, kappa), vmf.cosine_variance(dimension, kappa)
    along = spread + a**2  # E[t^2]
    across = (1 - along) / (dimension - 1)  # variance in a direction at right angles to the mean
    sin, cos = np.sin(angle / 2), np.cos(angle / 2)
    eps = np.asarray(rates, dtype=np.float64)[:, None, None]
    drift = (1 - 2 * eps) * a * sin
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    weights = weights / weights.sum()
    u1 = np.sqrt((cos**2 * along + sin**2 * across) / n) * nodes[:, None]  # along mu_+ + mu_-
    u2 = drift + np.sqrt(np.maximum(sin**2 * along + cos**2 * across - drift**2, 0) / n) * nodes
    projected = cos * u1 + sin * u2
    variance = across * (u1**2 + u2**2 + (dimension - 2) * across / n) + (spread - across) * projected**2
    # The other label is the same with u1 mirrored, and the nodes are symmetric.
    right = ndtr(a * projected / np.sqrt(variance))
    return np.einsum("i,j,eij->e", weights, weights, right)


# Equation 18 and its rivals -----------------------------------------------------------------------

FITTED = 0.35
"""The noise rate up to which Equation 18 is fitted (NZ Section 4.1)."""


def fit_equation_18(
    rates: ArrayLike, risks: ArrayLike, slack: float = 0.01
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least squares of R / (1 - c epsilon)^2, with R near the risk at epsilon = 0 (NZ Section 4.1).

    R lies within `slack` of what is observed there. For a given c the best R is in closed form, so c alone is
    searched, on a grid that is refined until it no longer matters.

    Args:
        rates: increasing from 0, shape (E,).
        risks: shape (..., E).

    Returns:
        R and c, each of shape (...,).

    Raises:
        PrefdynError: the rates do not start at 0.
    """
    x, y = np.asarray(rates, dtype=np.float64), np.asarray(risks, dtype=np.float64)
    if x[0] != 0:
        raise PrefdynError(
            f"the noise rates start at {x[0]:g}: Equation 18 is fitted from 0, "
            "where the clean risk is observed"
        )
    low, high = np.maximum(y[..., :1] - slack, 0), y[..., :1] + slack
    largest = 0.999 / x[-1]
    centre, width = np.zeros((*y.shape[:-1], 1)), largest
    for _ in range(8):
        c = np.clip(centre + width * np.linspace(-1, 1, 21), -largest, largest)
        shape = (1 - c[..., None] * x) ** -2  # (..., grid, E)
        clean = np.clip((shape * y[..., None, :]).sum(-1) / (shape**2).sum(-1), low, high)
        error = ((y[..., None, :] - clean[..., None] * shape) ** 2).sum(-1)
        best = error.argmin(-1)[..., None]
        centre, width = np.take_along_axis(c, best, -1), width / 5
    return np.take_along_axis(clean, best, -1)[..., 0], centre[..., 0]


def equation_18(rates: ArrayLike, clean: ArrayLike, c: ArrayLike) -> NDArray[np.float64]:
    """R / (1 - c epsilon)^2, shape (..., E)."""
    return np.asarray(clean)[..., None] / (1 - np.asarray(c)[..., None] * np.asarray(rates)) ** 2


MODELS = ("Equation 18", "straight line", "quadratic")


def predict(model: str, rates: ArrayLike, risks: ArrayLike, at: ArrayLike) -> NDArray[np.float64]:
    """Fit one of `MODELS` to risks, shape (..., E), and give its risks at other rates, shape (..., F)."""
    if model == "Equation 18":
        return equation_18(at, *fit_equation_18(rates, risks))
    degree = {"straight line": 1, "quadratic": 2}[model]
    known, wanted = (np.vander(np.asarray(x, dtype=np.float64), degree + 1) for x in (rates, at))
    return np.asarray(risks) @ np.linalg.pinv(known).T @ wanted.T


def held_out_errors(
    model: str, rates: ArrayLike, risks: ArrayLike, at: ArrayLike, held_out: ArrayLike
) -> NDArray[np.float64]:
    """Root mean square error on each trial of a model fitted to the mean of the others, shape (trials,).

    Args:
        rates, risks: what is fitted, shapes (E,) and (trials, E).
        at, held_out: what is predicted, shapes (F,) and (trials, F).
    """
    y, truth = np.asarray(risks, dtype=np.float64), np.asarray(held_out, dtype=np.float64)
    others = (y.sum(axis=0) - y) / (len(y) - 1)
    return np.sqrt(((predict(model, rates, others, at) - truth) ** 2).mean(-1))


@dataclass(frozen=True)
class Fit:
    """Equation 18 on the mean over trials, with 95% bootstrap intervals over trials.

    Attributes:
        clean, c: the parameters.
        r_squared: of the fit.
        largest_residual: in risk, over the rates.
    """

    clean: Estimate
    c: Estimate
    r_squared: Estimate
    largest_residual: Estimate


def bootstrap_fit(rates: ArrayLike, risks: ArrayLike, seed: int = 0, resamples: int = 1000) -> Fit:
    """Fit Equation 18 to the mean of risks, shape (trials, E), and to the means of resampled trials.

    The mean of resampled trials is noisier than the mean, so that all of its fits may be worse; an interval
    is widened to hold its estimate.
    """
    x, y = np.asarray(rates, dtype=np.float64), np.asarray(risks, dtype=np.float64)
    means = np.vstack([y.mean(axis=0), estimates.resample_counts(len(y), seed, resamples) / len(y) @ y])
    clean, c = fit_equation_18(x, means)
    residuals = means - equation_18(x, clean, c)
    total = ((means - means.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    parts = (clean, c, 1 - (residuals**2).sum(axis=1) / total, np.abs(residuals).max(axis=1))

    return Fit(*(estimates.from_resamples(float(v[0]), v[1:], len(y), widened=True) for v in parts))
