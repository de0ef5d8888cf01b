"""What an image means as a mask: which part of a picture is to be repainted. Needs no torch.

Programs export masks in many ways. One rule reads them all; transparency counts where there is any:

1. Opaque, or black and white: white is repainted, and grey in part.
2. In one colour on transparency, as a brush paints on a layer: what is drawn is repainted.
3. Else what is transparent is repainted: holes in a copy of the picture, or in a ground of one dark colour
   that covers at least half of the frame.

What is repainted, and how much of the picture it is, is said; `invert_mask` turns it around.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from danqing.core.errors import BadBrief

NOISE = 32  # of 255: a mask saved as JPEG is not quite black, or of one grey, where it should be
_ALIKE = 12  # of 255: a copy of the picture that was saved as JPEG differs so much
_MOST = 0.95  # share of the pixels that must agree
_SOME = 0.01  # share of the drawn pixels that are black, or white, where both are
_DARK, _BRIGHT = 64, 192
_LOOK = 2_000_000  # pixels that are looked at to decide

_Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Mask:
    """region: mode "L", of the picture's size, 255 = repaint. note: what is repainted, in a line."""

    region: Image.Image
    note: str


def read_mask(mask: Image.Image, picture: Image.Image, name: str, *, invert: bool = False) -> Mask:
    """What a mask (RGB or RGBA) says of a picture (RGB or RGBA), by the rule of this module.

    name: what messages call it. invert: repaint the rest instead.

    Raises:
        BadBrief: of another size, or one that leaves nothing to repaint or nothing to keep.
    """
    if mask.size != picture.size:
        raise BadBrief(
            f"mask {name} is {mask.width}x{mask.height}, the picture {picture.width}x{picture.height}: "
            "make them the same"
        )
    what, region = _region(mask, picture)
    return Mask(*_check(region, f"mask {name}", what, invert))


def checked_region(region: Image.Image, name: str, *, invert: bool = False) -> Mask:
    """A region ("L", 255 = repaint) that was found in a picture, as a mask. Raises as `read_mask`."""
    return Mask(*_check(region, name, "what was found", invert))


def _region(mask: Image.Image, picture: Image.Image) -> tuple[str, Image.Image]:
    """What is repainted, in words, and the region."""
    if "A" not in mask.getbands():
        return "white", mask.convert("L")
    drawn, alpha = _marking(mask, picture), mask.getchannel("A")
    if drawn == "white":
        return "white", ImageChops.multiply(mask.convert("L"), alpha)
    return ("what is drawn", alpha) if drawn else ("what is transparent", ImageChops.invert(alpha))


def _marking(mask: Image.Image, picture: Image.Image) -> str:
    """By what a mask with transparency marks: "white", a "colour" that is drawn, or "" for holes."""
    pixels = _sample(mask)
    opaque = pixels[..., 3] >= 128
    colours = pixels[opaque][:, :3].astype(np.int16)
    if not len(colours):  # a line so thin that none of its pixels was looked at
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
    """Some pixels of a large image, all of a small one."""
    step = ceil(sqrt(image.width * image.height / _LOOK))
    size = ceil(image.width / step), ceil(image.height / step)
    return np.asarray(image if step == 1 else image.resize(size, Image.Resampling.NEAREST))


def _varies(colours: NDArray[np.int16]) -> bool:
    """Whether colours [n 3] are those of a picture, and not of one brush."""
    usual = np.median(colours, axis=0)
    return bool((np.abs(colours - usual).max(axis=1) <= NOISE).mean() < _MOST)


def _is_bright(colours: NDArray[np.int16]) -> bool:
    return bool(np.median(colours.min(axis=1)) >= _BRIGHT)


def _check(region: Image.Image, name: str, what: str, invert: bool) -> tuple[Image.Image, str]:
    """The region without noise, perhaps turned around, and the line about it."""
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
    """What is wrong with a region of one grey."""
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
