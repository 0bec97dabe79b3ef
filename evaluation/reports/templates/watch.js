// The live page fetches itself anew; the asking pages show a question and send the choice.
(() => {
  const $ = (id) => document.getElementById(id), LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const kind = document.body.dataset.page, wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const ask = async (path, body) => {
    const answer = await fetch(path, body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error((await answer.text()).slice(0, 300));
    return answer;
  };

  const span = (seconds) => {
    const whole = Math.max(0, Math.round(seconds)), minutes = Math.floor(whole / 60), hours = Math.floor(whole / 3600), days = Math.floor(whole / 86400);
    return days ? `${days} d ${hours % 24} h` : hours ? `${hours} h ${minutes % 60} min` : minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
  };

  const live = async () => {
    let mark = "", rest = 0, told = performance.now();
    const smooth = $("smooth");
    setInterval(() => {
      for (const node of $("live").querySelectorAll("[data-way]:not([data-way='0'])"))
        node.textContent = span(Number(node.dataset.seconds) + Number(node.dataset.way) * (performance.now() - told) / 1000);
    }, 1000);
    const look = async () => {
      try {
        const wanted = smooth.value, here = document.body.dataset.here;
        const answer = await ask("/live?" + new URLSearchParams({ page: here, smooth: wanted, mark }));
        rest = 1000 * Number(answer.headers.get("X-Wait"));
        if (answer.status === 200 && wanted === smooth.value) {
          mark = answer.headers.get("X-Mark");
          $("live").innerHTML = await answer.text();  // our own template, escaped; no script in it can run
          told = performance.now();
        }
        $("status").textContent = "";
      } catch (error) {
        $("status").textContent = "not reachable, trying again …";
      }
    };
    smooth.addEventListener("change", () => { mark = ""; look(); });
    for (;;) {
      await look();
      await wait(Math.max(1500, rest));
    }
  };

  const show = (question, choose) => {
    document.querySelector(".ask").hidden = false;
    $("image").src = question.image;
    $("stem").textContent = question.stem;
    $("said").replaceChildren();
    $("status").textContent = question.status ?? "";
    $("choices").replaceChildren(...question.options.map((text, place) => {
      const button = document.createElement("button"), letter = document.createElement("b");
      letter.textContent = LETTERS[place];
      button.append(letter, text);
      button.addEventListener("click", () => choose(place));
      return button;
    }));
  };
  const mark = (right, chosen) => [...$("choices").children].forEach((button, place) => {
    button.disabled = true;
    if (place === right) button.classList.add("right");
    else if (place === chosen) button.classList.add("wrong");
  });
  document.addEventListener("keydown", (event) => {
    const place = LETTERS.indexOf(event.key.toUpperCase()), button = $("choices")?.children[place];
    if (event.key.length === 1 && button && !event.ctrlKey && !event.metaKey) button.click();
  });

  const tryPolicy = () => {
    let number = 0;
    const next = async () => {
      const question = await (await ask("question?number=" + number++)).json();
      show(question, async (chosen) => {
        mark(question.answer, chosen);
        $("status").textContent = "asking " + question.policy + " …";
        try {
          const said = await (await ask("respond", { number: question.number })).json();
          const node = document.createElement("div");
          node.className = said.correct ? "speech correct" : "speech";
          node.textContent = said.text || said.failed;
          $("said").replaceChildren(node);
          $("status").textContent = question.policy + (said.correct ? " is right" : " is wrong") + " · you " + (chosen === question.answer ? "are right" : "are wrong");
        } catch (error) { $("status").textContent = String(error.message); }
      });
    };
    $("next").addEventListener("click", next);
    next();
  };

  const answer = async () => {
    let shown = -1;
    for (;;) {
      try {
        const state = await (await ask("pending")).json();
        $("lead").textContent = state.lead;
        if (state.finished) { document.querySelector(".ask").hidden = true; return; }
        if (state.number !== null && state.number !== shown) {
          shown = state.number;
          show(state, async (chosen) => {
            [...$("choices").children].forEach((button) => { button.disabled = true; });
            await ask("choice", { number: state.number, choice: chosen });
          });
        }
      } catch (error) { $("status").textContent = "not reachable, trying again …"; }
      await wait(150);
    }
  };

  ({ live, try: tryPolicy, answer })[kind]();
})();
