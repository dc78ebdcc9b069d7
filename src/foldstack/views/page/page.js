"use strict";
(() => {
  const all = (css, root = document) => [...root.querySelectorAll(css)];

  // Tables sort by the number or text in data-v; empty cells come last.
  const value = (cell) => cell.dataset.v ?? cell.textContent.trim();
  const compare = (a, b) => {
    if (a === "" || b === "") return a === b ? 0 : a === "" ? 1 : -1;
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  for (const button of all("th button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const body = head.closest("table").tBodies[0];
      const up = head.getAttribute("aria-sort") === "descending";
      for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a.cells[head.cellIndex]), value(b.cells[head.cellIndex])];
        return x === "" || y === "" || up ? compare(x, y) : -compare(x, y);
      });
      body.append(...rows);
    });
  }

  // An input filters the rows of a table or the cards of a list; selects narrow it further.
  for (const form of all("form[data-filters]")) {
    const list = document.getElementById(form.dataset.filters);
    const items = list.tBodies ? [...list.tBodies[0].rows] : [...list.children];
    const texts = items.map((item) => item.textContent.toLocaleLowerCase());
    const count = form.querySelector("output");
    const apply = () => {
      const words = form.elements.q.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
      const wanted = all("select", form).filter((s) => s.value !== "");
      let shown = 0;
      items.forEach((item, k) => {
        const kept = words.every((word) => texts[k].includes(word)) &&
          wanted.every((s) => item.dataset[s.name].split("\n").includes(s.value));
        item.hidden = !kept;
        shown += kept;
      });
      count.textContent = `${shown.toLocaleString("en")} of ${items.length.toLocaleString("en")}`;
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    apply();
  }

  // Marks answer to the pointer.
  const tip = document.getElementById("tip");
  const show = (event) => {
    const mark = event.target.closest("[data-tip]");
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.dataset.tip;
    const box = mark.getBoundingClientRect();
    const left = Math.min(Math.max(box.x + box.width / 2 - tip.offsetWidth / 2, 8),
      document.documentElement.clientWidth - tip.offsetWidth - 8);
    const above = box.y - tip.offsetHeight - 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 8 ? above : box.bottom + 8}px`;
  };
  document.addEventListener("pointerover", show);
  document.addEventListener("focusin", show);
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  addEventListener("beforeprint", () => all("details").forEach((each) => { each.open = true; }));
})();
