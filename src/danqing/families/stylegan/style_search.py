"""Searches for styles: of a given picture (projection), and for a prompt.

Projection: Karras et al., arXiv 1912.04958 section 5, with several sizes of the picture in place of VGG
features.
Prompt: gradient ascent on the CLIP score (after StyleCLIP, arXiv 2103.17249 section 4) from the best of many
random styles, because ascent from a bad start ends in a bad local optimum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Generator, Tensor

from danqing.families.clip import ClipScorer
from danqing.nets.placement import as_input, to_float32
from danqing.nets.stylegan import StyleGenerator

Paint = Callable[[Tensor], Tensor]
"""Styles w [n style] -> pictures [n c h w]."""

_STARTS = 64
_SIZES = (1, 2, 4)


def style_of(generator: StyleGenerator, z: Tensor, label: Tensor) -> Tensor:
    """The styles w [n style] of latents z [n latent] and labels [n k], in float32."""
    w: Tensor = generator.mapping(as_input(generator, z), as_input(generator, label))
    return to_float32(w)


def picture_of(generator: StyleGenerator, ws: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
    """The pictures [n c h w] of styles ws [n rows style], in float32.

    noise: as in `Synthesis`.
    """
    maps = None if noise is None else [as_input(generator, each) for each in noise]
    pictures: Tensor = generator.synthesis(as_input(generator, ws), maps)
    return to_float32(pictures)


def picture_error(painted: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of pictures at full, half and quarter size, [n]."""
    differences = [F.avg_pool2d(painted - target, size) for size in _SIZES]
    return torch.stack([each.square().mean(dim=(1, 2, 3)) for each in differences]).mean(dim=0)


@torch.enable_grad()
def project(
    generator: StyleGenerator, picture: Tensor, label: Tensor, steps: int = 100, rate: float = 0.1
) -> Tensor:
    """The styles [1 rows style], one for each row, that paint `picture` [1 c h w] best, without noise.

    Optimisation starts from the best of 64 styles of `label` [1 k], and the best styles so far are kept. It
    uses no random seed, so the same picture gives the same styles.
    """
    start = _best_start(generator, picture, label)
    ws = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([ws], lr=rate)
    best, least = start, math.inf
    for step in range(steps + 1):
        error = picture_error(picture_of(generator, ws), picture).sum()
        if error.item() < least:
            best, least = ws.detach().clone(), error.item()
        optimiser.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / (steps + 1)))
        optimiser.zero_grad()
        torch.autograd.backward(error)
        optimiser.step()
    return best


@torch.no_grad()
def _best_start(generator: StyleGenerator, picture: Tensor, label: Tensor) -> Tensor:
    z = torch.randn(_STARTS, generator.config.latent, generator=Generator().manual_seed(0))
    w = style_of(generator, z, label.expand(_STARTS, -1))
    ws = generator.rows(torch.cat([to_float32(generator.mean[None]), w]))
    errors = picture_error(picture_of(generator, ws), picture)
    return ws[errors.argmin()][None]


@torch.no_grad()
def best_of(candidates: Tensor, paint: Paint, scorer: ClipScorer, target: Tensor) -> Tensor:
    """The one of `candidates` [n style] whose picture is nearest to the embedding `target` [d]: [style]."""
    return candidates[(scorer.image_embeddings(paint(candidates)) @ target).argmax()]


class Climb:
    """Gradient ascent of styles on the CLIP score; pictures of one batch do not affect each other.

    start: the first styles [n style].
    target: the target embedding of each picture [n d], of length 1.
    scorer: CLIP.
    rate: the learning rate of Adam.
    pull: the weight of the squared distance of w from the start (mean over its numbers), against the cosine.
    """

    def __init__(self, start: Tensor, target: Tensor, scorer: ClipScorer, rate: float, pull: float) -> None:
        self._start, self._target, self._scorer, self._pull = start, target, scorer, pull
        self._w = start.clone().requires_grad_()
        self._optimiser = torch.optim.Adam([self._w], lr=rate)

    @torch.enable_grad()
    def step(self, paint: Paint) -> Tensor:
        """Do one step, and return the new styles [n style]."""
        nearness = (self._scorer.image_embeddings(paint(self._w)) * self._target).sum(dim=1)
        away = (self._w - self._start).square().mean(dim=1)
        self._optimiser.zero_grad()
        torch.autograd.backward((self._pull * away - nearness).sum())
        self._optimiser.step()
        return self._w.detach()
