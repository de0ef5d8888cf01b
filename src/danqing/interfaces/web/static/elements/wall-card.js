/** One card of the wall: the pictures of a job as they grow, and what can be done with them in one press. */

import { cancel, enlarge, reroll, star, vary } from "../actions.js";
import { thumbnailOf } from "../api.js";
import { h, icon, iconButton, View } from "../dom.js";
import { duration, say, t } from "../i18n.js";
import { frames, jobs, pictures, unfinished } from "../state.js";

/** @typedef {import("../../types.js").WallCard} Card */
/** @typedef {import("../../types.js").Job} Job */

export class WallCard extends View {
  /** @type {Card} */
  #card = { key: "", job: null, pictures: [] };
  /** Take the card away. @type {() => void} */
  dismiss = () => {};
  /** Whether it stands alone: pictures in a row, what can be done beside them. */
  wide = false;
  #shape = "";

  get card() {
    return this.#card;
  }

  set card(card) {
    const changed = card.pictures !== this.#card.pictures || card.key !== this.#card.key;
    this.#card = card;
    if (changed && this.isConnected) this.#refresh();
  }

  build() {
    const { job, key } = this.#card;
    this.setAttribute("role", "article");
    this.toggleAttribute("data-wide", this.wide);
    this.tiles = h("div", { class: "tiles" });
    this.foot = h("div", { class: "card-foot" });
    this.replaceChildren(this.tiles, this.foot);
    this.#shape = "";
    this.#refresh();
    if (!job) return;
    this.until(jobs.watch(key, () => this.#refresh()));
    this.until(frames.watch(key, () => this.#grow()));
    this.until(pictures.watch("*", (_, id) => this.#card.pictures.includes(id) && this.#stars()));
  }

  get #job() {
    return this.#card.job ? jobs.get(this.#card.job) : undefined;
  }

  #refresh() {
    const job = this.#job;
    const going = unfinished(job);
    const count = Math.max(this.#card.pictures.length, (going && job?.expected) || 1);
    const shape = JSON.stringify([this.#card.pictures, going, job?.state, count, job?.error, job?.notes, job?.position, job?.cancelling]);
    if (shape === this.#shape || !this.tiles || !this.foot) return;
    this.#shape = shape;
    this.toggleAttribute("data-done", !going && this.#card.pictures.length > 0);
    this.toggleAttribute("data-going", going);
    this.setAttribute("aria-label", this.#words());
    this.tiles.dataset.columns = String(Math.min(4, this.wide ? count : Math.ceil(Math.sqrt(count))));
    this.#fill(count, going);
    this.foot.replaceChildren(...this.#foot(job, going));
    this.#grow();
    this.#stars();
  }

  /** The words that it was painted from. */
  #words() {
    const picture = pictures.get(this.#card.pictures[0]);
    const inputs = this.#job?.inputs;
    return picture?.prompt || inputs?.prompt || inputs?.name || t(`app.${picture?.app ?? this.#job?.app ?? "paint"}`);
  }

  /** Tiles stay where they are while pictures come in: one that is there is never made anew. @param {number} count @param {boolean} going */
  #fill(count, going) {
    const { tiles } = this;
    if (!tiles) return;
    const ids = this.#card.pictures;
    for (let k = 0; k < count; k++) {
      const present = /** @type {HTMLElement | undefined} */ (tiles.children[k]);
      const wanted = ids[k] ?? `wait ${k}`;
      if (present?.dataset.tile === wanted) continue;
      const tile = ids[k] ? this.#picture(ids[k], k, present) : this.#waiting(wanted, going);
      present ? present.replaceWith(tile) : tiles.append(tile);
    }
    while (tiles.children.length > count) tiles.lastElementChild?.remove();
  }

  /** @param {string} id @param {number} k @param {HTMLElement | undefined} before */
  #picture(id, k, before) {
    const last = before?.querySelector("img")?.src;
    const name = t("picture.name", { n: k + 1, words: this.#words() });
    const image = h("img", { src: thumbnailOf(id, this.#card.pictures.length > 1 ? 384 : 768), alt: name, decoding: "async" });
    if (last) image.style.backgroundImage = `url("${last}")`; // the last preview stays until the picture is there
    const drag = (/** @type {DragEvent} */ event) => event.dataTransfer?.setData("application/x-danqing-picture", id);
    const verb = (/** @type {string} */ app) => h("a", { class: "icon-button", href: `/p/${id}?do=${app}`, "aria-label": t(`app.${app}`), title: t(`app.${app}`), tabindex: -1 }, icon(app));
    const tools = h("span", { class: "tile-tools" }, iconButton("star", t("verb.star"), () => star(id), { tabindex: -1 }), verb("remix"), verb("zoom"), verb("pan"));
    return h("div", { class: "tile", "data-tile": id, "data-picture": id }, h("a", { class: "open", href: `/p/${id}`, draggable: "true", ondragstart: drag }, image), h("span", { class: "starred", hidden: true }, icon("star")), tools);
  }

  /** @param {string} name @param {boolean} going */
  #waiting(name, going) {
    return h("div", { class: "tile waiting", "data-tile": name }, h("img", { alt: "", hidden: true }), going ? null : icon("warn"));
  }

  /** Show the last frame: a preview in each tile that has one, and how far it is. */
  #grow() {
    const frame = frames.get(this.#card.key);
    if (!frame || !this.tiles) return;
    for (const tile of /** @type {HTMLElement[]} */ ([...this.tiles.querySelectorAll(".waiting")])) {
      const preview = frame.previews[Number(tile.dataset.tile?.split(" ")[1])];
      const image = tile.querySelector("img");
      if (!preview || !image || image.src === preview) continue;
      image.src = preview;
      image.hidden = false;
    }
    const bar = this.querySelector("progress");
    if (bar && frame.of) {
      bar.max = frame.of;
      bar.value = frame.step;
    }
    const line = this.querySelector(".step");
    if (line) line.textContent = [frame.of ? t("step", { step: frame.step, of: frame.of }) : "", frame.eta ? t("eta", { time: duration(frame.eta) }) : ""].filter(Boolean).join(" · ");
  }

  #stars() {
    for (const tile of /** @type {HTMLElement[]} */ ([...this.querySelectorAll("[data-picture]")])) {
      const mark = /** @type {HTMLElement | null} */ (tile.querySelector(".starred"));
      if (mark) mark.hidden = !pictures.get(tile.dataset.picture ?? "")?.star;
    }
  }

  /** @param {Job | undefined} job @param {boolean} going @returns {Node[]} */
  #foot(job, going) {
    const words = h("p", { class: "card-words" }, this.#parent(), this.#words());
    if (going && job) return [words, this.#progress(job)];
    if (job?.state === "failed" || (job?.state === "cancelled" && !this.#card.pictures.length)) return [words, this.#ended(job)];
    const note = job?.notes[0] ? h("p", { class: "card-note", title: job.notes.join("\n") }, job.notes[0]) : null;
    return [words, note ?? "", this.#verbs()].filter((one) => one !== "").map((one) => /** @type {Node} */ (one));
  }

  /** The picture that it came from, on a line. */
  #parent() {
    const inputs = this.#job?.inputs;
    const named = [inputs?.image ?? inputs?.images ?? []].flat()[0];
    const parent = pictures.get(this.#card.pictures[0])?.parent ?? named;
    const app = this.#job?.app ?? pictures.get(this.#card.pictures[0])?.app ?? "";
    if (!parent) return null;
    return h("a", { class: "parent", href: `/p/${parent}`, "data-parent": parent, title: t("picture.parent") }, h("img", { src: thumbnailOf(parent, 128), alt: t("picture.parent"), width: 28, height: 28 }), h("span", {}, t(`app.${app}`)));
  }

  /** @param {Job} job */
  #progress(job) {
    const waits = job.state === "queued" ? t("position", { n: job.position ?? 1 }) : t(job.cancelling ? "cancelling" : "starting");
    return h("div", { class: "card-progress" },
      h("progress", { max: job.of || 1, ".value": job.of ? job.step : 0, "aria-label": t("progress") }),
      h("span", { class: "step" }, waits),
      h("button", { type: "button", class: "link", disabled: job.cancelling, onclick: () => cancel(job.id) }, t("cancel")));
  }

  /** @param {Job} job */
  #ended(job) {
    const text = job.state === "cancelled" ? t("cancelled") : say(job.error?.message ?? t("fault.internal"));
    return h("div", { class: "card-ended" }, h("p", { class: job.state === "failed" ? "fault" : "" }, text), h("button", { type: "button", class: "link", onclick: this.dismiss }, t("close")));
  }

  /** U1-U4, V1-V4 and reroll of a grid; the same three for one picture. */
  #verbs() {
    const { pictures: ids, job } = this.#card;
    const again = iconButton("reroll", t("verb.reroll"), () => reroll(job, ids[0]));
    if (ids.length === 1) {
      const [id] = ids;
      return h("div", { class: "card-verbs" }, h("button", { type: "button", class: "verb", onclick: () => enlarge(id) }, t("verb.enlarge")), h("button", { type: "button", class: "verb", onclick: () => vary(id) }, t("verb.vary")), again);
    }
    const row = (/** @type {string} */ letter, /** @type {string} */ name, /** @type {(id: string) => unknown} */ action) =>
      h("span", { class: "verb-group", role: "group", "aria-label": t(name) }, ...ids.slice(0, 4).map((id, k) => h("button", { type: "button", class: "verb", title: `${t(name)} ${k + 1}`, "aria-label": `${t(name)} ${k + 1}, ${letter}${k + 1}`, onclick: () => action(id) }, `${letter}${k + 1}`)));
    return h("div", { class: "card-verbs" }, row("U", "verb.enlarge", enlarge), row("V", "verb.vary", vary), again);
  }
}

customElements.define("wall-card", WallCard);
