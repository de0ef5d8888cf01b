"""A picture together with the metadata of how it was made, and its file formats."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile, PngInfo

from danqing.core.brief import ResolvedBrief
from danqing.core.errors import BadPicture
from danqing.core.files import add_file, atomic_write
from danqing.core.metadata import DANQING, PARAMETERS, Info, read_json, write_a1111, write_json

Writer = Callable[["Picture", Path | BinaryIO], None]
FORMATS = ("PNG", "JPEG", "WebP")  # the formats that danqing writes
PIXELS_MAX = 100_000_000  # as the largest cameras have; a small malicious file can claim far more
_BYTES_MAX = 512 * 2**20  # of a picture from a pipe, which may never end

_EXIF, _USER_COMMENT, _MAKER_NOTE = 0x8769, 0x9286, 0x927C
_UNICODE, _OURS = b"UNICODE\0", b"danqing\0"
_COMMENT = b"danqing: "  # precedes our metadata in the comment of a GIF
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    KeyError,
    IndexError,
    TypeError,
)


@dataclass(frozen=True)
class Picture:
    """An image, the resolved brief that paints it again, and the rest of its metadata."""

    image: Image.Image
    brief: ResolvedBrief
    info: Info = field(default_factory=Info)

    def save(self, path: str | Path, *, overwrite: bool = True) -> Path:
        """Write the picture as PNG, lossless WebP or JPEG with its metadata; the suffix of `path` decides.

        overwrite: if False, an existing file stays, and the first free name of path-2, path-3, ... is used.

        Returns:
            The path of the new file.

        Raises:
            BadPicture: another suffix, or a picture with transparency as JPEG.
            DanqingError: the folder cannot be written.
        """
        path = Path(path)
        write = writer(path, transparent=self.image.has_transparency_data)
        if not overwrite:
            return add_file(path, partial(write, self))
        with atomic_write(path) as draft:
            write(self, draft)
        return path

    def encode(self, suffix: str = ".png") -> bytes:
        """The bytes of the file that `save` writes for a path with that suffix. Raises as `save`."""
        buffer = io.BytesIO()
        writer(Path(f"picture{suffix}"), transparent=self.image.has_transparency_data)(self, buffer)
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        """The PNG that a notebook shows."""
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG")
        return buffer.getvalue()

    def exif(self) -> Image.Exif:
        """The metadata as EXIF: A1111's text is the user comment, our JSON is the maker note."""
        exif = Image.Exif()
        comment, ours = write_a1111(self.brief, self.info), write_json(self.brief, self.info)
        exif[_EXIF] = {
            _USER_COMMENT: _UNICODE + comment.encode("utf-16-be"),  # as A1111 does
            _MAKER_NOTE: _OURS + ours.encode(),
        }
        return exif

    def comment(self) -> bytes:
        """The metadata as the comment of a GIF."""
        return _COMMENT + write_json(self.brief, self.info).encode()

    @classmethod
    def open(cls, path: str | Path) -> Picture:
        """Read a picture, or the first frame of a video, that danqing saved. The content is validated.

        Raises:
            BadPicture: the file is missing, damaged, above 100 megapixels, not PNG, JPEG, WebP or GIF, or
                has no brief.
        """
        path = Path(path)
        image, text, *_ = decode_file(path, (*FORMATS, "GIF"))
        if text is None:
            raise BadPicture(
                f"{str(path)!r} holds no danqing brief, or a program stripped it: use the original file"
            )
        try:
            brief, info = read_json(text)
        except BadPicture as error:
            raise BadPicture(f"{str(path)!r}: {error}") from None
        return cls(image, brief, info)


def writer(path: Path, *, transparent: bool) -> Writer:
    """The function that writes a picture in the format of the suffix of `path`.

    Raises:
        BadPicture: the suffix is unknown, or the format has no transparency.
    """
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise BadPicture(f"cannot save {path.name!r}: end the name with {', '.join(_WRITERS)}")
    if transparent and _WRITERS[suffix] is _write_jpeg:
        raise BadPicture(
            f"cannot save {path.name!r}: JPEG has no transparency; use .png, .webp or background white"
        )
    return _WRITERS[suffix]


def _write_png(picture: Picture, place: Path | BinaryIO) -> None:
    chunks = PngInfo()
    chunks.add_text(PARAMETERS, write_a1111(picture.brief, picture.info))
    chunks.add_text(DANQING, write_json(picture.brief, picture.info))
    picture.image.save(place, "PNG", pnginfo=chunks)


def _write_webp(picture: Picture, place: Path | BinaryIO) -> None:
    picture.image.save(place, "WEBP", lossless=True, exact=True, exif=picture.exif())


def _write_jpeg(picture: Picture, place: Path | BinaryIO) -> None:
    try:
        picture.image.convert("RGB").save(place, "JPEG", quality=95, subsampling=0, exif=picture.exif())
    except ValueError:  # the EXIF of a JPEG holds at most 64 KiB
        raise BadPicture("cannot save .jpg: the prompt is too long for a JPEG; use .png") from None


_WRITERS: dict[str, Writer] = {
    ".png": _write_png,
    ".webp": _write_webp,
    ".jpg": _write_jpeg,
    ".jpeg": _write_jpeg,
}


class DecodedImage(NamedTuple):
    """The first frame of a picture file, the text of our own chunk if it has one, and the frame count.

    deep: whether the file has 16 bits per colour channel; Pillow reads only 8 of them.
    """

    image: Image.Image
    text: str | None
    frames: int
    deep: bool


def decode_file(path: Path, formats: tuple[str, ...]) -> DecodedImage:
    """Read a picture file.

    Raises:
        BadPicture: the file is missing, damaged, above 100 megapixels, or in none of the `formats`.
    """
    if not path.exists():
        raise BadPicture(f"no picture at {str(path)!r}: check the name")
    if path.is_dir():
        raise BadPicture(f"{str(path)!r} is a folder: name a picture in it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow only warns of large sizes; our limit below raises
            return _decode(path, formats)
    except UnidentifiedImageError:
        empty = path.is_file() and path.stat().st_size == 0
        raise BadPicture(
            f"{str(path)!r} is empty: use the original file"
            if empty
            else f"{str(path)!r} is not a {', '.join(formats[:-1])} or {formats[-1]} picture: use one of them"
        ) from None
    except Image.DecompressionBombError:
        raise BadPicture(
            f"{str(path)!r} is too large: at most {PIXELS_MAX // 1_000_000} megapixels"
        ) from None
    except PermissionError:
        raise BadPicture(f"{str(path)!r} may not be read: change its permissions") from None
    except _DAMAGED:
        raise BadPicture(f"{str(path)!r} is damaged or cut short: use the original file") from None


def _decode(path: Path, formats: tuple[str, ...]) -> DecodedImage:
    with Image.open(_stream(path), formats=formats) as image:
        if image.width * image.height > PIXELS_MAX:
            raise Image.DecompressionBombError
        deep = image.mode in ("RGB", "RGBA") and ";16" in str(image.tile)  # `tile` is empty after loading
        image.load()
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: previews of phones
        return DecodedImage(image.copy(), _own_text(image), frames, deep)


def _stream(path: Path) -> Path | io.BytesIO:
    """The path of a file, or the whole content of a pipe such as /dev/stdin, because Pillow must seek."""
    if path.is_file():
        return path
    with path.open("rb") as pipe:
        data = pipe.read(_BYTES_MAX + 1)
    if not data:
        raise BadPicture(f"{str(path)!r} is empty: send a picture through it")
    if len(data) > _BYTES_MAX:
        raise Image.DecompressionBombError
    return io.BytesIO(data)


def _own_text(image: Image.Image) -> str | None:
    if isinstance(image, PngImageFile):
        return image.text.get(DANQING)
    if image.format == "GIF":
        comment = image.info.get("comment", b"")
        return comment.removeprefix(_COMMENT).decode() if comment.startswith(_COMMENT) else None
    note = image.getexif().get_ifd(_EXIF).get(_MAKER_NOTE, b"")
    return note.removeprefix(_OURS).decode() if isinstance(note, bytes) and note.startswith(_OURS) else None
