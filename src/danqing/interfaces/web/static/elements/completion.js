/** Names that were learned, offered while one types `<`. */

import { freshId, h } from "../dom.js";
import { t } from "../i18n.js";

export class Completion {
  /** @param {HTMLTextAreaElement} field @param {() => string[]} names */
  constructor(field, names) {
    this.field = field;
    this.names = names;
    this.list = h("ul", { class: "completion", role: "listbox", id: freshId(), hidden: true, "aria-label": t("prompt.learned") });
    field.setAttribute("aria-controls", this.list.id);
    field.parentElement?.append(this.list);
    field.addEventListener("input", () => this.#offer());
    field.addEventListener("blur", () => setTimeout(() => this.#close(), 150));
    field.addEventListener("keydown", (event) => this.#onKey(event), { capture: true });
  }

  /** The beginning of a name before the cursor, or null. */
  #begun() {
    return /<([\w-]*)$/.exec(this.field.value.slice(0, this.field.selectionStart))?.[1] ?? null;
  }

  #offer() {
    const begun = this.#begun();
    const found = begun === null ? [] : this.names().filter((name) => name.startsWith(begun));
    this.list.hidden = !found.length;
    this.list.replaceChildren(...found.map((name, k) => h("li", { role: "option", "aria-selected": String(k === 0), onmousedown: (/** @type {Event} */ event) => this.#take(name, event) }, `<${name}>`)));
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (this.list.hidden) return;
    const options = [...this.list.children];
    const at = options.findIndex((option) => option.getAttribute("aria-selected") === "true");
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) options.forEach((option, k) => option.setAttribute("aria-selected", String(k === (at + step + options.length) % options.length)));
    else if (event.key === "Enter" || event.key === "Tab") this.#take(options[at].textContent?.slice(1, -1) ?? "", event);
    else if (event.key === "Escape") this.#close();
    if (step || event.key === "Escape") event.preventDefault();
  }

  /** @param {string} name @param {Event} event */
  #take(name, event) {
    event.preventDefault();
    event.stopPropagation();
    const start = this.field.selectionStart - (this.#begun()?.length ?? 0) - 1;
    this.field.setRangeText(`<${name}> `, start, this.field.selectionStart, "end");
    this.field.dispatchEvent(new Event("input", { bubbles: true }));
    this.#close();
  }

  #close() {
    this.list.hidden = true;
  }
}
