"""Upscales pictures: by the painter's learned upscaler in exact tiles, or by Lanczos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from math import ceil
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image, ImageOps
from torch import Tensor

from danqing.core.brief import ResolvedBrief
from danqing.core.card import Can
from danqing.core.errors import BadBrief
from danqing.core.images import from_pil, to_pil
from danqing.core.painter import Painter
from danqing.core.picture import PIXELS_MAX
from danqing.core.progress import Progress, ProgressCallback, no_progress

UpscaleFunction = Callable[[Tensor], Tensor]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are outside."""

SIDE = 128  # side of a tile without its overlap, in pixels of the small picture
FACTOR = 4  # default factor of a painter without an upscaler
FACTORS = (2, 3, 4, 8)
REPAINTED_MAX = 32_000_000  # pixels of a result of `repaint`, which is in memory as floats
_PROBE = 32  # far above the receptive fields of the networks here
_LANCZOS_REACH = 3


def default_factor(painter: Painter) -> int:
    """The factor of a painter if the user gives none."""
    return painter.card.scale if painter.card.scale > 1 else FACTOR


def method(painter: Painter, factor: int | None = None) -> str:
    """A text for the user on the method of `upscale_image`."""
    times = f"x{factor or default_factor(painter)}"
    if isinstance(painter, Repaints):
        return f"{times}, painted by {painter.card.name!r}"
    if painter.card.scale > 1:
        return f"{times}, by the upscaler that {painter.card.name!r} has learned"
    return f"{times}, by Lanczos: {painter.card.name!r} has learned no upscaler"


@runtime_checkable
class Repaints(Painter, Protocol):
    """A painter that upscales by diffusion, four times, in its own tiles."""

    def repaint(self, pixels: Tensor, brief: ResolvedBrief) -> Iterator[Tensor]:
        """A picture [1 c h w] in [-1, 1] -> all finished tiles [1 3 4h 4w], after each tile."""
        ...

    def tiles(self, height: int, width: int) -> int:
        """The number of tiles for a picture of that size."""
        ...

    def at_level(self, level: int) -> Repaints:
        """The same painter for a noise level of the small picture.

        Raises:
            BadBrief: the level is above that of its training.
        """
        ...


def repaint(
    picture: Image.Image,
    painter: Repaints,
    brief: ResolvedBrief,
    factor: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Image.Image:
    """Upscale a picture four times by diffusion with a resolved brief; the result is RGB on white.

    factor: 2 or 3 downscales the result afterwards.

    Raises:
        BadBrief: the factor is above 4, or the result would have more than 32 megapixels.
    """
    if factor is not None and factor > FACTOR:
        raise BadBrief(f"model {painter.card.name!r} enlarges four times: use scale 2, 3 or 4")
    check_size(picture, FACTOR, REPAINTED_MAX)
    large, of = torch.empty(0), painter.tiles(picture.height, picture.width)
    for done, large in enumerate(painter.repaint(from_pil(picture)[None, :3], brief), start=1):  # noqa: B007
        progress(Progress(done, of, message=f"enlarging {method(painter, factor)}"))
    return resize(to_pil(large)[0], _times(picture.size, factor or FACTOR))


def upscale_image(
    picture: Image.Image,
    painter: Painter,
    factor: int | None = None,
    *,
    tile: bool = False,
    progress: ProgressCallback = no_progress,
) -> Image.Image:
    """Upscale a picture of any size.

    The painter's learned upscaler is applied as often as necessary, and the result is downscaled to the
    factor. Without one, Lanczos is used. Transparency is kept. Besides both pictures, only one tile is in
    memory.

    factor: how many times larger; None is `default_factor`.
    tile: whether the picture is seamless; then the result is seamless too.
    progress: counts tiles.

    Raises:
        BadBrief: the result would have more than 100 megapixels.
    """
    picture = ImageOps.exif_transpose(picture)
    factor = default_factor(painter) if factor is None else factor
    check_size(picture, factor)
    message = f"enlarging {method(painter, factor)}"
    if painter.card.scale == 1:
        return _without_margin(resize, picture, factor, _LANCZOS_REACH if tile else 0)
    upscale = in_colour_and_alpha(painter, factor)
    reach = reach_of(upscale)

    def by_upscaler(source: Image.Image, size: tuple[int, int]) -> Image.Image:
        large = Image.new("RGBA" if source.has_transparency_data else "RGB", size)
        side = SIDE if factor <= painter.card.scale else SIDE // 2
        of = ceil(source.width / side) * ceil(source.height / side)
        pieces = tiles(partial(_view, source), source.size, upscale, reach, side)
        for done, (left, top, piece) in enumerate(pieces, start=1):
            clear = large.mode == "RGBA"
            (part,) = to_pil(piece, "transparent") if clear else to_pil(piece[:, :3])
            large.paste(part, (left, top))
            progress(Progress(done, of, message=message))
        return large

    return _without_margin(by_upscaler, picture, factor, reach if tile else 0)


def fit_to_size(picture: Image.Image, size: tuple[int, int], painter: Painter) -> Image.Image:
    """Resize a picture to a size of about its aspect ratio; a larger one uses the learned upscaler first."""
    if picture.size == size:
        return picture
    if painter.card.scale > 1 and (picture.width < size[0] or picture.height < size[1]):
        picture = upscale_image(picture, painter)
    return resize(picture, size)


def resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize by Lanczos with premultiplied alpha, so that hidden colours do not bleed into edges."""
    if picture.size == size:
        return picture
    if not picture.has_transparency_data:
        return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    return picture.convert("RGBA").convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")


def reach_of(upscale: UpscaleFunction) -> int:
    """The radius of the receptive field in pixels of the small picture, at most 32.

    It is measured: a NaN in one pixel spreads to every output that depends on it, for any weights.
    """
    pixels = torch.zeros(1, 4, 2 * _PROBE + 1, 2 * _PROBE + 1)
    pixels[..., _PROBE, _PROBE] = torch.nan
    with torch.no_grad():
        spoiled = upscale(pixels).isnan().any(dim=1).nonzero()[:, 1:]
        factor = upscale(pixels[..., :1, :1]).shape[-1]
    return int((spoiled // factor - _PROBE).abs().max())


@torch.no_grad()
def tiles(
    view: Callable[[Box], Tensor],
    size: tuple[int, int],
    upscale: UpscaleFunction,
    reach: int,
    side: int = SIDE,
) -> Iterator[tuple[int, int, Tensor]]:
    """Upscale a picture tile by tile; yields (left, top, pixels [n c h w]), in pixels of the result.

    Each tile is upscaled with a margin of `reach` pixels, so that it equals that part of the whole result.

    view: a box -> the pixels [n c h w] in it.
    size: width and height of the picture.
    """
    width, height = size
    for top, left in product(range(0, height, side), range(0, width, side)):
        above, before = max(0, top - reach), max(0, left - reach)
        bottom, right = min(height, top + side), min(width, left + side)
        around = view((before, above, min(width, right + reach), min(height, bottom + reach)))
        large = upscale(around)
        f = large.shape[-1] // around.shape[-1]
        rows = slice((top - above) * f, (bottom - above) * f)
        columns = slice((left - before) * f, (right - before) * f)
        yield left * f, top * f, large[..., rows, columns]


def in_colour_and_alpha(painter: Painter, factor: int) -> UpscaleFunction:
    """The painter's upscaler for [n 4 h w], applied as often as necessary, and downscaled to the factor.

    An upscaler without alpha upscales the alpha channel as a grey picture.
    """

    def once(pixels: Tensor) -> Tensor:
        if Can.ALPHA in painter.card.can:
            return painter.upscale(pixels)
        alpha = painter.upscale(pixels[:, 3:].expand(-1, 3, -1, -1)).mean(dim=1, keepdim=True)
        return torch.cat([painter.upscale(pixels[:, :3]), alpha], dim=1)

    def upscale(pixels: Tensor) -> Tensor:
        size = [factor * side for side in pixels.shape[-2:]]
        while pixels.shape[-1] < size[-1]:
            pixels = once(pixels)
        if list(pixels.shape[-2:]) == size:
            return pixels
        return F.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(-1, 1)

    return upscale


def check_size(picture: Image.Image, factor: float, most: int = PIXELS_MAX) -> None:
    """Check the size of the result.

    Raises:
        BadBrief: the picture would have more than `most` pixels.
    """
    pixels = picture.width * picture.height * factor**2
    if pixels > most:
        smaller = [less for less in FACTORS if less < factor and pixels * less**2 <= most * factor**2]
        fix = f"use scale {max(smaller)}" if smaller else "give a smaller picture"
        raise BadBrief(
            f"{picture.width} x {picture.height}, enlarged x{factor:g}, is {pixels / 1e6:.0f} megapixels: "
            f"{fix}, for at most {most // 1_000_000}"
        )


def _view(picture: Image.Image, box: Box) -> Tensor:
    return from_pil(picture.crop(box))[None]


def _without_margin(
    upscale: Callable[[Image.Image, tuple[int, int]], Image.Image],
    picture: Image.Image,
    factor: int,
    margin: int,
) -> Image.Image:
    """Upscale a seamless picture with a margin of its opposite edges, which is cropped afterwards."""
    source = _wrap(picture, margin)
    large = upscale(source, _times(source.size, factor))
    if not margin:
        return large
    left = top = factor * margin
    return large.crop((left, top, left + factor * picture.width, top + factor * picture.height))


def _wrap(picture: Image.Image, margin: int) -> Image.Image:
    if not margin:
        return picture
    array = np.asarray(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))
    return Image.fromarray(np.pad(array, ((margin, margin), (margin, margin), (0, 0)), mode="wrap"))


def _times(size: tuple[int, int], factor: int) -> tuple[int, int]:
    return factor * size[0], factor * size[1]
