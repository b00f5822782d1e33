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
 * @param {Place} place
 * @param {(key: string) => Promise<string>} onKey tries a key; gives what is wrong with it, "" when it is accepted
 */
export function askForKey(place, onKey) {
  const form = document.getElementById("key-form").content.firstElementChild.cloneNode(true);
  const [field, button, wrong] = [form.elements.key, form.querySelector("button"), form.querySelector("[role=alert]")];
  form.querySelector("[data-label]").textContent = t("error.keyLabel");
  button.textContent = t("error.keyUse");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    wrong.textContent = "";
    const reason = await onKey(field.value.trim());
    button.disabled = false;
    wrong.textContent = reason;
    field.toggleAttribute("aria-invalid", Boolean(reason));
    if (reason) field.select();
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
