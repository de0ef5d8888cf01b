/** Before and after: one picture over the other, with the edge between them to be moved. */

import { h, View } from "../dom.js";
import { t } from "../i18n.js";

class CompareSlider extends View {
  /** Where the two files are. */
  earlier = "";
  later = "";

  build() {
    const top = h("img", { class: "top", src: this.earlier, alt: t("compare.before"), draggable: "false" });
    const edge = h("span", { class: "edge", "aria-hidden": "true" });
    const move = () => {
      top.style.clipPath = `inset(0 ${100 - Number(slider.value)}% 0 0)`;
      edge.style.left = `${slider.value}%`;
    };
    const slider = h("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50, "aria-label": t("compare"), oninput: move });
    this.replaceChildren(h("img", { src: this.later, alt: t("compare.after"), draggable: "false" }), top, edge, h("span", { class: "tag left" }, t("compare.before")), h("span", { class: "tag right" }, t("compare.after")), slider);
    move();
  }
}

customElements.define("compare-slider", CompareSlider);
