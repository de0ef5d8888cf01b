"""Routes for uploaded pictures, which apps take as inputs."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from danqing.interfaces.server.context import Id, Owner, StudioParam
from danqing.interfaces.server.files import picture_file
from danqing.interfaces.server.views import UploadView, upload_view

router = APIRouter()

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/png", "image/jpeg", "image/webp")
        },
    }
}


@router.post("/v1/uploads", status_code=201, openapi_extra=_BODY)
async def upload(request: Request, studio: StudioParam, owner: Owner) -> UploadView:
    """Give a picture; the body is its bytes. The same bytes have the same id."""
    data = await request.body()
    row = await run_in_threadpool(studio.store.uploads.add, owner, data)
    return await run_in_threadpool(upload_view, studio, row)


@router.get("/v1/uploads/{upload}")
def get_upload(upload: Id, studio: StudioParam, owner: Owner) -> UploadView:
    """What is known of an upload."""
    return upload_view(studio, studio.store.uploads.get(owner, upload))


@router.get("/v1/uploads/{upload}/file", response_class=FileResponse)
def get_upload_file(upload: Id, studio: StudioParam, owner: Owner) -> FileResponse:
    """The bytes of an upload."""
    return picture_file(studio.store.uploads.path(owner, upload))
