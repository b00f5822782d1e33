/**
 * Charts as SVG, drawn for the width there is. Nothing depends on colour: the value of the last day stands at its point,
 * an interval is a band with edges, and the same figures stand in a table behind each chart.
 */

import { formatNumber, t } from "../i18n.js";
import { h, percent, table } from "./parts.js";

const height = 176;
const margin = { left: 44, right: 52, top: 14, bottom: 24 };

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** @param {number} most @returns {number[]} three to six round numbers from 0 to at least the largest value */
export function ticks(most) {
  const rough = Math.max(most, 1e-9) / 4;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((size) => size * unit).find((size) => size >= rough * 0.999);
  const count = Math.ceil(Math.max(most, 1e-9) / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, place) => place * step);
}

/** @param {string} day such as 2026-11-26 @returns {string} */
export const dayName = (day) =>
  new Intl.DateTimeFormat(document.documentElement.lang, { day: "numeric", month: "short", timeZone: "UTC" }).format(new Date(`${day}T00:00:00Z`));

/** What every chart of days shares: frame, scales, ticks, and a text under the pointer. */
function frameOf(width, days, most, format) {
  const [right, bottom] = [width - margin.right, height - margin.bottom];
  const scale = ticks(most);
  const top = scale.at(-1);
  const x = (place) => margin.left + ((place + 0.5) / days.length) * (right - margin.left);
  const y = (value) => bottom - (value / top) * (bottom - margin.top);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
  for (const value of scale) {
    root.append(svg("path", { class: "grid", d: `M${margin.left} ${y(value)}H${right}` }));
    const text = svg("text", { x: margin.left - 8, y: y(value) + 4, "text-anchor": "end" });
    text.textContent = format(value);
    root.append(text);
  }
  const every = Math.ceil((days.length * 64) / (right - margin.left));
  days.forEach((day, place) => {
    if ((days.length - 1 - place) % every) return;
    const isToday = place === days.length - 1;
    const text = svg("text", { x: x(place), y: height - 6, "text-anchor": "middle" });
    text.textContent = isToday ? t("chart.today") : dayName(day);
    root.append(text);
  });
  return { root, x, y, bottom, step: (right - margin.left) / days.length };
}

function hints(frame, days, textOf) {
  days.forEach((day, place) => {
    const area = svg("rect", { class: "hit", x: frame.x(place) - frame.step / 2, y: margin.top, width: frame.step, height: frame.bottom - margin.top });
    const title = svg("title");
    title.textContent = `${dayName(day)}: ${textOf(place)}`;
    area.append(title);
    frame.root.append(area);
  });
}

function label(frame, x, y, text) {
  const element = svg("text", { class: "value", x, y });
  element.textContent = text;
  frame.root.append(element);
}

/** A share per day as a line with the band of its 95 % interval; days without a search are a gap; dashed: today. */
function drawShares(width, days, shares) {
  const known = shares.map((share, place) => ({ ...share, place })).filter((share) => share.of > 0);
  const most = Math.max(0.01, ...known.map((share) => Math.min(share.high, share.share * 2.5 + 0.04)));
  const frame = frameOf(width, days, Math.min(1, most), (value) => percent(value, most < 0.1 ? 1 : 0));
  const limit = (value) => Math.max(frame.y(value), margin.top);
  const today = days.length - 1; // not over yet
  const runs = [];
  for (const share of known) {
    if (runs.length && runs.at(-1).at(-1).place === share.place - 1) runs.at(-1).push(share);
    else runs.push([share]);
  }
  for (const run of runs) {
    const upper = run.map((share) => `${frame.x(share.place)} ${limit(share.high)}`);
    const lower = run.map((share) => `${frame.x(share.place)} ${limit(share.low)}`);
    frame.root.append(svg("path", { class: "band", d: `M${upper.join("L")}L${lower.toReversed().join("L")}Z` }));
    for (const edge of [upper, lower]) frame.root.append(svg("path", { class: "edge", d: `M${edge.join("L")}` }));
    const points = run.map((share) => `${frame.x(share.place)} ${frame.y(share.share)}`);
    const whole = run.at(-1).place === today ? points.slice(0, -1) : points;
    if (whole.length) frame.root.append(svg("path", { class: "line", d: `M${whole.join("L")}` }));
    if (whole.length < points.length && whole.length) frame.root.append(svg("path", { class: "line so-far", d: `M${points.slice(-2).join("L")}` }));
  }
  for (const share of known) {
    const r = share === known.at(-1) ? 4 : 2;
    frame.root.append(svg("circle", { class: share.place === today ? "so-far" : "", cx: frame.x(share.place), cy: frame.y(share.share), r }));
  }
  const last = known.at(-1);
  if (last) label(frame, frame.x(last.place) + 9, frame.y(last.share) + 4, percent(last.share, 0));
  hints(frame, days, (place) => {
    const { share, low, high, of } = shares[place];
    return of ? t("chart.share", { share: percent(share), low: percent(low), high: percent(high), of: formatNumber(of) }) : t("chart.none");
  });
  return frame.root;
}

/** A count per day as columns, the last one, today, dashed and labelled. */
function drawCounts(width, days, counts) {
  const most = Math.max(...counts, 1);
  const frame = frameOf(width, days, most, formatNumber);
  const wide = Math.max(1, Math.min(28, frame.step * 0.68));
  counts.forEach((count, place) => {
    const top = frame.y(count);
    const kind = place === counts.length - 1 ? "column so-far" : "column"; // today is not over yet
    frame.root.append(svg("rect", { class: kind, x: frame.x(place) - wide / 2, y: top, width: wide, height: frame.bottom - top, rx: Math.min(3, wide / 4) }));
  });
  const last = counts.length - 1;
  label(frame, frame.x(last) + wide / 2 + 5, Math.min(frame.y(counts[last]) + 4, frame.bottom - 2), formatNumber(counts[last]));
  hints(frame, days, (place) => formatNumber(counts[place]));
  return frame.root;
}

/**
 * @param {string} title @param {string} summary what a reader should see in it @param {(width: number) => SVGElement} draw
 * @param {HTMLElement} figures the table behind it
 * @returns {HTMLElement}
 */
function chart(title, summary, draw, figures) {
  const place = h("div", { class: "plot" });
  const element = h(
    "figure",
    { class: "chart" },
    h("figcaption", {}, h("span", {}, title), h("small", {}, summary)),
    place,
    h("details", {}, h("summary", {}, t("chart.table")), figures),
  );
  let drawn = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width === drawn || width < 80) return;
    drawn = width;
    const root = draw(width);
    root.setAttribute("aria-label", `${title}: ${summary}`);
    place.replaceChildren(root);
  }).observe(place);
  return element;
}

/**
 * @param {string} title @param {string[]} days @param {{share: number, low: number, high: number, count: number, of: number}[]} shares
 * @returns {HTMLElement}
 */
export function shareChart(title, days, shares) {
  const of = shares.reduce((sum, share) => sum + share.of, 0);
  const count = shares.reduce((sum, share) => sum + share.count, 0);
  const rows = shares.map(({ share, low, high, count, of }, place) => [
    dayName(days[place]),
    formatNumber(of),
    formatNumber(count),
    of ? percent(share) : "–",
    of ? `${percent(low)}–${percent(high)}` : "–",
  ]);
  const columns = [t("chart.day"), ...["chart.searches", "chart.count", "chart.rate", "chart.interval"].map((key) => ({ text: t(key), number: true }))];
  return chart(title, of ? t("chart.total", { share: percent(count / of), count: formatNumber(count), of: formatNumber(of) }) : t("chart.none"), (width) => drawShares(width, days, shares), table(title, columns, rows.toReversed()));
}

/** @param {string} title @param {string[]} days @param {number[]} counts @returns {HTMLElement} */
export function countChart(title, days, counts) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const rows = counts.map((count, place) => [dayName(days[place]), formatNumber(count)]);
  return chart(title, t("chart.sum", { total: formatNumber(total), days: days.length }), (width) => drawCounts(width, days, counts), table(title, [t("chart.day"), { text: title, number: true }], rows.toReversed()));
}

/**
 * A value with its interval on a line: a dot and whiskers, beside a text that says the same.
 * @param {{value: number, low: number, high: number}} found @param {[number, number]} range ends of the line
 * @returns {SVGElement}
 */
export function whisker({ value, low, high }, [from, to]) {
  const [width, middle] = [120, 9];
  const x = (at) => 4 + ((Math.min(Math.max(at, from), to) - from) / (to - from)) * (width - 8);
  return svg(
    "svg",
    { class: "whisker", viewBox: `0 0 ${width} 18`, width, height: 18, "aria-hidden": "true" },
    svg("path", { class: "grid", d: `M4 ${middle}H${width - 4}` }),
    svg("path", { class: "line", d: `M${x(low)} ${middle}H${x(high)}M${x(low)} ${middle - 4}v8M${x(high)} ${middle - 4}v8` }),
    svg("circle", { cx: x(value), cy: middle, r: 3.5 }),
  );
}

/** @param {number} share 0..1 @returns {HTMLElement} a bar beside a number that says the same */
export function bar(share) {
  const inner = h("span");
  inner.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  return h("span", { class: "bar-line", "aria-hidden": "true" }, inner);
}
