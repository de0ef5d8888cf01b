/** Settings of this browser, what the server is, and the list of keys. */

import { api } from "../api.js";
import { draft, revise } from "../draft.js";
import { h } from "../dom.js";
import { language, LANGUAGES, speak, t } from "../i18n.js";
import { help } from "../keys.js";
import { setQuery } from "../router.js";
import { attempt, capabilities, me } from "../state.js";

/** @typedef {import("../i18n.js").Language} Language */

/** @returns {Node[]} */
export function settings() {
  const languages = Object.entries(LANGUAGES).map(([code, name]) => h("label", { class: "radio" }, h("input", { type: "radio", name: "language", value: code, checked: code === language.value, onchange: () => speak(/** @type {Language} */ (code)) }), h("span", { lang: code }, name)));
  const fast = h("label", { class: "radio" }, h("input", { type: "checkbox", role: "switch", ".checked": draft.value.fast, onchange: (/** @type {any} */ event) => revise({ fast: event.target.checked }) }), h("span", {}, t("settings.fast")));
  const about = h("dl", {});
  const show = (/** @type {Record<string, any> | null} */ all) => {
    if (!all) return;
    const rows = [[t("settings.version"), all.version], [t("settings.device"), all.device], [t("settings.workers"), all.queue?.workers], [t("settings.upload"), t("megabytes", { n: Math.round((all.limits?.upload_bytes ?? 0) / 1048576) })]];
    about.replaceChildren(...rows.filter(([, value]) => value !== undefined && value !== null).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))]));
  };
  show(capabilities.value);
  void api.capabilities().then(show, () => {});
  return [
    ...account(),
    h("fieldset", {}, h("legend", {}, t("settings.language")), ...languages),
    h("fieldset", {}, h("legend", {}, t("settings.painting")), fast),
    h("h3", {}, t("settings.about")), about,
    h("p", { class: "drawer-links" }, h("a", { href: "/?trash=true", class: "link" }, t("trash")), h("button", { type: "button", class: "link", onclick: () => setQuery({ drawer: "keys" }) }, t("drawer.keys"))),
  ];
}

/** @returns {Node[]} */
export function keys() {
  return [h("dl", { class: "keys" }, ...help.flatMap(({ keys: pressed, name }) => [h("dt", {}, h("kbd", {}, pressed)), h("dd", {}, t(name))]))];
}

/** Who is logged in, with what concerns the account. @returns {Node[]} */
function account() {
  if (!me.value?.name) return [];
  const { name, role } = me.value;
  const leave = () => attempt(api.logout()).then(() => location.assign("/"));
  const open = (/** @type {string} */ drawer) => h("button", { type: "button", class: "link", onclick: () => setQuery({ drawer }) }, t(`drawer.${drawer}`));
  return [h("fieldset", {}, h("legend", {}, t("drawer.account")), h("p", {}, `${name} · ${t(`role.${role}`)}`),
    h("p", { class: "drawer-links" }, open("account"), role === "admin" && open("people"), h("button", { type: "button", class: "link", onclick: leave }, t("login.leave"))))];
}
