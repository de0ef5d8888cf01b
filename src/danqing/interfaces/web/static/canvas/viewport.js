/** Zoom and pan of what lies in an area: by wheel, by two fingers, by dragging with the middle button. */

/** @typedef {{x: number, y: number}} Point */

const MOST = 16;

export class Viewport {
  scale = 1;
  x = 0;
  y = 0;
  /** @type {Map<number, Point>} */
  #fingers = new Map();

  /** @param {HTMLElement} area @param {HTMLElement} sheet what is moved; of `width` x `height` pixels @param {number} width @param {number} height */
  constructor(area, sheet, width, height) {
    Object.assign(this, { area, sheet, width, height });
    this.area = area;
    this.sheet = sheet;
    this.width = width;
    this.height = height;
    area.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    const sizes = new ResizeObserver(() => this.fit());
    sizes.observe(area);
    this.stop = () => sizes.disconnect();
  }

  /** The whole picture, in the middle. */
  fit() {
    const { clientWidth, clientHeight } = this.area;
    if (!clientWidth) return;
    this.scale = Math.min(clientWidth / this.width, clientHeight / this.height, 4);
    this.x = (clientWidth - this.width * this.scale) / 2;
    this.y = (clientHeight - this.height * this.scale) / 2;
    this.#apply();
  }

  /** @param {number} factor @param {Point} [at] what stays in its place, in pixels of the area */
  zoom(factor, at = { x: this.area.clientWidth / 2, y: this.area.clientHeight / 2 }) {
    const least = Math.min(this.area.clientWidth / this.width, this.area.clientHeight / this.height) / 2;
    const scale = Math.min(MOST, Math.max(least, this.scale * factor));
    this.x = at.x - ((at.x - this.x) * scale) / this.scale;
    this.y = at.y - ((at.y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.#apply();
  }

  /** @param {number} dx @param {number} dy */
  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.#apply();
  }

  /** A place on the screen as pixels of the picture. @param {{clientX: number, clientY: number}} event @returns {Point} */
  toPicture({ clientX, clientY }) {
    const { left, top } = this.area.getBoundingClientRect();
    return { x: (clientX - left - this.x) / this.scale, y: (clientY - top - this.y) / this.scale };
  }

  /** Follow a finger; tells whether there are two, which zoom and pan. @param {PointerEvent} event */
  follow(event) {
    const before = this.#fingers.get(event.pointerId);
    const now = { x: event.clientX, y: event.clientY };
    const other = [...this.#fingers].find(([id]) => id !== event.pointerId)?.[1];
    this.#fingers.set(event.pointerId, now);
    if (!before || !other) return Boolean(other);
    const { left, top } = this.area.getBoundingClientRect();
    const middle = { x: (now.x + other.x) / 2 - left, y: (now.y + other.y) / 2 - top };
    this.zoom(distance(now, other) / distance(before, other), middle);
    this.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    return true;
  }

  /** @param {PointerEvent} event */
  release(event) {
    this.#fingers.delete(event.pointerId);
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    event.preventDefault();
    const { left, top } = this.area.getBoundingClientRect();
    this.zoom(Math.exp(-event.deltaY / 400), { x: event.clientX - left, y: event.clientY - top });
  }

  #apply() {
    this.sheet.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.area.dispatchEvent(new CustomEvent("view"));
  }
}

/** @param {Point} a @param {Point} b */
const distance = (a, b) => Math.max(1, Math.hypot(a.x - b.x, a.y - b.y));
