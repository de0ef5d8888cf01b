"""What the server is and how it does."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

import danqing
from danqing.interfaces.server.context import StudioParam
from danqing.interfaces.server.guard import COOKIE, GuardOptions, is_token
from danqing.interfaces.server.metrics import metrics_text
from danqing.studio.requests import studio_apps
from danqing.studio.uploads import BYTES_MAX, PIXELS_MAX

router = APIRouter()

_TRIES, _MINUTE = 5, 60.0
_YEAR = 365 * 24 * 3600


class Capabilities(BaseModel):
    """What this server can do, and its limits."""

    version: str
    device: str
    accounts: bool
    token: bool
    apps: list[str]
    models: list[str]
    search: dict[str, bool]
    limits: dict[str, int]
    queue: dict[str, int]


class Login(BaseModel):
    """The token that the server was started with."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=500)


@router.get("/v1/capabilities")
def capabilities(studio: StudioParam, request: Request) -> Capabilities:
    """What this server can do, and its limits."""
    models, counts, limits = studio.session.model_places(), studio.store.queue.counts(), studio.options.limits
    options: GuardOptions = request.app.state.guard_options
    return Capabilities(
        version=danqing.__version__,
        device=", ".join(studio.options.devices),
        accounts=False,
        token=options.token is not None,
        apps=studio_apps(),
        models=list(models),
        search={"words": True, "meaning": studio.pool.workers > 0},
        limits={
            "upload_bytes": BYTES_MAX,
            "upload_pixels": PIXELS_MAX,
            "waiting": limits.waiting,
            "waiting_per_user": limits.waiting_per_user,
        },
        queue={
            "waiting": counts["queued"],
            "running": counts["running"],
            "workers": studio.pool.workers,
        },
    )


@router.post("/v1/login", status_code=204)
def login(login: Login, request: Request, response: Response) -> None:
    """Get the cookie of someone who knows the token."""
    options: GuardOptions = request.app.state.guard_options
    tries: dict[str, deque[float]] = request.app.state.logins
    client, now = request.client.host if request.client else "", time.monotonic()
    mine = tries.setdefault(client, deque(maxlen=_TRIES))
    if len(mine) == _TRIES and now - mine[0] < _MINUTE:
        raise HTTPException(429, "too many tries: wait a minute", {"Retry-After": str(round(_MINUTE))})
    if options.token is not None and not is_token(login.token, options):
        mine.append(now)
        raise HTTPException(401, "this is not the token: see what the server printed at its start")
    mine.clear()
    response.set_cookie(COOKIE, options.cookie, max_age=_YEAR, httponly=True, samesite="strict")


@router.get("/health")
def health(studio: StudioParam, response: Response) -> dict[str, str]:
    """Whether the server can work."""
    try:
        studio.store.queue.counts()
    except SQLAlchemyError:
        response.status_code = 503
        return {"status": "no database"}
    return {"status": "ok"}


@router.get("/metrics")
def metrics(studio: StudioParam, request: Request) -> Response:
    """Figures for Prometheus."""
    counts: Any = request.app.state.requests
    return Response(metrics_text(studio, counts), media_type="text/plain; version=0.0.4")
