/** Twelve prompts with what the shipped model paints of them; a press paints four. */

import { draft, inputsOf, revise } from "../draft.js";
import { h, View } from "../dom.js";
import { t } from "../i18n.js";
import { attempt, start } from "../state.js";

/** @typedef {{name: string, prompt: string, seed: number}} Example */

/** @type {Promise<Example[]> | undefined} */
let examples;

class ExampleGrid extends View {
  async build() {
    examples ??= fetch("/static/examples/examples.json").then((response) => response.json());
    const tiles = (await examples).map((example) => h("li", {}, this.#tile(example)));
    this.replaceChildren(h("h2", {}, t("examples")), h("ul", {}, ...tiles));
  }

  /** @param {Example} example */
  #tile({ name, prompt, seed }) {
    const picture = h("img", { src: `/static/examples/${name}.webp`, alt: "", width: 320, height: 320, loading: "lazy" });
    const paint = async () => {
      revise({ prompt, style: "", ar: "", references: [] });
      await attempt(start("paint", { ...inputsOf(draft.value), seed }));
      scrollTo({ top: 0, behavior: "smooth" });
    };
    return h("button", { type: "button", class: "example", onclick: paint }, picture, h("span", { lang: /[一-鿿]/.test(prompt) ? "zh-Hans" : "en" }, prompt));
  }
}

customElements.define("example-grid", ExampleGrid);
