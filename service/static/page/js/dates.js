// Dates as the service counts them: days since 1970-01-01. Every format but a time of day accepts
// ISO 8601, which date controls of browsers use too.

const DAY = 86_400_000;
const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const ORDERS = {
  "YYYY-MM-DD": [0, 1, 2],
  "YYYY/MM/DD": [0, 1, 2],
  "DD.MM.YYYY": [2, 1, 0],
  "DD/MM/YYYY": [2, 1, 0],
  "MM/DD/YYYY": [2, 0, 1],
  "DD-MM-YYYY": [2, 1, 0],
  "MM-DD-YYYY": [2, 0, 1],
};

/** The kind of a feature's control: `date`, `datetime-local`, `time`, or `text` for all others. */
export function controlType(feature) {
  const { format = "YYYY-MM-DD", example } = feature;
  if (format === "HH:MM") return /^\d\d:\d\d(:\d\d)?$/.test(example) ? "time" : "text";
  if (toIso(example, format) === null) return "text";
  return example.includes(":") ? "datetime-local" : "date";
}

/** Write a date of a format in ISO 8601; null if it is another text. */
export function toIso(text, format) {
  if (/^\d{4}-\d\d-\d\d$/.test(text)) return text;
  const [day, time] = splitTime(text);
  if (time === null) return null;
  const date = readDay(day, format);
  return date === null ? null : `${date}${time}`;
}

function splitTime(text) {
  const found = /^(.+?)(?:,? |T)(\d{1,2}):(\d\d)(:\d\d)?$/.exec(text);
  if (!found) return text.includes(":") ? [text, null] : [text, ""];
  return [found[1], `T${found[2].padStart(2, "0")}:${found[3]}${found[4] ?? ""}`];
}

function readDay(text, format) {
  if (/^\d{4}-\d\d-\d\d$/.test(text)) return text;
  const parts = text.split(/[-/. ]+/);
  if (format === "YYYYMMDD" && /^\d{8}$/.test(text)) {
    return `${text.slice(0, 4)}-${text.slice(4, 6)}-${text.slice(6)}`;
  }
  if (format === "DD Month YYYY") return readNamedDay(parts);
  const order = ORDERS[format];
  if (!order || parts.length !== 3) return null;
  const [year, month, day] = order.map((position) => parts[position]);
  if (!/^\d{4}$/.test(year)) return null;
  return `${year}-${month.padStart(2, "0")}-${day.padStart(2, "0")}`;
}

function readNamedDay(parts) {
  if (parts.length !== 3 || !/^\d{4}$/.test(parts[2])) return null;
  const month = MONTHS.indexOf(parts[1].slice(0, 3).toLowerCase()) + 1;
  if (month === 0 || !/^\d{1,2}$/.test(parts[0])) return null;
  return `${parts[2]}-${String(month).padStart(2, "0")}-${parts[0].padStart(2, "0")}`;
}

/** The days since 1970-01-01 of an ISO date or time of day; null if it is none. */
export function toDays(text) {
  const time = /^(\d\d):(\d\d)(?::(\d\d))?$/.exec(text);
  if (time) return (Number(time[1]) * 60 + Number(time[2]) + Number(time[3] ?? 0) / 60) / 1440;
  const date = Date.parse(text.includes("T") ? `${text}Z` : `${text}T00:00Z`);
  return Number.isNaN(date) ? null : date / DAY;
}

/** Write days since 1970-01-01 for a control of a type. */
export function fromDays(days, type) {
  if (type === "time")
    return new Date(Math.round(days * 1440) * 60_000).toISOString().slice(11, 16);
  const date = new Date(Math.round(days * 1440) * 60_000).toISOString();
  return type === "date" ? date.slice(0, 10) : date.slice(0, 16);
}
