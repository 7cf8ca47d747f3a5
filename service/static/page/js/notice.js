// Sentences above the page about changes of the service, such as a new version.

import { el } from "./dom.js";

const SECONDS = 10;
const container = document.getElementById("notices");
const shown = new Map();

/** Show a sentence until it is hidden; with `closes`, for some seconds. */
export function showNotice(key, sentence, { closes = false } = {}) {
  if (shown.get(key)?.sentence === sentence) return;
  hideNotice(key);
  const close = () => hideNotice(key);
  const node = el(
    "div",
    { class: closes ? "notice" : "notice notice-problem" },
    el("span", {}, sentence),
    el(
      "button",
      { type: "button", class: "close", "aria-label": "Close", onclick: close },
      "\u00d7",
    ),
  );
  const timer = closes ? setTimeout(close, SECONDS * 1000) : undefined;
  shown.set(key, { node, sentence, timer });
  container.append(node);
}

/** Remove a sentence. */
export function hideNotice(key) {
  const notice = shown.get(key);
  if (!notice) return;
  clearTimeout(notice.timer);
  notice.node.remove();
  shown.delete(key);
}

/** Remove all sentences about the view that was closed. */
export function hideNotices(...keys) {
  keys.forEach(hideNotice);
}
