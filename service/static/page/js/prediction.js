// One prediction: the label with all probabilities, or the value with its interval.

import { el, replace } from "./dom.js";
import { formatNumber, formatQuantity, formatShare } from "./format.js";
import { formatTick, linearTicks } from "./scale.js";

const SHOWN_CLASSES = 6;
// So that "show all" stays open while the prediction changes.
const showsAll = new WeakSet();

/** Show one prediction of the native API in a container. */
export function renderPrediction(container, prediction, model) {
  container.classList.add("prediction");
  replace(
    container,
    renderHeadline(prediction, model),
    renderDetails(container, prediction, model),
  );
}

/** The predicted label or value, in large letters. */
export function renderHeadline(prediction, model) {
  const output = model.output ?? {};
  if ("label" in prediction) {
    return el(
      "div",
      { class: "headline" },
      el("p", { class: "eyebrow" }, output.name ?? "Prediction"),
      el("p", { class: "headline-value" }, prediction.label),
      el(
        "p",
        { class: "headline-note" },
        "probability" in prediction && `Probability ${formatShare(prediction.probability)}`,
        prediction.unsure && el("span", { class: "badge badge-warning" }, "Unsure"),
      ),
    );
  }
  if (typeof prediction.value === "number") {
    const unit = prediction.unit ?? output.unit;
    return el(
      "div",
      { class: "headline" },
      el("p", { class: "eyebrow" }, output.name ?? "Prediction"),
      el(
        "p",
        { class: "headline-value" },
        formatNumber(prediction.value, 5),
        unit && el("span", { class: "headline-unit" }, ` ${unit}`),
      ),
      prediction.interval &&
        el("p", { class: "headline-note" }, intervalSentence(prediction, unit)),
    );
  }
  return el("div", { class: "headline" }, el("p", { class: "eyebrow" }, "Prediction"));
}

/** Probabilities, interval, warnings; for a model without a description, its outputs. */
export function renderDetails(container, prediction, model) {
  const parts = [];
  if (prediction.unsure) parts.push(unsureNote(model));
  if (prediction.warnings?.length) parts.push(renderWarnings(prediction.warnings));
  if (prediction.interval) parts.push(renderInterval(container, prediction, model));
  if (prediction.probabilities) parts.push(renderProbabilities(container, prediction, model));
  if (!("label" in prediction) && typeof prediction.value !== "number") {
    parts.push(renderOutputs(prediction));
  }
  return el("div", { class: "prediction-details" }, parts);
}

function intervalSentence(prediction, unit) {
  const { level, low, high } = prediction.interval;
  return `${formatNumber(low)} to ${formatQuantity(high, unit)} in ${formatShare(level)} of cases`;
}

function unsureNote(model) {
  const below = model.output?.unsure_below;
  const limit = below === undefined ? "" : ` below ${formatShare(below)}`;
  return el(
    "p",
    { class: "note" },
    `The model is wrong far more often${limit}; do not rely on this prediction alone.`,
  );
}

// The axis of each container only grows, so that one sees the interval move.
const axes = new WeakMap();

/** The value and its interval on an axis, on which a band marks the usual predictions. */
function renderInterval(container, prediction, model) {
  const { value, interval } = prediction;
  const edges = model.output?.interval?.edges ?? [];
  const [low, high] =
    edges.length > 1 ? [edges[0], edges[edges.length - 1]] : [interval.low, interval.high];
  const space = (high - low) * 0.2;
  const before = axes.get(container) ?? { low: low - space, high: high + space };
  const margin = (interval.high - interval.low) * 0.1;
  const axis = {
    low: Math.min(before.low, interval.low - margin),
    high: Math.max(before.high, interval.high + margin),
  };
  axes.set(container, axis);
  const share = (number) => `${((number - axis.low) / (axis.high - axis.low || 1)) * 100}%`;
  const span = (name, from, to) => {
    const node = el("span", { class: name });
    node.style.left = share(from);
    node.style.right = `calc(100% - ${share(to)})`;
    return node;
  };
  const point = (name, at, text) => {
    const node = el("span", { class: name }, text);
    node.style.left = share(at);
    return node;
  };
  const unit = prediction.unit ?? model.output?.unit;
  return el(
    "div",
    {
      class: "interval",
      role: "img",
      "aria-label": `${formatQuantity(value, unit)}, interval ${intervalSentence(prediction, unit)}`,
    },
    el(
      "div",
      { class: "interval-track" },
      edges.length > 1 && span("interval-usual", low, high),
      span("interval-bar", interval.low, interval.high),
      point("interval-value", value),
    ),
    el(
      "div",
      { class: "interval-ticks" },
      linearTicks(axis.low, axis.high, 4).map((tick) => point("", tick, formatTick(tick))),
    ),
    edges.length > 1 &&
      el(
        "p",
        { class: "caption" },
        "Darker part of the axis: where 90\u202f% of all predictions are.",
      ),
  );
}

/** The sentences of the service about unusual values. */
export function renderWarnings(warnings) {
  return el(
    "ul",
    { class: "notes", "aria-label": "Warnings" },
    warnings.map((warning) => el("li", {}, warning)),
  );
}

function renderProbabilities(container, prediction, model) {
  const threshold = findThreshold(model);
  const sorted = Object.entries(prediction.probabilities).sort((a, b) => b[1] - a[1]);
  // Few classes keep their order, so that bars do not change places while one moves a slider.
  const entries =
    sorted.length <= SHOWN_CLASSES ? Object.entries(prediction.probabilities) : sorted;
  const list = el("div", { class: "bars", role: "list", "aria-label": "Class probabilities" });
  const show = () => {
    const shown = showsAll.has(container) ? entries : entries.slice(0, SHOWN_CLASSES);
    replace(
      list,
      shown.map(([label, share]) =>
        renderBar(label, share, {
          isPredicted: label === prediction.label,
          threshold: label === threshold?.label ? threshold.share : null,
        }),
      ),
    );
  };
  show();
  if (threshold !== null) {
    const range = `${threshold.label} from ${formatShare(threshold.share)} on`;
    return el("div", {}, list, el("p", { class: "caption" }, `${range} (the model\u2019s threshold).`));
  }
  if (entries.length <= SHOWN_CLASSES) return list;
  const text = () =>
    showsAll.has(container) ? "Show fewer" : `Show all ${entries.length} classes`;
  const button = el(
    "button",
    {
      type: "button",
      class: "link",
      onclick: () => {
        if (showsAll.has(container)) showsAll.delete(container);
        else showsAll.add(container);
        button.textContent = text();
        show();
      },
    },
    text(),
  );
  return el("div", {}, list, button);
}

/** Of two classes, the one that is predicted from another share on than a half, and that share. */
function findThreshold({ output }) {
  const { labels = [] } = output ?? {};
  const share = output?.threshold ?? 0.5;
  return labels.length === 2 && share !== 0.5 ? { label: labels[1], share } : null;
}

function renderBar(label, share, { isPredicted, threshold }) {
  const bar = el("span", { class: "bar-fill" });
  bar.style.width = `${Math.max(share * 100, 0.4)}%`;
  const mark = threshold !== null && el("span", { class: "bar-threshold" });
  if (mark) mark.style.left = `${threshold * 100}%`;
  return el(
    "div",
    { class: isPredicted ? "bar bar-predicted" : "bar", role: "listitem" },
    el("span", { class: "bar-label" }, label),
    el("span", { class: "bar-track", "aria-hidden": "true" }, bar, mark),
    el("span", { class: "bar-value" }, formatShare(share)),
  );
}

function renderOutputs(prediction) {
  const { model_version: _, ...outputs } = prediction;
  return el("pre", { class: "code" }, el("code", {}, JSON.stringify(outputs, null, 2)));
}
