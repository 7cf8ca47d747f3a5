// The panel for images: dropped, pasted, chosen or photographed files, and drawn digits.

import { post } from "./api.js";
import { el, replace } from "./dom.js";
import { acceptDrops, createDropZone } from "./drop.js";
import { formatBytes, formatCount, formatShare } from "./format.js";
import { createOcclusionMap } from "./occlusion.js";
import { createPad, readsDigits } from "./pad.js";
import { drawFile } from "./previews.js";
import { renderPrediction } from "./prediction.js";

const PREVIEW_SIDE = 640;
const THUMBNAIL_SIDE = 96;
// Requests at the same time, of one page.
const PARALLEL = 2;
// The formats of the service; browsers know no type for some of them.
const ACCEPTED = "image/*,.pnm,.ppm,.pgm,.pbm,.tif,.tiff,.jp2,.j2k,.avif,.ico,.bmp,.webp";
const FORMATS = "PNG, JPEG, WebP, GIF, BMP, TIFF, PNM, ICO, AVIF or JPEG 2000";
const BINARY = "application/octet-stream";
const FORM = "multipart/form-data";

/**
 * Create the panel. `onRequest` gets `{path, contentType, file}` of an image and `onResponse` its
 * prediction; of several, `onRequest` gets `{path, contentType, files}`. `signal` aborts when the
 * panel is removed.
 */
export function createImagePanel(
  model,
  { onRequest = () => {}, onResponse = () => {}, signal } = {},
) {
  const files = createFileViews(model, { onRequest, onResponse });
  const camera = createCameraButton(files.add);
  const zone = createDropZone({
    title: "Drop images here, or paste one",
    button: "Choose images",
    note: `${FORMATS} in any size; ${describeInput(model)}`,
    accept: ACCEPTED,
    multiple: true,
    extra: camera,
    onFiles: files.add,
  });
  const panel = el(
    "div",
    { class: "stack" },
    readsDigits(model) && createPad(model, { onRequest, onResponse }),
    el(
      "section",
      { class: "card image-panel", "aria-label": "Predict images" },
      el("div", { class: "card-head" }, el("h2", {}, "Predict images")),
      zone,
      files.element,
    ),
  );
  acceptDrops(panel, files.add, signal);
  acceptPastes(panel, files.add, signal);
  return panel;
}

function describeInput({ image }) {
  if (!image?.width || !image?.height) return "the service fits them to the model.";
  return `the service fits them to ${image.width} × ${image.height} pixels.`;
}

/** A button that takes a photograph; views.css hides it where there is no touch screen. */
function createCameraButton(onFiles) {
  const input = el("input", {
    type: "file",
    accept: "image/*",
    capture: "environment",
    class: "offscreen",
    tabindex: "-1",
    "aria-hidden": "true",
  });
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = "";
    if (files.length > 0) onFiles(files);
  });
  const button = { type: "button", onclick: () => input.click() };
  return el("span", { class: "camera" }, el("button", button, "Take a photo"), input);
}

/** Call `onFiles` with pasted files while the panel is visible, until the signal aborts. */
function acceptPastes(panel, onFiles, signal) {
  const paste = (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0 || panel.offsetParent === null) return;
    event.preventDefault();
    onFiles(files);
  };
  document.addEventListener("paste", paste, { signal });
}

/** The files with their predictions: the selected one in detail, and a list of several. */
function createFileViews(model, { onRequest, onResponse }) {
  const status = el("p", { class: "offscreen", role: "status" });
  const detail = el("div", { class: "image-detail" });
  const list = el("ul", { class: "image-list", "aria-label": "Images" });
  const count = el("span", { class: "image-count" });
  const element = el("div", { class: "image-results", hidden: true });
  const bar = el("div", { class: "image-bar", hidden: true }, count);
  const occlusion = createOcclusionMap(model);
  const path = `${model.path}/predict`;
  const queue = createQueue(PARALLEL);
  let items = [];
  let selected = null;

  const showRequest = () => {
    // One invalid file would fail the form.
    const sent = items.filter(({ state }) => state !== "failed");
    if (sent.length > 1) {
      onRequest({ path, contentType: FORM, files: sent.map(({ file }) => file) });
      return;
    }
    const { contentType, file, prediction } = sent[0] ?? selected;
    onRequest({ path, contentType, file });
    if (prediction !== null) onResponse(prediction);
  };
  const select = (item) => {
    selected = item;
    for (const each of items) each.button.setAttribute("aria-pressed", String(each === item));
    renderDetail(detail, item, model, occlusion);
  };
  const finish = (item) => {
    renderTile(item);
    const done = items.filter(({ state }) => state !== "waiting").length;
    count.textContent = `${done} of ${formatCount(items.length, "image")} predicted`;
    if (item === selected) {
      renderDetail(detail, item, model, occlusion);
      status.textContent = `${item.file.name}: ${summarize(item)}`;
    }
  };
  const add = (added) => {
    const created = [...added].map((file) => createItem(file, select));
    items = [...items, ...created];
    element.hidden = false;
    bar.hidden = items.length < 2;
    list.hidden = items.length < 2;
    list.append(...created.map(({ tile }) => tile));
    count.textContent = formatCount(items.length, "image");
    select(created[0]);
    showRequest();
    for (const item of created) {
      queue(async () => {
        // Removed while it was waiting.
        if (!items.includes(item)) return;
        await Promise.all([predictItem(item, path), item.drawThumbnail()]);
        if (!items.includes(item)) return;
        finish(item);
        showRequest();
      });
    }
  };
  const removeAll = () => {
    items = [];
    selected = null;
    list.replaceChildren();
    detail.replaceChildren();
    element.hidden = true;
  };
  bar.append(el("button", { type: "button", class: "link", onclick: removeAll }, "Remove all"));
  element.append(status, bar, list, detail);
  return { element, add };
}

function createItem(file, select) {
  const item = { file, contentType: findType(file), state: "waiting", prediction: null, error: "" };
  const thumbnail = el("canvas", { class: "thumbnail", "aria-hidden": "true" });
  item.text = el("span", { class: "image-tile-text" }, "Waiting…");
  const name = el("span", { class: "image-tile-name" }, file.name);
  item.button = el(
    "button",
    { type: "button", class: "image-tile", "aria-pressed": "false", onclick: () => select(item) },
    thumbnail,
    name,
    item.text,
  );
  item.tile = el("li", {}, item.button);
  item.drawThumbnail = async () => {
    const isDrawn = await drawFile(thumbnail, file, THUMBNAIL_SIDE);
    if (!isDrawn)
      thumbnail.replaceWith(
        el("span", { class: "thumbnail placeholder", "aria-hidden": "true" }, extension(file)),
      );
  };
  return item;
}

function findType({ type }) {
  // Other types would be rejected before the service reads what the file is.
  return type.startsWith("image/") ? type : BINARY;
}

async function predictItem(item, path) {
  const { file, contentType } = item;
  try {
    const headers = { "content-type": contentType, accept: "application/json" };
    item.prediction = await (await post(path, file, { headers })).json();
    item.state = "done";
  } catch (error) {
    item.error = error.message;
    item.state = "failed";
  }
}

function summarize({ state, prediction, error }) {
  if (state === "failed") return error;
  if (prediction.label === undefined) {
    return prediction.value === undefined
      ? "predicted"
      : `${prediction.value} ${prediction.unit ?? ""}`.trim();
  }
  return prediction.probability === undefined
    ? prediction.label
    : `${prediction.label}, ${formatShare(prediction.probability)}`;
}

function renderTile(item) {
  item.button.classList.toggle("image-tile-failed", item.state === "failed");
  replace(item.text, item.state === "failed" ? "Not predicted" : summarize(item));
}

function renderDetail(detail, item, model, occlusion) {
  if (detail.dataset.file !== item.file.name || detail.item !== item) {
    detail.dataset.file = item.file.name;
    detail.item = item;
    const canvas = el("canvas", {
      class: "preview",
      role: "img",
      "aria-label": `Preview of ${item.file.name}`,
    });
    const figure = el(
      "figure",
      { class: "image-figure" },
      canvas,
      el(
        "figcaption",
        {},
        el("span", { class: "file-name" }, item.file.name),
        ` · ${formatBytes(item.file.size)}`,
      ),
    );
    replace(
      detail,
      figure,
      el("div", { class: "image-outcome" }),
      el("div", { class: "image-why" }),
    );
    void drawFile(canvas, item.file, PREVIEW_SIDE).then((isDrawn) => {
      if (!isDrawn) canvas.replaceWith(createPlaceholder(item.file));
    });
    occlusion.close();
  }
  // For a style: the error replaces the placeholder of a preview.
  detail.classList.toggle("image-failed", item.state === "failed");
  const outcome = detail.querySelector(".image-outcome");
  if (item.state === "waiting") replace(outcome, el("p", { class: "soft" }, "Predicting…"));
  else if (item.state === "failed")
    replace(outcome, el("p", { class: "error", role: "alert" }, item.error));
  else {
    const container = el("div");
    renderPrediction(container, item.prediction, model);
    replace(outcome, container);
    replace(detail.querySelector(".image-why"), occlusion.offer(item.file, item.contentType));
  }
}

function createPlaceholder(file) {
  return el(
    "div",
    { class: "preview placeholder", role: "img", "aria-label": `No preview of ${file.name}` },
    el("span", { class: "placeholder-format" }, extension(file)),
    el("span", {}, "This browser cannot display the file."),
  );
}

function extension({ name }) {
  return (/\.([a-z0-9]{1,5})$/i.exec(name)?.[1] ?? "file").toUpperCase();
}

/** Return a function that runs asynchronous functions, at most `most` at the same time. */
function createQueue(most) {
  const waiting = [];
  let running = 0;
  const next = async () => {
    if (running >= most || waiting.length === 0) return;
    running += 1;
    try {
      await waiting.shift()();
    } finally {
      running -= 1;
      void next();
    }
  };
  return (work) => {
    waiting.push(work);
    void next();
  };
}
