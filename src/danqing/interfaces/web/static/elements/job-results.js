/** What a job gives, as it comes: pictures that grow, lines of text, rows of figures, or something learned. */

import { cancel } from "../actions.js";
import { h, View } from "../dom.js";
import { revise } from "../draft.js";
import { duration, say, t } from "../i18n.js";
import { go } from "../router.js";
import { frames, jobs, unfinished } from "../state.js";
import { thumbnailOf } from "../api.js";

/** @typedef {import("../../types.js").Job} Job */

class JobResults extends View {
  /** The id of the job. */
  job = "";

  build() {
    this.strip = h("div", { class: "strip" });
    this.line = h("div", { class: "card-progress" });
    this.text = h("div", { class: "result-text" });
    this.replaceChildren(this.strip, this.line, this.text);
    this.#show(jobs.get(this.job));
    this.until(jobs.watch(this.job, (job) => this.#show(job)));
    this.until(frames.watch(this.job, () => this.#grow()));
  }

  /** @param {Job | undefined} job */
  #show(job) {
    if (!job) return;
    const going = unfinished(job);
    const count = Math.max(job.pictures.length, going ? (job.expected ?? (job.app === "learn" ? 1 : 0)) : 0);
    const tiles = Array.from({ length: count }, (_, k) => this.#tile(job.pictures[k], k));
    this.strip?.replaceChildren(...tiles);
    const cancelling = h("button", { type: "button", class: "link", disabled: job.cancelling, onclick: () => cancel(job.id) }, t("cancel"));
    const waits = job.state === "queued" ? t("position", { n: job.position ?? 1 }) : t("starting");
    this.line?.replaceChildren(...(going ? [h("progress", { max: job.of || 1, ".value": job.of ? job.step : 0, "aria-label": t("progress") }), h("span", { class: "step" }, waits), cancelling] : []));
    this.text?.replaceChildren(...this.#notes(job), ...this.#result(job));
    this.#grow();
  }

  /** @param {string | undefined} id @param {number} k */
  #tile(id, k) {
    if (id) return h("a", { class: "tile", href: `/p/${id}`, "data-picture": id }, h("img", { src: thumbnailOf(id), alt: t("picture.name", { n: k + 1, words: jobs.get(this.job)?.inputs.prompt ?? "" }) }));
    return h("div", { class: "tile waiting", "data-tile": String(k) }, h("img", { alt: "", hidden: true }));
  }

  #grow() {
    const frame = frames.get(this.job);
    if (!frame) return;
    for (const tile of /** @type {HTMLElement[]} */ ([...this.querySelectorAll(".waiting")])) {
      const preview = frame.previews[Number(tile.dataset.tile)];
      const image = tile.querySelector("img");
      if (!preview || !image) continue;
      image.src = preview;
      image.hidden = false;
    }
    const bar = this.querySelector("progress");
    if (bar && frame.of) Object.assign(bar, { max: frame.of, value: frame.step });
    const line = this.querySelector(".step");
    if (line) line.textContent = [frame.message, frame.of ? t("step", { step: frame.step, of: frame.of }) : "", frame.eta ? t("eta", { time: duration(frame.eta) }) : ""].filter(Boolean).join(" · ");
  }

  /** @param {Job} job @returns {Node[]} */
  #notes(job) {
    const notes = job.notes.map((note) => h("p", { class: "card-note" }, note));
    if (job.state === "failed") return [...notes, h("p", { class: "fault" }, say(job.error?.message ?? t("fault.internal")))];
    return job.state === "cancelled" ? [...notes, h("p", {}, t("cancelled"))] : notes;
  }

  /** @param {Job} job @returns {Node[]} */
  #result({ result }) {
    if (result?.lines) return [h("ol", { class: "lines" }, ...result.lines.map((line) => h("li", {}, line, h("button", { type: "button", class: "link", onclick: () => this.#use(line) }, t("picture.use-words")))))];
    if (result?.rows) return [this.#table(result.rows)];
    if (result?.adapter) return [h("p", { class: "learned" }, t("learned", { trigger: result.adapter.trigger }), h("button", { type: "button", class: "link", onclick: () => this.#use(`${result.adapter?.trigger} `) }, t("paint")))];
    return [];
  }

  /** @param {string} words */
  #use(words) {
    revise({ prompt: words });
    go("/");
    requestAnimationFrame(() => document.querySelector("textarea")?.focus());
  }

  /** @param {Record<string, any>[]} rows */
  #table(rows) {
    const names = Object.keys(rows[0] ?? {}).filter((name) => typeof rows[0][name] !== "object");
    const cell = (/** @type {any} */ value) => (typeof value === "number" ? String(Math.round(value * 1000) / 1000) : String(value));
    return h("div", { class: "table" }, h("table", {}, h("thead", {}, h("tr", {}, ...names.map((name) => h("th", { scope: "col" }, say(name))))), h("tbody", {}, ...rows.map((row) => h("tr", {}, ...names.map((name) => h("td", {}, cell(row[name]))))))));
  }
}

customElements.define("job-results", JobResults);
