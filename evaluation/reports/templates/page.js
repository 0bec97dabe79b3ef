// What all pages share: values under the pointer, copy buttons, tables that sort.
"use strict";
(() => {
  const tip = document.createElement("div");
  tip.className = "tip num";
  tip.hidden = true;
  document.body.append(tip);
  document.addEventListener("pointermove", (event) => {
    const column = event.target instanceof Element ? event.target.closest("svg .column") : null;
    tip.hidden = column === null;
    if (column === null) return;
    const title = column.querySelector("title");  // the browser would show it too, a second later
    if (title) { column.dataset.values = title.textContent; title.remove(); }
    tip.textContent = column.dataset.values;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 4)) + "px";
    tip.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - height - 4)) + "px";
  });

  const copy = async (text) => {
    try { await navigator.clipboard.writeText(text); } catch {  // not allowed here: the old way
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };
  document.addEventListener("click", async (event) => {
    const button = event.target instanceof Element ? event.target.closest("[data-copy]") : null;
    if (!button || button.dataset.words) return;
    await copy(button.dataset.copy);
    button.dataset.words = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = button.dataset.words; delete button.dataset.words; }, 1200);
  });

  for (const head of document.querySelectorAll("th[data-sort]")) {
    const sort = () => {
      const body = head.closest("table").tBodies[0], place = head.cellIndex;
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[place].dataset.value ?? row.cells[place].textContent;
      const order = (a, b) => {
        const x = value(a), y = value(b), numeric = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
        return (numeric ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
      };
      [...body.rows].sort(order).forEach((row) => body.append(row));
    };
    head.tabIndex = 0;
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); } });
  }
})();
