/** The operator's page: which section the address names, its navigation, language and access key. */

import { currentLanguage, preferredLanguage, setLanguage, t } from "../i18n.js";
import { recall, remember } from "../identity.js";
import { groups, index } from "./gallery.js";
import { jobs, setAside } from "./jobs.js";
import { loops, models, rankers } from "./learning.js";
import { overview } from "./overview.js";
import { button, h, link, toast } from "./parts.js";
import { products } from "./products.js";
import { ApiError, getIfThere, post } from "./rest.js";
import { clicks, misses, slow } from "./traffic.js";
import "./words.js";

/**
 * @typedef {object} Section
 * @property {string} id in the address: #/id
 * @property {string} [needs] a route; the section is left out where the server does not have it
 * @property {(context: Context) => Promise<Node[]>} draw
 */
/**
 * @typedef {object} Context
 * @property {URLSearchParams} params of the address
 * @property {AbortSignal} signal aborted when the section is left
 * @property {(changes: Record<string, string | number | null>) => string} href this section with other parameters
 * @property {(act: () => Promise<unknown>, said?: string) => Promise<void>} run does something, says how it went, draws anew
 * @property {() => void} watch draws the section anew in a moment
 */

/** @type {[string, Section[]][]} */
const parts = [
  ["", [overview]],
  ["admin.part.gallery", [products, setAside, groups, index]],
  ["admin.part.traffic", [clicks, misses, slow]],
  ["admin.part.learning", [models, rankers, loops]],
  ["admin.part.machine", [jobs]],
];
const sections = parts.flatMap(([, some]) => some);
const watchMs = 2000;
const $ = (id) => document.getElementById(id);

let leaving = new AbortController();
let shown = ""; // the address that is drawn
let missing = new Set(); // sections whose routes the server does not have

function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const section = sections.find(({ id }) => id === path) ?? overview;
  return { section, params: new URLSearchParams(query) };
}

function hrefOf(section, params, changes) {
  const next = new URLSearchParams(params);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "" || value === 0) next.delete(name);
    else next.set(name, String(value));
  }
  const text = next.toString();
  return `#/${section.id}${text && `?${text}`}`;
}

/** Draw what the address names; quiet: nobody asked for it now. */
async function show({ quiet = false } = {}) {
  leaving.abort();
  const { signal } = (leaving = new AbortController());
  const { section, params } = place();
  const isNew = shown !== location.hash;
  drawNav(section);
  document.title = `${t(`admin.${section.id}`)} · ${t("page.title")} · sameitem`;
  document.body.classList.toggle("busy", !quiet);
  let timer = 0;
  signal.addEventListener("abort", () => clearTimeout(timer));
  const context = {
    params,
    signal,
    href: (changes) => hrefOf(section, params, changes),
    watch: () => {
      timer = setTimeout(() => (document.hidden || $("ask").open ? context.watch() : show({ quiet: true })), watchMs);
    },
    run: async (act, said = "") => {
      try {
        await act();
        if (said) toast(said);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.status === 401) return explain(error);
        toast(error.detail || t("error.unreachable"));
      }
      await show();
    },
  };
  try {
    const content = await section.draw(context);
    if (signal.aborted) return;
    const kept = document.activeElement?.closest?.("#main [data-focus]")?.dataset.focus;
    const open = [...$("main").querySelectorAll("details[open][data-focus]")].map((details) => details.dataset.focus);
    $("main").replaceChildren(...content);
    if (!isNew) {
      for (const name of open) $("main").querySelector(`details[data-focus="${CSS.escape(name)}"]`)?.setAttribute("open", "");
      if (kept) $("main").querySelector(`[data-focus="${CSS.escape(kept)}"]`)?.focus({ preventScroll: true });
    }
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof ApiError)) throw error;
    explain(error);
  } finally {
    if (!signal.aborted) document.body.classList.remove("busy");
  }
  if (isNew) {
    if (shown) {
      $("main").querySelector("h1")?.focus({ preventScroll: true });
      window.scrollTo({ top: 0 });
    }
    $("live").textContent = t(`admin.${section.id}`);
  }
  shown = location.hash;
}

function drawNav(current) {
  const entry = (section) => link(`#/${section.id}`, t(`admin.${section.id}`));
  const lists = parts.map(([title, some]) => {
    const there = some.filter(({ id }) => !missing.has(id));
    const list = h("ul", {}, there.map((section) => h("li", {}, entry(section))));
    return there.length > 0 && h("div", {}, title && h("h2", { "aria-hidden": "true" }, t(title)), list);
  });
  $("nav").replaceChildren(...lists.filter(Boolean));
  const chosen = $("nav").querySelector(`a[href="#/${current.id}"]`);
  chosen?.setAttribute("aria-current", "page");
  if (chosen && $("nav").scrollWidth > $("nav").clientWidth) {
    $("nav").scrollTo({ left: chosen.offsetLeft - ($("nav").clientWidth - chosen.offsetWidth) / 2 });
  }
}

/** Say why a section cannot be shown; ask for a key where one is needed. */
function explain(error) {
  const needsKey = error.status === 401 || error.code === "missing_scope";
  const said = { unreachable: t("error.unreachable") }[error.code] ?? error.detail;
  const notice = h(
    "div",
    { class: `notice ${needsKey ? "" : "urgent"}`, role: "alert" },
    h("h1", { class: "notice-title", tabindex: "-1" }, needsKey ? t("admin.key") : t("admin.failed")),
    h("p", {}, needsKey ? t("admin.keyHow") : said),
    error.requestId && h("small", { class: "hint" }, t("error.request", { id: error.requestId })),
    needsKey ? keyForm() : h("div", { class: "actions" }, button(t("error.retry"), show)),
  );
  $("main").replaceChildren(notice);
  document.body.classList.remove("busy");
  if (needsKey) notice.querySelector("input").focus();
}

function keyForm() {
  const wrong = h("p", { class: "field-error", role: "alert", hidden: true }, t("admin.keyWrong"));
  const input = h("input", { name: "key", type: "password", autocomplete: "off", required: true });
  const onsubmit = async (event) => {
    event.preventDefault();
    if (input.readOnly) return; // the key before is still being tried
    input.readOnly = true;
    try {
      await post("v1/login", { key: input.value.trim() });
    } catch (error) {
      input.readOnly = false;
      if (!(error instanceof ApiError)) throw error;
      wrong.textContent = error.status === 401 || error.status === 422 ? t("admin.keyWrong") : error.detail;
      wrong.hidden = false;
      return input.focus();
    }
    remember("localStorage", "signedIn", "1");
    await start();
    $("main").querySelector("h1")?.focus({ preventScroll: true }); // the form that had the focus is gone
  };
  const form = h("form", { class: "key-form", onsubmit }, h("label", {}, h("span", {}, t("error.keyLabel")), input), h("button", { class: "primary" }, t("error.keyUse")));
  return [form, wrong];
}

/** Look which optional sections the server has, and draw. */
async function start() {
  $("sign-out").hidden = !recall("localStorage", "signedIn");
  const optional = sections.filter(({ needs }) => needs);
  const found = await Promise.all(optional.map(({ needs }) => getIfThere(needs, new AbortController().signal).catch(() => undefined)));
  missing = new Set(optional.filter((_, place) => found[place] === null).map(({ id }) => id));
  await show();
}

window.addEventListener("hashchange", show);
$("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names a section
  $("main").focus();
});
$("language").addEventListener("click", () => {
  setLanguage(currentLanguage() === "en" ? "zh" : "en", { store: true });
  show();
});
$("sign-out").addEventListener("click", async () => {
  await post("v1/logout").catch(() => {});
  remember("localStorage", "signedIn", "");
  location.reload(); // what the key let through is on the page no more
});
$("ask").addEventListener("click", (event) => event.target === $("ask") && $("ask").close());

setLanguage(preferredLanguage(new URLSearchParams(location.search).get("lang")));
start();
