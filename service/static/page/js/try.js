// The Form tab: the prediction changes with the form.

import { ApiError, NO_RESPONSE, postJson } from "./api.js";
import { createCurve } from "./curve.js";
import { el, newId, replace } from "./dom.js";
import { renderExplanation } from "./explanation.js";
import { createForm } from "./form.js";
import { formatQuantity, formatShare } from "./format.js";
import { renderPrediction } from "./prediction.js";
import { debounce } from "./watch.js";

const PREDICT_MILLISECONDS = 30;
const DETAILS_MILLISECONDS = 120;
const ANNOUNCE_MILLISECONDS = 900;
// The request is below a form of up to so many fields, and else in the other column.
const FEW_FIELDS = 12;
const NARROW_FIELDS = 6;
const USUAL_LEVEL = 0.9;
const CORRECT = "Correct the marked input.";

/**
 * Create the tab. `card` is the request card, `values` are those of an earlier form.
 * Returns `element`, `values()`, and `slot`, the element that holds the card.
 */
export function createFormPanel(model, { card, values = {}, signal }) {
  const levels = (model.output?.interval?.levels ?? []).map(({ level }) => level);
  const level = createLevelMenu(levels, () => update());
  const query = (warnings) => {
    const parameters = [];
    if (level.value()) parameters.push(`interval=${level.value()}`);
    if (!warnings) parameters.push("warnings=false");
    return parameters.length ? `?${parameters.join("&")}` : "";
  };
  const form = createForm(model, { onChange: (feature) => changed(feature) });
  form.restore(values);
  const result = createResult(level.element);
  const results = el("div", { class: "try-result" });
  const why = createWhy();
  const curve = createCurve(model, {
    query: () => query(false),
    onPick: (name, value) => {
      form.set(name, value);
      changed();
    },
  });
  let current = new AbortController();
  let last = null;

  const update = async () => {
    current.abort();
    const request = new AbortController();
    current = request;
    const problems = form.problems();
    if (problems.length > 0) {
      form.showProblems(problems);
      result.showError([CORRECT], "");
      return;
    }
    const row = form.values();
    const path = `${model.path}/predict${query(true)}`;
    card.show({ path, contentType: "application/json", body: JSON.stringify(row) });
    try {
      const prediction = await postJson(path, row, { signal: request.signal });
      last = { row, prediction };
      form.showProblems([]);
      results.classList.remove("is-stale");
      result.show(prediction, model);
      card.showResponse(prediction);
      updateDetails(request.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      card.hideResponse();
      results.classList.add("is-stale");
      const others = form.showProblems(error.details);
      const isPlaced = error.details.length > others.length;
      result.showError(
        isPlaced ? [CORRECT, ...others] : [error.message],
        error.code,
      );
    }
  };
  const updateDetails = debounce(async (requestSignal) => {
    if (requestSignal.aborted || signal.aborted) return;
    const { row, prediction } = last;
    await Promise.all([
      ignoreFailure(curve?.update(row, prediction, requestSignal)),
      ignoreFailure(why.update(model, row, requestSignal)),
    ]);
  }, DETAILS_MILLISECONDS);
  const soon = debounce(update, PREDICT_MILLISECONDS);
  const changed = (feature) => {
    if (feature) curve?.choose(feature.name);
    soon();
  };
  curve?.menu.addEventListener("change", () => last && updateDetails(current.signal));
  signal.addEventListener("abort", () => current.abort());

  const slot = el("div", { class: "slot" });
  const isShort = model.features.length <= FEW_FIELDS;
  results.append(...[result.element, curve?.element, why.element, !isShort && slot].filter(Boolean));
  const columns = el(
    "div",
    { class: model.features.length <= NARROW_FIELDS ? "try" : "try try-long" },
    el("div", { class: "try-input" }, form.element, isShort && slot),
    results,
  );
  const element = el("div", {}, columns, result.bar);
  update();
  return { element, slot, values: form.values, update };
}

/** Failures of details are those of the prediction, which shows them. */
async function ignoreFailure(promise) {
  try {
    await promise;
  } catch (error) {
    if (error.name !== "AbortError" && !(error instanceof ApiError)) throw error;
  }
}

/** The level of the interval; no menu if there is at most one. */
function createLevelMenu(levels, onChange) {
  if (levels.length === 0) return { element: null, value: () => null };
  const usual = levels.includes(USUAL_LEVEL) ? USUAL_LEVEL : levels[levels.length - 1];
  if (levels.length === 1) return { element: null, value: () => usual };
  const id = newId("level");
  const menu = el(
    "select",
    { id, onchange: onChange, value: String(usual) },
    levels.map((level) => el("option", { value: String(level) }, formatShare(level))),
  );
  return {
    element: el("label", { class: "inline", for: id }, "Interval ", menu),
    value: () => menu.value,
  };
}

/** The card with the prediction, or with the sentences of an error. */
function createResult(controls) {
  const error = el("div", { class: "error", role: "alert", hidden: true });
  const prediction = el("div", { class: "result-body" }, el("p", { class: "soft" }, "Predicting…"));
  const status = el("p", { class: "offscreen", role: "status" });
  const announce = debounce((text) => {
    status.textContent = text;
  }, ANNOUNCE_MILLISECONDS);
  const element = el(
    "section",
    { class: "card result", "aria-label": "Prediction" },
    el("div", { class: "card-head" }, el("h2", {}, "Prediction"), controls),
    error,
    prediction,
    status,
  );
  const bar = createResultBar(element);
  return {
    element,
    bar: bar.element,
    show: (value, model) => {
      bar.show(value, model);
      error.hidden = true;
      renderPrediction(prediction, value, model);
      announce(sentenceOf(value, model));
    },
    showError: (sentences, code) => {
      error.hidden = false;
      error.dataset.code = code;
      replace(
        error,
        sentences.map((sentence) => el("p", {}, sentence)),
      );
    },
  };
}

/** The prediction in one line while its card is out of sight. */
function createResultBar(card) {
  const name = el("span", { class: "soft" });
  const value = el("strong");
  // Screen readers have the status of the card.
  const element = el(
    "div",
    { class: "result-bar", "aria-hidden": "true", hidden: true },
    name,
    value,
  );
  let isCardVisible = true;
  const update = () => {
    element.hidden = isCardVisible || value.textContent === "";
  };
  new IntersectionObserver((entries) => {
    isCardVisible = entries[entries.length - 1].isIntersecting;
    update();
  }).observe(card);
  return {
    element,
    show: (prediction, model) => {
      name.textContent = model.output?.name ?? "Prediction";
      value.textContent = shortText(prediction, model);
      update();
    },
  };
}

function shortText(prediction, model) {
  if ("label" in prediction) return `${prediction.label} ${formatShare(prediction.probability)}`;
  if (typeof prediction.value !== "number") return "";
  return formatQuantity(prediction.value, prediction.unit ?? model.output?.unit, 5);
}

/** The prediction in words, for screen readers. */
function sentenceOf(prediction, model) {
  if ("label" in prediction) {
    return `Prediction: ${prediction.label}, probability ${formatShare(prediction.probability)}`;
  }
  const text = shortText(prediction, model);
  return text ? `Prediction: ${text}` : "The prediction has changed.";
}

/** The card with the contributions of the features. */
function createWhy() {
  const body = el("div");
  const state = { all: false };
  const element = el(
    "section",
    { class: "card", "aria-label": "Why this prediction", hidden: true },
    el("div", { class: "card-head" }, el("h2", {}, "Why this prediction")),
    body,
  );
  return {
    element,
    update: async (model, row, signal) => {
      try {
        const response = await postJson(`${model.path}/explain`, row, { signal });
        element.hidden = false;
        renderExplanation(body, response, model, row, state);
      } catch (error) {
        // Some models without a description have no explanations.
        if (error instanceof ApiError && error.code !== NO_RESPONSE) element.hidden = true;
        throw error;
      }
    },
  };
}
