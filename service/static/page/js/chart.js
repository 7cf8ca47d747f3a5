// A chart of lines over one axis of values, as SVG.

import { svg } from "./dom.js";
import { formatTick } from "./scale.js";

const MARGIN = { top: 12, right: 14, bottom: 40, left: 52 };
const HEIGHT = 240;

/**
 * Draw lines.
 * `x`: `scale` of the feature, `title`, `format` of a tick; `y`: `minimum`, `maximum`, `ticks`,
 * `format`; `series`: objects with `points` as `[x, y]`, and `band` as `[x, low, high]`;
 * `marker`: the current `x` with a `y` for each series; `limit`: a horizontal line.
 */
export function drawLines({ width, label, x, y, series, marker, limit }) {
  const inner = {
    width: width - MARGIN.left - MARGIN.right,
    height: HEIGHT - MARGIN.top - MARGIN.bottom,
  };
  const left = (value) => MARGIN.left + x.scale.toShare(value) * inner.width;
  const height = y.maximum - y.minimum || 1;
  const top = (value) => MARGIN.top + (1 - (value - y.minimum) / height) * inner.height;
  const bottom = MARGIN.top + inner.height;
  const root = svg(
    "svg",
    {
      class: "chart",
      role: "img",
      "aria-label": label,
      viewBox: `0 0 ${width} ${HEIGHT}`,
      height: HEIGHT,
    },
    y.ticks.map((tick) => [
      svg("line", {
        class: "grid",
        x1: MARGIN.left,
        x2: width - MARGIN.right,
        y1: top(tick),
        y2: top(tick),
      }),
      svg(
        "text",
        { class: "tick", x: MARGIN.left - 8, y: top(tick) + 4, "text-anchor": "end" },
        y.format(tick),
      ),
    ]),
    x.scale
      .ticks(Math.max(2, Math.round(inner.width / 80)))
      .map((tick) => [
        svg("line", {
          class: "grid-x",
          x1: left(tick),
          x2: left(tick),
          y1: bottom,
          y2: bottom + 4,
        }),
        svg(
          "text",
          { class: "tick", x: left(tick), y: bottom + 17, "text-anchor": "middle" },
          x.format(tick),
        ),
      ]),
    svg(
      "text",
      {
        class: "axis-title",
        x: MARGIN.left + inner.width / 2,
        y: HEIGHT - 4,
        "text-anchor": "middle",
      },
      x.title,
    ),
    series.map(({ band }) => band && svg("path", { class: "band", d: bandPath(band, left, top) })),
    limit !== undefined &&
      svg("line", {
        class: "limit",
        x1: MARGIN.left,
        x2: width - MARGIN.right,
        y1: top(limit),
        y2: top(limit),
      }),
    series.map(({ points }, index) =>
      svg("path", { class: `curve series-${index}`, d: linePath(points, left, top) }),
    ),
    marker && drawMarker(marker, left, top, bottom),
  );
  const share = (clientX) => {
    const box = root.getBoundingClientRect();
    return ((clientX - box.left) * (width / box.width) - MARGIN.left) / inner.width;
  };
  return { root, shareAt: share, cross: createCross(root, series, left, top, bottom) };
}

/** A vertical line at a point of the curve, moved by the pointer. */
function createCross(root, series, left, top, bottom) {
  const group = svg("g", { class: "cross", visibility: "hidden" });
  root.append(group);
  return {
    hide: () => group.setAttribute("visibility", "hidden"),
    show: (index) => {
      const at = left(series[0].points[index][0]);
      group.replaceChildren(
        svg("line", { x1: at, x2: at, y1: MARGIN.top, y2: bottom }),
        ...series.map(({ points }, i) =>
          svg("circle", { class: `dot series-${i}`, cx: at, cy: top(points[index][1]), r: 3.5 }),
        ),
      );
      group.setAttribute("visibility", "visible");
    },
  };
}

function drawMarker({ x, values }, left, top, bottom) {
  return svg(
    "g",
    { class: "marker" },
    svg("line", { x1: left(x), x2: left(x), y1: MARGIN.top, y2: bottom }),
    values.map((value, index) =>
      svg("circle", { class: `dot series-${index}`, cx: left(x), cy: top(value), r: 5 }),
    ),
  );
}

function linePath(points, left, top) {
  return points
    .map(([x, y], i) => `${i ? "L" : "M"}${left(x).toFixed(1)} ${top(y).toFixed(1)}`)
    .join("");
}

function bandPath(band, left, top) {
  const upper = band.map(([x, , high]) => [x, high]);
  const lower = band.map(([x, low]) => [x, low]).reverse();
  return `${linePath([...upper, ...lower], left, top)}Z`;
}

/** A small line of recent values, from zero to their maximum. */
export function drawSparkline(values, label) {
  const width = 120;
  const height = 28;
  const largest = Math.max(...values, Number.MIN_VALUE);
  const step = values.length > 1 ? width / (values.length - 1) : 0;
  const points = values.map(
    (value, i) =>
      `${(i * step).toFixed(1)} ${(height - 2 - (value / largest) * (height - 4)).toFixed(1)}`,
  );
  return svg(
    "svg",
    {
      class: "sparkline",
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": label,
      preserveAspectRatio: "none",
    },
    points.length > 1 &&
      svg("path", {
        class: "spark-area",
        d: `M0 ${height}L${points.join("L")}L${width} ${height}Z`,
      }),
    points.length > 1 && svg("path", { class: "spark-line", d: `M${points.join("L")}` }),
  );
}

export { formatTick };
