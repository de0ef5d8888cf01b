"""Routes for the pictures of the gallery."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict

from danqing.core.errors import BadBrief
from danqing.interfaces.server.context import Before, Id, Limit, Owner, StudioParam
from danqing.interfaces.server.files import bare_file, picture_file
from danqing.interfaces.server.views import (
    Page,
    PictureDetails,
    PictureView,
    Tree,
    match_views,
    picture_details,
    picture_views,
)
from danqing.studio.browse import Filter
from danqing.studio.gallery import SIDES, THUMBNAIL

router = APIRouter()


class Which(BaseModel):
    """Which pictures. q: words. like: the id of a picture or an upload. The others filter."""

    model_config = ConfigDict(extra="forbid")

    q: Annotated[str, Query(max_length=1000)] = ""
    like: Annotated[str, Query(max_length=40)] = ""
    app: Annotated[str | None, Query(max_length=100)] = None
    model: Annotated[str | None, Query(max_length=100)] = None
    job: Annotated[str | None, Query(max_length=40)] = None
    star: bool | None = None
    board: Annotated[str | None, Query(max_length=40)] = None
    trash: bool = False
    before: Before = None
    limit: Limit = 50

    def filter(self, owner: str) -> Filter:
        """The conditions in the gallery's form."""
        return Filter(owner, **self.model_dump(exclude={"q", "like"}))


class Change(BaseModel):
    """What to change of a picture. trashed: false takes it back from the trash."""

    model_config = ConfigDict(extra="forbid")

    star: bool | None = None
    trashed: bool | None = None


@router.get("/v1/pictures")
def list_pictures(studio: StudioParam, owner: Owner, which: Annotated[Which, Query()]) -> Page[PictureView]:
    """Pictures, newest first; or by words and meaning; or by likeness."""
    filter_ = which.filter(owner)
    if which.like:
        return Page(data=match_views(studio, studio.like(which.like, filter_)))
    if which.q.strip():
        return Page(data=match_views(studio, studio.search(which.q, filter_)))
    rows = studio.store.browser.page(filter_)
    return Page(data=picture_views(studio, rows), next=rows[-1].id if len(rows) == which.limit else None)


@router.get("/v1/pictures/{picture}")
def get_picture(picture: Id, studio: StudioParam, owner: Owner) -> PictureDetails:
    """A picture with how it was made."""
    return picture_details(studio, studio.store.gallery.get(owner, picture))


@router.patch("/v1/pictures/{picture}")
def change_picture(picture: Id, change: Change, studio: StudioParam, owner: Owner) -> PictureView:
    """Star it, or move it to the trash and back."""
    row = studio.store.gallery.change(owner, picture, star=change.star, trashed=change.trashed)
    studio.notify_clients()
    return picture_views(studio, [row])[0]


@router.delete("/v1/pictures/{picture}", responses={204: {"description": "deleted for ever"}})
def delete_picture(
    picture: Id, response: Response, studio: StudioParam, owner: Owner, forever: bool = False
) -> PictureView | None:
    """Move a picture to the trash; `forever` deletes one that is there."""
    if forever:
        studio.store.gallery.delete(owner, picture)
        studio.notify_clients()
        response.status_code = 204
        return None
    row = studio.store.gallery.change(owner, picture, star=None, trashed=True)
    studio.notify_clients()
    return picture_views(studio, [row])[0]


@router.delete("/v1/trash", status_code=204)
def empty_trash(studio: StudioParam, owner: Owner) -> None:
    """Delete all that is in the trash."""
    studio.store.gallery.empty_trash(owner)
    studio.notify_clients()


@router.get("/v1/pictures/{picture}/file", response_class=FileResponse)
def get_file(
    picture: Id,
    studio: StudioParam,
    owner: Owner,
    metadata: Literal["all", "none"] = "all",
    download: bool = False,
) -> Response:
    """The file itself, or its pixels without what is written in it."""
    row = studio.store.gallery.get(owner, picture)
    path = studio.store.gallery.path(row.file)
    if metadata == "none" and not row.is_film:  # a film has no metadata
        return bare_file(path, download=f"danqing-{row.id}.png" if download else None)
    return picture_file(path, download=f"danqing-{row.id}{path.suffix}" if download else None)


@router.get("/v1/pictures/{picture}/thumbnail", response_class=FileResponse)
def get_thumbnail(picture: Id, studio: StudioParam, owner: Owner, side: int = THUMBNAIL) -> FileResponse:
    """A small WebP. side: of its longer side, in pixels."""
    if side not in SIDES:
        raise BadBrief(f"side {side} is not kept: use {', '.join(map(str, SIDES))}", "side")
    row = studio.store.gallery.get(owner, picture)
    return picture_file(studio.store.gallery.thumbnail(row, side))


@router.get("/v1/pictures/{picture}/tree")
def get_tree(picture: Id, studio: StudioParam, owner: Owner) -> Tree:
    """All that came from the same first picture."""
    rows = studio.store.gallery.tree(owner, picture)
    return Tree(root=rows[0].root, data=picture_views(studio, rows))
