"""Uploaded pictures: validated once, stored by a digest of their content."""

from __future__ import annotations

import hashlib
import io
import re
import time
import warnings
from pathlib import Path
from threading import BoundedSemaphore

from PIL import Image, UnidentifiedImageError
from sqlalchemy import select

from danqing.studio.database import Database
from danqing.studio.errors import NotThere, TooLarge, UnsupportedFormat
from danqing.studio.files import replace_durably
from danqing.studio.image_refs import read_as
from danqing.studio.tables import UploadRow

BYTES_MAX = 64 * 2**20
PIXELS_MAX = 32_000_000
# MPO: a phone's JPEG that contains previews
FORMATS = {"PNG": "png", "JPEG": "jpg", "MPO": "jpg", "WEBP": "webp"}
_PATTERN = re.compile(r"u-[0-9a-f]{32}")
_ONE_BY_ONE = BoundedSemaphore(2)  # a picture of 32 megapixels takes 256 MB of memory while it is read


def is_upload_id(text: str) -> bool:
    """Whether `text` has the form of an upload's id."""
    return _PATTERN.fullmatch(text) is not None


class Uploads:
    """The uploads in a folder and a database."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database, self._folder = database, folder / "uploads"

    def add(self, owner: str, data: bytes) -> UploadRow:
        """Validate and store a picture.

        Raises:
            UnsupportedFormat: it is not a PNG, JPEG or WebP.
            TooLarge: there are too many bytes or pixels.
            BadPicture: it is damaged.
            StorageFull: the disk is full.
        """
        if len(data) > BYTES_MAX:
            raise TooLarge(f"the picture has {len(data) >> 20} MB: use one of at most {BYTES_MAX >> 20} MB")
        name = "u-" + hashlib.sha256(data).hexdigest()[:32]
        with self._database.read() as session:
            known_row = session.get(UploadRow, (name, owner))
        if known_row is not None and self._path(known_row).exists():
            return known_row
        with _ONE_BY_ONE:
            row = self._check(owner, name, data)
        with self._database.write() as session:
            return session.merge(row)

    def get(self, owner: str, upload: str) -> UploadRow:
        """An upload of an owner. Raises NotThere."""
        with self._database.read() as session:
            row = session.get(UploadRow, (upload, owner))
        if row is None:
            raise NotThere(f"no upload {upload!r}: check the id, or upload the picture again")
        return row

    def path(self, owner: str, upload: str) -> Path:
        """The path of an upload's file. Raises NotThere."""
        return self._path(self.get(owner, upload))

    def delete_all(self, owner: str) -> None:
        """Delete all uploads of an owner; files that others have uploaded too stay."""
        with self._database.write() as session:
            rows = session.scalars(select(UploadRow).where(UploadRow.owner == owner)).all()
            for row in rows:
                session.delete(row)
        kept = self.names()
        for path in map(self._path, rows):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def names(self) -> set[str]:
        """The names of the files of all uploads."""
        with self._database.read() as session:
            return {self._path(row).name for row in session.scalars(select(UploadRow)).all()}

    def _path(self, row: UploadRow) -> Path:
        return self._folder / f"{row.id}.{row.format}"

    def _check(self, owner: str, name: str, data: bytes) -> UploadRow:
        draft_format = _format_of(data)
        path = self._folder / f"{name}.{draft_format}"
        with replace_durably(path) as draft:
            draft.write_bytes(data)
            source = read_as(draft, "the picture")
        return UploadRow(
            id=name,
            owner=owner,
            width=source.image.width,
            height=source.image.height,
            format=draft_format,
            size=len(data),
            created=time.time(),
            pixels=source.id,
            notes=list(source.notes),
            brief=None if source.brief is None else source.brief.model_dump(mode="json"),
        )


def _format_of(data: bytes) -> str:
    """The file ending of a picture's format, read from its header.

    Raises:
        UnsupportedFormat: it is not a PNG, JPEG or WebP.
        TooLarge: it has too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns at a limit below ours
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
                width, height, name = image.width, image.height, str(image.format)
    except Image.DecompressionBombError:
        raise TooLarge(f"more than {PIXELS_MAX // 10**6} megapixels: use a smaller picture") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise UnsupportedFormat("not a PNG, JPEG or WebP picture: use one of them") from None
    if width * height > PIXELS_MAX:
        raise TooLarge(
            f"{width}x{height} is more than {PIXELS_MAX // 10**6} megapixels: use a smaller picture"
        )
    return FORMATS[name]
