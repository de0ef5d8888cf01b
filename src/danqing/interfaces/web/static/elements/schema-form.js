/** The form of any app, made from its schema: own fields first, then groups that open. */

import { h, View } from "../dom.js";
import { say, t } from "../i18n.js";
import { field } from "./schema-field.js";

/** @typedef {import("../../types.js").App} App */
/** @typedef {import("../../types.js").Property} Property */

/** Groups in the order of the form. */
const GROUPS = ["words", "look", "size", "seed", "sampling", "model", "control", "app"];

export class SchemaForm extends View {
  /** @type {App | null} */
  app = null;
  /** Fields that are not shown. @type {string[]} */
  hide = [];
  /** Values to begin with. @type {Record<string, any>} */
  given = {};
  /** Called with all values that differ from their defaults. @type {(values: Record<string, any>) => void} */
  change = () => {};

  build() {
    this.values = { ...this.given };
    const properties = Object.entries(this.app?.schema?.properties ?? {}).filter(([name]) => !this.hide.includes(name));
    const primary = properties.filter(([name, one]) => this.#isPrimary(name, one));
    const rest = GROUPS.map((group) => [group, properties.filter(([name, one]) => one.group === group && !this.#isPrimary(name, one))]);
    const groups = /** @type {[string, [string, Property][]][]} */ (rest).filter(([, members]) => members.length);
    const whole = !primary.length;
    this.replaceChildren(
      h("div", { class: "fields primary-fields" }, ...primary.map(([name, one]) => this.#field(name, one))),
      ...(groups.length ? [whole ? this.#all(groups) : this.#folded(groups)] : []),
    );
  }

  /** What the app itself is about: its own fields and its words. @param {string} name @param {Property} one */
  #isPrimary(name, one) {
    if (this.hide.includes("prompt")) return false;
    return !one.advanced && (one.group === "app" || (this.app?.positional ?? []).includes(name));
  }

  /** @param {[string, [string, Property][]][]} groups */
  #all(groups) {
    return h("div", { class: "groups" }, ...groups.map(([group, members]) => this.#group(group, members)));
  }

  /** @param {[string, [string, Property][]][]} groups */
  #folded(groups) {
    return h("details", { class: "folded" }, h("summary", {}, t("more")), this.#all(groups));
  }

  /** @param {string} group @param {[string, Property][]} members */
  #group(group, members) {
    return h("fieldset", {}, h("legend", {}, t(`group.${group}`)), h("div", { class: "fields" }, ...members.map(([name, one]) => this.#field(name, one))));
  }

  /** @param {string} name @param {Property} one */
  #field(name, one) {
    const required = this.app?.schema?.required?.includes(name) ?? false;
    const set = (/** @type {any} */ value) => {
      const same = value === undefined || value === "" || JSON.stringify(value) === JSON.stringify(one.default);
      if (this.values && same && !required) delete this.values[name];
      else if (this.values) this.values[name] = value;
      this.change({ ...this.values });
    };
    return field({ name, property: one, label: say(one.title), hint: say(one.description), value: this.values?.[name], required, set });
  }

  /** Show a fault at the field that is wrong. @param {string | null} name */
  blame(name) {
    this.querySelectorAll("[aria-invalid]").forEach((input) => input.removeAttribute("aria-invalid"));
    const input = name && /** @type {HTMLElement | null} */ (this.querySelector(`[data-field="${name}"]`));
    if (!input) return;
    input.closest("details")?.setAttribute("open", "");
    input.setAttribute("aria-invalid", "true");
    input.focus();
  }
}

customElements.define("schema-form", SchemaForm);
