// Sorting of tables, and the gallery: filters, order, pages. Texts only ever become text nodes.
"use strict";
(() => {
  const make = (tag, css, text) => {
    const node = document.createElement(tag);
    if (css) node.className = css;
    if (text !== undefined && text !== null) node.textContent = text;
    return node;
  };

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

  const store = document.getElementById("gallery-data");
  if (!store) return;
  const PAGE = 20, LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const { items, images } = JSON.parse(store.textContent);
  const box = document.querySelector(".questions"), count = document.querySelector(".count");
  const filters = document.querySelectorAll(".gallery [data-filter]");
  const find = document.getElementById("find"), order = document.getElementById("order");
  let page = 0, chosen = items;

  const optionList = (options, answer) => {
    const list = make("ul", "options");
    options.forEach((text, place) => {
      const line = make("li", place === answer ? "right" : "");
      line.append(make("b", "", LETTERS[place]), text + (place === answer ? " ✓" : ""));
      list.append(line);
    });
    return list;
  };

  const speech = (said) => {
    const node = make("div", said.correct ? "speech correct" : "speech"), head = make("header");
    const left = make("span");
    if (said.side) left.append(make("b", "", said.side), " · ");
    left.append(make("span", "mark", said.correct ? "✓ right" : "✗ " + (said.problem ?? "wrong")));
    if (said.order) left.append(" · options " + said.order.map((text, place) => LETTERS[place] + " " + text).join(", "));
    const right = make("span", "num", "reward " + said.reward.toFixed(2));
    right.title = Object.entries(said.parts).map(([name, value]) => name + " " + value.toFixed(2)).join(", ");
    head.append(left, right);
    node.append(head);
    if (said.think !== null) {
      node.append(make("div", "think", said.think));
      const answer = make("div", "answer");
      answer.append(make("small", "", "Answer"), said.answer);
      node.append(answer);
    } else if (said.answer) node.append(make("div", "answer raw", said.answer));
    return node;
  };

  const card = (item) => {
    const node = make("article", "card question " + item.outcome), asked = make("div", "asked"), words = make("div");
    if (item.image !== null) {
      const image = make("img");
      image.src = images[item.image];
      image.alt = "The image of the question";
      asked.append(image);
    } else if (images.length) asked.append(make("div", "unkept", "no image kept"));
    else asked.classList.add("plain");
    words.append(make("p", "stem", item.stem), optionList(item.options, item.answer));
    const tags = make("div", "tags");
    for (const tag of [item.structure, item.type]) if (tag) tags.append(make("span", "tag", tag));
    if (item.similarity !== null) tags.append(make("span", "tag num", "S(q) " + item.similarity.toFixed(2)));
    if (item.blind !== null) tags.append(make("span", "tag", "text only: " + (item.blind ? "right" : "wrong")));
    for (const [side, [right, total]] of Object.entries(item.tally))
      if (total > 1) tags.append(make("span", "tag num", `${Object.keys(item.tally).length > 1 ? side + " " : ""}${right} of ${total} right`));
    words.append(tags);
    asked.append(words);
    node.append(asked, ...item.said.map(speech));
    return node;
  };

  const pages = () => Math.max(1, Math.ceil(chosen.length / PAGE));
  const draw = () => {
    page = Math.min(Math.max(page, 0), pages() - 1);
    const from = page * PAGE, shown = chosen.slice(from, from + PAGE);
    box.replaceChildren(...shown.map(card));
    count.textContent = shown.length
      ? `${(from + 1).toLocaleString("en")}–${(from + shown.length).toLocaleString("en")} of ${chosen.length.toLocaleString("en")}` : "none";
    for (const button of document.querySelectorAll("[data-step]"))
      button.disabled = page + Number(button.dataset.step) < 0 || page + Number(button.dataset.step) >= pages();
  };

  const thirds = (() => {
    const known = items.map((item) => item.similarity).filter((value) => value !== null).sort((a, b) => a - b);
    return [known[Math.floor(known.length / 3)], known[Math.floor((2 * known.length) / 3)]];
  })();
  const third = (value) => value === null ? "" : value <= thirds[0] ? "low" : value <= thirds[1] ? "middle" : "high";
  const wordsOf = (item) => [item.id, item.stem, ...item.options, ...item.said.map((said) => (said.think ?? "") + " " + said.answer)].join(" ").toLowerCase();
  const ORDERS = {
    drawn: null,
    easy: (a, b) => (a.similarity ?? 2) - (b.similarity ?? 2),
    hard: (a, b) => (b.similarity ?? -1) - (a.similarity ?? -1),
    reward: (a, b) => a.said[0].reward - b.said[0].reward,
  };
  const choose = () => {
    const wanted = [...filters].map((filter) => [filter.dataset.filter, filter.value]).filter(([, value]) => value);
    const text = find.value.trim().toLowerCase();
    chosen = items.filter((item) => wanted.every(([name, value]) =>
      name === "third" ? third(item.similarity) === value : name === "picture" ? item.image !== null : item[name] === value) && (!text || wordsOf(item).includes(text)));
    if (ORDERS[order.value]) chosen = [...chosen].sort(ORDERS[order.value]);
    page = 0;
    draw();
  };
  for (const control of [...filters, order]) control.addEventListener("change", choose);
  find.addEventListener("input", choose);
  for (const button of document.querySelectorAll("[data-step]"))
    button.addEventListener("click", () => {
      page += Number(button.dataset.step);
      draw();
      document.querySelector(".gallery").scrollIntoView();
    });
  choose();
})();
