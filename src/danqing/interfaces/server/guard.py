"""Checks that every request must pass: host, origin, caller, type and size of the body.

They run before all routes, so that a new route is protected automatically.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from danqing.interfaces.server.access import is_open, least_role
from danqing.interfaces.server.callers import Callers
from danqing.interfaces.server.errors import Dialects
from danqing.studio.errors import record
from danqing.studio.uploads import BYTES_MAX

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

LOCAL = ("127.0.0.1", "localhost", "::1")
ANY = ("0.0.0.0", "::")  # noqa: S104 RUF100  addresses, which are compared with

_JSON_MAX = 2 * 2**20
_UPLOAD = ("image/png", "image/jpeg", "image/webp")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; worker-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True)
class Body:
    """Limits for the bodies of some routes.

    types: allowed content types.
    most: largest size in bytes.
    """

    types: tuple[str, ...] = ("application/json",)
    most: int = _JSON_MAX


_BODIES = {
    "/v1/uploads": Body(_UPLOAD, BYTES_MAX),
    "/v1/images/edits": Body(("multipart/form-data",), 4 * BYTES_MAX),
    "/v1/images/variations": Body(("multipart/form-data",), BYTES_MAX),
    "/sdapi/": Body(most=4 * BYTES_MAX),
    "/controlnet/": Body(most=4 * BYTES_MAX),
}


@dataclass(frozen=True)
class GuardOptions:
    """How requests are checked.

    host: the address to which the server is bound.
    token: see `Callers`.
    public_url: the server's URL behind a proxy.
    bodies: prefix of a path -> limits of its bodies; other paths take JSON.
    """

    host: str = "127.0.0.1"
    token: str | None = None
    public_url: str | None = None
    bodies: dict[str, Body] = field(default_factory=lambda: dict(_BODIES))

    @property
    def names(self) -> tuple[str, ...]:
        """The allowed values of a request's Host header."""
        return (*LOCAL, self.host, urlsplit(self.public_url or "").hostname or self.host)


class Guard:
    """An ASGI application that checks requests and passes them to another one.

    callers: identifies the caller.
    counts: (method, status) -> number of requests.
    close: a function that ends the event streams, which would run for ever otherwise.
    """

    def __init__(
        self,
        app: AsgiApp,
        options: GuardOptions,
        callers: Callers,
        dialects: Dialects,
        close: Callable[[], None],
    ) -> None:
        self._app, self._options, self._dialects, self.close = app, options, dialects, close
        self.callers = callers
        self.counts: Counter[tuple[str, int]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a connection; see the ASGI specification."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the other kind is a websocket, and there are none
            await send({"type": "websocket.close", "code": 1008})
            return
        send = self._with_headers(scope, send)
        headers = Headers(scope=scope)
        try:
            self._check_origin(scope, headers)
            await self._check_caller(scope, headers)
            receive = self._limit_body(scope, headers, receive)
        except HTTPException as error:
            body = record(error.detail, (error.headers or {})["message"])
            more = {"WWW-Authenticate": "Bearer"} if error.status_code == 401 else {}
            response = self._dialects.response(
                scope["path"], error.status_code, body, {"connection": "close", **more}
            )
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Raises HTTPException: host or origin are not allowed."""
        host = headers.get("host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if self._options.host not in ANY and name not in self._options.names:
            _refuse(
                403, "forbidden", f"host {name[:60]!r} is not that of this server: use {self._options.host}"
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            _refuse(403, "forbidden", f"a page of {origin[:60]!r} may not use this server: open its own page")
        outside = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if outside and not (scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"):
            _refuse(403, "forbidden", "a page of another site may not use this server: open its own page")

    async def _check_caller(self, scope: Scope, headers: Headers) -> None:
        """Store the caller's identity in the scope.

        Raises:
            HTTPException: the caller is unknown or may not do this.
        """
        state = scope.setdefault("state", {})
        if is_open(scope["path"]):
            return
        identity = await run_in_threadpool(self.callers.identify, headers)
        if identity is None:
            _refuse(401, "unauthorized", "this server needs a token: send it as Authorization: Bearer TOKEN")
        least = least_role(scope["method"], scope["path"])
        if identity.role.rank < least.rank:
            _refuse(403, "forbidden", f"{identity.role.value}s may not do this: ask an admin")
        state["identity"] = identity

    def _limit_body(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        """A `receive` that stops a request whose body is too large.

        Raises:
            HTTPException: the size or the type is not allowed.
        """
        path, size = scope["path"], headers.get("content-length")
        body = next((b for start, b in self._options.bodies.items() if path.startswith(start)), Body())
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        has_body = size not in (None, "0") or "transfer-encoding" in headers
        if has_body and kind not in body.types:
            _refuse(
                415, "unsupported_media_type", f"Content-Type {kind[:60]!r}: send {' or '.join(body.types)}"
            )
        if size is not None and (not size.isdecimal() or int(size) > body.most):
            _refuse(413, "too_large", f"the body has {size[:20]} bytes: send at most {body.most}")
        count = 0

        async def receive_limited() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > body.most:
                raise HTTPException(413, f"the body is too large: send at most {body.most} bytes")
            return message

        return receive_limited

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.counts[scope["method"], message["status"]] += 1
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        return sending


def _refuse(status: int, code: str, message: str) -> NoReturn:
    raise HTTPException(status, code, {"message": message})
