// A drawing pad for models of handwritten digits, with the prediction while drawing.

import { post } from "./api.js";
import { el, newId, replace } from "./dom.js";
import { formatShare } from "./format.js";
import { createOcclusionMap } from "./occlusion.js";
import { renderHeadline } from "./prediction.js";
import { decodeBase64, drawFile, encodeBase64 } from "./previews.js";
import { createSheet } from "./sheet.js";

const PNG = "image/png";
const JSON_TYPE = "application/json";
const SEEN_SIDE = 168;
const LARGEST_SIDE = 64;
// Of the file, for each of the model's. Larger files are recognized as well, and take the service
// several times as long.
const PIXELS_PER_PIXEL = 2;
// Between two requests while drawing, and before the prediction is announced.
const INTERVAL_MS = 120;
const QUIET_MS = 700;

/** Whether a model reads handwritten digits: small gray images, and labels that are digits. */
export function readsDigits({ image, output }) {
  const labels = output?.labels ?? [];
  return (
    image?.channels === 1 &&
    Math.max(image.width, image.height) <= LARGEST_SIDE &&
    labels.length > 1 &&
    labels.every((label) => /^[0-9]$/.test(label))
  );
}

/**
 * Create the pad; `onRequest` gets `{path, contentType, body}` of the prediction of each drawing,
 * `onResponse` the prediction.
 */
export function createPad(model, { onRequest = () => {}, onResponse = () => {} } = {}) {
  const { width, height, background } = model.image;
  const help = el(
    "p",
    { class: "soft pad-help", id: newId("pad-help") },
    "Draw one digit with a finger, a pen or the mouse. ",
    "With the keyboard: the arrow keys move the cursor, ",
    "Space sets the pen down and lifts it, Ctrl+Z undoes.",
  );
  // Without a rule of its own, a model expects the ink that its background leaves.
  const isLightInk = model.image.normalize !== "digit" && background < 128;
  const sheet = createSheet({
    side: PIXELS_PER_PIXEL * Math.max(width, height),
    isLightInk,
    describedBy: help.id,
    onChange: () => requests.schedule(),
  });
  const seen = el("canvas", {
    class: "pad-seen-image",
    role: "img",
    "aria-label": "The drawing as the model receives it",
  });
  const outcome = el("div", { class: "pad-outcome" });
  const announcement = el("p", { class: "offscreen", role: "status" });
  const occlusion = createOcclusionMap(model);
  const why = el("div", { class: "pad-why" });
  const shown = { why, seen, outcome, announcement, occlusion, model };
  const requests = createRequests({ sheet, model, shown, onRequest, onResponse });
  showNothing(shown);
  const panel = el(
    "section",
    { class: "card", "aria-label": "Draw a digit" },
    el("div", { class: "card-head" }, el("h2", {}, "Draw a digit")),
    el(
      "div",
      { class: "pad-layout" },
      el("div", { class: "pad-draw" }, sheet.element, createButtons(sheet)),
      help,
      el(
        "figure",
        { class: "pad-seen" },
        seen,
        el("figcaption", {}, `What the model receives: ${width} × ${height} pixels`),
      ),
      outcome,
      why,
    ),
    announcement,
  );
  // Until the prediction is of the latest drawing.
  shown.setBusy = (isBusy) => panel.setAttribute("aria-busy", String(isBusy));
  return panel;
}

function createButtons(sheet) {
  const button = (text, onclick) => el("button", { type: "button", onclick }, text);
  return el(
    "div",
    { class: "pad-buttons" },
    button("Undo", sheet.undo),
    button("Clear", sheet.clear),
    button("Save", () => save(sheet)),
  );
}

/** Save the file of the drawing. */
async function save(sheet) {
  const file = await sheet.toFile();
  const address = URL.createObjectURL(file);
  el("a", { href: address, download: file.name }).click();
  URL.revokeObjectURL(address);
}

/** Sends the drawing while it changes, at most once in an interval; a new request ends the last. */
function createRequests({ sheet, model, shown, onRequest, onResponse }) {
  let controller = null;
  let timer = null;
  let sentAt = -INTERVAL_MS;

  const send = async () => {
    timer = null;
    sentAt = performance.now();
    controller?.abort();
    controller = new AbortController();
    const { signal } = controller;
    if (sheet.isEmpty()) {
      showNothing(shown);
      shown.setBusy(false);
      return;
    }
    const file = await sheet.toFile();
    if (signal.aborted) return;
    const image = await encodeBase64(file);
    if (signal.aborted) return;
    // With the drawing in it, which is no file of the user's.
    const path = `${model.path}/predict`;
    onRequest({ path, contentType: JSON_TYPE, body: JSON.stringify({ image }) });
    try {
      const prediction = await showDrawing(shown, file, signal);
      if (prediction !== null) onResponse(prediction);
    } catch (error) {
      if (error.name === "AbortError") return;
      shown.seen.width = shown.seen.height = SEEN_SIDE;
      replace(shown.outcome, el("p", { class: "error", role: "alert" }, error.message));
    }
    if (!signal.aborted && timer === null) shown.setBusy(false);
  };
  const schedule = () => {
    shown.setBusy(true);
    timer ??= setTimeout(send, Math.max(0, INTERVAL_MS - (performance.now() - sentAt)));
  };
  return { schedule };
}

/**
 * Show and return the prediction of a drawing, and show the image that the model receives. Null if
 * the drawing has changed meanwhile.
 */
async function showDrawing(shown, file, signal) {
  const { model, outcome, occlusion } = shown;
  const send = async (path) => {
    const headers = { "content-type": PNG, accept: "application/json" };
    return (await post(`${model.path}/${path}`, file, { headers, signal })).json();
  };
  // The coarsest grid, since only the image is needed.
  const [prediction, { explanation }] = await Promise.all([
    send("predict"),
    send("explain?image=true&resolution=2"),
  ]);
  if (signal.aborted) return null;
  renderDigits(outcome, prediction, model);
  replace(shown.why, occlusion.offer(file, PNG));
  shown.latest = prediction;
  announce(shown, prediction);
  await drawFile(shown.seen, decodeBase64(explanation.image, PNG), SEEN_SIDE, { sharp: true });
  return prediction;
}

/** Show the digit and the probabilities of all, in their order, so that no bar changes places. */
function renderDigits(container, prediction, model) {
  const bars = Object.entries(prediction.probabilities).map(([label, share]) => {
    const fill = el("span", { class: "bar-fill" });
    fill.style.width = `${share * 100}%`;
    return el(
      "div",
      { class: label === prediction.label ? "bar bar-predicted" : "bar", role: "listitem" },
      el("span", { class: "bar-label" }, label),
      el("span", { class: "bar-track", "aria-hidden": "true" }, fill),
      el("span", { class: "bar-value" }, formatShare(share)),
    );
  });
  const list = el(
    "div",
    { class: "bars", role: "list", "aria-label": "Class probabilities" },
    bars,
  );
  replace(
    container,
    el("div", { class: "pad-prediction" }, renderHeadline(prediction, model), list),
  );
}

/** Announce a prediction once the drawing has not changed for a while. */
function announce(shown, prediction) {
  setTimeout(() => {
    if (shown.latest !== prediction) return;
    const { label, probability } = prediction;
    shown.announcement.textContent = `${label}, ${formatShare(probability)}`;
  }, QUIET_MS);
}

function showNothing(shown) {
  const { seen, outcome, why, announcement, occlusion } = shown;
  shown.latest = null;
  occlusion.close();
  announcement.textContent = "";
  replace(why);
  seen.width = seen.height = SEEN_SIDE;
  replace(outcome, el("p", { class: "soft" }, "The prediction appears here while you draw."));
}
