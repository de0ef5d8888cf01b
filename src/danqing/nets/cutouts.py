"""Cutouts: small square crops of a picture as the input of CLIP, some of all of it, some of parts.

As in Disco Diffusion: cutouts of the whole picture guide the composition, cutouts of parts guide the detail.
Each is rotated, shifted and recoloured a little, so that adversarial patterns do not lower the loss. The code
is plain torch and differentiable; all random numbers come from each picture's own generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from danqing.core.images import pad_to_square
from danqing.core.seeds import Seeds

_TURN, _SHIFT = 10.0, 0.05  # degrees; fraction of the side
_NOISE, _GREY, _JITTER = 0.01, 0.1, 0.1
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class Cuts:
    """How to make cutouts of a picture.

    overview: how many cutouts show the whole picture.
    inner: how many cutouts show random squares of it.
    power: above 1, the random squares are smaller on average.
    grey: the fraction of `inner` cutouts without colour, in [0, 1].
    augment: whether to rotate, shift and recolour the cutouts.
    """

    overview: int
    inner: int
    power: float = 1.0
    grey: float = 0.0
    augment: bool = True

    def __len__(self) -> int:
        return self.overview + self.inner

    def __call__(self, pictures: Tensor, side: int, seeds: Seeds) -> Tensor:
        """Pictures [n 3 h w] in [-1, 1] -> cutouts [n len(self) 3 side side]."""
        cutouts = torch.cat(
            [_overviews(pictures, self.overview, side), self._inner(pictures, side, seeds)], 1
        )
        return augment(cutouts, seeds) if self.augment else cutouts

    def _inner(self, pictures: Tensor, side: int, seeds: Seeds) -> Tensor:
        """Squares of random size and position [n inner 3 side side]; the first ones are grey."""
        drawn = uniform_noise(seeds, self.inner, 3).tolist()
        rows = [
            [_square(picture, side, draw, self.power) for draw in draws]
            for picture, draws in zip(pictures, drawn, strict=True)
        ]
        if not self.inner:
            return pictures.new_empty(len(pictures), 0, 3, side, side)
        cutouts = torch.stack([torch.stack(row) for row in rows])
        without = int(self.grey * self.inner)
        return torch.cat([to_grey(cutouts[:, :without]), cutouts[:, without:]], dim=1)


def uniform_noise(seeds: Seeds, *shape: int) -> Tensor:
    """Uniform numbers in [0, 1] from each picture's own generator, [n *shape]."""
    numbers: Tensor = torch.special.ndtr(seeds.normal(*shape))
    return numbers


def to_grey(pictures: Tensor) -> Tensor:
    """Pictures [... 3 h w] without colour, at the same brightness."""
    luma = torch.tensor(_LUMA).to(pictures).view(3, 1, 1)
    same: Tensor = (pictures * luma).sum(dim=-3, keepdim=True).expand_as(pictures)
    return same


def augment(cutouts: Tensor, seeds: Seeds) -> Tensor:
    """Randomly mirror, rotate, shift, grey and recolour cutouts [n k 3 s s] in [-1, 1], and add noise."""
    n, k = cutouts.shape[:2]
    draws = uniform_noise(seeds, k, 9).to(cutouts).flatten(0, 1)
    noise = seeds.normal(*cutouts.shape[1:]).to(cutouts).flatten(0, 1)
    flat = _move(cutouts.flatten(0, 1), draws[:, :4]) + _NOISE * noise
    flat = torch.where(draws[:, 4].view(-1, 1, 1, 1) < _GREY, to_grey(flat), flat)
    return _jitter_colours(flat, (draws[:, 5:] * 2 - 1) * _JITTER).view(n, k, *cutouts.shape[2:])


def _overviews(pictures: Tensor, count: int, side: int) -> Tensor:
    """Cutouts of the whole picture: for `count` up to 4 plain, grey, mirrored, and both; else all plain."""
    whole = _resize(pad_to_square(pictures), side)
    kinds = [whole, to_grey(whole), whole.flip(-1), to_grey(whole).flip(-1)]
    return torch.stack(kinds if count <= len(kinds) else [whole] * count, dim=1)[:, :count]


def _square(picture: Tensor, side: int, draw: Sequence[float], power: float) -> Tensor:
    """A square of a picture [3 h w], resized to [3 side side].

    Its size is between the short side of the picture and the smaller of `side` and half of the short side.

    draw: three random numbers in [0, 1], for the size, the horizontal and the vertical position.
    power: above 1, smaller squares are more likely.
    """
    u, right, down = draw
    height, width = picture.shape[-2:]
    most = min(height, width)
    least = min(side, math.ceil(most / 2))
    size = least + int(u**power * (most - least + 1))
    size = min(size, most)
    top, left = int(down * (height - size + 1)), int(right * (width - size + 1))
    top, left = min(top, height - size), min(left, width - size)  # a random number may be exactly 1
    return _resize(picture[None, :, top : top + size, left : left + size], side)[0]


def _resize(pictures: Tensor, side: int) -> Tensor:
    if pictures.shape[-2:] == (side, side):
        return pictures
    return F.interpolate(pictures, (side, side), mode="bilinear", antialias=True)


def _move(cutouts: Tensor, draws: Tensor) -> Tensor:
    """Mirror, rotate and shift cutouts [m 3 s s] by draws [m 4] in [0, 1]; edge pixels are repeated."""
    mirror = torch.where(draws[:, 0] < 0.5, -1.0, 1.0).to(cutouts)
    angle = torch.deg2rad((draws[:, 1] * 2 - 1) * _TURN)
    shift = (draws[:, 2:] * 2 - 1) * (2 * _SHIFT)  # grid coordinates are in [-1, 1]
    cosine, sine = torch.cos(angle), torch.sin(angle)
    first = torch.stack([mirror * cosine, -sine, shift[:, 0]], dim=1)
    second = torch.stack([mirror * sine, cosine, shift[:, 1]], dim=1)
    grid = F.affine_grid(torch.stack([first, second], dim=1), list(cutouts.shape), align_corners=False)
    return F.grid_sample(cutouts, grid, padding_mode="border", align_corners=False)


def _jitter_colours(cutouts: Tensor, draws: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue of cutouts [m 3 s s] in [-1, 1].

    draws: random numbers around 0 for the four changes [m 4].
    """
    brightness, contrast, saturation = (1 + draws[:, :3, None, None, None]).unbind(dim=1)
    unit = (cutouts + 1) / 2 * brightness
    mean = to_grey(unit).mean(dim=(1, 2, 3), keepdim=True)
    unit = mean + (unit - mean) * contrast
    plain = to_grey(unit)
    chroma = torch.einsum("mij,mjhw->mihw", _turned_hue(draws[:, 3]), (unit - plain) * saturation)
    return (plain + chroma) * 2 - 1


def _turned_hue(turns: Tensor) -> Tensor:
    """Matrices [m 3 3] that rotate colours about the grey axis (Rodrigues), by fractions of a turn [m]."""
    angle = (2 * math.pi * turns)[:, None, None]
    axis = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]).to(turns) / math.sqrt(3)
    along = torch.full((3, 3), 1 / 3).to(turns)
    return (
        torch.cos(angle) * torch.eye(3).to(turns) + torch.sin(angle) * axis + (1 - torch.cos(angle)) * along
    )
