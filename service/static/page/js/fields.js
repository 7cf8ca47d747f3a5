// The controls of one feature: a slider with a number, a choice, a date, or text.

import { controlType, fromDays, toDays, toIso } from "./dates.js";
import { el, newId } from "./dom.js";
import { formatInput, formatNumber } from "./format.js";
import { createScale, formatTick, rangeOf, roundDigits, roundTo, stepOf } from "./scale.js";

const MAX_SEGMENTS = 4;
const MAX_SEGMENT_CHARACTERS = 20;
const MAX_MENU = 24;
const SLIDER_STEPS = 1000;
const MISSING = "missing";

/**
 * Create the field of a feature.
 * It has `element`, `get()` and `set(value)` with values as the service reads them (null: missing),
 * `accepts(value)`, `random()`, and `setError(sentence)`.
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

function createNumber(feature, { id, described, changed }) {
  const isInteger = feature.type === "integer";
  const range = rangeOf(feature);
  const input = el("input", {
    type: "number",
    id,
    class: "number",
    step: isInteger ? 1 : "any",
    min: feature.allowed?.minimum,
    max: feature.allowed?.maximum,
    inputmode: isInteger && !(range?.minimum < 0) ? "numeric" : "decimal",
    "aria-describedby": described,
  });
  const slider =
    range &&
    createSlider(feature, range, {
      format: (value) => formatInput(value, 5),
      round: (value, scale) =>
        scale.isLogarithmic
          ? roundDigits(value, isInteger)
          : roundTo(value, stepOf(range, isInteger)),
      onMove: (value) => {
        input.value = String(value);
        changed();
      },
    });
  input.addEventListener("input", () => {
    slider?.set(input.value === "" ? null : Number(input.value));
    changed();
  });
  return {
    element: el("div", { class: slider ? "slider-row" : "number-row" }, slider?.element, input),
    inputs: slider ? [slider.input, input] : [input],
    get: () => (input.value === "" ? null : Number(input.value)),
    set: (value) => {
      input.value = value === null ? "" : String(value);
      slider?.set(value);
    },
    accepts: (value) => {
      const { minimum = -Infinity, maximum = Infinity } = feature.allowed ?? {};
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

/** A slider along the scale of a feature; its ends are the range of the training set. */
function createSlider(feature, range, { format, formatEnd = formatTick, round, onMove }) {
  const scale = createScale(range, feature);
  const input = el("input", {
    type: "range",
    class: "slider",
    min: 0,
    max: SLIDER_STEPS,
    step: 1,
    "aria-label": feature.unit ? `${feature.name}, ${feature.unit}` : feature.name,
  });
  let current = null;
  const show = (value) => {
    const share = Math.min(Math.max(scale.toShare(value), 0), 1);
    input.style.setProperty("--share", `${share * 100}%`);
    input.setAttribute("aria-valuetext", format(value));
    return share;
  };
  const clamp = (value) => Math.min(Math.max(value, range.minimum), range.maximum);
  const valueAt = (position) => clamp(round(scale.fromShare(position / SLIDER_STEPS), scale));
  input.addEventListener("input", () => {
    current = valueAt(Number(input.value));
    show(current);
    onMove(current);
  });
  // A key moves by one step of the value, where the native step would round to the same value.
  input.addEventListener("keydown", (event) => {
    const steps = {
      ArrowRight: 1,
      ArrowUp: 1,
      ArrowLeft: -1,
      ArrowDown: -1,
      PageUp: 10,
      PageDown: -10,
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const direction = Math.sign(steps[event.key]);
    let position = Number(input.value);
    let next = current;
    for (let left = Math.abs(steps[event.key]); left > 0; left -= 1) {
      const before = next;
      while (next === before && position + direction >= 0 && position + direction <= SLIDER_STEPS) {
        position += direction;
        next = valueAt(position);
      }
    }
    input.value = String(position);
    current = next;
    show(next);
    onMove(next);
  });
  return {
    input,
    element: el(
      "div",
      { class: "slider-box" },
      input,
      el(
        "div",
        { class: "slider-ends", "aria-hidden": "true" },
        el("span", {}, formatEnd(range.minimum)),
        el("span", {}, formatEnd(range.maximum)),
      ),
    ),
    set: (value) => {
      if (value === null || !Number.isFinite(value)) return;
      current = value;
      input.value = String(Math.round(show(value) * SLIDER_STEPS));
    },
  };
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
