/** One's own account: the password, and tokens for programs. */

import { api } from "../api.js";
import { h, iconButton } from "../dom.js";
import { t, when } from "../i18n.js";
import { attempt, me, notify } from "../state.js";
import { field } from "../elements/login-place.js";

/** @typedef {{id: string, label: string, created: string, token: string | null}} Token */

/** @returns {Node[]} */
export function account() {
  return [h("p", { class: "hint" }, `${me.value?.name} · ${t(`role.${me.value?.role ?? "user"}`)}`), h("h3", {}, t("account.tokens")), ...tokens(), h("h3", {}, t("account.password")), password()];
}

function tokens() {
  const list = h("ul", { class: "people" });
  const made = h("div", {});
  const load = async () => {
    const page = await attempt(api.tokens());
    list.replaceChildren(...(page?.data ?? []).map((/** @type {Token} */ token) => h("li", {}, h("span", {}, token.label || t("account.token")), h("span", { class: "hint" }, when(token.created)), iconButton("trash", t("remove"), () => attempt(api.removeToken(token.id)).then(load)))));
  };
  const add = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const token = await attempt(api.addToken(String(new FormData(form).get("label"))));
    if (!token) return;
    form.reset();
    made.replaceChildren(h("p", { class: "hint" }, t("account.once")), h("p", { class: "secret" }, h("code", {}, token.token), navigator.clipboard && h("button", { type: "button", class: "link", onclick: () => copy(token.token) }, t("copy"))));
    void load();
  };
  void load();
  return [h("p", { class: "hint" }, t("account.tokens.why")), list, made, h("form", { class: "one-line", onsubmit: add }, h("label", { class: "stacked" }, h("span", {}, t("account.label")), h("input", { name: "label", type: "text", maxlength: 60, placeholder: "Open WebUI" })), h("button", { type: "submit", class: "secondary" }, t("account.add-token")))];
}

function password() {
  const change = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const values = new FormData(form);
    const done = await attempt(api.changePassword(String(values.get("old")), String(values.get("new"))));
    if (done === undefined) return;
    form.reset();
    notify(t("account.changed"));
  };
  return h("form", { class: "stack", onsubmit: change }, field("old", t("account.old"), "password", "current-password"), field("new", t("account.new"), "password", "new-password"), h("p", { class: "hint" }, t("account.ends")), h("button", { type: "submit", class: "secondary" }, t("account.change")));
}

/** @param {string} text */
async function copy(text) {
  await navigator.clipboard.writeText(text);
  notify(t("copied"));
}
