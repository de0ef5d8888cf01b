/** The bar on top: the seal, the places, and the drawers with what they count. */

import { h, icon, seal, View } from "../dom.js";
import { language, LANGUAGES, speak, t } from "../i18n.js";
import { route, setQuery } from "../router.js";
import { jobs, online, unfinished } from "../state.js";

class TopBar extends View {
  build() {
    const count = h("span", { class: "badge", hidden: true });
    const offline = h("p", { class: "offline", role: "status", hidden: online.value }, t("offline"));
    const wall = h("a", { href: "/" }, t("place.wall"));
    const learn = h("a", { href: "/learn" }, t("place.learn"));
    this.replaceChildren(
      h("header", {},
        h("a", { class: "home", href: "/", "aria-label": t("title") }, seal(), h("span", { class: "wordmark" }, "danqing", h("span", { lang: "zh" }, "丹青"))),
        h("nav", { "aria-label": t("places") }, wall, learn),
        h("div", { class: "tools" },
          this.#opener("queue", count), this.#opener("models"), this.#opener("settings"), this.#language()),
      ),
      offline,
    );
    this.#follow(wall, learn);
    this.#countJobs(count);
    this.until(online.watch((state) => (offline.hidden = state)));
  }

  /** @param {HTMLElement} wall @param {HTMLElement} learn */
  #follow(wall, learn) {
    const mark = () => {
      for (const [link, place] of /** @type {const} */ ([[wall, "wall"], [learn, "learn"]])) {
        route.value.place === place ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
      }
    };
    mark();
    this.until(route.watch(mark));
  }

  /** @param {HTMLElement} count */
  #countJobs(count) {
    const show = () => {
      const n = jobs.values().filter(unfinished).length;
      count.hidden = n === 0;
      count.textContent = String(n);
    };
    show();
    this.until(jobs.watch("*", show));
  }

  /** @param {string} drawer @param {...Node} extra */
  #opener(drawer, ...extra) {
    const name = t(`drawer.${drawer}`);
    const shape = { queue: "queue", models: "model", settings: "settings" }[drawer] ?? "more";
    const open = () => setQuery({ drawer: route.value.query.get("drawer") === drawer ? null : drawer });
    return h("button", { type: "button", class: "tool", title: name, onclick: open }, icon(shape), h("span", { class: "label" }, name), ...extra);
  }

  /** One press changes to the other language; its name is written in itself. */
  #language() {
    const other = language.value === "zh" ? "en" : "zh";
    return h("button", { type: "button", class: "tool language", lang: other, "aria-label": LANGUAGES[other], onclick: () => speak(other) }, other === "zh" ? "中" : "EN");
  }
}

customElements.define("top-bar", TopBar);
