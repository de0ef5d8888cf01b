"""Larger pictures: by the painter's learned upscaler, in tiles that equal the whole, or by Lanczos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from math import ceil
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from danqing.core.brief import ResolvedBrief
from danqing.core.card import Can
from danqing.core.errors import BadBrief
from danqing.core.images import from_pil, to_pil
from danqing.core.painter import Painter
from danqing.core.picture import PIXELS_MAX
from danqing.core.progress import Progress, ProgressCallback, no_progress

Enlarge = Callable[[Tensor], Tensor]

SIDE = 128  # of a tile without its overlap, in pixels of the small picture
FACTOR = 4  # of a painter that has learned none
_PROBE = 32  # far more than the networks here reach
_LANCZOS_REACH = 3


def method(painter: Painter) -> str:
    """How `enlarged` will do it, in words for the user."""
    if isinstance(painter, Repaints):
        return f"x{FACTOR}, painted by {painter.card.name!r}"
    if painter.card.scale > 1:
        return f"x{painter.card.scale}, by the upscaler that {painter.card.name!r} has learned"
    return f"x{FACTOR}, by Lanczos: {painter.card.name!r} has learned no upscaler"


@runtime_checkable
class Repaints(Painter, Protocol):
    """A painter that enlarges by painting, four times, in tiles of its own."""

    def repaint(self, pixels: Tensor, brief: ResolvedBrief) -> Iterator[Tensor]:
        """A picture [1 c h w] in [-1, 1] -> what there is of the large one [1 3 4h 4w], after every tile."""
        ...

    def tiles(self, height: int, width: int) -> int:
        """How many tiles that takes."""
        ...

    def at_level(self, level: int) -> Repaints:
        """The same painter, making the picture so noisy first.

        Raises:
            BadBrief: more than it knows.
        """
        ...


def repainted(
    picture: Image.Image,
    painter: Repaints,
    brief: ResolvedBrief,
    progress: ProgressCallback = no_progress,
) -> Image.Image:
    """A picture four times larger, painted anew by a settled brief; on white, and without transparency.

    Raises:
        BadBrief: the large picture would have more pixels than danqing opens.
    """
    _check_size(picture, FACTOR)
    large, of = torch.empty(0), painter.tiles(picture.height, picture.width)
    for done, large in enumerate(painter.repaint(from_pil(picture)[None, :3], brief), start=1):  # noqa: B007
        progress(_progress(painter, done, of))
    return to_pil(large)[0]


def enlarged(
    picture: Image.Image,
    painter: Painter,
    *,
    tile: bool = False,
    progress: ProgressCallback = no_progress,
) -> Image.Image:
    """A picture of any size `card.scale` times larger, or four times if the painter has learned no upscaler.

    Transparency is kept. Memory beyond both pictures is that of one tile.

    tile: the picture repeats without a seam, and so will the large one.
    progress: counts tiles.

    Raises:
        BadBrief: the large picture would have more pixels than danqing opens.
    """
    picture = ImageOps.exif_transpose(picture)
    learned = painter.card.scale > 1
    factor = painter.card.scale if learned else FACTOR
    _check_size(picture, factor)
    reach = reach_of(_in_colour_and_alpha(painter)) if learned else _LANCZOS_REACH
    margin = reach if tile else 0
    source = _wrapped(picture, margin)
    large = _by_upscaler(source, painter, reach, progress) if learned else _lanczos(source)
    left = top = factor * margin
    return large.crop((left, top, left + factor * picture.width, top + factor * picture.height))


def reach_of(enlarge: Enlarge) -> int:
    """How many small pixels away a pixel still shows: the radius of the receptive field, at most 32.

    A NaN in one pixel spreads to all that depends on it, whatever the weights are.
    """
    pixels = torch.zeros(1, 4, 2 * _PROBE + 1, 2 * _PROBE + 1)
    pixels[..., _PROBE, _PROBE] = torch.nan
    with torch.no_grad():
        spoiled = enlarge(pixels).isnan().any(dim=1).nonzero()[:, 1:]
        factor = enlarge(pixels[..., :1, :1]).shape[-1]
    return int((spoiled // factor - _PROBE).abs().max())


def pieces(
    pixels: Tensor, enlarge: Enlarge, reach: int, side: int = SIDE
) -> Iterator[tuple[int, int, Tensor]]:
    """The parts of `enlarge(pixels)`, tile by tile: (left, top, pixels [n c h w]), places in large pixels.

    Each tile is enlarged with `reach` pixels of what is around it, so that it is what the whole would give.
    """
    height, width = pixels.shape[-2:]
    for top, left in product(range(0, height, side), range(0, width, side)):
        above, before = max(0, top - reach), max(0, left - reach)
        bottom, right = min(height, top + side), min(width, left + side)
        around = pixels[..., above : bottom + reach, before : right + reach]
        large = enlarge(around)
        f = large.shape[-1] // around.shape[-1]
        rows = slice((top - above) * f, (bottom - above) * f)
        columns = slice((left - before) * f, (right - before) * f)
        yield left * f, top * f, large[..., rows, columns]


@torch.no_grad()
def _by_upscaler(
    picture: Image.Image, painter: Painter, reach: int, progress: ProgressCallback
) -> Image.Image:
    clear, factor = picture.has_transparency_data, painter.card.scale
    large = Image.new("RGBA" if clear else "RGB", (factor * picture.width, factor * picture.height))
    of = ceil(picture.width / SIDE) * ceil(picture.height / SIDE)
    tiles = pieces(from_pil(picture)[None], _in_colour_and_alpha(painter), reach)
    for done, (left, top, piece) in enumerate(tiles, start=1):
        (part,) = to_pil(piece, "transparent") if clear else to_pil(piece[:, :3])
        large.paste(part, (left, top))
        progress(_progress(painter, done, of))
    return large


def _progress(painter: Painter, done: int, of: int) -> Progress:
    return Progress(done, of, message=f"enlarging {method(painter)}")


def _lanczos(picture: Image.Image) -> Image.Image:
    """In premultiplied colour, so that what transparent pixels hide does not bleed into the edge."""
    size = (FACTOR * picture.width, FACTOR * picture.height)
    if not picture.has_transparency_data:
        return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    return picture.convert("RGBA").convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")


def _in_colour_and_alpha(painter: Painter) -> Enlarge:
    """The painter's upscaler for [n 4 h w]; one that knows no alpha sees it as a grey picture."""
    if Can.ALPHA in painter.card.can:
        return painter.enlarge

    def enlarge(pixels: Tensor) -> Tensor:
        alpha = painter.enlarge(pixels[:, 3:].expand(-1, 3, -1, -1)).mean(dim=1, keepdim=True)
        return torch.cat([painter.enlarge(pixels[:, :3]), alpha], dim=1)

    return enlarge


def _wrapped(picture: Image.Image, margin: int) -> Image.Image:
    """The picture with a margin of itself, as it goes on where it repeats."""
    if not margin:
        return picture
    array = np.asarray(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))
    return Image.fromarray(np.pad(array, ((margin, margin), (margin, margin), (0, 0)), mode="wrap"))


def _check_size(picture: Image.Image, factor: int) -> None:
    pixels = picture.width * picture.height * factor**2
    if pixels > PIXELS_MAX:
        raise BadBrief(
            f"{picture.width} x {picture.height}, enlarged x{factor}, is {pixels / 1e6:.0f} megapixels: "
            f"give a smaller picture, for at most {PIXELS_MAX // 1_000_000}"
        )
