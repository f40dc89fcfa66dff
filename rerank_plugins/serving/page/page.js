// Sends what the form holds to this server's /v1/rerank, and shows the answer. Whatever comes from
// a document is set as text, never as HTML.

const byId = (id) => document.getElementById(id);
const [query, passages, key, form, button] = ["query", "passages", "key", "form", "rank"].map(byId);
const KEY = "rerank-api-key";
const AROUND = 100; // characters of a passage that are shown on either side of its window

key.value = sessionStorage.getItem(KEY) ?? "";
key.addEventListener("change", () => {
  sessionStorage.setItem(KEY, key.value);
  listModels();
});

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function say(text, bad = false) {
  byId("message").textContent = text;
  byId("message").className = bad ? "bad" : "";
}

function headers() {
  const sent = { "content-type": "application/json" };
  if (key.value) sent.authorization = `Bearer ${key.value}`;
  return sent;
}

async function explained(response) {
  let told = "";
  try {
    told = (await response.json()).message ?? "";
  } catch {
    told = response.statusText;
  }
  if (response.status === 401) {
    byId("key-details").open = true;
    return "This server asks for an API key: enter it under “API key”.";
  }
  const wait = response.headers.get("retry-after");
  return `${response.status}: ${told}${wait ? ` Try again in ${wait} s.` : ""}`;
}

async function listModels() {
  let response;
  try {
    response = await fetch("v1/models", { headers: headers() });
  } catch {
    return say("The server cannot be reached.", true);
  }
  if (!response.ok) return say(await explained(response), true);
  const { data } = await response.json();
  const list = byId("models");
  list.querySelectorAll("label").forEach((label) => label.remove());
  for (const [index, model] of data.entries()) {
    const label = element("label");
    const box = element("input");
    box.type = "checkbox";
    box.value = model.id;
    box.checked = index < 2;
    label.append(box, ` ${model.id}`);
    list.append(label);
  }
  say("");
}

function readPassages() {
  return passages.value.split("\n").map((line) => line.trim()).filter((line) => line);
}

async function readFile(file) {
  if (!file) return;
  const lines = (await file.text()).replace(/^\uFEFF/, "").split(/\r?\n/);
  const isJson = /\.(jsonl|ndjson)$/i.test(file.name);
  const found = [];
  for (const [index, line] of lines.entries()) {
    if (!line.trim()) continue;
    if (!isJson) {
      found.push(line);
      continue;
    }
    try {
      const { text } = JSON.parse(line);
      if (typeof text !== "string") throw new Error("no text");
      found.push(text.replace(/\s+/g, " "));
    } catch {
      return say(`${file.name}, line ${index + 1}: expected {"text": "..."}`, true);
    }
  }
  passages.value = found.join("\n");
  say(`${found.length} passages from ${file.name}.`);
}

byId("file").addEventListener("change", (event) => readFile(event.target.files[0]));
passages.addEventListener("dragover", (event) => {
  event.preventDefault();
  passages.classList.add("over");
});
passages.addEventListener("dragleave", () => passages.classList.remove("over"));
passages.addEventListener("drop", (event) => {
  passages.classList.remove("over");
  if (!event.dataTransfer.files.length) return; // dropped text goes where it was dropped
  event.preventDefault();
  readFile(event.dataTransfer.files[0]);
});

function shownPassage(text, row) {
  const shown = element("p", "passage");
  const characters = Array.from(text); // the server counts characters, not UTF-16 units
  const { start, end } = row.window ?? { start: 0, end: characters.length };
  if (start === 0 && end >= characters.length) {
    shown.textContent = text;
    return shown;
  }
  const part = (from, to) => characters.slice(Math.max(0, from), to).join("");
  shown.tabIndex = 0; // it scrolls
  shown.append(start > AROUND ? "… " : "", part(start - AROUND, start));
  shown.append(element("mark", "", part(start, end)));
  shown.append(part(end, end + AROUND), end + AROUND < characters.length ? " …" : "");
  return shown;
}

function shownRow(row, place, texts) {
  const item = element("li");
  const top = element("div", "top");
  const rose = row.index > place;
  const moved = row.index === place ? "as before" : `was ${row.index + 1}${rose ? " ↑" : " ↓"}`;
  top.append(
    element("span", "place", `${place + 1}`),
    element("span", rose ? "before rose" : "before", moved),
    element("span", "score", row.relevance_score.toFixed(4)),
  );
  const bar = element("progress");
  bar.max = 1;
  bar.value = row.relevance_score;
  bar.setAttribute("aria-label", `score ${row.relevance_score.toFixed(4)}`);
  item.append(top, bar, shownPassage(texts[row.index], row));
  const length = Array.from(texts[row.index]).length;
  if (row.window && (row.window.start > 0 || row.window.end < length)) {
    const [from, to] = [row.window.start + 1, row.window.end].map((n) => n.toLocaleString("en"));
    const told = `The score comes from the marked characters, ${from} to ${to} of `;
    item.append(element("p", "note", `${told}${length.toLocaleString("en")}.`));
  }
  if (row.truncated) item.append(element("p", "cut", "Cut: its end was not read."));
  return item;
}

async function rankWith(model, texts) {
  const body = { model, query: query.value, documents: texts, return_windows: true };
  const started = performance.now();
  const response = await fetch("v1/rerank", {
    method: "POST",
    headers: headers(),
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(await explained(response));
  const answer = await response.json();
  const card = element("section", "ranking");
  card.setAttribute("aria-label", `Ranking by ${model}`);
  const ms = (performance.now() - started).toFixed(0);
  card.append(element("h2", "", `${model} · ${texts.length} passages · ${ms} ms`));
  const list = element("ol");
  list.append(...answer.results.map((row, place) => shownRow(row, place, texts)));
  card.append(list);
  return card;
}

function showCode(model, texts) {
  const body = { model, query: query.value, documents: texts };
  const json = JSON.stringify(body, null, 2);
  const url = new URL("v1/rerank", location.href).href;
  const withKey = key.value ? " \\\n  -H \"authorization: Bearer $RERANK_API_KEY\"" : "";
  byId("curl").textContent =
    `curl -s ${url} -H 'content-type: application/json'${withKey} \\\n` +
    `  -d @- <<'JSON'\n${json}\nJSON`;
  const base = new URL(".", location.href).href;
  const given = key.value ? ", api_key=os.environ[\"RERANK_API_KEY\"]" : "";
  byId("python").textContent =
    `${key.value ? "import os\n\n" : ""}from rerank_plugins import rank\n` +
    `from rerank_plugins.remote import RemoteScorer\n\n` +
    `scorer = RemoteScorer(${JSON.stringify(base)}, ${JSON.stringify(model)}${given})\n` +
    `passages = ${JSON.stringify(texts, null, 4)}\n` +
    `for row in rank(scorer, ${JSON.stringify(query.value)}, passages):\n` +
    `    print(row.rank, row.score, passages[row.index])`;
  byId("code").hidden = false;
}

for (const copy of document.querySelectorAll("button[data-copies]")) {
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(byId(copy.dataset.copies).textContent);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(byId(copy.dataset.copies)); // to copy by hand
      copy.textContent = "Selected";
    }
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  });
}

passages.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const texts = readPassages();
  const chosen = [...document.querySelectorAll("#models input:checked")].map((box) => box.value);
  if (!texts.length) return say("Give at least one passage.", true);
  if (!chosen.length) return say("Choose a model.", true);
  button.disabled = true;
  say("Ranking …");
  try {
    const cards = [];
    for (const model of chosen) cards.push(await rankWith(model, texts));
    byId("rankings").replaceChildren(...cards);
    showCode(chosen[0], texts);
    say(`${texts.length} passages ranked.`);
  } catch (error) {
    say(error instanceof TypeError ? "The server cannot be reached." : error.message, true);
  } finally {
    button.disabled = false;
  }
});

listModels();
