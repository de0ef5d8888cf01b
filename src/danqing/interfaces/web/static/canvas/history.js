/** Undo and redo of a canvas: only the rectangle that a change touched is kept. */

/** @typedef {{x: number, y: number, before: ImageData, after: ImageData}} Step */

/** Pixels that are kept in all; the oldest steps go first. */
const PIXELS = 64_000_000;

export class History {
  /** @type {Step[]} */
  #done = [];
  /** @type {Step[]} */
  #undone = [];

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
    this.copy = document.createElement("canvas");
    Object.assign(this.copy, { width: canvas.width, height: canvas.height });
    this.past = /** @type {CanvasRenderingContext2D} */ (this.copy.getContext("2d", { willReadFrequently: true }));
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /** Remember what has just changed within a box. @param {import("./mask.js").Box} box */
  keep({ left, top, right, bottom }) {
    const x = Math.max(0, Math.floor(left));
    const y = Math.max(0, Math.floor(top));
    const width = Math.min(this.canvas.width, Math.ceil(right)) - x;
    const height = Math.min(this.canvas.height, Math.ceil(bottom)) - y;
    if (width <= 0 || height <= 0) return;
    const step = { x, y, before: this.past.getImageData(x, y, width, height), after: this.context.getImageData(x, y, width, height) };
    this.past.putImageData(step.after, x, y);
    this.#done.push(step);
    this.#undone = [];
    while (this.#done.length > 1 && this.#size() > PIXELS) this.#done.shift();
  }

  undo() {
    const step = this.#done.pop();
    if (!step) return;
    this.#undone.push(step);
    this.#put(step, step.before);
  }

  redo() {
    const step = this.#undone.pop();
    if (!step) return;
    this.#done.push(step);
    this.#put(step, step.after);
  }

  /** @param {Step} step @param {ImageData} pixels */
  #put({ x, y }, pixels) {
    this.context.putImageData(pixels, x, y);
    this.past.putImageData(pixels, x, y);
  }

  #size() {
    return this.#done.reduce((sum, { after }) => sum + 2 * after.width * after.height, 0);
  }
}
