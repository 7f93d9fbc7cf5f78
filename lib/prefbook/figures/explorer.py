"""An interactive figure on noise that needs no kernel and no library: points on a circle, the boundary they
teach, and its accuracy.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import vonmises

from prefbook.figures.style import NEGATIVE, POSITIVE, THEORY

KAPPAS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
ANGLES = (30, 60, 90, 120, 150, 180)
RATES = np.arange(21) / 20


def noise_explorer(per_label: int = 25, draws: int = 300, seed: int = 0) -> str:
    """HTML in which a reader moves noise rate, concentration and angle, and sees the first step's boundary
    and the accuracy curve.

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
    own = f"explorer-{uuid.uuid4().hex[:12]}"
    return _PAGE.replace("OWN", own).replace("CONTENT", json.dumps(content, separators=(",", ":")))


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


_PAGE = """<figure class="explorer" id="OWN" role="group" aria-label="Points on a circle with some labels wrong, the decision boundary
that they teach, and the accuracy over noise rates; three sliders change noise rate, concentration and angle.">
<div class="controls">
<label>noise rate ε <input type="range" data-of="rate" min="0" max="20" value="4"><output></output></label>
<label>concentration κ <input type="range" data-of="kappa" min="0" max="6" value="3"><output></output></label>
<label>angle between the means <input type="range" data-of="angle" min="0" max="5" value="2"><output></output></label>
</div>
<div class="views"></div>
<p class="said" aria-live="polite">This figure needs JavaScript.</p>
<style>
#OWN .controls { display: grid; gap: 0.4rem; margin-bottom: 0.75rem; max-width: 34rem; }
#OWN label { display: grid; grid-template-columns: minmax(7rem, 11.5rem) minmax(6rem, 1fr) 3em; align-items: center; gap: 0.75rem; }
#OWN input { width: 100%; }
#OWN output { font-variant-numeric: tabular-nums; }
#OWN .views { display: flex; flex-wrap: wrap; gap: 1rem; }
#OWN .views svg { flex: 1 1 15rem; min-width: 0; max-width: 26rem; background: #fff; }
#OWN .said { min-height: 3.2em; margin-top: 0.5rem; }
</style>
<script>
(() => {
  "use strict";
  const given = CONTENT;
  const figure = document.getElementById("OWN");
  const [yes, no, ink] = given.colours;
  const make = (parent, name, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.appendChild(element);
    return element;
  };
  const views = figure.querySelector(".views");
  const view = (label) => make(views, "svg", { viewBox: "0 0 320 300", role: "img", "aria-label": label });
  const plane = view("Points on a circle and the decision boundary");
  const graph = view("Accuracy over noise rates");
  const word = { "font-size": 13, fill: ink, "font-family": "sans-serif" };

  // The plane
  const [cx, cy, radius] = [160, 140, 105];
  const half = make(plane, "path", { fill: yes, opacity: 0.1 });
  const other = make(plane, "path", { fill: no, opacity: 0.1 });
  make(plane, "circle", { cx, cy, r: radius, fill: "none", stroke: "#999" });
  const dotted = { x1: cx, y1: cy, "stroke-width": 2, "stroke-dasharray": "2 3" };
  const means = [yes, no].map((stroke) => make(plane, "line", { ...dotted, stroke }));
  const boundary = make(plane, "line", { stroke: ink, "stroke-width": 2.5 });
  const marks = given.uniforms.map((_, i) => i < given.uniforms.length / 2
    ? make(plane, "circle", { r: 5 }) : make(plane, "rect", { width: 9, height: 9 }));
  make(plane, "text", { ...word, x: cx, y: 292, "text-anchor": "middle" }, "○ Yes, □ No; black ring: wrong label");

  // The graph
  const x = (rate) => 50 + 255 * rate;
  const y = (accuracy) => 245 - 225 * accuracy;
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    make(graph, "line", { x1: x(0), x2: x(1), y1: y(tick), y2: y(tick), stroke: "#e2e2e2" });
    make(graph, "text", { ...word, x: 44, y: y(tick) + 4, "text-anchor": "end" }, tick);
    make(graph, "text", { ...word, x: x(tick), y: 263, "text-anchor": "middle" }, tick);
  }
  make(graph, "text", { ...word, x: x(0.5), y: 287, "text-anchor": "middle" }, "noise rate ε");
  make(graph, "text", { ...word, x: 14, y: y(0.5), "text-anchor": "middle", transform: `rotate(-90 14 ${y(0.5)})` }, "accuracy");
  const before = make(graph, "polyline", { fill: "none", stroke: "#999", "stroke-width": 1.5, "stroke-dasharray": "4 3" });
  const curve = make(graph, "polyline", { fill: "none", stroke: yes, "stroke-width": 2.5 });
  const here = make(graph, "circle", { r: 6, fill: yes, stroke: "#fff", "stroke-width": 1.5 });

  const inputs = Object.fromEntries([...figure.querySelectorAll("input")].map((input) => [input.dataset.of, input]));
  const line = (values) => values.map((value, i) => `${x(given.rates[i])},${y(value)}`).join(" ");
  const at = (angle, length) => [cx + length * Math.sin(angle), cy - length * Math.cos(angle)];

  const draw = () => {
    const [r, k, a] = ["rate", "kappa", "angle"].map((name) => Number(inputs[name].value));
    const rate = given.rates[r], kappa = given.kappas[k], angle = given.angles[a] * Math.PI / 180;
    const many = given.uniforms.length;
    let [sx, sy, wrong] = [0, 0, 0];
    const places = given.uniforms.map((uniform, i) => {
      const sign = i < many / 2 ? 1 : -1;
      const where = Math.PI / 2 - given.points[k][i] - sign * angle / 2;
      const flipped = uniform < rate;
      const label = flipped ? -sign : sign;
      wrong += flipped;
      sx += label * Math.sin(where);
      sy += label * Math.cos(where);
      return [where, sign, label, flipped];
    });
    const normal = Math.atan2(sx, sy);
    let right = 0;
    places.forEach(([where, sign, label, flipped], i) => {
      right += sign * Math.cos(where - normal) > 0;
      const [px, py] = at(where, radius);
      const mark = marks[i];
      if (sign > 0) { mark.setAttribute("cx", px); mark.setAttribute("cy", py); }
      else { mark.setAttribute("x", px - 4.5); mark.setAttribute("y", py - 4.5); }
      mark.setAttribute("fill", label > 0 ? yes : no);
      mark.setAttribute("stroke", flipped ? ink : "#fff");
      mark.setAttribute("stroke-width", flipped ? 2 : 0.8);
    });
    const [b0, b1] = [at(normal + Math.PI / 2, 130), at(normal - Math.PI / 2, 130)];
    ["x1", "y1", "x2", "y2"].forEach((name, i) => boundary.setAttribute(name, [...b0, ...b1][i]));
    half.setAttribute("d", `M${b1} A130 130 0 0 1 ${b0} Z`);
    other.setAttribute("d", `M${b1} A130 130 0 0 0 ${b0} Z`);
    means.forEach((mean, i) => {
      const [mx, my] = at(Math.PI / 2 + (i ? 1 : -1) * angle / 2, radius);
      mean.setAttribute("x2", mx);
      mean.setAttribute("y2", my);
    });
    const values = given.curves[k][a];
    curve.setAttribute("points", line(values));
    before.setAttribute("points", line(given.curves[3][2]));
    here.setAttribute("cx", x(rate));
    here.setAttribute("cy", y(values[r]));
    const shown = { rate: rate.toFixed(2), kappa: String(kappa), angle: `${given.angles[a]}°` };
    for (const [name, input] of Object.entries(inputs)) {
      input.nextElementSibling.textContent = shown[name];
      input.setAttribute("aria-valuetext", shown[name]);
    }
    const off = Math.round(Math.abs(normal) * 180 / Math.PI);
    figure.querySelector(".said").textContent = `In this draw ${wrong} of ${many} labels are wrong, the boundary is ${off}° off, and `
      + `${Math.round(100 * right / many)}% of these points lie on their own side of it. `
      + `Over many draws, ${Math.round(100 * values[r])}% of new points do.`;
  };
  for (const input of Object.values(inputs)) input.addEventListener("input", draw);
  draw();
})();
</script>
</figure>"""
