/** Short messages at the foot of the page; each leaves by itself. */

import { h, icon, iconButton, View } from "../dom.js";
import { t } from "../i18n.js";
import { toasts } from "../state.js";

class ToastList extends View {
  build() {
    const show = () => this.replaceChildren(...toasts.values().map((toast) => this.#toast(toast)));
    show();
    this.until(toasts.watch("*", show));
  }

  /** @param {import("../state.js").Toast} toast */
  #toast({ id, text, kind, action }) {
    const act = () => {
      action?.run();
      toasts.drop(id);
    };
    return h("div", { class: `toast ${kind}`, role: kind === "fault" ? "alert" : null },
      icon(kind === "fault" ? "warn" : "check"),
      h("p", {}, text),
      action && h("button", { type: "button", class: "link", onclick: act }, action.label),
      iconButton("close", t("close"), () => toasts.drop(id)),
    );
  }
}

customElements.define("toast-list", ToastList);
