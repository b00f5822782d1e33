/** Section: the catalogue's products, their images, and where each image is. */

import { formatNumber, formatPrice, t } from "../i18n.js";
import { safeUrl } from "../results.js";
import { ask, badge, button, card, empty, facts, figure, h, head, link, picture, toast, withBox } from "./parts.js";
import { ApiError, categoryNames, get, post, remove } from "./rest.js";

const pageSize = 24;
const places = { gallery: "good", duplicate: "plain", set_aside: "bad", waiting: "busy", unknown: "plain" };

/** @type {import("./admin.js").Section} */
export const products = { id: "products", draw: (context) => (context.params.get("id") ? drawProduct(context) : browse(context)) };

async function browse({ params, signal, href }) {
  const [filter, after] = [params.get("filter") ?? "", params.get("after") ?? ""];
  let found = { products: [], looked_at: 0, next: null };
  let trouble = "";
  try {
    found = await get("v1/admin/products", { filter, after, num: pageSize }, signal);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 422) throw error;
    trouble = error.detail;
  }
  const search = (event) => {
    event.preventDefault();
    const id = event.target.elements.id.value.trim();
    location.hash = id ? href({ id, filter: null, after: null }) : href({ filter: event.target.elements.filter.value.trim(), after: null });
  };
  const form = h(
    "form",
    { class: "panel browse", onsubmit: search },
    h("label", {}, h("span", {}, t("products.id")), h("input", { name: "id", type: "text", autocomplete: "off", maxlength: "512" })),
    h(
      "label",
      { class: "wide" },
      h("span", {}, t("filters.expression")),
      h("input", { name: "filter", type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: "4096", value: filter, "aria-invalid": trouble ? "true" : false, "aria-describedby": "filter-hint" }),
      h("small", { id: "filter-hint", class: trouble ? "field-error" : "hint", role: trouble && "alert" }, trouble || t("products.filterHint")),
    ),
    h("button", { class: "primary" }, t("products.show")),
  );
  const tile = (product) =>
    h(
      "li",
      {},
      h(
        "a",
        { class: "picture", href: href({ id: product.product_id }) },
        picture(product.image_url, product.title || product.product_id),
        h("span", { class: "card-title" }, product.title || product.product_id),
        h("small", { class: "hint" }, [product.product_id, formatPrice(product.price, product.currency)].filter(Boolean).join(" · ")),
      ),
    );
  return [
    head(t("admin.products"), t("products.lead")),
    form,
    !trouble && (found.products.length ? h("ul", { class: "pictures" }, found.products.map(tile)) : empty(found.next === null ? t("products.none") : t("products.noneYet", { count: formatNumber(found.looked_at) }))),
    h("nav", { class: "pager", "aria-label": t("admin.pages") }, after ? link(href({ after: null }), t("products.first"), "secondary") : h("span"), found.next !== null ? link(href({ after: found.next }), t("admin.after"), "secondary") : h("span")),
  ].filter(Boolean);
}

async function drawProduct(context) {
  const { params, signal, href, run } = context;
  const id = params.get("id");
  const back = link(href({ id: null }), t("products.toList"), "secondary");
  const nameOf = await categoryNames(signal);
  let found;
  try {
    found = await get(`v1/admin/products/${encodeURIComponent(id)}`, {}, signal);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
    return [head(id, "", back), empty(t("products.gone"))];
  }
  const { product, images } = found;
  const drop = async () => {
    const yes = await ask({ title: t("products.deleteTitle", { title: product.title || id }), text: t("products.deleteText", { count: images.length }), confirm: t("products.delete"), danger: true });
    if (!yes) return;
    await run(() => remove(`v1/products/${encodeURIComponent(id)}`), t("products.deleted"));
  };
  const { product_id: _id, title, attributes, url, price, currency, ...rest } = product;
  const shown = Object.entries(rest).filter(([, value]) => value !== null && value !== "");
  const value = (one) => (typeof one === "number" ? figure(one) : typeof one === "boolean" ? t(one ? "products.yes" : "products.no") : String(one));
  const address = safeUrl(url);
  return [
    head(title || id, id, back, button(t("products.delete"), drop, { kind: "secondary danger-text", focus: "delete" })),
    card(
      t("products.images", { count: formatNumber(images.length) }),
      images.length ? h("ul", { class: "pictures large" }, images.map((image) => imageTile(image, id, nameOf, context))) : empty(t("products.noImages")),
    ),
    card(
      t("products.facts"),
      facts([
        ...(price !== null ? [[t("products.price"), formatPrice(price, currency)]] : []),
        ...shown.map(([name, one]) => [t(`product.${name}`) ?? name, value(one)]),
        ...Object.entries(attributes).map(([name, one]) => [name, value(one)]),
        ...(address ? [[t("products.url"), h("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, url)]] : []),
      ]),
    ),
  ];
}

function imageTile(image, productId, nameOf, { run }) {
  const tile = picture(image.image_url, image.name, 480);
  const found = h("p", { class: "hint", role: "status" });
  const lookAgain = async () => {
    try {
      const seen = await post(`v1/admin/images/${image.image_id}:look-again`);
      for (const old of tile.querySelectorAll(".found-box")) old.remove();
      for (const box of seen.objects) withBox(tile, box, "other");
      withBox(tile, seen.box);
      const twin = seen.duplicate_of && seen.duplicate_of.product_id !== productId ? t("products.twin", { product: seen.duplicate_of.product_id }) : "";
      found.textContent = [t("products.seen", { count: seen.objects.length, category: nameOf(seen.category_id) }), twin].filter(Boolean).join(" ");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.detail || t("error.unreachable"));
    }
  };
  const drop = async () => {
    const yes = await ask({ title: t("products.deleteImageTitle"), text: t("products.deleteImageText", { name: image.name }), confirm: t("products.deleteImage"), danger: true });
    if (yes) await run(() => remove(`v1/products/${encodeURIComponent(productId)}/images/${encodeURIComponent(image.name)}`), t("products.deleted"));
  };
  const why = image.reason && image.place !== "duplicate" ? `${t(`reason.${image.reason}`) ?? image.reason}${image.detail ? `: ${image.detail}` : ""}` : "";
  const by = image.represented_by;
  return h(
    "li",
    {},
    tile,
    h("div", {}, badge(t(`place.${image.place}`), places[image.place])),
    why && h("small", {}, why),
    by && h("small", {}, link(`#/products?id=${encodeURIComponent(by.product_id)}`, t("products.representedBy", { product: by.product_id, image: by.image_name }))),
    h("small", { class: "hint path" }, `${image.name} · ${t(`kind.${image.kind}`) ?? image.kind} · ${image.width} × ${image.height}`),
    h("div", { class: "actions" }, button(t("products.look"), lookAgain, { label: `${t("products.look")}: ${image.name}` }), button(t("products.deleteImage"), drop, { kind: "plain", label: `${t("products.deleteImage")}: ${image.name}` })),
    found,
  );
}
