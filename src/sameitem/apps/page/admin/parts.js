/** What the sections are made of: elements, tables, pictures, pages, questions, and how numbers and times are written. */

import { formatNumber, t } from "../i18n.js";
import { addressOf } from "./rest.js";

const toastMs = 6000;
let toastTimer = 0;

const language = () => document.documentElement.lang || "en";

/**
 * An element. Text enters as text; attributes whose value is false, null or undefined are left out.
 * @param {string} tag @param {Record<string, any>} attributes `on…` are listeners
 * @param {...(Node | string | number | null | undefined | false | any[])} children
 * @returns {HTMLElement}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined && !(name === "class" && value === "")) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// ---- numbers and times ----------------------------------------------------------------------------------------------

/** @param {number | null | undefined} share 0..1 @param {number} digits @returns {string} */
export function percent(share, digits = 1) {
  if (typeof share !== "number") return "–";
  return new Intl.NumberFormat(language(), {
    style: "percent",
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(share);
}

/** @param {{count: number, share: number, low: number, high: number}} found @returns {string} a share with its interval */
export const interval = (found) => `${percent(found.low, 0)}–${percent(found.high, 0)}`;

/** @param {number | null} ms @returns {string} */
export const milliseconds = (ms) =>
  ms === null ? "–" : `${new Intl.NumberFormat(language(), { maximumFractionDigits: ms < 10 ? 1 : 0 }).format(ms)} ms`;

/** @param {number} bytes @returns {string} */
export function size(bytes) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  const format = { style: "unit", unit: units[power], unitDisplay: "short", maximumFractionDigits: power > 2 ? 1 : 0 };
  return new Intl.NumberFormat(language(), format).format(bytes / 1000 ** power);
}

/** @param {number} value @returns {string} a measured figure, in few digits */
export const figure = (value) =>
  Number.isInteger(value) ? formatNumber(value) : new Intl.NumberFormat(language(), { maximumSignificantDigits: 4 }).format(value);

/** @param {string} iso @returns {HTMLElement} a moment in the reader's time zone; how long ago for what is recent */
export function moment(iso) {
  const when = new Date(iso);
  const whole = new Intl.DateTimeFormat(language(), { dateStyle: "medium", timeStyle: "short" }).format(when);
  const seconds = (Date.now() - when.getTime()) / 1000;
  const relative = new Intl.RelativeTimeFormat(language(), { numeric: "auto" });
  let text = whole;
  if (seconds < 60) text = t("admin.now");
  else if (seconds < 3600) text = relative.format(-Math.round(seconds / 60), "minute");
  else if (seconds < 86_400) text = relative.format(-Math.round(seconds / 3600), "hour");
  return h("time", { datetime: iso, title: whole }, text);
}

/** @param {string} from @param {string | null} to @returns {string} how long something took, or has taken so far */
export function duration(from, to) {
  const seconds = Math.max(0, ((to ? new Date(to) : new Date()) - new Date(from)) / 1000);
  const unit = (value, name) =>
    new Intl.NumberFormat(language(), { style: "unit", unit: name, unitDisplay: "narrow" }).format(Math.floor(value));
  if (seconds < 60) return unit(seconds, "second");
  if (seconds < 3600) return `${unit(seconds / 60, "minute")} ${unit(seconds % 60, "second")}`;
  return `${unit(seconds / 3600, "hour")} ${unit((seconds % 3600) / 60, "minute")}`;
}

// ---- layout ---------------------------------------------------------------------------------------------------------

/** @param {string} title @param {string} lead @param {...any} actions @returns {HTMLElement} the head of a section */
export const head = (title, lead = "", ...actions) =>
  h(
    "header",
    { class: "section-head" },
    h("div", {}, h("h1", { tabindex: "-1" }, title), lead && h("p", { class: "hint" }, lead)),
    actions.length > 0 && h("div", { class: "actions" }, actions),
  );

/** @param {string | null} title @param {...any} children @returns {HTMLElement} */
export const card = (title, ...children) =>
  h("section", { class: "panel" }, title && h("h2", {}, title), children);

/** @param {string} label @param {string} value @param {...any} note @returns {HTMLElement} one big figure */
export const stat = (label, value, ...note) =>
  h("div", { class: "stat" }, h("dt", {}, label), h("dd", {}, h("strong", {}, value), note.length > 0 && h("small", {}, note)));

/** @param {string} text @param {"plain" | "good" | "bad" | "busy"} kind @returns {HTMLElement} a word in a frame; its text says all */
export const badge = (text, kind = "plain") => h("span", { class: `tag tag-${kind}` }, text);

/** @param {[string, any][]} facts @returns {HTMLElement} names and values */
export const facts = (facts) =>
  h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

/** @param {string} text @returns {HTMLElement} what stands where there is nothing */
export const empty = (text) => h("p", { class: "empty" }, text);

/** @param {string} href @param {any} text @param {string} [kind] @returns {HTMLElement} */
export const link = (href, text, kind = "") => h("a", { href, class: kind }, text);

/**
 * @param {any} text @param {() => unknown} act @param {{kind?: string, label?: string, focus?: string}} options
 *   focus: a name that stays the same when the section is drawn anew
 * @returns {HTMLElement}
 */
export const button = (text, act, { kind = "secondary", label = undefined, focus = undefined } = {}) =>
  h("button", { type: "button", class: kind, "aria-label": label, "data-focus": focus, onclick: act }, text);

/**
 * A table; its columns are named, and it scrolls sideways in itself where it does not fit.
 * @param {string} caption for screen readers
 * @param {(string | {text: string, number?: boolean})[]} columns
 * @param {any[][]} rows cells: text, nodes, or arrays of them
 * @param {{stacks?: boolean}} options stacks: on a phone each row is a block, its cells below each other
 * @returns {HTMLElement}
 */
export function table(caption, columns, rows, { stacks = false } = {}) {
  const named = columns.map((column) => (typeof column === "string" ? { text: column } : column));
  const role = (name) => stacks && name; // said again, because a block is no row to a browser
  const cells = (row) =>
    row.map((cell, place) => {
      const { text, number } = named[place];
      const attributes = { class: number ? "number" : "", "data-label": text, role: role(place === 0 ? "rowheader" : "cell") };
      return place === 0 ? h("th", { ...attributes, scope: "row" }, cell) : h("td", attributes, cell);
    });
  const columnHead = ({ text, number }) => h("th", { scope: "col", class: number ? "number" : "", role: role("columnheader") }, text);
  return h(
    "div",
    { class: stacks ? "scroll stacks" : "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      { role: role("table") },
      h("caption", { class: "visually-hidden" }, caption),
      h("thead", { role: role("rowgroup") }, h("tr", { role: role("row") }, named.map(columnHead))),
      h("tbody", { role: role("rowgroup") }, rows.map((row) => h("tr", { role: role("row") }, cells(row)))),
    ),
  );
}

/**
 * A catalogue picture in a square; a sign stands in where it is gone.
 * @param {string | null} path @param {string} alt @param {number} side pixels to ask for
 * @returns {HTMLElement}
 */
export function picture(path, alt, side = 240) {
  const tile = h("span", { class: "tile" });
  const sign = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  sign.setAttribute("class", "icon");
  sign.append(document.createElementNS("http://www.w3.org/2000/svg", "use"));
  sign.firstChild.setAttribute("href", "#icon-picture");
  tile.append(sign);
  const missing = () => {
    tile.dataset.missing = "";
    tile.setAttribute("role", "img");
    tile.setAttribute("aria-label", `${alt} (${t("admin.pictureGone")})`);
  };
  if (!path) {
    missing();
    return tile;
  }
  const image = h("img", { src: `${addressOf(path)}?side=${side}`, alt, loading: "lazy", decoding: "async" });
  image.addEventListener("load", () => (tile.dataset.loaded = "fit"));
  image.addEventListener("error", () => {
    image.remove();
    missing();
  });
  tile.append(image);
  return tile;
}

/** @param {HTMLElement} tile @param {{left: number, top: number, right: number, bottom: number}} box shares @param {string} kind @returns {HTMLElement} the tile, with the box drawn on its picture */
export function withBox(tile, box, kind = "") {
  const image = tile.querySelector("img");
  const frame = h("span", { class: `found-box ${kind}`, "aria-hidden": "true" });
  const place = () => {
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    const scale = 1 / Math.max(width, height); // the picture is fitted into a square
    const [left, top] = [(1 - width * scale) / 2, (1 - height * scale) / 2];
    frame.style.left = `${100 * (left + box.left * width * scale)}%`;
    frame.style.top = `${100 * (top + box.top * height * scale)}%`;
    frame.style.width = `${100 * (box.right - box.left) * width * scale}%`;
    frame.style.height = `${100 * (box.bottom - box.top) * height * scale}%`;
    tile.append(frame);
  };
  if (image?.complete && image.naturalWidth) place();
  else image?.addEventListener("load", place);
  return tile;
}

/**
 * Links to the page before and after, and where the reader is.
 * @param {{start: number, num: number, found: number}} where @param {(start: number) => string} hrefAt
 * @returns {HTMLElement | null} null where everything fits one page
 */
export function pager({ start, num, found }, hrefAt) {
  if (found <= num && start === 0) return null;
  const last = Math.min(start + num, found);
  return h(
    "nav",
    { class: "pager", "aria-label": t("admin.pages") },
    start > 0 ? link(hrefAt(Math.max(0, start - num)), t("admin.before"), "secondary") : h("span"),
    h("span", { class: "hint" }, t("admin.range", { from: formatNumber(Math.min(start + 1, found)), to: formatNumber(last), found: formatNumber(found) })),
    last < found ? link(hrefAt(start + num), t("admin.after"), "secondary") : h("span"),
  );
}

/** @param {number} share 0..1 @param {string} label @returns {HTMLElement} how far something is */
export function progress(share, label) {
  const bar = h("progress", { max: "1", "aria-label": label });
  bar.value = share;
  return bar;
}

// ---- saying and asking ----------------------------------------------------------------------------------------------

/** @param {string} text said on the screen for a moment, and by a screen reader */
export function toast(text) {
  const box = document.getElementById("toast");
  box.textContent = text;
  box.hidden = !text;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (box.hidden = true), toastMs);
}

/**
 * @typedef {{name: string, label: string, kind?: "text" | "number" | "select" | "check", options?: [string, string][],
 *   value?: string, hint?: string}} Field value of a check: "yes" or ""
 */

/**
 * Ask before something is done; the focus comes back to where it was.
 * @param {{title: string, text: string, confirm: string, danger?: boolean, fields?: Field[]}} question
 * @returns {Promise<Record<string, any> | null>} the fields' values; null: nothing is to be done
 */
export function ask({ title, text, confirm, danger = false, fields = [] }) {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("ask"));
  document.getElementById("ask-title").textContent = title;
  document.getElementById("ask-text").textContent = text;
  dialog.querySelector("[data-fields]").replaceChildren(...fields.map(field));
  const yes = dialog.querySelector("[data-confirm]");
  yes.textContent = confirm;
  yes.classList.toggle("danger", danger);
  dialog.returnValue = "";
  dialog.showModal();
  const first = fields.length ? dialog.querySelector("[data-fields] :is(input, select)") : dialog.querySelector("[formnovalidate]");
  first.focus(); // on "Cancel" where nothing is to be filled in
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const form = dialog.querySelector("form");
        const values = fields.map(({ name, kind }) => [name, kind === "check" ? form.elements[name].checked : form.elements[name].value]);
        resolve(dialog.returnValue === "yes" ? Object.fromEntries(values) : null);
      },
      { once: true },
    );
  });
}

function field({ name, label, kind = "text", options = [], value = "", hint = "" }) {
  const [title, note] = [`ask-${name}`, `ask-${name}-hint`];
  const named = { name, "aria-labelledby": title, "aria-describedby": hint ? note : false };
  const words = [h("span", { id: title }, label), hint && h("small", { class: "hint", id: note }, hint)];
  if (kind === "check") return h("label", { class: "check" }, h("input", { ...named, type: "checkbox", checked: value === "yes" }), words);
  const numeric = kind === "number" ? { min: "0", step: "any", inputmode: "decimal" } : {};
  const input =
    kind === "select"
      ? h("select", named, options.map(([id, text]) => h("option", { value: id, selected: id === value }, text)))
      : h("input", { ...named, ...numeric, type: kind, value, autocomplete: "off" });
  return h("label", {}, words[0], input, words[1]);
}
