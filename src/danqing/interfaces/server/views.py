"""Jobs, pictures and uploads as clients see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

from danqing.conditioning.parameters import literal
from danqing.interfaces.server.errors import ErrorBody
from danqing.studio.browse import Match
from danqing.studio.jobs import OVER
from danqing.studio.service import Studio
from danqing.studio.tables import JobRow, PictureRow, UploadRow

T = TypeVar("T")

_FROM_PICTURES = ("image", "mask", "strength")


class Page(BaseModel, Generic[T]):
    """A part of a list. next: for `before`, to get what follows; None at the end."""

    data: list[T]
    next: str | None = None


class PictureView(BaseModel):
    """A picture of the gallery."""

    id: str = Field(examples=["01M8GVC346CM0MX1NQZRDSH3JT"])
    job: str | None
    index: int
    app: str = Field(examples=["paint"])
    model: str = Field(examples=["stickers"])
    prompt: str = Field(examples=["a red apple, 3d style"])
    seed: int | None
    width: int
    height: int
    format: str = Field(examples=["png"])
    bytes: int
    created: str
    star: bool
    trashed: str | None
    parent: str | None
    sources: list[str]
    children: int
    score: float | None = None
    match: str | None = None
    file: str
    thumbnail: str


class RepaintRequest(BaseModel):
    """A job that paints the same pixels."""

    app: str
    inputs: dict[str, Any]


class PictureDetails(PictureView):
    """A picture with all that is known of it. boards: the ids of those that it is on."""

    brief: dict[str, Any]
    info: dict[str, Any]
    again: RepaintRequest | None
    boards: list[str]


class Tree(BaseModel):
    """All pictures that came from the same first one."""

    root: str
    data: list[PictureView]


class JobView(BaseModel):
    """A job."""

    id: str = Field(examples=["01M8GVBGWHEKW492QABR99E149"])
    app: str = Field(examples=["paint"])
    inputs: dict[str, Any] = Field(examples=[{"prompt": "a red apple, 3d style", "seed": 7}])
    state: str = Field(examples=["queued"])
    cancelling: bool
    position: int | None
    eta: float | None
    step: int
    of: int
    message: str
    preview: str | None
    expected: int | None
    notes: list[str]
    pictures: list[str]
    result: dict[str, Any] | None
    error: ErrorBody | None
    tries: int
    created: str
    started: str | None
    finished: str | None
    seconds: float | None


class UploadView(BaseModel):
    """A picture that was given."""

    id: str = Field(examples=["u-0123456789abcdef0123456789abcdef"])
    width: int
    height: int
    format: str
    bytes: int
    created: str
    notes: list[str]
    brief: dict[str, Any] | None
    picture: str | None
    file: str


def iso(seconds: float | None) -> str | None:
    """A time in ISO 8601, UTC, to the millisecond."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time(seconds: float) -> str:
    return str(iso(seconds))


def job_views(studio: Studio, rows: Sequence[JobRow]) -> list[JobView]:
    """Jobs in their present state, for their owner."""
    pictures, places = studio.store.gallery.of_jobs([row.id for row in rows]), studio.places()
    return [_job_view(studio, row, pictures[row.id], places.get(row.id)) for row in rows]


def job_view(studio: Studio, row: JobRow) -> JobView:
    """A job in its present state, for its owner."""
    return job_views(studio, [row])[0]


def _job_view(studio: Studio, row: JobRow, pictures: list[str], place: Any) -> JobView:
    frame = studio.pool.frames.get(row.id) if row.state == "running" else None
    over = row.state in OVER
    begun = row.started is not None and row.finished is not None
    return JobView(
        id=row.id,
        app=row.app,
        inputs=row.inputs,
        state=row.state,
        cancelling=row.cancelling,
        position=None if over or place is None else place.position,
        eta=None if over or place is None else place.eta,
        step=frame.step if frame else 0,
        of=frame.of if frame else 0,
        message=frame.message if frame else "",
        preview=f"/v1/jobs/{row.id}/preview" if frame and frame.preview else None,
        expected=row.expected,
        notes=row.notes,
        pictures=pictures,
        result=row.result,
        error=None if row.error is None else ErrorBody(**row.error),
        tries=row.claims,
        created=_time(row.created),
        started=iso(row.started),
        finished=iso(row.finished),
        seconds=round((row.finished or 0) - (row.started or 0), 3) if begun else None,
    )


def picture_views(studio: Studio, rows: Sequence[PictureRow]) -> list[PictureView]:
    """Pictures, for their owner."""
    children = studio.store.gallery.children([row.id for row in rows])
    return [PictureView(**_facts(row, children.get(row.id, 0))) for row in rows]


def match_views(studio: Studio, matches: Sequence[Match]) -> list[PictureView]:
    """Results of a search."""
    views = picture_views(studio, [match.row for match in matches])
    return [
        view.model_copy(update={"score": match.score and round(match.score, 4), "match": match.by})
        for view, match in zip(views, matches, strict=True)
    ]


def picture_details(studio: Studio, row: PictureRow) -> PictureDetails:
    """A picture with all that is known of it."""
    children = studio.store.gallery.children([row.id]).get(row.id, 0)
    boards = list(studio.store.boards.of_picture(row.id))
    return PictureDetails(
        **_facts(row, children), brief=row.brief, info=row.info, again=repaint_request(row), boards=boards
    )


def repaint_request(row: PictureRow) -> RepaintRequest | None:
    """A request that paints the picture again: its brief, or its app and input pictures; None if unknown."""
    if row.is_film:  # a film has no brief
        return None
    app = row.info.get("app", "") if row.app == "import" else row.app
    if app in ("paint", "imagine", "reroll", "lineage") and row.brief.get("image") is None:
        fields = {name: v for name, v in row.brief.items() if v is not None and name not in _FROM_PICTURES}
        return RepaintRequest(app="paint", inputs={**fields, "prompt": literal(str(row.brief["prompt"]))})
    # an import's inputs name files elsewhere
    inputs = {} if row.app == "import" else row.info.get("inputs") or {}
    return RepaintRequest(app=row.info["app"], inputs=inputs) if inputs else None


def _facts(row: PictureRow, children: int) -> dict[str, Any]:
    names = ("id", "job", "index", "app", "model", "prompt", "seed", "width", "height", "format", "star")
    return {
        **{name: getattr(row, name) for name in (*names, "parent", "sources")},
        "bytes": row.size,
        "created": _time(row.created),
        "trashed": iso(row.trashed),
        "children": children,
        "file": f"/v1/pictures/{row.id}/file",
        "thumbnail": f"/v1/pictures/{row.id}/thumbnail",
    }


def upload_view(studio: Studio, row: UploadRow) -> UploadView:
    """An upload, for its owner."""
    return UploadView(
        id=row.id,
        width=row.width,
        height=row.height,
        format=row.format,
        bytes=row.size,
        created=_time(row.created),
        notes=row.notes,
        brief=row.brief,
        picture=studio.store.gallery.by_pixels(row.owner, row.pixels),
        file=f"/v1/uploads/{row.id}/file",
    )
