/**
 * What the user asked for, as plain values: the filters, their expression, and what of it a link can carry.
 * Nothing here touches the document.
 */

/** @typedef {{minPrice: string, maxPrice: string, brand: string, inStock: boolean, expression: string}} Filters */
/**
 * @typedef {{kind: "photo", key: string, blob: Blob, name: string, pictureUrl: string, width: number, height: number}}
 *   PhotoQuery
 */
/** @typedef {{kind: "product", productId: string, imageName: string, pictureUrl: string}} ProductQuery */
/**
 * @typedef {{query: PhotoQuery | ProductQuery | null, box: import("./box.js").Box | null, categoryId: string,
 *   filters: Filters}} View
 */

/** @type {Readonly<Filters>} */
export const noFilters = Object.freeze({ minPrice: "", maxPrice: "", brand: "", inStock: false, expression: "" });

/** @type {Readonly<View>} */
export const emptyView = Object.freeze({ query: null, box: null, categoryId: "", filters: noFilters });

const quote = (text) => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;

/** @param {string} text @returns {string} the text where it is a price that can be compared with, else "" */
export function amount(text) {
  const value = Number(text);
  return text.trim() !== "" && value >= 0 && value < 1e15 ? text.trim() : "";
}

/** @param {string} price @returns {string} plain digits: the grammar has no exponents */
const digits = (price) =>
  Number(price)
    .toFixed(6)
    .replace(/\.?0+$/, "");

/**
 * The filters as one expression of the API's grammar.
 * @param {Filters} filters brands may be several, separated by commas
 * @returns {string} "" when nothing is filtered
 */
export function filterExpression(filters) {
  const terms = [];
  const expression = filters.expression.trim(); // first, so that a position in the server's error is one of the field
  if (expression) terms.push(/\bor\b/i.test(expression) ? `(${expression})` : expression);
  if (amount(filters.minPrice)) terms.push(`price >= ${digits(filters.minPrice)}`);
  if (amount(filters.maxPrice)) terms.push(`price <= ${digits(filters.maxPrice)}`);
  if (filters.inStock) terms.push("in_stock = true");
  const brands = filters.brand
    .split(/[,，]/)
    .map((brand) => brand.trim())
    .filter(Boolean);
  if (brands.length === 1) terms.push(`brand = ${quote(brands[0])}`);
  if (brands.length > 1) terms.push(`brand IN (${brands.map(quote).join(", ")})`);
  return terms.join(" AND ");
}

/** @param {Filters} filters @returns {number} how many filters are set */
export function countFilters(filters) {
  return Object.keys(noFilters).filter((name) => filters[name] !== noFilters[name]).length;
}

const filterNames = { minPrice: "min", maxPrice: "max", brand: "brand", expression: "filter" };

/**
 * The part of a view that a link can carry: product, category and filters. A photo stays on the device.
 * @param {View} view
 * @returns {string} a query string with its "?", or ""
 */
export function writeAddress(view) {
  const address = new URLSearchParams();
  if (view.query?.kind === "product") {
    address.set("product", view.query.productId);
    address.set("image", view.query.imageName);
  }
  if (view.categoryId) address.set("category", view.categoryId);
  for (const [name, parameter] of Object.entries(filterNames)) {
    if (view.filters[name].trim()) address.set(parameter, view.filters[name].trim());
  }
  if (view.filters.inStock) address.set("stock", "1");
  const text = address.toString();
  return text && `?${text}`;
}

/**
 * The view a link asks for; whatever is missing or not understood is left out.
 * @param {string} text the query string of a link
 * @returns {View}
 */
export function readAddress(text) {
  const address = new URLSearchParams(text);
  const read = (name) => (address.get(name) ?? "").trim();
  const filters = { ...noFilters, inStock: read("stock") === "1" };
  for (const [name, parameter] of Object.entries(filterNames)) filters[name] = read(parameter);
  for (const name of ["minPrice", "maxPrice"]) filters[name] = amount(filters[name]);
  const productId = read("product");
  const query = productId ? { kind: "product", productId, imageName: read("image"), pictureUrl: "" } : null;
  return { query, box: null, categoryId: read("category"), filters };
}
