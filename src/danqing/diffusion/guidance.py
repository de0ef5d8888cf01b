"""Following the words more closely than the network would by itself.

Guidance turns a network of (x, t, words) into a function of (x, level): what is left to ask. It works on
raw network outputs; since a clean estimate is affine in the output, mixing outputs and mixing clean
estimates is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from danqing.core.painter import Conditioning
from danqing.diffusion.schedule import Level

Network = Callable[[Tensor, Tensor, Conditioning], Tensor]
"""(x [n c h w], t [n], words for n pictures) -> output [n c h w], whatever `Prediction` says it means."""


@dataclass(frozen=True)
class Guidance:
    """How strongly, how tamely and when to guide.

    scale: 1 follows the words as learned, 0 ignores them, more exaggerates them. rescale: in [0, 1], how
    far to pull the contrast back (arXiv 2305.08891 suggests 0.7). interval: the log-SNRs between which to
    guide at all (arXiv 2404.07724); elsewhere the scale is 1 and a step costs half.
    """

    scale: float
    rescale: float = 0.0
    interval: tuple[float, float] = (-math.inf, math.inf)

    def scale_at(self, level: Level) -> float:
        """The scale at this level: 1 outside the interval."""
        low, high = self.interval
        return self.scale if low <= level.log_snr <= high else 1.0


def guided(network: Network, words: Conditioning, guidance: Guidance) -> Callable[[Tensor, Level], Tensor]:
    """The network led by `words` and away from their negative: (x [n c h w], level) -> output [n c h w].

    Where both answers are needed they come from one call with 2n rows.

    Raises:
        ValueError: a scale other than 1 needs `words.negative`.
    """
    without = words.negative
    if guidance.scale != 1 and without is None:
        raise ValueError(
            f"guidance {guidance.scale} needs a negative conditioning, if only of the empty prompt"
        )

    def output(x: Tensor, level: Level) -> Tensor:
        scale = guidance.scale_at(level)
        t = torch.full((len(x),), level.t, device=x.device)
        if scale == 1 or without is None:
            return network(x, t, words)
        if scale == 0:
            return network(x, t, without)
        pair = network(torch.cat([x, x]), torch.cat([t, t]), Conditioning.cat(without, words))
        unconditional, conditional = pair.chunk(2)
        mixed = classifier_free(conditional, unconditional, scale)
        return rescaled(mixed, conditional, guidance.rescale)

    return output


def keeping(
    denoise: Callable[[Tensor, Level], Tensor], words: Conditioning
) -> Callable[[Tensor, Level], Tensor]:
    """`denoise` that answers with the given picture outside the region to repaint.

    The clean estimates are mixed, not the noisy states, so it holds with every sampler: outside the region
    the walk heads for the picture itself. With deterministic samplers that is blended latent diffusion (arXiv
    2206.02779 section 4.1), which noises the picture anew at each level.
    """
    if words.image is None or words.region is None:
        return denoise
    image, region = words.image, words.region

    def kept(x: Tensor, level: Level) -> Tensor:
        return image + region * (denoise(x, level) - image)

    return kept


def classifier_free(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Ho and Salimans, arXiv 2207.12598, as Imagen writes it (arXiv 2205.11487 eq. 2): u + w (c - u)."""
    return unconditional + scale * (conditional - unconditional)


def rescaled(mixed: Tensor, conditional: Tensor, amount: float) -> Tensor:
    """Lin et al., arXiv 2305.08891 eq. 15-16: give `mixed` the deviation of `conditional`, by `amount`.

    All [n c h w], the deviation over c, h and w of each picture; `amount` from 0 (not at all) to 1 (fully).
    """
    if amount == 0:
        return mixed
    axes = tuple(range(1, mixed.ndim))
    matched = mixed * (conditional.std(axes, keepdim=True) / mixed.std(axes, keepdim=True))
    return amount * matched + (1 - amount) * mixed
