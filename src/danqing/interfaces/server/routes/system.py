"""Routes for the server's capabilities, health and metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

import danqing
from danqing.interfaces.server.callers import Callers
from danqing.interfaces.server.context import StudioParam
from danqing.interfaces.server.metrics import metrics_text
from danqing.studio.requests import studio_apps
from danqing.studio.uploads import BYTES_MAX, PIXELS_MAX

router = APIRouter()


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


@router.get("/v1/capabilities")
def capabilities(studio: StudioParam, request: Request) -> Capabilities:
    """What this server can do, and its limits."""
    models, counts, limits = studio.session.model_places(), studio.store.queue.counts(), studio.options.limits
    callers: Callers = request.app.state.callers
    return Capabilities(
        version=danqing.__version__,
        device=", ".join(studio.options.devices),
        accounts=callers.have_accounts,
        token=callers.have_token,
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
