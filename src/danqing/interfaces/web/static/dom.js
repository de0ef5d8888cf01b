/** Elements without markup in strings: what users and models write is text, never HTML. */

import { paths } from "./icons.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes, listeners (`onclick`), properties (`.value`) and children.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K | string} tag
 * @param {Record<string, any>} [props] null, undefined and false leave an attribute out
 * @param {...any} children elements, texts, arrays of them; null and false are left out
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props = {}, ...children) {
  const element = /** @type {any} */ (document.createElement(tag));
  for (const [name, value] of Object.entries(props)) setProp(element, name, value);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** @param {any} element @param {string} name @param {any} value */
function setProp(element, name, value) {
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name.startsWith(".")) element[name.slice(1)] = value;
  else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : String(value));
}

/**
 * A shape of SVG.
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {...Element} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/**
 * An icon of 20 pixels in the colour of the text; a screen reader skips it.
 * @param {string} name
 */
export function icon(name) {
  const shapes = paths[name].map((d) => svg("path", { d }));
  return svg("svg", { viewBox: "0 0 20 20", class: "icon", "aria-hidden": "true" }, ...shapes);
}

/**
 * A button with an icon and a name; the name is read aloud and shown as a hint where there is no label.
 * @param {string} name of the icon
 * @param {string} label
 * @param {() => unknown} action
 * @param {Record<string, any>} [props]
 */
export function iconButton(name, label, action, props = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick: action, ...props }, icon(name));
}

/** The seal 丹青, the mark of the studio. */
export function seal() {
  return h("img", { class: "seal", src: "/static/seal.svg", alt: "", width: 32, height: 32 });
}

/** Ids for labels. */
let count = 0;
export const freshId = () => `e${++count}`;

/**
 * An element that stops listening when it leaves the page.
 * Subclasses implement `build()`, which is called each time it enters.
 */
export class View extends HTMLElement {
  /** @type {(() => void)[]} */
  #stops = [];

  connectedCallback() {
    this.build();
  }

  disconnectedCallback() {
    this.#stops.splice(0).forEach((stop) => stop());
  }

  build() {}

  /**
   * Call what `subscribe` gave back when this element leaves the page.
   * @param {() => void} stop
   */
  until(stop) {
    this.#stops.push(stop);
  }

  /**
   * Listen until this element leaves the page.
   * @param {EventTarget} target @param {string} type @param {(event: any) => void} listener
   * @param {AddEventListenerOptions} [options]
   */
  listen(target, type, listener, options) {
    target.addEventListener(type, listener, options);
    this.until(() => target.removeEventListener(type, listener, options));
  }
}
