// How good a model is, in words.

import { el } from "./dom.js";
import { formatCount, formatNumber, formatQuantity, formatShare } from "./format.js";

// Name, meaning, and whether a higher value is better.
const METRICS = {
  accuracy: ["Accuracy", "share of correct predictions", true],
  balanced_accuracy: ["Balanced accuracy", "mean of the recalls of all classes", true],
  log_loss: ["Log loss", "penalty for probabilities that are wrong", false],
  calibration_error: [
    "Calibration error",
    "mean distance of probabilities from observed shares",
    false,
  ],
  roc_auc: ["ROC AUC", "how often a positive row gets the higher probability", true],
  pr_auc: ["PR AUC", "area below precision over recall", true],
  brier: ["Brier score", "mean squared error of the probabilities", false],
  rmse: ["RMSE", "typical error; large errors count more", false],
  mae: ["MAE", "mean absolute error", false],
  mse: ["MSE", "mean squared error", false],
  sse: ["SSE", "sum of the squared errors", false],
  r2: ["R²", "share of the variance that is explained", true],
  unsure_share: ["Unsure", "share of predictions marked as unsure", null],
  "wrong[unsure]": ["Wrong if unsure", "share of wrong predictions among those", null],
  "wrong[others]": ["Wrong if not unsure", "share of wrong predictions among all others", null],
};
// The share of fewer rows changes by several percent with each of them.
const FEW_ROWS = 30;
const IN_UNIT = new Set(["rmse", "mae"]);
const SHARES = new Set([
  "accuracy",
  "balanced_accuracy",
  "unsure_share",
  "wrong[unsure]",
  "wrong[others]",
]);
const PER_CLASS = /^(precision|recall|specificity|f1)\[(.*)\]$/s;

/**
 * The main metric of a model for its card: what matters in bold, the baseline after it.
 * Errors are in the words of the training command, whose last line is the mean absolute error.
 */
export function summarizeQuality(model) {
  const { metric, output } = model;
  if (!metric) return el("p", { class: "quality soft" }, "Not evaluated");
  const { name, value, rows, mae } = metric;
  const unit = output?.unit;
  const isMean = mae !== undefined;
  const baseline = isMean ? metric.baseline_mae : metric.baseline;
  const notes = [
    baseline !== undefined &&
      `baseline ${isMean ? formatError(baseline, unit) : formatMetric(name, baseline, unit)}`,
    isMean && titled(name, value, unit),
    rows < FEW_ROWS && `on ${formatCount(rows, "row")}`,
  ].filter(Boolean);
  return el(
    "p",
    { class: "quality" },
    el("strong", {}, isMean ? `Off by ${formatError(mae, unit)} on average` : headline(metric, unit)),
    " ",
    el("span", { class: "soft" }, notes.join(", ")),
  );
}

function headline({ name, value }, unit) {
  return name === "accuracy" ? `${formatShare(value)} correct` : titled(name, value, unit);
}

function titled(name, value, unit) {
  return `${METRICS[name]?.[0] ?? name} ${formatMetric(name, value, unit)}`;
}

/** With the digits of the training command. */
function formatError(value, unit) {
  return formatQuantity(value, unit, 3);
}

function formatMetric(name, value, unit) {
  if (SHARES.has(name)) return formatShare(value);
  return formatQuantity(value, IN_UNIT.has(name) ? unit : undefined);
}

/** Which rows the metrics were measured on, as the end of a sentence. */
export function describeRows({ part, folds, rows, split }) {
  const count = formatCount(rows, "row");
  const rule =
    split?.by === "group"
      ? `, without the groups (${split.column}) of training rows`
      : split?.by === "time"
        ? `, which are newer (${split.column}) than the training rows`
        : "";
  if (part === "cross-validation") return `${count} by cross-validation with ${folds} folds${rule}`;
  if (part === "given")
    return `${count} that were given with the model and may include training rows`;
  return `the ${count} of the test set, which training did not use${rule}`;
}

/** All metrics next to those of the baseline. */
export function renderMetrics(model) {
  const { evaluation, output } = model;
  const { metrics, baseline } = evaluation;
  const names = Object.keys(metrics);
  const general = names.filter((name) => !PER_CLASS.test(name));
  return el(
    "section",
    { class: "card", "aria-label": "Metrics" },
    el("div", { class: "card-head" }, el("h2", {}, "Metrics")),
    el(
      "p",
      { class: "soft" },
      `Measured on ${describeRows(evaluation)}. The baseline predicts ${baseline.name}.`,
    ),
    el(
      "div",
      {
        class: "scroll",
        tabindex: 0,
        role: "region",
        "aria-label": "Metrics compared with the baseline",
      },
      el(
        "table",
        {},
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            ["Metric", "This model", "Baseline", "Meaning"].map((title, i) =>
              el(
                "th",
                { scope: "col", class: i === 1 || i === 2 ? "numeric" : i === 3 ? "meaning" : "" },
                title,
              ),
            ),
          ),
        ),
        el(
          "tbody",
          {},
          general.map((name) => metricRow(name, metrics, baseline.metrics, output)),
        ),
      ),
    ),
    renderClassMetrics(metrics),
  );
}

function metricRow(name, metrics, baseline, output) {
  const [title, meaning, isHigherBetter = null] = METRICS[name] ?? [name, ""];
  const direction =
    isHigherBetter === null ? "" : isHigherBetter ? " Higher is better." : " Lower is better.";
  const unit = IN_UNIT.has(name) ? output?.unit : undefined;
  const text = meaning && `${meaning.charAt(0).toUpperCase()}${meaning.slice(1)}.${direction}`;
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, title),
    el("td", { class: "numeric" }, formatMetric(name, metrics[name], unit)),
    el(
      "td",
      { class: "numeric soft" },
      name in baseline ? formatMetric(name, baseline[name], unit) : "\u2013",
    ),
    el("td", { class: "soft meaning" }, text),
  );
}

/** Precision, recall and so on, with a row for each class. */
function renderClassMetrics(metrics) {
  const classes = new Map();
  const kinds = [];
  for (const [name, value] of Object.entries(metrics)) {
    const found = PER_CLASS.exec(name);
    if (!found) continue;
    const [, kind, label] = found;
    if (!kinds.includes(kind)) kinds.push(kind);
    if (!classes.has(label)) classes.set(label, {});
    classes.get(label)[kind] = value;
  }
  if (classes.size === 0) return null;
  const title = (kind) => kind.charAt(0).toUpperCase() + kind.slice(1);
  return el(
    "details",
    {},
    el("summary", {}, "Metrics of each class"),
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Metrics of each class" },
      el(
        "table",
        {},
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            el("th", { scope: "col" }, "Class"),
            kinds.map((kind) => el("th", { scope: "col", class: "numeric" }, title(kind))),
          ),
        ),
        el(
          "tbody",
          {},
          [...classes].map(([label, values]) =>
            el(
              "tr",
              {},
              el("th", { scope: "row" }, label),
              kinds.map((kind) =>
                el(
                  "td",
                  { class: "numeric" },
                  kind in values ? formatNumber(values[kind], 3) : "\u2013",
                ),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}
