// What scrolls sideways can be reached with the tab key, so that the arrow keys scroll it; what fits is no stop.
// The list of sources is a list of items: the role that docutils gives them is deprecated, and no child of a list.
(() => {
  "use strict";
  const boxes = "mjx-container, div.math, figure, .cell_output .output, .cell_output .text_html, .pst-scrollable-table-container";
  const ours = "data-scrolls";

  const all = () => document.querySelectorAll(`article :is(${boxes})`);

  const mark = () => {
    for (const box of all()) {
      const scrolls = box.scrollWidth > box.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(box).overflowX);
      if (scrolls && !box.hasAttribute("tabindex")) {
        box.setAttribute(ours, "");
        box.tabIndex = 0;
      } else if (!scrolls && box.hasAttribute(ours)) {
        box.removeAttribute(ours);
        box.removeAttribute("tabindex");
      }
    }
  };

  const start = async () => {
    if (window.MathJax?.startup?.promise) await MathJax.startup.promise;
    mark();
    const observer = new ResizeObserver(mark); // what is folded has no size until it is opened
    all().forEach((box) => observer.observe(box));
  };
  document.querySelectorAll(".citation-list > .citation").forEach((entry) => entry.setAttribute("role", "listitem"));
  window.addEventListener("load", start);
})();
