"""Random augmentation that keeps the subject of a picture recognisable."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Generator, Tensor


@dataclass(frozen=True)
class Augment:
    """The largest random change of each kind.

    turn: rotation in degrees.
    scale: logarithm of the factor by which the picture grows or shrinks.
    move: shift as a fraction of the side.
    light: relative change of 1 - pixel, the same in all channels.
    tint: relative change of 1 - pixel, in each channel by itself.
    erase: probability, in [0, 1], that a square becomes white.
    mirror: whether pictures are mirrored with probability 1/2.
    """

    turn: float = 10.0
    scale: float = 0.15
    move: float = 0.08
    light: float = 0.15
    tint: float = 0.0
    erase: float = 0.0
    mirror: bool = True

    def __call__(self, pixels: Tensor, rng: Generator) -> Tensor:
        """Augment pictures [n c h w] in [-1, 1] on white, each one differently; the shape stays."""
        moved = self._shift(1 - pixels, rng)  # grid_sample pads with 0, so white must be 0
        n, channels = pixels.shape[:2]
        gain = 1 + self.light * (2 * torch.rand(n, 1, 1, 1, generator=rng) - 1)
        tint = 1 + self.tint * (2 * torch.rand(n, channels, 1, 1, generator=rng) - 1)
        return 1 - self._erase((moved * gain * tint).clamp(0, 2), rng)

    def _shift(self, pixels: Tensor, rng: Generator) -> Tensor:
        n = len(pixels)

        def between(limit: float) -> Tensor:
            return limit * (2 * torch.rand(n, generator=rng) - 1)

        angle = between(math.radians(self.turn))
        zoom = torch.exp(between(self.scale))
        flip = 1 - 2 * (torch.rand(n, generator=rng) < 0.5).float() * self.mirror
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        rows = [cos * flip, -sin, between(2 * self.move), sin * flip, cos, between(2 * self.move)]
        grid = F.affine_grid(torch.stack(rows, dim=1).view(n, 2, 3), list(pixels.shape), align_corners=False)
        return F.grid_sample(pixels, grid, align_corners=False)

    def _erase(self, pixels: Tensor, rng: Generator) -> Tensor:
        """With probability `erase`, one square of 15 to 35 % of the side becomes white."""
        side = pixels.shape[-1]
        draws = torch.rand(len(pixels), 4, generator=rng)
        for k, (chance, size, x, y) in enumerate(draws.tolist()):
            if chance < self.erase:
                edge = int(side * (0.15 + 0.2 * size))
                left, top = int(x * (side - edge)), int(y * (side - edge))
                pixels[k, :, top : top + edge, left : left + edge] = 0
        return pixels
