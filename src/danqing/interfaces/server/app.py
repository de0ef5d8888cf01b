"""The server as one ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

import danqing
from danqing.interfaces.server.callers import Callers
from danqing.interfaces.server.dialects import a1111, a1111_controlnet, a1111_lists, openai
from danqing.interfaces.server.errors import Dialects, ErrorResponse, install
from danqing.interfaces.server.guard import Guard, GuardOptions
from danqing.interfaces.server.hub import Hub
from danqing.interfaces.server.login_attempts import LoginAttempts
from danqing.interfaces.server.page import add_page, static_folder
from danqing.interfaces.server.routes import accounts, apps, boards, jobs, pictures, system, uploads
from danqing.studio.service import Studio

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse} for status in (401, 403, 404, 409, 413, 415, 422, 429, 507)
}


def create_app(studio: Studio, options: GuardOptions | None = None, *, page: bool = True) -> Guard:
    """The application, which starts and stops `studio`.

    options: for the checks of every request.
    page: whether to serve the page too, and not only the API.
    """
    options, dialects = options or GuardOptions(), Dialects()
    app = FastAPI(
        title="danqing",
        version=danqing.__version__,
        summary="Paints from words.",
        docs_url=None,  # FastAPI's pages of documentation load scripts from other servers
        redoc_url=None,
        lifespan=_lifespan,
        responses=_ERRORS,
    )
    app.state.studio, app.state.hub = studio, Hub(studio)
    app.state.callers, app.state.login_attempts = (
        Callers(studio.store.accounts, options.token),
        LoginAttempts(),
    )
    app.state.a1111_models = {}
    dialects.add("/v1/images", openai.error_body)
    dialects.add("/sdapi/", a1111.error_body)
    dialects.add("/controlnet/", a1111.error_body)
    install(app, dialects)
    dialect_modules = (openai, a1111, a1111_lists, a1111_controlnet)
    for module in (apps, uploads, jobs, pictures, boards, accounts, system, *dialect_modules):
        app.include_router(module.router)
    if page and (static_folder() / "index.html").is_file():
        add_page(app)
    guard = Guard(app, options, app.state.callers, dialects, app.state.hub.close)
    app.state.requests = guard.counts
    return guard


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    studio: Studio = app.state.studio
    hub: Hub = app.state.hub
    hub.start(asyncio.get_running_loop())
    await asyncio.to_thread(studio.start)
    yield
    hub.close()
    await asyncio.to_thread(studio.stop)
