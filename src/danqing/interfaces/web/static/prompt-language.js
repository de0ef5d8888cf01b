/** What of a prompt is not a word: parameters, weights, schedules and learned names, as the server reads them. */

/** @typedef {{name: string, value: string}} Mark */

/** Parameters of Midjourney that danqing knows, and their other spellings. @type {Record<string, string>} */
const PARAMETERS = {
  ar: "shape", aspect: "shape", s: "stylize", stylize: "stylize", c: "chaos", chaos: "chaos", w: "weird", weird: "weird",
  no: "no", seed: "seed", tile: "tile", iw: "image", sref: "style", sw: "style", q: "quality", quality: "quality", raw: "raw", style: "style",
};

/** @type {[string, RegExp, (match: RegExpMatchArray) => string][]} */
const FORMS = [
  ["weight", /\(([^()]+):(\d*\.?\d+)\)/g, (match) => `${match[1].trim()} × ${match[2]}`],
  ["change", /\[([^[\]:|]*):([^[\]:|]*):(\d*\.?\d+)\]/g, (match) => `${match[1] || "–"} → ${match[2] || "–"} · ${match[3]}`],
  ["turns", /\[([^[\]|]+(?:\|[^[\]|]+)+)\]/g, (match) => match[1].split("|").map((part) => part.trim()).join(" ⇄ ")],
  ["choice", /\{([^{}]+\|[^{}]+)\}/g, (match) => match[1].split("|").map((part) => part.trim()).join(" / ")],
  ["learned", /<(?:lora:)?([\w-]+)(?::[\d.]+)?>/g, (match) => match[1]],
  ["part", /\bBREAK\b/g, () => "BREAK"],
];

/** The marks of a prompt, in the order of their kinds. @param {string} prompt @returns {Mark[]} */
export function understood(prompt) {
  const marks = FORMS.flatMap(([name, pattern, value]) => [...prompt.matchAll(pattern)].map((match) => ({ name, value: value(match) })));
  const parameters = [...prompt.matchAll(/(?:^|\s)(?:--|—)([a-z]+)(?:\s+((?!--|—)[^\s]+(?:\s+(?!--|—)[^\s]+)*))?/gi)];
  for (const [, key, value = ""] of parameters) {
    const name = PARAMETERS[key.toLowerCase()];
    if (name) marks.push({ name, value: value.trim() });
  }
  return marks;
}
