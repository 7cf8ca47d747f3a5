// The text format of Prometheus.

const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPES = { n: "\n", "\\": "\\", '"': '"' };

/** Return the samples as `{name, labels, value}`. */
export function parseExposition(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, key, value] of (found[2] ?? "").matchAll(LABEL)) {
      labels[key] = value.replace(/\\(.)/g, (_, letter) => ESCAPES[letter] ?? letter);
    }
    samples.push({ name: found[1], labels, value: readNumber(found[3]) });
  }
  return samples;
}

function readNumber(text) {
  if (text === "+Inf") return Infinity;
  return text === "-Inf" ? -Infinity : Number(text);
}

/** The sum of the samples of a name whose labels have these values. */
export function total(samples, name, labels = {}) {
  let sum = 0;
  for (const sample of samples) {
    const isWanted = Object.entries(labels).every(([key, value]) => sample.labels[key] === value);
    if (sample.name === name && isWanted) sum += sample.value;
  }
  return sum;
}
