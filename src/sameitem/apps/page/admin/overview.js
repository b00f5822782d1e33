/** Section: how the shop is, and what needs attention. */

import { formatNumber, t } from "../i18n.js";
import { countChart, shareChart, whisker } from "./chart.js";
import { badge, card, empty, facts, h, head, interval, link, milliseconds, moment, percent, stat } from "./parts.js";
import { jobTable } from "./jobs.js";
import { get, getIfThere } from "./rest.js";

const chartDays = 14;

/** @type {import("./admin.js").Section} */
export const overview = { id: "overview", draw };

async function draw({ signal }) {
  const [shop, log, rankers] = await Promise.all([
    get("v1/admin/overview", {}, signal),
    get("v1/admin/clicks", { days: chartDays }, signal),
    getIfThere("v1/rankers", signal),
  ]);
  const days = log.days.map(({ day }) => day);
  const clicked = log.days.map((day) => ({ ...day.clicked, of: day.searches }));
  return [
    head(t("admin.overview")),
    attention(shop.attention),
    stats(shop),
    h(
      "div",
      { class: "columns" },
      card(null, countChart(t("clicks.searches"), days, log.days.map(({ searches }) => searches))),
      card(null, shareChart(t("clicks.clicked"), days, clicked)),
    ),
    h(
      "div",
      { class: "columns" },
      card(t("overview.live"), live(shop, rankers)),
      card(t("overview.jobs"), shop.operations.length ? jobTable(shop.operations, { isShort: true }) : empty(t("jobs.none")), link("#/jobs", t("overview.allJobs"))),
    ),
  ];
}

function attention(found) {
  if (!found.length) return h("p", { class: "all-well" }, badge(t("overview.well"), "good"), " ", t("overview.wellText"));
  const targets = { failed_job: "jobs", set_aside: "set-aside", no_index: "index", old_index: "index", no_clicks: "misses", fewer_clicks: "misses", broken_model: "models", slow: "slow" };
  const entry = ({ code, level, values }) => {
    const said = { ...values };
    if (said.kind) said.kind = t(`job.${said.kind}`) ?? said.kind;
    for (const name of ["now", "before"]) if (name in said) said[name] = percent(said[name]);
    for (const name of ["rows", "searches", "changed"]) if (name in said) said[name] = formatNumber(said[name]);
    if ("p99" in said) said.p99 = milliseconds(said.p99);
    return h(
      "li",
      { class: `level-${level}` },
      badge(t(level === "problem" ? "overview.problem" : "overview.notice"), level === "problem" ? "bad" : "busy"),
      h("span", {}, t(`attention.${code}`, said) ?? code),
      code in targets && link(`#/${targets[code]}`, t("overview.look")),
    );
  };
  return h("section", { class: "panel" }, h("h2", {}, t("overview.attention")), h("ul", { class: "attention" }, found.map(entry)));
}

function stats({ last_day: last, day_before: before, latency, index, products }) {
  const change = before.searches ? t("overview.dayBefore", { count: formatNumber(before.searches) }) : t("overview.noneBefore");
  const rate = ({ searches, clicked }) => (searches ? percent(clicked.share) : "–");
  return h(
    "dl",
    { class: "stats" },
    stat(t("overview.searches"), formatNumber(last.searches), change),
    stat(t("clicks.clicked"), rate(last), last.searches ? t("overview.range", { range: interval(last.clicked), before: rate(before) }) : t("chart.none")),
    stat(t("overview.latency"), milliseconds(latency.p50), latency.searches ? t("overview.p99", { p99: milliseconds(latency.p99), count: formatNumber(latency.searches) }) : t("slow.none")),
    stat(t("overview.images"), index ? formatNumber(index.images) : "0", index?.waiting ? t("overview.waiting", { count: formatNumber(index.waiting) }) : t("overview.products", { count: formatNumber(products) })),
  );
}

function live({ index, active_model: active }, rankers) {
  if (!index) return empty(t("attention.no_index"));
  const { certificate } = index;
  return facts([
    [t("index.version"), link("#/index", index.version)],
    [t("index.created"), moment(index.created)],
    [t("index.model"), [index.model_version, active !== index.model_version && ` (${t("overview.nextModel", { model: active })})`]],
    ...(rankers ? [[t("overview.ranker"), rankers.active === "looks" ? t("overview.noRanker") : link("#/rankers", rankers.active)]] : []),
    [t("overview.changed"), t("overview.changedValue", { added: formatNumber(index.added), waiting: formatNumber(index.waiting) })],
    ...(certificate ? [[t("index.recall", { k: certificate.k }), recall(certificate)]] : []),
  ]);
}

/** @param {object} certificate @returns {any[]} recall with its interval, drawn and said */
export const recall = ({ recall: value, low, high, asked, queries }) => [
  h("span", { class: "with-whisker" }, `${percent(value, 2)} `, whisker({ value, low, high }, [Math.min(low, asked) - 0.001, 1])),
  h("small", { class: "hint" }, t("index.recallOf", { low: percent(low, 2), high: percent(high, 2), queries: formatNumber(queries) })),
];
