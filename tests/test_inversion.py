"""DDIM backwards: there and back again with linear denoisers, and against diffusers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import DDIMInverseScheduler
from torch import Tensor

from danqing.core.errors import NotFinite
from danqing.core.painter import Canvas, Conditioning
from danqing.core.seeds import Seeds
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.schedule import Schedule
from danqing.families.stable_diffusion.painter import SCHEDULE, random_painter
from danqing.tuning.inversion_edit import edit_by_inversion, invert
from tests.adapters import resolved

SD1: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
    "prediction_type": "epsilon",
}
CONFIGS = {"epsilon": SD1, "v": SCHEDULE, "sample": {**SD1, "prediction_type": "sample"}}
each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
WORDS = Conditioning(torch.zeros(1, 1, 1))


def linear(config: dict[str, Any], variance: Any = 0.8) -> DiffusionPainter:
    """A painter whose denoiser is the best one for Gaussian data of that variance: linear in x."""
    painter = random_painter()
    schedule, prediction = Schedule.from_config(config), Prediction(config["prediction_type"])

    def network(x: Tensor, t: Tensor, _words: Conditioning) -> Tensor:
        alpha, sigma = (part.view(-1, 1, 1, 1) for part in schedule.at(t.long()))
        clean = alpha * variance / (alpha**2 * variance + sigma**2) * x
        return prediction.target(clean, (x - alpha * clean) / sigma, alpha, sigma)

    return replace(painter, network=network, prediction=prediction, schedule=schedule)


def latents() -> Tensor:
    return Seeds([3, 4]).normal(8, 4, 4)


@each_config
def test_there_and_back(config: dict[str, Any]) -> None:
    """Measured: 3e-6 when mended three times, 5e-5 to 6e-4 once, 0.015 to 0.14 without."""
    painter = linear(config)
    brief = resolved(painter, sampler="ddim").model_copy(update={"steps": 50, "guidance": 1.0})
    levels, words = painter.schedule.levels(50), WORDS.expand(2)

    def back(mend: int) -> Tensor:
        noise = invert(painter, latents(), words, levels, mend)
        *_, last = painter.steps(brief, words, Canvas(noise, Seeds([1, 2]), 0, 50))
        return last.state

    torch.testing.assert_close(back(3), latents(), rtol=0, atol=1e-4)
    assert (back(0) - latents()).abs().max() > 1e-2


@each_config
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_against_diffusers(config: dict[str, Any], spacing: str) -> None:
    """`DDIMInverseScheduler` with 20 steps. Measured: 1.2e-5."""
    config = {**config, "timestep_spacing": spacing}
    painter = linear(config)
    theirs = DDIMInverseScheduler.from_config(config)
    theirs.set_timesteps(20)
    x = latents()
    for t in theirs.timesteps:
        x = theirs.step(painter.network(x, t.expand(2), WORDS), t, x).prev_sample
    levels = painter.schedule.levels(20)
    mine = invert(painter, latents(), WORDS.expand(2), levels)
    torch.testing.assert_close(mine, x, rtol=0, atol=1e-4)


def test_data_end_clean_with_sample_prediction() -> None:
    """Where the last level says nothing of the noise, the first step back still makes finite sense."""
    painter = linear({**SCHEDULE, "prediction_type": "sample"})
    levels, words = painter.schedule.levels(20), WORDS.expand(2)
    assert levels[-1].sigma == 0
    assert invert(painter, latents(), words, levels).isfinite().all()


def test_an_edit_keeps_what_is_outside_the_region() -> None:
    """And nothing else: inside, other words paint another picture."""
    painter = random_painter()
    picture = torch.rand(1, 4, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    region = torch.zeros(1, 1, 32, 32)
    region[..., :16] = 1
    brief = resolved(painter, "a dog", guidance=3.0)
    watched: list[Any] = []
    canvas = edit_by_inversion(
        painter, picture, resolved(painter, "a cat"), brief, region, progress=watched.append
    )
    original = painter.vae.encode(picture)
    assert [c.step for c in watched] == [1, 2]
    torch.testing.assert_close(canvas.state[..., 2:], original[..., 2:], rtol=0, atol=1e-5)
    assert (canvas.state[..., :2] - original[..., :2]).abs().max() > 0.01


def test_an_edit_of_little_strength_walks_little() -> None:
    painter = random_painter()
    picture = torch.rand(1, 4, 32, 32) * 2 - 1
    brief = resolved(painter, "a dog").model_copy(update={"steps": 4, "strength": 0.3})
    assert edit_by_inversion(painter, picture, resolved(painter, "a cat"), brief).of == 2


def test_nan_is_told() -> None:
    painter = replace(random_painter(), network=lambda x, _t, _words: x * float("nan"))
    with pytest.raises(NotFinite, match="inverting at t = "):
        invert(painter, latents(), WORDS.expand(2), painter.schedule.levels(5))
