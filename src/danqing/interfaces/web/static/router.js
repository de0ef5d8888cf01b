/** The address is the state: places in its path; drawers, filters and verbs in its query. */

import { Signal } from "./store.js";

/**
 * @typedef {{place: "wall" | "picture" | "learn", id: string, query: URLSearchParams}} Route
 * id: of the picture or the chapter.
 */

/** @returns {Route} */
function read() {
  const [, first = "", second = ""] = location.pathname.split("/");
  const query = new URLSearchParams(location.search);
  if (first === "p" && second) return { place: "picture", id: decodeURIComponent(second), query };
  if (first === "learn") return { place: "learn", id: decodeURIComponent(second), query };
  return { place: "wall", id: "", query };
}

export const route = new Signal(read());

/**
 * Go to an address of this page.
 * @param {string} address @param {{replace?: boolean}} [options]
 */
export function go(address, { replace = false } = {}) {
  if (address === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"]({}, "", address);
  route.value = read();
}

/**
 * This address with other values in its query; null takes one out.
 * @param {Record<string, string | null>} changes
 */
export function withQuery(changes) {
  const query = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries(changes)) value ? query.set(key, value) : query.delete(key);
  const text = query.toString();
  return location.pathname + (text && `?${text}`);
}

/** @param {Record<string, string | null>} changes @param {{replace?: boolean}} [options] */
export const setQuery = (changes, options) => go(withQuery(changes), options);

/** Follow links within the page without loading it anew. */
export function followLinks() {
  addEventListener("popstate", () => (route.value = read()));
  document.addEventListener("click", (event) => {
    const target = /** @type {Element} */ (event.target);
    const link = target.closest?.("a");
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    const inside = link && link.origin === location.origin && /^\/($|p\/|learn)/.test(link.pathname);
    if (!plain || !inside || link.target || link.hasAttribute("download") || event.defaultPrevented) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
