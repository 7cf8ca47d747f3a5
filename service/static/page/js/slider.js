// A slider along the range of a feature.

import { el } from "./dom.js";
import { createScale, formatTick } from "./scale.js";

const SLIDER_STEPS = 1000;

/**
 * Create a slider along the scale of a feature; its ends are the range of the training set.
 * `format` and `formatEnd` write values, `round` rounds them, and `onMove(value)` runs after each
 * move.
 */
export function createSlider(feature, range, { format, formatEnd = formatTick, round, onMove }) {
  const scale = createScale(range, feature);
  const input = el("input", {
    type: "range",
    class: "slider",
    min: 0,
    max: SLIDER_STEPS,
    step: 1,
    "aria-label": feature.unit ? `${feature.name}, ${feature.unit}` : feature.name,
  });
  let current = null;
  const show = (value) => {
    const share = Math.min(Math.max(scale.toShare(value), 0), 1);
    input.style.setProperty("--share", `${share * 100}%`);
    input.setAttribute("aria-valuetext", format(value));
    return share;
  };
  const clamp = (value) => Math.min(Math.max(value, range.minimum), range.maximum);
  const valueAt = (position) => clamp(round(scale.fromShare(position / SLIDER_STEPS), scale));
  input.addEventListener("input", () => {
    current = valueAt(Number(input.value));
    show(current);
    onMove(current);
  });
  // A key moves by one step of the value, where the native step would round to the same value.
  input.addEventListener("keydown", (event) => {
    const steps = {
      ArrowRight: 1,
      ArrowUp: 1,
      ArrowLeft: -1,
      ArrowDown: -1,
      PageUp: 10,
      PageDown: -10,
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const direction = Math.sign(steps[event.key]);
    let position = Number(input.value);
    let next = current;
    for (let left = Math.abs(steps[event.key]); left > 0; left -= 1) {
      const before = next;
      while (next === before && position + direction >= 0 && position + direction <= SLIDER_STEPS) {
        position += direction;
        next = valueAt(position);
      }
    }
    input.value = String(position);
    current = next;
    show(next);
    onMove(next);
  });
  return {
    input,
    element: el(
      "div",
      { class: "slider-box" },
      input,
      el(
        "div",
        { class: "slider-ends", "aria-hidden": "true" },
        el("span", {}, formatEnd(range.minimum)),
        el("span", {}, formatEnd(range.maximum)),
      ),
    ),
    set: (value) => {
      if (value === null || !Number.isFinite(value)) return;
      current = value;
      input.value = String(Math.round(show(value) * SLIDER_STEPS));
    },
  };
}
