// The gallery: filters, order, pages, addresses, keys, large images, export. Texts only ever become text nodes.
(() => {
  const make = (tag, css, text) => {
    const node = document.createElement(tag);
    if (css) node.className = css;
    if (text !== undefined && text !== null) node.textContent = text;
    return node;
  };

  const store = document.getElementById("gallery-data");
  if (!store) return;
  const PAGE = 20, LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const { items, images } = JSON.parse(store.textContent);
  const box = document.querySelector(".questions"), count = document.querySelector(".count");
  const filters = document.querySelectorAll(".gallery [data-filter]");
  const find = document.getElementById("find"), order = document.getElementById("order");
  const large = document.getElementById("large"), says = document.getElementById("says");
  let page = 0, chosen = items, current = null;

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
    const node = make("article", "card question " + item.outcome), head = make("header"), asked = make("div", "asked"), words = make("div");
    if (item.image !== null) {
      const image = make("img"), button = make("button", "enlarge");
      image.src = images[item.image];
      image.alt = "";
      button.setAttribute("aria-label", "Enlarge the picture of " + item.id);
      button.append(image);
      button.addEventListener("click", () => { current = item; enlarge(); });
      asked.append(button);
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
    const id = make("button", "id", item.id), link = make("a", "", "address");
    id.dataset.copy = item.id;
    id.title = "Copy the id";
    link.href = "#" + address(item);
    link.setAttribute("aria-label", "Address of " + item.id);
    head.append(id, link);
    node.append(head, asked, ...item.said.map(speech));
    node.tabIndex = -1;
    node.dataset.id = item.id;
    return node;
  };

  const pages = () => Math.max(1, Math.ceil(chosen.length / PAGE));
  const draw = () => {
    page = Math.min(Math.max(page, 0), pages() - 1);
    const from = page * PAGE, shown = chosen.slice(from, from + PAGE);
    box.replaceChildren(...shown.map(card));
    for (const node of box.children) if (node.dataset.id === current?.id) node.setAttribute("aria-current", "true");
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
  const controls = [...filters, order, find], nameOf = (control) => control.dataset.filter ?? control.id;
  const filter = () => {
    const wanted = [...filters].map((one) => [one.dataset.filter, one.value]).filter(([, value]) => value);
    const text = find.value.trim().toLowerCase();
    chosen = items.filter((item) => wanted.every(([name, value]) =>
      name === "third" ? third(item.similarity) === value : name === "picture" ? item.image !== null : item[name] === value) && (!text || wordsOf(item).includes(text)));
    if (ORDERS[order.value]) chosen = [...chosen].sort(ORDERS[order.value]);
  };

  // The address: filters, order and words that are not as at first, then the page, or the question.
  const address = (item) => {
    const state = new URLSearchParams();
    for (const control of controls) if (control.value !== (control === order ? "drawn" : "")) state.set(nameOf(control), control.value);
    if (item) state.set("q", item.id);
    else if (page) state.set("page", page + 1);
    return state.toString();
  };
  const keep = () => history.replaceState(null, "", "#" + (address(current) || "questions"));
  const visit = (item, focus = true) => {
    current = item;
    page = Math.floor(chosen.indexOf(item) / PAGE);
    draw();
    keep();
    const node = [...box.children].find((one) => one.dataset.id === item.id);
    node.scrollIntoView({ block: "nearest" });
    if (focus) node.focus({ preventScroll: true });
  };
  const open = () => {
    if (!location.hash.includes("=")) return;
    const state = new URLSearchParams(location.hash.slice(1));
    for (const control of controls) {
      control.value = state.get(nameOf(control)) ?? (control === order ? "drawn" : "");
      if (control.selectedIndex === -1) control.selectedIndex = 0;
    }
    filter();
    const item = items.find((one) => one.id === state.get("q")) ?? null;
    if (item && !chosen.includes(item)) {
      for (const control of [...filters, find]) control.value = "";
      filter();
    }
    if (item) return visit(item);
    current = null;
    page = Number(state.get("page") ?? 1) - 1 || 0;
    draw();
    document.getElementById("questions").scrollIntoView();
  };
  const choose = () => {
    filter();
    page = 0;
    current = null;
    draw();
    keep();
  };
  const step = (by) => {
    const at = current === null ? page * PAGE - (by > 0 ? 1 : 0) : chosen.indexOf(current);
    const item = chosen[at + by];
    if (item) visit(item, !large.open);
    if (item && large.open) enlarge();
  };

  // The large image.
  let zoom = 1;
  const picture = large.querySelector("img"), frame = large.querySelector(".frame");
  const fit = () => { picture.style.width = 100 * zoom + "%"; };
  const scale = (by) => { zoom = Math.min(8, Math.max(1, zoom * by)); fit(); };
  const enlarge = () => {
    zoom = 1;
    fit();
    picture.hidden = current.image === null;
    if (!picture.hidden) picture.src = images[current.image];
    picture.alt = "The image of the question, enlarged";
    document.getElementById("large-stem").textContent = current.stem;
    document.getElementById("large-options").replaceChildren(optionList(current.options, current.answer));
    if (!large.open) large.showModal();
  };
  frame.addEventListener("wheel", (event) => { event.preventDefault(); scale(event.deltaY < 0 ? 1.25 : 0.8); }, { passive: false });
  for (const button of large.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => scale(Number(button.dataset.zoom)));
  for (const button of large.querySelectorAll("[data-go]")) button.addEventListener("click", () => step(Number(button.dataset.go)));
  large.querySelector("[data-close]").addEventListener("click", () => large.close());
  large.addEventListener("close", () => { if (current && chosen.includes(current)) visit(current); });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, [role=region], .frame")) return;
    const by = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
    else if (large.open && (event.key === "+" || event.key === "-")) scale(event.key === "+" ? 1.25 : 0.8);
    else if (event.key === "Enter" && current && event.target.matches("article")) enlarge();
  });

  // Export of what the filters leave, one line per response in CSV, one per question in JSONL.
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? "'" + text : text;  // no formula for a spreadsheet
    return /[",\n\r]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
  };
  const HEAD = ["id", "structure", "type", "modality", "similarity", "stem", "options", "right", "side", "correct", "reward", "problem", "think", "answer"];
  const csv = () => [HEAD, ...chosen.flatMap((item) => item.said.map((said) => [item.id, item.structure, item.type, item.modality, item.similarity,
    item.stem, item.options.join(" | "), item.options[item.answer], said.side, said.correct, said.reward, said.problem, said.think, said.answer]))]
    .map((row) => row.map(cell).join(",") + "\n").join("");
  const jsonl = () => chosen.map(({ image, ...item }) => JSON.stringify(item) + "\n").join("");
  for (const button of document.querySelectorAll("[data-export]"))
    button.addEventListener("click", () => {
      const kind = button.dataset.export, link = make("a");
      link.href = URL.createObjectURL(new Blob([kind === "csv" ? csv() : jsonl()], { type: kind === "csv" ? "text/csv" : "application/x-ndjson" }));
      link.download = "questions." + kind;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
      says.textContent = `${chosen.length.toLocaleString("en")} questions exported`;
    });

  for (const control of [...filters, order]) control.addEventListener("change", choose);
  find.addEventListener("input", choose);
  for (const button of document.querySelectorAll("[data-step]"))
    button.addEventListener("click", () => {
      page += Number(button.dataset.step);
      current = null;
      draw();
      keep();
      document.querySelector(".gallery").scrollIntoView();
    });
  addEventListener("hashchange", open);
  filter();
  draw();
  open();
})();
