// Requests to the service. All addresses are relative, so that a proxy may add a path prefix.

/** A request that failed. `message` is the sentence of the service. */
export class ApiError extends Error {
  constructor(message, { code = "", status = 0, details = [] } = {}) {
    super(message);
    this.name = "ApiError";
    this.code = code;
    this.status = status;
    /** Objects of the service: `sentence`, `feature`, `expected`, `got`, `hint`. */
    this.details = details;
  }
}

/** The code of an `ApiError` without a response. */
export const NO_RESPONSE = "no_response";

const listeners = new Set();

/** Call a function with true or false after each request: whether the service responded. */
export function onReachable(listener) {
  listeners.add(listener);
}

/** Send a GET request and return the parsed JSON. */
export async function getJson(path, { signal } = {}) {
  const response = await send(path, { headers: { accept: "application/json" }, signal });
  return readJson(response);
}

/** Send a GET request and return the text. */
export async function getText(path, { signal } = {}) {
  return readText(await send(path, { signal }));
}

/** Send a value as JSON and return the parsed JSON. */
export async function postJson(path, value, { signal, headers = {} } = {}) {
  const sent = { "content-type": "application/json", accept: "application/json", ...headers };
  return readJson(await post(path, JSON.stringify(value), { headers: sent, signal }));
}

/** Send a body of any type and return the response. */
export function post(path, body, { headers = {}, signal } = {}) {
  return send(path, { method: "POST", body, headers, signal });
}

/** The address of a path that works outside of the page, for example in a terminal. */
export function absoluteUrl(path) {
  return new URL(path, document.baseURI).href;
}

async function send(path, options) {
  const response = await receive(() => fetch(path, { credentials: "same-origin", ...options }));
  report(true);
  if (!response.ok) throw await readError(response);
  return response;
}

/** Wait for the network; its failures become an `ApiError`. */
async function receive(start) {
  try {
    return await start();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    report(false);
    throw new ApiError("The service does not respond.", { code: NO_RESPONSE });
  }
}

function readText(response) {
  return receive(() => response.text());
}

async function readJson(response) {
  const text = await readText(response);
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError("The response is not JSON.", { status: response.status });
  }
}

/** Read the error document of the service; a proxy may have responded with anything else. */
async function readError(response) {
  const { status } = response;
  const text = await readText(response);
  try {
    const { error, code, details } = JSON.parse(text);
    if (typeof error === "string") return new ApiError(error, { code, status, details });
  } catch {
    // Described by its status below.
  }
  return new ApiError(`The request failed with status ${status}.`, { status });
}

function report(isReachable) {
  for (const listener of listeners) listener(isReachable);
}
