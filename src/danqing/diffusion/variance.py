"""How much fresh noise a step of DDPM adds: between the posterior's beta-tilde and beta itself.

The two are its variance for data of no variance and of unit variance (DDPM, arXiv 2006.11239 section 3.2). A
network may learn where between them, in logarithms, it lies: improved DDPM, arXiv 2102.09672 eq. 15. It then
answers with twice the channels, its prediction first.
"""

from __future__ import annotations

import math
from enum import StrEnum

import torch
from torch import Tensor

from danqing.core.errors import BadWeights, unknown
from danqing.diffusion.schedule import Level


class Variance(StrEnum):
    """The `variance_type` of a diffusers config: `Variance("learned_range")`."""

    SMALL = "fixed_small"
    LARGE = "fixed_large"
    LEARNED = "learned_range"

    @classmethod
    def _missing_(cls, value: object) -> Variance:
        if value == "fixed_small_log":  # the same number, which diffusers takes the logarithm of first
            return cls.SMALL
        raise BadWeights(unknown("variance_type", str(value), (member.value for member in cls)))

    def halves(self, output: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
        """A network's output [n c h w], or [n 2c h w] where the variance is learned: prediction and share.

        share: -1 is beta-tilde, 1 is beta, and None is -1; [n c h w], or broadcasting over it. A
        learned variance is not heard where the scheduler fixes it, as in diffusers.
        """
        match self:
            case Variance.SMALL:
                return output[:, :channels], None
            case Variance.LARGE:
                return output[:, :channels], torch.ones((), device=output.device)
            case Variance.LEARNED:
                return output[:, :channels], output[:, channels:]


def deviation(now: Level, then: Level, share: Tensor) -> Tensor:
    """Of the noise that a step from `now` to `then` adds, like `share` (2102.09672 eq. 15); then.sigma > 0.

    The betas are those of the step that is walked, however many times of the table it skips.
    """
    beta = 1 - (now.alpha / then.alpha) ** 2
    high = math.log(beta)
    low = high + 2 * math.log(then.sigma / now.sigma)  # beta-tilde, 2006.11239 eq. 7
    return log_between(share, low, high).div(2).exp()


def log_between(share: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """The log variance at `share` in [-1, 1] of the way from `low` to `high`, both in logarithms too."""
    part = (share + 1) / 2
    return part * high + (1 - part) * low
