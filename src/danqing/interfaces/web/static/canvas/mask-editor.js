/** A layer over a picture on which one paints what shall be painted anew: brush, lasso, eraser, invert, undo. */

import { api } from "../api.js";
import { Mask, outline } from "./mask.js";
import { Viewport } from "./viewport.js";
import { h, iconButton, View } from "../dom.js";
import { t } from "../i18n.js";

/** @typedef {"brush" | "eraser" | "lasso" | "hand"} Tool */
/** @typedef {import("./mask.js").Point} Point */

const TOOLS = /** @type {Tool[]} */ (["brush", "eraser", "lasso", "hand"]);
const KEYS = /** @type {Record<string, Tool>} */ ({ b: "brush", e: "eraser", l: "lasso", h: "hand" });

class MaskEditor extends View {
  /** The picture's data, for its size. @type {{width: number, height: number}} */
  data = { width: 1, height: 1 };
  /** Where its file is. */
  source = "";
  /** @type {Tool} */
  tool = "brush";
  /** Diameter of the brush in pixels of the picture. */
  size = 40;
  /** @type {Point[]} */
  points = [];

  build() {
    const { width, height } = this.data;
    this.size = Math.max(4, Math.round(Math.max(width, height) / 10));
    this.mask = new Mask(width, height, () => this.#mark());
    this.mask.canvas.className = "mask";
    const image = h("img", { src: this.source, alt: "", draggable: "false", width, height });
    this.draft = h("canvas", { class: "draft", width, height, "aria-hidden": "true" });
    this.ring = h("span", { class: "ring", hidden: true });
    this.sheet = h("div", { class: "sheet" }, image, this.mask.canvas, this.draft);
    this.area = h("div", { class: "mask-area", tabindex: 0, role: "application", "aria-label": t("mask.area"), "aria-describedby": "mask-keys" }, this.sheet, this.ring);
    Object.assign(this.sheet.style, { width: `${width}px`, height: `${height}px` });
    this.tools = this.#tools();
    this.replaceChildren(this.area, this.tools, h("p", { class: "hint", id: "mask-keys" }, t("mask.keys")));
    this.view = new Viewport(this.area, this.sheet, width, height);
    this.until(() => this.view?.stop());
    this.listen(this.area, "view", () => this.#ring());
    this.#listenToPointer(this.area);
    this.listen(this, "keydown", (event) => this.#key(event));
    this.cursor = { x: width / 2, y: height / 2 };
    this.#choose(this.tool);
    this.#mark();
  }

  #tools() {
    const tools = TOOLS.map((tool) => iconButton(tool, t(`mask.${tool}`), () => this.#choose(tool), { "data-tool": tool }));
    const size = h("input", { type: "range", min: 2, max: Math.round(Math.max(this.data.width, this.data.height) / 2), ".value": this.size, "aria-label": t("mask.size"), oninput: () => this.#resize(Number(size.value)) });
    this.sizer = size;
    const act = (/** @type {string} */ shape, /** @type {() => void} */ action) => iconButton(shape, t(`mask.${shape}`), action, { "data-act": shape });
    return h("div", { class: "tools", role: "toolbar", "aria-label": t("mask.tools") }, ...tools, h("label", { class: "size" }, h("span", {}, t("mask.size")), size),
      act("invert", () => this.mask?.invert()), act("undo", () => this.mask?.undo()), act("redo", () => this.mask?.redo()), act("trash", () => this.mask?.clear()), act("zoom", () => this.view?.fit()));
  }

  /** @param {Tool} tool */
  #choose(tool) {
    this.tool = tool;
    this.tools?.querySelectorAll("[data-tool]").forEach((button) => button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.tool === tool)));
    this.area?.setAttribute("data-tool", tool);
  }

  /** @param {number} size */
  #resize(size) {
    this.size = Math.min(Number(this.sizer?.max), Math.max(2, size));
    if (this.sizer) this.sizer.value = String(this.size);
    this.#ring();
  }

  /** Grey out what cannot be undone. */
  #mark() {
    const { history } = this.mask ?? {};
    this.tools?.querySelector("[data-act=undo]")?.toggleAttribute("disabled", !history?.canUndo);
    this.tools?.querySelector("[data-act=redo]")?.toggleAttribute("disabled", !history?.canRedo);
  }

  /** @param {HTMLElement} area */
  #listenToPointer(area) {
    this.listen(area, "pointerdown", (event) => this.#down(event));
    this.listen(area, "pointermove", (event) => this.#moved(event));
    for (const type of ["pointerup", "pointercancel"]) this.listen(area, type, (event) => this.#up(event));
    this.listen(area, "pointerleave", () => this.ring?.toggleAttribute("hidden", true));
  }

  /** A pen that presses harder paints wider. @param {PointerEvent} event */
  #width(event) {
    return event.pointerType === "pen" && event.pressure ? this.size * (0.25 + 1.5 * event.pressure) : this.size;
  }

  /** @param {PointerEvent} event */
  #down(event) {
    const { view, mask, area } = this;
    if (!view || !mask || !area) return;
    area.focus({ preventScroll: true });
    area.setPointerCapture(event.pointerId);
    if (event.pointerType === "touch" && view.follow(event)) return this.#abandon();
    if (event.button === 1 || this.tool === "hand") return void (this.panning = true);
    const point = view.toPicture(event);
    if (this.tool === "lasso") this.points = [point];
    else mask.begin(point, this.#width(event), this.tool === "eraser" || event.button === 5);
    this.painting = true;
  }

  /** @param {PointerEvent} event */
  #moved(event) {
    const { view, mask } = this;
    if (!view || !mask) return;
    this.cursor = view.toPicture(event);
    this.#ring();
    if (event.pointerType === "touch" && event.buttons && view.follow(event)) return;
    if (this.panning) return view.pan(event.movementX, event.movementY);
    if (!this.painting) return;
    for (const part of event.getCoalescedEvents?.() ?? [event]) {
      if (this.tool === "lasso") this.points.push(view.toPicture(part));
      else mask.extend(view.toPicture(part), this.#width(part));
    }
    if (this.tool === "lasso") this.#drawLasso();
  }

  /** @param {PointerEvent} event */
  #up(event) {
    this.view?.release(event);
    if (this.painting && this.tool === "lasso") this.mask?.fill(this.points, event.shiftKey);
    if (this.painting) this.mask?.end();
    this.#abandon();
  }

  #abandon() {
    if (this.painting) this.mask?.end();
    this.painting = this.panning = false;
    this.points = [];
    this.#drawLasso();
  }

  #drawLasso() {
    const context = this.draft?.getContext("2d");
    if (!context || !this.draft || !this.view) return;
    context.clearRect(0, 0, this.draft.width, this.draft.height);
    if (this.points.length < 2) return;
    context.lineWidth = 2 / this.view.scale;
    context.strokeStyle = "#c23b2e";
    context.fillStyle = "#c23b2e40";
    const path = outline(this.points);
    context.fill(path);
    context.stroke(path);
  }

  /** The circle that the brush would fill. */
  #ring() {
    const { ring, view, cursor, size } = this;
    if (!ring || !view || !cursor) return;
    ring.hidden = this.tool === "lasso" || this.tool === "hand";
    const side = size * view.scale;
    Object.assign(ring.style, { width: `${side}px`, height: `${side}px`, transform: `translate(${cursor.x * view.scale + view.x - side / 2}px, ${cursor.y * view.scale + view.y - side / 2}px)` });
  }

  /** Arrows move the brush, space paints; Shift makes the steps larger. @param {KeyboardEvent} event */
  #key(event) {
    const { mask, cursor, view } = this;
    if (!mask || !cursor || !view || /** @type {HTMLElement} */ (event.target).matches("input")) return;
    const step = this.size / (event.shiftKey ? 1 : 4);
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const undoing = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
    if (way && event.target === this.area) Object.assign(cursor, { x: cursor.x + way[0] * step, y: cursor.y + way[1] * step });
    else if (event.key === " " && event.target === this.area) this.#stamp(cursor);
    else if (undoing) event.shiftKey ? mask.redo() : mask.undo();
    else if (event.key === "[" || event.key === "]") this.#resize(this.size * (event.key === "]" ? 1.2 : 1 / 1.2));
    else if (event.key === "+" || event.key === "-") view.zoom(event.key === "+" ? 1.25 : 0.8);
    else if (event.key === "i") mask.invert();
    else if (KEYS[event.key] && !event.ctrlKey && !event.metaKey) this.#choose(KEYS[event.key]);
    else return;
    event.preventDefault();
    this.#ring();
  }

  /** @param {Point} at */
  #stamp(at) {
    this.mask?.begin(at, this.size, this.tool === "eraser");
    this.mask?.end();
  }

  /** The mask as an upload. @returns {Promise<Record<string, any>>} */
  async inputs() {
    if (!this.mask || this.mask.empty) throw new Error(t("mask.empty"));
    const { id } = await api.upload(await this.mask.blob());
    return { mask: id };
  }
}

customElements.define("mask-editor", MaskEditor);
