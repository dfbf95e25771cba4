// Runs an operation's form in place: progress and previews as they come, then the pictures.
const key = document.getElementById("key");
key.value = sessionStorage.getItem("darkroom-key") ?? "";
key.addEventListener("change", () => sessionStorage.setItem("darkroom-key", key.value));

const headers = (accept) => ({ Accept: accept, ...(key.value ? { Authorization: `Bearer ${key.value}` } : {}) });

function element(name, text, attributes = {}) {
  const made = Object.assign(document.createElement(name), attributes);
  if (text) made.textContent = text;
  return made;
}

// Server-sent events over fetch, since EventSource cannot post.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    pending += value;
    let at;
    while ((at = pending.indexOf("\n\n")) >= 0) {
      const lines = pending.slice(0, at).split("\n");
      pending = pending.slice(at + 2);
      const field = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      if (field("event")) yield [field("event"), JSON.parse(field("data"))];
    }
  }
}

async function picture(url) {
  const response = await fetch(url, { headers: headers("*/*") });
  return URL.createObjectURL(await response.blob());
}

function problem(output, document_) {
  const box = element("div", "", { className: "problem" });
  box.append(element("strong", document_.title), element("p", document_.detail), element("p", document_.help));
  output.replaceChildren(box);
}

// ── lists of objects: rows made from the list's template ──

function addRow(list) {
  const row = list.querySelector("template").content.cloneNode(true).firstElementChild;
  list.querySelector(":scope > .add").before(row);
  renumber(list);
  return row;
}

const rowsOf = (list) => [...list.querySelectorAll(":scope > .row")];

function renumber(list) {
  const rows = rowsOf(list);
  rows.forEach((row, at) => {
    const name = `${list.dataset.list} ${at + 1}`;
    row.querySelector("legend").textContent = name;
    row.querySelector(".remove").setAttribute("aria-label", `Remove ${name}`);
    row.querySelector(".remove").hidden = rows.length <= Number(list.dataset.least);
  });
  list.querySelector(":scope > .add").hidden = rows.length >= Number(list.dataset.most || Infinity);
}

// What a row's inputs say, as the list's object; a file becomes a part of the form that the object names.
function rowValue(row, path, form) {
  const found = {};
  for (const input of row.querySelectorAll("[data-field]")) {
    const { field, kind } = input.dataset;
    if (kind === "file") {
      if (!input.files.length) continue;
      form.append(`${path}.${field}`, input.files[0]);
      found[field] = `part:${path}.${field}`;
    } else if (input.value !== "") {
      found[field] = valueOf(input.value, kind, `${path}.${field}`);
    }
  }
  return found;
}

function valueOf(text, kind, path) {
  if (kind === "boolean") return text === "true";
  if (kind === "number") return Number.isFinite(Number(text)) ? Number(text) : text; // the gateway says what is wrong
  if (kind !== "json") return text;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw Object.assign(new Error(`${path}: ${error.message}`), { title: "This is not JSON", help: "Correct the field that is named." });
  }
}

for (const list of document.querySelectorAll("[data-list]")) {
  for (let at = 0; at < Number(list.dataset.least); at++) addRow(list);
  list.addEventListener("click", ({ target }) => {
    if (target.matches(".add")) addRow(list).querySelector("[data-field]").focus();
    if (!target.matches(".remove")) return;
    target.closest(".row").remove();
    renumber(list);
    list.querySelector(":scope > .add").focus();
  });
}

function filledIn(form) {
  const fields = new FormData(form);
  for (const [name, value] of [...fields]) {
    // of a text and a file that share a name, the one that was given
    if (value === "" || (value instanceof File && !value.name)) {
      const given = fields.getAll(name).filter((one) => one !== "" && !(one instanceof File && !one.name));
      fields.delete(name);
      for (const one of given) fields.append(name, one);
    }
  }
  for (const list of form.querySelectorAll("[data-list]")) {
    const name = list.dataset.list;
    const rows = rowsOf(list).map((row, at) => rowValue(row, `${name}.${at}`, fields));
    if (rows.length) fields.set(name, JSON.stringify(rows));
  }
  return fields;
}

async function run(form) {
  const output = form.nextElementSibling;
  const bar = form.querySelector("progress");
  const button = form.querySelector("button:not([type])");
  let fields;
  try {
    fields = filledIn(form);
  } catch (error) {
    return problem(output, { title: error.title ?? "The form cannot be read", detail: error.message, help: error.help ?? "" });
  }
  button.disabled = true;
  bar.hidden = false;
  bar.removeAttribute("value");
  output.replaceChildren();
  try {
    const response = await fetch(form.action, { method: "POST", body: fields, headers: headers("text/event-stream") });
    if (response.status === 401) {
      key.focus();
      return problem(output, { ...(await response.json()), help: "Type your key into the field at the top of the page." });
    }
    if (!response.ok) return problem(output, await response.json());
    for await (const [name, data] of events(response)) {
      if (name === "progress" && data.total) Object.assign(bar, { max: data.total, value: data.step });
      if (name === "preview") output.replaceChildren(element("img", "", { src: data.picture, alt: "preview" }));
      if (name === "error") return problem(output, data);
      if (name === "done") {
        output.replaceChildren();
        for (const made of data.pictures) {
          const source = await picture(made.url);
          const link = element("a", "", { href: source, download: `${data.operation}-${made.id}.${made.media_type.split("/")[1]}` });
          link.append(element("img", "", { src: source, alt: `${data.operation} result` }));
          output.append(link);
        }
        if (data.data) output.append(element("pre", JSON.stringify(data.data, null, 2)));
        const sizes = data.pictures.map((made) => `${made.width}×${made.height}`).join(", ");
        output.append(element("p", `${data.model} · ${sizes} · ${Math.round(data.timing.total_ms)} ms`, { className: "note" }));
      }
    }
  } catch (error) {
    problem(output, { title: "The gateway cannot be reached", detail: String(error), help: "Is it still running?" });
  } finally {
    button.disabled = false;
    bar.hidden = true;
  }
}

document.addEventListener("submit", (event) => {
  event.preventDefault();
  run(event.target);
});
