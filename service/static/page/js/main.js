// Start of the page, and its routes: #/, #/live, #/models/NAME[/versions/VERSION][/TAB].

import { onReachable } from "./api.js";
import { showModels } from "./models.js";
import { hideNotice, hideNotices, showNotice } from "./notice.js";

const main = document.getElementById("main");
const links = document.querySelectorAll("nav a[data-route]");
let view = new AbortController();
let shown = null;

function read(hash) {
  let parts;
  try {
    parts = hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  } catch {
    parts = []; // an invalid escape
  }
  const [section, name, ...rest] = parts;
  if (section === "live") return { section };
  if (section !== "models" || !name) return { section: "models" };
  const isPinned = rest[0] === "versions" && rest[1];
  return {
    section: "model",
    name,
    version: isPinned ? rest[1] : undefined,
    tab: isPinned ? rest[2] : rest[0],
  };
}

function route() {
  const wanted = read(location.hash);
  view.abort();
  view = new AbortController();
  hideNotices("problem", "version");
  const current = wanted.section === "live" ? "live" : "models";
  for (const link of links) {
    if (link.dataset.route === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.replaceChildren();
  show(wanted, view.signal);
  // Screen readers continue at the new view; the first one is read from its top.
  if (shown !== null) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  shown = wanted;
}

/** Show a view; the first one, of all models, does not wait for the modules of the others. */
async function show(wanted, signal) {
  try {
    if (wanted.section === "live") {
      const { showLive } = await import("./live.js");
      if (!signal.aborted) showLive(main, signal);
    } else if (wanted.section === "model") {
      const { showModel } = await import("./model.js");
      if (!signal.aborted) showModel(main, wanted, signal);
    } else {
      showModels(main, signal);
    }
  } catch (error) {
    // A module that was not loaded is requested again with the next view.
    showNotice("offline", `This view was not loaded: ${error.message}. Reload the page.`);
  }
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash is a route
  main.focus();
});
onReachable((isReachable) => {
  if (isReachable) hideNotice("offline");
  else showNotice("offline", "The service does not respond. The page tries again.");
});
addEventListener("hashchange", route);
route();
