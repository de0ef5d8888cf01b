/** The drawer at the side: queue, models, settings, accounts, boards, keys, what can be done with dropped pictures. */

import { h, iconButton, View } from "../dom.js";
import { t } from "../i18n.js";
import { route, setQuery } from "../router.js";
import { dropped } from "./drawer-dropped.js";
import { keys, settings } from "./drawer-settings.js";
import { modelList } from "./drawer-models.js";
import { queue } from "./drawer-queue.js";

/** @typedef {{until: (stop: () => void) => void}} Owner */

/** What fills a drawer, and keeps it true until the owner leaves. @type {Record<string, (owner: Owner) => Node[] | Promise<Node[]>>} */
const DRAWERS = { queue, models: modelList, settings, account, people, boards, keys, dropped };

/** Who only paints need not load what concerns accounts and boards. */
async function account() {
  const drawer = await import("../accounts/drawer-account.js");
  return drawer.account();
}

async function people() {
  const drawer = await import("../accounts/drawer-people.js");
  return drawer.people();
}

/** @param {Owner} owner */
async function boards(owner) {
  const drawer = await import("../boards/drawer-boards.js");
  return drawer.boardList(owner);
}

/** One closed it; where another address has closed it, `with` may belong to that one. */
function closed() {
  if (route.value.query.has("drawer")) setQuery({ drawer: null, with: null });
}

class DrawerBody extends View {
  name = "";

  async build() {
    this.replaceChildren(...(await DRAWERS[this.name](this)));
  }
}

class SideDrawer extends View {
  /** The drawer that is shown, and its pictures. */
  opened = "";

  build() {
    this.dialog = h("dialog", { class: "drawer", onclose: closed, onclick: (/** @type {Event} */ event) => event.target === this.dialog && this.dialog.close() });
    this.replaceChildren(this.dialog);
    this.opened = "";
    this.#show();
    this.until(route.watch(() => this.#show()));
  }

  #show() {
    const name = route.value.query.get("drawer") ?? "";
    const wanted = name in DRAWERS ? name : "";
    const key = `${wanted} ${route.value.query.get("with") ?? ""}`;
    if (!this.dialog || key === this.opened) return;
    this.opened = key;
    if (!wanted) return this.dialog.open ? this.dialog.close() : undefined;
    this.dialog.setAttribute("aria-label", t(`drawer.${wanted}`));
    this.dialog.replaceChildren(h("div", { class: "drawer-inner" }, h("div", { class: "drawer-head" }, h("h2", {}, t(`drawer.${wanted}`)), iconButton("close", t("close"), () => this.dialog?.close())), h("drawer-body", { ".name": wanted })));
    if (!this.dialog.open) this.dialog.showModal();
  }
}

customElements.define("drawer-body", DrawerBody);
customElements.define("side-drawer", SideDrawer);
