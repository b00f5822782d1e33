/** The photo search page: one view (what was asked), its answers, and the elements that show them. */

import { ApiError, fetchCategories, fetchLoggedPhoto, fetchProduct, logIn, logOut, search, sendEvents } from "./api.js";
import { fromPixels, isWhole, overlap, wholePhoto } from "./box.js";
import { createBoxEditor } from "./boxeditor.js";
import { createChips } from "./chips.js";
import { createEventLog } from "./events.js";
import { createFilterForm } from "./filterform.js";
import { currentLanguage, formatPercent, preferredLanguage, setLanguage, t } from "./i18n.js";
import { recall, remember } from "./identity.js";
import { chooseFile, listenForPhotos } from "./intake.js";
import { askForKey, clearNotices, say, toast } from "./notices.js";
import { PhotoError, preparePhoto } from "./photo.js";
import { createCard, createSkeletons, isSameItem, safeUrl, showDetails, showSellers } from "./results.js";
import { countFilters, emptyView, noFilters, readAddress, writeAddress } from "./state.js";

const pageSize = 24;
const deepest = 1000; // the server answers no further

const $ = (id) => document.getElementById(id);
const photos = new Map(); // photos of this page by key: the way back from "more like this"
const events = createEventLog(sendEvents);
const editor = createBoxEditor($("stage"), { onCommit: (box) => refine({ box: isWhole(box) ? wholePhoto : box }) });
const chips = createChips($("chips"), { onChoose: (categoryId) => refine({ categoryId }) });
const filterForm = createFilterForm({
  onChange: (filters) =>
    Object.keys(noFilters).some((name) => filters[name] !== view.filters[name]) && refine({ filters }),
});

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
    answer = await search(view, {
      start,
      num: Math.min(pageSize, deepest - start),
      photoSize: photoSize(),
      signal: controller.signal,
    });
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
  $("live").textContent = more
    ? t("results.added", { count: added })
    : [summary(), notice && t("weak.title")].filter(Boolean).join(". ");
  if (more) $("cards").children[before]?.querySelector("[data-open]").focus();
}

/** The score from which a result is a good match: the server says, or the page. */
function goodMatchScore() {
  return answers[0]?.head.good_match ?? Number(document.querySelector("meta[name=good-match-score]").content);
}

const shownCount = () => answers.reduce((count, answer) => count + answer.results.length, 0);
const bestScore = () => Math.max(0, ...(answers[0]?.results ?? []).map((result) => result.score ?? 0));

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
  clearNotices();
  filterForm.show(
    view.filters,
    answers.flatMap((answer) => answer.results.map((result) => result.brand)).filter(Boolean),
  );
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
  const found = answers[0]?.results.find(
    (result) => result.product_id === query.productId && result.image_name === query.imageName,
  );
  if (!isPhoto && !query.pictureUrl) query.pictureUrl = safeUrl(found?.image_url);
  const size = photoSize();
  const predicted = understood?.box && size ? fromPixels(understood.box, size) : null;
  const objects = size ? (understood?.objects ?? []).map((object) => fromPixels(object.box, size)) : [];
  const box = view.box ?? predicted ?? wholePhoto;
  const others = objects.filter((object) => overlap(object, box) < 0.8);
  editor.show({ pictureUrl: query.pictureUrl, size, box, objects: others });
  drawThumb(query.pictureUrl, box);
  $("query-title").textContent = t(isPhoto ? "query.title" : "query.product");
  const isUnseen = isPhoto && !query.pictureUrl; // a format that only the server reads
  const isDetected = understood?.box_source === "detected" && !view.box;
  const hint = isUnseen ? "unseen" : others.length ? "objects" : isDetected ? "detected" : "hint";
  $("query-hint").textContent = t(`query.${hint}`);
  $("share-link").hidden = true;
  $("whole").hidden = isWhole(box) || !size;
  $("share-note").textContent = t(isPhoto ? "query.shareNote" : "query.shareNoteProduct");
}

/** The searched part of the photo as a small square, for the strip that stays on a phone. */
function drawThumb(pictureUrl, box) {
  const canvas = $("thumb").querySelector("canvas");
  const context = canvas.getContext("2d");
  const paint = (picture) => {
    const [x, y] = [box.left * picture.naturalWidth, box.top * picture.naturalHeight];
    const [width, height] = [
      (box.right - box.left) * picture.naturalWidth,
      (box.bottom - box.top) * picture.naturalHeight,
    ];
    const side = Math.min(width, height);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const middle = [x + (width - side) / 2, y + (height - side) / 2, side, side];
    context.drawImage(picture, ...middle, 0, 0, canvas.width, canvas.height);
  };
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!pictureUrl) return;
  const picture = $("stage").querySelector("[data-picture]");
  if (picture.complete && picture.naturalWidth) paint(picture);
  else picture.addEventListener("load", () => paint(picture), { once: true });
}

function drawChips() {
  chips.show({ predicted: understood?.categories ?? [], all: categories, chosen: view.categoryId });
}

function drawCards() {
  const cards = $("cards");
  $("summary").textContent = busy && !answers.length ? t("results.searching") : summary();
  cards.setAttribute("aria-busy", busy);
  if (busy && !answers.length) cards.replaceChildren(...createSkeletons());
  else {
    const wanted = answers.flatMap((answer) => answer.results.map((result) => ({ answer, result })));
    const isDrawn = (card, index) => drawn.has(card) && drawn.get(card) === wanted[index]?.result;
    const kept = Array.from(cards.children).filter(isDrawn);
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
  const similar = (shown) =>
    ask({
      kind: "product",
      productId: shown.product_id,
      imageName: shown.image_name,
      pictureUrl: safeUrl(shown.image_url),
    });
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
  const isSimilarWanted = view.query.kind === "product"; // "more like this" asks for others than the item itself
  const isGood = isSimilarWanted || answer.results.some(isSameItem) || bestScore() >= goodMatchScore();
  if (answer.results.length && isGood) return null;
  const [best, wanted] = [formatPercent(bestScore()), formatPercent(goodMatchScore())];
  const kind = answer.results.length ? "weak" : "none";
  return () =>
    say("results", { title: t(`${kind}.title`), detail: t(`${kind}.detail`, { best, wanted }), actions: widenings() });
}

function widenings() {
  const box = view.box ?? wholePhoto;
  return [
    countFilters(view.filters) && ["widen.filters", () => refine({ filters: noFilters })],
    view.categoryId && ["widen.category", () => refine({ categoryId: "" })],
    !isWhole(box) && ["widen.box", () => refine({ box: wholePhoto })],
    ["widen.photo", chooseFile],
  ].filter(Boolean);
}

/** Say what went wrong and offer the step that may help. */
function explain(error, { again, place }) {
  const wrongFilter = error.errors.find(({ field }) => field === "filter");
  if (wrongFilter && countFilters(view.filters)) filterForm.showError(wrongFilter.reason || error.detail);
  const retry = ["error.retry", again];
  const other = ["widen.photo", chooseFile];
  const request = error.requestId && t("error.request", { id: error.requestId });
  const title = t("error.title");
  if (error.status === 401 || error.code === "missing_scope") {
    say(place, { title: t("error.key"), detail: error.status === 401 ? "" : t("error.keyScope") });
    $("live").textContent = t("error.key");
    return askForKey(place, (key) => signIn(key, again));
  }
  const own = {
    unreachable: () => t(navigator.onLine ? "error.unreachable" : "error.offline"),
    timeout: () => t("error.timeout"),
    unreadable: () => t("error.unreadable"),
  }[error.code];
  if (own) return say(place, { title, detail: own(), actions: [retry], urgent: true });
  const reasons = error.errors.filter(({ reason }) => reason && !error.detail.includes(reason));
  const detail =
    {
      404: () => (view.query.kind === "product" ? t("error.notFound") : error.detail),
      429: () => busyFor(error),
      503: () => busyFor(error),
    }[error.status]?.() ?? [error.detail, ...reasons.map(({ field, reason }) => `${field}: ${reason}`)].join(" ");
  const actions = [404, 413, 415].includes(error.status)
    ? [other]
    : wrongFilter
      ? [["filters.clear", () => refine({ filters: noFilters })]]
      : [retry, other];
  say(place, { title, detail, request, actions, urgent: true });
}

/** Try a key; where it is accepted, go on with what it was asked for. Gives what is wrong with it, else "". */
async function signIn(key, goOn) {
  try {
    await logIn(key);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401 || error.status === 422) return t("error.keyWrong");
    return busyFor(error) || t("error.unreachable");
  }
  remember("localStorage", "signedIn", "1");
  drawSignOut();
  notice = null;
  if (!categories.length) loadCategories();
  goOn();
  const next = view.query ? $("results-title") : $("start").querySelector("[data-take=file]");
  next.focus({ preventScroll: true }); // the form that had the focus is gone
  return "";
}

function drawSignOut() {
  $("sign-out").hidden = !recall("localStorage", "signedIn");
}

const busyFor = ({ retryAfterS, detail }) => (retryAfterS ? t("error.busy", { seconds: retryAfterS }) : detail);

// ---- photos ---------------------------------------------------------------------------------------------------------

let reading = null; // the file that was given last; an older one still being read is dropped

async function useFile(file, { others }) {
  reading = file;
  toast(t("take.reading"));
  try {
    const query = await preparePhoto(file);
    if (reading !== file) return;
    toast(others ? t("take.onlyFirst") : "");
    ask(query);
  } catch (error) {
    if (!(error instanceof PhotoError)) throw error;
    if (reading !== file) return;
    toast("");
    const name = error.fileName;
    const place = view.query ? "results" : "start";
    notice = () => say(place, { title: t("photo.title"), detail: t(`photo.${error.reason}`, { name }), urgent: true });
    draw();
  }
}

listenForPhotos(useFile);

/** Search with the photo that a link of the operator's page names. */
async function useLogged(hash) {
  try {
    const photo = await fetchLoggedPhoto(hash);
    await useFile(new File([photo], "photo.jpg", { type: photo.type }), { others: false });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast(error.detail);
  }
}

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
$("sign-out").addEventListener("click", async () => {
  try {
    await logOut();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return toast(t("error.unreachable"));
  }
  remember("localStorage", "signedIn", "");
  location.reload(); // what the key let through is on the page no more
});
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // a click beside it
}
$("language").addEventListener("click", () => {
  setLanguage(currentLanguage() === "en" ? "zh" : "en", { store: true });
  save("replaceState"); // the link's own language is over
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
    if (error.status === 401 && !view.query) {
      notice = () => explain(error, { again: draw, place: "start" }); // before a photo is chosen for nothing
      draw();
    }
    return;
  }
  if (view.query) drawChips();
}

drawSignOut();
setLanguage(preferredLanguage(new URLSearchParams(location.search).get("lang")));
loadCategories();
restore(history.state);
const logged = new URLSearchParams(location.search).get("photo");
if (logged && !view.query) useLogged(logged);
