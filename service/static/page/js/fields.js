// The controls of one feature: a slider with a number, a choice, a date, or text.

import { controlType, fromDays, toDays, toIso } from "./dates.js";
import { el, newId } from "./dom.js";
import { formatInput, formatNumber } from "./format.js";
import { readTyped } from "./numbers.js";
import { rangeOf, roundDigits, roundTo, stepOf } from "./scale.js";
import { createSlider } from "./slider.js";

const MAX_SEGMENTS = 4;
const MAX_SEGMENT_CHARACTERS = 20;
const MAX_MENU = 24;
const MISSING = "missing";

/**
 * Create the field of a feature.
 * It has `element`, `get()` and `set(value)` with values as the service reads them (null: missing),
 * `accepts(value)`, `random()`, `setError(sentence)`, and `problem()`: a sentence on what the field
 * holds that cannot be sent, or null.
 */
export function createField(feature, onChange) {
  const create = CONTROLS[feature.type] ?? createText;
  const id = newId("field");
  const errorId = `${id}-error`;
  const hintId = `${id}-hint`;
  const described = feature.description ? `${hintId} ${errorId}` : errorId;
  const changed = () => onChange(feature);
  const control = create(feature, { id, described, changed });
  const missing = createMissing(feature, control, changed);
  const error = el("p", { class: "field-error", id: errorId, hidden: true });
  const label = [
    el("span", { class: "field-name" }, feature.name),
    feature.unit && el("span", { class: "field-unit" }, feature.unit),
  ];
  const head = el(
    "div",
    { class: "field-head" },
    control.isGroup
      ? el("span", { class: "field-label", id: `${id}-label` }, label)
      : el("label", { class: "field-label", for: id }, label),
    missing.element,
  );
  const element = el(
    "div",
    {
      class: "field",
      dataset: { feature: feature.name, type: feature.type },
      ...(control.isGroup && { role: "group", "aria-labelledby": `${id}-label` }),
    },
    head,
    feature.description && el("p", { class: "field-hint", id: hintId }, feature.description),
    control.element,
    error,
  );
  return {
    feature,
    element,
    get: () => (missing.isMissing() ? null : control.get()),
    set: (value) => {
      missing.set(value === null);
      if (value !== null || control.hasMissing) control.set(value);
    },
    accepts: (value) => (value === null ? Boolean(feature.optional) : control.accepts(value)),
    random: () => control.random(),
    problem: () => (missing.isMissing() ? null : (control.problem?.() ?? null)),
    setError: (sentence) => {
      error.hidden = !sentence;
      error.textContent = sentence ?? "";
      element.classList.toggle("is-invalid", Boolean(sentence));
      for (const input of control.inputs)
        input.setAttribute("aria-invalid", String(Boolean(sentence)));
    },
  };
}

/** The value of a feature when the form is first shown. */
export function exampleOf(feature) {
  if (feature.example === undefined)
    return feature.type === "string" ? "" : feature.type === "boolean" ? false : 0;
  if (feature.type === "datetime" && controlType(feature) !== "text") {
    return controlType(feature) === "time"
      ? feature.example
      : toIso(feature.example, feature.format);
  }
  return feature.example;
}

/** A checkbox that disables a control; choices have an option instead. */
function createMissing(feature, control, changed) {
  if (!feature.optional || control.hasMissing) {
    return { element: null, isMissing: () => false, set: () => {} };
  }
  const box = el("input", { type: "checkbox", "aria-label": `${feature.name} is missing` });
  const apply = () => {
    for (const input of control.inputs) input.disabled = box.checked;
    control.element.classList.toggle("is-disabled", box.checked);
  };
  box.addEventListener("change", () => {
    apply();
    changed();
  });
  return {
    element: el("label", { class: "field-missing" }, box, MISSING),
    isMissing: () => box.checked,
    set: (isMissing) => {
      box.checked = isMissing;
      apply();
    },
  };
}

/** A text field for numbers: a native number field drops a decimal comma without a word. */
function createNumber(feature, { id, described, changed }) {
  const isInteger = feature.type === "integer";
  const range = rangeOf(feature);
  const { minimum = -Infinity, maximum = Infinity } = feature.allowed ?? {};
  const input = el("input", {
    type: "text",
    role: "spinbutton",
    id,
    class: "number",
    autocomplete: "off",
    spellcheck: "false",
    inputmode: isInteger && !(range?.minimum < 0) ? "numeric" : "decimal",
    "aria-valuemin": feature.allowed?.minimum,
    "aria-valuemax": feature.allowed?.maximum,
    "aria-describedby": described,
  });
  const read = () => readTyped(input.value, exampleOf(feature));
  const write = (value) => {
    input.value = value === null ? "" : String(value);
    markValue(input, value);
  };
  const slider =
    range &&
    createSlider(feature, range, {
      format: (value) => formatInput(value, 5),
      round: (value, scale) =>
        scale.isLogarithmic
          ? roundDigits(value, isInteger)
          : roundTo(value, stepOf(range, isInteger)),
      onMove: (value) => {
        write(value);
        changed();
      },
    });
  input.addEventListener("input", () => {
    const { value = null } = read();
    markValue(input, value);
    slider?.set(value);
    changed();
  });
  input.addEventListener("keydown", (event) => {
    const step = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    const { value } = read();
    if (step === undefined || value === undefined) return;
    event.preventDefault();
    // Twelve digits hide the errors of binary fractions.
    const next = Number((value + step).toPrecision(12));
    write(Math.min(Math.max(next, minimum), maximum));
    slider?.set(Number(input.value));
    changed();
  });
  // An empty field of an optional feature is a missing value.
  const isMissing = () => Boolean(feature.optional) && input.value.trim() === "";
  return {
    element: el("div", { class: slider ? "slider-row" : "number-row" }, slider?.element, input),
    inputs: slider ? [slider.input, input] : [input],
    get: () => (isMissing() ? null : (read().value ?? NaN)),
    problem: () => (isMissing() ? null : (read().problem ?? null)),
    set: (value) => {
      write(value);
      slider?.set(value);
    },
    accepts: (value) => {
      const isNumber = typeof value === "number" && value >= minimum && value <= maximum;
      return isNumber && (!isInteger || Number.isInteger(value));
    },
    random: () => {
      if (!range) return exampleOf(feature);
      const value = randomWithin(feature, range);
      return isInteger ? Math.round(value) : roundTo(value, stepOf(range, false));
    },
  };
}

/** Give the number to screen readers, which know a native number field's. */
function markValue(input, value) {
  if (value === null) input.removeAttribute("aria-valuenow");
  else input.setAttribute("aria-valuenow", String(value));
}

function createBoolean(feature, options) {
  const choices = [
    { text: "Yes", value: true },
    { text: "No", value: false },
  ];
  return createSegments(feature, choices, options);
}

function createCategory(feature, options) {
  const choices = feature.categories.map((category) => ({ text: category, value: category }));
  const characters = feature.categories.reduce((sum, category) => sum + category.length, 0);
  if (choices.length <= MAX_SEGMENTS && characters <= MAX_SEGMENT_CHARACTERS) {
    return createSegments(feature, choices, options);
  }
  return choices.length <= MAX_MENU ? createMenu(feature, options) : createSearch(feature, options);
}

/** Radio buttons in one row. */
function createSegments(feature, choices, { id, described, changed }) {
  const all = feature.optional ? [...choices, { text: MISSING, value: null }] : choices;
  const inputs = all.map(({ text }, index) =>
    el("input", {
      type: "radio",
      name: id,
      id: `${id}-${index}`,
      value: text,
      onchange: changed,
      "aria-describedby": described,
    }),
  );
  return {
    isGroup: true,
    hasMissing: true,
    inputs,
    element: el(
      "div",
      { class: "segments" },
      all.map(({ text, value }, index) => [
        inputs[index],
        el(
          "label",
          { for: `${id}-${index}`, class: value === null ? "segment-missing" : "" },
          text,
        ),
      ]),
    ),
    get: () => all[inputs.findIndex((input) => input.checked)]?.value ?? null,
    set: (value) => {
      inputs.forEach((input, index) => {
        input.checked = all[index].value === value;
      });
    },
    accepts: (value) => all.some((choice) => choice.value === value),
    random: () =>
      randomChoice(
        choices.map(({ value }) => value),
        feature.counts,
      ),
  };
}

function createMenu(feature, { id, described, changed }) {
  const menu = el(
    "select",
    { id, onchange: changed, "aria-describedby": described },
    feature.optional && el("option", { value: "-1" }, MISSING),
    feature.categories.map((category, index) => el("option", { value: String(index) }, category)),
  );
  return {
    hasMissing: true,
    inputs: [menu],
    element: menu,
    get: () => feature.categories[Number(menu.value)] ?? null,
    set: (value) => {
      menu.value = String(feature.categories.indexOf(value));
    },
    accepts: (value) => feature.categories.includes(value),
    random: () => randomChoice(feature.categories, feature.counts),
  };
}

/** A text field that suggests the categories; any other text is for the service to judge. */
function createSearch(feature, { id, described, changed }) {
  const list = el(
    "datalist",
    { id: `${id}-list` },
    feature.categories.map((category) => el("option", { value: category })),
  );
  const input = el("input", {
    type: "text",
    id,
    list: list.id,
    autocomplete: "off",
    spellcheck: "false",
    placeholder: `Search ${formatNumber(feature.categories.length)} categories`,
    oninput: changed,
    onfocus: () => input.select(),
    "aria-describedby": described,
  });
  return {
    inputs: [input],
    element: el("div", {}, input, list),
    get: () => input.value,
    set: (value) => {
      input.value = value ?? "";
    },
    accepts: (value) => feature.categories.includes(value) || feature.unseen === "other",
    random: () => randomChoice(feature.categories, feature.counts),
  };
}

function createDate(feature, options) {
  const type = controlType(feature);
  if (type === "text") return createText(feature, options);
  const { id, described, changed } = options;
  const input = el("input", { type, id, class: "date", "aria-describedby": described });
  const range = rangeOf(feature);
  const write = (days) => fromDays(days, type);
  const slider =
    range &&
    createSlider(feature, range, {
      format: write,
      formatEnd: write,
      round: (days) => (type === "date" ? Math.round(days) : days),
      onMove: (days) => {
        input.value = write(days);
        changed();
      },
    });
  input.addEventListener("input", () => {
    slider?.set(toDays(input.value));
    changed();
  });
  return {
    element: el("div", { class: slider ? "slider-row" : "number-row" }, slider?.element, input),
    inputs: slider ? [slider.input, input] : [input],
    get: () => input.value || null,
    set: (value) => {
      input.value = value ?? "";
      if (value) slider?.set(toDays(value));
    },
    accepts: (value) => typeof value === "string" && toDays(value) !== null,
    random: () => (range ? write(randomWithin(feature, range)) : exampleOf(feature)),
  };
}

function createText(feature, { id, described, changed }) {
  const isLong = feature.type === "text";
  const input = isLong
    ? el("textarea", { id, rows: 4, oninput: changed, "aria-describedby": described })
    : el("input", {
        type: "text",
        id,
        placeholder: feature.format,
        oninput: changed,
        "aria-describedby": described,
      });
  return {
    inputs: [input],
    element: input,
    get: () => input.value,
    set: (value) => {
      input.value = value ?? "";
    },
    accepts: (value) => typeof value === "string",
    random: () => exampleOf(feature),
  };
}

const CONTROLS = {
  number: createNumber,
  integer: createNumber,
  boolean: createBoolean,
  category: createCategory,
  datetime: createDate,
  text: createText,
};

/** A value as frequent as in the training set, if its deciles are known. */
function randomWithin(feature, { minimum, maximum }) {
  const deciles = feature.statistics?.deciles ?? [minimum, maximum];
  const position = Math.random() * (deciles.length - 1);
  const index = Math.floor(position);
  return deciles[index] + (position - index) * (deciles[index + 1] - deciles[index]);
}

function randomChoice(values, counts = values.map(() => 1)) {
  let left = Math.random() * counts.reduce((sum, count) => sum + count, 0);
  return values.find((_, index) => (left -= counts[index]) < 0) ?? values[0];
}
