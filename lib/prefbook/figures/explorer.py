"""An interactive figure on noise that needs no kernel and no library: points on a circle, the boundary they
teach, and its accuracy; its page is templates/explorer.html.
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
RATES = np.arange(21) / 20


def rendered(template: str, name: str, content: Mapping[str, Any]) -> str:
    """A template's HTML with its content as JSON, and an id that no other figure on a page has."""
    safe = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    return TEMPLATES.get_template(template).render(own=f"{name}-{uuid.uuid4().hex[:12]}", content=safe)


def noise_explorer(per_label: int = 25, draws: int = 300, seed: int = 0) -> str:
    """HTML in which a reader moves noise rate, concentration and angle, and sees the first step's boundary
    and its accuracy curve.

    In the plane (d = 2, where von Mises-Fisher is von Mises) the boundary is that of the mean of s g over
    noisy labels. Everything that is drawn from chance is drawn here: one set of points for the picture, and
    `draws` sets for the curve.
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
        "points": points,
        "uniforms": rng.random(2 * per_label).round(4).tolist(),
        "curves": curves,
        "colours": [POSITIVE, NEGATIVE, THEORY],
    }
    return rendered("explorer.html", "explorer", content)


def _curve(
    below: NDArray[np.float64],
    turn: NDArray[np.float64],
    angle: float,
    offsets: NDArray[np.float64],
    flips: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Accuracy of the first step over `RATES`, mean over sets of points; exact for new points, given the
    boundary.
    """
    signs = np.repeat([1.0, -1.0], offsets.shape[1] // 2)
    states = np.exp(1j * (offsets + signs * angle / 2))
    out = []

    def side(middle: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.interp(middle + np.pi / 2, turn, below) - np.interp(middle - np.pi / 2, turn, below)

    for rate in RATES:
        normal = np.angle((states * np.where(flips < rate, -signs, signs)).mean(axis=1))
        out.append(float((side(normal - angle / 2) + 1 - side(normal + angle / 2)).mean() / 2))
    return np.array(out)
