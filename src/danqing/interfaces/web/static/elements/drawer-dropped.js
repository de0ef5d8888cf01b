/** What can be done with pictures that were dropped: the verbs, as many as fit their number. */

import { useAsReference, verbs } from "../actions.js";
import { thumbnailOf } from "../api.js";
import { draft } from "../draft.js";
import { h } from "../dom.js";
import { say, t } from "../i18n.js";
import { go, route } from "../router.js";

/** Apps that take several pictures. */
const SEVERAL = ["blend", "learn", "classify"];

/** @returns {Node[]} */
export function dropped() {
  const ids = (route.value.query.get("with") ?? "").split(",").filter(Boolean);
  const [first, ...others] = ids;
  if (!first) return [h("p", { class: "empty" }, t("drop"))];
  const fits = verbs(draft.value.model).filter((app) => ids.length === 1 ? !["blend"].includes(app.name) : SEVERAL.includes(app.name));
  const entry = (/** @type {string} */ name, /** @type {string} */ hint, /** @type {() => void} */ action) => h("li", {}, h("button", { type: "button", class: "offer", onclick: action }, h("strong", {}, name), h("span", {}, hint)));
  const own = ids.length > 1 ? [] : [
    entry(t("reference.image"), t("reference.image.hint"), () => useAsReference(first)),
    entry(t("reference.style_image"), t("reference.style_image.hint"), () => useAsReference(first, "style_image")),
  ];
  const page = (/** @type {string} */ name) => `/p/${first}?do=${name}${others.length ? `&with=${others.join(",")}` : ""}`;
  return [
    h("div", { class: "dropped-pictures" }, ...ids.map((id) => h("img", { src: thumbnailOf(id), alt: t("reference.picture") }))),
    h("ul", { class: "offers" }, ...own, ...fits.map((app) => entry(t(`app.${app.name}`), say(app.summary), () => go(page(app.name))))),
  ];
}
