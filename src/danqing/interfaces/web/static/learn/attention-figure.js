/** Where the network looked for each word: a sheet with a heat map for each. */

import { fileOf } from "../api.js";
import { h, icon, View } from "../dom.js";
import { say, t } from "../i18n.js";
import { record } from "./recording.js";

class AttentionFigure extends View {
  model = "";
  /** What is painted. @type {() => {prompt: string, seed: number}} */
  words = () => ({ prompt: "", seed: 0 });

  build() {
    this.image = h("img", { alt: "", hidden: true });
    this.button = h("button", { type: "button", class: "secondary", onclick: () => this.#paint() }, icon("brush"), t("learn.attention"));
    this.line = h("p", { class: "hint" }, t("learn.attention.hint"));
    this.replaceChildren(h("div", { class: "film-picture" }, this.image, this.button), this.line);
  }

  async #paint() {
    const { button, image, line } = this;
    if (!button || !image || !line || button.disabled) return;
    button.disabled = true;
    const show = (/** @type {string} */ source) => {
      image.src = source;
      image.hidden = false;
    };
    const onEnd = (/** @type {string | null} */ picture, /** @type {string} */ fault) => {
      button.disabled = false;
      if (picture) show(fileOf(picture));
      image.alt = t("learn.attention.alt", { words: this.words().prompt });
      if (fault) line.textContent = say(fault);
    };
    await record({ ...this.words(), model: this.model, native: true }, { onFrame: show, onEnd }, "explain");
  }
}

customElements.define("attention-figure", AttentionFigure);
