"""NZ's distribution and fit against scipy's, its bound against the proof's steps and actual runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats

from prefdyn.engine import last_layer, losses
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


def test_states_without_a_direction_or_without_scatter_are_refused() -> None:
    with pytest.raises(PrefdynError, match="are all hidden states one"):
        vmf.shape(np.ones((4, 5)))
    with pytest.raises(PrefdynError, match="a mean of 0"):
        vmf.sample(np.zeros(3), 1.0, 5, np.random.default_rng(0))
    assert vmf.concentration(3, 1e-13) == 0


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
        honest = noise.share_deviation(n, "hoeffding", 0.5)
        assert honest > noise.share_deviation(n, "printed", 0.5)
        # Hoeffding for the mean of n / 2 labels fails with at most 2 exp(-n t^2), which is to be 1 / n^2.
        assert 2 * math.exp(-n * honest**2) == pytest.approx(1 / n**2)
    # With fair flips the printed interval misses nearly always.
    share = stats.binom(1000, 0.5)
    off = noise.share_deviation(2000, "printed", 0.5)
    assert share.cdf(500 + 1000 * off) - share.cdf(499 - 1000 * off) < 0.2


@given(st.floats(0.001, 0.5), st.integers(20, 5000))
def test_exact_share_is_the_binomials_tail_and_below_hoeffdings(rate: float, n: int) -> None:
    half, off = n // 2, noise.share_deviation(n, "exact", rate)
    wrong = round(half * (rate + off))
    tail = (
        sum(math.comb(half, k) * rate**k * (1 - rate) ** (half - k) for k in range(wrong + 1, half + 1))
        if half <= 60
        else stats.binom(half, rate).sf(wrong)
    )
    assert tail <= 1 / n**2 * (1 + 1e-6)
    assert stats.binom(half, rate).sf(wrong - 1) > 1 / n**2 * (1 - 1e-6)
    assert off <= noise.share_deviation(n, "hoeffding", rate) + 1 / half


def test_without_noise_no_label_is_wrong_and_the_bound_knows_it() -> None:
    assert noise.share_deviation(2000, "exact", 0.0) == 0
    gamma = noise.smallest_relative_kappa(0.01, math.pi, 2000, 8, "exact")
    assert noise.bound(0.01, 1.01 * gamma, math.pi, 2000, 8, "exact").risk < 1
    assert math.isinf(noise.smallest_relative_kappa(0.01, math.pi, 2000, 8, "hoeffding"))


# The theorem with exact tails ---------------------------------------------------------------------


@pytest.mark.parametrize(("d", "kappa"), [(3, 0.5), (3, 40.0), (17, 5.0), (512, 2000.0)])
def test_distribution_function_of_the_cosine_is_the_densitys(d: int, kappa: float) -> None:
    support, cumulative = density_cdf(d, kappa)
    for place in (0.02, 0.5, 0.9):
        at = float(np.interp(place, cumulative, support))
        assert vmf.cosine_cdf(d, kappa, at) == pytest.approx(place, rel=2e-3)
    assert vmf.cosine_cdf(d, kappa, -1.0) == 0 and vmf.cosine_cdf(d, kappa, 1.0) == 1
    if d == 3:  # on the ordinary sphere the cosine has an exponential density
        closed = (math.exp(kappa * 0.3) - math.exp(-kappa)) / (math.exp(kappa) - math.exp(-kappa))
        assert vmf.cosine_cdf(3, kappa, 0.3) == pytest.approx(closed, rel=1e-4)


def test_a_tail_is_small_and_not_lost_to_rounding() -> None:
    closed = math.exp(200 * (0.5 - 1))  # d = 3, up to exp(-400)
    assert vmf.cosine_cdf(3, 200.0, 0.5) == pytest.approx(closed, rel=1e-3)


def test_sharp_bound_by_hand() -> None:
    d, kappa, n, angle = 64, 32 * 20.0, 2000, math.pi
    a, v = vmf.mean_cosine(d, kappa), vmf.cosine_variance(d, kappa)
    log = math.log(n**2) / (n / 2)
    # Bernstein: exp(-m s^2 / (2 (V + s (1 + a) / 3))) is 1 / n^2 for the mean of m = n / 2.
    s = (1 + a) * log / 3 + math.sqrt(((1 + a) * log / 3) ** 2 + 2 * v * log)
    assert (n / 2) * s**2 / (2 * (v + s * (1 + a) / 3)) == pytest.approx(2 * math.log(n))
    phi = math.acos(a - s - 2 * (0.05 + noise.share_deviation(n, "exact", 0.05)))
    got = noise.sharp_bound(0.05, d, kappa, angle, n)
    assert got.risk == pytest.approx(vmf.cosine_cdf(d, kappa, math.cos(math.pi / 3 - phi)))
    assert math.isnan(noise.sharp_bound(0.3, d, kappa, angle, n).risk)  # phi is above 2 theta / 3


def test_sharp_bound_holds_where_the_printed_one_says_nothing() -> None:
    cloud = noisy.Cloud(relative_kappa=12, angle=math.pi, dimension=64)
    time = noise.stopping_time(losses.dpo(), 0.1, math.pi)
    rates = [0.0, 0.02]
    descent = Descent(0.1, time / 10, 10)
    table = noisy.controlled(cloud, {"dpo": losses.dpo()}, {"": descent}, rates, 1000, trials=3)
    for rate, risk in (1 - table.groupby("rate")["accuracy"].min()).items():
        bound = noise.sharp_bound(float(rate), 64, cloud.kappa, math.pi, 2000).risk
        assert risk <= bound < 0.5
        assert not noise.bound(float(rate), 12, math.pi, 2000, 4, "exact").risk < 1


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
    r = torch.linspace(-5, 5, 2001, dtype=torch.float64, requires_grad=True)  # wrong labels have r < 0
    (second,) = torch.autograd.grad(losses.get(name, smoothing).derivative(r).sum(), r)
    assert second.abs().max().item() == pytest.approx(noise.CURVATURE[name], rel=1e-6)


def test_stopping_time_by_hand() -> None:
    angle = 6 * math.asin(0.5)
    assert noise.stopping_time(losses.dpo(), 0.1, angle) == pytest.approx(0.5 / (4 * 0.01 / 4))
    assert noise.stopping_time(losses.slic(), 0.1, angle) == pytest.approx(0.5 / (2 * 0.01))


def test_no_margin_of_slic_reaches_its_kink_within_the_stopping_time() -> None:
    x, s = noisy.Cloud(50.0, math.pi, 8).draw(40, np.random.default_rng(0))
    for beta in (0.1, 2.0):
        time = noise.stopping_time(losses.slic(), beta, math.pi)
        u = last_layer.descend(x, s[None], [losses.slic()], Descent(beta, time / 20, 20))[0, 0]
        margins = 2 * beta * s * (u @ x.T)
        assert margins.max() < 1
        # Still along the first step: the slopes have been -1 all the time.
        first = (s[:, None] * x).mean(0)
        torch.testing.assert_close(u / u.norm(), first / first.norm(), rtol=0, atol=1e-5)


def test_a_step_of_descent_is_that_of_lemma_3_1() -> None:
    x, s = noisy.Cloud(1.0, 2.0, 6).draw(5, np.random.default_rng(1))
    loss, beta, rate = losses.ipo(), 0.3, 1e-4
    steps = [
        u.clone()[0, 0]
        for u in last_layer.descent_steps(
            x.T.double(), s[None].double(), [loss], Descent(beta, rate, 2), x.double()
        )
    ]
    before, after = (2 * beta * s * (u @ x.T.double()) for u in steps[1:])
    # tau dr_j / dt = -(1/N) sum_i beta^2 f'(r_i) (y_j.y_i) g_i.g_j, where y_j.y_i is 2 s_i s_j.
    moved = -2 * beta**2 * (torch.outer(s, s) * (x @ x.T)).double() @ loss.derivative(before) / len(s)
    torch.testing.assert_close((after - before) / rate, moved, rtol=1e-6, atol=1e-9)


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


def test_common_direction_does_not_scatter_with_the_numbers_of_the_kinds() -> None:
    # Clouds so tight and so close that all of a point lies along the common direction: without noise, and
    # with as many of each kind, that part of the first step cancels; what scatter is left is the points' own.
    d, kappa, angle, n = 32, 400.0, 0.1, 200
    cloud = noisy.Cloud(2 * kappa / d, angle, d)
    table = noisy.controlled(cloud, {"dpo": losses.dpo()}, {"": Descent(1, 1, 1)}, [0.0], n // 2, trials=200)
    right = table["accuracy"]
    (expected,) = noise.first_step_accuracy([0.0], d, kappa, angle, n)
    assert right.mean() == pytest.approx(expected, abs=4 * right.std() / math.sqrt(200) + 0.004)


@pytest.mark.parametrize(("gamma", "angle"), [(1 / 4, 1.0), (1 / 8, math.pi), (1 / 16, 2.0)])
def test_ridge_law_is_that_of_simulated_descents_on_ipo(gamma: float, angle: float) -> None:
    cloud, rates = noisy.Cloud(gamma, angle, 256), np.array([0.0, 0.2, 0.4])
    for time, steps in ((0.005, 1), (20.0, 4), (100.0, 20), (1000.0, 200)):
        descent = {"": Descent(1.0, time / steps, steps)}
        table = noisy.controlled(cloud, {"ipo": losses.ipo()}, descent, rates, 500, trials=12)
        by_trial = table.pivot(index="trial", columns="rate", values="accuracy").to_numpy()
        law = noise.ridge_law(256, cloud.kappa, angle, 1000, time / steps, steps).accuracy(rates)
        error = by_trial.std(axis=0, ddof=1) / math.sqrt(12)
        assert (np.abs(by_trial.mean(axis=0) - law) < 4 * error + 0.012).all(), (time, law)


def test_ridge_law_of_one_step_is_the_first_step_laws_leading_order() -> None:
    d, kappa, angle, n = 512, 64.0, math.pi / 3, 2000
    law = noise.ridge_law(d, kappa, angle, n, 1e-3, 1)
    a, spread = vmf.mean_cosine(d, kappa), vmf.cosine_variance(d, kappa)
    across = (1 - spread - a**2) / (d - 1)
    signal = (a * math.sin(angle / 2)) ** 2
    b = 1 / (1 + signal * n / (d * across))
    assert law.b == pytest.approx(b, rel=1e-3)
    assert law.a == pytest.approx(math.sqrt(signal / across * (1 - b)), rel=1e-3)


def test_ridge_law_at_the_end_is_least_squares() -> None:
    ends = [noise.ridge_law(512, 64.0, 1.0, 2000, 20.0, steps) for steps in (5000, 10_000)]
    assert ends[0].a == pytest.approx(ends[1].a, rel=1e-3) and ends[0].b == pytest.approx(ends[1].b, rel=1e-3)
    rng, cloud = np.random.default_rng(0), noisy.Cloud(1 / 4, 1.0, 512)
    right = []
    for _ in range(6):
        (x, s), (new, truth) = (cloud.draw(1000, rng) for _ in range(2))
        u = torch.linalg.lstsq(x.double(), s.double()[:, None]).solution[:, 0]
        right.append(((new.double() @ u) * truth > 0).double().mean().item())
    assert np.mean(right) == pytest.approx(float(ends[1].accuracy(0.0)), abs=0.012)


def test_law_of_states_is_the_first_step_law_on_the_paper_s_clouds() -> None:
    cloud, rates = noisy.Cloud(1 / 4, 1.0, 64), np.array([0.0, 0.2, 0.4, 0.5])
    x, s = cloud.draw(4000, np.random.default_rng(2))
    got = noise.accuracy_of_states(x, s, rates, 200)
    np.testing.assert_allclose(got, noise.first_step_accuracy(rates, 64, cloud.kappa, 1.0, 400), atol=0.015)
    assert got[-1] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_law_of_states_foretells_halves_of_anisotropic_states(shared: float) -> None:
    rng, d, each = np.random.default_rng(3), 40, 60
    labels = np.repeat([1, -1], each)
    scales = np.concatenate([[0.6, 0.4], np.full(d - 2, 0.05)])
    states = rng.normal(size=(2 * each, d)) * scales
    states[:, 2] += 0.12 * labels
    states[:, 3] += shared
    rates = np.array([0.0, 0.1, 0.3])
    table = noisy.resplit(states, labels, losses.dpo(), Descent(0.1, 0.05, 1), rates, trials=400)
    measured = table.groupby("rate")["accuracy"].mean().to_numpy()
    foretold = noise.accuracy_of_states(states, labels, rates, each // 2, draws=2000)
    np.testing.assert_allclose(foretold, measured, atol=0.025)


# Equation 18 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", noise.MODELS)
def test_excess_of_the_right_form_is_chance_and_of_a_wrong_one_is_its_bias(model: str) -> None:
    rng, x = np.random.default_rng(5), RATES
    curve = {
        "Equation 18": 0.2 / (1 - 0.7 * x) ** 2,
        "straight line": 0.2 + 0.5 * x,
        "quadratic": 0.2 + 0.1 * x + 0.8 * x**2,
    }[model]
    risks = curve + 0.02 * rng.normal(size=(300, 12, 1)) + 0.01 * rng.normal(size=(300, 12, len(x)))
    pseudo = noise.excess_errors(model, x, risks)
    assert pseudo.shape == (300, 12)
    means = pseudo.mean(axis=1)
    assert abs(means.mean()) < 4 * means.std() / math.sqrt(300) + 2e-7
    bent = noise.excess_errors("straight line", x, risks + 0.5 * x**2).mean()
    fit = noise.predict("straight line", x, curve + 0.5 * x**2, x) - curve - 0.5 * x**2
    assert bent == pytest.approx((fit**2).mean(), rel=0.05, abs=2e-7)


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
