/** The cards of the wall: pictures page by page, grouped by their jobs, newest first; kept true by events. */

import { api } from "./api.js";
import { jobs, pictures, unfinished } from "./state.js";

/** @typedef {import("../types.js").WallCard} WallCard */
/** @typedef {import("../types.js").Job} Job */
/** @typedef {import("../types.js").Picture} Picture */
/** @typedef {import("../types.js").Filters} Filters */

const PAGE = 120;

/** Apps whose jobs stand on the wall while they run, besides those that paint. */
const SHOWN = new Set(["learn", "animate", "lineage"]);

export class Feed {
  /** @type {Map<string, WallCard>} */
  #cards = new Map();
  /** @type {WallCard[] | null} */
  #order = null;
  /** @type {string | null} */
  #next = "";
  /** @type {Promise<void> | null} */
  #busy = null;
  /** @type {unknown} */
  error = null;

  /** @param {Filters} filters @param {() => void} onChange */
  constructor(filters, onChange) {
    this.filters = filters;
    this.onChange = onChange;
    this.search = Boolean(filters.q || filters.like);
    this.live = !Object.values(filters).some(Boolean);
    const stops = [jobs.watch("*", (job) => job && this.#onJob(job)), pictures.watch("*", (picture, id) => this.#onPicture(picture, id))];
    this.stop = () => stops.forEach((stop) => stop());
    if (this.live) jobs.values().forEach((job) => this.#onJob(job));
  }

  /** Whether there is nothing further to load. */
  get complete() {
    return this.#next === null;
  }

  /** All cards: in a search the best first, else the newest. */
  get cards() {
    const cards = [...this.#cards.values()];
    this.#order ??= this.search ? cards : cards.sort((a, b) => (a.key < b.key ? 1 : -1));
    return this.#order;
  }

  /** Load what follows; calls while it loads are one. */
  more() {
    if (this.complete) return Promise.resolve();
    this.#busy ??= this.#load().finally(() => (this.#busy = null));
    return this.#busy;
  }

  async #load() {
    try {
      const page = await api.pictures({ ...this.filters, before: this.#next, limit: PAGE });
      this.#next = page.next;
      this.error = null;
      page.data.forEach((/** @type {Picture} */ picture) => this.#add(picture));
      page.data.forEach((/** @type {Picture} */ picture) => pictures.put(picture));
    } catch (error) {
      this.error = error;
    }
    this.#changed();
  }

  /** @param {Picture} picture */
  #add(picture) {
    const key = this.search ? picture.id : (picture.job ?? picture.id);
    const card = this.#cards.get(key) ?? { key, job: picture.job, pictures: [] };
    if (!card.pictures.includes(picture.id)) card.pictures = [...card.pictures, picture.id].sort();
    this.#cards.set(key, card);
    this.#order = null;
  }

  /** @param {Job} job */
  #onJob(job) {
    const known = this.#cards.has(job.id);
    const paints = job.expected !== null || SHOWN.has(job.app);
    if (!this.live || known || !paints || !unfinished(job)) return;
    this.#cards.set(job.id, { key: job.id, job: job.id, pictures: [...job.pictures] });
    this.#changed();
  }

  /** @param {Picture | undefined} picture @param {string} id */
  #onPicture(picture, id) {
    const inTrash = Boolean(this.filters.trash);
    const unstarred = this.filters.star === "true" && picture && !picture.star;
    if (!picture || Boolean(picture.trashed) !== inTrash || unstarred) return this.#remove(id);
    const card = this.#cards.get(picture.job ?? picture.id);
    if (!this.live || card?.pictures.includes(id) || (!card && this.#older(picture))) return;
    this.#add(picture);
    this.#changed();
  }

  /** Whether a picture belongs to a page that is not loaded yet. @param {Picture} picture */
  #older(picture) {
    return !this.complete && (this.#next === "" || picture.id < String(this.#next));
  }

  /** @param {string} id */
  #remove(id) {
    for (const card of this.#cards.values()) {
      if (!card.pictures.includes(id)) continue;
      card.pictures = card.pictures.filter((one) => one !== id);
      if (!card.pictures.length) this.#cards.delete(card.key);
      return this.#changed();
    }
  }

  /** Take a card away, such as that of a failed job. @param {string} key */
  dismiss(key) {
    this.#cards.delete(key);
    this.#changed();
  }

  #changed() {
    this.#order = null;
    this.onChange();
  }
}
