// The panel of image models.

import { el } from "./dom.js";

/** Create the panel; `onRequest` gets `{path, contentType, body | file}` of each request. */
export function createImagePanel(model, { onRequest }) {
  return el("p", {}, "Images");
}
