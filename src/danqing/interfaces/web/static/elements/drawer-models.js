/** The models: what each is and can do; one press makes it the prompt bar's. */

import { api } from "../api.js";
import { draft, revise } from "../draft.js";
import { h, icon } from "../dom.js";
import { say, styleName, t } from "../i18n.js";
import { attempt, models } from "../state.js";

/** @typedef {import("../../types.js").Model} Model */

/** @param {{until: (stop: () => void) => void}} owner @returns {Node[]} */
export function modelList(owner) {
  const list = h("ul", { class: "models" });
  const show = () => {
    list.replaceChildren(...[...models.value].sort((a, b) => rank(b) - rank(a)).map(entry));
  };
  show();
  owner.until(models.watch(show));
  owner.until(draft.watch(show));
  void api.models().then(({ data }) => (models.value = data), () => {});
  return [list];
}

/** The chosen model first, then the newest idea. @param {Model} model */
const rank = ({ id, card }) => (id === draft.value.model ? 9999 : (card?.year ?? 0));

/** @param {Model} model */
function entry({ id, warm, card }) {
  const chosen = draft.value.model === id;
  const choose = () => {
    revise({ model: id, style: "", ar: "", extra: {} });
    if (!warm) void attempt(api.warm(id));
  };
  const button = h("button", { type: "button", class: chosen ? "secondary" : "primary", "aria-pressed": String(chosen), onclick: choose }, chosen ? icon("check") : null, t(chosen ? "model.chosen" : "model.choose"));
  return h("li", { class: chosen ? "chosen" : "" }, h("h3", {}, id, h("span", { class: "year" }, String(card?.year ?? ""))), ...(card ? facts(id, warm, card) : []), button);
}

/** What a card tells. @param {string} id @param {boolean} warm @param {import("../../types.js").Card} card */
function facts(id, warm, card) {
  const line = [`${card.width * card.scale} × ${card.height * card.scale}`, card.licence, /^\d{4}\.\d{4,5}$/.test(card.paper) ? `arXiv ${card.paper}` : "", warm ? t("model.warm") : ""];
  return [
    h("p", {}, say(card.summary)),
    h("p", { class: "hint" }, line.filter(Boolean).join(" · ")),
    Object.keys(card.styles).length ? h("p", { class: "tags" }, ...Object.values(card.styles).map((names) => h("span", {}, styleName(names)))) : null,
    h("p", { class: "tags quiet" }, ...card.can.map((skill) => h("span", {}, t(`can.${skill}`)))),
    card.closed_vocabulary ? vocabulary(id) : null,
  ];
}

/** The words that a model has learned, when one asks. @param {string} id */
function vocabulary(id) {
  const list = h("p", { class: "vocabulary" });
  const open = async () => {
    if (!details.open || list.childElementCount) return;
    const words = await attempt(api.words(id));
    const language = document.documentElement.lang.startsWith("zh") ? "zh" : "en";
    list.replaceChildren(...(words?.data ?? []).map((/** @type {{en: string, zh: string}} */ word) => h("button", { type: "button", class: "word", onclick: () => add(word[language]) }, word[language])));
  };
  const details = h("details", { ontoggle: open }, h("summary", {}, t("model.words")), list);
  return details;
}

/** @param {string} word */
function add(word) {
  const { prompt } = draft.value;
  revise({ prompt: prompt ? `${prompt} ${word}` : word });
}
