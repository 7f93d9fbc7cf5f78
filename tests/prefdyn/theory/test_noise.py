"""NZ's distribution and fit against scipy's, its bound against the proof's steps and actual runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats

from prefdyn.engine import losses
from prefdyn.engine.last_layer import Descent
from prefdyn.errors import PrefdynError
from prefdyn.experiments import noisy
from prefdyn.theory import noise, vmf

SEEDS = st.integers(0, 10**6)
RATES = np.arange(15) / 40


def cosines(d: int, kappa: float, count: int, seed: int = 0) -> tuple[np.ndarray, torch.Tensor]:
    mean = np.random.default_rng(d).normal(size=d)
    x = vmf.sample(7 * mean, kappa, count, np.random.default_rng(seed))
    return (x @ torch.from_numpy(mean / np.linalg.norm(mean))).numpy(), x


def density_cdf(d: int, kappa: float) -> tuple[np.ndarray, np.ndarray]:
    """The distribution function of the cosine by numerical integration where the mass is."""
    angle = np.linspace(0, np.pi, 400_001)[1:-1]  # over the angle, where nothing diverges
    log = (d - 2) * np.log(np.sin(angle)) + kappa * np.cos(angle)
    mass = integrate.cumulative_trapezoid(np.exp(log - log.max()), angle, initial=0)
    return np.cos(angle)[::-1], 1 - mass[::-1] / mass[-1]


# The distribution ---------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 3, 17, 512, 4096])
@pytest.mark.parametrize("kappa", [0.0, 0.1, 30.0, 2000.0, 1e5])
def test_cosine_has_the_distribution_of_the_density(d: int, kappa: float) -> None:
    t, x = cosines(d, kappa, 2000)
    np.testing.assert_allclose(x.norm(dim=1), 1, rtol=1e-12)
    support, cumulative = density_cdf(d, kappa)
    assert stats.kstest(t, lambda value: np.interp(value, support, cumulative)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("d", "kappa", "count"),
    [(2, 0.5, 2000), (3, 1e5, 2000), (8, 40.0, 2000), (512, 32.0, 300), (700, 1e4, 60)],
)
def test_cosine_and_mean_length_are_those_of_scipys_draws(d: int, kappa: float, count: int) -> None:
    t, x = cosines(d, kappa, count)
    mean = np.random.default_rng(d).normal(size=d)
    theirs = stats.vonmises_fisher(mean / np.linalg.norm(mean), kappa, seed=1).rvs(count)
    other = theirs @ mean / np.linalg.norm(mean)
    assert stats.ks_2samp(t, other).pvalue > 1e-3
    spread = math.hypot(t.std(), other.std()) / math.sqrt(count)
    assert abs(t.mean() - other.mean()) < 4 * spread
    # Mean resultant length, whose sampling part is (1 - A^2) / n in both.
    lengths = [np.linalg.norm(sample.mean(axis=0)) for sample in (x.numpy(), theirs)]
    assert lengths[0] == pytest.approx(lengths[1], abs=5 * spread + 2 / count)


@pytest.mark.parametrize("d", [2, 5, 512, 4096])
@pytest.mark.parametrize("kappa", [0.0, 1e-3, 1.0, 50.0, 3000.0, 1e5])
def test_mean_and_variance_of_the_cosine_are_the_densitys(d: int, kappa: float) -> None:
    angle = np.linspace(0, np.pi, 2_000_001)[1:-1]
    log = (d - 2) * np.log(np.sin(angle)) + kappa * np.cos(angle)
    weight = np.exp(log - log.max())
    mean = (weight * np.cos(angle)).sum() / weight.sum()
    variance = (weight * (np.cos(angle) - mean) ** 2).sum() / weight.sum()
    assert vmf.mean_cosine(d, kappa) == pytest.approx(mean, rel=1e-6, abs=1e-12)
    assert vmf.cosine_variance(d, kappa) == pytest.approx(variance, rel=1e-3)
    if kappa:
        assert vmf.concentration(d, vmf.mean_cosine(d, kappa)) == pytest.approx(kappa, rel=1e-4)


@pytest.mark.parametrize("d", [2, 3, 40])
def test_directions_around_the_mean_are_uniform(d: int) -> None:
    _, x = cosines(d, 5.0, 20_000)
    mean = np.random.default_rng(d).normal(size=d)
    mean /= np.linalg.norm(mean)
    across = x.numpy() - np.outer(x.numpy() @ mean, mean)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    assert np.linalg.norm(across.mean(axis=0)) < 4 / math.sqrt(20_000)
    covariance = across.T @ across / len(across)
    np.testing.assert_allclose(
        covariance, (np.eye(d) - np.outer(mean, mean)) / (d - 1), atol=0.05 / (d - 1) + 0.01
    )


def test_draws_depend_on_the_generator_and_bad_ones_are_refused() -> None:
    first, again, other = (cosines(6, 3.0, 5, seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    for d, kappa in ((1, 1.0), (3, -1.0), (3, math.nan)):
        with pytest.raises(PrefdynError, match="needs d >= 2 and kappa >= 0"):
            vmf.sample(np.ones(d), kappa, 3, np.random.default_rng(0))


# The bound ----------------------------------------------------------------------------------------


def test_bound_by_hand() -> None:
    # theta = pi / 2, cos(theta / 3) = sqrt(3) / 2; N = e^4, so that the deviation is 4 / N.
    n = math.exp(4)
    room = 1 - 1 / 1000 - math.sqrt(3) / 2
    got = noise.bound(0.0, 1000, math.pi, n, constant=4)  # type: ignore[arg-type]
    assert got.clean == pytest.approx(4 / (1000 * room**2))
    assert got.highest_rate == pytest.approx(room / 2 - 4 / n)
    assert math.isnan(got.risk) and got.highest_rate < 0
    large = noise.bound(0.01, 1000, math.pi, 10**9, constant=4)
    assert large.risk == pytest.approx(4 / (1000 * (room - 2 * 0.01) ** 2), rel=1e-5)


@given(
    st.floats(4, 1e5),
    st.floats(0.05, math.pi),
    st.floats(0, 0.5),
    st.integers(10, 10**6),
    st.sampled_from([4.0, 8.0]),
)
def test_bound_is_that_of_the_proofs_last_step_or_above(
    gamma: float, angle: float, rate: float, n: int, constant: float
) -> None:
    got = noise.bound(rate, gamma, angle, n, constant)
    room = 1 - 1 / gamma - math.cos(angle / 6)
    if not got.risk >= 0:
        assert room <= 0 or rate >= min(room / 2, room / math.sqrt(constant)) - 2 * math.sqrt(math.log(n)) / n
        return
    # Equation 71, with the 4 that Lemma B.1 gives for one sample.
    proved = 4 / (gamma * (room - 2 * (rate + 2 * math.sqrt(math.log(n)) / n)) ** 2)
    assert got.risk >= proved * (1 - 1e-9)
    if constant == 4:
        assert got.risk == pytest.approx(proved)


def test_paper_settings_are_outside_the_theorem() -> None:
    for gamma in (1 / 16, 1 / 8, 1 / 4):
        assert math.isnan(noise.bound(0, gamma, math.pi, 2000).clean)
        assert noise.smallest_relative_kappa(0, math.pi, 2000) > 100 * gamma


@given(st.floats(0, 0.03), st.floats(2.5, math.pi), st.sampled_from([4.0, 8.0]))
def test_smallest_relative_kappa_is_where_the_bound_becomes_one(
    rate: float, angle: float, constant: float
) -> None:
    gamma = noise.smallest_relative_kappa(rate, angle, 10**6, constant)
    if math.isinf(gamma):
        assert not noise.bound(rate, 1e14, angle, 10**6, constant).risk < 1
        return
    assert noise.bound(rate, gamma * 1.001, angle, 10**6, constant).risk < 1
    assert not noise.bound(rate, gamma * 0.999, angle, 10**6, constant).risk < 1


def test_hoeffding_needs_more_than_what_is_printed() -> None:
    for n in (20, 2000, 10**6):
        honest = noise.share_deviation(n, "hoeffding")
        assert honest > noise.share_deviation(n, "printed")
        # Hoeffding for the mean of n / 2 labels fails with at most 2 exp(-n t^2), which is to be 1 / n^2.
        assert 2 * math.exp(-n * honest**2) == pytest.approx(1 / n**2)
    # With fair flips the printed interval misses nearly always.
    share = stats.binom(1000, 0.5)
    inside = share.cdf(500 + 1000 * noise.share_deviation(2000, "printed")) - share.cdf(
        499 - 1000 * noise.share_deviation(2000, "printed")
    )
    assert inside < 0.2


def test_actual_risk_is_under_the_bound_in_its_regime() -> None:
    cloud = noisy.Cloud(relative_kappa=3000, angle=math.pi, dimension=16)
    descent = Descent(beta=0.1, learning_rate=1, steps=10)
    assert descent.time <= noise.stopping_time(losses.dpo(), 0.1, math.pi)
    rates = [0.0, 0.01, 0.02]
    table = noisy.controlled(cloud, {"dpo": losses.dpo()}, {"": descent}, rates, 1000, trials=2)
    for rate, risk in (1 - table.groupby("rate")["accuracy"].min()).items():
        assert risk <= noise.bound(float(rate), 3000, math.pi, 2000).risk < 1


@pytest.mark.parametrize(("name", "smoothing"), [("dpo", None), ("ipo", None), ("cdpo", 0.2), ("rdpo", 0.2)])
def test_curvature_is_the_supremum_of_the_second_derivative(name: str, smoothing: float | None) -> None:
    r = torch.linspace(0, 5, 2001, dtype=torch.float64, requires_grad=True)
    (second,) = torch.autograd.grad(losses.get(name, smoothing).derivative(r).sum(), r)
    assert second.abs().max().item() == pytest.approx(noise.CURVATURE[name], rel=1e-6)


def test_stopping_time_by_hand() -> None:
    angle = 6 * math.asin(0.5)
    assert noise.stopping_time(losses.dpo(), 0.1, angle) == pytest.approx(0.5 / (4 * 0.01 / 4))
    assert noise.stopping_time(losses.slic(), 0.1, angle) == pytest.approx(0.5 / (4 * 0.01 * 5))


# The curve ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("relative_kappa", "angle", "d", "n"),
    [(1 / 8, 2.0, 256, 1000), (1 / 4, 1.0, 128, 400), (2.0, math.pi, 64, 60)],
)
def test_first_step_accuracy_is_that_of_simulated_first_steps(
    relative_kappa: float, angle: float, d: int, n: int
) -> None:
    rates = np.array([0.0, 0.1, 0.3, 0.45, 0.5, 0.8])
    cloud = noisy.Cloud(relative_kappa, angle, d)
    one = Descent(beta=1, learning_rate=1, steps=1)
    table = noisy.controlled(cloud, {"dpo": losses.dpo()}, {"": one}, rates, n // 2, trials=150)
    by_trial = table.pivot(index="trial", columns="rate", values="accuracy").to_numpy()
    expected = noise.first_step_accuracy(rates, d, cloud.kappa, angle, n)
    error = by_trial.std(axis=0, ddof=1) / math.sqrt(150)
    assert (np.abs(by_trial.mean(axis=0) - expected) < 4 * error + 0.003).all()


@given(st.floats(0.05, 4), st.floats(0.1, math.pi), st.integers(8, 600), st.integers(20, 5000))
@settings(max_examples=30)
def test_first_step_accuracy_is_symmetric_falls_and_is_even_at_one_half(
    relative_kappa: float, angle: float, d: int, n: int
) -> None:
    got = noise.first_step_accuracy(np.linspace(0, 1, 11), d, relative_kappa * d / 2, angle, n)
    np.testing.assert_allclose(got + got[::-1], 1, atol=1e-9)
    assert got[5] == pytest.approx(0.5, abs=1e-9) and (np.diff(got) <= 1e-9).all()


# Equation 18 --------------------------------------------------------------------------------------


@given(st.floats(0.02, 0.4), st.floats(-1, 1.8), SEEDS, st.floats(0, 0.02))
@settings(max_examples=30)
def test_fit_is_scipys_best(clean: float, c: float, seed: int, spread: float) -> None:
    risks = clean / (1 - c * RATES) ** 2 + spread * np.random.default_rng(seed).normal(size=len(RATES))
    low, high = max(risks[0] - 0.01, 0), risks[0] + 0.01

    def error(parameters: np.ndarray) -> np.ndarray:
        return parameters[0] / (1 - parameters[1] * RATES) ** 2 - risks

    if not low < high:
        return
    starts = [(risks[0] if risks[0] > low else high, start) for start in (-1.0, 0.5, 1.5)]
    theirs = min(
        optimize.least_squares(error, x0, bounds=([low, -2.85], [high, 2.85]), xtol=1e-14, ftol=1e-14).cost
        for x0 in starts
    )
    ours = np.array([float(value) for value in noise.fit_equation_18(RATES, risks)])
    assert low - 1e-12 <= ours[0] <= high + 1e-12
    assert 0.5 * (error(ours) ** 2).sum() <= theirs * (1 + 1e-4) + 1e-9


def test_fit_of_many_is_that_of_each() -> None:
    risks = np.random.default_rng(0).uniform(0.1, 0.3, size=(3, 2, len(RATES)))
    clean, c = noise.fit_equation_18(RATES, risks)
    assert clean.shape == c.shape == (3, 2)
    one = noise.fit_equation_18(RATES, risks[2, 1])
    assert (clean[2, 1], c[2, 1]) == pytest.approx((float(one[0]), float(one[1])))
    with pytest.raises(PrefdynError, match=r"start at 0\.025: Equation 18 is fitted from 0"):
        noise.fit_equation_18(RATES[1:], risks[..., 1:])


def test_rivals_are_polyfit() -> None:
    risks, at = np.random.default_rng(1).uniform(size=(4, len(RATES))), np.array([0.4, 0.5])
    for name, degree in (("straight line", 1), ("quadratic", 2)):
        expected = [np.polyval(np.polyfit(RATES, row, degree), at) for row in risks]
        np.testing.assert_allclose(noise.predict(name, RATES, risks, at), expected, atol=1e-9)


def test_held_out_errors_leave_the_trial_out() -> None:
    risks = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    got = noise.held_out_errors("straight line", [0, 0.1, 0.2], risks, [0, 0.1, 0.2], risks)
    np.testing.assert_allclose(got, [0.15, 0.15, 0.3])


def test_bootstrap_covers_what_made_the_data() -> None:
    truth, inside = (0.2, 0.8), 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        risks = truth[0] / (1 - truth[1] * RATES) ** 2 + 0.02 * rng.normal(size=(20, len(RATES)))
        fit = noise.bootstrap_fit(RATES, risks, seed, resamples=200)
        assert (
            fit.c.low <= fit.c.value <= fit.c.high
            and fit.r_squared.value > 0.97
            and fit.largest_residual.value < 0.02
        )
        inside += fit.c.low <= truth[1] <= fit.c.high
    assert inside >= 16


def test_bessel_ratio_of_small_order_is_scipys() -> None:
    for d, kappa in ((3, 0.7), (9, 25.0)):
        assert vmf.mean_cosine(d, kappa) == pytest.approx(
            special.iv(d / 2, kappa) / special.iv(d / 2 - 1, kappa)
        )
