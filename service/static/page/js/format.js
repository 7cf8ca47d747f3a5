// Numbers, shares and durations as text.

const LOCALE = "en-US";
const formats = new Map();

function formatter(options) {
  const key = JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.NumberFormat(LOCALE, options));
  return formats.get(key);
}

/** A number to read: `digits` significant ones, and all digits before the point. */
export function formatNumber(value, digits = 4) {
  if (value === null || value === undefined) return "missing";
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e12)) {
    return formatter({ notation: "scientific", maximumSignificantDigits: digits })
      .format(value)
      .replace("E", "e");
  }
  const before = size < 1 ? 0 : Math.floor(Math.log10(size)) + 1;
  const options =
    size >= 1
      ? { maximumFractionDigits: Math.max(0, digits - before) }
      : { maximumSignificantDigits: digits };
  return formatter(options).format(value).replace("-", "\u2212");
}

/** A value of a feature or an axis: without a separator in four digits, since it may be a year. */
export function formatInput(value, digits = 4) {
  return formatNumber(value, digits).replace(/^(\u2212?\d),(\d{3})$/, "$1$2");
}

/** A number with its sign, to add to another number. */
export function formatSigned(value, digits = 4) {
  return value > 0 ? `+${formatNumber(value, digits)}` : formatNumber(value, digits);
}

/** A share of one as percent: more digits near 0 and 1, where they matter. */
export function formatShare(share) {
  const percent = share * 100;
  if (percent > 0 && percent < 0.01) return "<0.01\u202f%";
  if (percent < 100 && percent > 99.99) return ">99.99\u202f%";
  const digits = percent < 1 || percent > 99 ? 2 : 1;
  return `${formatter({ maximumFractionDigits: digits }).format(percent)}\u202f%`;
}

/** A number with its unit. */
export function formatQuantity(value, unit, digits = 4) {
  const text = formatNumber(value, digits);
  return unit && value !== null && value !== undefined ? `${text}\u00a0${unit}` : text;
}

/** A duration. */
export function formatSeconds(seconds) {
  if (!Number.isFinite(seconds)) return "\u2013";
  if (seconds < 0.001) return `${formatNumber(seconds * 1e6, 3)}\u202f\u00b5s`;
  if (seconds < 1) return `${formatNumber(seconds * 1e3, 3)}\u202fms`;
  return `${formatNumber(seconds, 3)}\u202fs`;
}

/** A number of bytes. */
export function formatBytes(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let size = bytes;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${formatNumber(size, 3)}\u202f${units[unit]}`;
}

/** `1 row`, `2 rows`, `1,000 rows`. */
export function formatCount(count, one, many = `${one}s`) {
  return `${formatter({}).format(count)} ${count === 1 ? one : many}`;
}

/** `a, b and c`. */
export function formatList(items) {
  if (items.length < 2) return items.join("");
  return `${items.slice(0, -1).join(", ")} and ${items[items.length - 1]}`;
}
