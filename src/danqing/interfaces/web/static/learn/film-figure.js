/** A picture by one model whose steps are played as a film, and can be gone through by hand. */

import { h, icon, iconButton, View } from "../dom.js";
import { say, t } from "../i18n.js";
import { record } from "./recording.js";

export class FilmFigure extends View {
  model = "";
  /** What is painted. @type {() => {prompt: string, seed: number}} */
  words = () => ({ prompt: "", seed: 0 });
  /** Called with the picture's file when it is finished. @type {(picture: string) => void} */
  onPicture = () => {};
  /** @type {string[]} */
  films = [];

  build() {
    this.films = [];
    this.image = h("img", { alt: "", hidden: true });
    this.button = h("button", { type: "button", class: "secondary", onclick: () => this.paint() }, icon("brush"), t("learn.paint"));
    this.slider = h("input", { type: "range", min: 0, max: 0, value: 0, hidden: true, "aria-label": t("learn.steps"), oninput: () => this.#show(Number(this.slider?.value)) });
    this.play = iconButton("play", t("learn.play"), () => this.#play(), { hidden: true });
    this.line = h("p", { class: "hint", role: "status" });
    this.replaceChildren(h("div", { class: "film-picture" }, this.image, this.button), h("div", { class: "film-steps" }, this.play, this.slider, this.line));
    this.until(() => this.stop?.());
    this.until(() => clearInterval(this.timer));
  }

  async paint() {
    const { button, image, line } = this;
    if (!button || !image || !line || button.disabled) return;
    button.disabled = true;
    line.textContent = t("learn.painting");
    const recording = await record({ ...this.words(), model: this.model }, { onFrame: (_, index) => this.#grow(index), onEnd: (picture, fault) => this.#end(picture, fault) });
    this.films = recording.films;
    this.stop = recording.stop;
  }

  /** @param {number} index */
  #grow(index) {
    const { slider } = this;
    if (!slider) return;
    slider.max = String(index);
    slider.value = String(index);
    requestAnimationFrame(() => this.#show(index)); // the first comes before `films` is there
    if (this.line) this.line.textContent = t("learn.frame", { n: index + 1 });
  }

  /** @param {string | null} picture @param {string} fault */
  #end(picture, fault) {
    if (this.button) this.button.disabled = false;
    this.classList.toggle("painted", picture !== null);
    if (this.line && fault) this.line.textContent = say(fault);
    if (!picture) return;
    for (const control of [this.slider, this.play]) control?.toggleAttribute("hidden", Number(this.slider?.max) < 1);
    this.onPicture(picture);
  }

  /** @param {number} index */
  #show(index) {
    const source = this.films[index];
    if (!this.image || !source) return;
    this.image.src = source;
    this.image.hidden = false;
    this.image.alt = t("learn.alt", { model: this.model, n: index + 1 });
  }

  #play() {
    clearInterval(this.timer);
    let at = 0;
    const step = () => {
      if (this.slider) this.slider.value = String(at);
      this.#show(at);
      if (++at >= this.films.length) clearInterval(this.timer);
    };
    this.timer = setInterval(step, Math.max(60, 2400 / Math.max(1, this.films.length)));
    step();
  }
}

customElements.define("film-figure", FilmFigure);
