// A model without named features: its tensors, as a request of the Open Inference Protocol.

import { ApiError, getJson, postJson } from "./api.js";
import { el, newId, replace } from "./dom.js";
import { writeJson } from "./snippets.js";
import { debounce } from "./watch.js";

const FREE_LENGTH = 1;
const MAX_VALUES = 4096;

/** Create the panel; the request can be edited and sent. */
export function createTensorPanel(model, { onRequest, onResponse }) {
  const path = model.path.replace(/^models\//, "v2/models/");
  const container = el("div", { class: "stack" }, el("p", { class: "soft" }, "Loading…"));
  getJson(path).then(
    (metadata) => show(container, path, metadata, { onRequest, onResponse }),
    (error) => {
      if (!(error instanceof ApiError)) throw error;
      replace(container, el("p", { class: "error" }, error.message));
    },
  );
  return container;
}

function show(container, path, metadata, { onRequest, onResponse }) {
  const address = `${path}/infer`;
  const id = newId("request");
  const error = el("div", { class: "error", role: "alert", hidden: true });
  const output = el(
    "pre",
    { class: "code", tabindex: 0, "aria-label": "Response" },
    "Send the request to see the response.",
  );
  const body = el("textarea", {
    id,
    class: "code request-body",
    rows: 14,
    spellcheck: "false",
    value: writeJson(exampleOf(metadata)),
  });
  const request = () =>
    onRequest({ path: address, contentType: "application/json", body: body.value });
  const fail = (sentence) => {
    error.hidden = !sentence;
    replace(error, sentence && el("p", {}, sentence));
  };
  const parse = () => {
    try {
      const value = JSON.parse(body.value);
      fail(null);
      request();
      return value;
    } catch (problem) {
      fail(`The request is not JSON: ${problem.message}.`);
      return undefined;
    }
  };
  const send = async () => {
    const value = parse();
    if (value === undefined) return;
    try {
      const response = await postJson(address, value);
      replace(output, el("code", {}, writeJson(response)));
      onResponse(response);
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      fail(problem.message);
    }
  };
  body.addEventListener("input", debounce(parse, 300));
  replace(
    container,
    el(
      "section",
      { class: "card", "aria-label": "Tensors" },
      el("div", { class: "card-head" }, el("h2", {}, "Tensors")),
      el(
        "p",
        { class: "soft" },
        "This graph has no description of single features. It takes tensors by the Open Inference Protocol.",
      ),
      renderTensors(metadata),
    ),
    el(
      "section",
      { class: "card", "aria-label": "Try it" },
      el(
        "div",
        { class: "card-head" },
        el("h2", {}, el("label", { for: id }, "Request body")),
        el("button", { type: "button", class: "primary", onclick: send }, "Send"),
      ),
      error,
      el("div", { class: "columns" }, body, output),
    ),
  );
  request();
}

function renderTensors({ inputs, outputs }) {
  const row =
    (kind) =>
    ({ name, datatype, shape }) =>
      el(
        "tr",
        {},
        el("td", {}, kind),
        el("th", { scope: "row" }, name),
        el("td", {}, datatype),
        el("td", { class: "mono" }, shapeOf(shape)),
      );
  return el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": "Inputs and outputs" },
    el(
      "table",
      {},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          ["", "Name", "Datatype", "Shape"].map((title) =>
            el("th", { scope: "col" }, title || el("span", { class: "offscreen" }, "Direction")),
          ),
        ),
      ),
      el("tbody", {}, inputs.map(row("input")), outputs.map(row("output"))),
    ),
  );
}

function shapeOf(shape) {
  return `[${shape.map((length) => (length < 0 ? "any" : length)).join(", ")}]`;
}

/** Zeros of a valid shape. */
function exampleOf({ inputs }) {
  return {
    inputs: inputs.map(({ name, datatype, shape }) => {
      const known = shape.map((length) => (length < 0 ? FREE_LENGTH : length));
      const count = Math.min(
        known.reduce((product, length) => product * length, 1),
        MAX_VALUES,
      );
      return { name, datatype, shape: known, data: Array(count).fill(zeroOf(datatype)) };
    }),
  };
}

function zeroOf(datatype) {
  if (datatype === "BOOL") return false;
  return datatype === "BYTES" ? "" : 0;
}
