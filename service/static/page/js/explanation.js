// What each feature adds to a prediction, as signed bars.

import { el, replace } from "./dom.js";
import { exampleOf } from "./fields.js";
import { formatInput, formatNumber, formatSigned } from "./format.js";

const SHOWN = 8;
// A number this close to the reference's, as a share of the training range, is nearly the same.
const NEAR = 0.01;

/** Show a response of `/explain` for a row; `state.all` remembers whether all features are shown. */
export function renderExplanation(container, response, model, values, state) {
  const { explanation } = response;
  const reference = readReference(model, response);
  const compared = nameReference(model, reference);
  const contributions = Object.entries(explanation.contributions);
  contributions.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const shown = state.all ? contributions : contributions.slice(0, SHOWN);
  const largest = Math.max(...contributions.map(([, value]) => Math.abs(value)), Number.MIN_VALUE);
  const isZero = contributions.every(([, value]) => value === 0);
  const toggle = () => {
    state.all = !state.all;
    renderExplanation(container, response, model, values, state);
  };
  const remark = remarkOn({ isZero, isNear: isNear(model, values, reference), compared });
  replace(
    container,
    remark && el("p", {}, remark),
    !isZero && el("p", { class: "soft" }, `Contributions to the ${explanation.of}`),
    !isZero &&
      el(
        "div",
        { class: "contributions", role: "list" },
        shown.map(([name, value]) =>
          renderContribution(name, value, [values[name], reference?.[name]], largest),
        ),
      ),
    contributions.length > SHOWN &&
      el(
        "button",
        { type: "button", class: "link", onclick: toggle },
        state.all ? "Show fewer" : `Show all ${contributions.length} features`,
      ),
    !isZero &&
      el(
        "p",
        { class: "sum" },
        `${capitalize(compared)} ${formatNumber(explanation.base)}, all contributions together `,
        `${formatSigned(explanation.score - explanation.base)}, this row `,
        el("strong", {}, formatNumber(explanation.score)),
      ),
    el("p", { class: "sum" }, describeReference(reference, compared, state.all)),
    el(
      "details",
      {},
      el("summary", {}, "How to read this"),
      el("p", {}, describeMethod(explanation, reference, compared)),
    ),
  );
}

/** The values of the reference row as the form has them, by feature; none if the service has none. */
function readReference(model, { reference }) {
  if (!reference) return null;
  return Object.fromEntries(
    model.features
      .filter(({ name }) => Object.hasOwn(reference, name))
      .map((feature) => [feature.name, exampleOf({ ...feature, example: reference[feature.name] })]),
  );
}

/** What the row is compared with; sums over the features have no reference row. */
function nameReference(model, reference) {
  if (!reference) return "training means";
  const isKnown = model.features.some(({ statistics, counts }) => statistics || counts);
  return isKnown ? "typical row" : "reference row";
}

/** One sentence if there is nothing, or very little, to see. */
function remarkOn({ isZero, isNear: isClose, compared }) {
  if (isClose) {
    const nearly = isZero ? "" : "nearly ";
    return `This row is ${nearly}the ${compared} that contributions compare with; move a value to see its effect.`;
  }
  return isZero
    ? `No value changes the prediction compared with the ${compared}; move a value to see its effect.`
    : null;
}

/** Whether all values are those of the reference, or the form cannot show the difference well. */
function isNear(model, values, reference) {
  if (!reference) return false;
  return Object.entries(reference).every(([name, other]) => {
    const value = values[name];
    if (value === other) return true;
    if (typeof value !== "number" || typeof other !== "number") return false;
    const { trained } = model.features.find((feature) => feature.name === name) ?? {};
    const span = trained ? trained.maximum - trained.minimum : 0;
    return Math.abs(value - other) <= NEAR * span;
  });
}

function describeReference(reference, compared, hasAll) {
  if (!reference) return "Compared with the training means.";
  const values = Object.entries(reference);
  const shown = hasAll ? values : values.slice(0, SHOWN);
  const more = values.length - shown.length;
  const text = shown.map(([name, value]) => `${name} ${shortValue(value)}`).join(", ");
  return `Compared with a ${compared}: ${text}${more > 0 ? ` and ${more} more` : ""}.`;
}

/** The meaning of the numbers in the words of this panel. */
function describeMethod(explanation, reference, compared) {
  const sum = `The ${explanation.of} of the ${compared} and all contributions add up to that of this row.`;
  if (!reference) {
    return (
      "A number contributes its coefficient times its distance from the training mean, a category " +
      `a number of its own. ${sum}`
    );
  }
  const typical =
    compared === "typical row"
      ? " The typical row has the median of each number and the most frequent category of the training set."
      : "";
  return (
    `A contribution is how much the ${explanation.of} changes when the value of this row replaces ` +
    `that of the ${compared}, on average over several orders of replacing one value after another. ` +
    `${sum}${typical}`
  );
}

function renderContribution(name, value, [input, other], largest) {
  const bar = el("span", { class: value < 0 ? "signed-fill is-negative" : "signed-fill" });
  bar.style.width = `${(Math.abs(value) / largest) * 50}%`;
  const isOther = other !== undefined && shortValue(other) !== shortValue(input);
  return el(
    "div",
    { class: "contribution", role: "listitem" },
    el(
      "span",
      { class: "bar-label" },
      name,
      el(
        "span",
        { class: "soft" },
        ` ${shortValue(input)}${isOther ? ` instead of ${shortValue(other)}` : ""}`,
      ),
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

function capitalize(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
