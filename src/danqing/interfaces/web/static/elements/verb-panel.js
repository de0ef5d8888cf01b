/** The form of a verb beneath its picture, and its results as they come. */

import "./job-results.js";
import { h, icon, View } from "../dom.js";
import { draft } from "../draft.js";
import { say, t } from "../i18n.js";
import { go } from "../router.js";
import { start } from "../state.js";

/** @typedef {import("../../types.js").App} App */
/** @typedef {import("./schema-form.js").SchemaForm} SchemaForm */

/** Fields that the editor over the picture fills in. @type {Record<string, string[]>} */
const EDITED = { inpaint: ["mask"], outpaint: ["left", "right", "top", "bottom"] };

class VerbPanel extends View {
  /** @type {App | null} */
  app = null;
  picture = "";
  /** Further pictures, for verbs that take several. @type {string[]} */
  others = [];
  /** @type {(HTMLElement & {inputs: () => Promise<Record<string, any>>}) | null} */
  editor = null;
  model = "";
  /** The words of the picture. */
  prompt = "";

  build() {
    const { app } = this;
    if (!app) return;
    const [image, list] = [app.images.find((name) => name === "image" || name === "start"), app.images.find((name) => name === "images" || name === "pictures")];
    const has = (/** @type {string} */ name) => name in (app.schema?.properties ?? {});
    /** @type {Record<string, any>} */
    const given = {
      ...(image ? { [image]: this.picture } : {}),
      ...(list ? { [list]: [this.picture, ...this.others] } : {}),
      ...(has("fast") && draft.value.fast ? { fast: true } : {}),
      ...(has("native") && draft.value.extra.native ? { native: true } : {}),
      ...(has("model") && (has("prompt") || app.name === "learn") ? { model: this.model } : {}),
      ...(has("prompt") && app.schema?.required?.includes("prompt") ? { prompt: this.prompt } : {}),
    };
    const several = list && list !== "pictures";
    const hide = [...(image ? [image] : []), ...(list && !several ? [list] : []), ...(EDITED[app.name] ?? []), "cell", "model"];
    this.form = /** @type {SchemaForm} */ (h("schema-form", { ".app": app, ".hide": hide, ".given": given }));
    this.fault = h("p", { class: "form-fault", role: "alert", hidden: true });
    this.results = h("div", { class: "results" });
    const close = h("a", { class: "link", href: `/p/${this.picture}` }, t("cancel"));
    const submit = h("button", { type: "submit", class: "primary" }, icon("brush"), t(`app.${app.name}`));
    const form = h("form", { class: "verb-form", "aria-label": t(`app.${app.name}`), novalidate: true, onsubmit: (/** @type {Event} */ event) => this.#submit(event) },
      h("h2", {}, t(`app.${app.name}`)), h("p", { class: "hint" }, say(app.summary)), this.form, this.fault, h("div", { class: "form-actions" }, submit, close));
    this.replaceChildren(form, this.results);
  }

  /** @param {Event} event */
  async #submit(event) {
    event.preventDefault();
    if (!this.app || !this.fault) return;
    this.fault.hidden = true;
    this.form?.blame(null);
    try {
      const values = { ...this.form?.values };
      const covered = values.where || values.damage; // words for the part stand for the mask
      const edited = this.editor && !covered ? await this.editor.inputs() : {};
      const job = await start(this.app.name, { ...values, ...edited });
      this.results?.prepend(h("job-results", { ".job": job.id, ".open": (/** @type {string} */ id) => go(`/p/${id}`) }));
      this.results?.scrollIntoView({ block: "nearest", behavior: "smooth" });
    } catch (error) {
      const { fault, message } = /** @type {any} */ (error);
      this.fault.replaceChildren(icon("warn"), say(fault?.message || message) || t("fault.offline"));
      this.fault.hidden = false;
      this.form?.blame(fault?.field ?? null);
    }
  }
}

customElements.define("verb-panel", VerbPanel);
