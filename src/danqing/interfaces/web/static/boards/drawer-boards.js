/** The boards: to look at, name and delete; and where one came from a picture, to put it on them. */

import { api } from "../api.js";
import { h, icon, iconButton } from "../dom.js";
import { t } from "../i18n.js";
import { route } from "../router.js";
import { attempt, boards, loadBoards } from "../state.js";

/** @typedef {import("../../types.js").Board} Board */

/** @param {{until: (stop: () => void) => void}} owner @returns {Promise<Node[]>} */
export async function boardList(owner) {
  const picture = route.value.query.get("with") ?? "";
  const [known] = await Promise.all([picture ? attempt(api.picture(picture)) : null, loadBoards()]);
  const on = new Set(known?.boards ?? []);
  const list = h("ul", { class: "boards" });
  const show = () => list.replaceChildren(...boards.value.map((board) => (picture ? choice(board, picture, on) : row(board))));
  show();
  owner.until(boards.watch(show));
  const hint = picture ? null : h("p", { class: "hint" }, t("boards.why"));
  return [...(hint ? [hint] : []), list, form(picture, on)];
}

/** A board that a picture is on or not. @param {Board} board @param {string} picture @param {Set<string>} on */
function choice(board, picture, on) {
  const change = async () => {
    const done = await attempt(box.checked ? api.putOnBoard(board.id, picture) : api.takeOffBoard(board.id, picture));
    if (!done) return (box.checked = !box.checked);
    box.checked ? on.add(board.id) : on.delete(board.id);
    return loadBoards();
  };
  const box = h("input", { type: "checkbox", checked: on.has(board.id), onchange: change });
  return h("li", {}, h("label", { class: "radio" }, box, h("span", {}, board.name)), h("span", { class: "hint" }, String(board.count)));
}

/** @param {Board} board */
function row(board) {
  const rename = async () => {
    const name = prompt(t("boards.name"), board.name);
    if (name !== null && (await attempt(api.renameBoard(board.id, name)))) await loadBoards();
  };
  const remove = async () => {
    if (!confirm(t("boards.sure", { name: board.name }))) return;
    await attempt(api.removeBoard(board.id));
    await loadBoards();
  };
  return h("li", {}, h("a", { href: `/?board=${board.id}` }, board.name), h("span", { class: "hint" }, String(board.count)), iconButton("remix", t("boards.rename", { name: board.name }), rename), iconButton("trash", t("boards.remove", { name: board.name }), remove));
}

/** A new board, and the picture on it if one came from a picture. @param {string} picture @param {Set<string>} on */
function form(picture, on) {
  const add = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.target);
    const board = await attempt(api.addBoard(String(new FormData(form).get("name"))));
    if (!board) return;
    form.reset();
    if (picture && (await attempt(api.putOnBoard(board.id, picture)))) on.add(board.id);
    await loadBoards();
  };
  return h("form", { class: "one-line", onsubmit: add }, h("label", { class: "stacked" }, h("span", {}, t("boards.new")), h("input", { name: "name", type: "text", required: true, maxlength: 60 })), h("button", { type: "submit", class: "secondary" }, icon("board"), t("boards.add")));
}
