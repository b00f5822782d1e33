/** The REST interface as the page uses it. Addresses are relative to the page, so it works below any path. */

import { toPixels } from "./box.js";
import { sessionId } from "./identity.js";
import { filterExpression } from "./state.js";

/**
 * @typedef {Object} Result
 * @property {number} rank
 * @property {string} product_id
 * @property {string} image_name
 * @property {string | null} category_id
 * @property {number} score probability that it is the same item, by how it looks, 0..1
 * @property {number} visual_score larger is more alike, 0..1
 * @property {number | null} same_item the same, where local details were checked
 * @property {number} duplicates how many other products were folded into this one
 * @property {{product_id: string, image_name: string}[]} duplicate_products
 * @property {number | null} price
 * @property {string} currency
 * @property {string} title
 * @property {string} brand
 * @property {string} url
 * @property {string} image_url
 * @property {Record<string, string | number | boolean>} attributes
 */

/**
 * @typedef {Object} SearchAnswer
 * @property {string} search_id
 * @property {string} index_version
 * @property {{category_id: string | null, categories: {id: string, name: string, score: number}[],
 *   box: import("./box.js").Box | null, box_source: string, width: number, height: number,
 *   objects: {object_id: string, box: import("./box.js").Box, score: number}[]}} query
 * @property {{found: number, returned: number, good_match?: number}} head
 * @property {Result[]} results
 */

const searchDeadlineMs = 30_000;
const jsonHeaders = { "Content-Type": "application/json" };

/** What the server, or the way to it, said no with. `code` is the server's, or "unreachable" or "timeout". */
export class ApiError extends Error {
  /** @param {{status?: number, code: string, detail?: string, requestId?: string, retryAfterS?: number,
   *   errors?: {field: string, reason: string}[]}} problem */
  constructor({ status = 0, code, detail = "", requestId = "", retryAfterS = 0, errors = [] }) {
    super(detail || code);
    Object.assign(this, { status, code, detail, requestId, retryAfterS, errors });
  }
}

const address = (path) => new URL(path, document.baseURI);

async function readProblem(response) {
  const problem = await response.json().catch(() => ({}));
  const text = (value) => (typeof value === "string" ? value : "");
  return new ApiError({
    status: response.status,
    code: text(problem.code) || String(response.status),
    detail: text(problem.detail) || text(problem.title),
    requestId: text(problem.request_id),
    retryAfterS: Number(response.headers.get("Retry-After")) || 0,
    errors: Array.isArray(problem.errors) ? problem.errors : [],
  });
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(address(path), options);
  } catch (error) {
    if (options.signal?.aborted) throw options.signal.reason;
    throw new ApiError({ code: "unreachable", detail: String(error.message ?? error) });
  }
  if (!response.ok) throw await readProblem(response);
  return response.json().catch(() => {
    if (options.signal?.aborted) throw options.signal.reason;
    throw new ApiError({ status: response.status, code: "unreadable" });
  });
}

/**
 * One page of results for a view.
 * @param {import("./state.js").View} view its query is set
 * @param {{start: number, num: number, photoSize: import("./box.js").Size | null, signal: AbortSignal}} options
 *   photoSize: of the upright query photo in pixels; needed to send a box
 * @returns {Promise<SearchAnswer>}
 * @throws {ApiError}
 */
export async function search(view, { start, num, photoSize, signal }) {
  const fields = { num, start, session_id: sessionId() };
  const filter = filterExpression(view.filters);
  if (filter) fields.filter = filter;
  if (view.categoryId) fields.category_id = view.categoryId;
  if (view.box && photoSize) fields.box = toPixels(view.box, photoSize);

  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(new ApiError({ code: "timeout" })), searchDeadlineMs);
  signal.addEventListener("abort", () => deadline.abort(signal.reason), { once: true });
  try {
    return await call("v1/search", { method: "POST", signal: deadline.signal, ...body(view.query, fields) });
  } finally {
    clearTimeout(timer);
  }
}

function body(query, fields) {
  if (query.kind === "product") {
    const json = JSON.stringify({ product_id: query.productId, image_name: query.imageName || undefined, ...fields });
    return { body: json, headers: jsonHeaders };
  }
  const form = new FormData();
  form.set("image", query.blob, query.name);
  for (const [name, value] of Object.entries(fields)) {
    form.set(name, typeof value === "object" ? JSON.stringify(value) : String(value));
  }
  return { body: form };
}

/** @returns {Promise<{id: string, name: string, name_zh: string}[]>} the top categories */
export async function fetchCategories() {
  return (await call("v1/taxonomy")).categories ?? [];
}

/**
 * A photo that somebody searched with; only a key with the scope "admin" opens it.
 * @param {string} hash @returns {Promise<Blob>} @throws {ApiError}
 */
export async function fetchLoggedPhoto(hash) {
  const response = await fetch(address(`v1/admin/photos/${encodeURIComponent(hash)}`));
  if (!response.ok) throw await readProblem(response);
  return response.blob();
}

/**
 * What the shop says of one product, in the words of a result.
 * @param {string} productId @param {string} imageName which of its pictures
 * @returns {Promise<Partial<Result>>}
 * @throws {ApiError}
 */
export async function fetchProduct(productId, imageName) {
  const { product, images } = await call(`v1/products/${encodeURIComponent(productId)}`);
  const image_url = images?.find((image) => image.name === imageName)?.image_url ?? "";
  return { ...product, product_id: productId, image_name: imageName, image_url };
}

/**
 * Store events; they are sent even while the page is being left, and a failure never disturbs the user.
 * @param {Record<string, unknown>[]} events
 */
export function sendEvents(events) {
  fetch(address("v1/events"), {
    method: "POST",
    keepalive: true,
    headers: jsonHeaders,
    body: JSON.stringify({ events }),
  }).catch(() => {});
}

/**
 * Let the server keep an access key in a cookie that no script can read; every later request then carries it.
 * @param {string} key
 * @throws {ApiError} status 401: it is no key of this shop
 */
export async function logIn(key) {
  await call("v1/login", { method: "POST", headers: jsonHeaders, body: JSON.stringify({ key }) });
}

/** Have the server take the cookie away. @throws {ApiError} */
export async function logOut() {
  await call("v1/logout", { method: "POST" });
}
