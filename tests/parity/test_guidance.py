"""Guidance against diffusers' guider and its rescaling."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from torch import Tensor

from danqing.diffusion.guidance import Guidance, classifier_free, rescale
from danqing.diffusion.schedule import Schedule


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


@pytest.mark.parametrize("steps", [5, 10, 20, 50])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.2, 0.8), (0.0, 0.4), (0.6, 1.0)])
def test_interval(steps: int, offset: int, spacing: str, start: float, end: float) -> None:
    """The steps that are guided, of all that are evenly spaced in time."""
    scheduler = DDIMScheduler(timestep_spacing=spacing, steps_offset=offset)
    scheduler.set_timesteps(steps)
    guider = ClassifierFreeGuidance(guidance_scale=4.0, start=start, stop=end)
    theirs = []
    for step, t in enumerate(scheduler.timesteps):
        guider.set_state(step, steps, t)
        theirs.append(guider.num_conditions == 2)
    schedule = Schedule.from_config(dict(scheduler.config))
    guidance = Guidance(4.0, interval=schedule.times_between(start, end))
    mine = [guidance.scale_at(level) == 4.0 for level in schedule.levels(steps)[:-1]]
    assert mine == theirs
