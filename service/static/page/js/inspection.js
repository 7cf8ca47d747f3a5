// What a table's file is, by its bytes: its compression and the encoding of its text.

export const CSV = "text/csv";
export const BINARY = "application/octet-stream";
const WINDOWS_1252 = "text/csv; charset=windows-1252";
const GZIP = [0x1f, 0x8b];
const START_BYTES = 65536;

/**
 * Find how a file is sent. Returns `headers` (its content type, and its content encoding if it is
 * compressed), `content` (the file, decompressed), and a `note` for the user or "".
 */
export async function inspect(file, contentType) {
  const start = new Uint8Array(await file.slice(0, START_BYTES).arrayBuffer());
  const isCompressed = GZIP.every((byte, position) => start[position] === byte);
  const headers = { "content-type": contentType };
  if (isCompressed) headers["content-encoding"] = "gzip";
  const content = () => (isCompressed ? decompress(file) : file.stream());
  if (mayBeCsv(contentType, start, isCompressed) && !(await isUnicode(content()))) {
    const note = "The file is not in UTF-8; it was read as Windows-1252.";
    return { headers: { ...headers, "content-type": WINDOWS_1252 }, content, note };
  }
  return { headers, content, note: "" };
}

/** Whether a body of unknown type may be text: files with tables of other formats hold zeros. */
function mayBeCsv(contentType, start, isCompressed) {
  if (contentType === CSV) return isCompressed || !start.includes(0);
  return contentType === BINARY && !isCompressed && !start.includes(0);
}

function decompress(file) {
  return file.stream().pipeThrough(new DecompressionStream("gzip"));
}

/** Whether all bytes are UTF-8; the service reports a damaged file, which counts as UTF-8. */
async function isUnicode(stream) {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const reader = stream.getReader();
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch {
      return true;
    }
    try {
      decoder.decode(piece.value, { stream: !piece.done });
    } catch {
      void reader.cancel();
      return false;
    }
    if (piece.done) return true;
  }
}
