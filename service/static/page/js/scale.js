// The range of a feature as an axis, for its slider and its curve.

import { formatInput, formatNumber } from "./format.js";

// Above this ratio of the longest value to a usual one, a linear axis would show one end only.
const SKEWED = 25;

/** The range of the training set, or else the allowed one; null if an end is open. */
export function rangeOf(feature) {
  for (const range of [feature.trained, feature.allowed]) {
    const { minimum, maximum } = range ?? {};
    if (Number.isFinite(minimum) && Number.isFinite(maximum) && minimum < maximum) {
      return { minimum, maximum };
    }
  }
  return null;
}

/**
 * Create an axis from `minimum` to `maximum`: linear, or logarithmic for a long tail.
 * `toShare` and `fromShare` convert between values and 0 to 1 along the axis.
 */
export function createScale({ minimum, maximum }, feature = {}) {
  const width = maximum - minimum;
  const deciles = feature.statistics?.deciles;
  const usual = deciles ? deciles[5] - minimum : 0;
  const isLogarithmic = usual > 0 && deciles[8] > deciles[2] && width / usual > SKEWED;
  if (!isLogarithmic) {
    return {
      minimum,
      maximum,
      isLogarithmic,
      toShare: (value) => (value - minimum) / width,
      fromShare: (share) => minimum + share * width,
      ticks: (count) => linearTicks(minimum, maximum, count),
    };
  }
  const length = Math.log1p(width / usual);
  const toShare = (value) => Math.log1p((value - minimum) / usual) / length;
  return {
    minimum,
    maximum,
    isLogarithmic,
    toShare,
    fromShare: (share) => minimum + usual * Math.expm1(share * length),
    ticks: (count) => logarithmicTicks(minimum, maximum, toShare, count),
  };
}

/** Round numbers within a range, about `count` of them. */
export function linearTicks(minimum, maximum, count) {
  const width = maximum - minimum;
  if (!(width > 0)) return [minimum];
  const step = roundStep(width / Math.max(count, 1));
  const ticks = ticksOf(minimum, maximum, step);
  return ticks.length > 1 ? ticks : ticksOf(minimum, maximum, roundStep(step / 2.5));
}

/** The smallest of 1, 2 and 5 times a power of ten that is not below a number. */
function roundStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].find((factor) => factor * power >= rough * (1 - 1e-9)) * power;
}

function ticksOf(minimum, maximum, step) {
  const ticks = [];
  for (let i = Math.ceil(minimum / step - 1e-9); i * step <= maximum + step * 1e-9; i += 1) {
    ticks.push(Number((i * step).toPrecision(12)));
  }
  return ticks;
}

function logarithmicTicks(minimum, maximum, toShare, count) {
  const candidates = [];
  for (let power = -6; power <= 15; power += 1) {
    for (const factor of [1, 2, 5]) {
      const value = factor * 10 ** power;
      if (value >= minimum && value <= maximum) candidates.push(value);
    }
  }
  if (minimum <= 0) candidates.unshift(0);
  const ticks = [];
  for (const value of candidates) {
    const share = toShare(value);
    if (ticks.length === 0 || share - toShare(ticks[ticks.length - 1]) >= 0.8 / count) {
      ticks.push(value);
    }
  }
  return ticks;
}

/** A step for a number field and its slider: about 200 in a range, as a power of ten times 1, 2, 5. */
export function stepOf({ minimum, maximum }, isInteger) {
  const step = roundStep((maximum - minimum) / 400);
  return isInteger ? Math.max(1, Math.round(step)) : step;
}

/** Round to a step, without the digits that floating point adds. */
export function roundTo(value, step) {
  return Number((Math.round(value / step) * step).toPrecision(12));
}

/** Round a value of a logarithmic axis to three digits. */
export function roundDigits(value, isInteger) {
  const rounded = Number(value.toPrecision(3));
  return isInteger ? Math.round(rounded) : rounded;
}

/** A tick's text: short for large numbers. */
export function formatTick(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return `${formatNumber(value / 1e9, 3)}B`;
  if (size >= 1e6) return `${formatNumber(value / 1e6, 3)}M`;
  if (size >= 1e4) return `${formatNumber(value / 1e3, 3)}k`;
  return formatInput(value);
}
