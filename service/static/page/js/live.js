// Load and latency of the service, from the difference of two scrapes of its metrics.

import { ApiError, getText } from "./api.js";
import { drawSparkline } from "./chart.js";
import { el, replace } from "./dom.js";
import { parseExposition, total } from "./exposition.js";
import { formatBytes, formatNumber, formatSeconds } from "./format.js";
import { poll } from "./watch.js";

const POLL_SECONDS = 2;
const HISTORY = 60;
const PHASES = [
  ["decode", "Decode"],
  ["queue", "Wait"],
  ["compute", "Compute"],
  ["encode", "Encode"],
];

/** Show the panel in a container until the signal aborts. */
export function showLive(container, signal) {
  document.title = "Live \u00b7 Onward";
  const body = el("div", { class: "stack" }, el("p", { class: "soft" }, "Loading…"));
  replace(
    container,
    el(
      "div",
      { class: "stack" },
      el(
        "header",
        { class: "list-head" },
        el("h1", {}, "Live"),
        el(
          "p",
          { class: "lead" },
          `Predictions of all clients, every ${POLL_SECONDS} seconds. `,
          el("a", { href: "metrics" }, "All metrics"),
          " are in the format of Prometheus.",
        ),
      ),
      body,
    ),
  );
  const history = [];
  let before = null;
  const refresh = async () => {
    try {
      const samples = parseExposition(await getText("metrics", { signal }));
      const scrape = { time: performance.now() / 1000, samples };
      const all = compare({ time: scrape.time - 1, samples: [] }, scrape);
      // The first scrape has nothing to be compared with.
      const last = compare(before ?? scrape, scrape);
      if (before !== null) history.push(last);
      if (history.length > HISTORY) history.shift();
      before = scrape;
      replace(
        body,
        renderTiles(last, history, samples),
        renderPhases(last, all),
        renderModels(last, samples),
      );
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      // A proxy may keep metrics to itself.
      if (before === null) replace(body, el("p", { class: "soft" }, error.message));
    }
  };
  poll(refresh, POLL_SECONDS, signal);
}

/** Rates and means between two scrapes. */
function compare(before, now) {
  const seconds = Math.max(now.time - before.time, 1e-3);
  const difference = (name, labels) =>
    Math.max(total(now.samples, name, labels) - total(before.samples, name, labels), 0);
  const statistics = (labels) => {
    const requests = difference("onward_requests_total", labels);
    const succeeded = difference("onward_requests_total", { ...labels, outcome: "ok" });
    const timed = difference("onward_phase_seconds_count", { ...labels, phase: "compute" });
    const runs = difference("onward_batch_rows_count", labels);
    const phases = Object.fromEntries(
      PHASES.map(([phase]) => [
        phase,
        timed && difference("onward_phase_seconds_sum", { ...labels, phase }) / timed,
      ]),
    );
    return {
      requests: requests / seconds,
      errors: (requests - succeeded) / seconds,
      rows: difference("onward_rows_total", labels) / seconds,
      batch: runs ? difference("onward_batch_rows_sum", labels) / runs : 0,
      latency: PHASES.reduce((sum, [phase]) => sum + phases[phase], 0),
      phases,
    };
  };
  const models = [
    ...new Set(
      now.samples
        .filter(({ name }) => name === "onward_requests_total")
        .map(({ labels }) => labels.model),
    ),
  ];
  return {
    ...statistics({}),
    rejected: difference("onward_rejected_requests_total") / seconds,
    models: models.filter(Boolean).map((model) => ({ model, ...statistics({ model }) })),
  };
}

function renderTiles(last, history, samples) {
  const recent = (read) => history.map(read);
  const ready = total(samples, "onward_model_ready");
  return el(
    "div",
    { class: "tiles" },
    tile(
      "Requests per second",
      formatNumber(last.requests, 3),
      recent((one) => one.requests),
    ),
    tile(
      "Latency in the service",
      last.latency ? formatSeconds(last.latency) : "\u2013",
      recent((one) => one.latency),
    ),
    tile(
      "Rows per run",
      last.batch ? formatNumber(last.batch, 3) : "\u2013",
      recent((one) => one.batch),
    ),
    tile(
      "Errors per second",
      formatNumber(last.errors + last.rejected, 3),
      recent((one) => one.errors + one.rejected),
    ),
    tile(
      "Rows per second",
      formatNumber(last.rows, 3),
      recent((one) => one.rows),
    ),
    tile(
      "Models ready",
      formatNumber(ready),
      null,
      `${formatBytes(total(samples, "onward_memory_bytes"))} of memory`,
    ),
  );
}

function tile(title, value, values, note) {
  return el(
    "div",
    { class: "tile" },
    el("p", { class: "tile-name" }, title),
    el("p", { class: "tile-value" }, value),
    values ? drawSparkline(values, `${title}, recently`) : el("p", { class: "soft" }, note),
  );
}

/** The mean of the last seconds or, without a prediction in them, of all predictions. */
function renderPhases(recent, all) {
  const { phases, latency } = recent.latency > 0 ? recent : all;
  return el(
    "section",
    { class: "card", "aria-label": "Time of a prediction" },
    el(
      "div",
      { class: "card-head" },
      el("h2", {}, "Time of a prediction"),
      el(
        "span",
        { class: "soft" },
        recent.latency > 0 ? "mean of the last seconds" : "mean since the start",
      ),
    ),
    latency === 0
      ? el("p", { class: "soft" }, "No prediction yet.")
      : el(
          "div",
          { class: "bars", role: "list" },
          PHASES.map(([phase, title]) => {
            const bar = el("span", { class: "bar-fill" });
            bar.style.width = `${(phases[phase] / latency) * 100}%`;
            return el(
              "div",
              { class: "bar bar-predicted", role: "listitem" },
              el("span", { class: "bar-label" }, title),
              el("span", { class: "bar-track", "aria-hidden": "true" }, bar),
              el("span", { class: "bar-value" }, formatSeconds(phases[phase])),
            );
          }),
        ),
  );
}

function renderModels({ models }, samples) {
  const sorted = models
    .map((one) => ({ ...one, all: total(samples, "onward_requests_total", { model: one.model }) }))
    .sort((a, b) => b.requests - a.requests || b.all - a.all);
  const columns = [
    "Model",
    "Requests/s",
    "Rows/s",
    "Latency",
    "Rows per run",
    "Errors/s",
    "Requests in total",
  ];
  return el(
    "section",
    { class: "card", "aria-label": "Models" },
    el("div", { class: "card-head" }, el("h2", {}, "Models")),
    sorted.length === 0
      ? el("p", { class: "soft" }, "No prediction yet.")
      : el(
          "div",
          { class: "scroll", tabindex: 0, role: "region", "aria-label": "Load of each model" },
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
                  el("th", { scope: "col", class: i ? "numeric" : "" }, title),
                ),
              ),
            ),
            el("tbody", {}, sorted.map(renderRow)),
          ),
        ),
  );
}

function renderRow({ model, requests, rows, latency, batch, errors, all }) {
  const values = [
    formatNumber(requests, 3),
    formatNumber(rows, 3),
    latency ? formatSeconds(latency) : "\u2013",
    batch ? formatNumber(batch, 3) : "\u2013",
    formatNumber(errors, 3),
    formatNumber(all, 6),
  ];
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("a", { href: `#/models/${encodeURIComponent(model)}` }, model)),
    values.map((value) => el("td", { class: "numeric" }, value)),
  );
}
