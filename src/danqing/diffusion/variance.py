"""The variance of a DDPM step: between beta-tilde, that of the posterior, and beta.

Beta-tilde is optimal for data without variance, beta for data of unit variance (DDPM, arXiv 2006.11239
section 3.2). A network may learn an interpolation of their logarithms: improved DDPM, arXiv 2102.09672
eq. 15. Its output then has twice the channels; the prediction comes first.
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
        if value == "fixed_small_log":  # the same variance, which diffusers computes by its logarithm
            return cls.SMALL
        raise BadWeights(unknown("variance_type", str(value), (member.value for member in cls)))

    def split_output(self, output: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
        """Split a network's output into the prediction and the predicted variance.

        output: [n c h w], or [n 2c h w] where the variance is learned.
        channels: c.

        The prediction is [n c h w]. The predicted variance, [n c h w] or a shape that broadcasts to it,
        interpolates the log variance: -1 is beta-tilde, 1 is beta, and None counts as -1. Where the scheduler
        has a fixed variance, a learned one is ignored, as in diffusers.
        """
        match self:
            case Variance.SMALL:
                return output[:, :channels], None
            case Variance.LARGE:
                return output[:, :channels], torch.ones((), device=output.device)
            case Variance.LEARNED:
                return output[:, :channels], output[:, channels:]


def deviation(level: Level, next_level: Level, predicted_variance: Tensor) -> Tensor:
    """The standard deviation of the noise that a step adds (arXiv 2102.09672 eq. 15).

    Beta and beta-tilde are those of the whole step, also if it skips times of the table.

    level, next_level: start and end of the step; the sigma of `next_level` is above 0.
    predicted_variance: as in `Variance.split_output`; the result has the same shape.
    """
    beta = 1 - (level.alpha / next_level.alpha) ** 2
    high = math.log(beta)
    low = high + 2 * math.log(next_level.sigma / level.sigma)  # beta-tilde, 2006.11239 eq. 7
    return log_between(predicted_variance, low, high).div(2).exp()


def log_between(predicted_variance: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """The log variance interpolated between `low` and `high`.

    predicted_variance: in [-1, 1]; -1 gives `low`, 1 gives `high`.
    low, high: logarithms of variances.
    """
    fraction = (predicted_variance + 1) / 2
    return fraction * high + (1 - fraction) * low
