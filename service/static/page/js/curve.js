// "What if": the prediction while one feature varies over its range, from one request.

import { postJson } from "./api.js";
import { drawLines } from "./chart.js";
import { controlType, fromDays, toDays } from "./dates.js";
import { el, newId, replace } from "./dom.js";
import { formatInput, formatNumber, formatQuantity, formatShare } from "./format.js";
import { createScale, formatTick, linearTicks, rangeOf, roundDigits } from "./scale.js";

const POINTS = 61;
const FEW_POINTS = 21;
// A model that needs longer for a row gets few points.
const SLOW_ROW_MICROSECONDS = 2000;
const MAX_SERIES = 4;
const MAX_CATEGORIES = 30;

/** Whether a feature can vary: it has a range, or choices. */
function canVary(feature) {
  if (feature.type === "boolean") return true;
  if (feature.type === "category") return feature.categories.length > 1;
  if (feature.type === "datetime")
    return controlType(feature) !== "text" && rangeOf(feature) !== null;
  return ["number", "integer"].includes(feature.type) && rangeOf(feature) !== null;
}

function isNumber(feature) {
  if (!["number", "integer"].includes(feature.type)) return false;
  const { minimum, maximum } = rangeOf(feature);
  return feature.type === "number" || maximum - minimum > 1;
}

/**
 * Create the chart; null if no feature can vary.
 * `query` returns the parameters of the request, `onPick(name, value)` sets a value of the form.
 */
export function createCurve(model, { query, onPick }) {
  const features = model.features.filter(canVary);
  if (features.length === 0) return null;
  const id = newId("vary");
  const menu = el(
    "select",
    { id },
    features.map(({ name }) => el("option", { value: name }, name)),
  );
  // A number says more than a choice of two.
  menu.value = (features.find(isNumber) ?? features[0]).name;
  const chart = el("div", { class: "chart-box" });
  const readout = el("p", { class: "soft readout" });
  const element = el(
    "section",
    { class: "card", "aria-label": "What if" },
    el(
      "div",
      { class: "card-head" },
      el("h2", {}, "What if"),
      el("label", { class: "inline", for: id }, "vary ", menu),
    ),
    chart,
    readout,
  );
  let last = null;
  const draw = () => last && render(last);
  new ResizeObserver(draw).observe(chart);

  const render = (state) => {
    const { feature } = state;
    if (feature.type === "category" || feature.type === "boolean") {
      renderChoices(chart, state, model, onPick);
      replace(readout, `Prediction for each ${feature.name}; all other values stay as they are.`);
    } else {
      renderLines(chart, readout, state, model, onPick);
    }
  };
  return {
    element,
    menu,
    /** Choose the feature that varies. */
    choose: (name) => {
      if (features.some((feature) => feature.name === name)) menu.value = name;
    },
    /** Request and draw the curve around the values of the form. */
    update: async (values, prediction, signal) => {
      const feature = features.find(({ name }) => name === menu.value);
      const inputs = pointsOf(feature, model, values[feature.name]);
      // All columns are sent, so that `Object.fromEntries` decides for names such as `__proto__`.
      const rows = inputs.map((value) =>
        Object.fromEntries(
          Object.entries(values).map(([name, own]) => [name, name === feature.name ? value : own]),
        ),
      );
      const response = await postJson(
        `${model.path}/predict${query()}`,
        { instances: rows },
        { signal },
      );
      if (menu.value !== feature.name) return; // another feature was chosen meanwhile
      last = {
        feature,
        inputs,
        predictions: response.predictions,
        current: values[feature.name],
        prediction,
      };
      render(last);
    },
  };
}

function pointsOf(feature, model, current) {
  if (feature.type === "boolean") return [true, false];
  if (feature.type === "category") {
    const shown = feature.categories.slice(0, MAX_CATEGORIES);
    return typeof current === "string" && !shown.includes(current) ? [current, ...shown] : shown;
  }
  const isSlow = model.execution_details?.row_microseconds > SLOW_ROW_MICROSECONDS;
  const count = (isSlow ? FEW_POINTS : POINTS) - 1;
  const scale = createScale(includeCurrent(rangeOf(feature), current), feature);
  const numbers = Array.from({ length: count + 1 }, (_, i) => scale.fromShare(i / count));
  if (feature.type === "datetime") {
    return unique(numbers.map((days) => fromDays(days, controlType(feature))));
  }
  if (feature.type === "integer") return unique(numbers.map(Math.round));
  return numbers.map((value) => Number(value.toPrecision(9)));
}

/** A range that also contains the current value, unless that is far away. */
function includeCurrent({ minimum, maximum }, current) {
  const space = (maximum - minimum) / 2;
  const isNear =
    typeof current === "number" && current >= minimum - space && current <= maximum + space;
  if (!isNear) return { minimum, maximum };
  return { minimum: Math.min(minimum, current), maximum: Math.max(maximum, current) };
}

function unique(values) {
  return [...new Set(values)];
}

/** The lines to draw: the value, or probabilities of the classes that matter in this range. */
function seriesOf(model, predictions) {
  const first = predictions[0] ?? {};
  if (typeof first.value === "number") {
    return [
      { name: model.output?.name ?? "value", unit: model.output?.unit, read: (one) => one.value },
    ];
  }
  if (first.probabilities) {
    const labels = model.output?.labels ?? Object.keys(first.probabilities);
    const shown = labels.length === 2 ? [labels[1]] : mostProbable(labels, predictions);
    return shown.map((label) => ({
      name: label,
      isShare: true,
      read: (one) => one.probabilities[label] ?? 0,
    }));
  }
  return Object.keys(first)
    .filter((name) => typeof first[name] === "number")
    .slice(0, 1)
    .map((name) => ({ name, read: (one) => one[name] }));
}

function mostProbable(labels, predictions) {
  const highest = (label) => Math.max(...predictions.map((one) => one.probabilities[label] ?? 0));
  const sorted = [...labels].sort((a, b) => highest(b) - highest(a)).slice(0, MAX_SERIES);
  return labels.filter((label) => sorted.includes(label));
}

const formatOf =
  ({ isShare, unit }) =>
  (value) =>
    isShare ? formatShare(value) : formatQuantity(value, unit);

function renderLines(chart, readout, state, model, onPick) {
  const { feature, inputs, predictions, current, prediction } = state;
  const found = seriesOf(model, predictions);
  if (found.length === 0 || chart.clientWidth === 0) return;
  const isDate = feature.type === "datetime";
  const xs = isDate ? inputs.map(toDays) : inputs;
  const series = found.map((one) => ({
    ...one,
    points: predictions.map((row, i) => [xs[i], one.read(row)]),
    band:
      predictions[0].interval &&
      predictions.map((row, i) => [xs[i], row.interval.low, row.interval.high]),
  }));
  const scale = createScale({ minimum: xs[0], maximum: xs[xs.length - 1] }, feature);
  const at = isDate ? current && toDays(current) : current;
  const isInside = typeof at === "number" && at >= xs[0] && at <= xs[xs.length - 1];
  const title = feature.unit ? `${feature.name} (${feature.unit})` : feature.name;
  const { root, shareAt, cross } = drawLines({
    width: chart.clientWidth,
    label: describe(series, feature, inputs, predictions),
    x: {
      scale,
      title,
      format: isDate ? (days) => fromDays(days, controlType(feature)) : formatTick,
    },
    y: yAxis(series),
    series,
    marker: isInside && { x: at, values: series.map((one) => one.read(prediction)) },
    limit: limitOf(model, series),
  });
  const legend =
    series.length > 1 &&
    el(
      "ul",
      { class: "legend" },
      series.map(({ name }, index) => el("li", { class: `series-${index}` }, name)),
    );
  replace(chart, legend, root);
  const subject =
    series[0].isShare && series.length === 1
      ? `Probability of ${series[0].name}; dashed: the decision threshold. `
      : "";
  const dot = isInside ? "The dot is the current input. " : "";
  const resting = `${subject}${dot}Click to use a value.`;
  replace(readout, resting);
  const indexAt = (event) =>
    nearest(xs, scale.fromShare(Math.min(Math.max(shareAt(event.clientX), 0), 1)));
  root.addEventListener("pointermove", (event) => {
    const index = indexAt(event);
    cross.show(index);
    const input = describeInput(inputs[index], feature);
    const outputs = series.map((one) => `${one.name} ${formatOf(one)(one.points[index][1])}`);
    replace(readout, `${feature.name} ${input}: ${outputs.join(", ")}`);
  });
  root.addEventListener("pointerleave", () => {
    cross.hide();
    replace(readout, resting);
  });
  root.addEventListener("click", (event) => {
    const value = inputs[indexAt(event)];
    onPick(
      feature.name,
      typeof value === "number" ? roundDigits(value, feature.type === "integer") : value,
    );
  });
}

/** The decision threshold of a classifier with two classes. */
function limitOf(model, series) {
  if (!series[0].isShare || series.length > 1) return undefined;
  return model.output?.threshold ?? 0.5;
}

function yAxis(series) {
  if (series[0].isShare) {
    return {
      minimum: 0,
      maximum: 1,
      ticks: [0, 0.25, 0.5, 0.75, 1],
      format: (share) => `${share * 100}\u202f%`,
    };
  }
  const values = series.flatMap(({ points, band }) =>
    band ? band.flatMap(([, low, high]) => [low, high]) : points.map(([, value]) => value),
  );
  let minimum = Math.min(...values);
  let maximum = Math.max(...values);
  const space = (maximum - minimum) * 0.06 || Math.abs(maximum) * 0.1 || 1;
  minimum -= space;
  maximum += space;
  return { minimum, maximum, ticks: linearTicks(minimum, maximum, 5), format: formatTick };
}

function nearest(values, target) {
  let best = 0;
  values.forEach((value, index) => {
    if (Math.abs(value - target) < Math.abs(values[best] - target)) best = index;
  });
  return best;
}

function describeInput(value, { unit }) {
  if (typeof value !== "number") return value;
  return unit ? `${formatInput(value, 5)}\u00a0${unit}` : formatInput(value, 5);
}

/** The chart in words. */
function describe(series, feature, inputs, predictions) {
  const ends = [0, predictions.length - 1].map((index) => {
    const outputs = series.map(
      (one) => `${one.name} ${formatOf(one)(one.read(predictions[index]))}`,
    );
    return `at ${describeInput(inputs[index], feature)}: ${outputs.join(", ")}`;
  });
  return `Prediction by ${feature.name}; ${ends.join("; ")}`;
}

/** A bar for each category; a click uses it. */
function renderChoices(chart, state, model, onPick) {
  const { feature, inputs, predictions, current } = state;
  const series = seriesOf(model, predictions).slice(0, 1);
  if (series.length === 0) return;
  const [{ name, isShare, read }] = series;
  const format = formatOf(series[0]);
  const values = predictions.map(read);
  const lowest = isShare ? 0 : Math.min(0, ...values);
  const highest = isShare ? 1 : Math.max(0, ...values);
  const width = highest - lowest || 1;
  replace(
    chart,
    isShare && el("p", { class: "soft" }, `Probability of ${name}`),
    el(
      "div",
      { class: "choices" },
      inputs.map((input, index) => {
        const bar = el("span", { class: "bar-fill" });
        bar.style.width = `${(Math.abs(values[index]) / width) * 100}%`;
        bar.style.marginLeft = `${((Math.min(values[index], 0) - lowest) / width) * 100}%`;
        const isCurrent = input === current;
        return el(
          "button",
          {
            type: "button",
            class: isCurrent ? "bar bar-predicted" : "bar",
            "aria-pressed": String(isCurrent),
            onclick: () => onPick(feature.name, input),
          },
          el(
            "span",
            { class: "bar-label" },
            typeof input === "boolean" ? (input ? "Yes" : "No") : input,
          ),
          el("span", { class: "bar-track", "aria-hidden": "true" }, bar),
          el("span", { class: "bar-value" }, format(values[index])),
        );
      }),
    ),
    feature.categories?.length > MAX_CATEGORIES &&
      el(
        "p",
        { class: "soft" },
        `The first ${formatNumber(MAX_CATEGORIES)} of ${formatNumber(feature.categories.length)} categories.`,
      ),
  );
}
