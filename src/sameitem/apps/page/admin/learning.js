/** Sections: model and ranker generations, and the runs of the loop that trains and publishes them. */

import { formatNumber, t } from "../i18n.js";
import { spread } from "./jobs.js";
import { ask, badge, button, card, empty, facts, figure, h, head, link, moment, percent, progress, size, table } from "./parts.js";
import { addressOf, get, getText, post } from "./rest.js";

const looks = "looks"; // the version that is the order by looks alone

/** @type {import("./admin.js").Section} */
export const models = { id: "models", draw: (context) => (context.params.get("version") ? drawModel(context) : drawGenerations(context, "models")) };
/** @type {import("./admin.js").Section} */
export const rankers = { id: "rankers", needs: "v1/rankers", draw: (context) => drawGenerations(context, "rankers") };
/** @type {import("./admin.js").Section} */
export const loops = { id: "loops", needs: "v1/loops", draw: drawLoops };

async function drawGenerations(context, what) {
  const { versions, operations = [] } = await get(`v1/${what}`, {}, context.signal);
  if (operations.length) context.watch();
  return [
    head(t(`admin.${what}`), t(`${what}.lead`), button(t("models.train"), () => train(context, what), { kind: "primary", focus: "train" }), button(t("models.rollback"), () => rollBack(context, what), { focus: "rollback" })),
    ...operations.map((job) => h("div", { class: "panel job-progress" }, h("strong", {}, t(`job.${job.kind}`) ?? job.kind), progress(job.percent / 100, t(`job.${job.kind}`) ?? job.kind), h("span", {}, `${formatNumber(Math.round(job.percent))} %`), link("#/jobs", t("models.toJob")))),
    ...versions.map((version) => versionCard(version, context, what)),
  ];
}

async function train(context, what) {
  const isModel = what === "models";
  const fields = [
    ...(isModel ? [{ name: "model", label: t("models.kind"), kind: "select", value: "embedding", options: ["embedding", "category"].map((kind) => [kind, t(`models.${kind}`)]) }] : []),
    ...(isModel ? [{ name: "minutes", label: t("models.minutes"), kind: "number", hint: t("models.minutesHint") }, { name: "detector", label: t("models.detector"), kind: "check", value: "yes", hint: t("models.detectorHint") }] : []),
    { name: "name", label: t("models.name"), hint: t("models.nameHint") },
  ];
  const given = await ask({ title: t(`${what}.trainTitle`), text: t(`${what}.trainText`), confirm: t("models.train"), fields });
  if (!given) return;
  const body = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ""));
  if (body.minutes) body.minutes = Number(body.minutes);
  await context.run(() => post("v1/models:train", isModel ? body : { ...body, model: "ranker" }), t("jobs.started"));
}

async function rollBack(context, what) {
  const yes = await ask({ title: t(`${what}.rollbackTitle`), text: t(`${what}.rollbackText`), confirm: t("models.rollback"), danger: true });
  if (yes) await context.run(() => post(`v1/${what}:rollback`), t(`${what}.rolledBack`));
}

function versionCard(version, context, what) {
  const activate = async () => {
    const force = [{ name: "force", label: t("models.force"), kind: "check", hint: t("models.forceHint") }];
    const question = { title: t("models.activateTitle", { version: version.version }), text: t(`${what}.activateText`), confirm: t("models.activate"), fields: force };
    const given = await ask(question);
    if (given) await context.run(() => post(`v1/${what}:activate`, { version: version.version, force: given.force }), t(what === "models" ? "jobs.started" : "rankers.activated"));
  };
  const metrics = Object.entries(version.metrics ?? {}).filter(([, value]) => typeof value === "number");
  return h(
    "article",
    { class: "panel" },
    h("div", { class: "job-head" }, h("h2", {}, version.version === looks ? t("rankers.looks") : version.version), version.active && badge(t("models.isActive"), "good"), version.live && badge(t("models.answers"), "good"), version.error && badge(t("models.broken"), "bad")),
    version.error
      ? h("p", { class: "field-error" }, version.error)
      : facts([
          ...(version.kind ? [[t("models.kind"), t(`models.${version.kind}`) ?? version.kind]] : []),
          ...(version.dim ? [[t("models.dim"), formatNumber(version.dim)]] : []),
          ...(version.index ? [[t("models.index"), link("#/index", version.index)]] : []),
          ...(version.source ? [[t("models.source"), version.source]] : []),
          ...(version.licence ? [[t("models.licence"), version.licence]] : []),
        ]),
    metrics.length > 0 && h("dl", { class: "metrics" }, metrics.map(([name, value]) => h("div", {}, h("dt", {}, name.replace(/_?bytes$/, "").replaceAll("_", " ")), h("dd", {}, name.endsWith("bytes") ? size(value) : figure(value))))),
    h(
      "div",
      { class: "actions" },
      what === "models" && !version.error && link(context.href({ version: version.version }), t("models.open"), "secondary"),
      !version.active && !version.error && button(t("models.activate"), activate, { label: `${t("models.activate")}: ${version.version}`, focus: `activate-${version.version}` }),
    ),
  );
}

async function drawModel({ params, signal, href }) {
  const version = params.get("version");
  const { card: text, curves } = await get(`v1/admin/models/${encodeURIComponent(version)}`, {}, signal);
  const drawn = curves ? readCurves(await getText(curves, signal)) : [empty(t("models.noCurves"))];
  return [
    head(version, "", link(href({ version: null }), t("models.toList"), "secondary")),
    card(t("models.curves"), drawn, curves && link(addressOf(curves), t("models.curvesPage"))),
    card(t("models.card"), text ? h("pre", { class: "model-card" }, text) : empty(t("models.noCard"))),
  ];
}

/**
 * The charts of a training's page, to be drawn in ours: nothing that could run is taken over.
 * @param {string} page @returns {Node[]}
 */
function readCurves(page) {
  const unstyled = page.replace(/<style[\s\S]*?<\/style>/gi, ""); // ours are used, and the page's would be refused
  const parsed = new DOMParser().parseFromString(unstyled, "text/html");
  for (const element of parsed.querySelectorAll("script, foreignObject, a, image, use")) element.remove();
  for (const element of parsed.querySelectorAll("figure, figure *")) {
    for (const { name } of [...element.attributes]) if (name.startsWith("on") || name === "style") element.removeAttribute(name);
  }
  return [...parsed.querySelectorAll("h2, p.note, .charts")].flatMap((element) => {
    if (element.matches(".charts")) return [h("div", { class: "curves" }, [...element.querySelectorAll("figure")].map((one) => document.importNode(one, true)))];
    const isSettings = element.matches("h2") && !element.nextElementSibling?.matches("p.note");
    return isSettings ? [] : [h(element.matches("h2") ? "h3" : "p", { class: element.matches("p") && "hint" }, element.textContent)];
  });
}

async function drawLoops({ params, signal, href, run }) {
  const id = params.get("id");
  if (id) return drawLoop(id, href, signal);
  const { loops: runs = [] } = await get("v1/loops", {}, signal);
  const start = async () => {
    const yes = await ask({ title: t("loops.startTitle"), text: t("loops.startText"), confirm: t("loops.start") });
    if (yes) await run(() => post("v1/loops:run"), t("jobs.started"));
  };
  const verdict = ({ published }) => badge(t(published ? "loops.published" : "loops.kept"), published ? "good" : "plain");
  const rate = ({ traffic }) => (traffic?.searches ? percent(traffic.click_through) : "–");
  const row = (one) => [link(href({ id: one.id }), one.started ? moment(one.started) : one.id), verdict(one), [one.reason, (one.warnings ?? []).map((warning) => h("p", { class: "hint" }, warning))], rate(one)];
  const columns = [t("loops.run"), t("loops.result"), t("loops.reason"), { text: t("clicks.clicked"), number: true }];
  return [
    head(t("admin.loops"), t("loops.lead"), button(t("loops.start"), start, { kind: "primary", focus: "start" })),
    runs.length ? table(t("admin.loops"), columns, runs.map(row), { stacks: true }) : empty(t("loops.none")),
  ];
}

async function drawLoop(id, href, signal) {
  const path = `v1/loops/${encodeURIComponent(id)}`;
  const run = await get(path, {}, signal);
  const steps = (run.steps ?? []).map((step) => [t(`step.${step.name}`) ?? step.name, t(`loops.${step.state}`) ?? step.state ?? "", step.reason ?? "", typeof step.seconds === "number" ? `${figure(Math.round(step.seconds * 10) / 10)} s` : ""]);
  const { steps: _steps, request_id: _request, report, reason, ...rest } = run;
  return [
    head(id, reason ?? "", link(addressOf(report), t("loops.report"), "primary"), link(href({ id: null }), t("loops.toList"), "secondary")),
    steps.length > 0 && card(t("loops.steps"), table(t("loops.steps"), [t("loops.step"), t("loops.state"), t("loops.reason"), { text: t("loops.seconds"), number: true }], steps, { stacks: true })),
    card(t("loops.figures"), facts(spread(rest, ""))),
  ].filter(Boolean);
}
