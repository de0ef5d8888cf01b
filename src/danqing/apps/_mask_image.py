"""Reads a mask image: which part of a picture to repaint. Needs no torch.

Programs export masks in many ways. One rule reads them all; transparency is used if there is any:

1. An opaque or black and white mask: white is repainted, grey in part.
2. A mask of one colour on transparency, as from a brush on a layer: the coloured part is repainted.
3. Any other mask: the transparent part is repainted. It is holes in a copy of the picture, or in a dark
   background that covers at least half of the mask.

A note tells which part, and how much of the picture, is repainted; `invert_mask` inverts the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from danqing.core.errors import BadBrief

NOISE = 32  # of 255: a mask saved as JPEG differs this much from black or from one grey
_ALIKE = 12  # of 255: a copy of the picture saved as JPEG differs this much
_MOST = 0.95  # fraction of the pixels that must agree
_SOME = 0.01  # least fraction of opaque pixels that are black, and that are white
_DARK, _BRIGHT = 64, 192
_LOOK = 2_000_000  # most pixels that are examined

_Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Mask:
    """A mask of the size of its picture.

    region: mode "L", 255 = repaint.
    note: a line that tells what is repainted.
    """

    region: Image.Image
    note: str


def read_mask(mask: Image.Image, picture: Image.Image, name: str, *, invert: bool = False) -> Mask:
    """Read a mask (RGB or RGBA) for a picture (RGB or RGBA), by the rule of this module.

    name: the name of the mask in messages.
    invert: whether to repaint the other part.

    Raises:
        BadBrief: the mask has another size, or it repaints nothing or everything.
    """
    if mask.size != picture.size:
        raise BadBrief(
            f"mask {name} is {mask.width}x{mask.height}, the picture {picture.width}x{picture.height}: "
            "make them the same"
        )
    what, region = _region(mask, picture)
    return Mask(*_check(region, f"mask {name}", what, invert))


def checked_region(region: Image.Image, name: str, *, invert: bool = False) -> Mask:
    """A computed region ("L", 255 = repaint) as a mask. Raises as `read_mask`."""
    return Mask(*_check(region, name, "what was found", invert))


def _region(mask: Image.Image, picture: Image.Image) -> tuple[str, Image.Image]:
    """A text that names the repainted part, and the region."""
    if "A" not in mask.getbands():
        return "white", mask.convert("L")
    drawn, alpha = _marking(mask, picture), mask.getchannel("A")
    if drawn == "white":
        return "white", ImageChops.multiply(mask.convert("L"), alpha)
    return ("what is drawn", alpha) if drawn else ("what is transparent", ImageChops.invert(alpha))


def _marking(mask: Image.Image, picture: Image.Image) -> str:
    """The kind of a mask with transparency: "white", "colour" for a brush, or "" for holes."""
    pixels = _sample(mask)
    opaque = pixels[..., 3] >= 128
    colours = pixels[opaque][:, :3].astype(np.int16)
    if not len(colours):  # a line so thin that none of its pixels is in the sample
        return "colour"
    original = _sample(picture)[opaque][:, :3].astype(np.int16)
    dark, bright = (colours < _DARK).all(axis=1).mean(), (colours >= _BRIGHT).all(axis=1).mean()
    if min(dark, bright) >= _SOME and dark + bright >= _MOST:
        copied = (np.abs(colours - original).max(axis=1) <= _ALIKE).mean() >= _MOST
        return "" if copied else "white"
    if _varies(colours):
        return ""
    frame = np.concatenate([opaque[0], opaque[-1], opaque[:, 0], opaque[:, -1]])
    return "colour" if _is_bright(colours) or frame.mean() < 0.5 else ""


def _sample(image: Image.Image) -> _Bytes:
    """A regular sample of the pixels of a large image; all pixels of a small one."""
    step = ceil(sqrt(image.width * image.height / _LOOK))
    size = ceil(image.width / step), ceil(image.height / step)
    return np.asarray(image if step == 1 else image.resize(size, Image.Resampling.NEAREST))


def _varies(colours: NDArray[np.int16]) -> bool:
    """Whether colours [n 3] differ, as those of a picture and not of one brush."""
    usual = np.median(colours, axis=0)
    return bool((np.abs(colours - usual).max(axis=1) <= NOISE).mean() < _MOST)


def _is_bright(colours: NDArray[np.int16]) -> bool:
    return bool(np.median(colours.min(axis=1)) >= _BRIGHT)


def _check(region: Image.Image, name: str, what: str, invert: bool) -> tuple[Image.Image, str]:
    """The region without noise, inverted if `invert`, and the note about it."""
    low, high = _extremes(region)
    if high - low < NOISE:
        raise BadBrief(f"{name} {_all_over(low, high)}")
    region = ImageChops.invert(region) if invert else region
    region = region.point(lambda value: value if value >= NOISE else 0)
    if region.getbbox() is None:
        raise BadBrief(f"{name} leaves nothing to repaint: paint white what shall be repainted")
    repainted = 1 - region.histogram()[0] / (region.width * region.height)
    share = f"{100 * repainted:.2g} %" if repainted >= 0.001 else "less than 0.1 %"
    rest = f"all but {what}" if invert else what
    return region, f"{name}: {rest} is repainted, {share} of the picture (--invert-mask for the rest)"


def _all_over(low: int, high: int) -> str:
    """The message for a region of one grey."""
    if high < NOISE:
        return "is empty: paint white what shall be repainted"
    if low > 255 - NOISE:
        return "covers the whole picture: use redraw, or leave black what shall stay"
    return f"is grey all over ({low}): paint white what shall be repainted, and black what shall stay"


def _extremes(region: Image.Image) -> tuple[int, int]:
    low, high = region.getextrema()
    assert isinstance(low, int)
    assert isinstance(high, int)
    return low, high
