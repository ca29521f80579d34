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

function alerts(model) {
  const said = make("div", { className: "koala-alerts", role: "alert" });
  follow(model, ["messages"], () => said.replaceChildren(...model.get("messages").map((text) => make("p", {}, text))));
  return said;
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
  el.append(make("div", { className: "koala-uploads" }, zone, alerts(model), make("div", { className: "koala-progress" }, bar, status)));
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
  return frame;
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// A wipe with a mode in which the whole picture is in colour and a click gives a place its colour. Places are in the photograph's
// pixels. In JupyterLab, its own shortcuts have to be kept from the keys.
function hinted(model, el) {
  const frame = wipe(model, el);
  let hints = []; // as the page shows them: while one is moved, Python does not know yet
  let sent = 0; // how often Python was given them; what it says before its last answer is out of date
  let number = 0, spot = [0, 0]; // the hint and the place that the panel is about; without a panel, where the cursor is
  const dots = [];
  const button = (text, onclick, className = "koala-quiet") => make("button", { type: "button", className, onclick }, text);
  const cursor = button("", () => ask(hints.length, spot), "koala-cursor");
  const layer = make("div", { className: "koala-layer", role: "application", "aria-label": "colour hints on the picture" }, cursor);
  const swatches = make("div", { className: "koala-swatches", role: "group", "aria-label": "likely colours" },
    ...[0, 1, 2, 3, 4].map((i) => button("", () => choose(model.get("offers").colors[i][0]), "koala-swatch")));
  const likely = make("p", { className: "koala-small" }, "Likely here, says the network");
  const picker = make("input", { type: "color", "aria-label": "another colour", onchange: () => choose(picker.value) });
  const remove = button("Remove this hint", () => drop(number));
  const panel = make("div", { className: "koala-panel", role: "dialog", "aria-label": "colour of this place", tabIndex: -1, hidden: true },
    button("×", () => close(), "koala-close"), likely, swatches, make("div", {}, make("label", { className: "koala-quiet" }, "Another", picker),
    button("No colour here", () => choose("#808080")), remove));
  panel.firstChild.setAttribute("aria-label", "close");
  const toggle = button("Colour hints", (event) => {
    const on = frame.classList.toggle("koala-on");
    toggle.setAttribute("aria-pressed", on);
    tools.classList.toggle("koala-on", on);
    panel.hidden = true;
    if (on && !event.detail) cursor.focus(); // it was pressed by a key
  });
  toggle.setAttribute("aria-pressed", false);
  const undo = button("Undo", () => model.send({ kind: "undo" }));
  const clear = button("Remove all", () => give([]));
  const status = make("span", { className: "koala-small", role: "status" });
  const help = make("p", { className: "koala-small" }, "Click or tap a place of the picture and choose its colour. Drag a dot to move it. ",
    make("span", { className: "koala-mouse" }, "By keyboard: arrow keys move, Enter chooses a colour, Delete removes."));
  const tools = make("div", { className: "koala-tools" }, make("div", {}, toggle, undo, clear, status), help);

  // A message of its own, because changes of a model's value may come after a click on another photograph.
  const give = (changed) => {
    hints = changed.map((hint) => [...hint]);
    draw();
    model.send({ kind: "hints", hints, number: ++sent });
  };
  const inside = (place) => place.map((value, axis) => Math.min(Math.max(Math.floor(value), 0), model.get("size")[axis] - 1));
  const placeOf = (event) => {
    const { left, top, width, height } = layer.getBoundingClientRect();
    const [across, down] = model.get("size");
    return inside([(event.clientX - left) / width * across, (event.clientY - top) / height * down]);
  };
  const stepped = (event, place) => {
    event.preventDefault();
    const step = Math.ceil(Math.max(...model.get("size")) / (event.shiftKey ? 20 : 100));
    return inside(ARROWS[event.key].map((sign, axis) => place[axis] + sign * step));
  };
  const put = (element, place, text) => {
    const [x, y] = place.map((value, axis) => (value + 0.5) / model.get("size")[axis]);
    element.style.setProperty("--x", x);
    element.style.setProperty("--y", y);
    element.setAttribute("aria-label", `${text}, ${Math.round(100 * x)} % from the left, ${Math.round(100 * y)} % from the top`);
  };
  const draw = () => {
    while (dots.length < hints.length) layer.append(dots[dots.push(dotOf(dots.length)) - 1]);
    while (dots.length > hints.length) dots.pop().remove();
    hints.forEach(([x, y, color], i) => {
      put(dots[i], [x, y], `hint ${i + 1}, ${color}`);
      dots[i].style.background = color;
    });
    put(cursor, spot, "new hint");
    status.textContent = `${hints.length} ${hints.length === 1 ? "hint" : "hints"}`;
    undo.disabled = !model.get("undoable");
    clear.disabled = !hints.length;
  };
  const close = () => {
    panel.hidden = true;
    (dots[number] || cursor).focus({ preventScroll: true });
  };
  const choose = (color) => {
    hints[number] = [...spot, color];
    give(hints);
    close();
  };
  const drop = (i) => {
    give(hints.filter((_, other) => other !== i));
    number = Math.min(i, hints.length - 1);
    close();
  };
  const offered = () => {
    const { x, y, colors } = model.get("offers");
    const here = x === spot[0] && y === spot[1] ? colors : [];
    [...swatches.children].forEach((swatch, i) => { // they stay the same elements, so that the focus stays
      swatch.hidden = !here[i];
      if (!here[i]) return;
      const [color, share] = here[i];
      swatch.textContent = share < 0.01 ? "< 1 %" : `${Math.round(100 * share)} %`;
      swatch.style.setProperty("--color", color);
      swatch.setAttribute("aria-label", `${color}, ${swatch.textContent}`);
    });
    likely.hidden = swatches.hidden = x === spot[0] && y === spot[1] && !colors.length;
    if (here.length && panel.matches(":focus")) swatches.firstChild.focus();
  };
  const ask = (i, [x, y]) => {
    [number, spot] = [i, [x, y]];
    draw();
    put(panel, spot, "colour of this place");
    panel.classList.toggle("koala-above", 2 * y > model.get("size")[1]);
    panel.hidden = false;
    remove.hidden = !hints[i];
    picker.value = hints[i]?.[2] || "#a06040";
    panel.focus({ preventScroll: true });
    offered();
    model.send({ kind: "offer", x, y });
    panel.scrollIntoView({ block: "nearest", behavior: "smooth" });
  };
  const dotOf = (i) => {
    let start = null, dragged = false;
    const dot = button("", () => {
      if (!dragged) ask(i, hints[i]);
      dragged = false;
    }, "koala-dot");
    const move = (place) => {
      hints[i] = [...place, hints[i][2]];
      draw();
    };
    dot.onpointerdown = (event) => {
      [start, dragged] = [event, false];
      dot.setPointerCapture(event.pointerId);
    };
    dot.onpointermove = (event) => {
      if (!start) return;
      dragged ||= Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) > 5; // less is a click of an unsteady hand
      if (dragged) move(placeOf(event));
    };
    dot.onpointerup = dot.onpointercancel = () => {
      start = null;
      if (dragged) give(hints);
    };
    dot.onkeydown = (event) => {
      dragged = false;
      if (event.key in ARROWS) move(stepped(event, hints[i]));
      if (event.key === "Delete" || event.key === "Backspace") drop(i);
    };
    dot.onkeyup = (event) => {
      if (event.key in ARROWS) give(hints);
    };
    return dot;
  };
  cursor.onkeydown = (event) => {
    if (event.key in ARROWS) spot = stepped(event, spot);
    draw();
  };
  layer.onclick = (event) => {
    if (event.target === layer) ask(hints.length, placeOf(event));
  };
  panel.onkeydown = (event) => {
    if (event.key === "Escape") close();
  };
  follow(model, ["alt", "size"], () => {
    panel.hidden = true;
    spot = inside(model.get("size").map((side) => side / 2));
  });
  follow(model, ["hints", "undoable", "size", "answered"], () => {
    if (model.get("answered") >= sent) hints = model.get("hints").map((hint) => [...hint]);
    draw();
  });
  follow(model, ["offers"], offered);
  model.on("change:messages", () => {
    if (model.get("messages").length) panel.hidden = true;
  });
  frame.dataset.lmSuppressShortcuts = tools.dataset.lmSuppressShortcuts = "true";
  frame.append(layer, panel);
  el.append(tools, alerts(model));
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

const PARTS = { slider, tiles, uploads, wipe, hinted, download, question };

export default {
  render({ model, el }) {
    PARTS[model.get("part")](model, el);
    model.send({ kind: "shown" });
  },
};
