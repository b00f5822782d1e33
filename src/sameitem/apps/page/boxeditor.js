/** The query photo with its search box: dragged by mouse, finger or arrow keys; other objects are offered as dots. */

import { between, corners, isWhole, leastSize, move, moveCorner, wholePhoto } from "./box.js";
import { t } from "./i18n.js";

/** @typedef {import("./box.js").Box} Box */

const keyDelayMs = 400; // a search starts when the arrow keys rest
const clickReachPx = 6; // a shorter drag is a click and draws nothing
const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const percent = (fraction) => Math.round(fraction * 100);

/**
 * Bring an element with the editor's markup to life.
 * @param {HTMLElement} stage holds data-frame, data-picture, data-shade, data-markers, data-area and four data-corner
 * @param {{onCommit: (box: Box) => void}} options onCommit: called when the user has finished a change
 */
export function createBoxEditor(stage, { onCommit }) {
  const part = (name) => stage.querySelector(`[data-${name}]`);
  const [frame, picture, shade, markers, area] = ["frame", "picture", "shade", "markers", "area"].map(part);
  const handles = new Map(corners.map((corner) => [stage.querySelector(`[data-corner="${corner}"]`), corner]));

  let photo = { width: 1, height: 1 };
  let committed = wholePhoto;
  let box = wholePhoto;
  let cancelDrag = null;
  let keyTimer = 0;

  function place(element, { left, top, right, bottom }) {
    const edges = { left, top, width: right - left, height: bottom - top };
    for (const [edge, fraction] of Object.entries(edges)) element.style[edge] = `${fraction * 100}%`;
  }

  function draw(next) {
    box = next;
    place(shade, box);
    place(area, box);
    area.dataset.whole = isWhole(box);
    const size = { width: percent(box.right - box.left), height: percent(box.bottom - box.top) };
    describe(area, box.left, t("box.area", { left: percent(box.left), top: percent(box.top), ...size }));
    for (const [handle, corner] of handles) {
      const x = corner.endsWith("left") ? box.left : box.right;
      const y = corner.startsWith("top") ? box.top : box.bottom;
      handle.style.left = `${x * 100}%`;
      handle.style.top = `${y * 100}%`;
      describe(handle, x, t("box.corner", { left: percent(x), top: percent(y) }));
    }
  }

  function describe(handle, value, text) {
    handle.setAttribute("aria-valuenow", percent(value));
    handle.setAttribute("aria-valuetext", text);
  }

  function commit() {
    stopKeyTimer();
    if (["left", "top", "right", "bottom"].every((edge) => Math.abs(box[edge] - committed[edge]) < 1e-4)) return;
    committed = box;
    onCommit(box);
  }

  function stopKeyTimer() {
    clearTimeout(keyTimer);
    keyTimer = 0;
  }

  function revert() {
    stopKeyTimer();
    cancelDrag?.();
    draw(committed);
  }

  /** Follow one pointer until it is lifted; `change(dx, dy)` gets the way since the start, in fractions. */
  function drag(event, change) {
    if (event.button !== 0 || cancelDrag) return;
    const size = frame.getBoundingClientRect();
    const controller = new AbortController();
    const { signal } = controller;
    const target = event.currentTarget;
    target.setPointerCapture(event.pointerId);
    frame.dataset.dragging = "";
    let far = false;
    const stop = () => {
      controller.abort();
      cancelDrag = null;
      delete frame.dataset.dragging;
    };
    cancelDrag = stop;
    target.addEventListener(
      "pointermove",
      (now) => {
        const [x, y] = [now.clientX - event.clientX, now.clientY - event.clientY];
        far ||= Math.hypot(x, y) >= clickReachPx;
        if (far) draw(change(x / size.width, y / size.height));
      },
      { signal },
    );
    target.addEventListener(
      "pointerup",
      () => {
        stop();
        commit();
      },
      { signal },
    );
    target.addEventListener("pointercancel", revert, { signal });
  }

  /** Draw a new box from where the pointer went down. Fingers scroll the page there instead. */
  function dragNew(event) {
    if (event.pointerType === "touch") return;
    event.preventDefault();
    const size = frame.getBoundingClientRect();
    const from = { x: (event.clientX - size.left) / size.width, y: (event.clientY - size.top) / size.height };
    drag(event, (dx, dy) => between(from, { x: from.x + dx, y: from.y + dy }, leastSize(photo)));
  }

  function onKey(event, change) {
    if (event.key === "Enter") commit();
    if (!(event.key in steps)) return;
    event.preventDefault();
    const step = event.shiftKey ? 0.05 : 0.01;
    const [dx, dy] = steps[event.key];
    draw(change(dx * step, dy * step));
    clearTimeout(keyTimer);
    keyTimer = setTimeout(commit, keyDelayMs);
  }

  frame.addEventListener("pointerdown", (event) => event.target === picture && dragNew(event));
  area.addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    const start = box;
    if (isWhole(box)) dragNew(event);
    else drag(event, (dx, dy) => move(start, dx, dy));
  });
  area.addEventListener("keydown", (event) => onKey(event, (dx, dy) => move(box, dx, dy)));
  for (const [handle, corner] of handles) {
    const change = (from) => (dx, dy) => moveCorner(from, corner, dx, dy, leastSize(photo));
    handle.addEventListener("pointerdown", (event) => drag(event, change(box)));
    handle.addEventListener("keydown", (event) => onKey(event, change(box)));
  }
  stage.addEventListener("keydown", (event) => event.key === "Escape" && revert());
  picture.addEventListener("error", () => (stage.dataset.picture = "missing"));

  function mark(objects) {
    markers.replaceChildren(
      ...objects.flatMap((object, index) => {
        const outline = document.createElement("div"); // shown while the dot before it is pointed at
        outline.className = "outline";
        place(outline, object);
        const dot = document.createElement("button");
        dot.type = "button";
        dot.className = "marker";
        dot.setAttribute("aria-label", t("box.object", { number: index + 1 }));
        dot.style.left = `${50 * (object.left + object.right)}%`;
        dot.style.top = `${50 * (object.top + object.bottom)}%`;
        dot.addEventListener("click", () => {
          draw(object);
          commit();
        });
        return [dot, outline];
      }),
    );
  }

  return {
    /**
     * Show a photo, the box that was searched and the other objects; leaves a running change of the user alone.
     * @param {{pictureUrl: string, size: import("./box.js").Size | null, box: Box | null, objects: Box[]}} what
     *   size: null while it is unknown, the box cannot be changed then; boxes in fractions
     */
    show({ pictureUrl, size, box: shown, objects }) {
      const isChanging = cancelDrag || keyTimer;
      if (isChanging && picture.getAttribute("src") === pictureUrl) return;
      revert();
      stage.dataset.picture = pictureUrl ? "shown" : "missing";
      stage.dataset.editable = Boolean(size && pictureUrl);
      if (!pictureUrl) picture.removeAttribute("src");
      else if (picture.getAttribute("src") !== pictureUrl) picture.src = pictureUrl;
      photo = size ?? { width: 1, height: 1 };
      frame.style.setProperty("--ratio", size ? size.width / size.height : 1);
      committed = shown ?? wholePhoto;
      draw(committed);
      mark(objects);
    },
  };
}
