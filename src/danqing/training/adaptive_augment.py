"""Adaptive discriminator augmentation: how to train on few pictures (Karras et al., arXiv 2006.06676).

The discriminator sees real and painted pictures through the same random changes, each of which happens with
probability p. As long as p < 1 the generator does not learn to paint the changes. p grows while the
discriminator is too sure of the real pictures, because that means that it memorises them.

Differences from the paper: geometric changes are one affine map without the filters around it; colour fades
towards white, the background of every picture here; noise and cutout are left out.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Generator, Tensor

_GATES = ("mirror", "quarter", "move", "scale", "turn", "light", "tint")
# as in the paper's appendix B, except the colour changes, which were chosen by hand
_MOVE, _SCALE, _LIGHT, _TINT = 0.125, 0.2, 0.2, 0.2


def augment(pixels: Tensor, p: float, rng: Generator, *, mirror: bool = True) -> Tensor:
    """Augment pictures [n c h w] in [-1, 1] on white (alpha last if c is 4), each change with probability p.

    The random draws do not depend on p. At p = 0 the pictures are returned unchanged. Pixels from beyond the
    edges are white, and transparent if there is alpha.

    mirror: whether a mirrored picture is still a valid one.
    """
    n, channels = pixels.shape[:2]
    chance = torch.rand(len(_GATES), n, generator=rng)
    amount = torch.randn(len(_GATES), n, generator=rng)
    flat = torch.rand(len(_GATES), n, generator=rng)
    tints = torch.randn(n, 3, generator=rng)
    if p <= 0:
        return pixels
    opened = chance < p
    on = dict(zip(_GATES, opened, strict=True))
    on["mirror"] = on["mirror"] & mirror
    draws = dict(zip(_GATES, amount, strict=True))
    moved = _move(_ink(pixels), _places(on, draws, dict(zip(_GATES, flat, strict=True))).to(pixels))
    light = torch.exp(_LIGHT * draws["light"] * on["light"]).view(-1, 1, 1, 1)
    tint = torch.exp(_TINT * tints * on["tint"][:, None]).view(n, 3, 1, 1)
    gains = torch.ones(n, channels, 1, 1)
    gains[:, :3] = light * tint
    return _paper(moved * gains.to(pixels))


def next_probability(
    p: float, certainty: float, pictures: int, *, target: float = 0.6, span: int = 500_000
) -> float:
    """The p after `pictures` more pictures: it grows while `certainty` is above `target`, else it falls.

    certainty: the mean sign of the logits of real pictures, in [-1, 1].
    span: number of pictures in which p can go from 0 to 1.
    """
    step = math.copysign(pictures / span, certainty - target) if certainty != target else 0.0
    return min(1.0, max(0.0, p + step))


def _ink(pixels: Tensor) -> Tensor:
    """The pictures with white and transparent mapped to 0: 1 - colour, and alpha + 1."""
    return torch.cat([1 - pixels[:, :3], pixels[:, 3:] + 1], dim=1)


def _paper(ink: Tensor) -> Tensor:
    """The inverse of `_ink`."""
    return torch.cat([1 - ink[:, :3], ink[:, 3:] - 1], dim=1)


def _places(on: dict[str, Tensor], draws: dict[str, Tensor], flat: dict[str, Tensor]) -> Tensor:
    """The affine map of each picture, [n 2 3], in the coordinates of `grid_sample`."""
    turn = math.pi * (2 * flat["turn"] - 1) * on["turn"]
    angle = turn + math.pi / 2 * torch.floor(4 * flat["quarter"]) * on["quarter"]
    zoom = torch.exp(_SCALE * draws["scale"] * on["scale"])
    flip = 1 - 2 * (on["mirror"] & (flat["mirror"] < 0.5)).float()
    across, down = (2 * _MOVE * draws[name] * on["move"] for name in ("move", "quarter"))
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    return torch.stack([cos * flip, -sin, across, sin * flip, cos, down], dim=1).view(-1, 2, 3)


def _move(pixels: Tensor, places: Tensor) -> Tensor:
    grid = F.affine_grid(places, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, align_corners=False)
