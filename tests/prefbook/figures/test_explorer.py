"""The numbers behind the interactive figure, against scipy's von Mises and a simulation."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from scipy.stats import vonmises

from prefbook.figures import explorer


@pytest.fixture(scope="module")
def page() -> str:
    return explorer.noise_explorer(draws=400)


@pytest.fixture(scope="module")
def given(page: str) -> dict[str, Any]:
    return json.loads(re.search(r"const given = (\{.*\});", page).group(1))  # type: ignore[union-attr]


def test_points_are_quantiles_of_von_mises(given: dict[str, Any]) -> None:
    uniforms = [
        vonmises.cdf(points, kappa) for points, kappa in zip(given["points"], given["kappas"], strict=True)
    ]
    for one in uniforms:
        np.testing.assert_allclose(one, uniforms[0], atol=2e-3)
    assert np.abs(given["points"]).max() <= np.pi


@pytest.mark.parametrize(("kappa", "angle"), [(0.5, 30), (2.0, 90), (8.0, 180)])
def test_curve_is_the_accuracy_of_simulated_first_steps(
    given: dict[str, Any], kappa: float, angle: int
) -> None:
    curve = given["curves"][given["kappas"].index(kappa)][given["angles"].index(angle)][0]
    rng = np.random.default_rng(5)
    signs = np.repeat([1, -1], 25)
    for index in (0, 5, 16):
        right = []
        for _ in range(1500):
            train, test = (rng.vonmises(signs * np.radians(angle) / 2, kappa) for _ in range(2))
            labels = np.where(rng.random(50) < given["rates"][index], -signs, signs)
            normal = np.arctan2((labels * np.sin(train)).sum(), (labels * np.cos(train)).sum())
            right.append((signs * np.cos(test - normal) > 0).mean())
        assert np.mean(right) == pytest.approx(curve[index], abs=0.025)


def test_curve_at_the_end_is_that_of_least_squares(given: dict[str, Any]) -> None:
    assert given["times"][-1] == -1
    curve = given["curves"][given["kappas"].index(2.0)][given["angles"].index(60)][-1]
    rng, signs = np.random.default_rng(6), np.repeat([1, -1], 25)
    for index in (0, 6):
        right = []
        for _ in range(1500):
            train, test = (rng.vonmises(signs * np.radians(30), 2.0) for _ in range(2))
            labels = np.where(rng.random(50) < given["rates"][index], -signs, signs)
            u = np.linalg.lstsq(np.column_stack([np.cos(train), np.sin(train)]), labels, rcond=None)[0]
            right.append((signs * (np.cos(test) * u[0] + np.sin(test) * u[1]) > 0).mean())
        assert np.mean(right) == pytest.approx(curve[index], abs=0.025)


def test_curve_in_between_is_that_of_many_small_steps(given: dict[str, Any]) -> None:
    states = np.exp(1j * np.random.default_rng(7).vonmises(0, 1.0, size=(1, 50)))
    labels, u, rate = np.repeat([1.0, -1.0], 25), np.zeros(2), 1e-4
    points = np.column_stack([states[0].real, states[0].imag])
    for _ in range(int(1.0 / rate)):  # time 1 of descent on (r - 1)^2, in v = 2 beta u
        u += 4 * rate * (labels - points @ u) @ points / 50
    second = (states**2).mean(axis=1)
    turned, share = np.exp(0.5j * np.angle(second)), np.abs(second)
    mean = (states * labels).mean(axis=1) / turned
    along, across = (explorer._filter(1.0, (1 + sign * share) / 2) for sign in (1, -1))
    v = ((along * mean.real + 1j * across * mean.imag) * turned)[0]
    np.testing.assert_allclose([v.real, v.imag], u, rtol=2e-3)


def test_figure_is_self_contained_labelled_and_unlike_its_twin(page: str) -> None:
    assert not re.search(r"(src|href)\s*=", page) and "import" not in page
    assert len(re.findall(r'<label>[^<]+<input type="range"', page)) == 4 and 'aria-live="polite"' in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == 1 and ids[0] not in explorer.noise_explorer(draws=2)
