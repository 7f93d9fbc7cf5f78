"""Reward dynamics against the dense system, torch's descent on the whole W, and the two-row trainer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from prefdyn.engine import losses
from prefdyn.engine.last_layer import train
from prefdyn.engine.training import Settings
from prefdyn.errors import PrefdynError
from prefdyn.theory import reward_dynamics as theory
from prefdyn.theory.reward_dynamics import OneTokenPreferences

BETA = 0.3
LOSSES: list[Callable[[], losses.Loss]] = [losses.dpo, losses.ipo, lambda: losses.cdpo(0.1)]


def drawn(seed: int, n: int = 24, d: int = 7, tokens: int = 5) -> OneTokenPreferences:
    """Preferences among a few tokens: some pairs of answers share one token, some both, some none."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, tokens, n)
    rejected = (chosen + rng.integers(1, tokens, n)) % tokens
    return OneTokenPreferences(rng.normal(size=(n, d)), chosen, rejected)


def dense(
    preferences: OneTokenPreferences, times: np.ndarray, loss: losses.Loss, start: np.ndarray | float = 0.0
) -> np.ndarray:
    """Eq. 8 as it reads: the one-hot answers, the whole matrix of Eq. 10, N coupled equations."""
    one_hot = np.eye(10)
    difference = one_hot[preferences.chosen] - one_hot[preferences.rejected]
    c = (difference @ difference.T) * (preferences.features @ preferences.features.T)
    n = len(preferences)

    def rate(_: float, r: np.ndarray) -> np.ndarray:
        return BETA**2 / n * c @ -loss.derivative(torch.tensor(r)).numpy()

    begin = np.broadcast_to(np.asarray(start, dtype=float), n)
    return solve_ivp(rate, (0, times[-1]), begin, t_eval=times, rtol=1e-11, atol=1e-12, method="DOP853").y.T


@pytest.mark.parametrize("make", LOSSES)
def test_blocks_solve_the_dense_system(make: Callable[[], losses.Loss]) -> None:
    preferences, times = drawn(0), np.linspace(0, 20, 6)
    path = theory.flow(preferences, times, BETA, make(), tolerance=1e-9)
    np.testing.assert_allclose(path.margins(preferences), dense(preferences, times, make()), atol=1e-6)
    assert path.movement.shape == (6, len(path.answers), 7) and len(path.answers) < len(preferences)


def test_times_of_a_flow_begin_anywhere_from_zero_on_and_rise() -> None:
    preferences = drawn(0)
    assert not theory.flow(preferences, [0.0, 0.0], BETA).margins(preferences).any()
    for times in ([2.0, 1.0], [-1.0, 1.0], []):
        with pytest.raises(PrefdynError, match="rise from 0 on"):
            theory.flow(preferences, times, BETA)


def test_start_of_the_margins_is_that_of_the_dense_system() -> None:
    preferences, times = drawn(1), np.linspace(0, 20, 4)
    start = np.random.default_rng(2).normal(size=len(preferences))
    path = theory.flow(preferences, times, BETA, start=start, tolerance=1e-9)
    np.testing.assert_allclose(
        path.margins(preferences, start), dense(preferences, times, losses.dpo(), start), atol=1e-6
    )


def test_interactions_are_those_of_one_hot_answers() -> None:
    a, b = drawn(3, n=9), drawn(4, n=6)
    one_hot = np.eye(5)
    first, second = one_hot[a.chosen] - one_hot[a.rejected], one_hot[b.chosen] - one_hot[b.rejected]
    expected = np.einsum("iv,jv,id,jd->ij", first, second, a.features, b.features)
    np.testing.assert_allclose(theory.interactions(a, b), expected, atol=1e-12)


def torch_descent(
    preferences: OneTokenPreferences, new: OneTokenPreferences, steps: int, rate: float, loss: losses.Loss
) -> np.ndarray:
    """Margins of `new` along torch's SGD on the whole W, autograd and all."""
    weight = torch.randn(
        10, preferences.features.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    reference = weight.clone()
    weight.requires_grad_(True)
    optimizer = torch.optim.SGD([weight], lr=rate)

    def margins(of: OneTokenPreferences) -> torch.Tensor:
        g = torch.from_numpy(of.features)
        ratios = [(g @ w.T).log_softmax(1) for w in (weight, reference)]
        rows = torch.arange(len(of))
        parts = [
            ratio[rows, torch.from_numpy(of.chosen)] - ratio[rows, torch.from_numpy(of.rejected)]
            for ratio in ratios
        ]
        return BETA * (parts[0] - parts[1])

    out = [margins(new).detach().numpy()]
    for _ in range(steps):
        optimizer.zero_grad()
        loss.value(margins(preferences)).mean().backward()
        optimizer.step()
        out.append(margins(new).detach().numpy())
    return np.array(out)


@pytest.mark.parametrize("make", [*LOSSES, losses.slic])
def test_descent_is_that_of_torch_on_the_whole_unembedding_for_old_and_new_samples(
    make: Callable[[], losses.Loss],
) -> None:
    preferences, new = drawn(5), drawn(6, n=11)
    path = theory.descend(preferences, 12, 1.5, BETA, make())
    for part in (preferences, new):
        np.testing.assert_allclose(
            path.margins(part), torch_descent(preferences, part, 12, 1.5, make()), atol=1e-10
        )
    np.testing.assert_allclose(path.times, 1.5 * np.arange(13))


def test_two_row_trainer_converges_to_the_flow_with_order_one() -> None:
    """The trainer of the chapters, u and -u, at the same time with ever smaller steps."""
    rng = np.random.default_rng(7)
    labels = np.repeat([1, -1], 15)
    g = rng.normal(size=(30, 6)) + labels[:, None] * 0.5
    preferences, end = theory.yes_or_no(g, labels), 40.0
    exact = theory.flow(preferences, [0, end], BETA, tolerance=1e-11).margins(preferences)[-1]
    gaps = []
    for steps in (40, 80, 160, 320):
        run = train(g, labels, Settings(end / steps, steps, batch_size=10**6, beta=BETA), np.zeros(6))
        gaps.append(np.abs(2 * BETA * labels * (g @ run.path[-1]) - exact).max())
    orders = np.log2(np.array(gaps[:-1]) / gaps[1:])
    np.testing.assert_allclose(orders, 1, atol=0.1)


def test_rates_at_the_start_are_the_flows_own() -> None:
    preferences, new = drawn(8), drawn(9, n=5)
    by_difference = theory.flow(preferences, [0, 1e-4], BETA, tolerance=1e-12).margins(new)[1] / 1e-4
    np.testing.assert_allclose(
        theory.initial_rates(preferences, new, BETA), by_difference, rtol=1e-3, atol=1e-6
    )


def test_yes_or_no_is_the_persona_task() -> None:
    preferences = theory.yes_or_no([[1.0], [2.0]], [1, -1])
    assert (preferences.chosen.tolist(), preferences.rejected.tolist()) == ([0, 1], [1, 0])


def test_overlap_by_hand() -> None:
    pairs = [(0, 1), (1, 0), (0, 2), (2, 1), (3, 4)]
    assert theory.token_overlap([(0, 1)], pairs).tolist() == [[2, -2, 1, 1, 0]]


def test_rest_points_of_a_jumping_slope_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theory, "EVALUATIONS", 3000)
    rng = np.random.default_rng(0)
    preferences = theory.yes_or_no(rng.normal(size=(60, 4)) + 3, rng.choice([-1, 1], 60))
    with pytest.raises(PrefdynError, match="use `descend` with small steps"):
        theory.flow(preferences, [0, 1e5], BETA, losses.slic())


def test_preferences_that_are_none_are_refused() -> None:
    with pytest.raises(PrefdynError, match="give as many of each"):
        OneTokenPreferences(np.zeros((2, 3)), np.array([0]), np.array([1]))
    with pytest.raises(PrefdynError, match="same token"):
        OneTokenPreferences(np.zeros((1, 3)), np.array([1]), np.array([1]))
