/** What made a picture: its words, seed, model and settings; and the ways to use them again. */

import { useWords } from "../actions.js";
import { h, icon, View } from "../dom.js";
import { duration, say, t, when } from "../i18n.js";
import { notify } from "../state.js";

/** Fields of a brief that are shown, in this order. */
const FIELDS = ["model", "style", "seed", "steps", "guidance", "guidance_start", "guidance_end", "cache_interval", "sampler", "strength", "negative_prompt", "variation", "stylize", "chaos", "weird", "tile", "background", "rescale"];

/** What a field is worth when nobody chose it, so that it need not be shown. @type {Record<string, any>} */
const USUAL = { negative_prompt: "", variation: 0, stylize: 100, chaos: 0, weird: 0, tile: false, background: "white", rescale: 0, guidance_start: 0, guidance_end: 1, cache_interval: 1 };

class PictureFacts extends View {
  /** A picture or an upload. @type {any} */
  data = {};

  build() {
    const { data } = this;
    const brief = data.brief ?? {};
    const info = data.info ?? {};
    const words = data.prompt ?? brief.prompt ?? "";
    const copy = async () => {
      await navigator.clipboard.writeText(words);
      notify(t("copied"));
    };
    const rows = [
      ...FIELDS.filter((name) => ![undefined, null, USUAL[name]].includes(brief[name] ?? data[name])).map((name) => [t(`fact.${name}`), this.#value(brief[name] ?? data[name])]),
      [t("fact.size"), `${data.width} × ${data.height}`],
      info.seconds ? [t("fact.seconds"), duration(info.seconds)] : null,
      data.created ? [t("fact.created"), when(data.created)] : null,
      info.program && info.program !== "danqing" ? [t("fact.program"), info.program] : null,
      info.chosen ? [t("fact.chosen"), info.chosen] : null,
      info.unlearned ? [t("fact.unlearned"), info.unlearned] : null,
      info.dropped ? [t("fact.dropped"), info.dropped] : null,
    ].filter((row) => row !== null);
    this.replaceChildren(...[
      h("h2", {}, t("picture.facts")),
      words && h("blockquote", {}, words),
      words && h("div", { class: "fact-actions" }, h("button", { type: "button", class: "link", onclick: () => useWords(words, brief.style ?? "") }, icon("remix"), t("picture.use-words")), h("button", { type: "button", class: "link", onclick: copy }, t("copy"))),
      h("dl", {}, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
      this.#given(info.inputs),
    ].filter(Boolean));
  }

  /** @param {any} value */
  #value(value) {
    if (value === true) return t("yes");
    return typeof value === "string" ? say(value) : String(value);
  }

  /** What the app was asked for, in full. @param {Record<string, any> | undefined} inputs */
  #given(inputs) {
    if (!inputs || !Object.keys(inputs).length) return null;
    return h("details", {}, h("summary", {}, t("picture.inputs")), h("pre", { tabindex: 0 }, JSON.stringify(inputs, null, 2)));
  }
}

customElements.define("picture-facts", PictureFacts);
