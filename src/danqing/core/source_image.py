"""Reading any picture that someone wants painted on, and saying what had to be changed to use it.

`Picture.open` reads what danqing made, with its brief. This reads anything, from a path, from PIL, or from a
`Picture`, as plain 8-bit RGB or RGBA that stands upright.
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
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")  # how their files' names end
SIDE_MIN = 8  # pixels; less holds nothing to see

Place = str | Path | Image.Image | Picture
"""What a picture can be given as."""

_WHOLE = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # Pillow's modes for 16-bit grey
_PLAIN = ("RGB", "RGBA", "L", "LA", "1")
_MANAGED = ("RGB", "RGBA", "L", "LA", "CMYK", "LAB")  # modes of pictures that a profile may describe
_THROUGH = {"La": "LA", "1": "L"}
_ORIENTATION = 0x0112  # of EXIF


@dataclass(frozen=True)
class SourceImage:
    """A picture to start from.

    image: RGB, or RGBA where it has transparency. name: what it was given as, "" for one without a file.
    notes: what was converted, one line each. brief: what painted it, where it says so.
    """

    image: Image.Image
    name: str
    notes: tuple[str, ...] = ()
    brief: ResolvedBrief | None = None

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits that are the same for the same pixels, whatever the file."""
        return picture_id(self.image)


def picture_id(image: Image.Image) -> str:
    """Sixteen hexadecimal digits of the pixels' SHA-256."""
    head = f"{image.mode} {image.width} {image.height} ".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()[:16]


def read_source(place: Place) -> SourceImage:
    """A picture from a path, from PIL or from a `Picture`.

    Grey, palette, 16-bit and CMYK pictures become RGB, colours of an ICC profile become sRGB, one turned by
    its EXIF is turned upright, of an animation the first frame is taken; `notes` tell.

    Raises:
        BadPicture: missing, not a picture, damaged, above 100 megapixels or smaller than 8 pixels.
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
    except BadPicture:  # a picture to start from need not know how it came to be
        return None


def _with_choices(brief: ResolvedBrief, info: Info) -> ResolvedBrief:
    """The brief with its wildcards as they were chosen: who starts from the picture means what it shows."""
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
    """The picture as RGB, or RGBA if it has transparency, of 8 bits in sRGB; and what was done, if anything.

    Palette, 16-bit grey, CMYK and other colour modes are converted, by the ICC profile where there is one,
    which is taken off `image`. A picture that is plain already comes back itself.
    """
    before, unread = image.mode, unread_colour(image)
    if before in _WHOLE:  # Pillow would clip these at 255, leaving a white picture
        image = image.convert("F").point(lambda value: value / 257).convert("L")
    if before == "F":
        _, most = cast("tuple[float, float]", image.getextrema())
        image = image.point(lambda value: value * (255 if most <= 1 else 1)).convert("L")
    if image.mode not in _MANAGED:  # a palette's colours are RGB; for others there are hardly any profiles
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
    """Whether anything shows through: most screenshots have an alpha channel, and are opaque."""
    if not image.has_transparency_data:
        return False
    return _in_mode(image, "RGBA").getchannel("A").getextrema() != (255, 255)
