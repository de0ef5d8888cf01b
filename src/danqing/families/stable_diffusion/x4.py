"""Stable Diffusion's x4 upscaler: latent diffusion with the noisy small picture as further input channels.

Its latents have the size of the small picture, so the result is four times larger (model card of
stabilityai/stable-diffusion-x4-upscaler). The small picture has a noise schedule of its own, and its noise
level is an input of the network, as a class label. A large picture is painted in overlapping tiles, which
take their noise from one large tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import product

import torch
from torch import Tensor

from danqing.core.brief import ResolvedBrief
from danqing.core.errors import BadBrief
from danqing.core.painter import NO_IMAGES, Canvas, Conditioning, InputImages
from danqing.core.seeds import Seeds
from danqing.diffusion.guidance import Network
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.schedule import Schedule

NOISE_LEVEL = 20  # noise level of the small picture; the published default
NOISIEST = 350  # the highest noise level of its training
TILE, OVERLAP = 128, 16  # pixels of the small picture


@dataclass(eq=False)
class X4Painter(DiffusionPainter):
    """Upscales a picture by diffusion; it cannot paint from a prompt alone.

    low: the noise schedule of the small picture.
    network_at: noise level of the small picture -> the network for it.
    level: the current noise level, in [0, 350].
    """

    low: Schedule = field(kw_only=True)
    network_at: Callable[[int], Network] = field(kw_only=True)
    level: int = field(default=NOISE_LEVEL, kw_only=True)

    def condition(self, brief: ResolvedBrief, images: InputImages = NO_IMAGES) -> Conditioning:  # noqa: ARG002
        """Refuse a request without a picture to upscale.

        Raises:
            BadBrief: always.
        """
        raise BadBrief(
            f"model {self.card.name!r} only enlarges: danqing upscale picture.png --model {brief.model}"
        )

    def at_level(self, level: int) -> X4Painter:
        """The same painter for a noise level of the small picture; more noise allows larger changes.

        Raises:
            BadBrief: the level is above that of its training.
        """
        if not 0 <= level <= NOISIEST:
            raise BadBrief(
                f"noise_level {level} is beyond what model {self.card.name!r} knows: use 0 to {NOISIEST}"
            )
        return replace(self, level=level, network=self.network_at(level))

    def tiles(self, height: int, width: int) -> int:
        """The number of tiles in which `repaint` paints a picture of that size."""
        return len(list(_tiles(*self._pad(torch.empty(1, 1, height, width)).shape[-2:])))

    @torch.no_grad()
    def repaint(self, pixels: Tensor, brief: ResolvedBrief) -> Iterator[Tensor]:
        """Upscale a picture [1 c h w] in [-1, 1]; yields all tiles so far [1 3 4h 4w] after each tile.

        Overlapping tiles are blended linearly.

        brief: the prompt, seed, steps and guidance.

        Raises:
            NotFinite: the output of the network is NaN or infinite.
        """
        seeds, factor = Seeds(brief.seeds[:1]), self.vae.factor
        small = self._pad(pixels[:, :3])
        drawn = seeds.normal(3 + self.vae.channels, *small.shape[-2:])
        noised = self._add_noise(small, drawn[:, :3]).to(self.device)
        cond = super().condition(brief)
        total = torch.zeros(1, 3, *(factor * side for side in small.shape[-2:]))
        weight = torch.zeros_like(total[:, :1])
        for rows, columns in _tiles(*small.shape[-2:]):
            concat = noised[..., rows, columns]
            start = Canvas(drawn[:, 3:, rows, columns].to(noised), seeds, 0, brief.steps or 0)
            *_, painted = self.steps(brief, _seeing(cond, concat), start)
            fade = _fade(*concat.shape[-2:]).repeat_interleave(factor, 0).repeat_interleave(factor, 1)
            down, right = (slice(factor * part.start, factor * part.stop) for part in (rows, columns))
            total[..., down, right] += fade * self.finish(painted)
            weight[..., down, right] += fade
            large = total / weight.clamp(min=1e-6)
            yield large[..., : factor * pixels.shape[-2], : factor * pixels.shape[-1]]

    def _add_noise(self, small: Tensor, noise: Tensor) -> Tensor:
        alpha, sigma = self.low.at(torch.tensor([self.level]))
        return alpha * small + sigma * noise

    def _pad(self, small: Tensor) -> Tensor:
        """The picture padded at the bottom and the right to a multiple of the network's size multiple."""
        grid = self.card.size_multiple // self.vae.factor
        down, right = (-side % grid for side in small.shape[-2:])
        return torch.nn.functional.pad(small, (0, right, 0, down), mode="replicate")


def _seeing(cond: Conditioning, concat: Tensor) -> Conditioning:
    negative = None if cond.negative is None else replace(cond.negative, concat=concat)
    return replace(cond, concat=concat, negative=negative)


def _tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Overlapping tiles that cover the picture, row by row."""
    yield from product(_parts(height), _parts(width))


def _parts(side: int) -> list[slice]:
    if side <= TILE:
        return [slice(0, side)]
    starts = [*range(0, side - TILE, TILE - OVERLAP), side - TILE]
    return [slice(start, start + TILE) for start in starts]


def _fade(height: int, width: int) -> Tensor:
    """The blending weights of a tile [height width]: 1 inside, linearly lower towards the edges."""
    return _ramp(height)[:, None] * _ramp(width)


def _ramp(side: int) -> Tensor:
    from_edge = torch.minimum(torch.arange(side), torch.arange(side).flip(0)) + 1
    return (from_edge / OVERLAP).clamp(max=1)
