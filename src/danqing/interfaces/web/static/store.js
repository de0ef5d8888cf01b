/** Values and tables that tell who listens when they change. */

/**
 * A value that can be watched.
 * @template T
 */
export class Signal {
  /** @type {Set<(value: T) => void>} */
  #listeners = new Set();
  /** @type {T} */
  #value;

  /** @param {T} value */
  constructor(value) {
    this.#value = value;
  }

  get value() {
    return this.#value;
  }

  set value(value) {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const listener of [...this.#listeners]) listener(value);
  }

  /**
   * Call `listener` with each new value; returns what stops it.
   * @param {(value: T) => void} listener
   */
  watch(listener) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}

/**
 * Things by id that can be watched one by one or all together.
 * @template {{id: string}} T
 */
export class Table {
  /** @type {Map<string, T>} */
  #rows = new Map();
  /** @type {Map<string, Set<(row: T | undefined, id: string) => void>>} */
  #listeners = new Map();

  /** @param {string} id */
  get(id) {
    return this.#rows.get(id);
  }

  values() {
    return [...this.#rows.values()];
  }

  /** Add a row, or put its fields over those that are there. @param {T} row */
  put(row) {
    const merged = { ...this.#rows.get(row.id), ...row };
    this.#rows.set(row.id, merged);
    this.#tell(row.id, merged);
    return merged;
  }

  /** @param {string} id */
  drop(id) {
    if (this.#rows.delete(id)) this.#tell(id, undefined);
  }

  /**
   * Call `listener` with a row when it changes, and with undefined when it goes; `"*"` watches all.
   * @param {string} id @param {(row: T | undefined, id: string) => void} listener
   */
  watch(id, listener) {
    const listeners = this.#listeners.get(id) ?? new Set();
    this.#listeners.set(id, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (!listeners.size && this.#listeners.get(id) === listeners) this.#listeners.delete(id);
    };
  }

  /** @param {string} id @param {T | undefined} row */
  #tell(id, row) {
    for (const key of [id, "*"]) for (const listener of [...(this.#listeners.get(key) ?? [])]) listener(row, id);
  }
}
