/** Random ids and the few things the page remembers; both work where the browser forbids storage or is not on https. */

/** @returns {string} 32 hex digits, random */
export function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {"localStorage" | "sessionStorage"} where
 * @param {string} name
 * @returns {string} what was remembered, "" where there is nothing or storage is forbidden
 */
export function recall(where, name) {
  try {
    return window[where].getItem(`sameitem.${name}`) ?? "";
  } catch {
    return "";
  }
}

/**
 * Remember a text; where storage is forbidden it is forgotten with the page.
 * @param {"localStorage" | "sessionStorage"} where @param {string} name @param {string} value
 */
export function remember(where, name, value) {
  try {
    window[where].setItem(`sameitem.${name}`, value);
  } catch {
    // private windows and third-party frames may refuse; the page works without
  }
}

/** @returns {string} one id per browser tab, so that searches of one visit can be told from others */
export function sessionId() {
  const known = recall("sessionStorage", "session");
  if (known) return known;
  const fresh = randomId();
  remember("sessionStorage", "session", fresh);
  return fresh;
}
