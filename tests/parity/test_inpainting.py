"""Keeping what is outside a region, against StableDiffusionInpaintPipeline; slerp, against a rotation."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from torch import Tensor

from danqing.core.brief import Brief
from danqing.core.painter import InputImages
from danqing.core.seeds import InterpolatedSeeds, Seeds, slerp
from danqing.diffusion.schedule import Schedule
from danqing.families.stable_diffusion.painter import (
    SCHEDULE,
    UNETS,
    VAES,
    painter_of,
    random_components,
)
from danqing.weights.diffusers_folder import StableDiffusionComponents

SD1 = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "set_alpha_to_one": True,
    "steps_offset": 1,
    "clip_sample": False,
    "prediction_type": "epsilon",
}


def components_for(scheduler: dict[str, Any], channels: int) -> StableDiffusionComponents:
    """Tiny ones that paint RGB; the posterior of the VAE has no width, since theirs samples from it."""
    components = random_components()
    torch.manual_seed(1)
    vae = AutoencoderKL(**{**VAES["tiny"], "in_channels": 3, "out_channels": 3, "latent_channels": 4}).eval()
    with torch.no_grad():
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = -60
    unet = UNet2DConditionModel(**{**UNETS["tiny"], "in_channels": channels, "out_channels": 4}).eval()
    return replace(components, vae=vae, unet=unet, scheduler=scheduler)


def strength_for(schedule: Schedule, share: float) -> float:
    """The strength that goes through a share of the times of a schedule, which is what theirs means by it."""
    return bisect_left(range(10**6), share, key=lambda k: schedule.time_fraction(k / 10**6)) / 10**6


class Drawn(Seeds):
    """The noise that their pipeline draws from one generator, after the noise of the posterior."""

    def normal(self, *shape: int) -> Tensor:
        rng = torch.Generator().manual_seed(self.seeds[0])
        torch.randn(1, *shape, generator=rng)
        return torch.randn(1, *shape, generator=rng)


@pytest.mark.parametrize(
    ("channels", "strength"), [(4, 0.8), (9, 1.0)], ids=["blended", "trained to inpaint"]
)
@pytest.mark.parametrize("scheduler", [SD1, SCHEDULE], ids=["epsilon", "v"])
def test_inpainting(scheduler: dict[str, Any], channels: int, strength: float) -> None:
    """Blending in clean space is blending noised latents, since DDIM carries the noise along.

    Measured: 3e-6 on latents up to 6.
    """
    components = components_for(scheduler, channels)
    painter = painter_of(components)
    pipeline = StableDiffusionInpaintPipeline(
        vae=components.vae,
        text_encoder=components.text_encoder,
        tokenizer=components.tokenizer,
        unet=components.unet,
        scheduler=DDIMScheduler.from_config(components.scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    region = torch.zeros(1, 1, 32, 32)
    region[..., 8:24, 8:32] = 1
    brief = Brief(
        prompt="a cat",
        negative_prompt="blue",
        steps=5,
        strength=strength_for(painter.schedule, strength),
        guidance=4.0,
        sampler="ddim",
        native=True,
    )
    brief = brief.resolve(painter.card)
    seeds = Drawn([9])
    words = painter.condition(brief, InputImages(picture * 2 - 1, region))
    *_, last = painter.steps(brief, words, painter.begin(brief, words, seeds))
    theirs = pipeline(
        brief.prompt,
        negative_prompt=brief.negative_prompt,
        image=picture,
        mask_image=region,
        height=32,
        width=32,
        strength=strength,
        num_inference_steps=5,
        guidance_scale=4.0,
        latents=None if strength < 1 else seeds.normal(4, 4, 4),
        generator=torch.Generator().manual_seed(9),
        output_type="latent",
    ).images
    torch.testing.assert_close(last.state, theirs, rtol=0, atol=1e-4)


def test_slerp_is_a_rotation_in_the_plane() -> None:
    """Measured: 1e-15 in float64."""
    torch.manual_seed(0)
    one, two = (
        torch.nn.functional.normalize(torch.randn(1, 8, dtype=torch.float64), dim=1) for _ in range(2)
    )
    aside = torch.nn.functional.normalize(two - (two * one).sum() * one, dim=1)
    angle = math.acos(float((one * two).sum()))
    for amount in (0.0, 0.3, 0.5, 1.0):
        turned = math.cos(amount * angle) * one + math.sin(amount * angle) * aside
        torch.testing.assert_close(slerp(one, two, amount), turned, rtol=0, atol=1e-12)
    torch.testing.assert_close(slerp(one, one, 0.5), one, rtol=0, atol=1e-12)
    torch.testing.assert_close(slerp(one, -one, 0.5), torch.zeros_like(one), rtol=0, atol=1e-12)
    torch.testing.assert_close(slerp(one, 3 * two, 1.0), 3 * two, rtol=0, atol=1e-12)


def test_a_variation_keeps_the_noise_normal_and_begins_at_the_seed() -> None:
    assert torch.equal(InterpolatedSeeds(3, [7, 8], 0.0).normal(64), Seeds([3, 3]).normal(64))
    torch.testing.assert_close(InterpolatedSeeds(3, [7, 8], 1.0).normal(64), Seeds([7, 8]).normal(64))
    half = InterpolatedSeeds(3, list(range(100, 164)), 0.5).normal(4096)
    assert abs(float(half.std()) - 1) < 0.02
    assert abs(float(half.mean())) < 0.02
