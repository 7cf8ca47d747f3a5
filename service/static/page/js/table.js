// The panel for a table with many rows.

import { el } from "./dom.js";

/** Create the panel; `onRequest` gets `{path, contentType, body | file}` of each request. */
export function createTablePanel(model, { onRequest }) {
  return el("p", {}, "Table");
}
