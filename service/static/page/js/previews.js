// Images on a canvas, which needs no address of the file that could leak.

/**
 * Draw an image file on a canvas, its longer side at most `side` pixels; a smaller image is
 * enlarged by whole pixels if `sharp`. Return whether this browser can display it.
 */
export async function drawFile(canvas, file, side, { sharp = false } = {}) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return false;
  }
  const longer = Math.max(bitmap.width, bitmap.height);
  const scale = sharp && longer < side ? Math.floor(side / longer) : Math.min(1, side / longer);
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = scale < 1;
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return true;
}

/** Return the file in base64 text. */
export function decodeBase64(text, type) {
  const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  return new Blob([bytes], { type });
}

/** Return a small file as base64 text. */
export async function encodeBase64(file) {
  return btoa(String.fromCharCode(...new Uint8Array(await file.arrayBuffer())));
}
