// The controls of koala_utils.demo, one function each: elements of the browser's own, so that keyboard, screen reader and touch
// work on them as everywhere. What a control means is decided in Python; here it is only drawn.

const PART = 1 << 20; // bytes of an upload in one message; Jupyter closes the connection over messages of more than 10 MiB

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on") || name === "className" || name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Calls `update` now, and whenever one of the model's values changes.
function follow(model, names, update) {
  for (const name of names) model.on(`change:${name}`, update);
  update();
}

function set(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

const addressOf = (bytes, type = "image/jpeg") => URL.createObjectURL(new Blob([bytes], { type }));

// Shows a picture when it is decoded, so that the one before does not flash away; of several the latest wins.
async function show(image, bytes) {
  const turn = (image.turn = (image.turn || 0) + 1);
  if (!bytes?.byteLength) return image.removeAttribute("src");
  const next = new Image();
  next.src = addressOf(bytes);
  await next.decode().catch(() => {});
  if (turn !== image.turn) return URL.revokeObjectURL(next.src);
  URL.revokeObjectURL(image.src);
  image.src = next.src;
  image.dataset.shown = turn;
}

// ---------------------------------------------------------------- the parts

function slider(model, el) {
  const id = `koala-${Math.random().toString(36).slice(2)}`;
  const readout = make("output", { "aria-hidden": "true" });
  const input = make("input", { type: "range", id, title: model.get("hint") });
  const written = () => {
    const value = Number(input.value);
    return model.get("unit") === "%" ? `${Math.round(value * 100)} %` : `${value} ${model.get("unit")}`.trim();
  };
  const speak = () => {
    readout.textContent = written();
    input.setAttribute("aria-valuetext", written());
  };
  input.oninput = () => {
    speak();
    model.set("moving", true);
    set(model, "value", Number(input.value));
  };
  input.onchange = () => set(model, "moving", false);
  follow(model, ["min", "max", "step", "value"], () => {
    for (const name of ["min", "max", "step", "value"]) if (Number(input[name]) !== model.get(name)) input[name] = model.get(name);
    speak();
  });
  const ends = [model.get("low"), model.get("high")].map((text) => make("span", { "aria-hidden": "true" }, text));
  el.append(make("div", { className: "koala-slider" },
    make("div", { className: "koala-row" }, make("label", { htmlFor: id }, model.get("label")), readout), input,
    make("div", { className: "koala-row koala-small" }, ...ends)));
}

function tiles(model, el) {
  const group = make("div", { className: "koala-tiles", role: "group", "aria-label": model.get("label") });
  let pictures = [];
  const mark = () => {
    [...group.children].forEach((tile, i) => tile.setAttribute("aria-pressed", i === model.get("selected")));
    const tile = group.children[model.get("selected")];
    if (tile) group.scrollTo({ left: tile.offsetLeft - group.offsetLeft - (group.clientWidth - tile.clientWidth) / 2, behavior: "smooth" });
  };
  follow(model, ["tiles"], () => {
    const focused = [...group.children].indexOf(document.activeElement);
    pictures.forEach(URL.revokeObjectURL);
    pictures = model.get("tiles").map((tile) => addressOf(tile.picture));
    group.replaceChildren(...model.get("tiles").map((tile, i) =>
      make("button", { type: "button", title: tile.hint || tile.label, onclick: () => set(model, "selected", i) },
        make("img", { src: pictures[i], alt: "", decoding: "sync" }), make("span", {}, tile.label))));
    mark();
    group.children[focused]?.focus();
  });
  follow(model, ["selected"], mark);
  new ResizeObserver(mark).observe(group); // where the tiles become a strip, the chosen one is kept in sight
  el.append(group);
}

function uploads(model, el) {
  const input = make("input", { type: "file", multiple: true, accept: model.get("accept"), "aria-label": model.get("label") });
  const zone = make("label", { className: "koala-drop" }, make("strong", { "aria-hidden": "true" }, model.get("label")),
    make("span", { className: "koala-mouse" }, "or drop them here"), make("span", { className: "koala-small" }, model.get("hint")), input);
  const status = make("div", { className: "koala-status", role: "status" });
  const bar = make("progress", { max: 1, "aria-label": "progress" });
  const alerts = make("div", { className: "koala-alerts", role: "alert" });

  const send = async (files) => {
    files = [...files];
    for (const [number, file] of files.entries()) {
      const head = { kind: "file", name: file.name, size: file.size, number, count: files.length };
      try {
        if (file.size > model.get("max_bytes")) { // nothing of it is sent
          model.send({ ...head, start: 0, last: true });
          continue;
        }
        for (let start = 0; start === 0 || start < file.size; start += PART) {
          const bytes = await file.slice(start, start + PART).arrayBuffer();
          model.send({ ...head, start, last: start + PART >= file.size }, undefined, [bytes]);
        }
      } catch { // a folder, or a file that is gone
        model.send({ ...head, size: -1, start: 0, last: true });
      }
    }
    input.value = ""; // so that the same file may be chosen again
  };
  input.onchange = () => send(input.files);
  zone.ondragover = (event) => {
    event.preventDefault();
    zone.classList.add("koala-over");
  };
  zone.ondragleave = () => zone.classList.remove("koala-over");
  zone.ondrop = (event) => {
    event.preventDefault();
    zone.classList.remove("koala-over");
    send(event.dataTransfer.files);
  };
  follow(model, ["busy", "progress"], () => {
    bar.hidden = !model.get("busy");
    bar.value = model.get("progress");
    if (status.textContent !== model.get("busy")) status.textContent = model.get("busy");
  });
  follow(model, ["messages"], () => alerts.replaceChildren(...model.get("messages").map((text) => make("p", {}, text))));
  el.append(make("div", { className: "koala-uploads" }, zone, alerts, make("div", { className: "koala-progress" }, bar, status)));
}

function wipe(model, el) {
  const before = make("img", { className: "koala-before" });
  const after = make("img", { className: "koala-after" });
  const handle = make("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": model.get("label") });
  const frame = make("div", { className: "koala-wipe" }, before, after, handle, make("div", { className: "koala-line" }),
    make("span", { className: "koala-tag", "aria-hidden": "true" }, "before"), make("span", { className: "koala-tag", "aria-hidden": "true" }, "after"));
  const place = () => {
    frame.style.setProperty("--at", `${handle.value}%`);
    handle.setAttribute("aria-valuetext", `${handle.value} % before, ${100 - handle.value} % after`);
  };
  handle.oninput = place;
  place();
  before.onload = () => frame.style.setProperty("--ratio", before.naturalWidth / before.naturalHeight);
  follow(model, ["before"], () => show(before, model.get("before")));
  follow(model, ["after"], () => show(after, model.get("after")));
  follow(model, ["alt"], () => {
    before.alt = `before: ${model.get("alt")}`;
    after.alt = `after: ${model.get("alt")}`;
  });
  el.append(frame);
}

function download(model, el) {
  const button = make("button", { type: "button", className: "koala-button", onclick: () => model.send({ kind: "make" }) });
  follow(model, ["label", "busy"], () => {
    button.disabled = model.get("busy");
    button.textContent = model.get("busy") ? "Preparing …" : model.get("label");
  });
  model.on("msg:custom", (message, buffers) => {
    const address = addressOf(buffers[0], message.type);
    make("a", { href: address, download: message.name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  });
  el.append(button);
}

// A photograph of the study, hidden after `seconds` (0: never); the answer's time is measured here, from when it could be seen.
function question(model, el) {
  const image = make("img", {});
  const hidden = make("p", { className: "koala-hidden" }, "What did you see?");
  const answer = (real) => () => {
    if (!began) return;
    model.send({ kind: "answer", number: model.get("number"), real, seconds: (performance.now() - began) / 1000 });
    began = 0;
  };
  const buttons = [["Real colours", true], ["Recoloured", false]].map(([text, real]) =>
    make("button", { type: "button", className: "koala-button", onclick: answer(real) }, text));
  const count = make("p", { className: "koala-small", role: "status" });
  let began = 0, timer;
  follow(model, ["picture"], async () => {
    clearTimeout(timer);
    began = 0;
    if (!model.get("picture").byteLength) return;
    image.alt = count.textContent = `photograph ${model.get("number")} of ${model.get("count")}`;
    await show(image, model.get("picture"));
    frame.classList.remove("koala-over");
    began = performance.now();
    if (model.get("seconds")) timer = setTimeout(() => frame.classList.add("koala-over"), 1000 * model.get("seconds"));
  });
  const frame = make("div", { className: "koala-question" }, make("div", { className: "koala-seen" }, image, hidden), count,
    make("div", { className: "koala-answers" }, ...buttons));
  el.append(frame);
}

const PARTS = { slider, tiles, uploads, wipe, download, question };

export default {
  render({ model, el }) {
    PARTS[model.get("part")](model, el);
    model.send({ kind: "shown" });
  },
};
