"""Picture files as HTTP responses."""

from __future__ import annotations

from pathlib import Path

from fastapi.responses import FileResponse, Response

from danqing.studio.errors import NotThere
from danqing.studio.exports import bare_png

TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
_CACHE = {"Cache-Control": "private, max-age=31536000, immutable"}


def picture_file(path: Path, *, download: str | None = None) -> FileResponse:
    """A file that never changes.

    download: file name for saving; None shows it in the browser.

    Raises:
        NotThere: the file is gone.
    """
    if not path.is_file():
        raise NotThere("the file of this picture is gone: restore it from a backup")
    return FileResponse(path, media_type=TYPES[path.suffix], filename=download, headers=_CACHE)


def bare_file(path: Path, *, download: str | None = None) -> Response:
    """A picture as a PNG of the same pixels, without metadata. Raises NotThere."""
    attachment = {"Content-Disposition": f'attachment; filename="{download}"'} if download else {}
    return Response(bare_png(path), media_type="image/png", headers={**_CACHE, **attachment})
