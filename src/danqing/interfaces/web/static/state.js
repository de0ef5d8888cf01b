/** What the page knows of the server: jobs, pictures, models, apps; kept true by the stream of events. */

import { api, ApiError, listen } from "./api.js";
import { draft, revise } from "./draft.js";
import { say, t } from "./i18n.js";
import { Signal, Table } from "./store.js";

/** @typedef {import("../types.js").Job} Job */
/** @typedef {import("../types.js").Picture} Picture */
/** @typedef {import("../types.js").Frame} Frame */
/** @typedef {import("../types.js").Model} Model */
/** @typedef {import("../types.js").App} App */

/** @type {Table<Job>} */
export const jobs = new Table();
/** @type {Table<Picture>} */
export const pictures = new Table();
/** What running jobs show. @type {Table<Frame>} */
export const frames = new Table();
/** @type {Signal<Model[]>} */
export const models = new Signal(/** @type {Model[]} */ ([]));
/** @type {Signal<App[]>} */
export const apps = new Signal(/** @type {App[]} */ ([]));
/** @type {Signal<import("../types.js").Board[]>} */
export const boards = new Signal(/** @type {import("../types.js").Board[]} */ ([]));
/** What was learned, for `<name>` in a prompt. @type {Signal<{name: string, trigger: string}[]>} */
export const adapters = new Signal(/** @type {{name: string, trigger: string}[]} */ ([]));
export const capabilities = new Signal(/** @type {Record<string, any> | null} */ (null));
/** Who paints here; name: "" where there are no accounts. */
export const me = new Signal(/** @type {{name: string, role: string} | null} */ (null));
export const online = new Signal(true);

/**
 * @typedef {{id: string, text: string, kind: "note" | "fault", action?: {label: string, run: () => void}}} Toast
 * @type {Table<Toast>}
 */
export const toasts = new Table();
let toastCount = 0;

/**
 * Tell the reader something for some seconds.
 * @param {string} text @param {Omit<Toast, "id" | "text" | "kind"> & {kind?: Toast["kind"]}} [options]
 */
export function notify(text, { kind = "note", action } = {}) {
  const id = String(++toastCount);
  toasts.put({ id, text, kind, action });
  setTimeout(() => toasts.drop(id), kind === "fault" ? 9000 : 5000);
}

/** The line for something that went wrong. @param {unknown} error */
export function reason(error) {
  if (!(error instanceof ApiError)) return t("fault.internal");
  if (error.fault.code === "offline") return t("fault.offline");
  return say(error.fault.message);
}

/**
 * The result of an action, or undefined with its fault told.
 * @template T @param {Promise<T>} promise @returns {Promise<T | undefined>}
 */
export async function attempt(promise) {
  try {
    return await promise;
  } catch (error) {
    if (!(error instanceof ApiError)) console.error(error);
    notify(reason(error), { kind: "fault" });
    return undefined;
  }
}

const finished = new Set(["done", "failed", "cancelled"]);

/** Whether a job waits or runs. @param {Job | undefined} job */
export const unfinished = (job) => job !== undefined && !finished.has(job.state);

/** The card of a model. @param {string} name */
export const cardOf = (name) => models.value.find((model) => model.id === name)?.card ?? null;

/** An app with its schema for a model; asked for once. @param {string} name @param {string} model @returns {Promise<App>} */
export function appFor(name, model) {
  const key = `${name} ${model}`;
  const known = schemas.get(key) ?? api.app(name, model);
  schemas.set(key, known);
  known.catch(() => schemas.delete(key));
  return known;
}

/** @type {Map<string, Promise<App>>} */
const schemas = new Map();

/**
 * Start a job; its card appears at once.
 * @param {string} app @param {Record<string, any>} inputs @returns {Promise<Job>}
 */
export async function start(app, inputs) {
  const job = await api.start(app, inputs);
  const known = jobs.get(job.id);
  return known && known.state !== "queued" ? known : jobs.put(job); // its events may have been faster
}

/** Load what the page always needs and follow the events. */
export async function connect() {
  const [caller, listOfApps, listOfModels, running] = await Promise.all([api.me(), api.apps(), api.models(), api.jobs({ state: "queued,running" })]);
  me.value = caller;
  apps.value = listOfApps.data;
  models.value = listOfModels.data;
  chooseModel();
  running.data.forEach((/** @type {Job} */ job) => jobs.put(job));
  void loadAdapters();
  void loadBoards();
  api.capabilities().then((all) => (capabilities.value = all), () => {});
  listen({ job: onJob, picture: onPicture, gallery: onGallery, progress: onProgress, position: onPosition }, (state) => {
    if (state && !online.value) void catchUp();
    online.value = state;
  });
}

/** The prompt bar's model, if the server has it; else one that it has. */
function chooseModel() {
  const known = models.value.some(({ id }) => id === draft.value.model);
  const other = models.value.find(({ card }) => card?.can.includes("words")) ?? models.value[0];
  if (!known && other) revise({ model: other.id, style: "", ar: "", extra: {} });
}

/** After a break: the jobs that were unfinished, as they are now. */
async function catchUp() {
  const stale = jobs.values().filter(unfinished);
  const running = await api.jobs({ state: "queued,running" }).catch(() => ({ data: [] }));
  running.data.forEach(onJob);
  for (const job of stale) api.job(job.id).then(onJob, () => {});
}

async function loadAdapters() {
  adapters.value = (await api.adapters().catch(() => ({ data: [] }))).data;
}

/** The boards as they are now. */
export async function loadBoards() {
  boards.value = (await api.boards().catch(() => ({ data: boards.value }))).data;
}

/** @param {Job} job */
function onJob(job) {
  if (!unfinished(job)) frames.drop(job.id);
  jobs.put(job);
  if (job.state === "done" && job.result?.adapter) void loadAdapters();
}

/** @param {{job: string, index: number, picture: Picture}} event */
function onPicture({ job: id, picture }) {
  pictures.put(picture);
  const job = jobs.get(id);
  if (job && !job.pictures.includes(picture.id)) jobs.put({ ...job, pictures: [...job.pictures, picture.id] });
  if (picture.parent) countChild(picture.parent);
}

/** @param {string} parent */
function countChild(parent) {
  const known = pictures.get(parent);
  if (known) pictures.put({ ...known, children: known.children + 1 });
}

/** @param {{id: string, picture: Picture | null}} event */
function onGallery({ id, picture }) {
  picture ? pictures.put(picture) : pictures.drop(id);
}

/** @param {{job: string, step: number, of: number, message: string, eta: number | null, picture: number, preview: string | null}} event */
function onProgress({ job, step, of, message, eta, picture, preview }) {
  const previews = { ...frames.get(job)?.previews };
  if (preview) previews[picture] = preview;
  frames.put({ id: job, step, of, message, eta, picture, previews });
}

/** @param {{job: string, position: number, eta: number | null}} event */
function onPosition({ job: id, position, eta }) {
  const job = jobs.get(id);
  if (job) jobs.put({ ...job, position, eta });
}
