"""Our samplers against diffusers' schedulers: one analytic network, the same times, the same noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from danqing.core.seeds import Seeds
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.samplers import SAMPLERS, run_sampler
from danqing.diffusion.schedule import NO_NOISE, Level, Schedule

# theirs turns torch tensors into numpy arrays in a way that numpy 2 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SD1: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SEED = 5


def network(x: Tensor, t: float | Tensor) -> Tensor:
    """Smooth in x and t, and nowhere near linear; t in 0 to 999."""
    return torch.tanh(0.8 * x + t / 1000 - 0.3) + 0.1 * x


def ours(name: str, levels: list[Level], prediction: Prediction) -> Tensor:
    """The walk `name` along `levels` from the noise of SEED, [1 4 8 8]."""
    seeds = Seeds([SEED])
    x = seeds.normal(4, 8, 8)

    def denoise(x: Tensor, level: Level) -> Tensor:
        return prediction.x0(x, network(x, level.t), level.alpha, level.sigma)

    *_, (end, _) = run_sampler(SAMPLERS[name].sample(x, levels, seeds), denoise)
    return end


def theirs(scheduler: Any, **step: Any) -> Tensor:
    """The loop of diffusers' pipelines. One picture alone draws the same numbers from the same generator."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(1, 4, 8, 8, generator=generator)
    first = getattr(scheduler, "sigmas", torch.zeros(1))[0]
    x = x * (first**2 + 1).sqrt() if isinstance(scheduler, _SIGMA_SPACE) else x
    draws = {"generator": generator} if "generator" in scheduler.step.__code__.co_varnames else {}
    for t in scheduler.timesteps:
        output = network(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(output, t, x, **draws, **step).prev_sample
    return x


_SIGMA_SPACE = (EulerDiscreteScheduler, EulerAncestralDiscreteScheduler, HeunDiscreteScheduler)


def along(times: Tensor | dict[float, None], config: Any = SD1) -> list[Level]:
    """Levels at the times of a scheduler of theirs, whatever its spacing, to the level without noise."""
    return [*Schedule.from_config(config).levels_at(int(t) for t in times), NO_NOISE]


def assert_close(mine: Tensor, other: Tensor, tolerance: float) -> None:
    """Largest difference, relative to the largest number."""
    assert (mine - other).abs().max() <= tolerance * other.abs().max()


@pytest.mark.parametrize("prediction", list(Prediction))
def test_ddim(prediction: Prediction) -> None:
    """Measured: 9e-7 (epsilon), 1.5e-6 (v), 3.8e-6 (sample)."""
    config = {**SD1, "prediction_type": prediction.value, "set_alpha_to_one": False, "steps_offset": 1}
    scheduler = DDIMScheduler(**config, clip_sample=False)
    scheduler.set_timesteps(50)
    levels = Schedule.from_config(config).levels(50)
    assert_close(ours("ddim", levels, prediction), theirs(scheduler), 2e-5)


@pytest.mark.parametrize("steps", [1000, 50])
def test_ddpm(steps: int) -> None:
    """Measured: 2e-5 (1000 steps), 3e-6 (50): their posterior is computed from a float32 table."""
    scheduler = DDPMScheduler(**SD1, clip_sample=False, variance_type="fixed_small")
    scheduler.set_timesteps(steps)
    assert_close(ours("ddpm", along(scheduler.timesteps), Prediction.EPSILON), theirs(scheduler), 2e-4)


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("steps", [20, 10])
def test_dpmpp_2m(spacing: str, steps: int) -> None:
    """Measured: 7e-7 at most."""
    scheduler = DPMSolverMultistepScheduler(**SD1, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    assert_close(ours("dpmpp_2m", along(scheduler.timesteps), Prediction.EPSILON), theirs(scheduler), 5e-6)


def test_dpmpp_2m_sde() -> None:
    """Measured: 1e-6."""
    scheduler = DPMSolverMultistepScheduler(
        **SD1, algorithm_type="sde-dpmsolver++", timestep_spacing="trailing"
    )
    scheduler.set_timesteps(20)
    assert_close(
        ours("dpmpp_2m_sde", along(scheduler.timesteps), Prediction.EPSILON), theirs(scheduler), 1e-5
    )


@pytest.mark.parametrize("prediction", [Prediction.EPSILON, Prediction.V])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("euler", EulerDiscreteScheduler),
        ("euler_ancestral", EulerAncestralDiscreteScheduler),
        ("heun", HeunDiscreteScheduler),
    ],
)
def test_sigma_space(name: str, kind: type[Any], prediction: Prediction) -> None:
    """Measured: 1.4e-6 at most. With 28 steps linspace falls on whole times, where both have entries."""
    scheduler = kind(**SD1, prediction_type=prediction.value, timestep_spacing="linspace")
    scheduler.set_timesteps(28)
    times = dict.fromkeys(scheduler.timesteps.tolist())  # Heun lists most times twice
    assert_close(ours(name, along(times), prediction), theirs(scheduler), 1e-5)


def test_unipc() -> None:
    """Measured: 8e-7."""
    scheduler = UniPCMultistepScheduler(**SD1, solver_order=2, solver_type="bh2", final_sigmas_type="zero")
    scheduler.set_timesteps(20)
    assert_close(ours("unipc", along(scheduler.timesteps), Prediction.EPSILON), theirs(scheduler), 1e-5)


def test_zero_terminal_snr() -> None:
    """Theirs with trailing spacing and N dividing T, where it steps right. Measured: 6e-7."""
    config = {
        **SD1,
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
    }
    scheduler = DDIMScheduler(**config, clip_sample=False)
    scheduler.set_timesteps(20)
    assert_close(ours("ddim", Schedule.from_config(config).levels(20), Prediction.V), theirs(scheduler), 1e-5)


@pytest.mark.parametrize("prediction", list(Prediction))
def test_lcm(prediction: Prediction) -> None:
    """At the same times; theirs mixes in a share of x below 1e-8 there (c_skip), ours none."""
    levels = Schedule.from_config(SD1).levels(4, "trailing")
    scheduler = LCMScheduler(**SD1, prediction_type=prediction.value)
    scheduler.set_timesteps(timesteps=[int(level.t) for level in levels[:-1]])
    assert_close(ours("lcm", levels, prediction), theirs(scheduler), 2e-5)
