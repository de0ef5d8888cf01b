"""One generator per picture, so that a picture is the same in any batch and on any device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


class Seeds:
    """Noise for n pictures, each from a CPU generator of its own in float32.

    Picture k draws from `torch.Generator().manual_seed(seeds[k])` only, so its noise does not depend on the
    others, on the batch size or on the device.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = tuple(seeds)
        self._generators = [Generator().manual_seed(seed) for seed in self.seeds]

    @classmethod
    def of(cls, seed: int, count: int) -> Seeds:
        """The seeds of a grid: `seed, seed + 1, ...` (A1111's convention)."""
        return cls([seed + k for k in range(count)])

    def __len__(self) -> int:
        return len(self.seeds)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal noise [n, *shape], on the CPU, float32."""
        return torch.stack([torch.randn(shape, generator=generator) for generator in self._generators])
