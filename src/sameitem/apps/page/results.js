/** Result cards, their folded sellers and details. All text enters as text; addresses are http or https only. */

import { formatPercent, formatPrice, t } from "./i18n.js";

/** @typedef {import("./api.js").Result} Result */

const skeletonCards = 10;
const listedSellers = 30;

/**
 * @param {unknown} text an address that came from a catalogue
 * @returns {string} the address if a browser may safely follow it, else ""
 */
export function safeUrl(text) {
  if (typeof text !== "string" || !text.trim()) return "";
  try {
    const url = new URL(text, document.baseURI);
    return ["http:", "https:"].includes(url.protocol) ? url.href : "";
  } catch {
    return "";
  }
}

/** @param {Result} result @returns {boolean} whether the server has checked that it is the same item */
export const isSameItem = (result) => result.same_item >= 0.5;

/** @param {Partial<Result>} result @returns {string} the title, or the product's id where the shop gave none */
export const titleOf = (result) => String(result.title || result.product_id || "");

const clone = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

function fill(root, slot, text) {
  const element = root.querySelector(`[data-slot="${slot}"]`);
  element.textContent = text ?? "";
  element.hidden = !text;
  return element;
}

function setPicture(root, result) {
  const tile = root.querySelector("[data-tile]");
  const picture = tile.querySelector("img");
  const url = safeUrl(result.image_url);
  const missing = () => {
    tile.dataset.missing = "";
    picture.remove();
  };
  if (!url) return missing();
  picture.addEventListener("error", missing);
  picture.addEventListener("load", () => {
    const ratio = picture.naturalWidth / picture.naturalHeight;
    tile.dataset.loaded = ratio > 0.8 && ratio < 1.25 ? "fill" : "fit"; // nearly square pictures fill their tile
  });
  picture.src = url;
}

function setLink(link, url, onOpen) {
  link.href = url;
  link.addEventListener("click", onOpen);
  link.addEventListener("auxclick", (event) => event.button === 1 && onOpen());
}

/**
 * One result as a list item.
 * @param {Result} result
 * @param {{onOpen: () => void, onMore: () => void, onSellers: () => void}} actions
 *   onOpen: the shop's page opens in a new tab, or details should be shown where the product has no page
 * @returns {HTMLLIElement}
 */
export function createCard(result, { onOpen, onMore, onSellers }) {
  const url = safeUrl(result.url);
  const card = clone(url ? "card-link" : "card-button");
  const title = titleOf(result);
  setPicture(card, result);
  fill(card, "title", title);
  fill(card, "brand", result.brand);
  fill(card, "price", formatPrice(result.price, result.currency));
  const score = fill(card, "score", formatPercent(result.score));
  score.title = t("card.score", { score: score.textContent });
  fill(card, "same", isSameItem(result) ? t("card.same") : "");

  const open = card.querySelector("[data-open]");
  if (url) setLink(open, url, onOpen);
  else open.addEventListener("click", onOpen);

  const more = card.querySelector("[data-more]");
  more.setAttribute("aria-label", t("card.moreOf", { title }));
  more.title = t("card.more");
  more.addEventListener("click", onMore);

  const sellers = fill(card, "sellers", result.duplicates > 0 ? t("card.sellers", { count: result.duplicates }) : "");
  sellers.setAttribute("aria-label", t("card.sellersOf", { count: result.duplicates, title }));
  sellers.addEventListener("click", onSellers);
  return card;
}

/** @returns {HTMLLIElement[]} grey cards of the same size as real ones, while a search is running */
export function createSkeletons() {
  return Array.from({ length: skeletonCards }, () => clone("card-skeleton"));
}

/**
 * Show a product that has no page of its own.
 * @param {HTMLDialogElement} dialog @param {Result} result @param {{onMore: () => void}} actions
 */
export function showDetails(dialog, result, { onMore }) {
  const body = clone("details-body");
  setPicture(body, result);
  fill(body, "title", titleOf(result));
  fill(body, "brand", result.brand);
  fill(body, "price", formatPrice(result.price, result.currency));
  const facts = Object.entries(result.attributes ?? {}).flatMap(([name, value]) => {
    const [term, description] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    description.textContent = String(value);
    return [term, description];
  });
  body.querySelector("dl").replaceChildren(...facts);
  body.querySelector("[data-more]").addEventListener("click", () => {
    dialog.close();
    onMore();
  });
  open(dialog, body);
}

/**
 * Show every seller of a result; what the shop says of each is fetched while the list is already there.
 * @param {HTMLDialogElement} dialog
 * @param {Result} result
 * @param {{fetchProduct: (id: string, imageName: string) => Promise<Partial<Result>>, onOpen: (seller: Result) => void,
 *   onMore: (seller: Result) => void}} actions
 */
export function showSellers(dialog, result, { fetchProduct, onOpen, onMore }) {
  const body = clone("sellers-body");
  const folded = (result.duplicate_products ?? [])
    .slice(0, listedSellers)
    .map((other) => ({ ...other, rank: result.rank }));
  const sellers = [result, ...folded];
  const rows = sellers.map((seller) =>
    createSeller(seller, { onOpen, onMore: () => (dialog.close(), onMore(seller)) }),
  );
  body.querySelector("ul").replaceChildren(...rows);
  const unlisted = result.duplicates - folded.length;
  fill(body, "rest", unlisted > 0 ? t("sellers.rest", { count: unlisted }) : "");
  open(dialog, body);
  folded.forEach(async (seller, index) => {
    const product = await fetchProduct(seller.product_id, seller.image_name).catch(() => ({})); // then the id alone
    const known = { ...product, ...seller };
    rows[index + 1].replaceWith(createSeller(known, { onOpen, onMore: () => (dialog.close(), onMore(known)) }));
  });
}

function createSeller(seller, { onOpen, onMore }) {
  const row = clone("seller");
  const url = safeUrl(seller.url);
  fill(row, "title", titleOf(seller)).title = titleOf(seller);
  fill(row, "brand", seller.brand);
  fill(row, "price", formatPrice(seller.price, seller.currency));
  const link = row.querySelector("a");
  link.hidden = !url;
  if (url) setLink(link, url, () => onOpen(seller));
  link.setAttribute("aria-label", t("sellers.visitOf", { title: titleOf(seller) }));
  const more = row.querySelector("[data-more]");
  more.setAttribute("aria-label", t("card.moreOf", { title: titleOf(seller) }));
  more.addEventListener("click", onMore);
  return row;
}

function open(dialog, body) {
  dialog.querySelector("[data-body]").replaceChildren(body);
  dialog.showModal();
}
