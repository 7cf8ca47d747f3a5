// A form of a model's features.

import { el } from "./dom.js";
import { createField, exampleOf } from "./fields.js";

// A longer form has two columns where the window has space for them.
const MANY_FIELDS = 6;

/**
 * Create the form; `onChange(feature)` runs after each change, without a feature if it may have
 * changed all of them.
 */
export function createForm(model, { onChange }) {
  const fields = model.features.map((feature) => createField(feature, onChange));
  const reset = () => {
    for (const field of fields) field.set(exampleOf(field.feature));
  };
  const randomize = () => {
    for (const field of fields) field.set(field.random());
  };
  const apply = (change) => () => {
    change();
    onChange();
  };
  reset();
  const canRandomize = model.features.some((feature) => feature.trained || feature.categories);
  const element = el(
    "section",
    { class: "card form", "aria-label": "Input" },
    el(
      "div",
      { class: "card-head" },
      el("h2", {}, "Input"),
      el(
        "div",
        { class: "actions" },
        canRandomize &&
          el("button", { type: "button", onclick: apply(randomize) }, "Random example"),
        el("button", { type: "button", onclick: apply(reset) }, "Reset"),
      ),
    ),
    el(
      "div",
      { class: fields.length > MANY_FIELDS ? "fields fields-many" : "fields" },
      fields.map((field) => field.element),
    ),
  );
  return {
    element,
    /** All values by feature, in the order of the model. */
    values: () => Object.fromEntries(fields.map((field) => [field.feature.name, field.get()])),
    /** Set the values that are valid for this form, and leave the examples for all others. */
    restore: (values) => {
      for (const field of fields) {
        const { name } = field.feature;
        if (Object.hasOwn(values, name) && field.accepts(values[name])) field.set(values[name]);
      }
    },
    /** Set one value. */
    set: (name, value) => {
      fields.find((field) => field.feature.name === name)?.set(value);
    },
    /** What the fields hold that cannot be sent: `feature` and `sentence` of each. */
    problems: () =>
      fields
        .map((field) => ({ feature: field.feature.name, sentence: field.problem() }))
        .filter(({ sentence }) => sentence !== null),
    /** Show the sentences of an error next to their fields; return those of no field. */
    showProblems: (details) => {
      const sentences = new Map();
      const others = [];
      for (const { feature, sentence, hint } of details) {
        const text = hint ? `${sentence} ${hint}` : sentence;
        if (fields.some((field) => field.feature.name === feature)) {
          sentences.set(feature, [...(sentences.get(feature) ?? []), text]);
        } else {
          others.push(text);
        }
      }
      for (const field of fields) {
        field.setError(sentences.get(field.feature.name)?.join(" ") ?? null);
      }
      return others;
    },
  };
}
