"""Theorems 3.1 and 3.2 of NZ, and the curve itself.

The paper is Understanding Generalization of Preference Optimization under Noisy Feedback. The concentration
that NZ calls gamma, 2 kappa / d, is `relative_kappa` here: gamma is the exponent of DPO^gamma. An `angle` is
always the whole angle between the two means, in radians; the theorems' theta is half of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import binom

from prefdyn.errors import PrefdynError
from prefdyn.measures import estimates
from prefdyn.measures.estimates import Estimate
from prefdyn.theory import vmf

if TYPE_CHECKING:  # a loss brings torch, which no formula here needs
    from prefdyn.engine.losses import Loss

CURVATURE = {"dpo": 1 / 4, "ipo": 2.0, "slic": 1 / 2, "cdpo": 1 / 4, "rdpo": 1 / 4}
"""D = sup |f''| by loss, over all margins: wrong labels drive some below 0.

SLiC has no curvature where no margin has reached its kink at 1. A margin moves by at most 2 beta^2 / tau a
unit of time, which keeps it there up to the stopping time for D = 1/2. (NZ has 2 beta / tau in Equation 47
and D = 1 / (2 beta), and f' = 1 for -1; for beta < 1 its stopping time is shorter than need be.)
"""


def stopping_time(loss: Loss, beta: float, angle: float) -> float:
    """The longest t / tau that the theorems allow: sin(theta / 3) / (4 beta^2 D).

    Args:
        angle: between the two means, in radians: 2 theta.

    Raises:
        PrefdynError: a loss whose curvature is not known here.
    """
    if loss.name not in CURVATURE:
        raise PrefdynError(
            f"the loss {loss.name!r} has no known curvature: the theorems' time is for {', '.join(CURVATURE)}"
        )
    return float(np.sin(angle / 6) / (4 * beta**2 * CURVATURE[loss.name]))


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


Deviation = Literal["printed", "hoeffding", "exact"]
DEVIATIONS: tuple[Deviation, ...] = get_args(Deviation)


def share_deviation(n: int, deviation: Deviation, rate: float) -> float:
    """How far the share of flipped labels may be above epsilon, in each kind, of N / 2 labels.

    As printed it is 2 sqrt(log N) / N (Lemmas B.5 and B.6). Hoeffding's inequality, which the lemma quotes,
    gives sqrt(log(2 N^2) / N) at the probability that is stated, whatever epsilon. Exactly, it is the
    smallest excess that a binomial share has with a probability of at most 1 / N^2 in either kind: none
    without noise.

    Args:
        rate: epsilon.
    """
    if deviation == "printed":
        return float(2 * np.sqrt(np.log(n)) / n)
    if deviation == "hoeffding":
        return float(np.sqrt(np.log(2 * n**2) / n))
    half = max(int(n) // 2, 1)
    return float(binom.isf(1 / n**2, half, rate) / half - rate) if rate > 0 else 0.0


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
        deviation: of the share of flipped labels, see `share_deviation`; the exact one is that at `rate`, and
            so is the `highest_rate` that goes with it.
    """
    room = 1 - 1 / relative_kappa - np.cos(angle / 6)
    if relative_kappa < 4 or room <= 0:
        return Bound(np.nan, np.nan, np.nan, np.nan)
    off = share_deviation(n, deviation, rate)
    clean = constant / (relative_kappa * room**2)
    highest = min(room / 2, room / np.sqrt(constant)) - off
    # Labels of which at least so many are right, in both kinds.
    right = n - rate * n - (np.sqrt(np.log(n)) if deviation == "printed" else n * off)
    probability = 1 - 2 * clean / right - 2 / n**2
    bracket = 1 - np.sqrt(clean * relative_kappa) * (rate + off)
    risk = clean / bracket**2 if rate < highest else np.nan
    return Bound(float(risk), float(clean), float(probability), float(highest))


def smallest_relative_kappa(
    rate: float, angle: float, n: int, constant: float = 8.0, deviation: Deviation = "printed"
) -> float:
    """The concentration, over d / 2, above which `bound` is below 1; infinite where none is enough."""
    off = share_deviation(n, deviation, rate)

    def slack(log_kappa: float) -> float:
        relative_kappa = np.exp(log_kappa)
        return float(
            1
            - 1 / relative_kappa
            - np.cos(angle / 6)
            - np.sqrt(constant) * (rate + off + relative_kappa**-0.5)
        )

    low, high = np.log(4.0), np.log(1e15)
    if slack(high) <= 0:
        return np.inf
    return float(np.exp(brentq(slack, low, high))) if slack(low) < 0 else 4.0


@dataclass(frozen=True)
class SharpBound:
    """The theorem's proof with exact tails; see `sharp_bound`.

    Attributes:
        risk: the bound on P(r <= 0); NaN where the proof does not reach.
        probability: with which it holds, at least.
    """

    risk: float
    probability: float


def sharp_bound(rate: float, dimension: int, kappa: float, angle: float, n: int) -> SharpBound:
    """Theorem 3.1 with the tails that are there in place of Hoeffding's and Chebyshev's inequalities.

    The proof is the paper's. With A and V the mean and the variance of the cosine t of a point with its own
    mean, the mean of t over N / 2 points of a kind is above A - s with probability 1 - 1 / N^2 by Bernstein's
    inequality, at most a share epsilon + `share_deviation` of them has a wrong label, and each of those takes
    at most 2 off. So a kind's mean of signed points lies within phi of its mean direction, where cos(phi) =
    A - s - 2 (epsilon + deviation). Training turns the boundary by at most theta / 3 more up to the stopping
    time. A new point within 2 theta / 3 - phi of its own mean direction is then on the right side, and the
    bound is the probability that it is not: the exact distribution function of the cosine.

    Args:
        angle: between the two means, in radians: 2 theta.
        n: training points of both labels together.
    """
    a, variance = vmf.mean_cosine(dimension, kappa), vmf.cosine_variance(dimension, kappa)
    # Bernstein for the mean of n / 2 numbers that are at most 1 + a below their mean.
    log = 2 * np.log(n) / (n / 2)
    reach = (1 + a) * log / 3
    short = reach + np.sqrt(reach**2 + 2 * variance * log)
    off = share_deviation(n, "exact", rate)
    cosine = a - short - 2 * (rate + off)
    room = angle / 3 - np.arccos(np.clip(cosine, -1, 1))
    risk = float(vmf.cosine_cdf(dimension, kappa, float(np.cos(room)))) if room > 0 else np.nan
    return SharpBound(risk, float(1 - 4 / n**2))


# The curve ----------------------------------------------------------------------------------------


def first_step_accuracy(
    rates: ArrayLike, dimension: int, kappa: float, angle: float, n: int
) -> NDArray[np.float64]:
    """Expected test accuracy of the first step of descent, over noise rates; no constant is fitted.

    The step is along u = mean(s g) over n points with noisy labels. In the plane of the two means u is
    Gaussian with mean (1 - 2 epsilon) A sin(theta) along mu_+ - mu_-; outside it u has the length that chance
    gives. A test point projected on u is Gaussian. Both are the central limit theorem's, so this is for large
    d and n. The two kinds have n / 2 points each, always: what they have in common does not scatter with
    their numbers.

    Args:
        angle: between the two means, in radians: 2 theta.
    """
    a, spread = vmf.mean_cosine(dimension, kappa), vmf.cosine_variance(dimension, kappa)
    along = spread + a**2  # E[t^2]
    across = (1 - along) / (dimension - 1)  # variance in a direction at right angles to the mean
    sin, cos = np.sin(angle / 2), np.cos(angle / 2)
    eps = np.asarray(rates, dtype=np.float64)[:, None, None]
    drift, shared = (1 - 2 * eps) * a * sin, (1 - 2 * eps) * a * cos
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    weights = weights / weights.sum()
    # Along mu_+ + mu_-: a point of either kind has mean `shared` there, up to its label.
    u1 = np.sqrt(np.maximum(cos**2 * along + sin**2 * across - shared**2, 0) / n) * nodes[:, None]
    u2 = drift + np.sqrt(np.maximum(sin**2 * along + cos**2 * across - drift**2, 0) / n) * nodes
    projected = cos * u1 + sin * u2
    variance = across * (u1**2 + u2**2 + (dimension - 2) * across / n) + (spread - across) * projected**2
    # The other label is the same with u1 mirrored, and the nodes are symmetric.
    right = ndtr(a * projected / np.sqrt(variance))
    return np.einsum("i,j,eij->e", weights, weights, right)


@dataclass(frozen=True)
class Law:
    """The accuracy Phi(a x / sqrt(x^2 + b (1 - x^2))) with x = 1 - 2 epsilon.

    Attributes:
        a: Phi(a) is the accuracy without noise.
        b: |u|^2 after training on coin tosses over |u|^2 after training on the true labels. Below 1 the curve
            is flat at first; at 1 it is Phi(a x); above 1 it falls at once.
    """

    a: float
    b: float

    def accuracy(self, rates: ArrayLike) -> NDArray[np.float64]:
        """At noise rates of any shape."""
        x = 1 - 2 * np.asarray(rates, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            return ndtr(self.a * x / np.sqrt(x**2 + self.b * (1 - x**2)))


def ridge_law(dimension: int, kappa: float, angle: float, n: int, rate: float, steps: int) -> Law:
    """The accuracy of IPO after any number of steps, to leading order in large d and n; nothing is fitted.

    On the loss (r - 1)^2 descent is linear: with v = 2 beta u, b = mean(s g) over the labels as given and
    C = mean(g g^T), a step is v <- v + 4 eta beta^2 (b - C v), so that v = h(C) b with the filter
    h(z) = (1 - (1 - 4 eta beta^2 z)^steps) / z, as in ridge regression (Ali et al. 2019). Wrong labels enter
    b alone: as given, the labels are 1 - 2 epsilon times the true ones, and noise like coin tosses. So along
    mu_+ - mu_- v is 1 - 2 epsilon times what true labels give, and |v|^2 is (1 - 2 epsilon)^2 times that of
    true labels and 4 epsilon (1 - epsilon) times that of coin tosses. All three follow from the resolvent of
    a spiked covariance (Marchenko & Pastur 1967), by an integral around the spectrum. The law has two numbers
    at all times, and time raises b. With one step it is the leading order of `first_step_accuracy`.

    Args:
        angle: between the two means, in radians: 2 theta.
        n: training points of both labels together.
        rate: eta beta^2.
        steps: of descent.

    Returns:
        NaN where steps are too large for descent to come to rest.
    """
    a_mean, spread = vmf.mean_cosine(dimension, kappa), vmf.cosine_variance(dimension, kappa)
    across = (1 - spread - a_mean**2) / (dimension - 1)
    common, apart = a_mean * np.cos(angle / 2), a_mean * np.sin(angle / 2)
    ratio, speed = dimension / n, 4 * rate
    # Every eigenvalue lies in the bulk or is a spike above it.
    ends = across * np.array([(1 - ratio**0.5) ** 2, (1 + ratio**0.5) ** 2])
    spikes = [m**2 for m in (common, apart) if m**2 > across * ratio**0.5]
    top = max([ends[1], *((m + across) * (1 + ratio * across / m) for m in spikes)])
    low, high = 0.5 * ends[0], 1.1 * top
    if speed * top >= 2:
        return Law(np.nan, np.nan)
    # Near the axis, where the filter of many steps stays small.
    tall = min((high - low) / 2, np.sqrt(10 / steps) / speed)
    turn = (np.arange(4096) + 0.5) * np.pi / 4096  # the upper half: on the lower all is conjugate
    z = (low + high) / 2 + (high - low) / 2 * np.cos(turn) + 1j * tall * np.sin(turn)
    around = (-(high - low) / 2 * np.sin(turn) + 1j * tall * np.cos(turn)) / len(turn)  # dz / pi
    # The companion transform of the noise: across z m^2 + (z - ratio across + across) m + 1 = 0.
    half = (z - ratio * across + across) / (2 * across * z)
    root = np.sqrt(half**2 - 1 / (across * z))
    # Of the two roots the transform of a measure on [0, inf) has z m with an imaginary part of z's sign.
    companion = -half + np.where((z * (root - half)).imag * z.imag > 0, root, -root)
    product = -companion / (1 + across * companion)  # z m m~, with m that of the other side
    filtered = (1 - (1 - speed * z) ** steps) / z

    def around_spectrum(values: NDArray[np.complex128]) -> float:
        return float((1j * values * around).sum().real)

    spike = apart * product / (apart**2 * product - 1)
    along = around_spectrum(filtered * spike)
    coins = around_spectrum(filtered**2 * (1 + z * companion))
    true = around_spectrum(filtered**2 * (1 + z * companion * (1 - apart * spike)))
    return Law(float(apart * along / np.sqrt(across * true)), coins / true)


def accuracy_of_states(
    states: ArrayLike, labels: ArrayLike, rates: ArrayLike, size: int, seed: int = 0, draws: int = 400
) -> NDArray[np.float64]:
    """The expected accuracy of the first step on states of any shape, over noise rates; nothing is fitted.

    The step is trained on `size` random states of each kind and tested on the others. It is along
    u = (1 - 2 epsilon) (m_+ - m_-) / 2 plus what wrong labels add, which is Gaussian with covariance
    4 epsilon (1 - epsilon) / (2 size) times the second moment of the states, that of the means included. The
    means m of the training states scatter with the covariance of their kind, and those of the states left
    over the other way. A state that is tested is Gaussian along u, with the covariance of its own kind. So
    three things enter: covariances, means and the size. On the clouds of NZ it is `first_step_accuracy`.

    Args:
        states: shape (n, d).
        labels: +1 or -1, shape (n,), with more than `size` of each.
        draws: of u, over which the accuracy is averaged.

    Returns:
        Shape (E,).
    """
    g, s = np.asarray(states, dtype=np.float64), np.asarray(labels)
    x = 1 - 2 * np.asarray(rates, dtype=np.float64)[:, None, None]
    rng = np.random.default_rng(seed)
    kinds = [g[s == sign] for sign in (1, -1)]
    means = [kind.mean(axis=0) for kind in kinds]
    spreads = [(kind - m) / np.sqrt(len(kind) - 1) for kind, m in zip(kinds, means, strict=True)]
    moved = [
        rng.normal(size=(draws, len(kind))) @ spread * np.sqrt((1 - size / len(kind)) / size)
        for kind, spread in zip(kinds, spreads, strict=True)
    ]
    seen = (means[0] + moved[0] - means[1] - moved[1]) / 2
    tossed = sum(
        rng.normal(size=(draws, len(kind))) @ kind / np.sqrt(2 * len(kind)) for kind in kinds
    ) / np.sqrt(2 * size)

    def along(directions: NDArray[np.float64]) -> NDArray[np.float64]:
        """What u has along directions, shape (E, draws, directions)."""
        return x * (seen @ directions.T) + np.sqrt(1 - x**2) * (tossed @ directions.T)

    right = []
    for sign, m, move, spread, kind in zip((1, -1), means, moved, spreads, kinds, strict=True):
        left = move * size / (len(kind) - size)  # by which the states left over have another mean
        shift = x[..., 0] * (seen * left).sum(axis=1) + np.sqrt(1 - x[..., 0] ** 2) * (tossed * left).sum(1)
        variance = (along(spread) ** 2).sum(axis=-1)
        right.append(ndtr(sign * (along(m[None])[..., 0] - shift) / np.sqrt(variance)).mean(axis=1))
    return np.mean(right, axis=0)


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


def excess_errors(model: str, rates: ArrayLike, risks: ArrayLike) -> NDArray[np.float64]:
    """Mean square error of one of `MODELS` over the expected curve, as jackknife pseudo-values of the trials.

    A model is fitted to the mean over trials. Its distance from that mean is partly the scatter of the mean;
    the jackknife takes that out, so the mean of the pseudo-values is what the model's form leaves over, and
    may be below 0. Their scatter is that of the estimate.

    Args:
        rates: shape (E,), from 0.
        risks: shape (..., trials, E).

    Returns:
        Shape (..., trials).
    """
    x = np.asarray(rates, dtype=np.float64)
    return estimates.pseudo_values(
        lambda means: ((predict(model, x, means, x) - means) ** 2).mean(axis=-1), risks
    )


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
    n = len(y)
    return Fit(*(estimates.from_resamples(float(v[0]), v[1:], n, n, widened=True) for v in parts))
