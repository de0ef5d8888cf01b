"""Reads an input picture of any origin, and notes what was converted.

`Picture.open` reads pictures of danqing with their brief. This module reads any picture, from a path, from
PIL or from a `Picture`, as upright 8-bit RGB or RGBA.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from PIL import Image, ImageOps

from danqing.core.brief import ResolvedBrief
from danqing.core.colour import to_srgb, unread_colour
from danqing.core.errors import BadPicture
from danqing.core.metadata import Info, read_json
from danqing.core.picture import Picture, decode_file

FORMATS = ("PNG", "JPEG", "WebP", "GIF", "BMP", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")  # of files that can be read
SIDE_MIN = 8  # pixels; a smaller picture shows nothing

Place = str | Path | Image.Image | Picture
"""The types in which a caller can pass a picture."""

_WHOLE = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # Pillow's modes for 16-bit grey
_PLAIN = ("RGB", "RGBA", "L", "LA", "1")
_MANAGED = ("RGB", "RGBA", "L", "LA", "CMYK", "LAB")  # modes of pictures that a profile may describe
_THROUGH = {"La": "LA", "1": "L"}
_ORIENTATION = 0x0112  # of EXIF


@dataclass(frozen=True)
class SourceImage:
    """An input picture.

    image: RGB, or RGBA where it has transparency.
    name: the path as the user gave it; "" for a picture without a file.
    notes: one line for each conversion.
    brief: the brief in its metadata; None where it has none.
    """

    image: Image.Image
    name: str
    notes: tuple[str, ...] = ()
    brief: ResolvedBrief | None = None

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits that depend on the pixels only, not on the file."""
        return picture_id(self.image)


def picture_id(image: Image.Image) -> str:
    """The first sixteen hexadecimal digits of the SHA-256 of the pixels."""
    head = f"{image.mode} {image.width} {image.height} ".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()[:16]


def read_source(place: Place) -> SourceImage:
    """Read a picture from a path, from PIL or from a `Picture`.

    Grey, palette, 16-bit and CMYK pictures become RGB. An ICC profile is converted to sRGB. The EXIF rotation
    is applied. Of an animation, the first frame is read. `notes` of the result list what was done.

    Raises:
        BadPicture: the file is missing, damaged or not a picture, or the picture is above 100 megapixels or
            has a side below 8 pixels.
    """
    if isinstance(place, Picture):
        image, notes = _upright(place.image.copy(), "the picture", 1)
        return SourceImage(image, "", notes, _with_choices(place.brief, place.info))
    if isinstance(place, Image.Image):
        image, notes = _upright(place.copy(), "the picture", getattr(place, "n_frames", 1))
        return SourceImage(image, "", notes)
    file = decode_file(Path(place), FORMATS)
    name = repr(str(place))
    image, notes = _upright(file.image, name, file.frames)
    deep = (f"{name} has 16 bits a channel: 8 of them are used",) if file.deep else ()
    return SourceImage(image, str(place), (*notes, *deep), _brief(file.text))


def _brief(text: str | None) -> ResolvedBrief | None:
    if text is None:
        return None
    try:
        return _with_choices(*read_json(text))
    except BadPicture:  # an input picture needs no metadata
        return None


def _with_choices(brief: ResolvedBrief, info: Info) -> ResolvedBrief:
    """The brief with its wildcards replaced by the choices that were made, as the picture shows them."""
    alone = info.chosen and brief.count == 1
    return brief.model_copy(update={"prompt": info.chosen}) if alone else brief


def _upright(image: Image.Image, name: str, frames: int) -> tuple[Image.Image, tuple[str, ...]]:
    if min(image.size) < SIDE_MIN:
        raise BadPicture(
            f"{name} is {image.width}x{image.height} pixels: use one of at least {SIDE_MIN}x{SIDE_MIN}"
        )
    notes = []
    if frames > 1:
        notes.append(f"{name} is animated: its first frame is used")
    if image.getexif().get(_ORIENTATION, 1) in range(2, 9):
        ImageOps.exif_transpose(image, in_place=True)
        notes.append(f"{name} is turned upright as its EXIF says")
    simple, note = to_plain_rgb(image)
    return simple, (*notes, *(f"{name} {what}" for what in note))


def to_plain_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The picture as 8-bit sRGB of mode RGB, or RGBA if it has transparency, and a note for each conversion.

    Palette, 16-bit grey, CMYK and other modes are converted, with the ICC profile if there is one; the
    profile is removed from `image` itself. A picture that needs no conversion is returned unchanged.
    """
    before, unread = image.mode, unread_colour(image)
    if before in _WHOLE:  # Pillow would clip values at 255: a white picture
        image = image.convert("F").point(lambda value: value / 257).convert("L")
    if before == "F":
        _, most = cast("tuple[float, float]", image.getextrema())
        image = image.point(lambda value: value * (255 if most <= 1 else 1)).convert("L")
    if image.mode not in _MANAGED:  # palettes are RGB; other modes rarely have a profile
        through = "RGBA" if image.has_transparency_data else "RGB"
        image = image.convert(_THROUGH.get(image.mode, through))
    image, colours = to_srgb(image)
    simple = _in_mode(image, "RGBA" if _clear(image) else "RGB")
    colour_mode = "16-bit grey" if before in _WHOLE else before
    notes = [] if before in _PLAIN else [f"is converted from {colour_mode} to {simple.mode}"]
    return simple, [*notes, *(note for note in (colours, unread) if note)]


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _clear(image: Image.Image) -> bool:
    """Whether any pixel is transparent: most screenshots have an alpha channel, but are opaque."""
    if not image.has_transparency_data:
        return False
    return _in_mode(image, "RGBA").getchannel("A").getextrema() != (255, 255)
