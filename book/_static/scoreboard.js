// The scoreboard: its filter, by paper and by verdict, and claims that fold their statistics away. Without it everything is shown.
(() => {
  "use strict";
  const fold = (claim, folded) => {
    claim.classList.toggle("folded", folded);
    const button = claim.querySelector("button.fold");
    button.setAttribute("aria-expanded", String(!folded));
    button.textContent = folded ? "how it is measured" : "fold";
  };

  const addButton = (claim) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "fold";
    button.addEventListener("click", () => fold(claim, !claim.classList.contains("folded")));
    claim.querySelector("tr.claim > th").append(" ", button);
    fold(claim, `#${claim.id}` !== location.hash);
  };

  const prepare = (board) => {
    const form = board.querySelector("form.score-filter");
    const claims = [...board.querySelectorAll("tbody[data-paper]")];
    claims.forEach(addButton);

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

  const start = () => {
    document.querySelectorAll(".scoreboard-of-claims").forEach(prepare);
    addEventListener("hashchange", () => {
      const claim = document.getElementById(location.hash.slice(1));
      if (!claim?.querySelector("button.fold")) return;
      fold(claim, false);
      if (!claim.hidden) return;
      const form = claim.closest(".scoreboard-of-claims").querySelector("form.score-filter");
      form.reset(); // what is asked for is shown, whatever was chosen
      form.dispatchEvent(new Event("change"));
      claim.scrollIntoView();
    });
  };
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
})();
