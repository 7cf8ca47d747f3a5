// The view of one model: its header, its tabs, and the request that was last sent.

import { createAbout, createEndpoints, createReport } from "./about.js";
import { ApiError, getJson, NO_RESPONSE } from "./api.js";
import { el, newId, replace } from "./dom.js";
import { createImagePanel } from "./images.js";
import { exampleOf } from "./fields.js";
import { hideNotice, showNotice } from "./notice.js";
import { summarizeQuality } from "./quality.js";
import { createRequestCard } from "./snippets.js";
import { createTablePanel } from "./table.js";
import { createTabs } from "./tabs.js";
import { createTensorPanel } from "./tensors.js";
import { createFormPanel } from "./try.js";
import { poll } from "./watch.js";

const POLL_SECONDS = 3;

/** The relative path of a model's endpoints. */
export function modelPath(name, version) {
  const path = `models/${encodeURIComponent(name)}`;
  return version ? `${path}/versions/${encodeURIComponent(version)}` : path;
}

/** Show a model in a container, and follow its changes until the signal aborts. */
export async function showModel(container, { name, version, tab }, signal) {
  const path = modelPath(name, version);
  const view = { path, tab, values: {}, form: null, body: null, controller: null };
  let shown = null;
  let problem = null;
  const setProblem = (found) => {
    if (found === problem) return;
    problem = found;
    view.body?.classList.toggle("is-gone", problem !== null);
    replaceHeader(container, shown.model, problem);
    // The prediction may be an error of the time of the problem.
    if (problem === null) view.form?.update();
  };
  const refresh = async () => {
    let model;
    try {
      model = { ...(await getJson(path, { signal })), path };
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      if (shown !== null) setProblem(problemOf(error));
      // The start of the page reports a service that does not respond.
      if (error.code === NO_RESPONSE) return;
      if (shown === null) replace(container, renderProblem(error.message));
      else showNotice("problem", error.message);
      return;
    }
    if (signal.aborted) return;
    hideNotice("problem");
    const next = JSON.stringify(model);
    const before = shown?.model;
    if (next !== shown?.text) {
      shown = { model, text: next };
      if (before && isSameContent(before, model)) replaceHeader(container, model, problem);
      else show(container, model, view);
    }
    if (before) explainChange(before, model, problem);
    setProblem(null);
  };
  signal.addEventListener("abort", () => view.controller?.abort());
  poll(refresh, POLL_SECONDS, signal);
}

/** Whether the form and the prediction would be the same. */
function isSameContent(before, model) {
  return before.version === model.version && before.ready === model.ready;
}

/** The state of a model whose description was not received, or null if it may still serve. */
function problemOf({ code, status }) {
  if (status === 404) return "Removed";
  if (code === NO_RESPONSE) return "No response";
  return status >= 500 ? "Not ready" : null;
}

function explainChange(before, model, problem) {
  if (model.ready && before.version !== model.version) {
    showNotice("version", `Version ${model.version} is now serving. The form uses it.`, {
      closes: true,
    });
  } else if (model.ready && (!before.ready || problem === "Removed")) {
    showNotice("version", `Version ${model.version} serves again.`, { closes: true });
  }
}

function renderProblem(sentence) {
  return el(
    "div",
    { class: "empty" },
    el("h1", {}, "This model is not here"),
    el("p", {}, sentence),
    el("p", {}, el("a", { href: "#/" }, "All models")),
  );
}

function show(container, model, view) {
  view.controller?.abort();
  view.controller = new AbortController();
  if (view.form) view.values = view.form.values();
  view.form = null;
  document.title = `${model.title ?? model.name} \u00b7 Onward`;
  const tabs = model.ready ? createModelTabs(model, view) : renderUnavailable(model);
  view.body = tabs;
  replace(container, renderHeader(model), tabs);
}

function replaceHeader(container, model, problem) {
  container.querySelector(".model-head")?.replaceWith(renderHeader(model, problem));
}

function renderHeader(model, problem = null) {
  const aliases = Object.entries(model.aliases ?? {}).filter(
    ([, alias]) => alias.version === model.version,
  );
  return el(
    "header",
    { class: "model-head" },
    el(
      "p",
      { class: "crumbs" },
      el("a", { href: "#/" }, "Models"),
      el("span", { "aria-hidden": "true" }, " / "),
      el("span", { class: "mono" }, model.name),
    ),
    el("h1", {}, model.title ?? model.name),
    model.description && el("p", { class: "lead" }, model.description.trim()),
    el(
      "div",
      { class: "chips" },
      model.ready && model.metric && summarizeQuality(model),
      renderVersions(model),
      aliases.map(([alias]) => el("span", { class: "badge" }, alias)),
      model.device && el("span", { class: "badge" }, model.device),
      model.ready && !problem
        ? el("span", { class: "badge badge-good" }, "Ready")
        : el("span", { class: "badge badge-bad" }, problem ?? "Not ready"),
    ),
  );
}

/** The version; a menu if there are several. */
function renderVersions(model) {
  const versions = model.versions ?? [];
  if (versions.length < 2) return el("span", { class: "badge" }, `Version ${model.version}`);
  const id = newId("version");
  const isPinned = model.path.includes("/versions/");
  const menu = el(
    "select",
    {
      id,
      value: isPinned ? model.version : "",
      onchange: () => {
        location.hash = `#/${modelPath(model.name, menu.value)}`;
      },
    },
    el("option", { value: "" }, isPinned ? "Serving version" : `${model.version}, serving`),
    versions.map(({ version, state }) =>
      el(
        "option",
        { value: version },
        state === "READY" ? version : `${version}, ${state.toLowerCase()}`,
      ),
    ),
  );
  return el("label", { class: "inline", for: id }, "Version ", menu);
}

function renderUnavailable(model) {
  return el(
    "section",
    { class: "card", "aria-label": "Not ready" },
    el("h2", {}, "This version does not serve"),
    el("p", {}, model.reason ?? "It is still loading."),
    el("p", { class: "soft" }, "This page shows the form as soon as it serves."),
  );
}

/** Show a request before any was sent. */
function showExample(model, card) {
  const path = `${model.path}/predict`;
  if (model.input === "image") {
    card.show({ path, contentType: "image/jpeg", file: { name: "image.jpg" } });
  } else if (model.features) {
    const row = Object.fromEntries(
      model.features.map((feature) => [feature.name, exampleOf(feature)]),
    );
    card.show({ path, contentType: "application/json", body: JSON.stringify(row) });
  }
}

function createModelTabs(model, view) {
  const card = createRequestCard();
  const slots = new Map();
  const withCard = (name, element, slot = el("div", { class: "slot" })) => {
    slots.set(name, slot);
    return slot.isConnected || element.contains(slot)
      ? element
      : el("div", { class: "stack" }, element, slot);
  };
  const { signal } = view.controller;
  const options = { onRequest: card.show, onResponse: card.showResponse, signal };
  const panels = {
    form: () => {
      view.form = createFormPanel(model, { card, values: view.values, signal });
      return withCard("form", view.form.element, view.form.slot);
    },
    image: () => withCard("image", createImagePanel(model, options)),
    table: () => withCard("table", createTablePanel(model, options)),
    tensors: () => withCard("tensors", createTensorPanel(model, options)),
    api: () => {
      if (card.element.hidden) showExample(model, card);
      return withCard("api", createEndpoints(model));
    },
    report: () => createReport(model),
    about: () => createAbout(model),
  };
  const first =
    model.input === "image" ? ["image"] : model.features ? ["form", "table"] : ["tensors"];
  const names = [...first, "api", ...(model.provenance ? ["report"] : []), "about"];
  const titles = {
    form: "Form",
    image: "Image",
    table: "Table",
    tensors: "Tensors",
    api: "API",
    report: "Report",
    about: "About",
  };
  return createTabs(
    names.map((name) => ({ name, title: titles[name], create: panels[name] })),
    {
      label: "Ways to use the model",
      selected: names.includes(view.tab) ? view.tab : names[0],
      onSelect: (name) => {
        slots.get(name)?.append(card.element);
        view.tab = name;
        const address = `#/${model.path}${name === names[0] ? "" : `/${name}`}`;
        if (location.hash !== address) history.replaceState(null, "", address);
      },
    },
  );
}
