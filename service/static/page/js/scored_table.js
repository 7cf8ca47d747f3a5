// The rows of a scored table, as they arrive. A row is text until it is shown, which takes a tenth
// of the memory of its cells.

import { detectDialect, readNumber, RecordSplitter, splitRecord } from "./csv.js";

const SAMPLE = 65536;
const LINES = { separator: "\n", quote: "\0", lineEnd: "\n", escape: null };
// Of a file whose lines have different names.
const MAX_COLUMNS = 200;

/** The response to CSV and table files: the same table with columns of the predictions. */
export class CsvTable {
  accept = "text/csv";
  columns = [];
  rows = [];
  /** The positions of the rows with an error. */
  failed = [];
  #dialect = null;
  #splitter = null;
  #start = "";

  /** Append text of the response. */
  feed(text, { end = false } = {}) {
    let more = text;
    if (this.#splitter === null) {
      this.#start += text;
      if (!end && this.#start.length < SAMPLE) return;
      this.#dialect = detectDialect(this.#start);
      this.#splitter = new RecordSplitter(this.#dialect);
      more = this.#start;
    }
    for (const record of this.#splitter.feed(more, { end })) this.#add(record);
  }

  /** Return the cells of a row, the error last. */
  cells(row) {
    return splitRecord(this.rows[row], this.#dialect);
  }

  /** Return the number of a cell, NaN if it is none. */
  number(cell) {
    return readNumber(cell, this.#dialect.separator);
  }

  /** Return whether a row contains a text in lower case. */
  contains(row, text) {
    return this.rows[row].toLowerCase().includes(text);
  }

  #add(record) {
    if (this.columns.length === 0) {
      this.columns = splitRecord(record, this.#dialect);
      return;
    }
    // The column of errors is the last one, and usually empty.
    const mayFail = !record.endsWith(this.#dialect.separator);
    if (mayFail && splitRecord(record, this.#dialect).at(-1) !== "")
      this.failed.push(this.rows.length);
    this.rows.push(record);
  }
}

/** The response to newline-delimited JSON: a prediction for each line of the file. */
export class JsonTable {
  accept = "application/x-ndjson";
  columns = [];
  rows = [];
  failed = [];
  #features;
  #inputs = [];
  #inputColumns = [];
  #predictionColumns = [];
  #splitter = new RecordSplitter(LINES);

  /** `features` are the names of the values of a row that is an array. */
  constructor(features) {
    this.#features = features;
  }

  /** Read the lines of the file that was sent; the service ignores empty ones. */
  async readStream(stream) {
    const splitter = new RecordSplitter(LINES);
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      for (const line of splitter.feed(value ?? "", { end: done })) {
        if (line.trim() !== "") this.#inputs.push(line);
      }
      if (done) break;
    }
    this.#inputColumns = findColumns(this.#inputs.map((line) => readInput(line, this.#features)));
  }

  feed(text, { end = false } = {}) {
    for (const line of this.#splitter.feed(text, { end })) {
      if (line.startsWith('{"error":')) this.failed.push(this.rows.length);
      this.rows.push(line);
    }
    if (!end) return;
    this.#predictionColumns = findColumns(this.rows.map((line) => flatten(JSON.parse(line))));
    this.columns = [...this.#inputColumns, ...this.#predictionColumns, "error"];
  }

  cells(row) {
    const input = readInput(this.#inputs[row] ?? "{}", this.#features);
    const { error = "", ...prediction } = flatten(JSON.parse(this.rows[row]));
    return [
      ...this.#inputColumns.map((name) => cellOf(input, name)),
      ...this.#predictionColumns.map((name) => cellOf(prediction, name)),
      error,
    ];
  }

  number(cell) {
    return readNumber(cell, ",");
  }

  contains(row, text) {
    return this.cells(row).some((cell) => cell.toLowerCase().includes(text));
  }
}

/** The names of the cells of the first rows, without the error. */
function findColumns(rows) {
  const names = new Set();
  for (const row of rows) {
    for (const name of Object.keys(row)) {
      if (name !== "error" && names.size < MAX_COLUMNS) names.add(name);
    }
  }
  return [...names];
}

/** The cells of a line by name; a line that is no row is a single cell. */
function readInput(line, features) {
  let row;
  try {
    row = JSON.parse(line);
  } catch {
    return { line };
  }
  if (Array.isArray(row)) {
    return Object.fromEntries(
      row.map((value, k) => [features[k] ?? `value ${k + 1}`, toText(value)]),
    );
  }
  if (row === null || typeof row !== "object") return { line };
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [name, toText(value)]));
}

/** The cells of a prediction, with the names of the columns of CSV. */
function flatten({ probabilities = {}, interval, warnings, code: _, details: __, ...prediction }) {
  const cells = Object.entries(prediction);
  for (const [label, share] of Object.entries(probabilities))
    cells.push([`probability_${label}`, share]);
  if (interval) cells.push(["interval_low", interval.low], ["interval_high", interval.high]);
  if (warnings) cells.push(["warnings", warnings.join(" ")]);
  return Object.fromEntries(cells.map(([name, value]) => [name, toText(value)]));
}

/** A column may have the name of a method of objects, such as "constructor". */
function cellOf(cells, name) {
  return Object.hasOwn(cells, name) ? cells[name] : "";
}

function toText(value) {
  if (value === null) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
