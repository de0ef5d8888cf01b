/** All that came from the same first picture, as small frames joined by lines. */

import { api, thumbnailOf } from "../api.js";
import { h, svg, View } from "../dom.js";
import { t } from "../i18n.js";
import { pictures } from "../state.js";

/** @typedef {import("../../types.js").Picture} Picture */

const FRAME = 48;
const GAP = 6;
const ROW = FRAME + 22;
const PER_ROW = 4;

export class LineageTree extends View {
  /** @type {Picture[]} */
  #all = [];
  /** @type {Picture[][]} */
  #rows = [];

  async build() {
    this.picture = this.getAttribute("picture") ?? "";
    if (this.picture.startsWith("u-")) return;
    await this.#load();
    this.until(pictures.watch("*", (picture) => picture && this.#joins(picture) && void this.#load()));
  }

  async #load() {
    const tree = await api.tree(this.picture ?? "").catch(() => null);
    if (!tree || !this.isConnected) return;
    this.#all = tree.data;
    this.#all.forEach((picture) => pictures.put(picture));
    this.#draw(tree.root);
  }

  /** Whether a new picture belongs to this tree. @param {Picture} picture */
  #joins(picture) {
    const known = this.#all.some((one) => one.id === picture.id);
    return !known && picture.parent !== null && this.#all.some((one) => one.id === picture.parent);
  }

  /** The children of a picture, those of one job together. @param {string} id @returns {Picture[][]} */
  #families(id) {
    const children = this.#all.filter((one) => one.parent === id);
    const jobs = [...new Set(children.map((one) => one.job))];
    const families = jobs.map((job) => children.filter((one) => one.job === job));
    return families.flatMap((family) => Array.from({ length: Math.ceil(family.length / PER_ROW) }, (_, k) => family.slice(k * PER_ROW, (k + 1) * PER_ROW)));
  }

  /** @param {string} root */
  #draw(root) {
    const first = this.#all.find((one) => one.id === root);
    if (!first) return;
    const siblings = this.#all.filter((one) => !one.parent && one.job === first.job);
    this.#rows = [siblings.length ? siblings : [first]];
    /** @type {{from: {x: number, y: number}, row: number, count: number}[]} */
    const joins = [];
    const descend = (/** @type {Picture[]} */ row, /** @type {number} */ at) => {
      row.forEach((one, k) => {
        for (const family of this.#families(one.id)) {
          joins.push({ from: { x: k, y: at }, row: this.#rows.length, count: family.length });
          this.#rows.push(family);
          descend(family, this.#rows.length - 1);
        }
      });
    };
    descend(this.#rows[0], 0);
    this.toggleAttribute("hidden", this.#all.length < 2);
    const frames = this.#rows.flatMap((row, y) => row.map((one, x) => this.#frame(one, x, y)));
    const height = this.#rows.length * ROW;
    const lines = svg("svg", { class: "tree-lines", width: PER_ROW * (FRAME + GAP), height, "aria-hidden": "true" }, ...joins.map(({ from, row, count }) => this.#line(from, row, count)));
    const canvas = h("div", { class: "tree-canvas" }, lines, ...frames);
    canvas.style.height = `${height}px`;
    this.replaceChildren(h("h2", {}, t("picture.tree")), h("nav", { "aria-label": t("picture.tree") }, canvas));
  }

  /** @param {Picture} picture @param {number} x @param {number} y */
  #frame(picture, x, y) {
    const here = picture.id === this.picture;
    const name = `${t(`app.${picture.app}`)}: ${picture.prompt || picture.seed}`;
    const frame = h("a", { class: "frame", href: `/p/${picture.id}`, "aria-current": here ? "page" : null, title: name }, h("img", { src: thumbnailOf(picture.id, 128), alt: name, width: FRAME, height: FRAME, loading: "lazy" }));
    frame.style.transform = `translate(${x * (FRAME + GAP)}px, ${y * ROW}px)`;
    return frame;
  }

  /** From below a frame down to a row, which is bracketed. @param {{x: number, y: number}} from @param {number} row @param {number} count */
  #line(from, row, count) {
    const middle = (/** @type {number} */ column) => column * (FRAME + GAP) + FRAME / 2;
    const top = from.y * ROW + FRAME;
    const rail = row * ROW - 10;
    const start = middle(from.x);
    const ends = [middle(0), middle(count - 1)];
    const low = Math.min(start, ...ends);
    const high = Math.max(start, ...ends);
    const drops = Array.from({ length: count }, (_, k) => `M${middle(k)} ${rail}V${row * ROW}`).join("");
    return svg("path", { d: `M${start} ${top}V${rail}M${low} ${rail}H${high}${drops}` });
  }

  /** The picture in a direction, if there is one. @param {"previous" | "next" | "parent" | "child"} way */
  neighbour(way) {
    const here = this.#all.find((one) => one.id === this.picture);
    const row = this.#rows.find((one) => one.some(({ id }) => id === this.picture)) ?? [];
    const at = row.findIndex(({ id }) => id === this.picture);
    const found = { previous: row[at - 1]?.id, next: row[at + 1]?.id, parent: here?.parent, child: this.#all.find((one) => one.parent === this.picture)?.id };
    return found[way] ?? null;
  }
}

customElements.define("lineage-tree", LineageTree);
