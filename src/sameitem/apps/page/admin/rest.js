/** The REST interface as the operator's page uses it. Addresses are relative to the page, so it works below any path. */

import { ApiError } from "../api.js";
import { currentLanguage, t } from "../i18n.js";

export { ApiError };

/** @param {string} path "v1/…" or, as answers name it, "/v1/…" @returns {string} its address, whatever the page lies below */
export const addressOf = (path) => new URL(`../${path.replace(/^\//, "")}`, document.baseURI).href;

async function call(method, path, { body, signal } = {}) {
  let response;
  try {
    response = await fetch(addressOf(path), {
      method,
      signal,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError({ code: "unreachable", detail: String(error.message ?? error) });
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new ApiError({
    status: response.status,
    code: problem.code ?? String(response.status),
    detail: problem.detail ?? "",
    requestId: problem.request_id ?? "",
  });
}

/**
 * @param {string} path @param {Record<string, unknown>} query empty and missing values are left out
 * @param {AbortSignal} [signal] @returns {Promise<any>} the answer's JSON
 * @throws {ApiError}
 */
export async function get(path, query = {}, signal = undefined) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return (await call("GET", text ? `${path}?${text}` : path, { signal })).json();
}

/** @param {string} path @param {AbortSignal} signal @returns {Promise<any>} the answer; null where there is no such route */
export async function getIfThere(path, signal) {
  try {
    return await get(path, {}, signal);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

/** @param {string} path @param {AbortSignal} signal @returns {Promise<string>} @throws {ApiError} */
export const getText = async (path, signal) => (await call("GET", path, { signal })).text();

/** @param {string} path @param {object} [body] @returns {Promise<any>} @throws {ApiError} */
export const post = async (path, body = undefined) => (await call("POST", path, { body })).json();

/** @param {string} path @returns {Promise<any>} @throws {ApiError} */
export const remove = async (path) => (await call("DELETE", path)).json();

/** @param {AbortSignal} signal @returns {Promise<(id: string) => string>} names of top categories in the page's language */
export async function categoryNames(signal) {
  const { categories } = await get("v1/taxonomy", {}, signal);
  const names = new Map(categories.map(({ id, name, name_zh: chinese }) => [id, currentLanguage() === "zh" ? chinese : name]));
  return (id) => names.get(id) ?? (id || t("clicks.noCategory"));
}
