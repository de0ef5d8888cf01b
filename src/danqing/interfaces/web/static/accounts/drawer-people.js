/** All accounts, for admins: who may be here, and as what. */

import { api } from "../api.js";
import { h } from "../dom.js";
import { t } from "../i18n.js";
import { attempt, me } from "../state.js";
import { field } from "../elements/login-place.js";

const ROLES = ["admin", "user", "guest"];

/** @typedef {{name: string, role: string}} User */

/** @returns {Node[]} */
export function people() {
  const list = h("ul", { class: "people" });
  const load = async () => {
    const page = await attempt(api.users());
    const users = /** @type {User[]} */ (page?.data ?? []);
    list.replaceChildren(...users.map((user) => row(user, users, load)));
  };
  void load();
  return [list, h("h3", {}, t("people.add")), form(load)];
}

/** @param {User} user @param {User[]} users @param {() => Promise<void>} load */
function row({ name, role }, users, load) {
  const choice = roles(role, t("people.role", { name }));
  choice.addEventListener("change", () => void attempt(api.changeUser(name, { role: choice.value })).then((user) => user ?? load()));
  return h("li", {}, h("span", {}, name), choice, name === me.value?.name ? h("span", { class: "hint" }, t("people.you")) : remover(name, users, load));
}

/** What becomes of the pictures is asked first. @param {string} name @param {User[]} users @param {() => Promise<void>} load */
function remover(name, users, load) {
  const heir = h("select", { "aria-label": t("people.pictures") }, h("option", { value: "" }, t("people.delete")), ...users.filter((user) => user.name !== name).map((user) => h("option", { value: user.name }, t("people.give", { name: user.name }))));
  const remove = () => attempt(api.removeUser(name, heir.value)).then(load);
  return h("details", {}, h("summary", {}, t("remove")), h("div", { class: "stack" }, heir, h("button", { type: "button", class: "secondary", onclick: remove }, t("people.remove", { name }))));
}

/** @param {() => Promise<void>} load */
function form(load) {
  const role = roles("user", t("people.kind"));
  role.name = "role";
  const add = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const filled = /** @type {HTMLFormElement} */ (event.target);
    const user = await attempt(api.addUser(Object.fromEntries(new FormData(filled))));
    if (!user) return;
    filled.reset();
    void load();
  };
  return h("form", { class: "stack", onsubmit: add }, field("name", t("login.name"), "text", "off"), field("password", t("login.password"), "password", "new-password"), h("label", { class: "stacked" }, h("span", {}, t("people.kind")), role), h("p", { class: "hint" }, t("people.roles")), h("button", { type: "submit", class: "primary" }, t("people.add")));
}

/** @param {string} chosen @param {string} label */
function roles(chosen, label) {
  return h("select", { "aria-label": label }, ...ROLES.map((role) => h("option", { value: role, selected: role === chosen }, t(`role.${role}`))));
}
