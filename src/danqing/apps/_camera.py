"""A flat picture moved under a camera: turned, zoomed and shifted, as one affine map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Border = Literal["edge", "wrap", "empty"]
_RIM = 2  # pixels that a bicubic kernel reaches beyond the one it is at


@dataclass(frozen=True)
class Move:
    """Turned by `angle` degrees (counter-clockwise) and zoomed about the middle, then shifted, in pixels."""

    angle: float = 0.0
    zoom: float = 1.0
    right: float = 0.0
    down: float = 0.0

    @property
    def inverse(self) -> Move:
        """The move that brings back what it can."""
        x, y = _rotate(-self.right / self.zoom, -self.down / self.zoom, -self.angle)
        return Move(-self.angle, 1 / self.zoom, x, y)


def warp(pixels: Tensor, move: Move, border: Border = "edge") -> Tensor:
    """Pictures [n c h w] in [-1, 1], moved; bicubic. Without a move the very same numbers.

    border: what comes in from outside: the edge going on, the opposite side, or nothing, which is white and,
    where there is a fourth channel, transparent.
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
    """Where in the picture each pixel of the moved one lies, in pixels from its upper left: x, y [h w]."""
    x = torch.arange(width).to(like) + 0.5 - width / 2 - move.right
    y = torch.arange(height).to(like)[:, None] + 0.5 - height / 2 - move.down
    sine, cosine = math.sin(math.radians(move.angle)), math.cos(math.radians(move.angle))
    return (
        (cosine * x - sine * y) / move.zoom + width / 2,
        (sine * x + cosine * y) / move.zoom + height / 2,
    )


def _rotate(x: float, y: float, angle: float) -> tuple[float, float]:
    """A point turned counter-clockwise about 0, y pointing down."""
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    return cosine * x + sine * y, cosine * y - sine * x
