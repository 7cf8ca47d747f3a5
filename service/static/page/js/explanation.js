// What each feature adds to a prediction, as signed bars.

import { el, replace } from "./dom.js";
import { formatInput, formatNumber, formatSigned } from "./format.js";

const SHOWN = 8;

/** Show a response of `/explain` for a row; `state.all` remembers whether all features are shown. */
export function renderExplanation(container, response, values, state) {
  const { explanation } = response;
  const contributions = Object.entries(explanation.contributions);
  contributions.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const shown = state.all ? contributions : contributions.slice(0, SHOWN);
  const largest = Math.max(...contributions.map(([, value]) => Math.abs(value)), Number.MIN_VALUE);
  const toggle = () => {
    state.all = !state.all;
    renderExplanation(container, response, values, state);
  };
  if (contributions.every(([, value]) => value === 0)) {
    replace(
      container,
      el(
        "p",
        { class: "soft" },
        "No feature changes the prediction: all values are the usual ones, or have no effect here.",
      ),
    );
    return;
  }
  replace(
    container,
    el("p", { class: "soft" }, `Contributions to the ${explanation.of}`),
    el(
      "div",
      { class: "contributions", role: "list" },
      shown.map(([name, value]) => renderContribution(name, value, values[name], largest)),
    ),
    contributions.length > SHOWN &&
      el(
        "button",
        { type: "button", class: "link", onclick: toggle },
        state.all ? "Show fewer" : `Show all ${contributions.length} features`,
      ),
    el(
      "p",
      { class: "sum" },
      `Start ${formatNumber(explanation.base)}, all contributions together `,
      `${formatSigned(explanation.score - explanation.base)}, result `,
      el("strong", {}, formatNumber(explanation.score)),
    ),
    el(
      "details",
      {},
      el("summary", {}, "How to read this"),
      el("p", {}, sentenceOf(response.meaning)),
    ),
  );
}

function renderContribution(name, value, input, largest) {
  const bar = el("span", { class: value < 0 ? "signed-fill is-negative" : "signed-fill" });
  bar.style.width = `${(Math.abs(value) / largest) * 50}%`;
  return el(
    "div",
    { class: "contribution", role: "listitem" },
    el(
      "span",
      { class: "bar-label" },
      name,
      el("span", { class: "soft" }, ` ${shortValue(input)}`),
    ),
    el("span", { class: "signed-track", "aria-hidden": "true" }, bar),
    el("span", { class: "bar-value" }, formatSigned(value)),
  );
}

function shortValue(value) {
  if (value === null || value === undefined) return "missing";
  if (typeof value === "number") return formatInput(value, 5);
  if (typeof value === "boolean") return value ? "yes" : "no";
  return String(value);
}

/** The service writes the sentence after a colon, in lower case. */
function sentenceOf(text = "") {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
