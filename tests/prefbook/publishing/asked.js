// What the tests ask of a page, by name.
window.asked = {
  // What is on it.
  facts: () => {
    const article = document.querySelector("article") || document.body;
    const words = (node) => (node.getAttribute("aria-label") || node.querySelector(":scope > title")?.textContent || "").trim();
    const prose = article.cloneNode(true);
    prose.querySelectorAll("pre, code, script, style, mjx-container").forEach((node) => node.remove());
    return {
      title: document.title,
      theme: document.documentElement.dataset.theme,
      formulas: document.querySelectorAll(".math").length,
      unset: [...document.querySelectorAll(".math")].filter((node) => !node.querySelector("mjx-container")).map((node) => node.textContent),
      merrors: [...document.querySelectorAll('mjx-merror, [data-mjx-error], mjx-mtext[style*="color: red"]')].map((node) => node.textContent),
      raw: prose.textContent.match(/.{0,30}(\\[(\[]|\$\$|\{(?:cite|numref|eq|doc|prf)[:}]).{0,30}/g) || [],
      images: [...document.querySelectorAll("img")].map((node) => node.getAttribute("alt") || ""),
      drawings: [...article.querySelectorAll("figure svg, .cell_output svg")].filter((node) => !node.parentElement.closest("svg"))
        .map((node) => words(node) || words(node.closest("figure, [role=img]") || node)),
      ids: [...document.querySelectorAll("[id]")].map((node) => node.id),
      links: [...document.querySelectorAll("a[href]")].filter((node) => /^https?:/.test(node.href)).map((node) => node.href),
      folded: [...article.querySelectorAll(".solution.dropdown")].map((node) => node.classList.contains("toggle-hidden")),
      width: document.documentElement.scrollWidth,
      room: document.documentElement.clientWidth,
      articleWidth: document.querySelector(".bd-article-container")?.scrollWidth || 0,
      articleRoom: document.querySelector(".bd-article-container")?.clientWidth || 0,
      squeezed: [...article.querySelectorAll("caption")].filter((node) => node.clientWidth < 200).map((node) => node.textContent),
      bytes: [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")]
        .reduce((sum, entry) => sum + entry.encodedBodySize, 0),
    };
  },

  // Buttons fade from the light theme's colours to the dark theme's while the page loads; a colour on the way is nobody's colour.
  settled: async () => {
    await Promise.allSettled(document.getAnimations().filter((one) => one instanceof CSSTransition).map((one) => one.finished));
  },

  // What has the focus: its tag, its words, and whether one sees it.
  focused: () => {
    const node = document.activeElement, style = getComputedStyle(node);
    return [node.tagName, node.textContent.trim().slice(0, 30), style.outlineStyle !== "none" || style.boxShadow !== "none"];
  },

  // What axe-core finds of serious or critical impact; `rules` null is all of them.
  barriers: async (rules) => {
    const options = rules ? { runOnly: { type: "rule", values: rules } } : {};
    const found = await axe.run(document, { ...options, resultTypes: ["violations"], preload: false });
    return found.violations.filter((one) => ["serious", "critical"].includes(one.impact))
      .flatMap((one) => one.nodes.map((node) => `${one.id}: ${node.target.join(" ")} ${node.html.slice(0, 120)}`));
  },

  // Formulas in a line that are wider than their paragraph, with everything unfolded, but for those in what scrolls.
  clipped: () => {
    document.querySelectorAll("details").forEach((node) => { node.open = true; });
    document.querySelectorAll(".toggle-hidden").forEach((node) => node.classList.remove("toggle-hidden"));
    return [...document.querySelectorAll("article .math mjx-container:not([display]) mjx-math")].filter((node) => {
      const line = node.closest("p, li, td, dd, figcaption");
      for (let box = node; box && box !== line; box = box.parentElement)
        if (["auto", "scroll"].includes(getComputedStyle(box).overflowX)) return false;
      return line && node.getBoundingClientRect().right > line.getBoundingClientRect().right + 1;
    }).map((node) => node.closest("mjx-container").textContent);
  },

  // Words of drawings that are smaller on the screen than small print, 11 px.
  small: () => [...document.querySelectorAll("article figure svg text")].filter((node) => {
    const { a, b } = node.getScreenCTM(), scale = Math.hypot(a, b); // also of words that stand upright
    return node.checkVisibility() && parseFloat(getComputedStyle(node).fontSize) * scale < 11;
  }).map((node) => node.textContent),

  // Texts that stand out too little from what is behind them.
  contrast: () => {
    const parse = (colour) => { const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number); return [r, g, b, a]; };
    const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
    const background = (node) => {
      if (!node) return [255, 255, 255];
      const own = parse(getComputedStyle(node).backgroundColor);
      return own[3] === 1 ? own.slice(0, 3) : over(own, background(node.parentElement));
    };
    const light = (colour) => {
      const [r, g, b] = colour.map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const poor = [];
    const texts = document.createTreeWalker(document.querySelector("article") || document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const node = texts.currentNode.parentElement;
      const words = texts.currentNode.textContent.trim();
      if (!words || node.closest("svg, script, style, .headerlink, mjx-assistive-mml, button")) continue;
      if (!node.checkVisibility({ opacityProperty: true })) continue;
      const back = background(node);
      const [a, b] = [light(over(parse(getComputedStyle(node).color), back)), light(back)].sort((x, y) => y - x);
      const ratio = (a + 0.05) / (b + 0.05);
      if (ratio < (node.closest("pre") ? 3 : 4.5)) poor.push(`${ratio.toFixed(2)}: ${node.tagName}.${node.className} ${words.slice(0, 40)}`);
    }
    return poor;
  },
};
