// Words of the glossary: their definition, which is the title of the link, is shown on hover and on focus, stays while the
// pointer is on it, and goes with Escape. Without this a browser shows the title under the mouse alone.
(() => {
  "use strict";
  const start = () => {
    const tip = document.createElement("div");
    tip.id = "definition";
    tip.setAttribute("role", "tooltip");
    tip.hidden = true;
    document.body.append(tip);
    let shown = null, leaving = 0;

    const hide = () => {
      if (shown) shown.removeAttribute("aria-describedby");
      shown = null;
      tip.hidden = true;
    };
    const stay = () => clearTimeout(leaving);
    const leave = () => {
      stay();
      leaving = setTimeout(hide, 200); // time to move from the word to its definition
    };
    const show = (link) => {
      stay();
      hide();
      shown = link;
      link.setAttribute("aria-describedby", tip.id);
      tip.textContent = link.dataset.definition;
      tip.hidden = false;
      const word = link.getClientRects()[0], width = document.documentElement.clientWidth;
      const left = Math.max(8, Math.min(word.left, width - tip.offsetWidth - 8));
      const above = word.bottom + tip.offsetHeight + 8 > innerHeight && word.top > tip.offsetHeight + 8;
      tip.style.left = `${left + scrollX}px`;
      tip.style.top = `${(above ? word.top - tip.offsetHeight - 4 : word.bottom + 4) + scrollY}px`;
    };

    for (const word of document.querySelectorAll("a[title] > .std-term")) {
      const link = word.parentElement;
      link.dataset.definition = link.title;
      link.removeAttribute("title"); // or the browser would show it a second time
      for (const kind of ["pointerenter", "focus"]) link.addEventListener(kind, () => show(link));
      for (const kind of ["pointerleave", "blur"]) link.addEventListener(kind, leave);
    }
    tip.addEventListener("pointerenter", stay);
    tip.addEventListener("pointerleave", leave);
    addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
    });
  };
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
})();
