/** Impressions and clicks: what was really on the screen, each once, and what was opened. */

import { randomId } from "./identity.js";

const batchDelayMs = 800;

/**
 * Watch result cards and report what the user saw and opened.
 * @param {(events: Record<string, unknown>[]) => void} send
 */
export function createEventLog(send) {
  const shown = new Map(); // card element -> the event's own fields
  const reported = new Set(); // a card drawn again, as after a change of language, is not a second impression
  let batch = [];
  let timer = 0;

  const event = (type, fields) => ({ event_id: randomId(), type, ts: new Date().toISOString(), ...fields });

  function flush() {
    clearTimeout(timer);
    if (batch.length) send(batch);
    batch = [];
  }

  const observer = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting || !shown.has(target)) continue;
        const fields = shown.get(target);
        reported.add(`${fields.search_id} ${fields.rank}`);
        batch.push(event("impression", fields));
        shown.delete(target);
        observer.unobserve(target);
      }
      clearTimeout(timer);
      if (batch.length) timer = setTimeout(flush, batchDelayMs);
    },
    { threshold: 0.5 },
  );

  document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && flush());
  window.addEventListener("pagehide", flush);

  return {
    /** Report the card once half of it has been on the screen. */
    watch(card, searchId, { product_id, image_name, rank }) {
      if (reported.has(`${searchId} ${rank}`)) return;
      shown.set(card, { search_id: searchId, product_id, image_name, rank });
      observer.observe(card);
    },
    /** Forget cards that were taken off the page. */
    reset() {
      flush();
      observer.disconnect();
      shown.clear();
    },
    /** Report that a result was opened; impressions waiting go first. */
    click(searchId, { product_id, image_name, rank }) {
      flush();
      send([event("click", { search_id: searchId, product_id, image_name, rank })]);
    },
  };
}
