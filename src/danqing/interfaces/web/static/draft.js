/** What stands in the prompt bar: kept from one visit to the next, except for the words of a finished one. */

import { Signal } from "./store.js";

/** @typedef {import("../types.js").Reference} Reference */

/**
 * @typedef {{prompt: string, model: string, style: string, ar: string, count: number, fast: boolean, more: boolean,
 *   extra: Record<string, any>, references: Reference[]}} Draft
 * extra: inputs of the schema's groups that differ from their defaults.
 */

/** @type {Draft} */
const EMPTY = { prompt: "", model: "stickers", style: "", ar: "", count: 4, fast: false, more: false, extra: {}, references: [] };

/** @returns {Draft} */
function saved() {
  try {
    return { ...EMPTY, ...JSON.parse(localStorage.getItem("draft") ?? "{}") };
  } catch {
    return EMPTY;
  }
}

export const draft = new Signal(saved());

/** @param {Partial<Draft>} changes */
export function revise(changes) {
  draft.value = { ...draft.value, ...changes };
  localStorage.setItem("draft", JSON.stringify(draft.value));
}

/** The inputs of a job `paint` for the draft. @returns {Record<string, any>} */
export function inputsOf({ prompt, model, style, ar, count, fast, extra, references } = draft.value) {
  /** @type {Record<string, any>} */
  const inputs = { ...extra, prompt, model, count };
  if (style) inputs.style = style;
  if (ar && !extra.width && !extra.height) inputs.ar = ar;
  if (fast) inputs.fast = true;
  for (const { id, role } of references) inputs[role] = id;
  return inputs;
}

/** Put a picture into the prompt bar. @param {string} id @param {Reference["role"]} role */
export function refer(id, role) {
  const others = draft.value.references.filter((one) => one.role !== role);
  revise({ references: [...others, { id, role }] });
}
