"""Limits the range of x0; each function here can be a `DiffusionPainter.threshold`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from danqing.core.errors import BadWeights


def static_threshold(x0: Tensor) -> Tensor:
    """Static thresholding: clip x0 to [-1, 1], the range of pixels (arXiv 2205.11487 section 2.3)."""
    return x0.clamp(-1, 1)


@dataclass(frozen=True)
class DynamicThresholding:
    """Dynamic thresholding (arXiv 2205.11487 section 2.3), against saturation by strong guidance.

    Each picture is clipped to [-s, s] and divided by s, the p-quantile of its absolute values, at least 1.

    p: the quantile, in (0, 1].
    cap: the largest s, 1 or more; 1 is `static_threshold`, None sets no limit, as in the paper.

    Raises:
        BadWeights: p is outside (0, 1], or the cap is below 1.
    """

    p: float = 0.995
    cap: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise BadWeights(
                f"dynamic thresholding: p {self.p:g} is no quantile: choose from (0, 1], as 0.995"
            )
        if self.cap is not None and not self.cap >= 1:
            raise BadWeights(
                f"dynamic thresholding: cap {self.cap:g} would stretch pictures: choose 1 or more, or none"
            )

    def __call__(self, x0: Tensor) -> Tensor:
        """x0 [n c h w] of any range -> x0 in [-1, 1]."""
        sizes = torch.quantile(x0.abs().flatten(1), self.p, dim=1)
        s = sizes.clamp(1, math.inf if self.cap is None else self.cap).view(-1, 1, 1, 1)
        return torch.clamp(x0, -s, s) / s
