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

async function run(form) {
  const output = form.nextElementSibling;
  const bar = form.querySelector("progress");
  const button = form.querySelector("button");
  const fields = new FormData(form);
  for (const [name, value] of [...fields]) {
    if (value === "" || (value instanceof File && !value.name)) fields.delete(name);
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
