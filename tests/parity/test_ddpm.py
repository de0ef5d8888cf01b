"""DDPM against diffusers: variances, and whole pipelines from one folder; the bound against torch's KL."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UnCLIPScheduler, UNet2DModel
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from danqing.conditioning.names import Names
from danqing.core.brief import Brief
from danqing.core.seeds import Seeds
from danqing.diffusion.loss import variational_bound
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.samplers import SAMPLERS, DenoiserOutput, run_sampler
from danqing.diffusion.schedule import NO_NOISE, Level, Schedule
from danqing.diffusion.variance import Variance
from danqing.families import open_painter
from danqing.families.ddpm import painter as ddpm

# theirs turns torch tensors into numpy arrays in a way that numpy 2 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

COSINE: dict[str, Any] = {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 1000}
SEED = 5


def network(x: Tensor, t: float | Tensor) -> Tensor:
    """Both halves are smooth in x and t, and nowhere near linear; t in 0 to 999."""
    return torch.cat([torch.tanh(0.8 * x + t / 1000 - 0.3), torch.cos(3 * x)], dim=1)


def ours(config: dict[str, Any], times: Tensor, learned: bool, end: Any = (NO_NOISE,)) -> Any:
    """Our walk along these times from the noise of SEED, the estimate clamped to [-1, 1]."""
    seeds = Seeds([SEED])
    variance, prediction = Variance(config["variance_type"]), Prediction.EPSILON

    def denoise(x: Tensor, level: Level) -> DenoiserOutput:
        said = network(x, level.t)
        told, share = variance.split_output(said if learned else said[:, :3], 3)
        return DenoiserOutput(prediction.x0(x, told, level.alpha, level.sigma).clamp(-1, 1), share)

    levels = [*Schedule.from_config(config).levels_at(int(t) for t in times), *end]
    *_, (end, _) = run_sampler(SAMPLERS["ddpm"].sample(seeds.normal(3, 8, 8), levels, seeds), denoise)
    return end


def theirs(scheduler: DDPMScheduler | UnCLIPScheduler, learned: bool) -> Tensor:
    """The loop of their pipelines; unCLIP's tells where a step leads, and here ends before t = 0."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(1, 3, 8, 8, generator=generator)
    jumps = isinstance(scheduler, UnCLIPScheduler)
    times = scheduler.timesteps
    for k, t in enumerate(times[:-1] if jumps else times):
        output = network(x, t) if learned else network(x, t)[:, :3]
        where = {"prev_timestep": times[k + 1]} if jumps else {}
        x = scheduler.step(output, t, x, generator=generator, **where).prev_sample
    return x


def difference(mine: Tensor, other: Tensor) -> float:
    """The largest, relative to the largest number."""
    return ((mine - other).abs().max() / other.abs().max()).item()


@pytest.mark.parametrize("steps", [25, 200])
@pytest.mark.parametrize("kind", ["fixed_small", "fixed_small_log", "fixed_large", "learned_range"])
@pytest.mark.parametrize("table", [{}, COSINE], ids=["linear", "cosine"])
def test_variances(kind: str, steps: int, table: dict[Any, Any]) -> None:
    """Measured: 6e-6 (25 steps), 9e-5 (200): theirs comes from a float32 table; 3e-4 with all 1000."""
    config = {**table, "variance_type": kind}
    scheduler = DDPMScheduler(**config, clip_sample=True)
    scheduler.set_timesteps(steps)
    learned, tolerance = kind == "learned_range", 5e-5 if steps == 25 else 6e-4
    assert difference(ours(config, scheduler.timesteps, learned), theirs(scheduler, learned)) < tolerance


def test_learned_variance_with_unclips_scheduler() -> None:
    """Measured: 7e-6. Its last step would mix a float32 table's 1 - alpha_bar with an exact beta: 5e-4."""
    scheduler = UnCLIPScheduler(variance_type="learned_range")
    scheduler.set_timesteps(25)
    config = {**COSINE, "variance_type": "learned_range"}
    mine = ours(config, scheduler.timesteps, learned=True, end=())
    assert difference(mine, theirs(scheduler, learned=True)) < 5e-5


def written(folder: Path, **scheduler: Any) -> tuple[UNet2DModel, DDPMScheduler]:
    """A small random network in the layout of google/ddpm-cifar10-32: all files side by side."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=8,
    ).eval()
    theirs = DDPMScheduler(**scheduler)
    unet.save_pretrained(folder)
    theirs.save_pretrained(folder)
    (folder / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}')
    return unet, theirs


def painted(painter: DiffusionPainter, **fields: Any) -> Tensor:
    """The state [1 3 8 8] that our painter ends with."""
    brief = Brief(prompt="anything", seed=SEED, native=True, **fields).resolve(painter.card)
    words = painter.condition(brief)
    *_, last = painter.steps(brief, words, painter.begin(brief, words, Seeds([SEED])))
    return painter.finish(last)


@pytest.mark.parametrize("kind", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_ddpm_pipeline(tmp_path: Path, kind: str, prediction: str) -> None:
    """Measured: 3e-6."""
    unet, scheduler = written(tmp_path, variance_type=kind, prediction_type=prediction)
    pipeline = DDPMPipeline(unet=unet, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(SEED)
    expected = pipeline(generator=generator, num_inference_steps=50, output_type="pt").images
    mine = painted(open_painter(str(tmp_path)), steps=50, sampler="ddpm")
    torch.testing.assert_close((mine + 1) / 2, expected, rtol=0, atol=3e-5)


def test_ddim_pipeline(tmp_path: Path) -> None:
    """Measured: 1.3e-6."""
    unet, scheduler = written(tmp_path)
    pipeline = DDIMPipeline(unet=unet, scheduler=DDIMScheduler.from_config(scheduler.config))
    pipeline.set_progress_bar_config(disable=True)
    asked = {"num_inference_steps": 20, "use_clipped_model_output": True, "output_type": "np"}
    expected = pipeline(generator=torch.Generator().manual_seed(SEED), **asked).images
    mine = painted(open_painter(str(tmp_path)), steps=20, sampler="ddim")
    found = torch.from_numpy(expected).permute(0, 3, 1, 2)
    torch.testing.assert_close((mine + 1) / 2, found, rtol=0, atol=1e-5)


def test_our_folder_opens_in_their_pipeline(tmp_path: Path) -> None:
    """Class k is name k; the class after the last is no name. Measured: the same bytes."""
    components = ddpm.fresh_components("tiny", Names(("cat/猫", "dog/狗")))
    ddpm.save_folder(components, tmp_path / "model", torch.float32)
    pipeline = DDPMPipeline.from_pretrained(tmp_path / "model")
    x, t = torch.randn(3, 16, 8, 8), torch.tensor([900, 500, 20])
    with torch.no_grad():
        expected = pipeline.unet(x, t, torch.tensor([0, 1, 2])).sample
        label = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
        mine = components.unet(x, t, class_labels=label).sample
    torch.testing.assert_close(mine, expected, rtol=0, atol=1e-6)
    assert pipeline.scheduler.config.variance_type == "learned_range"


def test_the_bound_is_the_divergence_of_two_gaussians() -> None:
    """At t > 0 against torch's KL from moments of diffusers' scheduler. Theirs is of float32.

    Measured: 6e-4 at t = 1, 9e-5 at t = 10, less above.
    """
    scheduler = DDPMScheduler(**COSINE, variance_type="learned_range")
    draw = torch.Generator().manual_seed(0)
    clean, latents, noise, share = (2 * torch.rand(4, 1, 3, 8, 8, generator=draw) - 1).double()
    for t in (1, 10, 500, 900):
        bar, before = (scheduler.alphas_cumprod[k].double() for k in (t, t - 1))
        beta = 1 - bar / before
        x = bar.sqrt() * latents + (1 - bar).sqrt() * noise
        kept = (1 - beta).sqrt() * (1 - before) / (1 - bar) * x
        means = [before.sqrt() * beta / (1 - bar) * start + kept for start in (latents, clean)]
        small = (beta * (1 - before) / (1 - bar)).sqrt()
        log_variance = scheduler._get_variance(t, predicted_variance=share)
        divergence = kl_divergence(Normal(means[0], small), Normal(means[1], (log_variance / 2).exp()))
        schedule = Schedule.from_config(COSINE)
        mine = variational_bound(schedule, clean, share, latents, torch.tensor([t]))
        expected = divergence.mean() / math.log(2)
        torch.testing.assert_close(mine[0].double(), expected, rtol=2e-3, atol=1e-6)


def test_the_last_term_is_the_surprise_of_256_levels() -> None:
    """At t = 0, all levels together hold everything, and each what a Gaussian gives its bin."""
    schedule = Schedule.from_config(COSINE)
    levels = (torch.arange(256) / 127.5 - 1).view(256, 1, 1, 1)
    clean, share = torch.full((256, 1, 1, 1), 0.1), torch.full((256, 1, 1, 1), 0.5)
    bits = variational_bound(schedule, clean, share, levels, torch.zeros(256, dtype=torch.long))
    assert (2.0**-bits).sum().item() == pytest.approx(1, abs=1e-5)
    high = 1 - schedule.alpha_bar[0]
    low = (1 - schedule.alpha_bar[1] / schedule.alpha_bar[0]) * high / (1 - schedule.alpha_bar[1])
    normal = Normal(0.1, (high**0.75 * low**0.25).sqrt())
    row = levels[139].double()
    inside = normal.cdf(row + 1 / 255) - normal.cdf(row - 1 / 255)
    assert bits[139].item() == pytest.approx(-inside.log2().item(), rel=1e-4)
