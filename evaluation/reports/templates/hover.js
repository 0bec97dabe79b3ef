// Values of a chart beside the pointer, instead of the browser's own slow tooltips.
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
    const title = column.querySelector("title");
    if (title) { column.dataset.values = title.textContent; title.remove(); }
    tip.textContent = column.dataset.values;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 4)) + "px";
    tip.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - height - 4)) + "px";
  });
})();
