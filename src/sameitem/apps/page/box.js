/**
 * Geometry of the search box. Every box here is in fractions of the photo, 0..1; only `toPixels` and `fromPixels` know
 * pixels. Nothing here touches the document.
 */

/** @typedef {{left: number, top: number, right: number, bottom: number}} Box */
/** @typedef {{width: number, height: number}} Size */
/** @typedef {"top-left" | "top-right" | "bottom-left" | "bottom-right"} Corner */

/** @type {readonly Corner[]} */
export const corners = Object.freeze(["top-left", "top-right", "bottom-left", "bottom-right"]);

/** @type {Readonly<Box>} */
export const wholePhoto = Object.freeze({ left: 0, top: 0, right: 1, bottom: 1 });

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/**
 * The smallest box a user may draw: the server's shortest side, and large enough to be grabbed again.
 * @param {Size} photo in pixels
 * @returns {Size} in fractions
 */
export function leastSize(photo) {
  return { width: clamp(32 / photo.width, 0.05, 1), height: clamp(32 / photo.height, 0.05, 1) };
}

/** @param {Box} box @returns {boolean} whether the box leaves nothing of the photo out (to half a percent) */
export function isWhole(box) {
  return box.left < 0.005 && box.top < 0.005 && box.right > 0.995 && box.bottom > 0.995;
}

/**
 * The same box elsewhere; it stops at the photo's edge and keeps its size.
 * @param {Box} box @param {number} dx @param {number} dy @returns {Box}
 */
export function move(box, dx, dy) {
  const x = clamp(dx, -box.left, 1 - box.right);
  const y = clamp(dy, -box.top, 1 - box.bottom);
  return { left: box.left + x, top: box.top + y, right: box.right + x, bottom: box.bottom + y };
}

/**
 * The box with one corner moved; the opposite corner stays and the box never gets smaller than `least`.
 * @param {Box} box @param {Corner} corner @param {number} dx @param {number} dy @param {Size} least @returns {Box}
 */
export function moveCorner(box, corner, dx, dy, least) {
  const moved = { ...box };
  if (corner.endsWith("left")) moved.left = clamp(box.left + dx, 0, Math.max(0, box.right - least.width));
  else moved.right = clamp(box.right + dx, Math.min(1, box.left + least.width), 1);
  if (corner.startsWith("top")) moved.top = clamp(box.top + dy, 0, Math.max(0, box.bottom - least.height));
  else moved.bottom = clamp(box.bottom + dy, Math.min(1, box.top + least.height), 1);
  return moved;
}

/**
 * The box between two points, grown to `least` inside the photo.
 * @param {{x: number, y: number}} a @param {{x: number, y: number}} b @param {Size} least @returns {Box}
 */
export function between(a, b, least) {
  const span = (from, to, size) => {
    const low = clamp(Math.min(from, to), 0, 1 - size);
    return [low, clamp(Math.max(from, to), low + size, 1)];
  };
  const [left, right] = span(a.x, b.x, least.width);
  const [top, bottom] = span(a.y, b.y, least.height);
  return { left, top, right, bottom };
}

/** @param {Box} a @param {Box} b @returns {number} intersection over union, 0..1 */
export function overlap(a, b) {
  const area = (box) => Math.max(0, box.right - box.left) * Math.max(0, box.bottom - box.top);
  const both = area({
    left: Math.max(a.left, b.left),
    top: Math.max(a.top, b.top),
    right: Math.min(a.right, b.right),
    bottom: Math.min(a.bottom, b.bottom),
  });
  return both / (area(a) + area(b) - both || 1);
}

/** @param {Box} box @param {Size} photo @returns {Box & {unit: "px"}} whole pixels, as the API takes them */
export function toPixels(box, photo) {
  return {
    left: Math.round(box.left * photo.width),
    top: Math.round(box.top * photo.height),
    right: Math.round(box.right * photo.width),
    bottom: Math.round(box.bottom * photo.height),
    unit: "px",
  };
}

/** @param {Box} box pixels @param {Size} photo @returns {Box} fractions, kept inside the photo */
export function fromPixels(box, photo) {
  return {
    left: clamp(box.left / photo.width, 0, 1),
    top: clamp(box.top / photo.height, 0, 1),
    right: clamp(box.right / photo.width, 0, 1),
    bottom: clamp(box.bottom / photo.height, 0, 1),
  };
}
