// Arguments: the URL, a file with a small body, a file with a large body.
import { createHash } from "node:crypto";
import { createReadStream, readFileSync } from "node:fs";
import http from "node:http";

const [url, smallPath, largePath] = process.argv.slice(2);
const small = readFileSync(smallPath);
const large = readFileSync(largePath);
const headers = { "content-type": "application/json" };

function printResult(name, status, content) {
  const digest = createHash("sha256").update(content).digest("hex");
  console.log(`${name}\t${status}\t${digest}`);
}

async function withFetch(name, body, options = {}) {
  const response = await fetch(url, { method: "POST", headers, body, ...options });
  printResult(name, response.status, Buffer.from(await response.arrayBuffer()));
}

function withHttp(name, send, more = {}) {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method: "POST", headers: { ...headers, ...more } });
    request.on("error", reject);
    request.on("response", async (response) => {
      const pieces = [];
      for await (const piece of response) pieces.push(piece);
      printResult(name, response.statusCode, Buffer.concat(pieces));
      resolve();
    });
    send(request);
  });
}

await withFetch("fetch", small);
await withFetch("fetch, again", small);
await withFetch("fetch, large", large);
await withFetch("fetch, chunked", createReadStream(largePath), { duplex: "half" });
await withHttp("http", (request) => request.end(small));
await withHttp("http, large", (request) => request.end(large), { "content-length": large.length });
await withHttp("http, chunked", (request) => createReadStream(largePath).pipe(request));
await withHttp(
  "http, expect",
  (request) => request.on("continue", () => request.end(large)),
  { expect: "100-continue", "content-length": large.length },
);
