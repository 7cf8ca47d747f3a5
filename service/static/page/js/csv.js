// The records of a CSV file as it arrives, as the service writes it.

const SEPARATORS = ",;\t|";
// The service writes the column of errors last.
const HEADER_END = /([,;\t|])(["']?)(?:predicted_)*error\2\r?(?:\n|$)/;
const SAMPLE = 65536;

/**
 * Find the separator, the quotes and the line ends of a response by its beginning, which has the
 * header. A response repeats those of its table.
 */
export function detectDialect(text) {
  const sample = text.slice(0, SAMPLE);
  const lineEnd = sample.includes("\n") || !sample.includes("\r") ? "\n" : "\r";
  const lines = lineEnd === "\r" ? sample.replaceAll("\r", "\n") : sample;
  const separator =
    HEADER_END.exec(lines)?.[1] ?? mostFrequent(lines.slice(0, lines.indexOf("\n")));
  const quote = findQuote(lines);
  // A backslash escapes a quote that does not end its cell.
  const escapes = new RegExp(`\\\\${quote}[^${SEPARATORS}\\r\\n${quote}]`).test(lines);
  return { separator, quote, lineEnd, escape: escapes ? "\\" : null };
}

function mostFrequent(line) {
  const count = (separator) => line.split(separator).length;
  return [...SEPARATORS].reduce((best, next) => (count(next) > count(best) ? next : best));
}

/** A single quote if it is around many cells, and hardly any cell has a double quote. */
function findQuote(lines) {
  const count = (quote) =>
    [...SEPARATORS, "\n"].reduce(
      (sum, mark) => sum + lines.split(mark + quote).length + lines.split(quote + mark).length - 2,
      0,
    );
  const single = count("'");
  return single >= lines.split("\n").length - 1 && single > 4 * count('"') ? "'" : '"';
}

/** Splits text that arrives in pieces into records; cells in quotes may contain line ends. */
export class RecordSplitter {
  #dialect;
  #rest = "";

  constructor(dialect) {
    this.#dialect = dialect;
  }

  /** Return the complete records of the text so far, without their line ends and empty lines. */
  feed(text, { end = false } = {}) {
    const { lineEnd, quote } = this.#dialect;
    const all = this.#rest === "" ? text : this.#rest + text;
    const records = [];
    let start = 0;
    let nextQuote = all.indexOf(quote);
    while (start < all.length) {
      let stop = all.indexOf(lineEnd, start);
      if (nextQuote !== -1 && nextQuote < start) nextQuote = all.indexOf(quote, start);
      if (nextQuote !== -1 && (stop === -1 || nextQuote < stop)) {
        stop = findRecordEnd(all, start, this.#dialect);
      }
      // The line end of the last record may be missing.
      if (stop === -1 && !end) break;
      const record = all.slice(start, stop === -1 ? all.length : stop);
      if (record !== "" && record !== "\r")
        records.push(record.endsWith("\r") ? record.slice(0, -1) : record);
      start = stop === -1 ? all.length : stop + 1;
    }
    this.#rest = all.slice(start);
    return records;
  }
}

/** Return the position of the line end after a record, -1 if it has not arrived. */
function findRecordEnd(text, start, { separator, quote, lineEnd, escape }) {
  let position = start;
  while (position < text.length) {
    if (text[position] === quote) {
      const close = findCellEnd(text, position + 1, { separator, quote, escape });
      if (close === -1) return -1;
      position = close + 1;
    }
    while (position < text.length && text[position] !== separator) {
      if (text[position] === lineEnd) return position;
      position += 1;
    }
    position += 1;
  }
  return -1;
}

/**
 * Return the position of the quote that closes a cell: one before a separator or a line end.
 * Another quote in it is doubled, escaped, or was not doubled in the table.
 */
function findCellEnd(text, start, { separator, quote, escape }) {
  let position = start;
  while (position < text.length) {
    const char = text[position];
    if (escape !== null && char === escape) {
      position += 2;
      continue;
    }
    if (char === quote) {
      const next = text[position + 1];
      if (next === quote) {
        position += 2;
        continue;
      }
      if (next === undefined || next === separator || next === "\n" || next === "\r")
        return position;
    }
    position += 1;
  }
  return -1;
}

/** Return the cells of one record. */
export function splitRecord(record, dialect) {
  const { separator, quote, escape } = dialect;
  if (!record.includes(quote)) return record.split(separator);
  const cells = [];
  let position = 0;
  while (position <= record.length) {
    if (record[position] === quote) {
      const close = findCellEnd(record, position + 1, dialect);
      const stop = close === -1 ? record.length : close;
      let cell = record.slice(position + 1, stop).replaceAll(quote + quote, quote);
      if (escape !== null) cell = cell.replaceAll(escape + quote, quote);
      cells.push(cell);
      position = stop + 2;
    } else {
      const next = record.indexOf(separator, position);
      const stop = next === -1 ? record.length : next;
      cells.push(record.slice(position, stop));
      position = stop + 1;
    }
  }
  return cells;
}

/** Return a cell as CSV, in quotes if it needs them. */
export function quoteCell(value) {
  const cell = String(value);
  return /[",\r\n]|^\s|\s$/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

/** The number of a cell with a decimal point, or with a comma that separates no cells; else NaN. */
export function readNumber(cell, separator) {
  const text = cell.trim();
  if (text === "") return NaN;
  const number = Number(text);
  if (!Number.isNaN(number) || separator === ",") return number;
  return /^[+-]?\d*,\d+(?:[eE][+-]?\d+)?$/.test(text) ? Number(text.replace(",", ".")) : NaN;
}
