/** A mask of a picture's own size: strokes, outlines, inversion, undo. Coloured pixels are those to repaint. */

import { History } from "./history.js";

/** @typedef {{x: number, y: number}} Point */
/** @typedef {{left: number, top: number, right: number, bottom: number}} Box */

const COLOUR = "#c23b2e";

export class Mask {
  /** @param {number} width @param {number} height @param {() => void} onChange after each finished change */
  constructor(width, height, onChange) {
    this.canvas = document.createElement("canvas");
    Object.assign(this.canvas, { width, height });
    this.context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d", { willReadFrequently: true }));
    this.history = new History(this.canvas);
    this.onChange = onChange;
  }

  /**
   * Begin a stroke; `erase` takes away.
   * @param {Point} point @param {number} diameter in pixels of the picture @param {boolean} erase
   */
  begin(point, diameter, erase) {
    this.erase = erase;
    this.last = point;
    this.box = around(point, diameter);
    this.extend(point, diameter);
  }

  /** @param {Point} point @param {number} diameter */
  extend(point, diameter) {
    const { context, last } = this;
    if (!last) return;
    this.#prepare();
    context.lineWidth = diameter;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(last.x, last.y);
    context.lineTo(point.x + 0.01, point.y);
    context.stroke();
    this.box = union(this.box, around(point, diameter));
    this.last = point;
  }

  end() {
    if (!this.last) return;
    this.last = undefined;
    this.#finish(this.box);
  }

  /** Fill an outline. @param {Point[]} points @param {boolean} erase */
  fill(points, erase) {
    if (points.length < 3) return;
    this.erase = erase;
    this.#prepare();
    this.context.fill(outline(points));
    this.#finish(points.map((point) => around(point, 2)).reduce(union));
  }

  invert() {
    const { canvas, context } = this;
    context.globalCompositeOperation = "source-out";
    context.fillStyle = COLOUR;
    context.fillRect(0, 0, canvas.width, canvas.height);
    this.#finish(this.#whole);
  }

  clear() {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.#finish(this.#whole);
  }

  undo() {
    this.history.undo();
    this.onChange();
  }

  redo() {
    this.history.redo();
    this.onChange();
  }

  /** Whether nothing is painted. */
  get empty() {
    const small = document.createElement("canvas");
    Object.assign(small, { width: 64, height: 64 });
    const context = /** @type {CanvasRenderingContext2D} */ (small.getContext("2d", { willReadFrequently: true }));
    context.drawImage(this.canvas, 0, 0, 64, 64);
    return !context.getImageData(0, 0, 64, 64).data.some((value, k) => k % 4 === 3 && value > 0);
  }

  /** The mask as a PNG, white where to repaint and black elsewhere. @returns {Promise<Blob>} */
  blob() {
    const copy = document.createElement("canvas");
    Object.assign(copy, { width: this.canvas.width, height: this.canvas.height });
    const context = /** @type {CanvasRenderingContext2D} */ (copy.getContext("2d"));
    context.drawImage(this.canvas, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = "white";
    context.fillRect(0, 0, copy.width, copy.height);
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "black";
    context.fillRect(0, 0, copy.width, copy.height);
    return new Promise((done, fail) => copy.toBlob((blob) => (blob ? done(blob) : fail(new Error("no PNG"))), "image/png"));
  }

  get #whole() {
    return { left: 0, top: 0, right: this.canvas.width, bottom: this.canvas.height };
  }

  #prepare() {
    this.context.globalCompositeOperation = this.erase ? "destination-out" : "source-over";
    this.context.fillStyle = this.context.strokeStyle = COLOUR;
  }

  /** @param {Box | undefined} box */
  #finish(box) {
    if (box) this.history.keep(box);
    this.onChange();
  }
}

/** @param {Point[]} points */
export function outline(points) {
  const path = new Path2D();
  points.forEach(({ x, y }, k) => (k ? path.lineTo(x, y) : path.moveTo(x, y)));
  path.closePath();
  return path;
}

/** @param {Point} point @param {number} diameter @returns {Box} */
function around({ x, y }, diameter) {
  const reach = diameter / 2 + 2;
  return { left: x - reach, top: y - reach, right: x + reach, bottom: y + reach };
}

/** @param {Box | undefined} a @param {Box} b @returns {Box} */
function union(a, b) {
  if (!a) return b;
  return { left: Math.min(a.left, b.left), top: Math.min(a.top, b.top), right: Math.max(a.right, b.right), bottom: Math.max(a.bottom, b.bottom) };
}
