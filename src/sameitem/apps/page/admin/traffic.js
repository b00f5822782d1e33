/** Sections: clicks by day and category, searches that failed, searches that were slow. */

import { formatNumber, formatPercent, t } from "../i18n.js";
import { bar, countChart, shareChart, whisker } from "./chart.js";
import { badge, card, empty, h, head, interval, link, milliseconds, moment, percent, picture, stat, table, withBox } from "./parts.js";
import { categoryNames, get } from "./rest.js";

const spans = [7, 30, 90, 365];
const missKinds = ["unclicked", "deep", "held_out"];
const slowShown = 50;
const stages = ["catalogue", "intake", "detect", "feature", "category", "engine", "scores", "rerank", "answer", "log"];

/** @type {import("./admin.js").Section} */
export const clicks = { id: "clicks", draw: drawClicks };
/** @type {import("./admin.js").Section} */
export const misses = { id: "misses", draw: drawMisses };
/** @type {import("./admin.js").Section} */
export const slow = { id: "slow", draw: drawSlow };

async function drawClicks({ params, signal, href }) {
  const days = Number(params.get("days")) || 30;
  const [log, nameOf] = await Promise.all([get("v1/admin/clicks", { days }, signal), categoryNames(signal)]);
  const names = log.days.map(({ day }) => day);
  const shares = (kind) => log.days.map((day) => ({ ...day[kind], of: day.searches }));
  const chip = (span) => h("a", { href: href({ days: span }), class: "chip", "aria-current": span === days && "true" }, t("clicks.days", { days: span }));
  const most = Math.max(1, ...log.categories.map(({ searches }) => searches));
  const highest = Math.max(0.05, ...log.categories.map(({ clicked }) => clicked.high));
  const rows = log.categories.map((one) => [
    nameOf(one.category_id),
    h("span", { class: "with-bar" }, formatNumber(one.searches), bar(one.searches / most)),
    h("span", { class: "with-whisker" }, `${percent(one.clicked.share)} `, whisker({ value: one.clicked.share, ...one.clicked }, [0, highest])),
    interval(one.clicked),
    percent(one.carts.share),
    percent(one.purchases.share),
  ]);
  const rate = (kind) => stat(t(`clicks.${kind}`), log.total.searches ? percent(log.total[kind].share) : "–", log.total.searches ? t("clicks.of", { count: formatNumber(log.total[kind].count), range: interval(log.total[kind]) }) : "");
  return [
    head(t("admin.clicks"), t("clicks.lead")),
    h("nav", { class: "chips", "aria-label": t("clicks.span") }, spans.map(chip)),
    h("dl", { class: "stats" }, stat(t("clicks.searches"), formatNumber(log.total.searches)), rate("clicked"), rate("carts"), rate("purchases")),
    h(
      "div",
      { class: "columns" },
      card(null, countChart(t("clicks.searches"), names, log.days.map(({ searches }) => searches))),
      ...["clicked", "carts", "purchases"].map((kind) => card(null, shareChart(t(`clicks.${kind}`), names, shares(kind)))),
    ),
    card(
      t("clicks.byCategory"),
      rows.length
        ? table(t("clicks.byCategory"), [t("clicks.category"), t("clicks.searches"), t("clicks.clicked"), { text: t("chart.interval"), number: true }, { text: t("clicks.carts"), number: true }, { text: t("clicks.purchases"), number: true }], rows, { stacks: true })
        : empty(t("chart.none")),
    ),
  ];
}

async function drawMisses({ params, signal, href }) {
  const kind = missKinds.includes(params.get("kind")) ? params.get("kind") : "unclicked";
  const before = params.get("before");
  const [found, nameOf] = await Promise.all([get("v1/admin/misses", { kind, before }, signal), categoryNames(signal)]);
  const chip = (value) => h("a", { href: href({ kind: value, before: null }), class: "chip", "aria-current": value === kind && "true" }, t(`misses.${value}`));
  const looked = kind === "held_out" ? t("misses.asked", { asked: formatNumber(found.asked), missed: formatNumber(found.misses.length) }) : t("misses.looked", { count: formatNumber(found.looked_at) });
  return [
    head(t("admin.misses"), t(`misses.${kind}Lead`)),
    h("nav", { class: "chips", "aria-label": t("misses.kinds") }, missKinds.map(chip)),
    h("p", { class: "hint" }, looked),
    ...found.misses.map((miss) => missCard(miss, nameOf)),
    !found.misses.length && empty(t("misses.none")),
    h("nav", { class: "pager", "aria-label": t("admin.pages") }, before ? link(href({ before: null }), t("admin.newest"), "secondary") : h("span"), found.next !== null ? link(href({ before: found.next }), t("admin.older"), "secondary") : h("span", { class: "hint" }, t("misses.end"))),
  ].filter(Boolean);
}

function missCard(miss, nameOf) {
  const photo = picture(miss.photo_url, t("misses.photo"), 480);
  if (miss.photo_url && miss.box) withBox(photo, miss.box);
  const deeper = miss.clicked.filter(({ rank }) => rank > miss.shown.length);
  return h(
    "article",
    { class: "panel miss" },
    h(
      "div",
      { class: "miss-query" },
      photo,
      h("p", {}, moment(miss.at), h("br"), h("span", { class: "hint" }, nameOf(miss.category_id))),
      miss.photo_url && h("a", { class: "secondary", href: `../?photo=${encodeURIComponent(miss.photo_hash)}`, target: "_blank", rel: "noopener" }, t("misses.again"), h("span", { class: "visually-hidden" }, t("card.newTab"))),
    ),
    h(
      "div",
      { class: "miss-lists" },
      h("h2", {}, t("misses.shown")),
      h("ol", { class: "strip" }, [...miss.shown, ...deeper].map(place)),
      miss.now && [h("h2", {}, t("misses.now")), miss.now.length ? h("ol", { class: "strip" }, miss.now.map(place)) : empty(t("misses.nothing"))],
    ),
  );
}

function place({ rank, product_id: product, image_url: image, score, acts }) {
  const done = acts.map((act) => t(`act.${act}`)).join(", ");
  return h(
    "li",
    { class: acts.length > 0 && "acted" },
    h("a", { class: "picture", href: `#/products?id=${encodeURIComponent(product)}`, title: product }, picture(image, product, 160), h("span", { class: "rank" }, `${formatNumber(rank)}. ${formatPercent(score)}`), done && badge(done, "good")),
  );
}

async function drawSlow({ signal }) {
  const [{ latency, searches }, nameOf] = await Promise.all([get("v1/admin/slow", { num: slowShown }, signal), categoryNames(signal)]);
  if (!searches.length) return [head(t("admin.slow"), t("slow.lead")), empty(t("slow.none"))];
  const named = [...new Set([...stages, ...searches.flatMap((search) => Object.keys(search.stages_ms))])].filter((stage) => searches.some((search) => stage in search.stages_ms));
  const cell = (search, stage) => {
    const ms = search.stages_ms[stage] ?? 0;
    return h("span", { class: "with-bar" }, milliseconds(ms), bar(ms / search.total_ms));
  };
  const rows = searches.map((search) => [h("strong", {}, milliseconds(search.total_ms)), ...named.map((stage) => cell(search, stage)), h("span", { class: "whole" }, nameOf(search.category_id)), formatNumber(search.disk_reads), moment(search.at)]);
  const numbers = (key) => ({ text: t(key), number: true });
  return [
    head(t("admin.slow"), t("slow.lead")),
    h("dl", { class: "stats" }, stat(t("slow.p50"), milliseconds(latency.p50)), stat(t("slow.p95"), milliseconds(latency.p95)), stat(t("slow.p99"), milliseconds(latency.p99)), stat(t("slow.kept"), formatNumber(latency.searches))),
    card(t("slow.slowest"), table(t("slow.slowest"), [numbers("slow.total"), ...named.map((stage) => ({ text: t(`stage.${stage}`) ?? stage, number: true })), t("clicks.category"), numbers("slow.reads"), t("jobs.when")], rows)),
  ];
}
