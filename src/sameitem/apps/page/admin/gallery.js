/** Sections: index versions with what their selection dropped, and groups of near-duplicates. */

import { formatNumber, t } from "../i18n.js";
import { bar } from "./chart.js";
import { recall } from "./overview.js";
import { ask, badge, button, card, empty, facts, h, head, link, moment, pager, picture, size } from "./parts.js";
import { get, post } from "./rest.js";

const picturesPerPage = 48;
const groupsPerPage = 12;

/** @type {import("./admin.js").Section} */
export const index = { id: "index", draw: drawIndex };
/** @type {import("./admin.js").Section} */
export const groups = { id: "groups", draw: drawGroups };

async function drawIndex(context) {
  if (context.params.get("reason")) return drawDropped(context);
  const { versions } = await get("v1/index", {}, context.signal);
  const start = async (path, name) => {
    const yes = await ask({ title: t(`index.${name}Title`), text: t(`index.${name}Text`), confirm: t(`index.${name}`) });
    if (yes) context.run(() => post(path), t("jobs.started"));
  };
  return [
    head(
      t("admin.index"),
      t("index.lead"),
      button(t("index.build"), () => start("v1/index:build", "build"), { kind: "primary", focus: "build" }),
      button(t("index.compact"), () => start("v1/index:compact", "compact"), { focus: "compact" }),
    ),
    ...(versions.length ? versions.map((version) => versionCard(version, context)) : [empty(t("attention.no_index"))]),
  ];
}

function versionCard(version, { href, run }) {
  const goBack = async () => {
    const question = { title: t("index.backTitle", { version: version.version }), text: t("index.backText", { model: version.model_version }), confirm: t("index.back"), danger: true };
    if (await ask(question)) run(() => post("v1/index:rollback", { version: version.version }), t("index.wentBack"));
  };
  const reasons = Object.entries({ ...version.dropped, near_duplicate: version.duplicates }).filter(([, count]) => count);
  const most = Math.max(1, ...reasons.map(([, count]) => count));
  const line = ([reason, count]) =>
    h(
      "li",
      {},
      link(href({ version: version.version, reason, start: null }), t(`reason.${reason}`) ?? reason),
      bar(count / most),
      h("span", { class: "number" }, formatNumber(count)),
    );
  return h(
    "article",
    { class: "panel" },
    h("div", { class: "job-head" }, h("h2", {}, version.version), version.live && badge(t("index.isLive"), "good"), h("span", { class: "hint" }, moment(version.created))),
    h(
      "div",
      { class: "columns" },
      facts([
        [t("index.model"), version.model_version],
        [t("index.images"), formatNumber(version.images)],
        [t("index.entries"), formatNumber(version.entries)],
        [t("index.products"), formatNumber(version.products)],
        [t("index.size"), size(version.bytes)],
        ...(version.certificate ? [[t("index.recall", { k: version.certificate.k }), recall(version.certificate)]] : []),
      ]),
      h("div", {}, h("h3", {}, t("index.selection")), reasons.length ? h("ul", { class: "reasons" }, reasons.sort((a, b) => b[1] - a[1]).map(line)) : empty(t("index.nothingDropped"))),
    ),
    !version.live && h("div", { class: "actions" }, button(t("index.back"), goBack, { label: `${t("index.back")}: ${version.version}`, focus: `back-${version.version}` })),
  );
}

async function drawDropped({ params, signal, href }) {
  const [version, reason, start] = [params.get("version"), params.get("reason"), Number(params.get("start")) || 0];
  const found = await get(`v1/admin/index/${encodeURIComponent(version)}/dropped`, { reason, start, num: picturesPerPage }, signal);
  const tiles = found.images.map((image) =>
    h(
      "li",
      {},
      h("a", { class: "picture", href: `#/products?id=${encodeURIComponent(image.product_id)}` }, picture(image.image_url, image.image_name), h("span", { class: "card-title" }, image.product_id), h("small", { class: "hint" }, image.detail)),
    ),
  );
  return [
    head(t(`reason.${reason}`) ?? reason, t(`why.${reason}`) ?? "", link(href({ reason: null, version: null, start: null }), t("index.toVersions"), "secondary")),
    h("p", { class: "hint" }, t("index.droppedOf", { count: formatNumber(found.found), version })),
    found.found ? h("ul", { class: "pictures" }, tiles) : empty(t("index.nothingDropped")),
    pager({ start, num: picturesPerPage, found: found.found }, (next) => href({ start: next })),
  ].filter(Boolean);
}

async function drawGroups({ params, signal, href }) {
  const start = Number(params.get("start")) || 0;
  const found = await get("v1/admin/groups", { start, num: groupsPerPage }, signal);
  const member = (one, place) =>
    h(
      "li",
      { class: place === 0 && "leader" },
      h(
        "a",
        { class: "picture", href: `#/products?id=${encodeURIComponent(one.product_id)}` },
        picture(one.image_url, one.title || one.image_name),
        place === 0 && badge(t("groups.leader"), "good"),
        h("span", { class: "card-title" }, one.title || one.product_id),
        h("small", { class: "hint" }, [one.brand, one.product_id].filter(Boolean).join(" · ")),
      ),
    );
  const group = ({ size, products, members }) => {
    const drawn = card(
      t("groups.title", { size: formatNumber(size), products: formatNumber(products) }),
      h("ul", { class: "pictures" }, members.map(member)),
      size > members.length && h("p", { class: "hint" }, t("groups.more", { count: formatNumber(size - members.length) })),
    );
    drawn.classList.toggle("wide", members.length > 2);
    return drawn;
  };
  return [
    head(t("admin.groups"), t("groups.lead")),
    found.found ? h("p", { class: "hint" }, t("groups.found", { count: formatNumber(found.found) })) : empty(t("groups.none")),
    h("div", { class: "groups" }, found.groups.map(group)),
    pager({ start, num: groupsPerPage, found: found.found }, (next) => href({ start: next })),
  ].filter(Boolean);
}
