"""A picture depends on its own seed alone, in a batch of any size, up to the rounding of kernels.

One picture a batch is what the app does; then they are equal byte for byte (test_paint_app).
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.seeds import Seeds
from danqing.diffusion.painter import DiffusionPainter
from danqing.families.stable_diffusion.painter import random_painter


@pytest.fixture(scope="module")
def painter() -> DiffusionPainter:
    return random_painter()


def paint(painter: DiffusionPainter, brief: ResolvedBrief) -> Tensor:
    conditioning = painter.condition(brief)
    canvas = painter.begin(brief, conditioning, Seeds.of(brief.seed, brief.count))
    *_, canvas = painter.steps(brief, conditioning, canvas)
    return painter.upscale(painter.finish(canvas))


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_sde_karras", "unipc"])
def test_a_picture_is_the_same_in_a_batch_and_alone(painter: DiffusionPainter, sampler: str) -> None:
    """Kernels round by batch size. Measured: up to 9e-6, and up to 8 of 65,536 bytes off by one."""
    brief = Brief.of("a red panda", seed=11, count=4, steps=12, guidance=4, sampler=sampler).resolve(
        painter.card
    )
    grid = paint(painter, brief)
    for k in range(brief.count):
        alone = paint(painter, brief.alone(k))
        torch.testing.assert_close(grid[k : k + 1], alone, rtol=0, atol=5e-5)
        off = (bytes_of(grid[k : k + 1]) - bytes_of(alone)).abs()
        assert off.max() <= 1
        assert off.float().mean() < 1e-3


def bytes_of(pixels: Tensor) -> Tensor:
    return ((pixels + 1) * 127.5).round()


def test_seeds_differ(painter: DiffusionPainter) -> None:
    brief = Brief.of("a red panda", seed=11, count=2, steps=2).resolve(painter.card)
    first, second = paint(painter, brief)
    assert (first - second).abs().max() > 0.01


def test_noise_does_not_depend_on_the_batch() -> None:
    assert torch.equal(Seeds.of(3, 5).normal(2, 2)[4], Seeds([7]).normal(2, 2)[0])
