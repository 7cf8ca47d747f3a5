// A small table of a model's own features, to try the model with.

import { quoteCell } from "./csv.js";

// Of the deciles of the training data: the middle and both sides of it.
const DECILES = [5, 2, 8, 3, 7];
const DIGITS = 6;

/** Return a table as CSV, null if the model does not describe its features. */
export function createExampleTable(model) {
  const features = model.features ?? [];
  if (features.length === 0 || features.some(({ example }) => example === undefined)) return null;
  const rows = DECILES.map((_, row) => features.map((feature) => exampleValue(feature, row)));
  const header = features.map(({ name }) => name);
  return [header, ...rows].map((cells) => `${cells.map(quoteCell).join(",")}\n`).join("");
}

/** The example of the feature in the first row, and other usual values in the rows below. */
function exampleValue(feature, row) {
  const { type, example, statistics, categories } = feature;
  if (row === 0) return example;
  if (type === "category") {
    return categories[(categories.indexOf(example) + row) % categories.length];
  }
  if (type === "boolean") return row % 2 === 1 ? !example : example;
  if ((type === "number" || type === "integer") && statistics !== undefined) {
    const value = statistics.deciles[DECILES[row]];
    return type === "integer" ? Math.round(value) : Number(value.toPrecision(DIGITS));
  }
  return example;
}
