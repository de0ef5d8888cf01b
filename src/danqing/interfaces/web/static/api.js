/** The only door to the server: requests, faults and the stream of events. */

/** @typedef {import("../types.js").Fault} Fault */

/** What the server refused, in the one line that it said. */
export class ApiError extends Error {
  /** @param {number} status @param {Fault} fault */
  constructor(status, fault) {
    super(fault.message);
    this.status = status;
    this.fault = fault;
  }
}

/** Called when the server does not know who asks. @type {{ask: () => void}} */
export const login = { ask: () => {} };

/**
 * @param {string} method @param {string} path @param {any} [body] JSON, or a Blob as it is
 * @param {Record<string, string>} [headers]
 * @returns {Promise<any>}
 */
async function request(method, path, body, headers = {}) {
  const raw = body instanceof Blob;
  if (body !== undefined) headers["Content-Type"] = raw ? body.type || "application/octet-stream" : "application/json";
  /** @type {Response} */
  let response;
  try {
    response = await fetch(path, { method, headers, body: raw ? body : body && JSON.stringify(body), credentials: "same-origin" });
  } catch {
    throw new ApiError(0, { code: "offline", message: "", field: null, fix: null });
  }
  if (response.status === 401 && path !== "/v1/login") login.ask();
  if (!response.ok) throw new ApiError(response.status, await faultOf(response));
  return response.status === 204 ? null : response.json();
}

/** @param {Response} response @returns {Promise<Fault>} */
async function faultOf(response) {
  try {
    return (await response.json()).error;
  } catch {
    return { code: "internal", message: `${response.status} ${response.statusText}`, field: null, fix: null };
  }
}

/** A query string of what is given. @param {Record<string, string | number | undefined | null>} values */
export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(given.map(([key, value]) => [key, String(value)])).toString();
  return text && `?${text}`;
}

const name = encodeURIComponent;

export const api = {
  wayIn: () => request("GET", "/v1/login"),
  /** @param {Record<string, any>} known name and password, or a token */
  login: (known) => request("POST", "/v1/login", known),
  logout: () => request("POST", "/v1/logout"),
  me: () => request("GET", "/v1/me"),
  /** @param {string} old @param {string} next */
  changePassword: (old, next) => request("POST", "/v1/me/password", { old, new: next }),
  tokens: () => request("GET", "/v1/tokens"),
  /** @param {string} label */
  addToken: (label) => request("POST", "/v1/tokens", { label }),
  /** @param {string} id */
  removeToken: (id) => request("DELETE", `/v1/tokens/${name(id)}`),
  users: () => request("GET", "/v1/users"),
  /** @param {Record<string, any>} user */
  addUser: (user) => request("POST", "/v1/users", user),
  /** @param {string} user @param {{role: string}} change */
  changeUser: (user, change) => request("PATCH", `/v1/users/${name(user)}`, change),
  /** @param {string} user @param {string} heir */
  removeUser: (user, heir) => request("DELETE", `/v1/users/${name(user)}${query({ heir })}`),
  capabilities: () => request("GET", "/v1/capabilities"),
  apps: () => request("GET", "/v1/apps"),
  /** @param {string} app @param {string} model */
  app: (app, model) => request("GET", `/v1/apps/${name(app)}${query({ model })}`),
  models: () => request("GET", "/v1/models"),
  /** @param {string} model */
  words: (model) => request("GET", `/v1/models/${name(model)}/words`),
  /** @param {string} model */
  warm: (model) => request("POST", `/v1/models/${name(model)}/warm`, {}),
  adapters: () => request("GET", "/v1/adapters"),
  /** @param {Blob} file */
  upload: (file) => request("POST", "/v1/uploads", file),
  /** @param {string} id */
  uploaded: (id) => request("GET", `/v1/uploads/${name(id)}`),
  /** @param {string} app @param {Record<string, any>} inputs */
  start: (app, inputs) => request("POST", "/v1/jobs", { app, inputs }, { "Idempotency-Key": randomKey() }),
  /** @param {Record<string, any>} filters */
  jobs: (filters) => request("GET", `/v1/jobs${query(filters)}`),
  /** @param {string} id */
  job: (id) => request("GET", `/v1/jobs/${name(id)}`),
  /** @param {string} id */
  cancel: (id) => request("DELETE", `/v1/jobs/${name(id)}`),
  /** @param {Record<string, any>} filters */
  pictures: (filters) => request("GET", `/v1/pictures${query(filters)}`),
  /** @param {string} id */
  picture: (id) => request("GET", `/v1/pictures/${name(id)}`),
  /** @param {string} id */
  tree: (id) => request("GET", `/v1/pictures/${name(id)}/tree`),
  /** @param {string} id @param {{star?: boolean, trashed?: boolean}} change */
  change: (id, change) => request("PATCH", `/v1/pictures/${name(id)}`, change),
  /** @param {string} id */
  trash: (id) => request("DELETE", `/v1/pictures/${name(id)}`),
  boards: () => request("GET", "/v1/boards"),
  /** @param {string} board */
  addBoard: (board) => request("POST", "/v1/boards", { name: board }),
  /** @param {string} id @param {string} board */
  renameBoard: (id, board) => request("PATCH", `/v1/boards/${name(id)}`, { name: board }),
  /** @param {string} id */
  removeBoard: (id) => request("DELETE", `/v1/boards/${name(id)}`),
  /** @param {string} id @param {string} picture */
  putOnBoard: (id, picture) => request("PUT", `/v1/boards/${name(id)}/pictures/${name(picture)}`),
  /** @param {string} id @param {string} picture */
  takeOffBoard: (id, picture) => request("DELETE", `/v1/boards/${name(id)}/pictures/${name(picture)}`),
  emptyTrash: () => request("DELETE", "/v1/trash"),
};

/** `crypto.randomUUID` needs HTTPS or localhost; this does not. */
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16)).join("");
}

/** Where the file of a picture or an upload is. @param {string} id */
export const fileOf = (id) => (id.startsWith("u-") ? `/v1/uploads/${id}/file` : `/v1/pictures/${id}/file`);

/** A small one. @param {string} id @param {128 | 384 | 768} [side] */
export const thumbnailOf = (id, side = 384) => (id.startsWith("u-") ? fileOf(id) : `/v1/pictures/${id}/thumbnail?side=${side}`);

/**
 * Listen to all events of the caller; the browser reconnects with `Last-Event-ID`, and a stream that was
 * refused is tried again.
 * @param {Record<string, (data: any) => void>} handlers by event
 * @param {(online: boolean) => void} onState
 */
export function listen(handlers, onState) {
  let wait = 1000;
  const open = () => {
    const source = new EventSource("/v1/events");
    for (const [event, handle] of Object.entries(handlers)) {
      source.addEventListener(event, (message) => handle(JSON.parse(/** @type {MessageEvent} */ (message).data)));
    }
    source.onopen = () => {
      wait = 1000;
      onState(true);
    };
    source.onerror = () => {
      onState(false);
      if (source.readyState !== EventSource.CLOSED) return;
      void api.me().catch(() => {}); // it may be that one has to log in again
      setTimeout(open, wait);
      wait = Math.min(wait * 2, 15000);
    };
  };
  open();
}
