/** Fields of pictures: one or several, or pictures that are followed, each with how strongly. */

import { upload } from "../actions.js";
import { thumbnailOf } from "../api.js";
import { h, icon, iconButton } from "../dom.js";
import { say, t } from "../i18n.js";

/** @typedef {import("./schema-field.js").Maker} Maker */

/**
 * A place to drop pictures or to choose them, below what is chosen.
 * @param {HTMLElement} row @param {Record<string, any>} attributes @param {boolean} many
 * @param {(ids: string[]) => void} add
 */
function place(row, attributes, many, add) {
  const send = async (/** @type {Iterable<File>} */ files) => add(await upload(files));
  const choose = () => {
    if (file.files) void send(file.files);
    file.value = "";
  };
  const file = h("input", { ...attributes, type: "file", accept: "image/png,image/jpeg,image/webp", multiple: many, class: "hidden", onchange: choose });
  const drop = (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    event.stopPropagation();
    void send([...(event.dataTransfer?.files ?? [])]);
  };
  const button = h("button", { type: "button", class: "choose", onclick: () => file.click() }, icon("image"), t(many ? "choose.many" : "choose.one"));
  return h("div", { class: "images", ondrop: drop, ondragover: (/** @type {Event} */ event) => event.preventDefault() }, row, button, file);
}

/** @param {string} id @param {() => void} remove */
const chosen = (id, remove) => h("span", { class: "chosen-picture" }, h("img", { src: thumbnailOf(id, 128), alt: t("reference.picture"), width: 64, height: 64 }), iconButton("close", t("reference.remove"), remove));

/** One picture or several: dropped, chosen, or named by the page. @type {Maker} */
export function images({ property, value, set }, attributes) {
  const many = property.type === "array";
  /** @type {string[]} */
  let ids = [value ?? []].flat();
  const row = h("div", { class: "chosen" });
  const show = () => row.replaceChildren(...ids.map((id) => chosen(id, () => keep(ids.filter((one) => one !== id)))));
  const keep = (/** @type {string[]} */ now) => {
    ids = many ? now : now.slice(-1);
    set(many ? ids : ids[0]);
    show();
  };
  show();
  return place(row, attributes, many, (more) => keep([...ids, ...more]));
}

/**
 * @typedef {{kind: string, id: string, strength: string, share: string}} Followed
 * As in the text canny=u-1:0.8:0-0.5; kind: empty where the schema has none.
 */

/** @param {string} text @returns {Followed} */
function read(text) {
  const match = /^(?:([^=]+)=)?(.+?)(?::([\d.]+))?(?::([\d.]+-[\d.]+))?$/.exec(text);
  return { kind: match?.[1] ?? "", id: match?.[2] ?? "", strength: match?.[3] ?? "1", share: match?.[4] ?? "" };
}

/** @param {Followed} one */
const written = ({ kind, id, strength, share }) => `${kind && `${kind}=`}${id}:${strength || 1}${share && `:${share}`}`;

/** Pictures that are followed: what each shows, where it is a map, and how strongly it counts. @type {Maker} */
export function followed({ property, value, set }, attributes) {
  const kinds = property.kinds ?? [];
  /** @type {Followed[]} */
  let all = (value ?? []).map(read);
  const rows = h("div", { class: "followed" });
  const tell = () => set(all.length ? all.map(written) : undefined);
  const keep = (/** @type {Followed[]} */ now) => {
    all = now;
    tell();
    show();
  };
  const show = () => rows.replaceChildren(...all.map((one) => h("div", { class: "followed-picture" },
    chosen(one.id, () => keep(all.filter((other) => other !== one))),
    kinds.length ? select(one) : null, strength(one))));
  const select = (/** @type {Followed} */ one) => h("select", { "aria-label": t("control.kind"), onchange: (/** @type {any} */ event) => (one.kind = event.target.value, tell()) },
    ...kinds.map((kind) => h("option", { value: kind, selected: kind === one.kind }, say(kind))));
  const strength = (/** @type {Followed} */ one) => h("input", { type: "number", min: 0, max: 2, step: 0.05, "aria-label": t("control.strength"), title: t("control.strength"), ".value": one.strength, oninput: (/** @type {any} */ event) => (one.strength = event.target.value, tell()) });
  show();
  const fresh = (/** @type {string} */ id) => ({ kind: kinds[0] ?? "", id, strength: "1", share: "" });
  return place(rows, attributes, true, (ids) => keep([...all, ...ids.map(fresh)].slice(0, property.maxItems)));
}
