/** The queue: what runs and waits, with how far it is, and what has just ended. */

import { cancel } from "../actions.js";
import { api, thumbnailOf } from "../api.js";
import { h } from "../dom.js";
import { duration, say, t, when } from "../i18n.js";
import { frames, jobs, unfinished } from "../state.js";

/** @typedef {import("../../types.js").Job} Job */

/** @param {{until: (stop: () => void) => void}} owner @returns {Node[]} */
export function queue(owner) {
  const list = h("div", { class: "queue" });
  const show = () => list.replaceChildren(...rows());
  show();
  owner.until(jobs.watch("*", show));
  owner.until(frames.watch("*", (frame) => frame && advance(list, frame)));
  void api.jobs({ limit: 30 }).then(({ data }) => data.forEach((/** @type {Job} */ job) => jobs.put(job)), () => {});
  return [list];
}

/** @returns {Node[]} */
function rows() {
  const all = jobs.values().sort((a, b) => (a.id < b.id ? 1 : -1));
  const going = all.filter(unfinished).reverse();
  const ended = all.filter((job) => !unfinished(job)).slice(0, 30);
  if (!all.length) return [h("p", { class: "empty" }, t("queue.empty"))];
  return [
    h("h3", {}, t("queue.now")),
    going.length ? h("ul", {}, ...going.map(row)) : h("p", { class: "empty" }, t("queue.idle")),
    ended.length ? h("h3", {}, t("queue.ended")) : "",
    h("ul", {}, ...ended.map(row)),
  ].filter((node) => node !== "").map((node) => /** @type {Node} */ (node));
}

/** @param {Job} job */
function row(job) {
  const going = unfinished(job);
  const words = job.inputs.prompt || job.inputs.name || t(`app.${job.app}`);
  const first = job.pictures[0];
  const picture = first ? h("a", { href: `/p/${first}` }, h("img", { src: thumbnailOf(first, 128), alt: words, width: 48, height: 48, loading: "lazy" })) : h("span", { class: "no-picture" });
  const seconds = job.seconds ? duration(job.seconds) : "";
  const state = job.state === "queued" ? t("position", { n: job.position ?? 1 }) : t(`state.${job.state}`);
  return h("li", { "data-job": job.id }, picture,
    h("div", {},
      h("p", { class: "row-words" }, words),
      h("p", { class: "row-state" }, [t(`app.${job.app}`), state, going ? "" : seconds, going ? "" : when(job.created)].filter(Boolean).join(" · ")),
      job.error && h("p", { class: "fault" }, say(job.error.message)),
      going && h("progress", { max: job.of || 1, ".value": job.step, "aria-label": t("progress") })),
    going && h("button", { type: "button", class: "link", disabled: job.cancelling, onclick: () => cancel(job.id) }, t(job.cancelling ? "cancelling" : "cancel")));
}

/** @param {HTMLElement} list @param {import("../../types.js").Frame} frame */
function advance(list, { id, step, of }) {
  const bar = list.querySelector(`[data-job="${id}"] progress`);
  if (bar && of) Object.assign(bar, { max: of, value: step });
}
