/** Sections: long operations, and what imports did not take. */

import { formatNumber, t } from "../i18n.js";
import { badge, button, card, duration, empty, facts, figure, h, head, link, moment, pager, progress, table, ask } from "./parts.js";
import { addressOf, get, post } from "./rest.js";

const pageSize = 20;
const rowsPerPage = 50;
const states = ["running", "queued", "failed", "done", "cancelled"];
const badges = { running: "busy", queued: "busy", failed: "bad", done: "good", cancelled: "plain" };

/** @type {import("./admin.js").Section} */
export const jobs = { id: "jobs", draw: drawJobs };
/** @type {import("./admin.js").Section} */
export const setAside = { id: "set-aside", draw: drawSetAside };

const kindOf = ({ kind }) => t(`job.${kind}`) ?? kind;
const stateOf = ({ state }) => badge(t(`state.${state}`), badges[state]);

async function drawJobs({ params, signal, href, run, watch }) {
  const start = Number(params.get("start")) || 0;
  const state = params.get("state") ?? "";
  const { operations, more } = await get("v1/admin/operations", { state, start, num: pageSize }, signal);
  if (operations.some(({ state }) => state === "running" || state === "queued")) watch();
  const chosen = (value) => ({ href: href({ state: value, start: null }), class: "chip", "aria-current": value === state && "true" });
  return [
    head(t("admin.jobs"), t("jobs.lead")),
    h("nav", { class: "chips", "aria-label": t("jobs.filter") }, ["", ...states].map((value) => h("a", chosen(value), value ? t(`state.${value}`) : t("jobs.all")))),
    operations.length ? operations.map((job) => jobCard(job, run)) : empty(t("jobs.none")),
    h(
      "nav",
      { class: "pager", "aria-label": t("admin.pages") },
      start > 0 ? link(href({ start: Math.max(0, start - pageSize) }), t("admin.newer"), "secondary") : h("span"),
      more ? link(href({ start: start + pageSize }), t("admin.older"), "secondary") : h("span"),
    ),
  ].flat();
}

function jobCard(job, run) {
  const isGoing = job.state === "running" || job.state === "queued";
  const cancel = async () => {
    const yes = await ask({ title: t("jobs.cancelTitle", { kind: kindOf(job) }), text: t("jobs.cancelText"), confirm: t("jobs.cancel"), danger: true });
    if (yes) run(() => post(`v1/operations/${job.id}:cancel`), t("jobs.cancelling"));
  };
  const again = async () => {
    const yes = await ask({ title: t("jobs.againTitle", { kind: kindOf(job) }), text: t("jobs.againText"), confirm: t("jobs.again") });
    if (yes) run(() => post(`v1/admin/operations/${job.id}:rerun`), t("jobs.started"));
  };
  const counts = Object.entries(job.counts).filter(([, count]) => count);
  const actions = h(
    "div",
    { class: "actions" },
    isGoing && button(t("jobs.cancel"), cancel, { label: `${t("jobs.cancel")}: ${kindOf(job)}`, focus: `cancel-${job.id}` }),
    job.can_rerun && button(t("jobs.again"), again, { label: `${t("jobs.again")}: ${kindOf(job)}`, focus: `again-${job.id}` }),
    job.error_file && link(addressOf(job.error_file), t("jobs.errorFile"), "secondary"),
  );
  return h(
    "article",
    { class: "panel job" },
    h("div", { class: "job-head" }, h("h2", {}, kindOf(job)), stateOf(job), h("span", { class: "hint" }, moment(job.created_at), job.started_at && ` · ${t(job.finished_at ? "jobs.took" : "jobs.takes", { time: duration(job.started_at, job.finished_at) })}`), actions),
    isGoing && h("div", { class: "job-progress" }, progress(job.percent / 100, t("jobs.progress", { kind: kindOf(job) })), h("span", {}, `${formatNumber(Math.round(job.percent))} %`)),
    job.error && h("p", { class: "field-error" }, job.error),
    counts.length > 0 && h("p", { class: "counts" }, counts.map(([name, count]) => h("span", {}, h("strong", {}, formatNumber(count)), ` ${t(`count.${name}`) ?? name}`))),
    job.counts.set_aside > 0 && job.kind === "import" && link(`#/set-aside?operation=${job.id}`, t("jobs.seeSetAside")),
    h(
      "details",
      { "data-focus": `more-${job.id}` },
      h("summary", {}, t("jobs.details")),
      facts([[t("jobs.id"), h("code", {}, job.id)], ...spread(job.arguments, t("jobs.arguments")), ...spread(job.result, t("jobs.result"))]),
      job.first_errors.length > 0 && [h("h3", {}, t("jobs.firstErrors")), h("ul", { class: "errors" }, job.first_errors.map((error) => h("li", {}, error)))],
    ),
  );
}

/** @param {object} values @param {string} path @returns {[string, any][]} every value below, with the names that lead to it */
export function spread(values, path) {
  return Object.entries(values ?? {}).flatMap(([name, value]) => {
    const here = path ? `${path} · ${name}` : name;
    if (value === null || value === "" || (Array.isArray(value) && !value.length)) return [];
    if (typeof value === "object" && !Array.isArray(value)) return spread(value, here);
    return [[here, Array.isArray(value) ? value.map((one) => (typeof one === "object" ? JSON.stringify(one) : one)).join(", ") : typeof value === "number" ? figure(value) : String(value)]];
  });
}

/** @param {object[]} operations @returns {HTMLElement} one line each */
export function jobTable(operations) {
  const rows = operations.map((job) => [kindOf(job), stateOf(job), job.state === "running" ? `${Math.round(job.percent)} %` : moment(job.finished_at ?? job.created_at)]);
  return table(t("overview.jobs"), [t("jobs.kind"), t("jobs.state"), t("jobs.when")], rows);
}

async function drawSetAside({ params, signal, href }) {
  const start = Number(params.get("start")) || 0;
  const reason = params.get("reason") ?? "";
  const found = await get("v1/admin/set-aside", { operation: params.get("operation"), reason, start, num: rowsPerPage }, signal);
  if (!found.operation_id) return [head(t("admin.set-aside"), t("aside.lead")), empty(t("aside.none"))];
  const total = Object.values(found.reasons).reduce((sum, count) => sum + count, 0);
  const chip = (value, text) => h("a", { href: href({ reason: value, start: null }), class: "chip", "aria-current": value === reason && "true" }, text);
  const imports = found.operations.map((job) => {
    const isChosen = job.id === found.operation_id;
    return h("li", {}, h("a", { href: href({ operation: job.id, reason: null, start: null }), "aria-current": isChosen && "true" }, moment(job.created_at), ` · ${t("aside.rows", { count: formatNumber(job.counts.set_aside) })}`));
  });
  const rows = found.rows.map((row) => [formatNumber(row.line), row.reason, row.detail, h("span", { class: "path" }, row.source)]);
  return [
    head(t("admin.set-aside"), t("aside.lead"), link(addressOf(`v1/operations/${found.operation_id}/errors`), t("jobs.errorFile"), "secondary")),
    imports.length > 1 && card(t("aside.imports"), h("ul", { class: "picks" }, imports)),
    h("nav", { class: "chips", "aria-label": t("aside.reasons") }, chip("", `${t("jobs.all")} ${formatNumber(total)}`), Object.entries(found.reasons).map(([name, count]) => chip(name, `${name} ${formatNumber(count)}`))),
    table(t("admin.set-aside"), [{ text: t("aside.line"), number: true }, t("aside.reason"), t("aside.detail"), t("aside.source")], rows, { stacks: true }),
    pager({ start, num: rowsPerPage, found: found.found }, (next) => href({ start: next })),
  ].filter(Boolean);
}
