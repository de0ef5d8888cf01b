/** What one can do with pictures, as jobs; the elements call these and keep no logic of their own. */

import { api, fileOf } from "./api.js";
import { draft, refer, revise } from "./draft.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { go, route, setQuery } from "./router.js";
import { appFor, apps, attempt, cardOf, jobs, notify, pictures, start } from "./state.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").Job} Job */

/** Apps with a picture that the page offers as verbs, in this order; the others follow. */
const ORDER = ["upscale", "vary", "redraw", "inpaint", "outpaint", "zoom", "pan", "stylize", "cutout", "edit", "remix", "blend", "describe", "classify", "learn"];

/** Apps that are no verbs of a picture here: the page has other ways for them. */
const ELSEWHERE = new Set(["paint", "imagine", "search", "reroll", "score", "lineage"]);

/** The verbs for a picture that a model can do. @param {string} model @returns {App[]} */
export function verbs(model) {
  const can = cardOf(model)?.can;
  const fits = apps.value.filter((app) => app.images.length && !ELSEWHERE.has(app.name) && (!can || app.needs.every((need) => can.includes(need))));
  const rank = (/** @type {App} */ app) => (ORDER.includes(app.name) ? ORDER.indexOf(app.name) : ORDER.length);
  return fits.sort((a, b) => rank(a) - rank(b));
}

/** The inputs that the prompt bar decides for every job: pace, and the model's own size. @param {string} app */
async function habits(app) {
  const { fast, extra, model } = draft.value;
  const { schema } = await appFor(app, model);
  /** @type {Record<string, any>} */
  const habit = { fast: fast || undefined, native: extra.native };
  return Object.fromEntries(Object.entries(habit).filter(([name, value]) => value && schema && name in schema.properties));
}

/**
 * Start an app on a picture, by the model that painted it.
 * @param {string} app @param {string} id @param {Record<string, any>} [inputs] @returns {Promise<Job | undefined>}
 */
export async function act(app, id, inputs = {}) {
  const model = pictures.get(id)?.model;
  const known = model && cardOf(model) ? { model } : { model: draft.value.model };
  return shown(attempt(habits(app).then((habit) => start(app, { ...habit, ...known, ...inputs, image: id }))));
}

/** Show a job that was started on the wall: it grows at the top, or is told where one is far from it. @param {Promise<Job | undefined>} starting */
async function shown(starting) {
  const job = await starting;
  const toTop = () => scrollTo({ top: 0, behavior: "smooth" });
  if (!job || (route.value.place === "wall" && scrollY < innerHeight)) job && toTop();
  else notify(t("started"), { action: { label: t("show"), run: () => (go("/"), toTop()) } });
  return job;
}

/** @param {string} id */
export const enlarge = (id) => act("upscale", id);
/** @param {string} id */
export const vary = (id) => act("vary", id, { count: 4 });

/** The same words with new seeds. @param {string | null} job @param {string} id a picture of it */
export async function reroll(job, id) {
  if (!job) return act("reroll", id);
  const known = jobs.get(job) ?? (await attempt(api.job(job)));
  if (!known) return undefined;
  const { seed: _, ...inputs } = known.inputs;
  return shown(attempt(start(known.app, inputs)));
}

/** The very picture again. @param {string} id */
export async function paintAgain(id) {
  const { again } = await api.picture(id);
  return again ? attempt(start(again.app, again.inputs)) : notify(t("picture.no-again"), { kind: "fault" });
}

/** @param {string} id */
export async function star(id) {
  const known = pictures.get(id) ?? (await attempt(api.picture(id)));
  if (!known) return;
  const changed = await attempt(api.change(id, { star: !known.star }));
  if (changed) pictures.put(changed);
}

/** @param {string} id */
export async function trash(id) {
  const changed = await attempt(api.trash(id));
  if (!changed) return;
  pictures.put(changed);
  notify(t("picture.trashed"), { action: { label: t("undo"), run: () => restore(id) } });
}

/** @param {string} id */
export async function restore(id) {
  const changed = await attempt(api.change(id, { trashed: false }));
  if (changed) pictures.put(changed);
}

/** @param {string} id */
export function download(id) {
  const href = id.startsWith("u-") ? fileOf(id) : `${fileOf(id)}?download=true`;
  const link = h("a", { href, download: "" });
  document.body.append(link);
  link.click();
  link.remove();
}

/** Put a picture into the prompt bar. @param {string} id @param {"image" | "style_image"} role */
export function useAsReference(id, role = "image") {
  refer(id, role);
  go("/");
  notify(t(role === "image" ? "reference.start" : "reference.style"));
}

/** Words, style and seed of a picture into the prompt bar. @param {string} prompt @param {string} [style] */
export function useWords(prompt, style = "") {
  revise({ prompt, style });
  go("/");
}

/** @param {string} id */
export const cancel = (id) => attempt(api.cancel(id).then((job) => jobs.put(job)));

/** Send files to the server; what it refuses is told. @param {Iterable<File>} files @returns {Promise<string[]>} */
export async function upload(files) {
  const images = [...files].filter((file) => file.type.startsWith("image/"));
  if (!images.length) notify(t("drop.no-picture"), { kind: "fault" });
  const results = await Promise.all(images.map((file) => attempt(api.upload(file))));
  results.flatMap((one) => one?.notes ?? []).forEach((note) => notify(note));
  return results.flatMap((one) => (one ? [one.id] : []));
}

/** Send files and show what can be done with them. @param {Iterable<File>} files */
export async function offer(files) {
  const ids = await upload(files);
  if (ids.length) setQuery({ drawer: "dropped", with: ids.join(",") });
}
