/** Pictures that are dropped or pasted anywhere on the page, and where they may be dropped. */

import { offer, useAsReference } from "../actions.js";
import { h, icon, View } from "../dom.js";
import { t } from "../i18n.js";

const OURS = "application/x-danqing-picture";

class DropTarget extends View {
  build() {
    this.hidden = true;
    this.replaceChildren(h("div", {}, icon("image"), h("p", {}, t("drop"))));
    this.listen(document, "dragenter", (event) => this.#over(event));
    this.listen(document, "dragover", (event) => this.#over(event));
    this.listen(document, "dragleave", (event) => event.relatedTarget === null && (this.hidden = true));
    this.listen(document, "drop", (event) => this.#drop(event));
    this.listen(document, "dragend", () => (this.hidden = true));
    this.listen(document, "paste", (event) => this.#paste(event));
  }

  /** @param {DragEvent} event */
  #over(event) {
    const types = event.dataTransfer?.types ?? [];
    const inForm = /** @type {Element} */ (event.target).closest?.(".images");
    if (inForm || !(types.includes("Files") || types.includes(OURS))) return;
    event.preventDefault();
    if (types.includes("Files")) this.hidden = false;
  }

  /** @param {DragEvent} event */
  #drop(event) {
    this.hidden = true;
    const ours = event.dataTransfer?.getData(OURS);
    const files = [...(event.dataTransfer?.files ?? [])];
    if (event.defaultPrevented || (!ours && !files.length)) return;
    event.preventDefault();
    if (ours) return /** @type {Element} */ (event.target).closest?.("prompt-bar") ? useAsReference(ours) : undefined;
    void offer(files);
  }

  /** @param {ClipboardEvent} event */
  #paste(event) {
    const files = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
    if (!files.length) return;
    event.preventDefault();
    void offer(files);
  }
}

customElements.define("drop-target", DropTarget);
