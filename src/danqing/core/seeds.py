"""One generator per picture, so that a picture is the same in any batch and on any device."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

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

    def further(self, stage: int) -> Seeds:
        """Seeds for another stage of the same pictures; each depends on the picture's own seed only."""
        return Seeds([_further(seed, stage) for seed in self.seeds])

    def normal(self, *shape: int) -> Tensor:
        """Standard normal noise [n, *shape], on the CPU, float32."""
        return torch.stack([torch.randn(shape, generator=generator) for generator in self._generators])


class InterpolatedSeeds(Seeds):
    """Noise between that of one seed and those of other seeds, for variations of a picture.

    Picture k draws slerp(noise of `seed`, noise of `others[k]`, amount); an amount of 0 is `seed` alone.
    """

    def __init__(self, seed: int, others: Sequence[int], amount: float) -> None:
        super().__init__([seed] * len(others))
        self._others, self._amount = Seeds(others), amount

    def further(self, stage: int) -> InterpolatedSeeds:
        """See `Seeds.further`; the seeds of that stage are interpolated by the same amount."""
        one, others = super().further(stage).seeds, self._others.further(stage).seeds
        return InterpolatedSeeds(one[0], others, self._amount)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal noise [n, *shape]."""
        return slerp(super().normal(*shape), self._others.normal(*shape), self._amount)


def _further(seed: int, stage: int) -> int:
    # torch's CPU generator uses only 32 bits of a seed, so seed + stage would repeat another picture's noise
    return Random(f"stage {stage} of {seed}").getrandbits(32)


def slerp(a: Tensor, b: Tensor, amount: float) -> Tensor:
    """Spherical interpolation from a to b [n ...], row by row; the norms are interpolated linearly.

    With angle w between them, (sin((1 - t) w) a/|a| + sin(t w) b/|b|) / sin w, times (1 - t)|a| + t|b|.
    Parallel rows are mixed linearly, because the formula is 0/0 there. Opposite rows have no unique shortest
    path and are mixed linearly too, through 0.
    """
    flat_a, flat_b = a.flatten(1).double(), b.flatten(1).double()
    long_a, long_b = flat_a.norm(dim=1, keepdim=True), flat_b.norm(dim=1, keepdim=True)
    one, two = flat_a / long_a.clamp(min=1e-12), flat_b / long_b.clamp(min=1e-12)
    angle = torch.acos((one * two).sum(1, keepdim=True).clamp(-1, 1))
    sine = torch.sin(angle)
    length = (1 - amount) * long_a + amount * long_b
    round_ = (torch.sin((1 - amount) * angle) * one + torch.sin(amount * angle) * two) / sine * length
    straight = (1 - amount) * flat_a + amount * flat_b
    return torch.where(sine > 1e-6, round_, straight).reshape(a.shape).to(a.dtype)
