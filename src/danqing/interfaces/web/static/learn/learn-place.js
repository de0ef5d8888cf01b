/** The course: the line of ideas, each painted live by its own model with the reader's words. */

import "./attention-figure.js";
import "./film-figure.js";
import "./noise-figure.js";
import "./sweep-figure.js";
import { thumbnailOf } from "../api.js";
import { h, icon, View } from "../dom.js";
import { t } from "../i18n.js";
import { models } from "../state.js";
import { chapters } from "./chapters.js";

/** @typedef {import("./chapters.js").Chapter} Chapter */
/** @typedef {import("./film-figure.js").FilmFigure} FilmFigure */

const SEED = 7;

class LearnPlace extends View {
  build() {
    const shown = chapters.filter(({ name }) => models.value.some((model) => model.id === name));
    this.words = h("input", { type: "text", id: "learn-words", autocomplete: "off", maxlength: 400, ".value": localStorage.getItem("learn") ?? t("learn.words.default") });
    const form = h("form", { class: "learn-form", onsubmit: (/** @type {Event} */ event) => this.#paintAll(event) },
      h("label", { for: "learn-words" }, t("learn.words")),
      h("div", {}, this.words, h("button", { type: "submit", class: "primary" }, icon("brush"), t("learn.all"))));
    this.line = h("ol", { class: "line" }, ...shown.map((chapter) => h("li", {}, this.#film(chapter), h("a", { href: `/learn/${chapter.name}` }, h("span", { class: "year" }, chapter.year), h("strong", {}, t(`learn.${chapter.name}`))), h("p", {}, t(`learn.${chapter.name}.sentence`)))));
    this.replaceChildren(
      h("div", { class: "learn-head" }, h("h1", {}, t("learn.title")), h("p", {}, t("learn.intro")), form),
      this.line,
      ...shown.map((chapter) => this.#chapter(chapter)),
    );
    this.#scroll();
  }

  /** What all figures paint. */
  #what = () => {
    const prompt = this.words?.value.trim() || t("learn.words.default");
    localStorage.setItem("learn", prompt);
    return { prompt, seed: SEED };
  };

  /** @param {Chapter} chapter */
  #film({ name }) {
    const onPicture = (/** @type {string} */ picture) => {
      if (name === "ddpm") /** @type {any} */ (this.querySelector("noise-figure"))?.load(thumbnailOf(picture));
    };
    return h("film-figure", { ".model": name, ".words": this.#what, ".onPicture": onPicture });
  }

  /** @param {Chapter} chapter */
  #chapter({ name, year, paper, field, values, fixed, noise, attention }) {
    const sweep = field ? h("sweep-figure", { ".model": name, ".field": field, ".values": values, ".fixed": fixed, ".words": this.#what }) : null;
    const figure = noise ? h("noise-figure") : sweep;
    const second = attention ? h("attention-figure", { ".model": name, ".words": this.#what }) : null;
    return h("section", { class: "chapter", id: `chapter-${name}` },
      h("div", {},
        h("p", { class: "year" }, `${year} · arXiv ${paper}`),
        h("h2", {}, t(`learn.${name}`)),
        ...["idea", "mended", "see"].map((part) => h("p", {}, h("strong", {}, t(`learn.${part}`)), " ", t(`learn.${name}.${part}`)))),
      second ? h("div", {}, figure, second) : figure);
  }

  /** One after the other, oldest idea first. @param {Event} event */
  async #paintAll(event) {
    event.preventDefault();
    for (const film of /** @type {NodeListOf<FilmFigure>} */ (this.querySelectorAll("film-figure"))) await film.paint();
  }

  #scroll() {
    const name = this.getAttribute("picture");
    if (name) requestAnimationFrame(() => document.getElementById(`chapter-${name}`)?.scrollIntoView());
  }
}

customElements.define("learn-place", LearnPlace);
