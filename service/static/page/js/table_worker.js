// Scores a table in a worker, so that a million rows do not block the page.
//
// Messages to it: `score`, `arrange` (order and filter of the rows), `page` (cells of some rows).
// Messages from it: `inspected` (the headers of the request), `progress`, `done`, `failed`,
// `arranged`, `page`.

import { ApiError, post } from "./api.js";
import { inspect } from "./inspection.js";
import { CsvTable, JsonTable } from "./scored_table.js";

const PROGRESS_MS = 150;
const PIECE_BYTES = 8 * 1024 * 1024;
const JSON_LINES = "application/x-ndjson";

let table = null;
// The order of the rows, null for that of the table.
let order = null;
const handlers = { score, arrange, page: sendPage };

self.addEventListener("message", ({ data }) => handlers[data.type](data));

async function score({ url, file, contentType, features }) {
  try {
    table = contentType === JSON_LINES ? new JsonTable(features) : new CsvTable();
    const { headers, content, note } = await inspect(file, contentType);
    self.postMessage({ type: "inspected", headers, note });
    const response = await post(url, file, { headers: { ...headers, accept: table.accept } });
    if (contentType === JSON_LINES) await table.readStream(content());
    const parts = await readResponse(response);
    const blob = new Blob(parts, { type: response.headers.get("content-type") ?? table.accept });
    const { columns, rows, failed } = table;
    self.postMessage({ type: "done", columns, count: rows.length, errors: failed.length, blob });
  } catch (error) {
    const message =
      error instanceof ApiError ? error.message : `The response is incomplete (${error.message}).`;
    self.postMessage({ type: "failed", message });
  }
}

/** Read the rows of a response; return its bytes for the download. */
async function readResponse(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const parts = [];
  let pieces = [];
  let pieceBytes = 0;
  let reported = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    pieceBytes += value.length;
    if (pieceBytes >= PIECE_BYTES) {
      // The browser may move a blob to its disk.
      parts.push(new Blob(pieces));
      pieces = [];
      pieceBytes = 0;
    }
    table.feed(decoder.decode(value, { stream: true }));
    if (performance.now() - reported > PROGRESS_MS) {
      reported = performance.now();
      self.postMessage({ type: "progress", count: table.rows.length, errors: table.failed.length });
    }
  }
  table.feed(decoder.decode(), { end: true });
  return [...parts, ...pieces];
}

/**
 * Choose the order and the filter of the rows: `column` (its position; null is the order of the
 * table), `descending`, `errorsFirst`, and `text` that a row must contain.
 */
function arrange({ column, descending, errorsFirst, text, id }) {
  order = Uint32Array.from(table.rows, (_, row) => row);
  if (text !== "") {
    const wanted = text.toLowerCase();
    order = order.filter((row) => table.contains(row, wanted));
  }
  if (column !== null) sortBy(column, descending);
  if (errorsFirst) {
    const failed = new Uint8Array(table.rows.length);
    for (const row of table.failed) failed[row] = 1;
    const invalid = order.filter((row) => failed[row] === 1);
    const valid = order.filter((row) => failed[row] === 0);
    order.set(invalid);
    order.set(valid, invalid.length);
  }
  self.postMessage({ type: "arranged", count: order.length, id });
}

/** Sort the rows by a column; empty cells come last in either direction. */
function sortBy(column, descending) {
  const keys = rankCells(table.rows.map((_, row) => table.cells(row)[column] ?? ""));
  const sign = descending ? -1 : 1;
  order.sort((a, b) => {
    const isFirstEmpty = Number.isNaN(keys[a]);
    const isSecondEmpty = Number.isNaN(keys[b]);
    if (isFirstEmpty || isSecondEmpty) return isFirstEmpty - isSecondEmpty || a - b;
    return sign * (keys[a] - keys[b]) || a - b;
  });
}

/** Numbers by which cells are sorted: their values, or else their rank among the words. */
function rankCells(cells) {
  const keys = Float64Array.from(cells, (cell) => table.number(cell));
  const isNumeric = cells.every((cell, row) => cell.trim() === "" || !Number.isNaN(keys[row]));
  if (isNumeric) return keys;
  const { compare } = new Intl.Collator(undefined, { numeric: true });
  const ranks = new Map([...new Set(cells)].sort(compare).map((cell, rank) => [cell, rank]));
  return keys.map((_, row) => (cells[row] === "" ? NaN : ranks.get(cells[row])));
}

/** Send the cells of some rows, each with its number in the table. */
function sendPage({ start, count, id }) {
  const shown = [...order.slice(start, start + count)];
  const rows = shown.map((row) => ({ number: row + 1, cells: table.cells(row) }));
  self.postMessage({ type: "page", start, rows, id });
}
