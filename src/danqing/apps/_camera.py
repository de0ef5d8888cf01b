"""Rotates, zooms and shifts a picture by one affine map, as a 2D camera does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Border = Literal["edge", "wrap", "empty"]
_RIM = 2  # radius of a bicubic kernel in pixels


@dataclass(frozen=True)
class Move:
    """A rotation (degrees, counter-clockwise) and a zoom about the middle, then a shift in pixels."""

    angle: float = 0.0
    zoom: float = 1.0
    right: float = 0.0
    down: float = 0.0

    @property
    def inverse(self) -> Move:
        """The inverse move."""
        x, y = _rotate(-self.right / self.zoom, -self.down / self.zoom, -self.angle)
        return Move(-self.angle, 1 / self.zoom, x, y)


def warp(pixels: Tensor, move: Move, border: Border = "edge") -> Tensor:
    """Move pictures [n c h w] in [-1, 1] with bicubic interpolation; without a move they stay exactly equal.

    border: what fills the area outside: repeated edge pixels, the opposite side, or white, which is
        transparent if there is a fourth channel.
    """
    if move == Move():
        return pixels
    height, width = pixels.shape[-2:]
    x, y = _source_points(width, height, move, pixels)
    if border == "wrap":
        x, y = x.remainder(width), y.remainder(height)
        pixels = F.pad(pixels, (_RIM,) * 4, mode="circular")
        x, y = x + _RIM, y + _RIM
    ground = torch.ones(pixels.shape[1], 1, 1).to(pixels)
    ground[3:] = -1
    sides = torch.tensor([pixels.shape[-1], pixels.shape[-2]]).to(pixels)
    grid = (torch.stack([x, y], dim=-1) * 2 / sides - 1).expand(len(pixels), -1, -1, -1)
    how = "zeros" if border == "empty" else "border"
    moved = F.grid_sample(pixels - ground, grid, mode="bicubic", padding_mode=how, align_corners=False)
    return (moved + ground).clamp(-1, 1)


def _source_points(width: int, height: int, move: Move, like: Tensor) -> tuple[Tensor, Tensor]:
    """The source coordinates x and y [h w] of each pixel of the moved picture, from the top left."""
    x = torch.arange(width).to(like) + 0.5 - width / 2 - move.right
    y = torch.arange(height).to(like)[:, None] + 0.5 - height / 2 - move.down
    sine, cosine = math.sin(math.radians(move.angle)), math.cos(math.radians(move.angle))
    return (
        (cosine * x - sine * y) / move.zoom + width / 2,
        (sine * x + cosine * y) / move.zoom + height / 2,
    )


def _rotate(x: float, y: float, angle: float) -> tuple[float, float]:
    """Rotate a point counter-clockwise about the origin; y points down."""
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    return cosine * x + sine * y, cosine * y - sine * x
