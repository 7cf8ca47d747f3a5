// The tabs about a model: its report, and its description with metrics, features and provenance.

import { ApiError, getText } from "./api.js";
import { el, replace } from "./dom.js";
import { formatCount, formatInput, formatList, formatNumber, formatSeconds } from "./format.js";
import { renderMetrics } from "./quality.js";

const SHOWN_CLASSES = 20;

/** The training report in a frame without scripts. */
export function createReport(model) {
  const address = `${model.path}/report`;
  const container = el(
    "div",
    { class: "report" },
    el("p", { class: "soft" }, "Loading the report…"),
  );
  getText(address).then(
    () =>
      replace(
        container,
        el(
          "p",
          {},
          el(
            "a",
            { href: address, target: "_blank", rel: "noopener" },
            "Open the report in a new tab",
          ),
        ),
        el("iframe", {
          src: address,
          title: `Training report of ${model.title ?? model.name}`,
          sandbox: "",
        }),
      ),
    (error) => {
      if (!(error instanceof ApiError)) throw error;
      replace(container, el("p", { class: "soft" }, error.message));
    },
  );
  return container;
}

/** What is known of a model. */
export function createAbout(model) {
  return el(
    "div",
    { class: "stack" },
    model.evaluation && renderMetrics(model),
    model.features && renderFeatures(model.features),
    el(
      "div",
      { class: "columns" },
      renderServing(model),
      model.provenance && renderProvenance(model.provenance),
    ),
  );
}

function renderFeatures(features) {
  const columns = ["Feature", "Type", "Unit", "Training range", "Description"];
  return el(
    "section",
    { class: "card", "aria-label": "Features" },
    el("div", { class: "card-head" }, el("h2", {}, "Features")),
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Features of the model" },
      el(
        "table",
        {},
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            columns.map((title, i) =>
              el("th", { scope: "col", class: i === 4 ? "meaning" : "" }, title),
            ),
          ),
        ),
        el(
          "tbody",
          {},
          features.map((feature) =>
            el(
              "tr",
              {},
              el("th", { scope: "row" }, feature.name),
              el("td", {}, feature.type, feature.optional && ", optional"),
              el("td", {}, feature.unit ?? "\u2013"),
              el("td", {}, describeRange(feature)),
              el("td", { class: "soft meaning" }, feature.description ?? ""),
            ),
          ),
        ),
      ),
    ),
  );
}

function describeRange(feature) {
  if (feature.categories) {
    const { categories } = feature;
    return categories.length > SHOWN_CLASSES
      ? formatCount(categories.length, "category", "categories")
      : categories.join(", ");
  }
  const { minimum, maximum } = feature.type === "datetime" ? {} : (feature.trained ?? {});
  if (minimum === undefined || maximum === undefined) return "\u2013";
  return `${formatInput(minimum, 5)} to ${formatInput(maximum, 5)}`;
}

function renderServing(model) {
  const details = model.execution_details ?? {};
  const aliases = Object.entries(model.aliases ?? {}).map(([alias, { version, share, shadow }]) => {
    const part = share !== undefined ? ` (${share * 100}\u202f% of the requests)` : "";
    return `${alias}: version ${version}${part}${shadow !== undefined ? " (shadow)" : ""}`;
  });
  const labels = model.output?.labels;
  return factsCard("Serving", [
    ["Name", model.name],
    ["Task", model.task],
    [
      "Output",
      model.output && [model.output.name, model.output.unit && ` in ${model.output.unit}`],
    ],
    ["Classes", labels && listClasses(labels)],
    ["Version", model.version],
    ["Aliases", aliases.length > 0 && aliases.join("; ")],
    ["Device", model.device],
    [
      "Execution",
      model.execution && [model.execution, details.chosen_by && `, chosen by ${details.chosen_by}`],
    ],
    ["Time of a row", details.row_microseconds && formatSeconds(details.row_microseconds / 1e6)],
    [
      "Versions",
      (model.versions ?? []).map(({ version, state, reason }) =>
        el("div", {}, `${version}: ${state}`, reason && ` (${reason})`),
      ),
    ],
  ]);
}

function listClasses(labels) {
  if (labels.length <= SHOWN_CLASSES) return formatList(labels);
  return `${labels.slice(0, SHOWN_CLASSES).join(", ")} and ${labels.length - SHOWN_CLASSES} more`;
}

function renderProvenance({
  data,
  split,
  seed,
  versions,
  commit,
  created,
  duration_seconds: duration,
}) {
  const parts = Object.entries(split ?? {}).filter(([, rows]) => typeof rows === "number");
  return factsCard("Provenance", [
    ["Data", data?.source],
    [
      "Rows",
      parts.length > 0 &&
        parts.map(([part, rows]) => el("div", {}, `${part}: ${formatNumber(rows)}`)),
    ],
    [
      "Trained",
      created &&
        new Date(created).toLocaleString("en-GB", { dateStyle: "long", timeStyle: "short" }),
    ],
    ["Duration", duration && formatSeconds(duration)],
    ["Seed", seed],
    ["Commit", commit?.slice(0, 12)],
    [
      "SHA-256 of the data",
      data?.sha256 && el("span", { class: "mono" }, `${data.sha256.slice(0, 16)}…`),
    ],
    [
      "Libraries",
      versions &&
        Object.entries(versions)
          .map(([name, version]) => `${name} ${version}`)
          .join(", "),
    ],
  ]);
}

function factsCard(title, facts) {
  const isKnown = ([, value]) =>
    value !== undefined && value !== null && value !== false && value !== "";
  return el(
    "section",
    { class: "card", "aria-label": title },
    el("div", { class: "card-head" }, el("h2", {}, title)),
    el(
      "dl",
      { class: "facts" },
      facts.filter(isKnown).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
    ),
  );
}

/** The endpoints of a model. */
export function createEndpoints(model) {
  const { path } = model;
  const version = model.path.includes("/versions/")
    ? model.path.slice(`models/${encodeURIComponent(model.name)}`.length)
    : "";
  const v1 = `v1/models/${encodeURIComponent(model.name)}${version}`;
  const v2 = `v2/models/${encodeURIComponent(model.name)}${version}`;
  const hasNative = model.input !== undefined;
  const rows = [
    hasNative && [
      "POST",
      `${path}/predict`,
      model.input === "image"
        ? "Predictions for images"
        : "Predictions for rows in JSON, CSV or newline-delimited JSON",
    ],
    hasNative && ["POST", `${path}/explain`, "Predictions with explanations"],
    ["GET", path, "Description of the model"],
    model.evaluation && ["GET", `${path}/metrics`, "Metrics on held-out data, with a baseline"],
    model.provenance && ["GET", `${path}/report`, "Training report"],
    ["POST", `${v1}:predict`, "The API of TensorFlow Serving and KServe v1"],
    ["POST", `${v2}/infer`, "The Open Inference Protocol (v2)"],
  ].filter(Boolean);
  return el(
    "section",
    { class: "card", "aria-label": "Endpoints" },
    el(
      "div",
      { class: "card-head" },
      el("h2", {}, "Endpoints"),
      el("a", { href: "docs" }, "API reference"),
    ),
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Endpoints of the model" },
      el(
        "table",
        { class: "endpoints" },
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            ["Method", "Path", "Purpose"].map((title) => el("th", { scope: "col" }, title)),
          ),
        ),
        el(
          "tbody",
          {},
          rows.map(([method, address, purpose]) =>
            el(
              "tr",
              {},
              el("td", {}, el("span", { class: "method" }, method)),
              el(
                "td",
                { class: "mono" },
                method === "GET" ? el("a", { href: address }, `/${address}`) : `/${address}`,
              ),
              el("td", { class: "soft" }, purpose),
            ),
          ),
        ),
      ),
    ),
  );
}
