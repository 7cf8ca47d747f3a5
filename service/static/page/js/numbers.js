// Numbers as people type them: with a point or a comma, and with thousands marks.

// `1 650`, `1 650,5`, `1'650.5`
const SPACED = /^\d{1,3}(?:[ ']\d{3})+(?:[.,]\d*)?$/;
// `1,650.5`, `1,234,567`
const COMMA_GROUPS = /^\d{1,3}(?:(?:,\d{3})+\.\d*|(?:,\d{3}){2,})$/;
// `1.650,5`, `1.234.567`
const POINT_GROUPS = /^\d{1,3}(?:(?:\.\d{3})+,\d*|(?:\.\d{3}){2,})$/;
// English and German writers read it differently.
const AMBIGUOUS = /^[1-9]\d{0,2},\d{3}$/;
const PLAIN = /^(?:\d+[.,]?\d*|[.,]\d+)(?:e[+-]?\d+)?$/i;

/**
 * Read a typed number. Returns its `value`, or a `problem`: a sentence for a text that is no number
 * or may be one of two. `example` is a number that the sentence names.
 */
export function readTyped(text, example) {
  const [, sign, digits] = /^([+-]?) *(.*)$/s.exec(normalize(text));
  if (AMBIGUOUS.test(digits)) {
    const [whole, decimal] = ["", "."].map((mark) => sign + digits.replace(",", mark));
    return { problem: `Enter ${whole} or ${Number(decimal)}: “${text.trim()}” can be either.` };
  }
  const plain = toPlain(digits);
  if (plain === null) return { problem: `Enter a number, such as ${example}.` };
  const value = Number(sign + plain);
  if (!Number.isFinite(value)) {
    return { problem: `Enter a number that is not so large, such as ${example}.` };
  }
  return { value };
}

/** The text with ASCII signs, spaces and apostrophes. */
function normalize(text) {
  return text
    .replace(/[\u2212\u2013]/g, "-")
    .replace(/\s/g, " ")
    .replace(/\u2019/g, "'")
    .trim();
}

/** Digits without a sign in the notation of JavaScript; null for any other text. */
function toPlain(digits) {
  if (SPACED.test(digits)) return digits.replace(/[ ']/g, "").replace(",", ".");
  if (COMMA_GROUPS.test(digits)) return digits.replaceAll(",", "");
  if (POINT_GROUPS.test(digits)) return digits.replaceAll(".", "").replace(",", ".");
  return PLAIN.test(digits) ? digits.replace(",", ".") : null;
}
