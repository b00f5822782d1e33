/** The photo search page: one view (what was asked), its answers, and the elements that show them. */

import { ApiError, fetchCategories, fetchProduct, search, sendEvents } from "./api.js";
import { fromPixels, isWhole, wholePhoto } from "./box.js";
import { createBoxEditor } from "./boxeditor.js";
import { takePhoto } from "./camera.js";
import { createEventLog } from "./events.js";
import { currentLanguage, formatPercent, preferredLanguage, setLanguage, t } from "./i18n.js";
import { remember } from "./identity.js";
import { PhotoError, pickFile, preparePhoto } from "./photo.js";
import { createCard, createSkeletons, isSameItem, safeUrl, showDetails, showSellers } from "./results.js";
import { amount, countFilters, emptyView, noFilters, readAddress, writeAddress } from "./state.js";

const pageSize = 24;
const deepest = 1000; // the server answers no further
const chipCount = 4;

const $ = (id) => document.getElementById(id);
const photos = new Map(); // photos of this page by key: the way back from "more like this"
const events = createEventLog(sendEvents);
const editor = createBoxEditor($("stage"), { onCommit: (box) => refine({ box: isWhole(box) ? wholePhoto : box }) });

/** @type {import("./state.js").View} */
let view = emptyView;
/** @type {import("./api.js").SearchAnswer[]} the pages that are shown, best first */
let answers = [];
let understood = null; // what the server made of the query, also while a refined search runs or has failed
let categories = []; // the taxonomy's top categories
let running = new AbortController();
let busy = false;
let notice = null; // draws what stands above the results, again after a change of language

// ---- what was asked -------------------------------------------------------------------------------------------------

/** A new query: another photo or product, from the start. Filters stay, as a shopper's price range does. */
function ask(query) {
  if (query.kind === "photo") photos.set(query.key, query);
  view = { ...view, query, box: null, categoryId: "" };
  forget();
  save("pushState");
  run();
  window.scrollTo({ top: 0 });
  $("results-title").focus({ preventScroll: true });
}

function forget() {
  answers = [];
  understood = null;
}

/** The same query with another box, category or filters. */
function refine(patch) {
  view = { ...view, ...patch };
  save("replaceState");
  if (view.query) run();
  else draw();
}

function save(how) {
  const { query, box } = view;
  const kept = query?.kind === "photo" ? { photo: query.key, box } : { picture: query?.pictureUrl };
  history[how](kept, "", `${location.pathname}${writeAddress(view)}`);
}

/** Show what the address and the history entry say; a photo is only there as long as the page is. */
function restore(kept) {
  view = readAddress(location.search);
  if (view.query) view.query.pictureUrl = safeUrl(kept?.picture);
  else if (photos.has(kept?.photo)) view = { ...view, query: photos.get(kept.photo), box: kept.box };
  forget();
  running.abort();
  busy = false;
  notice = kept?.photo && !view.query ? () => say("start", { detail: t("query.lost") }) : null;
  if (view.query) run();
  else draw();
}

// ---- searching ------------------------------------------------------------------------------------------------------

/** Search the view; `more` asks for the next page instead of the first. An older search still running is dropped. */
async function run({ more = false } = {}) {
  running.abort();
  const controller = (running = new AbortController());
  const start = more ? shownCount() : 0;
  busy = true;
  notice = null;
  $("live").textContent = t("results.searching");
  if (!more) events.reset();
  draw();
  let answer = null;
  try {
    answer = await search(view, { start, num: Math.min(pageSize, deepest - start), photoSize: photoSize(), signal: controller.signal });
  } catch (error) {
    if (controller.signal.aborted) return;
    if (!(error instanceof ApiError)) throw error;
    busy = false;
    if (!more) answers = [];
    notice = () => explain(error, { again: () => run({ more }), place: more ? "more" : "results" });
    draw();
    return;
  }
  if (controller.signal.aborted) return;
  busy = false;
  const before = shownCount();
  answers = more ? [...answers, answer] : [answer];
  understood = answer.query;
  if (!more) notice = verdict(answer);
  draw();
  const added = shownCount() - before;
  $("live").textContent = more ? t("results.added", { count: added }) : [summary(), notice && t("weak.title")].filter(Boolean).join(". ");
  if (more) $("cards").children[before]?.querySelector("[data-open]").focus();
}

/** The visual score from which a result is a good match: the server's word, as it belongs to the model; else the page's. */
function goodMatchScore() {
  return answers[0]?.head.good_match ?? Number(document.querySelector("meta[name=good-match-score]").content);
}

const shownCount = () => answers.reduce((count, answer) => count + answer.results.length, 0);
const bestScore = () => Math.max(0, ...(answers[0]?.results ?? []).map((result) => result.visual_score ?? 0));

/** Size of the upright query photo in pixels: the server's word, else what the browser measured. */
function photoSize() {
  const { width, height } = understood ?? view.query;
  return width > 0 && height > 0 ? { width, height } : null;
}

function hasMore() {
  const last = answers.at(-1);
  return Boolean(last?.results.length) && shownCount() < Math.min(answers[0].head.found, deepest);
}

function summary() {
  if (!answers.length) return "";
  const count = t("results.count", { count: answers[0].head.found });
  const score = formatPercent(bestScore());
  return answers[0].results.length ? `${count} · ${t("results.best", { score })}` : t("none.title");
}

// ---- drawing --------------------------------------------------------------------------------------------------------

function draw() {
  const searching = Boolean(view.query);
  $("start").hidden = searching;
  $("workspace").hidden = !searching;
  document.body.classList.toggle("busy", busy);
  for (const place of document.querySelectorAll("[data-notice-place]")) place.replaceChildren();
  drawFilters();
  if (searching) {
    drawQuery();
    drawChips();
    drawCards();
  }
  notice?.();
}

function drawQuery() {
  const { query } = view;
  const isPhoto = query.kind === "photo";
  const found = answers[0]?.results.find((result) => result.product_id === query.productId && result.image_name === query.imageName);
  if (!isPhoto && !query.pictureUrl) query.pictureUrl = safeUrl(found?.image_url);
  const size = photoSize();
  const predicted = understood?.box && size ? fromPixels(understood.box, size) : null;
  const objects = size ? (understood?.objects ?? []).map((object) => fromPixels(object.box, size)) : [];
  const box = view.box ?? predicted ?? wholePhoto;
  const others = objects.filter((object) => overlap(object, box) < 0.8);
  editor.show({ pictureUrl: query.pictureUrl, size, box, objects: others });
  drawThumb(query.pictureUrl, box);
  $("query-title").textContent = t(isPhoto ? "query.title" : "query.product");
  $("query-hint").textContent = isPhoto && !query.pictureUrl ? t("query.unseen") : query.pictureUrl ? t("query.hint") : "";
  $("share-link").hidden = true;
  $("whole").hidden = isWhole(box) || !size;
  $("share-note").textContent = t(isPhoto ? "query.shareNote" : "query.shareNoteProduct");
}

function overlap(a, b) {
  const area = (box) => Math.max(0, box.right - box.left) * Math.max(0, box.bottom - box.top);
  const both = area({
    left: Math.max(a.left, b.left),
    top: Math.max(a.top, b.top),
    right: Math.min(a.right, b.right),
    bottom: Math.min(a.bottom, b.bottom),
  });
  return both / (area(a) + area(b) - both || 1);
}

/** The searched part of the photo as a small square, for the strip that stays on a phone. */
function drawThumb(pictureUrl, box) {
  const canvas = $("thumb").querySelector("canvas");
  const context = canvas.getContext("2d");
  const paint = (picture) => {
    const [x, y] = [box.left * picture.naturalWidth, box.top * picture.naturalHeight];
    const [width, height] = [(box.right - box.left) * picture.naturalWidth, (box.bottom - box.top) * picture.naturalHeight];
    const side = Math.min(width, height);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(picture, x + (width - side) / 2, y + (height - side) / 2, side, side, 0, 0, canvas.width, canvas.height);
  };
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!pictureUrl) return;
  const picture = $("stage").querySelector("[data-picture]");
  if (picture.complete && picture.naturalWidth) paint(picture);
  else picture.addEventListener("load", () => paint(picture), { once: true });
}

function categoryName({ id, name }) {
  const known = categories.find((category) => category.id === id);
  return (currentLanguage() === "zh" && known?.name_zh) || known?.name || name || id;
}

function drawChips() {
  const predicted = understood?.categories ?? [];
  const best = predicted[0];
  const chips = predicted.slice(0, chipCount).map((category) => chip(categoryName(category), category.id, category.score));
  chips.unshift(chip(best && !view.categoryId ? t("category.autoIs", { name: categoryName(best) }) : t("category.auto"), ""));
  const listed = new Set(["", ...predicted.slice(0, chipCount).map((category) => category.id)]);
  const others = categories.filter((category) => !listed.has(category.id));
  if (others.length) chips.push(otherChip(others));
  else if (!listed.has(view.categoryId)) chips.push(chip(categoryName({ id: view.categoryId }), view.categoryId));
  const focused = document.activeElement?.dataset?.category;
  $("chips").replaceChildren(...chips);
  if (focused !== undefined) chips.find((element) => element.dataset.category === focused)?.focus();
}

function chip(text, id, score) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "chip";
  button.dataset.category = id;
  button.setAttribute("aria-pressed", id === view.categoryId);
  button.append(text);
  if (score !== undefined) {
    const share = document.createElement("small");
    share.textContent = formatPercent(score);
    button.append(" ", share);
  }
  button.addEventListener("click", () => id !== view.categoryId && refine({ categoryId: id }));
  return button;
}

function otherChip(others) {
  const select = document.createElement("select");
  select.className = "chip";
  select.dataset.category = "other";
  select.setAttribute("aria-label", t("category.label"));
  select.append(new Option(t("category.other"), ""));
  for (const category of others) select.append(new Option(categoryName(category), category.id));
  select.value = others.some((category) => category.id === view.categoryId) ? view.categoryId : "";
  select.classList.toggle("chosen", select.value !== "");
  select.addEventListener("change", () => refine({ categoryId: select.value }));
  return select;
}

function drawCards() {
  const cards = $("cards");
  $("results-title").parentElement.classList.toggle("pending", busy && !answers.length);
  $("summary").textContent = busy && !answers.length ? t("results.searching") : summary();
  cards.setAttribute("aria-busy", busy);
  if (busy && !answers.length) cards.replaceChildren(...createSkeletons());
  else {
    const wanted = answers.flatMap((answer) => answer.results.map((result) => ({ answer, result })));
    const kept = Array.from(cards.children).filter((card, index) => drawn.get(card) === wanted[index]?.result);
    const isPrefix = kept.every((card, index) => card === cards.children[index]);
    const fresh = (isPrefix ? wanted.slice(kept.length) : wanted).map(({ answer, result }) => drawCard(answer, result));
    cards.replaceChildren(...(isPrefix ? kept : []), ...fresh);
  }
  $("more").hidden = busy || !hasMore();
  $("end").hidden = busy || hasMore() || answers.length < 2;
}

const drawn = new WeakMap(); // card element -> its result, so that a further page leaves the cards before it alone

function drawCard(answer, result) {
  const open = (shown) => events.click(answer.search_id, shown);
  const similar = (shown) => ask({ kind: "product", productId: shown.product_id, imageName: shown.image_name, pictureUrl: safeUrl(shown.image_url) });
  const card = createCard(result, {
    onOpen: () => {
      open(result);
      if (!safeUrl(result.url)) showDetails($("sheet"), result, { onMore: () => similar(result) });
    },
    onMore: () => similar(result),
    onSellers: () => showSellers($("sheet"), result, { fetchProduct, onOpen: open, onMore: similar }),
  });
  drawn.set(card, result);
  events.watch(card, answer.search_id, result);
  return card;
}

// ---- notices --------------------------------------------------------------------------------------------------------

/** @returns {(() => void) | null} what to say of an answer that does not satisfy */
function verdict(answer) {
  const isGood = answer.results.some(isSameItem) || bestScore() >= goodMatchScore();
  if (answer.results.length && isGood) return null;
  const [best, wanted] = [formatPercent(bestScore()), formatPercent(goodMatchScore())];
  const kind = answer.results.length ? "weak" : "none";
  return () => say("results", { title: t(`${kind}.title`), detail: t(`${kind}.detail`, { best, wanted }), actions: widenings() });
}

function widenings() {
  const box = view.box ?? wholePhoto;
  return [
    countFilters(view.filters) && ["widen.filters", () => refine({ filters: noFilters })],
    view.categoryId && ["widen.category", () => refine({ categoryId: "" })],
    !isWhole(box) && ["widen.box", () => refine({ box: wholePhoto })],
    ["widen.photo", () => $("file").click()],
  ].filter(Boolean);
}

/** Say what went wrong and offer the step that may help. */
function explain(error, { again, place }) {
  const wrongFilter = error.errors.find(({ field }) => field === "filter");
  if (wrongFilter && countFilters(view.filters)) showFilterError(wrongFilter.reason || error.detail);
  const retry = ["error.retry", again];
  const other = ["widen.photo", () => $("file").click()];
  const request = error.requestId && t("error.request", { id: error.requestId });
  const title = t("error.title");
  if (error.status === 401 || error.status === 403) {
    say(place, { title: t("error.key"), detail: error.detail, request, urgent: true });
    return askForKey(place, again);
  }
  const own = {
    unreachable: () => t(navigator.onLine ? "error.unreachable" : "error.offline"),
    timeout: () => t("error.timeout"),
    unreadable: () => t("error.unreadable"),
  }[error.code];
  if (own) return say(place, { title, detail: own(), actions: [retry], urgent: true });
  const reasons = error.errors.filter(({ reason }) => reason && !error.detail.includes(reason));
  const detail = {
    404: () => (view.query.kind === "product" ? t("error.notFound") : error.detail),
    429: () => busyFor(error),
    503: () => busyFor(error),
  }[error.status]?.() ?? [error.detail, ...reasons.map(({ field, reason }) => `${field}: ${reason}`)].join(" ");
  const actions = [404, 413, 415].includes(error.status) ? [other] : wrongFilter ? [["filters.clear", () => refine({ filters: noFilters })]] : [retry, other];
  say(place, { title, detail, request, actions, urgent: true });
}

const busyFor = ({ retryAfterS, detail }) => (retryAfterS ? t("error.busy", { seconds: retryAfterS }) : detail);

/** @param {"start" | "results" | "more"} place @param {{title?: string, detail?: string, request?: string, actions?: [string, () => void][], urgent?: boolean}} what */
function say(place, { title = "", detail = "", request = "", actions = [], urgent = false }) {
  const box = $("notice-template").content.firstElementChild.cloneNode(true);
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
  document.querySelector(`[data-notice-place="${place}"]`).replaceChildren(box);
}

function askForKey(place, again) {
  const form = $("key-form").content.firstElementChild.cloneNode(true);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    remember("localStorage", "key", form.elements.key.value.trim());
    loadCategories();
    again();
  });
  document.querySelector(`[data-notice-place="${place}"] [data-actions]`).append(form);
}

function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => ($("toast").hidden = true), 6000);
}

// ---- photos ---------------------------------------------------------------------------------------------------------

async function useFile(file) {
  if (!file) return;
  if ($("camera").open) $("camera").close();
  toast(t("take.reading"));
  try {
    const query = await preparePhoto(file);
    $("toast").hidden = true;
    ask(query);
  } catch (error) {
    if (!(error instanceof PhotoError)) throw error;
    $("toast").hidden = true;
    const name = error.fileName;
    const place = view.query ? "results" : "start";
    notice = () => say(place, { title: t("photo.title"), detail: t(`photo.${error.reason}`, { name }), urgent: true });
    draw();
  }
}

function useTransfer(transfer) {
  const file = pickFile(transfer);
  if (!file) return toast(t("take.nothing"));
  useFile(file);
  if (transfer.files.length > 1) toast(t("take.onlyFirst"));
}

for (const button of document.querySelectorAll("[data-take]")) {
  button.addEventListener("click", async () => {
    if (button.dataset.take === "file") $("file").click();
    else useFile(await takePhoto({ dialog: $("camera"), input: $("capture") }));
  });
}
for (const input of [$("file"), $("capture")]) {
  input.addEventListener("change", () => {
    useFile(input.files[0]);
    input.value = ""; // the same file may be chosen again
  });
}

let dragDepth = 0; // dragenter and dragleave also come from every element inside the page
const veil = (depth) => ($("drop-veil").hidden = (dragDepth = Math.max(0, depth)) === 0);
const mayHoldPicture = (event) => event.dataTransfer?.types.includes("Files") || event.dataTransfer?.types.includes("text/uri-list");
document.addEventListener("dragenter", (event) => mayHoldPicture(event) && veil(dragDepth + 1));
document.addEventListener("dragleave", (event) => mayHoldPicture(event) && veil(dragDepth - 1));
document.addEventListener("dragover", (event) => mayHoldPicture(event) && event.preventDefault());
document.addEventListener("drop", (event) => {
  if (!mayHoldPicture(event)) return;
  event.preventDefault();
  veil(0);
  useTransfer(event.dataTransfer);
});
document.addEventListener("paste", (event) => {
  const isTyping = event.target instanceof HTMLInputElement;
  if (isTyping && !event.clipboardData?.files.length) return;
  event.preventDefault();
  useTransfer(event.clipboardData);
});

// ---- filters --------------------------------------------------------------------------------------------------------

function readFilters() {
  const { minPrice, maxPrice, brand, inStock, expression } = $("filters").elements;
  return {
    minPrice: amount(minPrice.value),
    maxPrice: amount(maxPrice.value),
    brand: brand.value.trim(),
    inStock: inStock.checked,
    expression: expression.value.trim(),
  };
}

function drawFilters() {
  $("filters-label").textContent = t("filters.open", { count: countFilters(view.filters) });
  const fields = $("filters").elements;
  for (const name of ["minPrice", "maxPrice", "brand", "expression"]) {
    if (document.activeElement !== fields[name]) fields[name].value = view.filters[name];
  }
  fields.inStock.checked = view.filters.inStock;
  fields.expression.removeAttribute("aria-invalid");
  $("expression-error").hidden = true;
  const brands = new Set(answers.flatMap((answer) => answer.results.map((result) => result.brand)).filter(Boolean));
  $("brands").replaceChildren(...Array.from(brands).sort().map((brand) => new Option(brand, brand)));
}

function showFilters(open) {
  $("filters").hidden = !open;
  $("filters-open").setAttribute("aria-expanded", open);
}

function showFilterError(reason) {
  showFilters(true);
  $("filters").elements.expression.setAttribute("aria-invalid", "true");
  $("expression-error").textContent = reason;
  $("expression-error").hidden = false;
}

function applyFilters() {
  const filters = readFilters();
  if (Object.keys(noFilters).some((name) => filters[name] !== view.filters[name])) refine({ filters });
}

$("filters-open").addEventListener("click", () => showFilters($("filters").hidden));
$("filters").addEventListener("change", applyFilters);
$("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  showFilters(false);
  $("filters-open").focus();
  applyFilters();
});
$("filters").addEventListener("reset", () => setTimeout(applyFilters)); // the fields are empty only after the event
$("filters").addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  showFilters(false);
  $("filters-open").focus();
});

// ---- the rest -------------------------------------------------------------------------------------------------------

$("more").addEventListener("click", () => run({ more: true }));
$("whole").addEventListener("click", () => refine({ box: wholePhoto }));
$("thumb").addEventListener("click", () => {
  window.scrollTo({ top: 0 });
  $("stage").querySelector("[data-area]").focus({ preventScroll: true });
});
$("share").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    toast([t("query.copied"), $("share-note").textContent].join(" "));
  } catch {
    $("share-link").hidden = false; // the clipboard is closed to pages without https and to most frames
    $("share-link").querySelector("input").value = location.href;
    $("share-link").querySelector("input").select();
  }
});
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // a click beside it
}
$("language").addEventListener("click", () => {
  setLanguage(currentLanguage() === "en" ? "zh" : "en", { store: true });
  events.reset();
  $("cards").replaceChildren();
  draw();
});
window.addEventListener("popstate", (event) => restore(event.state));
window.addEventListener("online", () => view.query && !answers.length && run());

async function loadCategories() {
  try {
    categories = await fetchCategories();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error; // without the taxonomy the predicted categories are still offered
    return;
  }
  if (view.query) drawChips();
}

setLanguage(preferredLanguage(new URLSearchParams(location.search).get("lang")));
loadCategories();
restore(history.state);
