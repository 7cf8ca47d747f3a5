// The occlusion map of an image: which parts of it the prediction depends on.

import { post } from "./api.js";
import { el, newId, replace } from "./dom.js";
import { formatNumber, formatShare } from "./format.js";
import { decodeBase64, drawFile } from "./previews.js";

const SIDE = 448;
const DEFAULT_OPACITY = 70;
const GRIDS = [
  { cells: 5, title: "coarse" },
  { cells: 10, title: "medium" },
  { cells: 20, title: "fine" },
];
// Of the service's own overlays: covering a red part lowers the number, a blue one raises it.
const RED = [255, 60, 30];
const BLUE = [40, 110, 255];
const FULL = 255;
// Of the greatest change: rounding, which no color shows.
const NEGLIGIBLE = 0.001;

/**
 * Create the map of a model. `offer(file, contentType)` returns its element for an image; `close`
 * forgets the image.
 */
export function createOcclusionMap(model) {
  const element = el("div", { class: "occlusion" });
  const labels = model.output?.labels ?? [];
  const options = { label: "", cells: 10, opacity: DEFAULT_OPACITY };
  let image = null;
  let controller = null;

  const close = () => {
    controller?.abort();
    image = null;
  };
  const show = async () => {
    controller?.abort();
    controller = new AbortController();
    const { signal } = controller;
    const current = image;
    const query = new URLSearchParams({
      image: "true",
      resolution: limitCells(model, options.cells),
    });
    if (options.label !== "") query.set("label", options.label);
    setBusy(element, true);
    try {
      const headers = { "content-type": current.contentType, accept: "application/json" };
      const path = `${model.path}/explain?${query}`;
      const response = await post(path, current.file, { headers, signal });
      const explained = await response.json();
      if (image === current) await renderMap(element, explained, { model, labels, options, show });
    } catch (error) {
      if (error.name !== "AbortError") {
        replace(
          element,
          el("p", { class: "error", role: "alert" }, error.message),
          createButton("Try again"),
        );
      }
    } finally {
      if (!signal.aborted) setBusy(element, false);
    }
  };
  const createButton = (text) => el("button", { type: "button", onclick: show }, text);
  const offer = (file, contentType) => {
    // A graph without a manifest has no explanations of images.
    if (model.output === undefined) return null;
    close();
    image = { file, contentType };
    options.label = "";
    replace(element, createButton("Which parts matter?"));
    return element;
  };
  return { offer, close };
}

function limitCells({ image }, cells) {
  return String(Math.min(cells, image?.width ?? cells, image?.height ?? cells));
}

function setBusy(element, isBusy) {
  element.setAttribute("aria-busy", String(isBusy));
}

async function renderMap(element, explained, { labels, options, show }) {
  const { drops, of, score, image } = explained.explanation;
  const focused = element.contains(document.activeElement)
    ? (document.activeElement.dataset.control ?? "map")
    : null;
  const base = el("canvas", { class: "occlusion-base", "aria-hidden": "true" });
  const overlay = el("canvas", { class: "occlusion-overlay", "aria-hidden": "true" });
  const blob = decodeBase64(image, "image/png");
  await drawFile(base, blob, SIDE, { sharp: true });
  drawDrops(overlay, drops, base);
  const summary = summarize(drops, of);
  const figure = el(
    "div",
    { class: "occlusion-image", role: "img", "aria-label": `Occlusion map. ${summary}` },
    base,
    overlay,
  );
  replace(
    element,
    el("h3", { tabindex: "-1", dataset: { control: "map" } }, "Which parts matter"),
    el(
      "div",
      { class: "occlusion-layout" },
      figure,
      el(
        "div",
        { class: "occlusion-side" },
        el("p", {}, `The ${of} is ${formatScore(score, of)}. ${summary}`),
        createLegend(drops, of),
        createControls({ labels, options, overlay, show }),
        el(
          "details",
          {},
          el("summary", {}, "How this is computed"),
          el("p", {}, explained.meaning),
        ),
      ),
    ),
  );
  if (focused !== null) element.querySelector(`[data-control="${focused}"]`)?.focus();
}

function createControls({ labels, options, overlay, show }) {
  const opacity = el("input", {
    type: "range",
    class: "slider",
    min: "0",
    max: "100",
    step: "5",
    id: newId("opacity"),
    value: String(options.opacity),
    dataset: { control: "opacity" },
  });
  const showOpacity = () => {
    overlay.style.opacity = String(options.opacity / 100);
    // style.css fills the slider up to this share.
    opacity.style.setProperty("--share", `${options.opacity}%`);
  };
  opacity.addEventListener("input", () => {
    options.opacity = Number(opacity.value);
    showOpacity();
  });
  showOpacity();
  const grid = el(
    "select",
    { id: newId("grid"), value: String(options.cells), dataset: { control: "grid" } },
    GRIDS.map(({ cells, title }) =>
      el("option", { value: cells }, `${title} (${cells} × ${cells})`),
    ),
  );
  grid.addEventListener("change", () => {
    options.cells = Number(grid.value);
    void show();
  });
  const controls = [field("Opacity of the colors", opacity), field("Grid", grid)];
  if (labels.length > 1) {
    const label = el(
      "select",
      { id: newId("label"), value: options.label, dataset: { control: "label" } },
      el("option", { value: "" }, "the predicted class"),
      labels.map((name) => el("option", { value: name }, name)),
    );
    label.addEventListener("change", () => {
      options.label = label.value;
      void show();
    });
    controls.push(field("Explained class", label));
  }
  return el("div", { class: "occlusion-controls" }, controls);
}

function field(title, control) {
  return el("div", { class: "field" }, el("label", { for: control.id }, title), control);
}

/** Draw the drops in colors, as opaque as they are large, and smoothed to the image's size. */
function drawDrops(canvas, drops, { width, height }) {
  const [rows, columns] = [drops.length, drops[0].length];
  const greatest = greatestDrop(drops);
  const cells = new ImageData(columns, rows);
  drops.flat().forEach((drop, cell) => {
    const color = drop > 0 ? RED : BLUE;
    const opacity = greatest > 0 ? (Math.abs(drop) / greatest) * FULL : 0;
    cells.data.set([...color, Math.round(opacity)], cell * 4);
  });
  const small = el("canvas", { width: columns, height: rows });
  small.getContext("2d").putImageData(cells, 0, 0);
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, width, height);
}

function greatestDrop(drops) {
  return Math.max(...drops.flat().map(Math.abs));
}

function createLegend(drops, of) {
  const greatest = formatChange(greatestDrop(drops), of);
  return el(
    "div",
    { class: "drops-legend" },
    el("p", { class: "drops-legend-title" }, `If a part is covered, the ${of}`),
    el("div", { class: "drops-legend-bar", "aria-hidden": "true" }),
    el(
      "div",
      { class: "drops-legend-ends" },
      el("span", {}, `blue: rises, by up to ${greatest}`),
      el("span", {}, `red: falls, by up to ${greatest}`),
    ),
  );
}

/** A sentence about the part of the image that matters most. */
function summarize(drops, of) {
  const cells = drops.flat();
  const largest = Math.max(...cells);
  if (largest <= NEGLIGIBLE * greatestDrop(drops))
    return "Covering any part of the image does not lower it.";
  const cell = cells.indexOf(largest);
  const across = position(cell % drops[0].length, drops[0].length, ["left", "", "right"]);
  const down = position(Math.floor(cell / drops[0].length), drops.length, ["top", "", "bottom"]);
  const part = `${down} ${across}`.trim() || "center";
  return `Covering the ${part} lowers it most, by ${formatChange(largest, of)}.`;
}

function position(cell, cells, names) {
  return names[Math.min(2, Math.floor(((cell + 0.5) / cells) * 3))];
}

function isShare(of) {
  return of.startsWith("probability");
}

function formatScore(score, of) {
  return isShare(of) ? formatShare(score) : formatNumber(score);
}

function formatChange(change, of) {
  return isShare(of) ? `${formatNumber(change * 100, 3)} percentage points` : formatNumber(change);
}
