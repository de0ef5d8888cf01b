"""Guidance against diffusers' guider and its rescaling."""

from __future__ import annotations

import pytest
import torch
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from torch import Tensor

from danqing.diffusion.guidance import classifier_free, rescale


@pytest.fixture
def pair() -> Tensor:
    return torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scale", [0.5, 4.0, 7.5])
@pytest.mark.parametrize("amount", [0.0, 0.7])
def test_guider(pair: Tensor, scale: float, amount: float) -> None:
    """Measured: exact."""
    conditional, unconditional = pair
    guider = ClassifierFreeGuidance(guidance_scale=scale, guidance_rescale=amount)
    theirs = guider.forward(conditional, unconditional).pred
    mine = rescale(classifier_free(conditional, unconditional, scale), conditional, amount)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("amount", [0.0, 0.3, 1.0])
def test_rescale(pair: Tensor, amount: float) -> None:
    """Measured: exact."""
    conditional, mixed = pair
    torch.testing.assert_close(
        rescale(mixed, conditional, amount),
        rescale_noise_cfg(mixed, conditional, guidance_rescale=amount),
        rtol=0,
        atol=1e-6,
    )
