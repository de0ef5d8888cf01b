/** The page: what is common to all places, and which place is shown. */

import "./elements/drawers.js";
import "./elements/drop-target.js";
import "./elements/login-place.js";
import "./elements/picture-view.js";
import "./elements/prompt-bar.js";
import "./elements/toast-list.js";
import "./elements/top-bar.js";
import "./elements/wall-place.js";
import { api, login } from "./api.js";
import { h } from "./dom.js";
import { language, speak, t } from "./i18n.js";
import { listenToKeys } from "./keys.js";
import { followLinks, route } from "./router.js";
import { connect, reason } from "./state.js";

const PLACES = { wall: "wall-place", picture: "picture-view", learn: "learn-place" };

const place = h("main", { id: "place", tabindex: -1 });

/** @param {import("./router.js").Route} current @param {boolean} [anew] */
function show({ place: name, id }, anew = false) {
  const key = `${name} ${name === "wall" ? "" : id}`;
  if (place.dataset.key === key && !anew) return;
  if (name === "learn") void import("./learn/learn-place.js"); // who only paints need not load it
  const moved = place.dataset.key !== undefined;
  place.dataset.key = key;
  document.title = name === "wall" ? t("title") : `${t(`place.${name}`)} · ${t("title")}`;
  place.replaceChildren(h(PLACES[name], name === "wall" ? {} : { "picture": id }));
  if (!moved || anew) return;
  place.focus({ preventScroll: true });
  if (name !== "wall") scrollTo(0, 0);
}

function build() {
  document.body.replaceChildren(
    h("a", { class: "skip", href: "#place" }, t("skip")),
    h("top-bar"),
    place,
    h("side-drawer"),
    h("drop-target"),
    h("toast-list", { role: "status", "aria-live": "polite" }),
  );
  show(route.value, true);
}

/** A token in the address's fragment becomes a cookie, and leaves the address. */
async function signIn() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState({}, "", location.pathname + location.search);
  await api.login({ token });
}

/** @param {unknown} error */
function cannotStart(error) {
  const again = h("button", { type: "button", class: "primary", onclick: () => location.reload() }, t("again"));
  document.body.replaceChildren(h("main", { class: "notice" }, h("img", { src: "/static/seal.svg", alt: "", width: 64 }), h("h1", {}, t("fault.start")), h("p", {}, reason(error)), again));
}

/** The way in, in place of all else; who comes in sees the same address. */
function askWhoItIs() {
  if (document.querySelector("login-place")) return;
  document.body.replaceChildren(h("login-place"));
}

async function begin() {
  await speak(language.value);
  login.ask = askWhoItIs;
  followLinks();
  listenToKeys();
  try {
    await signIn().then(connect);
  } catch (error) {
    const wanted = /** @type {{status?: number}} */ (error).status === 401;
    if (!wanted) return cannotStart(error);
    return askWhoItIs();
  }
  build();
  language.watch(() => document.querySelector("login-place") ?? build());
  route.watch((current) => show(current));
}

void begin();
