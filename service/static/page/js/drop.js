// Files from the user: dropped, or chosen with a button.

import { el, newId } from "./dom.js";

/**
 * Create an area with a button that chooses files; its title may invite to drop them.
 * `title`, `button` and `note` are its texts, `accept` the types of the file chooser, `multiple`
 * whether it takes several files, `extra` more controls; `onFiles` gets an array of files.
 */
export function createDropZone({
  title,
  button,
  note,
  accept,
  multiple = false,
  extra = [],
  onFiles,
}) {
  const noteId = newId("note");
  const input = el("input", {
    type: "file",
    accept,
    multiple,
    class: "offscreen",
    tabindex: "-1",
    "aria-hidden": "true",
  });
  const choose = el(
    "button",
    { type: "button", class: "primary", "aria-describedby": noteId, onclick: () => input.click() },
    button,
  );
  input.addEventListener("change", () => {
    const files = [...input.files];
    // So that choosing the same file again is a change.
    input.value = "";
    if (files.length > 0) onFiles(files);
  });
  return el(
    "div",
    { class: "drop-zone" },
    el("p", { class: "drop-title" }, title),
    el("div", { class: "drop-buttons" }, choose, extra),
    el("p", { class: "drop-note", id: noteId }, note),
    input,
  );
}

/**
 * Call `onFiles` with the files that are dropped anywhere on the page while a panel is visible, and
 * mark the panel while they are over the page; until the signal aborts.
 */
export function acceptDrops(panel, onFiles, signal) {
  const takes = (event) => panel.offsetParent !== null && hasFiles(event);
  // Entering a child fires before leaving its parent.
  let depth = 0;
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    panel.classList.toggle("is-over", depth > 0);
  };
  const listeners = {
    dragenter: (event) => takes(event) && mark(1),
    dragleave: () => mark(-1),
    dragover: (event) => {
      if (!takes(event)) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
    },
    drop: (event) => {
      mark(-depth);
      if (!takes(event)) return;
      event.preventDefault();
      onFiles([...event.dataTransfer.files]);
    },
  };
  for (const [name, listener] of Object.entries(listeners)) {
    document.addEventListener(name, listener, { signal });
  }
}

function hasFiles(event) {
  return [...(event.dataTransfer?.types ?? [])].includes("Files");
}
