/** A photo before it is sent: turned upright, scaled down, and re-encoded so that no EXIF leaves the device. */

import { randomId } from "./identity.js";

const longestSidePx = 1600;
const shortestSidePx = 32; // the server takes nothing smaller
const jpegQuality = 0.9;
const largestUploadBytes = 20 * 1024 * 1024;
const sendable = /^image\/(jpeg|png|webp|avif|heic|heif|gif|bmp|tiff)$/;
const sendableName = /\.(jpe?g|png|webp|avif|hei[cf]|gif|bmp|tiff?)$/i;

/** Why a file cannot be a query: "empty", "unsupported", "too-large" or "too-small". */
export class PhotoError extends Error {
  /** @param {string} reason @param {string} name of the file */
  constructor(reason, name) {
    super(`${reason}: ${name}`);
    Object.assign(this, { reason, fileName: name });
  }
}

/**
 * Make a query of a file. What the browser can draw becomes an upright JPEG of at most 1,600 px; what it cannot (HEIC,
 * TIFF) is sent as it is.
 * @param {File} file
 * @returns {Promise<import("./state.js").PhotoQuery>} without size and picture when only the server can read it
 * @throws {PhotoError}
 */
export async function preparePhoto(file) {
  if (file.size === 0) throw new PhotoError("empty", file.name);
  const key = randomId();
  const bitmap = await decode(file);
  if (!bitmap) {
    if (!sendable.test(file.type) && !sendableName.test(file.name)) throw new PhotoError("unsupported", file.name);
    if (file.size > largestUploadBytes) throw new PhotoError("too-large", file.name);
    return { kind: "photo", key, blob: file, name: file.name, pictureUrl: "", width: 0, height: 0 };
  }
  try {
    if (Math.min(bitmap.width, bitmap.height) < shortestSidePx) throw new PhotoError("too-small", file.name);
    const { width, height } = fitSize(bitmap);
    const blob = await encode(bitmap, width, height);
    return { kind: "photo", key, blob, name: "photo.jpg", pictureUrl: URL.createObjectURL(blob), width, height };
  } finally {
    bitmap.close();
  }
}

async function decode(file) {
  if (!globalThis.createImageBitmap) return null;
  return createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
}

/**
 * @param {import("./box.js").Size} photo
 * @returns {import("./box.js").Size} longest side at most 1,600 px, unless the shortest would fall below 32 px
 */
export function fitSize({ width, height }) {
  const wanted = Math.max(longestSidePx / Math.max(width, height), shortestSidePx / Math.min(width, height));
  const scale = Math.min(1, wanted);
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

function encode(bitmap, width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = "white"; // what is transparent in a PNG is a white backdrop
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return new Promise((resolve, reject) => {
    const done = (blob) => (blob ? resolve(blob) : reject(new PhotoError("too-large", "canvas")));
    canvas.toBlob(done, "image/jpeg", jpegQuality);
  });
}

/**
 * The picture among what was dropped or pasted.
 * @param {DataTransfer | null} transfer
 * @returns {File | null} the first image file; else the first file, whose refusal then has a reason
 */
export function pickFile(transfer) {
  const files = Array.from(transfer?.files ?? []);
  return files.find((file) => file.type.startsWith("image/") || sendableName.test(file.name)) ?? files[0] ?? null;
}
