"""Converts between the tensors of painters and PIL images.

A tensor of a painter is [n 4 h w] in [-1, 1]: three channels of colour composited over white, then alpha.
With all values scaled to [0, 1], rgb = straight * a + (1 - a). So the first three channels are the picture on
white, and fully transparent pixels are white, not an arbitrary colour that a network would have to learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps
from torch import Tensor

from danqing.core.errors import BadBrief, NotFinite
from danqing.core.source_image import to_plain_rgb

HAZE = 15.5 / 255  # a smaller alpha is the error of a network and counts as 0


def to_pil(pixels: Tensor, background: str = "white") -> list[Image.Image]:
    """The pixels of a painter as PIL images.

    pixels: [n c h w] in [-1, 1], c is 3 or 4.
    background: "transparent" gives RGBA with straight colour; "white" or "#rrggbb" gives RGB.

    Raises:
        NotFinite: a pixel is NaN or infinite.
        BadBrief: another background than white for pixels without alpha.
    """
    unit = _unit(pixels)
    if unit.shape[1] == 3 and background != "white":
        raise BadBrief(f"background {background!r} needs a model that paints transparency: use white")
    if unit.shape[1] == 3:
        return [Image.fromarray(picture, "RGB") for picture in _bytes(unit)]
    straight = _straight(unit[:, :3], unit[:, 3:])
    if background == "transparent":
        return [Image.fromarray(picture, "RGBA") for picture in _bytes(straight)]
    colour, alpha = straight[:, :3], straight[:, 3:]
    ground = torch.tensor(ImageColor.getrgb(background)).view(1, 3, 1, 1) / 255
    flat = colour * alpha + ground * (1 - alpha)
    return [Image.fromarray(picture, "RGB") for picture in _bytes(flat)]


def from_pil(image: Image.Image) -> Tensor:
    """Any PIL image as a tensor of a painter, [4 h w] in [-1, 1], rotated as its EXIF says.

    Palette, grey, 16-bit grey, CMYK and other colour modes are converted; no alpha means opaque.
    """
    simple, _ = to_plain_rgb(ImageOps.exif_transpose(image))
    unit = torch.from_numpy(np.array(simple.convert("RGBA"))).permute(2, 0, 1).float() / 255
    straight, alpha = unit[:3], unit[3:]
    return torch.cat([straight * alpha + (1 - alpha), alpha]) * 2 - 1


def mask_from_pil(mask: Image.Image) -> Tensor:
    """A mask of mode "L" as a tensor [1 h w] in [0, 1]; white is 1."""
    return torch.from_numpy(np.array(mask.convert("L"))).float()[None] / 255


def pad_to_square(pixels: Tensor) -> Tensor:
    """Pictures [n c h w] in the middle of a square with white, opaque margins."""
    height, width = pixels.shape[-2:]
    down, right = max(0, width - height), max(0, height - width)
    margins = (right // 2, right - right // 2, down // 2, down - down // 2)
    return F.pad(pixels, margins, value=1.0) if any(margins) else pixels


def grid(images: Sequence[Image.Image]) -> Image.Image:
    """One sheet of all pictures, row by row, nearly square, with thin gutters; transparency is kept."""
    if not images:
        raise ValueError("a grid needs at least one picture")
    size = max(image.width for image in images), max(image.height for image in images)
    boxes = _cells(len(images), size)
    clear = any(image.has_transparency_data for image in images)
    mode, ground = ("RGBA", (255, 255, 255, 0)) if clear else ("RGB", (255, 255, 255))
    sheet = Image.new(mode, (max(box[2] for box in boxes), max(box[3] for box in boxes)), ground)
    for image, box in zip(images, boxes, strict=True):
        sheet.paste(image.convert(mode), box[:2])
    return sheet


def cell(sheet: Image.Image, k: int, count: int) -> Image.Image:
    """Cut picture `k` out of a sheet that `grid` made of `count` pictures of one size.

    Raises:
        BadBrief: `grid` makes no sheet of this size, so the sheet was changed since.
    """
    columns = ceil(sqrt(count))
    rows = ceil(count / columns)
    for gutter in range(2, min(sheet.size) // 64 + 3):  # the right one fits the cells that it leaves
        width, odd = divmod(sheet.width - (columns - 1) * gutter, columns)
        height, over = divmod(sheet.height - (rows - 1) * gutter, rows)
        if not odd and not over and gutter == _gutter(width, height):
            return sheet.crop(_cells(count, (width, height))[k])
    raise BadBrief(
        f"a grid of {count} pictures is not {sheet.width}x{sheet.height}: use the file as danqing saved it"
    )


def _gutter(width: int, height: int) -> int:
    return max(2, min(width, height) // 64)


def _cells(count: int, size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """The box of each picture in a sheet: left, top, right, bottom, in pixels."""
    width, height = size
    columns, gutter = ceil(sqrt(count)), _gutter(*size)
    corners = [(k % columns * (width + gutter), k // columns * (height + gutter)) for k in range(count)]
    return [(left, top, left + width, top + height) for left, top in corners]


def _unit(pixels: Tensor) -> Tensor:
    if pixels.ndim != 4 or pixels.shape[1] not in (3, 4):
        raise ValueError(f"pictures are [n c h w] with 3 or 4 channels, not {list(pixels.shape)}")
    pixels = pixels.detach().to("cpu", torch.float32)
    finite = torch.isfinite(pixels).flatten(1).all(1)
    if not finite.all():
        bad = int((~finite).nonzero()[0]) + 1
        raise NotFinite(f"picture {bad} of {len(pixels)} holds NaN or infinite pixels, so none is kept")
    return ((pixels + 1) / 2).clamp(0, 1)


def _straight(rgb: Tensor, alpha: Tensor) -> Tensor:
    """Colour over white [n 3 h w] and alpha [n 1 h w], both in [0, 1] -> straight RGBA [n 4 h w]."""
    visible = alpha >= HAZE
    colour = (rgb - (1 - alpha)) / alpha.clamp(min=HAZE)
    colour = torch.where(
        visible, colour.clamp(0, 1), torch.ones_like(colour)
    )  # white where nothing is visible: no dark fringe when the picture is scaled
    return torch.cat([colour, alpha * visible], dim=1)


def _bytes(unit: Tensor) -> list[NDArray[np.uint8]]:
    return list((unit.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy())
