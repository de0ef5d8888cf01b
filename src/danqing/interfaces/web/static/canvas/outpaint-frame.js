/** A frame around a picture whose edges are pulled outward: what lies between is painted on. */

import { h, View } from "../dom.js";
import { t } from "../i18n.js";

/** @typedef {"left" | "right" | "top" | "bottom"} Side */

const SIDES = /** @type {Side[]} */ (["left", "right", "top", "bottom"]);
const MOST = 2;

class OutpaintFrame extends View {
  /** The picture's data, for its size. @type {{width: number, height: number}} */
  data = { width: 1, height: 1 };
  /** Where its file is. */
  source = "";
  /** How much is added on each side, in widths and heights of the picture. @type {Record<Side, number>} */
  grown = { left: 0, right: 0, top: 0, bottom: 0 };

  build() {
    this.image = h("img", { src: this.source, alt: "", draggable: "false" });
    this.size = h("output", { class: "frame-size", "aria-live": "polite" });
    this.frame = h("div", { class: "frame-box" }, ...SIDES.map((side) => this.#handle(side)), this.size);
    const half = h("button", { type: "button", class: "verb", onclick: () => this.#set({ left: 0.25, right: 0.25, top: 0.25, bottom: 0.25 }) }, t("outpaint.around"));
    const wide = h("button", { type: "button", class: "verb", onclick: () => this.#set({ left: 0.5, right: 0.5, top: 0, bottom: 0 }) }, t("outpaint.wide"));
    const none = h("button", { type: "button", class: "verb", onclick: () => this.#set({ left: 0, right: 0, top: 0, bottom: 0 }) }, t("outpaint.reset"));
    this.area = h("div", { class: "frame-area" }, this.image, this.frame);
    this.replaceChildren(this.area, h("div", { class: "tools", role: "toolbar", "aria-label": t("app.outpaint") }, half, wide, none));
    const sizes = new ResizeObserver(() => this.#draw());
    sizes.observe(this.area);
    this.until(() => sizes.disconnect());
    this.#set({ left: 0.25, right: 0.25, top: 0, bottom: 0 });
  }

  /** @param {Side} side */
  #handle(side) {
    const grow = (/** @type {number} */ by) => this.#set({ [side]: this.grown[side] + by });
    const keys = (/** @type {KeyboardEvent} */ event) => {
      const outward = { left: "ArrowLeft", right: "ArrowRight", top: "ArrowUp", bottom: "ArrowDown" }[side];
      const inward = { left: "ArrowRight", right: "ArrowLeft", top: "ArrowDown", bottom: "ArrowUp" }[side];
      const by = event.key === outward ? 0.05 : event.key === inward ? -0.05 : 0;
      if (!by) return;
      event.preventDefault();
      grow(by);
    };
    return h("button", { type: "button", class: `handle ${side}`, role: "slider", "aria-label": t(`side.${side}`), "aria-valuemin": 0, "aria-valuemax": MOST * 100, "aria-orientation": side === "left" || side === "right" ? "horizontal" : "vertical", onkeydown: keys, onpointerdown: (/** @type {PointerEvent} */ event) => this.#drag(side, event) }, h("span", {}));
  }

  /** @param {Side} side @param {PointerEvent} start */
  #drag(side, start) {
    const handle = /** @type {HTMLElement} */ (start.currentTarget);
    handle.setPointerCapture(start.pointerId);
    const across = side === "left" || side === "right";
    const sign = side === "left" || side === "top" ? -1 : 1;
    const from = this.grown[side];
    const scale = this.scale ?? 1;
    const move = (/** @type {PointerEvent} */ event) => {
      const pixels = sign * (across ? event.clientX - start.clientX : event.clientY - start.clientY);
      this.#set({ [side]: from + pixels / scale / (across ? this.data.width : this.data.height) }, false);
    };
    const end = () => {
      handle.removeEventListener("pointermove", move);
      this.#draw();
    };
    handle.addEventListener("pointermove", move);
    handle.addEventListener("pointerup", end, { once: true });
    handle.addEventListener("pointercancel", end, { once: true });
  }

  /** @param {Partial<Record<Side, number>>} changes @param {boolean} [fit] whether the scale may change */
  #set(changes, fit = true) {
    const bounded = Object.entries(changes).map(([side, value]) => [side, Math.round(Math.min(MOST, Math.max(0, value ?? 0)) * 100) / 100]);
    this.grown = { ...this.grown, ...Object.fromEntries(bounded) };
    this.#draw(fit);
  }

  #draw(fit = true) {
    const { area, image, frame, size, data } = this;
    if (!area || !image || !frame || !size || !area.clientWidth) return;
    const { left, right, top, bottom } = this.grown;
    const [wide, high] = [data.width * (1 + left + right), data.height * (1 + top + bottom)];
    const room = 1.25; // so that there is somewhere to pull to
    if (fit || !this.scale) this.scale = Math.min(area.clientWidth / (wide * room), area.clientHeight / (high * room), 2);
    const scale = this.scale;
    const x = (area.clientWidth - wide * scale) / 2;
    const y = (area.clientHeight - high * scale) / 2;
    place(frame, x, y, wide * scale, high * scale);
    place(image, x + left * data.width * scale, y + top * data.height * scale, data.width * scale, data.height * scale);
    size.textContent = `${Math.round(wide)} × ${Math.round(high)}`;
    for (const side of SIDES) {
      const handle = frame.querySelector(`.${side}`);
      handle?.setAttribute("aria-valuenow", String(Math.round(this.grown[side] * 100)));
      handle?.setAttribute("aria-valuetext", t("percent", { n: Math.round(this.grown[side] * 100) }));
    }
  }

  /** The inputs that the frame stands for. @returns {Promise<Record<string, any>>} */
  async inputs() {
    return Object.fromEntries(Object.entries(this.grown).filter(([, value]) => value > 0));
  }
}

/** @param {HTMLElement} element @param {number} x @param {number} y @param {number} width @param {number} height */
function place(element, x, y, width, height) {
  Object.assign(element.style, { left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px` });
}

customElements.define("outpaint-frame", OutpaintFrame);
