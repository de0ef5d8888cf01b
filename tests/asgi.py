"""A server without a socket, for tests: all of its routes, and a client for one request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import httpx2
from starlette.routing import Mount

from danqing.interfaces.server.guard import Guard
from danqing.interfaces.server.page import MESSAGES

OPEN = {"/health", "/v1/login", "/", "/p/{picture}", "/learn", "/learn/{chapter}", MESSAGES}
"""Routes that anybody may use."""

Call = tuple[str, str]
"""Method and path."""


def calls(app: Guard) -> list[Call]:
    """Method and path of every route."""
    routes = list(_flat(app._app.routes))
    known = [(method, route.path) for route in routes for method in sorted(route.methods - {"HEAD"})]
    assert len(known) > 70
    return known


def _flat(routes: Any) -> Iterator[Any]:
    """The routes of an application and of the routers in it; files below /static are asked for apart."""
    for route in routes:
        if hasattr(route, "original_router"):
            yield from _flat(route.original_router.routes)
        elif not isinstance(route, Mount):
            yield route


def ask(app: Guard, method: str, path: str, **options: Any) -> httpx2.Response:
    async def send() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:7860") as client:
            return await client.request(method, path, **options)

    return asyncio.run(asyncio.wait_for(send(), 60))  # a stream would never end


def filled(path: str, value: str = "01ARZ3NDEKTSV4RRFFQ69G5FAV") -> str:
    return re.sub(r"\{[^}]+\}", lambda _: value, path)
