"""Every sampler, answered by the closed-form denoiser of Gaussian data, so that the right result is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from danqing.core.errors import BadBrief
from danqing.core.seeds import Seeds
from danqing.diffusion.samplers import SAMPLERS, run_sampler
from danqing.diffusion.schedule import Level, Schedule

MEAN, STD = 0.4, 0.7
SD1: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "timestep_spacing": "trailing",
}
ZERO = {**SD1, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
COSINE = {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing"}
FIRST_ORDER = ("ddim", "euler", "ddpm", "euler_ancestral")
ODE = ("ddim", "heun", "dpmpp_2m", "unipc")


def denoise(x: Tensor, level: Level) -> Tensor:
    """E[x_0 | x] for x_0 ~ N(MEAN, STD^2): the posterior mean of two Gaussians."""
    gain = level.alpha * STD**2 / (level.alpha**2 * STD**2 + level.sigma**2)
    return MEAN + gain * (x - level.alpha * MEAN)


def consistent(x: Tensor, level: Level) -> Tensor:
    """Where the flow through x ends: it keeps (x - alpha MEAN) / spread."""
    return MEAN + STD * (x - level.alpha * MEAN) / spread(level)


def spread(level: Level) -> float:
    """The deviation of x at this level."""
    return math.hypot(level.alpha * STD, level.sigma)


def levels_of(name: str, config: dict[str, Any], steps: int) -> list[Level]:
    return Schedule.from_config(config).levels(steps, SAMPLERS[name].spacing, SAMPLERS[name].set_alpha_to_one)


def run(name: str, levels: list[Level], seeds: Seeds, x: Tensor | None = None) -> Tensor:
    x = seeds.normal(1, 32, 32) * spread(levels[0]) + levels[0].alpha * MEAN if x is None else x
    answer = consistent if name == "lcm" else denoise
    *_, (end, _) = run_sampler(SAMPLERS[name].sample(x, levels, seeds), answer)
    return end


@pytest.mark.parametrize("name", list(SAMPLERS))
@pytest.mark.parametrize("config", [SD1, ZERO, COSINE], ids=["sd1", "zero", "cosine"])
def test_moments_are_recovered(name: str, config: dict[str, Any]) -> None:
    """65,536 numbers: chance alone moves mean and deviation by 0.4 % of the deviation.

    Measured: mean within 0.5 %, deviation within 1.6 % (first order, 250 steps) or 1.3 % (others, 100).
    """
    pictures = run(name, levels_of(name, config, 250 if name in FIRST_ORDER else 100), Seeds.of(7, 64))
    assert_moments(pictures, 0.03)


def assert_moments(pictures: Tensor, tolerance: float) -> None:
    assert pictures.mean().item() == pytest.approx(MEAN, abs=tolerance * STD)
    assert pictures.std().item() == pytest.approx(STD, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("dpmpp_2m", COSINE),
        ("unipc", COSINE),
        ("dpmpp_2m_karras", SD1),
        ("dpmpp_2m_sde_karras", SD1),
        ("heun", SD1),
    ],
)
def test_second_order_needs_only_twenty_steps(name: str, config: dict[str, Any]) -> None:
    """Measured deviation: -0.5, -0.4, +0.8, +3.0, +0.7 %."""
    assert_moments(run(name, levels_of(name, config, 20), Seeds.of(7, 64)), 0.05)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_consistent_answer_needs_hardly_any_steps(steps: int) -> None:
    assert_moments(run("lcm", levels_of("lcm", COSINE, steps), Seeds.of(7, 64)), 0.02)


def test_ddpm_with_all_steps() -> None:
    assert_moments(run("ddpm", levels_of("ddpm", SD1, 1000), Seeds.of(7, 64)), 0.02)


def even(steps: int) -> list[Level]:
    """Levels even in lambda, so that halving the step halves every h."""
    lambdas = [-2 + 4 * i / steps for i in range(steps + 1)]
    return [Level(1 / math.hypot(1, math.exp(-v)), 1 / math.hypot(1, math.exp(v)), t=0.0) for v in lambdas]


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("heun", 2), ("dpmpp_2m", 2), ("unipc", 3)])
def test_order_of_convergence(name: str, order: int) -> None:
    """The flow of a Gaussian keeps (x - alpha MEAN) / spread; the error must fall as h^order."""
    x = torch.tensor([[[[-1.0, 0.3, 2.0]]]], dtype=torch.float64)
    errors = []
    for steps in (32, 64):
        levels = even(steps)
        end = run(name, levels, Seeds.of(0, 1), x)
        exact = (x - levels[0].alpha * MEAN) / spread(levels[0]) * spread(levels[-1]) + levels[
            -1
        ].alpha * MEAN
        errors.append((end - exact).abs().max().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_drive_counts_steps(name: str) -> None:
    levels, queried = levels_of(name, SD1, 6), []

    def answer(x: Tensor, level: Level) -> Tensor:
        queried.append(level)
        return denoise(x, level)

    done = list(run_sampler(SAMPLERS[name].sample(torch.zeros(1, 1, 2, 2), levels, Seeds([1])), answer))
    assert len(done) == 6
    assert len(queried) == (
        11 if name == "heun" else 6
    )  # Heun looks ahead, but not to the level without noise


def test_stopping_early_asks_no_more() -> None:
    queried = []
    progress = run_sampler(
        SAMPLERS["ddim"].sample(torch.zeros(1, 1, 2, 2), levels_of("ddim", SD1, 50), Seeds([1])),
        lambda x, level: queried.append(level) or x,
    )
    next(progress)
    progress.close()
    assert len(queried) <= 2


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_one_step_gives_the_clean_estimate(name: str) -> None:
    levels, seeds = levels_of(name, ZERO, 1), Seeds.of(3, 2)
    noise = Seeds.of(3, 2).normal(1, 32, 32)
    clean = MEAN + STD * noise if name == "lcm" else torch.tensor(MEAN)  # where alpha is 0
    assert torch.allclose(run(name, levels, seeds), clean, atol=1e-6)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_pictures_do_not_depend_on_their_neighbours(name: str) -> None:
    levels = levels_of(name, SD1, 8)
    grid, alone = run(name, levels, Seeds.of(5, 3)), run(name, levels, Seeds.of(7, 1))
    assert torch.equal(grid[2:], alone)


@pytest.mark.parametrize("name", ODE)
def test_deterministic_samplers_draw_nothing(name: str) -> None:
    seeds = Seeds.of(1, 1)
    run(name, levels_of(name, SD1, 5), seeds, torch.zeros(1, 1, 2, 2))
    assert torch.equal(seeds.normal(4), Seeds.of(1, 1).normal(4))


def test_unknown_sampler_names_the_nearest() -> None:
    with pytest.raises(BadBrief, match="did you mean 'dpmpp_2m'"):
        SAMPLERS["dpmpp2m"]


def test_titles_are_unique() -> None:
    titles = [sampler.title for sampler in SAMPLERS.values()]
    assert len(titles) == len(set(titles))
