/** What stands above or below the results when something has to be said, and the short message at the window's foot. */

import { t } from "./i18n.js";

/** @typedef {"start" | "results" | "more"} Place */

const toastMs = 6000;
let toastTimer = 0;

const placeOf = (place) => document.querySelector(`[data-notice-place="${place}"]`);

/** Take every notice away. */
export function clearNotices() {
  for (const place of document.querySelectorAll("[data-notice-place]")) place.replaceChildren();
}

/**
 * Say something in place of what was said there before.
 * @param {Place} place
 * @param {{title?: string, detail?: string, request?: string, actions?: [string, () => void][], urgent?: boolean}} what
 *   actions: key of the button's text, and what it does; urgent: an error, announced at once
 */
export function say(place, { title = "", detail = "", request = "", actions = [], urgent = false }) {
  const box = document.getElementById("notice-template").content.firstElementChild.cloneNode(true);
  for (const [slot, text] of Object.entries({ title, detail, request })) {
    const element = box.querySelector(`[data-slot="${slot}"]`);
    element.textContent = text;
    element.hidden = !text;
  }
  box.classList.toggle("urgent", urgent);
  if (urgent) box.setAttribute("role", "alert");
  for (const [key, act] of actions) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "secondary";
    button.textContent = t(key);
    button.addEventListener("click", act);
    box.querySelector("[data-actions]").append(button);
  }
  placeOf(place).replaceChildren(box);
}

/**
 * Add a field for the access key to the notice of a place.
 * @param {Place} place @param {(key: string) => void} onKey
 */
export function askForKey(place, onKey) {
  const form = document.getElementById("key-form").content.firstElementChild.cloneNode(true);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onKey(form.elements.key.value.trim());
  });
  placeOf(place).querySelector("[data-actions]").append(form);
}

/** Show a short message that leaves by itself. @param {string} text "" takes it away */
export function toast(text) {
  const box = document.getElementById("toast");
  box.textContent = text;
  box.hidden = !text;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (box.hidden = true), toastMs);
}
