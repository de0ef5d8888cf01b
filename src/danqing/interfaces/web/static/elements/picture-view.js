/** A picture, large: where it came from, what made it, and all that can be done with it. */

import "./compare-slider.js";
import "./lineage-tree.js";
import "./picture-facts.js";
import "./verb-panel.js";
import { download, paintAgain, restore, star, trash, useAsReference, verbs } from "../actions.js";
import { api, fileOf } from "../api.js";
import { draft } from "../draft.js";
import { h, icon, iconButton, View } from "../dom.js";
import { t } from "../i18n.js";
import { go, route, setQuery, withQuery } from "../router.js";
import { appFor, attempt, cardOf, notify, pictures, reason } from "../state.js";

/** @typedef {import("../../types.js").Picture} Picture */
/** @typedef {import("../../types.js").App} App */
/** @typedef {HTMLElement & {inputs: () => Promise<Record<string, any>>}} Editor */

/** Verbs with an editor over the picture, which is loaded when it opens. @type {Record<string, () => Promise<string>>} */
const EDITORS = {
  inpaint: async () => {
    await import("../canvas/mask-editor.js");
    return "mask-editor";
  },
  outpaint: async () => {
    await import("../canvas/outpaint-frame.js");
    return "outpaint-frame";
  },
};

class PictureView extends View {
  /** The verb and comparison that are shown. @type {string | undefined} */
  opened;

  async build() {
    this.opened = undefined;
    this.picture = this.getAttribute("picture") ?? "";
    this.bar = h("div", { class: "view-bar" });
    this.stage = h("div", { class: "stage" }, this.#image());
    this.verbRow = h("div", { class: "verb-row", role: "toolbar", "aria-label": t("verbs") });
    this.panel = h("div", { class: "panel" });
    this.facts = h("aside", { class: "facts", "aria-label": t("picture.facts") });
    this.tree = h("lineage-tree", { picture: this.picture });
    this.replaceChildren(this.bar, h("div", { class: "view" }, this.tree, h("div", { class: "middle" }, this.stage, this.verbRow), h("div", { class: "side" }, this.panel, this.facts)));
    try {
      this.data = await this.#load();
    } catch (error) {
      return this.replaceChildren(h("div", { class: "notice" }, h("h1", {}, t("picture.missing")), h("p", {}, reason(error)), h("a", { class: "primary", href: "/" }, t("place.wall"))));
    }
    if (!this.isConnected) return;
    this.#fill();
    this.until(route.watch(() => this.#open()));
    this.until(pictures.watch(this.picture, (now) => this.#changed(now)));
    this.listen(document, "keydown", (event) => this.#move(event));
    await this.#open();
  }

  get uploaded() {
    return this.picture?.startsWith("u-") ?? false;
  }

  async #load() {
    const id = this.picture ?? "";
    if (this.uploaded) return api.uploaded(id);
    const data = await api.picture(id);
    pictures.put(data);
    return data;
  }

  #image() {
    return h("img", { class: "large", src: fileOf(this.picture ?? ""), alt: this.data?.prompt ?? "", draggable: "false" });
  }

  #fill() {
    const { data, picture: id = "" } = this;
    const { prompt = "", width, height } = data;
    document.title = `${prompt || t("place.picture")} · ${t("title")}`;
    const image = this.stage?.querySelector("img");
    if (image) Object.assign(image, { alt: prompt || t("reference.picture"), width, height });
    this.facts?.replaceChildren(h("picture-facts", { ".data": data }));
    this.#fillBar();
    const model = this.#model();
    this.verbRow?.replaceChildren(
      ...verbs(model).map((app) => h("a", { class: "verb", href: withQuery({ do: app.name, compare: null }), "data-verb": app.name }, t(`app.${app.name}`))),
      h("button", { type: "button", class: "verb", onclick: () => useAsReference(id) }, t("reference.image")),
      h("button", { type: "button", class: "verb", onclick: () => useAsReference(id, "style_image") }, t("reference.style_image")),
    );
  }

  #fillBar() {
    const { data, picture: id = "" } = this;
    const known = /** @type {Picture} */ ({ ...data, ...pictures.get(id) });
    const back = h("a", { class: "icon-button", href: "/", "aria-label": t("place.wall"), title: t("place.wall") }, icon("back"));
    const title = h("h1", {}, known.prompt || (this.uploaded ? t("picture.uploaded") : t(`app.${known.app}`)));
    const starred = iconButton("star", t("verb.star"), () => star(id), { "aria-pressed": String(Boolean(known.star)) });
    const compare = known.parent || this.#source() ? iconButton("compare", t("verb.compare"), () => setQuery({ compare: route.value.query.has("compare") ? null : "1", do: null }), { "aria-pressed": String(route.value.query.has("compare")) }) : null;
    const again = known.again || data.again ? h("button", { type: "button", class: "secondary", onclick: () => this.#again() }, icon("reroll"), h("span", { class: "label" }, t("verb.again"))) : null;
    const away = known.trashed ? h("button", { type: "button", class: "secondary", onclick: () => restore(id) }, t("trash.restore")) : iconButton("trash", t("verb.trash"), () => trash(id));
    const board = iconButton("board", t("verb.board"), () => setQuery({ drawer: "boards", with: id }));
    const own = this.uploaded ? [] : [starred, board, away];
    this.bar?.replaceChildren(...[back, title, h("div", { class: "view-tools" }, again, compare, iconButton("download", t("verb.download"), () => download(id)), ...own)]);
  }

  async #again() {
    const job = await paintAgain(this.picture ?? "");
    if (job) notify(t("picture.again"), { action: { label: t("place.wall"), run: () => go("/") } });
  }

  /** What it was made from, to compare with. @returns {string | undefined} */
  #source() {
    return this.data?.parent ?? this.data?.sources?.[0];
  }

  /** The model that does the verbs: the one that painted it, else that of the prompt bar. */
  #model() {
    const own = this.data?.model;
    return own && cardOf(own) ? own : draft.value.model;
  }

  /** @param {Picture | undefined} now */
  #changed(now) {
    if (!now) return go("/");
    this.data = { ...this.data, ...now };
    this.#fillBar();
  }

  /** What the address asks for: a verb's form and editor, or the comparison. */
  async #open() {
    if (route.value.id !== this.picture || !this.stage || !this.panel) return;
    const { query } = route.value;
    const verb = query.get("do") ?? "";
    this.verbRow?.querySelectorAll("a").forEach((link) => (link.dataset.verb === verb ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
    const key = `${verb} ${query.has("compare")}`;
    if (key === this.opened) return;
    this.opened = key;
    this.#fillBar();
    const name = await EDITORS[verb]?.();
    if (this.opened !== key || !this.stage) return; // another verb was chosen meanwhile
    const source = this.#source();
    const compared = query.has("compare") && source ? h("compare-slider", { ".earlier": fileOf(source), ".later": fileOf(this.picture ?? "") }) : null;
    const editor = name ? /** @type {Editor} */ (h(name, { ".data": this.data, ".source": fileOf(this.picture ?? "") })) : null;
    this.stage.replaceChildren(compared ?? editor ?? this.#image());
    this.#fillImage();
    void this.#openPanel(verb, editor, query.get("with")?.split(",") ?? []);
  }

  #fillImage() {
    const image = this.stage?.querySelector("img.large");
    if (image && this.data) Object.assign(image, { width: this.data.width, height: this.data.height });
  }

  /** @param {string} verb @param {Editor | null} editor @param {string[]} others */
  async #openPanel(verb, editor, others) {
    if (this.facts) this.facts.hidden = verb !== "";
    if (!verb) return this.panel?.replaceChildren();
    const app = await attempt(appFor(verb, this.#model()));
    if (!app || this.opened?.split(" ")[0] !== verb) return;
    const panel = h("verb-panel", { ".app": app, ".picture": this.picture, ".others": others, ".editor": editor, ".model": this.#model(), ".prompt": this.data?.prompt ?? "" });
    this.panel?.replaceChildren(panel);
  }

  /** Arrows go to the neighbours in the tree. @param {KeyboardEvent} event */
  #move(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const busy = event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || target.closest("input, textarea, select, mask-editor, outpaint-frame, [role=slider], side-drawer");
    const way = { ArrowLeft: "previous", ArrowRight: "next", ArrowUp: "parent", ArrowDown: "child" }[event.key];
    if (busy || !way) return;
    const to = /** @type {import("./lineage-tree.js").LineageTree} */ (this.tree).neighbour(/** @type {any} */ (way));
    if (!to) return;
    event.preventDefault();
    go(`/p/${to}`);
  }
}

customElements.define("picture-view", PictureView);
