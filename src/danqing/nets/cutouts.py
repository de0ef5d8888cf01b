"""Many looks at a picture, for a network that knows only small squares: of all of it, and of parts.

As in Disco Diffusion: looks at the whole keep the composition, looks at parts bring detail, and every look is
turned, shifted and coloured a little, so that a picture cannot please the network with tricks. Plain torch,
differentiable, and all that is random comes from each picture's own generator.
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

_TURN, _SHIFT = 10.0, 0.05  # degrees; share of the side
_NOISE, _GREY, _JITTER = 0.01, 0.1, 0.1
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class Cuts:
    """How to make cutouts of a picture.

    overview: how many cutouts show all of it.
    inner: how many show random squares of it.
    power: more than 1 makes those squares smaller.
    grey: the share of `inner` without colour.
    augment: whether to turn, shift and colour the cutouts.
    """

    overview: int
    inner: int
    power: float = 1.0
    grey: float = 0.0
    augment: bool = True

    def __len__(self) -> int:
        return self.overview + self.inner

    def __call__(self, pictures: Tensor, side: int, seeds: Seeds) -> Tensor:
        """Pictures [n 3 h w] in [-1, 1] -> looks [n len(self) 3 side side]."""
        cutouts = torch.cat(
            [_overviews(pictures, self.overview, side), self._inner(pictures, side, seeds)], 1
        )
        return augment(cutouts, seeds) if self.augment else cutouts

    def _inner(self, pictures: Tensor, side: int, seeds: Seeds) -> Tensor:
        """Squares of random size and place, the first of them grey: [n inner 3 side side]."""
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
    """Numbers in [0, 1] from each picture's own generator, [n *shape]."""
    numbers: Tensor = torch.special.ndtr(seeds.normal(*shape))
    return numbers


def to_grey(pictures: Tensor) -> Tensor:
    """The same brightness without colour, [... 3 h w]."""
    luma = torch.tensor(_LUMA).to(pictures).view(3, 1, 1)
    same: Tensor = (pictures * luma).sum(dim=-3, keepdim=True).expand_as(pictures)
    return same


def augment(cutouts: Tensor, seeds: Seeds) -> Tensor:
    """Looks [n k 3 s s] in [-1, 1], each mirrored, turned, shifted, greyed, coloured by chance, and noisy."""
    n, k = cutouts.shape[:2]
    draws = uniform_noise(seeds, k, 9).to(cutouts).flatten(0, 1)
    noise = seeds.normal(*cutouts.shape[1:]).to(cutouts).flatten(0, 1)
    flat = _move(cutouts.flatten(0, 1), draws[:, :4]) + _NOISE * noise
    flat = torch.where(draws[:, 4].view(-1, 1, 1, 1) < _GREY, to_grey(flat), flat)
    return _jitter_colours(flat, (draws[:, 5:] * 2 - 1) * _JITTER).view(n, k, *cutouts.shape[2:])


def _overviews(pictures: Tensor, count: int, side: int) -> Tensor:
    """The whole picture: up to four times as it is, grey, mirrored, and both; more often always as it is."""
    whole = _resize(pad_to_square(pictures), side)
    kinds = [whole, to_grey(whole), whole.flip(-1), to_grey(whole).flip(-1)]
    return torch.stack(kinds if count <= len(kinds) else [whole] * count, dim=1)[:, :count]


def _square(picture: Tensor, side: int, draw: Sequence[float], power: float) -> Tensor:
    """A square of a picture [3 h w], of all its short side down to `side` or half of it: [3 side side].

    draw: three numbers in [0, 1], for its size and its place.
    """
    u, right, down = draw
    height, width = picture.shape[-2:]
    most = min(height, width)
    least = min(side, math.ceil(most / 2))
    size = least + int(u**power * (most - least + 1))
    size = min(size, most)
    top, left = int(down * (height - size + 1)), int(right * (width - size + 1))
    top, left = min(top, height - size), min(left, width - size)  # where a draw is exactly 1
    return _resize(picture[None, :, top : top + size, left : left + size], side)[0]


def _resize(pictures: Tensor, side: int) -> Tensor:
    if pictures.shape[-2:] == (side, side):
        return pictures
    return F.interpolate(pictures, (side, side), mode="bilinear", antialias=True)


def _move(cutouts: Tensor, draws: Tensor) -> Tensor:
    """Looks [m 3 s s] mirrored, turned and shifted by draws [m 4] in [0, 1], their edges going on."""
    mirror = torch.where(draws[:, 0] < 0.5, -1.0, 1.0).to(cutouts)
    angle = torch.deg2rad((draws[:, 1] * 2 - 1) * _TURN)
    shift = (draws[:, 2:] * 2 - 1) * (2 * _SHIFT)  # the grid is 2 wide
    cosine, sine = torch.cos(angle), torch.sin(angle)
    first = torch.stack([mirror * cosine, -sine, shift[:, 0]], dim=1)
    second = torch.stack([mirror * sine, cosine, shift[:, 1]], dim=1)
    grid = F.affine_grid(torch.stack([first, second], dim=1), list(cutouts.shape), align_corners=False)
    return F.grid_sample(cutouts, grid, padding_mode="border", align_corners=False)


def _jitter_colours(cutouts: Tensor, draws: Tensor) -> Tensor:
    """Looks [m 3 s s] in [-1, 1], brighter, sharper, richer and of another hue by draws [m 4] about 0."""
    brightness, contrast, saturation = (1 + draws[:, :3, None, None, None]).unbind(dim=1)
    unit = (cutouts + 1) / 2 * brightness
    mean = to_grey(unit).mean(dim=(1, 2, 3), keepdim=True)
    unit = mean + (unit - mean) * contrast
    plain = to_grey(unit)
    chroma = torch.einsum("mij,mjhw->mihw", _turned_hue(draws[:, 3]), (unit - plain) * saturation)
    return (plain + chroma) * 2 - 1


def _turned_hue(turns: Tensor) -> Tensor:
    """Rotations about the grey axis [m 3 3] (Rodrigues), by shares of a full turn [m]."""
    angle = (2 * math.pi * turns)[:, None, None]
    axis = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]).to(turns) / math.sqrt(3)
    along = torch.full((3, 3), 1 / 3).to(turns)
    return (
        torch.cos(angle) * torch.eye(3).to(turns) + torch.sin(angle) * axis + (1 - torch.cos(angle)) * along
    )
