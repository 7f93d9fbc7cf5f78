// Maps of statements: hovering, tapping or focusing a point shows its statement in the <output> of its figure.
// A map is one tab stop; inside it the arrow keys go to the nearest point in their direction.
(() => {
  "use strict";
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  const centre = (point) => {
    const box = point.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  };

  const nearest = (points, from, [dx, dy]) => {
    const [x, y] = centre(from);
    let best = null, least = Infinity;
    for (const point of points) {
      const [px, py] = centre(point);
      const ahead = (px - x) * dx + (py - y) * dy;
      const aside = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
      if (point !== from && ahead > 0 && ahead + 2 * aside < least) [best, least] = [point, ahead + 2 * aside];
    }
    return best;
  };

  const prepare = (figure) => {
    const output = figure.querySelector("output") || figure.parentElement.querySelector("output");
    const points = [...figure.querySelectorAll("svg use, svg .statement-point")].filter((p) => p.querySelector(":scope > title"));
    if (!output || !points.length) return;
    let current = points[0];

    const show = (point) => {
      current.classList.remove("is-shown");
      current.setAttribute("tabindex", "-1");
      current = point;
      current.classList.add("is-shown");
      current.setAttribute("tabindex", "0");
      output.textContent = current.getAttribute("aria-label");
    };
    const pointOf = (event) => points.find((point) => point.contains(event.target));

    for (const point of points) {
      const title = point.querySelector(":scope > title"); // becomes a label, or the browser would show it a second time
      point.setAttribute("aria-label", title.textContent.trim());
      point.setAttribute("role", "img");
      point.setAttribute("tabindex", point === current ? "0" : "-1");
      title.remove();
    }
    for (const kind of ["pointerover", "click", "focusin"]) {
      figure.addEventListener(kind, (event) => {
        const point = pointOf(event);
        if (point) show(point);
      });
    }
    figure.addEventListener("keydown", (event) => {
      const point = pointOf(event);
      if (!point || !(event.key in arrows)) return;
      event.preventDefault();
      const next = nearest(points, point, arrows[event.key]);
      if (next) next.focus();
    });
  };

  const start = () => document.querySelectorAll("figure.statement-map").forEach(prepare);
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
})();
