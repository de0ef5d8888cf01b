/** The way in: name and password of an account, or the token of a studio without accounts. */

import { api } from "../api.js";
import { h, seal, View } from "../dom.js";
import { language, LANGUAGES, speak, t } from "../i18n.js";
import { reason } from "../state.js";

class LoginPlace extends View {
  /** @type {{accounts: boolean, token: boolean}} */
  way = { accounts: true, token: false };

  build() {
    this.#show();
    this.until(language.watch(() => this.#show()));
    void api.wayIn().then((way) => {
      if (way.accounts === this.way.accounts) return; // what was typed meanwhile stays
      this.way = way;
      this.#show();
    }, () => {});
  }

  #show() {
    document.title = `${t("login.enter")} · ${t("title")}`;
    const fault = h("p", { class: "fault", role: "alert" });
    const fields = this.way.accounts ? [field("name", t("login.name"), "text", "username"), field("password", t("login.password"), "password", "current-password")] : [field("token", t("token"), "password", "current-password")];
    const button = h("button", { type: "submit", class: "primary" }, t("login.enter"));
    const enter = async (/** @type {Event} */ event) => {
      event.preventDefault();
      fault.textContent = "";
      button.disabled = true;
      try {
        await api.login(Object.fromEntries(new FormData(form)));
        location.reload();
      } catch (error) {
        fault.textContent = reason(error);
        button.disabled = false;
        const secret = /** @type {HTMLInputElement} */ (form.querySelector("[type=password]"));
        secret.value = "";
        secret.focus();
      }
    };
    const form = h("form", { class: "login", onsubmit: enter },
      h("div", { class: "login-head" }, seal(), h("h1", {}, t("title"))),
      h("p", { class: "hint" }, t(this.way.accounts ? "login.why" : "token.why")),
      ...fields, fault, button);
    this.replaceChildren(this.#language(), h("main", {}, form));
    form.querySelector("input")?.focus();
  }

  #language() {
    const other = language.value === "zh" ? "en" : "zh";
    return h("button", { type: "button", class: "tool language", lang: other, "aria-label": LANGUAGES[other], onclick: () => speak(other) }, other === "zh" ? "中" : "EN");
  }
}

/** @param {string} name @param {string} label @param {string} type @param {string} autocomplete */
export function field(name, label, type, autocomplete) {
  return h("label", { class: "stacked" }, h("span", {}, label), h("input", { name, type, autocomplete, required: true, autocapitalize: "none", spellcheck: "false" }));
}

customElements.define("login-place", LoginPlace);
