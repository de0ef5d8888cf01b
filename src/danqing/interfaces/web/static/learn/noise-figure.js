/** The way from a picture to noise: x at time t is a share of the picture and a share of noise, by DDPM's schedule. */

import { h, svg, View } from "../dom.js";
import { t } from "../i18n.js";

const STEPS = 1000;
const SIDE = 128;

/** How much of the picture's variance is left after each step: the product of 1 - beta, beta from 0.0001 to 0.02. */
const kept = (() => {
  let product = 1;
  return Array.from({ length: STEPS }, (_, k) => (product *= 1 - (1e-4 + (k / (STEPS - 1)) * (0.02 - 1e-4))));
})();

/** Two normal numbers from two uniform ones. */
function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

class NoiseFigure extends View {
  /** Where a picture is. */
  source = "/static/examples/apple.webp";

  build() {
    this.noise = Float32Array.from({ length: SIDE * SIDE * 3 }, normal);
    this.canvas = h("canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": t("learn.noise") });
    this.output = h("output", {});
    this.dot = svg("circle", { r: 3 });
    const curve = kept.filter((_, k) => k % 20 === 0).map((value, k) => `${k ? "L" : "M"}${k * 4} ${60 - 56 * value}`).join("");
    this.slider = h("input", { type: "range", min: 0, max: STEPS - 1, value: 250, "aria-label": t("learn.time"), oninput: () => this.#draw() });
    this.replaceChildren(h("div", { class: "film-picture" }, this.canvas), h("label", { class: "sweep-value" }, h("span", {}, t("learn.time")), this.output), this.slider, svg("svg", { viewBox: "0 0 200 64", class: "curve", "aria-hidden": "true" }, svg("path", { d: curve }), this.dot), h("p", { class: "hint" }, t("learn.noise.hint")));
    this.load(this.source);
  }

  /** @param {string} source */
  async load(source) {
    const image = new Image();
    image.src = source;
    await image.decode();
    const context = this.canvas?.getContext("2d", { willReadFrequently: true });
    context?.drawImage(image, 0, 0, SIDE, SIDE);
    this.pixels = context?.getImageData(0, 0, SIDE, SIDE);
    this.#draw();
  }

  #draw() {
    const { pixels, noise, canvas, slider } = this;
    if (!pixels || !noise || !canvas || !slider) return;
    const left = kept[Number(slider.value)];
    const [share, rest] = [Math.sqrt(left), Math.sqrt(1 - left)];
    const mixed = new ImageData(SIDE, SIDE);
    for (let k = 0; k < SIDE * SIDE; k++) {
      for (let c = 0; c < 3; c++) {
        const x = pixels.data[4 * k + c] / 127.5 - 1;
        mixed.data[4 * k + c] = 127.5 * (share * x + rest * noise[3 * k + c] + 1);
      }
      mixed.data[4 * k + 3] = 255;
    }
    canvas.getContext("2d")?.putImageData(mixed, 0, 0);
    this.dot?.setAttribute("cx", String(Number(slider.value) / 5));
    this.dot?.setAttribute("cy", String(60 - 56 * left));
    if (this.output) this.output.textContent = t("learn.share", { t: slider.value, n: Math.round(100 * left) });
  }
}

customElements.define("noise-figure", NoiseFigure);
