// The scoreboard's filter: which papers' claims are shown, and with which verdict. Without it every claim is.
(() => {
  "use strict";
  const prepare = (board) => {
    const form = board.querySelector("form.score-filter");
    const claims = [...board.querySelectorAll("tbody[data-paper]")];
    if (!form) return;

    const apply = () => {
      const paper = form.elements.paper.value, verdict = form.elements.verdict.value;
      for (const claim of claims) {
        claim.hidden = Boolean(paper && claim.dataset.paper !== paper)
          || Boolean(verdict && !claim.dataset.verdicts.split("|").includes(verdict));
      }
      const shown = claims.filter((claim) => !claim.hidden).length;
      form.querySelector("output").textContent = shown === claims.length ? `${shown} claims` : `${shown} of ${claims.length} claims`;
    };

    form.addEventListener("change", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    apply(); // a browser that comes back to the page keeps what was chosen
  };

  const start = () => document.querySelectorAll(".scoreboard-of-claims").forEach(prepare);
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
})();
