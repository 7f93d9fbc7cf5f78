"""An interactive figure on noise that needs no kernel and no library: points on a circle, the boundary they
teach in one step or in many, and its accuracy; its page is templates/explorer.html.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import vonmises

from prefbook.figures.style import NEGATIVE, POSITIVE, THEORY

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("prefbook.figures"), undefined=jinja2.StrictUndefined
)
KAPPAS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
ANGLES = (30, 60, 90, 120, 150, 180)
TIMES = (0.0, 1.0, 4.0, 16.0, np.inf)
"""Training times eta beta^2 steps on the loss of IPO; 0 stands for the first step."""
RATES = np.arange(21) / 20


def rendered(template: str, name: str, content: Mapping[str, Any]) -> str:
    """A template's HTML with its content as JSON, and an id that no other figure on a page has."""
    safe = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    return TEMPLATES.get_template(template).render(own=f"{name}-{uuid.uuid4().hex[:12]}", content=safe)


def noise_explorer(per_label: int = 25, draws: int = 300, seed: int = 0) -> str:
    """HTML in which a reader moves noise rate, concentration, angle and training time, and sees the boundary
    and its accuracy curve.

    In the plane (d = 2, where von Mises-Fisher is von Mises) the first step's boundary is that of the mean of
    s g over noisy labels; with the loss of IPO that of a later time is the same mean under a filter of the
    second moment of the points (see `theory.noise.ridge_law`). Everything that is drawn from chance is drawn
    here: one set of points for the picture, and `draws` sets for the curve.
    """
    rng = np.random.default_rng(seed)
    points, curves = [], []
    picture, sets, flips = (
        rng.random(2 * per_label),
        rng.random((draws, 2 * per_label)),
        rng.random((draws, 2 * per_label)),
    )
    turn = np.linspace(-3 * np.pi, 3 * np.pi, 12_001)
    for kappa in KAPPAS:
        below = vonmises.cdf(turn, kappa)  # rises by 1 with every turn; a table, for its inverse is slow
        points.append(np.interp(picture, below, turn).round(4).tolist())
        offsets = np.interp(sets, below, turn)
        curves.append(
            [_curve(below, turn, np.radians(angle), offsets, flips).round(4).tolist() for angle in ANGLES]
        )
    content: dict[str, Any] = {
        "kappas": KAPPAS,
        "angles": ANGLES,
        "rates": RATES.tolist(),
        "times": [time if np.isfinite(time) else -1 for time in TIMES],
        "points": points,
        "uniforms": [*_evenly(per_label, rng), *_evenly(per_label, rng)],
        "curves": curves,
        "colours": [POSITIVE, NEGATIVE, THEORY],
    }
    return rendered("explorer.html", "explorer", content)


def _evenly(count: int, rng: np.random.Generator) -> list[float]:
    """Numbers between 0 and 1 of which as many lie below any rate as it says, in an order of chance: so the
    picture has as many wrong labels of either kind as its slider.
    """
    return ((rng.permutation(count) + 0.5) / count).round(4).tolist()


def _curve(
    below: NDArray[np.float64],
    turn: NDArray[np.float64],
    angle: float,
    offsets: NDArray[np.float64],
    flips: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Accuracy over `TIMES` and `RATES`, mean over sets of points; exact for new points."""
    signs = np.repeat([1.0, -1.0], offsets.shape[1] // 2)
    states = np.exp(1j * (offsets + signs * angle / 2))
    out = []

    def side(middle: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.interp(middle + np.pi / 2, turn, below) - np.interp(middle - np.pi / 2, turn, below)

    second = (states**2).mean(axis=1)
    turned, share = np.exp(0.5j * np.angle(second)), np.abs(second)
    for time in TIMES:
        row = []
        for rate in RATES:
            mean = (states * np.where(flips < rate, -signs, signs)).mean(axis=1) / turned
            along, across = (_filter(time, (1 + sign * share) / 2) for sign in (1, -1))
            normal = np.angle((along * mean.real + 1j * across * mean.imag) * turned)
            row.append(float((side(normal - angle / 2) + 1 - side(normal + angle / 2)).mean() / 2))
        out.append(row)
    return np.array(out)


def _filter(time: float, eigenvalue: NDArray[np.float64]) -> NDArray[np.float64]:
    """What gradient flow to a time makes of a direction of the first step."""
    if time == 0:
        return np.ones_like(eigenvalue)
    return -np.expm1(-4 * time * eigenvalue) / eigenvalue
