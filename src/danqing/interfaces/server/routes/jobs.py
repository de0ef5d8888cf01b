"""Routes for jobs and their events."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from danqing.core.errors import BadBrief
from danqing.interfaces.server.context import Before, HubParam, Id, Limit, Owner, StudioParam
from danqing.interfaces.server.hub import Listener
from danqing.interfaces.server.views import JobView, Page, job_view, job_views
from danqing.studio.errors import NotThere
from danqing.studio.events import last_event_of
from danqing.studio.jobs import OVER, STATES

router = APIRouter()

Key = Annotated[str | None, Header(max_length=200, alias="Idempotency-Key")]
LastEvent = Annotated[str | None, Header(max_length=20, alias="Last-Event-ID")]
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "server-sent events"}
}
_NO_BUFFER = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class JobRequest(BaseModel):
    """What is wanted of an app."""

    model_config = ConfigDict(extra="forbid")

    app: str = Field(max_length=100, examples=["paint"])
    inputs: dict[str, Any] = Field(
        default_factory=dict, max_length=100, examples=[{"prompt": "a red apple, 3d style", "count": 4}]
    )


@router.post("/v1/jobs", status_code=202)
def submit(
    wanted_job: JobRequest,
    request: Request,
    response: Response,
    studio: StudioParam,
    owner: Owner,
    key: Key = None,
) -> JobView:
    """Ask for something. What is wrong without opening a model is refused at once."""
    request.state.inputs = wanted_job.inputs
    row = studio.submit(owner, wanted_job.app, wanted_job.inputs, key)
    response.headers["Location"] = f"/v1/jobs/{row.id}"
    return job_view(studio, row)


@router.get("/v1/jobs")
def list_jobs(
    studio: StudioParam,
    owner: Owner,
    state: Annotated[str, Query(max_length=60, description="some of the states, separated by commas")] = "",
    app: Annotated[str | None, Query(max_length=100)] = None,
    before: Before = None,
    limit: Limit = 50,
) -> Page[JobView]:
    """Jobs, newest first."""
    states = [part.strip() for part in state.split(",") if part.strip()]
    for unknown_state in set(states) - set(STATES):
        raise BadBrief(f"state {unknown_state!r} is none: use {', '.join(STATES)}", "state")
    rows = studio.store.queue.page(owner, states=states, app=app, before=before, limit=limit)
    return Page(data=job_views(studio, rows), next=rows[-1].id if len(rows) == limit else None)


@router.get("/v1/jobs/{job}")
def get_job(job: Id, studio: StudioParam, owner: Owner) -> JobView:
    """One job."""
    return job_view(studio, studio.store.queue.get(owner, job))


@router.delete("/v1/jobs/{job}")
def cancel_job(job: Id, studio: StudioParam, owner: Owner) -> JobView:
    """Cancel a job: at once where it waits, within a step where it runs."""
    return job_view(studio, studio.cancel(owner, job))


@router.get("/v1/jobs/{job}/preview")
def get_preview(job: Id, studio: StudioParam, owner: Owner) -> Response:
    """The last preview of a running job."""
    studio.store.queue.get(owner, job)
    frame = studio.pool.frames.get(job)
    if frame is None or frame.preview is None:
        raise NotThere(f"job {job} has no preview now: ask for its pictures")
    return Response(frame.preview, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


@router.get("/v1/jobs/{job}/events", responses=_STREAM, response_class=StreamingResponse)
def job_events(job: Id, studio: StudioParam, hub: HubParam, owner: Owner, last: LastEvent = None) -> Response:
    """The events of a job; ends when it is over. Who has them all gets 204, which ends an EventSource."""
    row = studio.store.queue.get(owner, job)
    with studio.store.database.read() as session:
        newest = last_event_of(session, job)
    if row.state in OVER and last is not None and last.isdecimal() and int(last) >= newest:
        return Response(status_code=204)
    return _stream(hub, Listener(owner, job), last)


@router.get("/v1/events", responses=_STREAM, response_class=StreamingResponse)
def all_events(hub: HubParam, owner: Owner, last: LastEvent = None) -> StreamingResponse:
    """The events of all jobs and pictures of the caller."""
    return _stream(hub, Listener(owner), last)


def _stream(hub: HubParam, listener: Listener, last: str | None) -> StreamingResponse:
    after = int(last) if last is not None and last.isdecimal() else None
    return StreamingResponse(hub.stream(listener, after), media_type="text/event-stream", headers=_NO_BUFFER)
