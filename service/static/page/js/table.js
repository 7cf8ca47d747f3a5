// The panel for tables: score a file, and read, sort, filter and download the scored rows.

import { absoluteUrl } from "./api.js";
import { readNumber } from "./csv.js";
import { clear, el, newId, replace } from "./dom.js";
import { acceptDrops, createDropZone } from "./drop.js";
import { createExampleTable } from "./example_table.js";
import { formatBytes, formatCount, formatNumber } from "./format.js";
import { BINARY, CSV } from "./inspection.js";

const PAGE_ROWS = 100;
const FILTER_MS = 200;
const MAX_SHOWN_CHARACTERS = 400;
const TYPES = {
  csv: CSV,
  tsv: CSV,
  txt: CSV,
  ndjson: "application/x-ndjson",
  jsonl: "application/x-ndjson",
  parquet: "application/vnd.apache.parquet",
  arrow: "application/vnd.apache.arrow.file",
  feather: "application/vnd.apache.arrow.file",
  xlsx: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
  // The service recognizes them by their first bytes.
  xlsm: BINARY,
  xlsb: BINARY,
  xls: "application/vnd.ms-excel",
  ods: "application/vnd.oasis.opendocument.spreadsheet",
};
const COMPRESSED = /\.gz$/i;
const EXTENSION = /\.([a-z0-9]+)$/i;
const MAIN_COLUMN = /^(?:predicted_)*(?:label|value)$/;
const CLASS_COLUMN = /^(?:predicted_)*(?:probability|label)_/;

// The worker of the last table; a page shows one model at a time.
let worker = null;

/** Create the panel; `onRequest` gets `{path, contentType, file | body}` of each request. */
export function createTablePanel(model, { onRequest = () => {}, signal } = {}) {
  stopWorker();
  signal?.addEventListener("abort", stopWorker);
  const status = el("p", { class: "status", role: "status" });
  const note = el("p", { class: "note", role: "status", hidden: true });
  const result = el("div", { class: "table-result" });
  const cancel = el("button", { type: "button", hidden: true }, "Cancel");
  const features = (model.features ?? []).map(({ name }) => name);
  const path = `${model.path}/predict`;
  let download = null;

  const begin = (file, contentType, body) => {
    stopWorker();
    if (download !== null) URL.revokeObjectURL(download);
    download = null;
    clear(result);
    note.hidden = true;
    showStatus(status, `Scoring ${file.name} (${formatBytes(file.size)})…`);
    cancel.hidden = false;
    if (body !== undefined) onRequest({ path, contentType, body, isTable: true });
    worker = new Worker(new URL("./table_worker.js", import.meta.url), { type: "module" });
    worker.addEventListener("message", ({ data }) => listeners[data.type]?.(data, file, body));
    worker.addEventListener("error", () =>
      listeners.failed({ message: "This browser cannot show the table." }),
    );
    worker.postMessage({ type: "score", url: absoluteUrl(path), file, contentType, features });
  };
  const listeners = {
    inspected: ({ headers, note: text }, file, body) => {
      note.textContent = text;
      note.hidden = text === "";
      if (body !== undefined) return;
      const contentType = headers["content-type"];
      onRequest({ path, contentType, encoding: headers["content-encoding"], file, isTable: true });
    },
    progress: ({ count, errors }) => {
      const failed = errors > 0 ? `, ${formatCount(errors, "error")}` : "";
      showStatus(status, `Scoring: ${formatCount(count, "row")}${failed} so far…`);
    },
    failed: ({ message }) => {
      cancel.hidden = true;
      showStatus(status, message, "error");
      stopWorker();
    },
    done: ({ columns, count, errors, blob }, file) => {
      cancel.hidden = true;
      const failed = errors > 0 ? `, ${formatCount(errors, "error")}` : ", no errors";
      showStatus(status, `${formatCount(count, "row")}${failed}`, errors > 0 ? "warning" : "done");
      download = URL.createObjectURL(blob);
      const link = el(
        "a",
        { class: "button-link", href: download, download: scoredName(file.name, blob.type) },
        `Download (${formatBytes(blob.size)})`,
      );
      replace(result, createViewer({ worker, columns, count, errors, link, name: file.name }));
    },
  };
  cancel.addEventListener("click", () => {
    stopWorker();
    cancel.hidden = true;
    showStatus(status, "Cancelled.");
  });

  const onFiles = (files) => {
    if (files.length > 1) {
      showStatus(status, `One table at a time, please: ${files.length} files were dropped.`, "error");
      return;
    }
    begin(files[0], findType(files[0].name));
  };
  const zone = createDropZone({
    title: "Drop a table here",
    button: "Choose a file",
    note: "CSV or newline-delimited JSON; Parquet, Arrow and Excel if the service has the extra for them",
    accept: [...Object.keys(TYPES), "gz"]
      .map((extension) => `.${extension}`)
      .join(","),
    onFiles,
  });
  const panel = el(
    "section",
    { class: "card table-panel", "aria-label": "Score a table" },
    el("div", { class: "card-head" }, el("h2", {}, "Score a table")),
    zone,
    createExampleLink(model, begin),
    el("div", { class: "status-row" }, status, cancel),
    note,
    result,
  );
  acceptDrops(panel, onFiles, signal);
  return panel;
}

function stopWorker() {
  worker?.terminate();
  worker = null;
}

function showStatus(status, text, kind = "busy") {
  status.className = `status status-${kind}`;
  status.textContent = text;
}

function findType(name) {
  const extension = EXTENSION.exec(name.replace(COMPRESSED, ""))?.[1].toLowerCase();
  return extension === undefined ? CSV : (TYPES[extension] ?? BINARY);
}

function scoredName(name, type) {
  const extension = type.startsWith(TYPES.ndjson) ? "ndjson" : "csv";
  return `${name.replace(COMPRESSED, "").replace(EXTENSION, "")}-scored.${extension}`;
}

function createExampleLink(model, begin) {
  const text = createExampleTable(model);
  if (text === null) return null;
  const file = () => new File([text], "example.csv", { type: CSV });
  return el(
    "p",
    { class: "soft" },
    "No table at hand? ",
    el(
      "button",
      { type: "button", class: "link", onclick: () => begin(file(), CSV, text) },
      "Score an example table",
    ),
  );
}

/** The scored rows in pages, with the controls that order and filter them. */
function createViewer({ worker: source, columns, count, errors, link, name }) {
  const layout = arrangeColumns(columns, errors);
  const view = { column: null, descending: false, errorsFirst: errors > 0, text: "" };
  const table = el("table", { class: "rows" });
  const caption = el("caption", { class: "offscreen" }, `Scored rows of ${name}`);
  const head = el("thead");
  const body = el("tbody");
  table.append(caption, head, body);
  const position = el("p", { class: "position", role: "status" });
  let shown = count;
  let start = 0;
  let lastId = 0;

  const request = (message) => source.postMessage({ ...message, id: (lastId += 1) });
  const arrange = () => {
    position.textContent = "Sorting…";
    request({ type: "arrange", ...view });
  };
  const turnTo = (row) => {
    start = Math.max(0, Math.min(row, Math.floor(Math.max(shown - 1, 0) / PAGE_ROWS) * PAGE_ROWS));
    request({ type: "page", start, count: PAGE_ROWS });
  };
  const sortBy = (column) => {
    // The third press restores the order of the table.
    const isThird = view.column === column && view.descending;
    view.descending = view.column === column && !isThird;
    view.column = isThird ? null : column;
    renderHead(head, layout, view, sortBy);
    arrange();
  };
  const pager = createPager({
    onTurn: (step) => turnTo(step === null ? Infinity : step === 0 ? 0 : start + step * PAGE_ROWS),
  });

  source.addEventListener("message", ({ data }) => {
    if (data.id !== lastId) return;
    if (data.type === "arranged") {
      shown = data.count;
      turnTo(0);
    } else if (data.type === "page") {
      renderRows(body, data.rows, layout);
      const last = data.start + data.rows.length;
      position.textContent =
        shown === 0
          ? "No row contains this text."
          : `Rows ${formatNumber(data.start + 1)} to ${formatNumber(last)} of ${formatNumber(shown)}`;
      pager.element.hidden = shown <= PAGE_ROWS;
      pager.update({ isFirst: data.start === 0, isLast: last >= shown });
    }
  });
  renderHead(head, layout, view, sortBy);
  arrange();
  return [
    createControls({ errors, view, arrange, link }),
    el(
      "div",
      { class: "rows-scroll", role: "region", tabindex: "0", "aria-label": "Scored rows" },
      table,
    ),
    el("div", { class: "pager-row" }, position, pager.element),
  ];
}

/** The columns in the order in which they are shown: prediction, table, and class probabilities. */
function arrangeColumns(columns, errors) {
  const last = columns.length - 1;
  const main = columns.findLastIndex((column) => MAIN_COLUMN.test(column));
  const first = main === -1 ? last : main;
  const groups = [
    { title: "Prediction", kind: "predicted", columns: [] },
    { title: "Table", kind: "", columns: [] },
    { title: "Class probabilities", kind: "predicted", columns: [] },
  ];
  columns.forEach((name, position) => {
    if (position === last && errors === 0) return;
    const group = position < first ? 1 : CLASS_COLUMN.test(name) ? 2 : 0;
    const column = { name, position, isError: position === last };
    // First, where errors are seen without scrolling.
    if (column.isError) groups[group].columns.unshift(column);
    else groups[group].columns.push(column);
  });
  return groups.filter((group) => group.columns.length > 0);
}

function createControls({ errors, view, arrange, link }) {
  const controls = el("div", { class: "table-controls" });
  if (errors > 0) {
    const checkbox = el("input", { type: "checkbox", checked: view.errorsFirst });
    checkbox.addEventListener("change", () => {
      view.errorsFirst = checkbox.checked;
      arrange();
    });
    controls.append(el("label", { class: "check" }, checkbox, "Errors first"));
  }
  const id = newId("filter");
  const filter = el("input", { type: "search", id, class: "filter-input" });
  let timer;
  filter.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      view.text = filter.value;
      arrange();
    }, FILTER_MS);
  });
  controls.append(
    el("span", { class: "filter" }, el("label", { for: id }, "Rows that contain"), filter),
    link,
  );
  return controls;
}

function createPager({ onTurn }) {
  const button = (text, label, step) =>
    el("button", { type: "button", "aria-label": label, onclick: () => onTurn(step) }, text);
  const back = [button("«", "First rows", 0), button("‹", "Previous rows", -1)];
  const forward = [button("›", "Next rows", 1), button("»", "Last rows", null)];
  return {
    element: el("div", { class: "pager", role: "group", "aria-label": "Pages" }, back, forward),
    update({ isFirst, isLast }) {
      // A disabled button loses the focus, so that it is only marked.
      for (const item of back) item.setAttribute("aria-disabled", String(isFirst));
      for (const item of forward) item.setAttribute("aria-disabled", String(isLast));
    },
  };
}

function renderHead(head, layout, view, sortBy) {
  const focused = head.contains(document.activeElement)
    ? document.activeElement.dataset.column
    : null;
  const groups = layout.map(({ title, kind, columns }) =>
    el("th", { scope: "colgroup", colspan: columns.length, class: kind }, title),
  );
  const names = layout.flatMap(({ kind, columns }) =>
    columns.map((column) => {
      const isSorted = view.column === column.position;
      const mark = isSorted ? (view.descending ? "▼" : "▲") : "";
      return el(
        "th",
        {
          scope: "col",
          class: kind,
          "aria-sort": isSorted ? (view.descending ? "descending" : "ascending") : null,
        },
        el(
          "button",
          {
            type: "button",
            class: "sort",
            dataset: { column: column.position },
            onclick: () => sortBy(column.position),
          },
          column.name,
          el("span", { class: "sort-mark", "aria-hidden": "true" }, mark),
        ),
      );
    }),
  );
  replace(
    head,
    el("tr", { class: "groups" }, el("td"), groups),
    el("tr", {}, el("th", { scope: "col", class: "row-number" }, "Row"), names),
  );
  if (focused !== null) head.querySelector(`[data-column="${focused}"]`)?.focus();
}

function renderRows(body, rows, layout) {
  replace(
    body,
    rows.map(({ number, cells }) => {
      const failed = cells.at(-1) !== "";
      return el(
        "tr",
        { class: failed ? "row-error" : null },
        el("th", { scope: "row", class: "row-number" }, formatNumber(number)),
        layout.flatMap(({ kind, columns }) =>
          columns.map(({ position, isError }) => renderCell(cells[position] ?? "", kind, isError)),
        ),
      );
    }),
  );
}

function renderCell(cell, kind, isError) {
  const isNumber = !Number.isNaN(readNumber(cell, ";"));
  const text =
    cell.length > MAX_SHOWN_CHARACTERS ? `${cell.slice(0, MAX_SHOWN_CHARACTERS)}…` : cell;
  const kinds = [kind, isError ? "error-cell" : isNumber ? "numeric" : ""];
  return el("td", { class: kinds.filter(Boolean).join(" ") }, text);
}
