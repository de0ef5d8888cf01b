/** One picture at several values of one field: the slider goes from one to the next. */

import { h, icon, View } from "../dom.js";
import { say, t } from "../i18n.js";
import { record } from "./recording.js";

class SweepFigure extends View {
  model = "";
  field = "";
  /** @type {number[]} */
  values = [];
  /** Further inputs. @type {Record<string, any>} */
  fixed = {};
  /** What is painted. @type {() => {prompt: string, seed: number}} */
  words = () => ({ prompt: "", seed: 0 });

  build() {
    this.pictures = /** @type {string[]} */ ([]);
    this.image = h("img", { alt: "", hidden: true });
    this.button = h("button", { type: "button", class: "secondary", onclick: () => this.#paint() }, icon("brush"), t("learn.sweep", { n: this.values.length }));
    this.output = h("output", {});
    this.slider = h("input", { type: "range", min: 0, max: this.values.length - 1, value: 0, disabled: true, "aria-label": t(`fact.${this.field}`), oninput: () => this.#show() });
    this.replaceChildren(h("div", { class: "film-picture" }, this.image, this.button), h("label", { class: "sweep-value" }, h("span", {}, t(`fact.${this.field}`)), this.output), this.slider, h("p", { class: "hint" }, t(`learn.${this.model}.slider`)));
    this.#show();
  }

  async #paint() {
    const { button, slider } = this;
    if (!button || !slider || button.disabled) return;
    button.disabled = true;
    slider.disabled = false;
    for (const [k, value] of this.values.entries()) {
      await this.#one(k, { ...this.words(), ...this.fixed, [this.field]: value });
      if (!this.isConnected) return;
    }
    button.disabled = false;
    this.classList.add("painted");
  }

  /** @param {number} k @param {Record<string, any>} inputs @returns {Promise<void>} */
  #one(k, inputs) {
    const keep = (/** @type {string} */ source) => {
      if (this.pictures) this.pictures[k] = source;
      if (this.slider) this.slider.value = String(k);
      this.#show();
    };
    return new Promise((done) => {
      const onEnd = (/** @type {string | null} */ _, /** @type {string} */ fault) => {
        if (fault && this.output) this.output.textContent = say(fault);
        done();
      };
      void record({ ...inputs, model: this.model }, { onFrame: keep, onEnd });
    });
  }

  #show() {
    const k = Number(this.slider?.value ?? 0);
    if (this.output) this.output.textContent = String(this.values[k]);
    const source = this.pictures?.[k];
    if (!this.image || !source) return;
    this.image.src = source;
    this.image.hidden = false;
    this.image.alt = t("learn.alt", { model: this.model, n: k + 1 });
  }
}

customElements.define("sweep-figure", SweepFigure);
