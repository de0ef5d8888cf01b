/** Settings of this browser, what the server is, and the list of keys. */

import { api } from "../api.js";
import { draft, revise } from "../draft.js";
import { h } from "../dom.js";
import { language, LANGUAGES, speak, t } from "../i18n.js";
import { help } from "../keys.js";
import { setQuery } from "../router.js";
import { capabilities, notify, reason } from "../state.js";

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

/** Where the server wants a token. @returns {Node[]} */
export function token() {
  const field = h("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
  const enter = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      await api.login(field.value);
      location.href = location.pathname;
    } catch (error) {
      notify(reason(error), { kind: "fault" });
    }
  };
  return [h("form", { class: "token", onsubmit: enter }, h("p", {}, t("token.why")), h("label", { for: "token" }, t("token")), field, h("button", { type: "submit", class: "primary" }, t("token.enter")))];
}
