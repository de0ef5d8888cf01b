/** The course. */

import { h, View } from "../dom.js";
import { t } from "../i18n.js";

class LearnPlace extends View {
  build() {
    this.replaceChildren(h("h1", {}, t("place.learn")));
  }
}

customElements.define("learn-place", LearnPlace);
