/** The one form one must see: words, a style, a shape, a count, a model; "more" opens the schema's groups. */

import "./schema-form.js";
import { upload } from "../actions.js";
import { thumbnailOf } from "../api.js";
import { freshId, h, icon, iconButton, View } from "../dom.js";
import { draft, inputsOf, refer, revise } from "../draft.js";
import { say, styleName, t } from "../i18n.js";
import { understood } from "../prompt-language.js";
import { adapters, appFor, attempt, cardOf, models, start } from "../state.js";
import { Completion } from "./completion.js";

/** @typedef {import("./schema-form.js").SchemaForm} SchemaForm */

const SHAPES = ["", "3:2", "2:3", "4:3", "3:4", "16:9", "9:16"];
const COUNTS = [1, 2, 4, 6, 9];

/** Fields of `paint` that the bar has itself. */
const OWN = ["prompt", "style", "ar", "count", "model", "fast", "image", "style_image", "adapters"];

class PromptBar extends View {
  build() {
    this.words = this.#words();
    this.marks = h("ul", { class: "marks", "aria-label": t("prompt.understood") });
    this.references = h("ul", { class: "references", "aria-label": t("prompt.references") });
    this.controls = h("div", { class: "controls" });
    this.more = h("div", { class: "more", id: freshId(), hidden: !draft.value.more });
    const go = h("button", { type: "submit", class: "primary paint" }, icon("brush"), h("span", {}, t("paint")));
    const form = h("form", { class: "prompt-form", role: "search", "aria-label": t("prompt.form"), onsubmit: (/** @type {Event} */ event) => this.#submit(event) },
      h("div", { class: "words" }, h("label", { class: "hidden", for: "prompt" }, t("prompt.label")), this.words, this.#chooser(), go),
      this.references, this.marks, this.controls, this.more);
    this.replaceChildren(form);
    this.#refresh();
    this.until(draft.watch((now) => this.#refresh(now)));
    this.until(models.watch(() => this.#refresh()));
    new Completion(this.words, () => adapters.value.map(({ name }) => name));
  }

  #words() {
    const input = () => {
      revise({ prompt: words.value });
      fit();
    };
    const enter = (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.defaultPrevented) return;
      event.preventDefault();
      words.form?.requestSubmit();
    };
    const words = h("textarea", { id: "prompt", rows: 1, maxlength: 4000, placeholder: t("prompt.placeholder"), autocomplete: "off", spellcheck: "false", oninput: input, onkeydown: enter });
    const fit = () => {
      words.style.height = "auto";
      words.style.height = `${Math.min(words.scrollHeight, 200)}px`;
    };
    words.value = draft.value.prompt;
    requestAnimationFrame(fit);
    this.until(draft.watch(({ prompt }) => {
      if (words.value === prompt) return;
      words.value = prompt;
      fit();
    }));
    return words;
  }

  /** Choose files, for those who cannot drag. */
  #chooser() {
    const choose = async () => {
      const [id] = await upload(file.files ?? []);
      file.value = "";
      if (id) refer(id, "image");
    };
    const file = h("input", { type: "file", accept: "image/png,image/jpeg,image/webp", class: "hidden", tabindex: -1, "aria-label": t("reference.add"), onchange: choose });
    return h("span", { class: "chooser" }, iconButton("image", t("reference.add"), () => file.click()), file);
  }

  #refresh(now = draft.value) {
    const { prompt, references, model } = now;
    this.marks?.replaceChildren(...understood(prompt).map(({ name, value }) => h("li", {}, h("span", { class: "mark-name" }, t(`mark.${name}`)), value)));
    this.references?.replaceChildren(...references.map((reference) => this.#reference(reference)));
    this.#refreshControls(now, JSON.stringify([model, models.value.length, now.style, now.ar, now.count, now.fast, now.more]));
    const opened = `${model} ${now.more}`;
    if (this.more && this.more.dataset.key !== opened) void this.#openMore(opened, now);
  }

  /** @param {import("../../types.js").Reference} reference */
  #reference({ id, role }) {
    const drop = () => revise({ references: draft.value.references.filter((one) => one.id !== id || one.role !== role) });
    const swap = (/** @type {Event} */ event) => {
      const chosen = /** @type {"image" | "style_image"} */ (/** @type {HTMLSelectElement} */ (event.target).value);
      revise({ references: [...draft.value.references.filter((one) => one.role !== chosen && one.id !== id), { id, role: chosen }] });
    };
    const roles = /** @type {const} */ (["image", "style_image"]).map((value) => h("option", { value, selected: value === role }, t(`reference.${value}`)));
    return h("li", { class: "reference" },
      h("img", { src: thumbnailOf(id, 128), alt: t("reference.picture"), width: 40, height: 40 }),
      h("select", { "aria-label": t("reference.role"), onchange: swap }, ...roles),
      iconButton("close", t("reference.remove"), drop));
  }

  /** @param {import("../draft.js").Draft} now @param {string} key */
  #refreshControls(now, key) {
    if (!this.controls || this.controls.dataset.key === key) return;
    this.controls.dataset.key = key;
    const held = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset.control;
    const card = cardOf(now.model);
    const styles = Object.entries(card?.styles ?? {}).map(([value, names]) => [value, styleName(names)]);
    const shapes = SHAPES.map((value) => [value, value || t("shape.own")]);
    const names = models.value.map(({ id }) => [id, id]);
    const oneSize = card !== null && card.size_multiple === card.width && card.width === card.height;
    this.controls.replaceChildren(...[
      styles.length && this.#select("style", [["", t("style.none")], ...styles], now.style),
      !oneSize && this.#select("ar", shapes, now.ar),
      this.#select("count", COUNTS.map((n) => [String(n), n === 1 ? t("count.one") : t("count", { n })]), String(now.count)),
      this.#select("model", names, now.model),
      card?.fast && this.#toggle("fast", icon("fast"), t("fast"), now.fast),
      this.#toggle("more", icon("more"), t("more"), now.more),
    ].filter((control) => control instanceof Node));
    if (held) /** @type {HTMLElement | null} */ (this.controls.querySelector(`[data-control=${held}]`))?.focus();
  }

  /** @param {"style" | "ar" | "count" | "model"} name @param {string[][]} options @param {string} value */
  #select(name, options, value) {
    const change = (/** @type {Event} */ event) => {
      const chosen = /** @type {HTMLSelectElement} */ (event.target).value;
      revise(name === "count" ? { count: Number(chosen) } : name === "model" ? { model: chosen, style: "", ar: "", extra: {} } : { [name]: chosen });
    };
    return h("label", { class: "control" }, h("span", { class: "hidden" }, t(`control.${name}`)),
      h("select", { "data-control": name, onchange: change }, ...options.map(([key, label]) => h("option", { value: key, selected: key === value }, label))));
  }

  /** @param {"fast" | "more"} name @param {Node} picture @param {string} label @param {boolean} on */
  #toggle(name, picture, label, on) {
    const expands = name === "more" ? { "aria-expanded": String(on), "aria-controls": this.more?.id } : { "aria-pressed": String(on) };
    return h("button", { type: "button", class: "toggle", "data-control": name, ...expands, onclick: () => revise({ [name]: !on }) }, picture, label);
  }

  /** @param {string} key @param {import("../draft.js").Draft} now */
  async #openMore(key, now) {
    if (!this.more) return;
    this.more.dataset.key = key;
    this.more.hidden = !now.more;
    if (!now.more) return;
    const app = await attempt(appFor("paint", now.model));
    if (!app?.schema || this.more.dataset.key !== key) return;
    const form = /** @type {SchemaForm} */ (h("schema-form", { ".app": app, ".hide": OWN, ".given": now.extra, ".change": (/** @type {any} */ extra) => revise({ extra }) }));
    this.more.replaceChildren(form);
  }

  /** @param {Event} event */
  async #submit(event) {
    event.preventDefault();
    const { prompt, references } = draft.value;
    if (!prompt.trim() && !references.length) return this.words?.focus();
    const fault = this.querySelector(".form-fault");
    fault?.remove();
    try {
      await start("paint", inputsOf());
      scrollTo({ top: 0, behavior: "smooth" });
    } catch (error) {
      const { message, fix } = /** @type {import("../api.js").ApiError} */ (error).fault ?? { message: String(error), fix: null };
      this.marks?.after(h("p", { class: "form-fault", role: "alert" }, icon("warn"), say(message) || t("fault.offline"), fix && !message.includes(fix) ? ` ${fix}` : ""));
      this.words?.focus();
    }
  }
}

customElements.define("prompt-bar", PromptBar);
