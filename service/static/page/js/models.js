// All models as cards, with search and filters.

import { ApiError, getJson, NO_RESPONSE } from "./api.js";
import { el, newId, replace } from "./dom.js";
import { formatCount, formatNumber } from "./format.js";
import { summarizeQuality } from "./quality.js";
import { poll } from "./watch.js";

const POLL_SECONDS = 5;
const MANY_MODELS = 7;
const SHOWN_LABELS = 4;
const SHOWN_FEATURES = 3;
const TASKS = {
  regression: "A number",
  binary: "One of two classes",
  multiclass: "One of several classes",
};
const INPUTS = { features: "Tables", image: "Images", other: "ONNX graphs" };
// The search and the filters stay while one visits a model.
const filters = { text: "", input: "", task: "", state: "" };

/**
 * Show all models in a container, and follow their changes until the signal aborts.
 * A service with a single model shows that one at once.
 */
export function showModels(container, signal) {
  document.title = "Onward";
  // The address without a fragment, which a person types.
  let isFirst = location.hash === "";
  let shown = "";
  const view = createView();
  replace(container, view.element);
  const refresh = async () => {
    try {
      const { models } = await getJson("models", { signal });
      if (signal.aborted) return;
      if (isFirst && models.length === 1 && models[0].ready) {
        location.replace(`#/models/${encodeURIComponent(models[0].name)}`);
        return;
      }
      isFirst = false;
      const text = JSON.stringify(models);
      if (text !== shown) view.show(models);
      shown = text;
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      if (!shown || error.code !== NO_RESPONSE) view.showError(error.message);
    }
  };
  poll(refresh, POLL_SECONDS, signal);
}

function createView() {
  const lead = el("p", { class: "lead" }, "Loading…");
  const count = el("p", { class: "soft count", role: "status" });
  const grid = el("ul", { class: "cards" });
  let cards = [];
  const apply = () => {
    const shown = cards.filter(({ matches, element }) => {
      element.hidden = !matches(filters);
      return !element.hidden;
    });
    const isFiltered = Object.values(filters).some(Boolean);
    count.textContent = isFiltered
      ? `${formatNumber(shown.length)} of ${formatCount(cards.length, "model")}`
      : "";
  };
  const toolbar = createToolbar(apply);
  return {
    element: el(
      "div",
      { class: "stack" },
      el("header", { class: "list-head" }, el("h1", {}, "Models"), lead),
      toolbar.element,
      count,
      grid,
    ),
    show: (models) => {
      const titles = models.map(titleOf);
      const isShared = (title) => titles.indexOf(title) !== titles.lastIndexOf(title);
      cards = models.map((model, i) => createCard(model, { hasName: isShared(titles[i]) }));
      replace(
        grid,
        cards.map(({ element }) => element),
      );
      lead.textContent = summarize(models);
      toolbar.show(models);
      apply();
    },
    showError: (sentence) => {
      lead.textContent = sentence;
    },
  };
}

function summarize(models) {
  if (models.length === 0)
    return "This service has no models yet. A model appears here as soon as it is published.";
  const ready = models.filter((model) => model.ready).length;
  const count =
    ready === models.length
      ? formatCount(ready, "model")
      : `${formatNumber(ready)} of ${formatCount(models.length, "model")}`;
  return `${count} ready for predictions. Open one to try it and to copy the request for your program.`;
}

function createToolbar(apply) {
  const search = el("input", {
    type: "search",
    placeholder: "Search models",
    "aria-label": "Search models",
    value: filters.text,
    oninput: () => {
      filters.text = search.value;
      apply();
    },
  });
  const menus = el("div", { class: "menus" });
  const element = el("div", { class: "toolbar", hidden: true }, search, menus);
  return {
    element,
    show: (models) => {
      element.hidden = models.length < MANY_MODELS;
      if (element.hidden) {
        for (const key of Object.keys(filters)) filters[key] = "";
      }
      const inputs = new Set(models.map(inputOf));
      const tasks = new Set(models.map(({ task }) => task).filter(Boolean));
      const states = new Set(models.map(stateOf));
      replace(
        menus,
        createFilter("Input", "input", choose(INPUTS, inputs), apply),
        createFilter("Predicts", "task", choose(TASKS, tasks), apply),
        createFilter(
          "State",
          "state",
          choose({ ready: "Ready", failed: "Not ready" }, states),
          apply,
        ),
      );
    },
  };
}

function choose(titles, present) {
  return Object.entries(titles).filter(([key]) => present.has(key));
}

/** A menu of the values that the models have; none if they all have the same. */
function createFilter(title, key, choices, apply) {
  if (!choices.some(([value]) => value === filters[key])) filters[key] = "";
  if (choices.length < 2) return null;
  const id = newId("filter");
  const menu = el(
    "select",
    {
      id,
      value: filters[key],
      onchange: () => {
        filters[key] = menu.value;
        apply();
      },
    },
    el("option", { value: "" }, "All"),
    choices.map(([value, text]) => el("option", { value }, text)),
  );
  return el("label", { class: "inline", for: id }, `${title} `, menu);
}

const inputOf = (model) => (model.input in INPUTS ? model.input : "other");
const stateOf = (model) => (model.ready ? "ready" : "failed");

const titleOf = (model) => model.title ?? model.name;

/** With `hasName`, the name is next to the title, which other models have, too. */
function createCard(model, { hasName }) {
  const words = [
    model.name,
    model.title,
    model.description,
    model.output?.name,
    ...(model.feature_names ?? []),
    ...(model.output?.labels ?? []),
  ];
  const text = words.filter(Boolean).join(" ").toLowerCase();
  const title = hasName
    ? [titleOf(model), " ", el("span", { class: "title-name mono" }, model.name)]
    : titleOf(model);
  const element = el(
    "li",
    { class: model.ready ? "model-card" : "model-card is-failed", dataset: { model: model.name } },
    el("p", { class: "eyebrow" }, describeFlow(model)),
    el("h2", {}, el("a", { href: `#/models/${encodeURIComponent(model.name)}` }, title)),
    model.description && el("p", { class: "card-text" }, model.description.trim()),
    !model.ready && el("p", { class: "card-reason" }, model.reason ?? "It is still loading."),
    el(
      "div",
      { class: "card-foot" },
      model.ready &&
        (model.task
          ? summarizeQuality(model)
          : el("p", { class: "quality soft" }, "Without a description")),
      el(
        "p",
        { class: "card-facts" },
        !hasName && el("span", { class: "mono" }, model.name),
        el("span", {}, `Version ${model.version}`),
        model.device && el("span", {}, model.device),
        model.in_memory === false && el("span", {}, "loads on its first request"),
        el(
          "span",
          { class: model.ready ? "state state-good" : "state state-bad" },
          model.ready ? "Ready" : "Not ready",
        ),
      ),
    ),
  );
  return {
    element,
    matches: (wanted) =>
      wanted.text
        .toLowerCase()
        .split(/\s+/)
        .every((word) => text.includes(word)) &&
      (!wanted.input || wanted.input === inputOf(model)) &&
      (!wanted.task || wanted.task === model.task) &&
      (!wanted.state || wanted.state === stateOf(model)),
  };
}

/** What goes in and what comes out. */
function describeFlow(model) {
  const { output, ready } = model;
  if (!ready) return "Not ready";
  const from = describeInput(model);
  if (!output) return from;
  const labels = output.labels;
  if (!labels)
    return `${from} \u2192 ${output.name}${output.unit && output.unit !== output.name ? ` in ${output.unit}` : ""}`;
  const shown = labels.length <= SHOWN_LABELS ? labels.join(", ") : `${labels.length} classes`;
  return `${from} \u2192 ${output.name}: ${shown}`;
}

function describeInput({ input, feature_count: count, feature_names: names }) {
  if (input === "image") return "Image";
  if (input !== "features") return "ONNX graph";
  const shown = names.slice(0, SHOWN_FEATURES).join(", ");
  return count > SHOWN_FEATURES ? `${shown} and ${formatNumber(count - SHOWN_FEATURES)} more` : shown;
}
