// The last request as a command or a program, to copy and run.

import { absoluteUrl } from "./api.js";
import { el, replace } from "./dom.js";
import { createTabs } from "./tabs.js";

const CODE_TYPES = /^application\/json\b/;
const MAX_LINE = 72;

/**
 * Create the card. `show(request)` gets `{path, contentType, body | file | files}`, as `onRequest`,
 * for a compressed file its `encoding`, and for a table, whose response is one too, `isTable`;
 * several `files` are sent as a form.
 */
export function createRequestCard() {
  const languages = [
    { name: "curl", title: "curl", write: curlOf },
    { name: "python", title: "Python", write: pythonOf },
    { name: "javascript", title: "JavaScript", write: javascriptOf },
  ];
  const blocks = languages.map(({ name }) => el("code", { dataset: { language: name } }));
  const buttons = blocks.map(createCopyButton);
  const tabs = createTabs(
    languages.map(({ name, title }, index) => ({
      name,
      title,
      create: () =>
        el(
          "div",
          { class: "code-box" },
          el(
            "pre",
            { class: "code", tabindex: 0, "aria-label": `Request in ${title}` },
            blocks[index],
          ),
          buttons[index].element,
        ),
    })),
    { label: "Languages", selected: "curl" },
  );
  const response = el("pre", { class: "code", tabindex: 0, "aria-label": "Response" });
  const folder = el("p", { class: "soft request-folder", hidden: true });
  const details = el("details", { hidden: true }, el("summary", {}, "Response"), response);
  const element = el(
    "section",
    { class: "card request", "aria-label": "The request", hidden: true },
    el("div", { class: "card-head" }, el("h2", {}, "The request")),
    tabs,
    folder,
    details,
  );
  let shown = {};
  return {
    element,
    show: (request) => {
      element.hidden = false;
      languages.forEach(({ write }, index) => replace(blocks[index], write(request)));
      for (const button of buttons) button.reset();
      folder.hidden = !request.file && !request.files;
      folder.textContent = `Run it in the folder of ${request.file?.name ?? "the files"}.`;
      // The response to a similar request stays until the next one has arrived.
      const { path, contentType } = request;
      if (path !== shown.path || contentType !== shown.contentType) details.hidden = true;
      shown = request;
    },
    hideResponse: () => {
      details.hidden = true;
    },
    showResponse: (value) => {
      details.hidden = false;
      replace(response, el("code", {}, writeJson(value)));
    },
  };
}

/** A button that copies the text of an element and says so. */
function createCopyButton(block) {
  const element = el("button", { type: "button", class: "copy" }, "Copy");
  let timer;
  const reset = () => {
    clearTimeout(timer);
    element.textContent = "Copy";
  };
  element.addEventListener("click", async () => {
    const isCopied = await copy(block.textContent);
    if (!isCopied) getSelection().selectAllChildren(block);
    element.textContent = isCopied ? "Copied" : "Press Ctrl+C";
    clearTimeout(timer);
    timer = setTimeout(reset, 2000);
  });
  return { element, reset };
}

/** Copy a text; browsers have the clipboard API only on HTTPS and on localhost. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = el("textarea", { class: "offscreen", "aria-hidden": "true", value: text });
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return isCopied;
  }
}

/** A POSIX shell command. */
export function curlOf(request) {
  const { path, contentType, body, file, files } = request;
  const content = files
    ? files.map(({ name }) => `-F ${quoteShell(`image=@${quoteForm(name)}`)}`)
    : file
      ? [`--data-binary ${quoteShell(`@${file.name}`)}`]
      : [`--data-raw ${quoteShell(spread(body, contentType))}`];
  const headers = headersOf(request).map(
    ([name, value]) => `-H ${quoteShell(`${name}: ${value}`)}`,
  );
  const lines = [...headers, ...content].map((line) => `  ${line}`);
  return [`curl ${quoteShell(absoluteUrl(path))}`, ...lines].join(" \\\n");
}

/** The headers with their values; clients write that of a form, with its boundary. */
function headersOf({ contentType, encoding, files }) {
  if (files) return [];
  return [["content-type", contentType], ...(encoding ? [["content-encoding", encoding]] : [])];
}

/** A file name in a form of curl, where some characters end it. */
function quoteForm(name) {
  return /[;,"\\]/.test(name) ? `"${name.replace(/["\\]/g, "\\$&")}"` : name;
}

/** A long body of JSON with one line for each item of the outermost lists and objects. */
function spread(body, contentType) {
  return CODE_TYPES.test(contentType) && body.length > MAX_LINE
    ? writeJson(JSON.parse(body))
    : body;
}

/** JSON with short lists and objects in one line. */
export function writeJson(value) {
  return writeValue(value, JSON_TEXT);
}

/** A Python program. */
export function pythonOf(request) {
  const { path, contentType, body, file, files, isTable } = request;
  const url = quoteString(absoluteUrl(path));
  const header = `headers=${writeHeaders(request)}`;
  const lines = ["import httpx", ""];
  if (files) {
    lines.unshift("from pathlib import Path", "");
    lines.push(
      `names = ${writeValue(namesOf(files), PYTHON)}`,
      'files = [("image", (name, Path(name).read_bytes())) for name in names]',
      `response = httpx.post(${url}, files=files)`,
    );
  } else if (file) {
    lines.push(
      `with open(${quoteString(file.name)}, "rb") as file:`,
      `    response = httpx.post(${url}, content=file.read(), ${header})`,
    );
  } else if (CODE_TYPES.test(contentType)) {
    lines.push(
      `row = ${writeValue(JSON.parse(body), PYTHON)}`,
      `response = httpx.post(${url}, json=row)`,
    );
  } else {
    lines.push(
      `body = ${quoteString(body)}`,
      `response = httpx.post(${url}, content=body.encode(), ${header})`,
    );
  }
  lines.push(
    "response.raise_for_status()",
    `print(${isTable ? "response.text" : "response.json()"})`,
  );
  return lines.join("\n");
}

/** A JavaScript module, for Node.js and, without a file, for browsers. */
export function javascriptOf(request) {
  const { path, contentType, body, file, files, isTable } = request;
  const lines = file || files ? ['import { readFile } from "node:fs/promises";', ""] : [];
  let content;
  if (files) {
    lines.push(
      "const form = new FormData();",
      `for (const name of ${writeValue(namesOf(files), JAVASCRIPT)}) {`,
      '  form.append("image", new Blob([await readFile(name)]), name);',
      "}",
    );
    content = "form";
  } else if (file) {
    content = `await readFile(${quoteString(file.name)})`;
  } else if (CODE_TYPES.test(contentType)) {
    lines.push(`const row = ${writeValue(JSON.parse(body), JAVASCRIPT)};`);
    content = "JSON.stringify(row)";
  } else {
    content = quoteString(body);
  }
  lines.push(
    `const response = await fetch(${quoteString(absoluteUrl(path))}, {`,
    '  method: "POST",',
    ...(files ? [] : [`  headers: ${writeHeaders(request, " ")},`]),
    `  body: ${content},`,
    "});",
    "if (!response.ok) throw new Error(await response.text());",
    `console.log(await response.${isTable ? "text" : "json"}());`,
  );
  return lines.join("\n");
}

function namesOf(files) {
  return files.map(({ name }) => name);
}

/** The headers as a literal of Python and of JavaScript. */
function writeHeaders(request, padding = "") {
  const pairs = headersOf(request).map((pair) => pair.map(quoteString).join(": "));
  return `{${padding}${pairs.join(", ")}${padding}}`;
}

/** A word of a POSIX shell: within single quotes, only these have a meaning. */
function quoteShell(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** A string of Python and of JavaScript, in which JSON's escapes have the same meaning. */
function quoteString(text) {
  return JSON.stringify(text).replaceAll("\u2028", "\\u2028").replaceAll("\u2029", "\\u2029");
}

const PYTHON = { true: "True", false: "False", null: "None", key: quoteString };
const JSON_TEXT = { true: "true", false: "false", null: "null", key: quoteString };
const JAVASCRIPT = {
  true: "true",
  false: "false",
  null: "null",
  // The plain key would set the prototype.
  key: (name) => (name === "__proto__" ? '["__proto__"]' : quoteString(name)),
};

/** A value of JSON as a literal, with one line for each item of the outermost lists and objects. */
function writeValue(value, language, indent = "") {
  if (value === null || typeof value === "boolean") return language[String(value)];
  if (typeof value === "number") return String(value);
  if (typeof value === "string") return quoteString(value);
  const isList = Array.isArray(value);
  const inner = `${indent}  `;
  const items = isList
    ? value.map((item) => writeValue(item, language, inner))
    : Object.entries(value).map(
        ([name, item]) => `${language.key(name)}: ${writeValue(item, language, inner)}`,
      );
  const [open, close] = isList ? "[]" : "{}";
  const line = `${open}${items.join(", ")}${close}`;
  const isShort = line.length + indent.length <= MAX_LINE && !line.includes("\n");
  return isShort
    ? line
    : `${open}\n${items.map((item) => `${inner}${item}`).join(",\n")}\n${indent}${close}`;
}
