/** Words of the page in the reader's language. */

import { Signal } from "./store.js";

export const LANGUAGES = /** @type {const} */ ({ en: "English", zh: "中文" });

/** @typedef {keyof typeof LANGUAGES} Language */

/** @type {Record<string, string>} */
let words = {};
/** What the server says in English, in the reader's language. @type {Record<string, string>} */
let server = {};
/** Those with {} for what they name, the longest first: pattern and translation. @type {[RegExp, string][]} */
let templates = [];
/** How deep messages within messages are translated. */
const DEPTH_MAX = 3;

/** @returns {Language} */
function preferred() {
  const saved = localStorage.getItem("language");
  if (saved === "en" || saved === "zh") return saved;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export const language = new Signal(preferred());

/** @param {string} file @returns {Promise<Record<string, string>>} */
const load = async (file) => (await fetch(`/static/languages/${file}.json`)).json();

/** Load the words of a language and show them. @param {Language} choice */
export async function speak(choice) {
  words = await load(choice);
  server = choice === "en" ? {} : { ...(await load(`messages.${choice}`)), ...(await load(`server.${choice}`)) };
  templates = patterns(server);
  localStorage.setItem("language", choice);
  document.documentElement.lang = choice === "zh" ? "zh-Hans" : "en";
  language.value = choice;
}

/**
 * The words for a key, with {values} put in.
 * @param {string} key @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  const text = words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/** @param {Record<string, string>} messages @returns {[RegExp, string][]} */
function patterns(messages) {
  const named = Object.keys(messages).filter((text) => text.includes("{}"));
  named.sort((one, other) => other.replaceAll("{}", "").length - one.replaceAll("{}", "").length);
  return named.map((text) => {
    const parts = text.split("{}").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    return [new RegExp(`^${parts.join("([^]*?)")}$`), messages[text]];
  });
}

/**
 * What the server says (titles, hints, choices, messages), translated where it is known.
 * @param {string} text @returns {string}
 */
export function say(text, depth = DEPTH_MAX) {
  if (text in server || depth === 0) return server[text] ?? text;
  for (const [pattern, translation] of templates) {
    const match = pattern.exec(text);
    if (match) return fill(translation, match.slice(1).map((part) => say(part, depth - 1)));
  }
  return text;
}

/** A template with its parts: {} in order, or {0}, {1} by number. @param {string} template @param {string[]} parts */
function fill(template, parts) {
  let next = 0;
  return template.replace(/\{(\d*)\}/g, (_, number) => parts[number === "" ? next++ : Number(number)]);
}

/** The name of a style: cards have "English/Chinese". @param {string} names */
export function styleName(names) {
  const [en, zh = en] = names.split("/");
  return language.value === "zh" ? zh : en;
}

/** @param {string} time @returns {string} */
export function when(time) {
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  /** @type {Intl.DateTimeFormatOptions} */
  const style = today ? { hour: "2-digit", minute: "2-digit" } : { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" };
  return date.toLocaleString(document.documentElement.lang, style);
}

/** How long, in words: 4 s, 3 min. @param {number} seconds */
export function duration(seconds) {
  if (seconds < 90) return t("seconds", { n: Math.max(1, Math.round(seconds)) });
  if (seconds < 5400) return t("minutes", { n: Math.round(seconds / 60) });
  return t("hours", { n: Math.round(seconds / 3600) });
}
