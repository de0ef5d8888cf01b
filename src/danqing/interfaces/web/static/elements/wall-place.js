/** The wall: the prompt bar, examples, filters, and all work, newest first. Only what is on the screen is there. */

import "./example-grid.js";
import "./wall-card.js";
import { h, icon, iconButton, svg, View } from "../dom.js";
import { Feed } from "../feed.js";
import { t } from "../i18n.js";
import { route, setQuery } from "../router.js";
import { api } from "../api.js";
import { apps, attempt, boards, reason } from "../state.js";
import { VirtualGrid } from "./virtual-grid.js";

/** @typedef {import("../../types.js").Filters} Filters */

const FILTERS = /** @type {const} */ (["q", "like", "app", "model", "star", "board", "trash"]);

class WallPlace extends View {
  /** The filters that are shown. */
  key = "";

  build() {
    this.key = "";
    this.grid = h("div", { class: "cards", role: "feed", "aria-label": t("wall.work"), "aria-busy": "true" });
    this.state = h("div", { class: "wall-state" });
    this.examples = h("example-grid", { hidden: true });
    this.hero = h("div", { class: "hero" });
    this.line = svg("svg", { class: "wall-line", "aria-hidden": "true" });
    this.replaceChildren(this.line, h("h1", { class: "hidden" }, t("place.wall")), h("prompt-bar"), this.hero, this.examples, this.#filters(), this.grid, this.state);
    this.virtual = new VirtualGrid(this.grid, (card) => h("wall-card", { ".card": card, ".dismiss": () => this.feed?.dismiss(card.key) }), () => this.#near());
    this.virtual.onRendered = () => this.#join();
    this.until(() => this.virtual?.stop());
    this.until(() => this.feed?.stop());
    this.#open();
    this.until(route.watch(() => this.#open()));
  }

  /** @returns {Filters} */
  #wanted() {
    const { query } = route.value;
    return Object.fromEntries(FILTERS.filter((name) => query.get(name)).map((name) => [name, query.get(name)]));
  }

  #open() {
    const filters = this.#wanted();
    const key = JSON.stringify(filters);
    if (key === this.key || route.value.place !== "wall") return;
    this.key = key;
    this.feed?.stop();
    this.feed = new Feed(filters, () => this.#show());
    this.#mark(filters);
    this.#show();
    void this.feed.more();
  }

  #near() {
    if (this.feed && !this.feed.complete && !this.feed.error) void this.feed.more();
  }

  #show() {
    const { feed, grid, virtual } = this;
    if (!feed || !grid || !virtual || !this.examples || !this.state) return;
    const first = feed.live && feed.cards[0]?.job ? feed.cards[0] : null;
    this.#showHero(first);
    virtual.show(first ? feed.cards.slice(1) : feed.cards);
    grid.setAttribute("aria-busy", String(!feed.complete && !feed.cards.length));
    const empty = feed.complete && !feed.cards.length;
    this.examples.hidden = !(feed.live && feed.complete && feed.cards.length < 4);
    this.examples.toggleAttribute("data-small", !empty);
    this.toggleAttribute("data-empty", empty && feed.live);
    this.toggleAttribute("data-few", feed.live && feed.complete && feed.cards.length < 2);
    this.state.replaceChildren(...this.#notes(empty));
  }

  /** The newest work is large, so that one sees it grow. @param {import("../../types.js").WallCard | null} card */
  #showHero(card) {
    const shown = /** @type {any} */ (this.hero?.firstElementChild);
    if (card && shown?.card.key === card.key) shown.card = card;
    else this.hero?.replaceChildren(...(card ? [h("wall-card", { ".card": card, ".wide": true, ".dismiss": () => this.feed?.dismiss(card.key) })] : []));
  }

  /** A line from the newest work to the picture that it came from, where that is on the wall. */
  #join() {
    const chip = /** @type {HTMLElement | null} */ (this.hero?.querySelector("[data-parent]") ?? null);
    const parent = chip && this.grid?.querySelector(`.tile[data-picture="${CSS.escape(chip.dataset.parent ?? "")}"]`);
    if (!chip || !parent) return this.line?.replaceChildren();
    const here = this.getBoundingClientRect();
    const from = parent.getBoundingClientRect();
    const tiles = [...(this.hero?.querySelectorAll(".tile") ?? [])].map((tile) => tile.getBoundingClientRect());
    const foot = Math.max(...tiles.map((tile) => tile.bottom));
    const ends = tiles.filter((tile) => tile.bottom > foot - 2).map((tile) => tile.left + tile.width / 2 - here.left);
    const start = from.left + from.width / 2 - here.left;
    const rail = foot - here.top + 14;
    const drops = ends.map((x) => `M${x} ${rail}V${rail - 10}`).join("");
    const across = `M${Math.min(start, ...ends)} ${rail}H${Math.max(start, ...ends)}`;
    this.line?.replaceChildren(svg("path", { d: `M${start} ${from.top - here.top}V${rail}${across}${drops}` }), svg("circle", { cx: start, cy: from.top - here.top, r: 3 }));
  }

  /** @param {boolean} empty @returns {Node[]} */
  #notes(empty) {
    if (this.feed?.error) {
      return [h("p", {}, reason(this.feed.error)), h("button", { type: "button", class: "secondary", onclick: () => this.feed?.more() }, t("again"))];
    }
    if (!empty) return [];
    return [h("p", {}, t(this.feed?.live ? "wall.empty" : "wall.nothing"))];
  }

  #filters() {
    const search = h("input", { type: "search", id: "search", placeholder: t("search.placeholder"), "aria-label": t("search"), enterkeyhint: "search" });
    /** @type {number | undefined} */
    let timer;
    const type = () => {
      clearTimeout(timer);
      timer = setTimeout(() => setQuery({ q: search.value.trim(), like: null }, { replace: true }), 300);
    };
    search.addEventListener("input", type);
    const app = h("select", { "aria-label": t("filter.app"), onchange: () => setQuery({ app: app.value }) }, h("option", { value: "" }, t("filter.app.all")), ...apps.value.filter((one) => one.output === "pictures").map((one) => h("option", { value: one.name }, t(`app.${one.name}`))));
    const star = h("button", { type: "button", class: "toggle", onclick: () => setQuery({ star: route.value.query.get("star") ? null : "true" }) }, icon("star"), t("filter.star"));
    const board = h("select", { "aria-label": t("filter.board"), onchange: () => chooseBoard() });
    const listBoards = () => {
      const all = boards.value.map(({ id, name }) => h("option", { value: id }, name));
      board.replaceChildren(h("option", { value: "" }, t(all.length ? "filter.board.all" : "drawer.boards")), ...all, h("option", { value: "+" }, t("filter.board.more")));
      board.value = route.value.query.get("board") ?? "";
    };
    const chooseBoard = () => {
      const chosen = board.value;
      listBoards();
      setQuery(chosen === "+" ? { drawer: "boards" } : { board: chosen });
    };
    listBoards();
    this.until(boards.watch(listBoards));
    const like = h("span", { class: "filter-like" });
    const trash = h("span", { class: "filter-trash" });
    this.#mark = (filters) => {
      if (document.activeElement !== search) search.value = filters.q ?? "";
      app.value = filters.app ?? "";
      board.value = filters.board ?? "";
      star.setAttribute("aria-pressed", String(Boolean(filters.star)));
      like.replaceChildren(...(filters.like ? [t("filter.like"), iconButton("close", t("filter.clear"), () => setQuery({ like: null }))] : []));
      trash.replaceChildren(...(filters.trash ? this.#trash() : []));
    };
    return h("div", { class: "filters", role: "search", "aria-label": t("search") }, h("label", { class: "search" }, icon("search"), search), app, board, star, like, trash);
  }

  #trash() {
    const empty = async () => {
      if (!confirm(t("trash.sure"))) return;
      await attempt(api.emptyTrash());
      setQuery({ trash: null });
    };
    return [t("trash"), h("button", { type: "button", class: "secondary", onclick: empty }, t("trash.empty")), iconButton("close", t("filter.clear"), () => setQuery({ trash: null }))];
  }

  /** @type {(filters: Filters) => void} */
  #mark = () => {};
}

customElements.define("wall-place", WallPlace);
