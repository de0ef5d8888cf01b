"""Files of pictures as responses."""

from __future__ import annotations

import io
from pathlib import Path

from fastapi.responses import FileResponse, Response
from PIL import Image

from danqing.studio.errors import NotThere

TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
_CACHE = {"Cache-Control": "private, max-age=31536000, immutable"}


def picture_file(path: Path, *, download: str | None = None) -> FileResponse:
    """A file that never changes. download: the name under which it is to be saved.

    Raises:
        NotThere: the file is gone.
    """
    if not path.is_file():
        raise NotThere("the file of this picture is gone: restore it from a backup")
    return FileResponse(path, media_type=TYPES[path.suffix], filename=download, headers=_CACHE)


def bare_file(path: Path, *, download: str | None = None) -> Response:
    """A picture as a PNG of the same pixels, without what is written in it. Raises NotThere."""
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            image.load()
            pixels = Image.frombytes(image.mode, image.size, image.tobytes())
    except FileNotFoundError:
        raise NotThere("the file of this picture is gone: restore it from a backup") from None
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG")
    attachment = {"Content-Disposition": f'attachment; filename="{download}"'} if download else {}
    return Response(buffer.getvalue(), media_type="image/png", headers={**_CACHE, **attachment})
