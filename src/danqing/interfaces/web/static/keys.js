/** One map of keys for the whole page; the list in the drawer is made from it. */

import * as actions from "./actions.js";
import { route, go, setQuery } from "./router.js";
import { pictures } from "./state.js";

/** @typedef {{keys: string, name: string}} KeyHelp */

/** What the drawer lists. @type {KeyHelp[]} */
export const help = [
  { keys: "/", name: "keys.prompt" },
  { keys: "1 – 4", name: "keys.enlarge" },
  { keys: "⇧ 1 – 4", name: "keys.vary" },
  { keys: "r", name: "keys.reroll" },
  { keys: "s", name: "keys.star" },
  { keys: "d", name: "keys.download" },
  { keys: "⌫", name: "keys.trash" },
  { keys: "← ↑ → ↓", name: "keys.move" },
  { keys: "↵", name: "keys.open" },
  { keys: "c", name: "keys.compare" },
  { keys: "q", name: "keys.queue" },
  { keys: "m", name: "keys.models" },
  { keys: "Esc", name: "keys.close" },
  { keys: "?", name: "keys.help" },
];

/** Letters for a picture: the one that is open or focused. @type {Record<string, (id: string) => unknown>} */
const forPicture = {
  s: actions.star,
  d: actions.download,
  Delete: actions.trash,
  Backspace: actions.trash,
  r: (id) => actions.reroll(pictures.get(id)?.job ?? null, id),
  c: () => setQuery({ compare: route.value.query.has("compare") ? null : "1" }, { replace: true }),
};

/** @type {Record<string, () => unknown>} */
const anywhere = {
  "/": () => {
    if (route.value.place !== "wall") go("/");
    requestAnimationFrame(() => document.querySelector("textarea")?.focus());
  },
  "?": () => setQuery({ drawer: "keys" }),
  q: () => setQuery({ drawer: "queue" }),
  m: () => setQuery({ drawer: "models" }),
  Escape: escape,
};

function escape() {
  const { query, place } = route.value;
  if (query.has("drawer")) setQuery({ drawer: null, with: null });
  else if (query.has("do") || query.has("compare")) setQuery({ do: null, compare: null });
  else if (place !== "wall") go("/");
}

/** The pictures that digits mean: those of the focused card, or of the newest one. @returns {string[]} */
function digits() {
  const focused = document.activeElement?.closest("wall-card");
  const card = focused ?? document.querySelector("wall-card[data-done]");
  const here = route.value.place === "picture" ? [route.value.id] : [];
  return here.length ? here : [...(card?.querySelectorAll("[data-picture]") ?? [])].map((tile) => /** @type {HTMLElement} */ (tile).dataset.picture ?? "");
}

/** The picture that a letter means. @returns {string | undefined} */
function current() {
  const focused = /** @type {HTMLElement | null} */ (document.activeElement?.closest("[data-picture]"));
  if (focused) return focused.dataset.picture;
  return route.value.place === "picture" ? route.value.id : digits()[0];
}

/** Whether what is typed belongs to a field. @param {Event} event */
function inField(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  return target.matches("input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]");
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  const commanded = event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || event.isComposing;
  if (commanded || (inField(event) && event.key !== "Escape")) return;
  const digit = /^Digit([1-9])$/.exec(event.code)?.[1];
  const id = digit ? digits()[Number(digit) - 1] : current();
  if (digit && id) return run(event, () => (event.shiftKey ? actions.vary(id) : actions.enlarge(id)));
  const action = anywhere[event.key];
  if (action) return run(event, action);
  const verb = forPicture[event.key];
  if (verb && id) run(event, () => verb(id));
}

/** @param {KeyboardEvent} event @param {() => unknown} action */
function run(event, action) {
  event.preventDefault();
  action();
}

export function listenToKeys() {
  document.addEventListener("keydown", onKey);
}
