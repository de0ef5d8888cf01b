/** One field of a schema: the input that fits its type, with its name and hint. */

import { freshId, h } from "../dom.js";
import { say, t } from "../i18n.js";
import { followed, images } from "./picture-fields.js";

/** @typedef {import("../../types.js").Property} Property */

/**
 * @typedef {{name: string, property: Property, label: string, hint: string, value: any, required: boolean,
 *   set: (value: any) => void}} Field
 * set: called with the value that was entered; undefined where there is none.
 */

/** @param {Field} given @returns {HTMLElement} */
export function field(given) {
  const property = plain(given.property);
  const make = KINDS.find(([fits]) => fits(property))?.[1] ?? text;
  const id = freshId();
  const input = make({ ...given, property }, { id, "data-field": given.name, "aria-describedby": `${id}-hint`, required: given.required });
  const names = h("label", { for: id }, given.label, property.unit && h("span", { class: "unit" }, say(property.unit)));
  return h("div", { class: `field ${property.type === "boolean" ? "switch" : ""}` }, names, input, h("p", { class: "hint", id: `${id}-hint` }, given.hint));
}

/** The part of "this or null" that is not null. @param {Property} property @returns {Property} */
export function plain(property) {
  const inner = property.anyOf?.find((one) => one.type !== "null");
  return inner ? { ...property, ...inner, enum: property.enum ?? inner.enum } : property;
}

/** @typedef {(field: Field, attributes: Record<string, any>) => HTMLElement} Maker */

/** @param {Event} event */
const entered = (event) => /** @type {HTMLInputElement} */ (event.target).value;

/** @type {Maker} */
function choice({ property, value, set }, attributes) {
  const options = property.enum ?? [];
  const chosen = value ?? property.default ?? null;
  const change = (/** @type {Event} */ event) => set(options.find((one) => String(one) === entered(event)) ?? undefined);
  const all = options.includes(null) || property.default !== undefined && property.default !== null ? options : [null, ...options];
  return h("select", { ...attributes, onchange: change }, ...all.map((one) => h("option", { value: String(one), selected: one === chosen }, one === null ? t("none") : say(String(one)))));
}

/** @type {Maker} */
function toggle({ property, value, set }, attributes) {
  return h("input", { ...attributes, type: "checkbox", role: "switch", ".checked": value ?? property.default ?? false, onchange: (/** @type {any} */ event) => set(event.target.checked) });
}

/** A slider where there are bounds that fit one, with the number beside it. @type {Maker} */
function number({ property, value, set }, attributes) {
  const whole = property.type === "integer";
  const low = property.minimum ?? property.exclusiveMinimum ?? 0;
  const step = property.step ?? (whole ? 1 : 0.05);
  const given = value ?? property.default ?? null;
  const read = (/** @type {Event} */ event) => {
    const number = entered(event) === "" ? undefined : Number(entered(event));
    if (slider && number !== undefined) slider.value = String(number);
    set(number);
  };
  const exact = h("input", { ...attributes, type: "number", min: property.minimum, max: property.maximum, step: "any", inputmode: whole ? "numeric" : "decimal", placeholder: t("auto"), ".value": given ?? "", oninput: read });
  const bounded = property.maximum !== undefined && (property.maximum - low) / step <= 1000;
  const slide = (/** @type {Event} */ event) => {
    exact.value = entered(event);
    set(Number(entered(event)));
  };
  const slider = bounded ? h("input", { type: "range", tabindex: -1, "aria-hidden": "true", min: property.exclusiveMinimum !== undefined ? step : low, max: property.maximum, step, ".value": given ?? low, oninput: slide }) : null;
  return h("div", { class: "number" }, slider, exact);
}

/** @type {Maker} */
function text({ property, value, set }, attributes) {
  const long = (property.maxLength ?? 0) >= 1000;
  const list = property.examples?.length ? h("datalist", { id: freshId() }, ...property.examples.map((one) => h("option", { value: one }))) : null;
  const props = { ...attributes, list: list?.id, ".value": value ?? property.default ?? "", placeholder: property.default ?? t("auto"), oninput: (/** @type {Event} */ event) => set(entered(event)) };
  return h("div", { class: "text" }, long ? h("textarea", { ...props, rows: 2, placeholder: null }) : h("input", { ...props, type: "text", autocomplete: "off" }), list);
}

/** A colour, or one of two words. @type {Maker} */
function background({ property, value, set }, attributes) {
  const now = value ?? property.default;
  const colour = h("input", { type: "color", "aria-label": t("colour"), ".value": /^#/.test(now) ? now : "#faf7f0", hidden: !/^#/.test(now), oninput: (/** @type {Event} */ event) => set(entered(event)) });
  const change = (/** @type {Event} */ event) => {
    colour.hidden = entered(event) !== "#";
    set(entered(event) === "#" ? colour.value : entered(event));
  };
  const options = [["white", t("white")], ["transparent", t("transparent")], ["#", t("colour")]];
  return h("div", { class: "number" }, h("select", { ...attributes, onchange: change }, ...options.map(([key, label]) => h("option", { value: key, selected: key === now || (key === "#" && /^#/.test(now)) }, label))), colour);
}

/** Values with commas between them. @type {Maker} */
function list({ property, value, set }, attributes) {
  const numbers = property.items?.type === "number";
  const read = (/** @type {Event} */ event) => {
    const parts = entered(event).split(/[,，]/).map((part) => part.trim()).filter(Boolean);
    set(parts.length ? parts.map((part) => (numbers ? Number(part) : part)) : undefined);
  };
  return h("input", { ...attributes, type: "text", autocomplete: "off", ".value": (value ?? property.default ?? []).join(", "), oninput: read });
}

/** Names with weights, such as my-cat:0.8. @type {Maker} */
function weights({ value, set }, attributes) {
  const read = (/** @type {Event} */ event) => {
    const parts = entered(event).split(/[,，]/).map((part) => part.trim()).filter(Boolean);
    const pairs = parts.map((part) => /^(.*?)(?::([\d.]+))?$/.exec(part)).map((match) => [match?.[1] ?? "", Number(match?.[2] ?? 1)]);
    set(pairs.length ? Object.fromEntries(pairs) : undefined);
  };
  const shown = Object.entries(value ?? {}).map(([name, weight]) => `${name}:${weight}`).join(", ");
  return h("input", { ...attributes, type: "text", autocomplete: "off", ".value": shown, oninput: read });
}

/** A list of one name, of those that are offered. @type {Maker} */
function oneOf({ property, value, set }, attributes) {
  const names = property.items?.enum ?? [];
  const change = (/** @type {Event} */ event) => set(entered(event) ? [entered(event)] : undefined);
  return h("select", { ...attributes, onchange: change }, h("option", { value: "" }, t("auto")), ...names.map((name) => h("option", { value: name, selected: value?.[0] === name }, name)));
}

/** @type {[(property: Property) => boolean, Maker][]} */
const KINDS = [
  [(one) => one.format === "image" || one.items?.format === "image", images],
  [(one) => ["control", "weighted-image"].includes(one.items?.format ?? ""), followed],
  [(one) => Array.isArray(one.items?.enum), oneOf],
  [(one) => Array.isArray(one.enum), choice],
  [(one) => one.type === "boolean", toggle],
  [(one) => one.type === "integer" || one.type === "number", number],
  [(one) => one.type === "array", list],
  [(one) => one.type === "object", weights],
  [(one) => one.default === "white", background],
];
