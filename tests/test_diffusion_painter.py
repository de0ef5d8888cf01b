"""The four verbs over tiny random components, the codecs and the upscaler."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.errors import BadBrief, NotFinite
from danqing.core.painter import Canvas, Conditioning
from danqing.core.seeds import Seeds
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.samplers import SAMPLERS
from danqing.diffusion.schedule import Schedule
from danqing.diffusion.vae import DiffusersVAE, IdentityVAE
from danqing.families.stable_diffusion.painter import random_components, random_painter
from danqing.nets.upscaler import Upscaler, UpscalerConfig

ZERO = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "beta_schedule": "scaled_linear"}
SD1 = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


@pytest.fixture(scope="module")
def painter() -> DiffusionPainter:
    return random_painter()


def resolved(painter: DiffusionPainter, **fields: Any) -> ResolvedBrief:
    return Brief(**{"prompt": "a cat", "seed": 1, "count": 2, "steps": 3, **fields}).resolve(painter.card)


def canvases(painter: DiffusionPainter, brief: ResolvedBrief) -> Iterator[Canvas]:
    words = painter.condition(brief)
    canvas = painter.begin(brief, words, Seeds.of(brief.seed, brief.count))
    yield canvas
    yield from painter.steps(brief, words, canvas)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_all_samplers_paint(painter: DiffusionPainter, sampler: str) -> None:
    brief = resolved(painter, sampler=sampler)
    start, *later = canvases(painter, brief)
    assert [(canvas.step, canvas.of) for canvas in [start, *later]] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    pixels = painter.finish(later[-1])
    assert pixels.shape == (2, 4, 32, 32)
    assert pixels.abs().max() <= 1
    assert painter.upscale(pixels).shape == (2, 4, brief.height, brief.width)


def test_native_and_enlarged_briefs_begin_alike(painter: DiffusionPainter) -> None:
    for fields in ({"native": True, "width": 48, "height": 32}, {"width": 192, "height": 128}):
        start, *_ = canvases(painter, resolved(painter, **fields))
        assert start.state.shape == (2, 8, 4, 6)


def test_words_matter(painter: DiffusionPainter) -> None:
    plain, styled = resolved(painter), resolved(painter, style="3d")
    assert not torch.equal(painter.condition(plain).tokens, painter.condition(styled).tokens)
    assert painter.condition(plain).negative is not None
    *_, one = canvases(painter, plain)
    *_, other = canvases(painter, styled)
    assert not torch.equal(one.state, other.state)


def test_previews(painter: DiffusionPainter) -> None:
    for canvas in canvases(painter, resolved(painter)):
        preview = painter.preview(canvas)
        assert preview.shape == (2, 3, 32, 32)
        assert 0 <= preview.min() <= preview.max() <= 1
    mapped = replace(painter, latent_rgb=torch.cat([torch.zeros(8, 3), torch.tensor([[0.1, 0.2, 0.3]])]))
    preview = mapped.preview(canvas)
    assert preview.shape == (2, 3, 4, 4)
    torch.testing.assert_close(preview[1, :, 2, 2], torch.tensor([0.1, 0.2, 0.3]))


def test_nan_is_raised_with_step_and_time(painter: DiffusionPainter) -> None:
    def network(x: Tensor, t: Tensor, _words: Conditioning) -> Tensor:
        return x * (float("nan") if t[0] < 400 else 0)

    broken = replace(painter, network=network)
    with pytest.raises(NotFinite, match=r"step 3 of 3 \(t = 332, torch\.float32\).*lower the guidance"):
        list(canvases(broken, resolved(painter, sampler="ddim")))


def test_nan_latents_are_not_decoded(painter: DiffusionPainter) -> None:
    *_, last = canvases(painter, resolved(painter))
    with pytest.raises(NotFinite):
        painter.finish(replace(last, state=last.state * float("inf")))


def test_impossible_requests_fail_before_painting(painter: DiffusionPainter) -> None:
    for fields in ({"sampler": "eular"}, {"steps": 1000, "sampler": "ddim"}):
        brief = resolved(painter, **fields)
        if brief.steps == 1000:
            painter = replace(painter, schedule=Schedule.from_config({"num_train_timesteps": 100}))
        with pytest.raises(BadBrief):
            painter.begin(brief, painter.condition(brief), Seeds([1]))


def test_a_pixel_painter_is_the_same_painter(painter: DiffusionPainter) -> None:
    """A network that knows the answer paints it, whatever the noise."""
    answer = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16)
    pixels = DiffusionPainter(
        card=painter.card.model_copy(update={"width": 16, "height": 16, "scale": 1}),
        text=lambda _: Conditioning(torch.zeros(1, 1, 1)),
        network=lambda x, _t, _words: answer.expand(len(x), -1, -1, -1),
        prediction=Prediction.SAMPLE,
        schedule=painter.schedule,
        vae=IdentityVAE(3),
    )
    *_, last = canvases(pixels, resolved(pixels))
    torch.testing.assert_close(pixels.finish(last), answer.expand(2, -1, -1, -1), rtol=0, atol=1e-6)


def test_vae_scale_and_shift_cancel() -> None:
    vae = random_components().vae
    picture = torch.rand(2, 4, 32, 32) * 2 - 1
    plain = DiffusersVAE(vae)
    expected, direct = plain.encode(picture), plain.decode(plain.encode(picture))
    vae.register_to_config(scaling_factor=0.5, shift_factor=0.25)
    scaled = DiffusersVAE(vae)
    torch.testing.assert_close(scaled.encode(picture), (expected - 0.25) * 0.5)
    torch.testing.assert_close(scaled.decode(scaled.encode(picture)), direct)
    assert (scaled.factor, scaled.channels) == (8, 8)


def test_vae_samples_with_each_pictures_seed() -> None:
    vae = DiffusersVAE(random_components().vae)
    picture = torch.rand(1, 4, 32, 32).expand(2, -1, -1, -1) * 2 - 1
    mean, first, again = (
        vae.encode(picture),
        vae.encode(picture, Seeds([1, 2])),
        vae.encode(picture, Seeds([1, 2])),
    )
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(mean[0], mean[1])


def test_upscaler_starts_as_plain_enlargement_and_takes_any_size() -> None:
    upscaler = Upscaler(UpscalerConfig(width=8, depth=3))
    flat = torch.full((1, 4, 5, 7), 0.3)
    with torch.no_grad():
        assert torch.allclose(upscaler(flat), torch.tensor(0.3))
        torch.nn.init.normal_(upscaler.head.weight)
        assert upscaler(flat).shape == (1, 4, 20, 28)
    again = Upscaler.from_config(upscaler.to_config())
    again.load_state_dict(upscaler.state_dict())
    assert torch.equal(again(flat), upscaler(flat))


@pytest.mark.parametrize("strength", [0.1, 0.3, 0.6, 0.8])
@pytest.mark.parametrize("name", list(SAMPLERS))
@pytest.mark.parametrize("config", [{"beta_schedule": "squaredcos_cap_v2"}, SD1])
def test_a_strength_is_the_same_noise_with_every_sampler(
    painter: DiffusionPainter, name: str, strength: float, config: dict[str, Any]
) -> None:
    """Sigma / alpha where a redraw in 50 steps begins. Measured: 0.87 to 1.05 of Stable Diffusion 1's."""
    schedule, target = Schedule.from_config(config), Schedule.from_config(SD1)
    brief = resolved(painter, steps=50, sampler=name, strength=strength)
    begins = replace(painter, schedule=schedule).levels(brief, redraws=True)[0]
    alpha, sigma = target.at(torch.tensor(round(strength * 1000) - 1))
    assert begins.sigma / begins.alpha == pytest.approx(float(sigma / alpha), rel=0.25)


@pytest.mark.parametrize("name", list(SAMPLERS))
@pytest.mark.parametrize("config", [{"beta_schedule": "squaredcos_cap_v2"}, SD1, ZERO])
def test_more_strength_is_more_noise_between_steps_too(
    painter: DiffusionPainter, name: str, config: dict[str, Any]
) -> None:
    """At 20 steps, some thousandths more are less than a step; on the way levels only fall."""
    painter = replace(painter, schedule=Schedule.from_config(config))
    noises = []
    for thousandth in (151, 155, 159, 400, 404, 834, 839, 843, 950):
        brief = resolved(painter, steps=20, sampler=name, strength=thousandth / 1000)
        levels = painter.levels(brief, redraws=True)
        noises.append(levels[0].log_snr)
        assert [level.t for level in levels] == sorted((level.t for level in levels), reverse=True)
        assert len({level.t for level in levels}) == len(levels)
        assert abs(levels[0].alpha ** 2 + levels[0].sigma ** 2 - 1) < 1e-9
    falls = [one > other for one, other in pairwise(noises)]
    first = painter.levels(resolved(painter, steps=20, sampler=name), redraws=False)[0]
    assert all(fall or noise == first.log_snr for fall, noise in zip(falls, noises[1:], strict=True))


@pytest.mark.parametrize("steps", [1, 2, 20, 50])
def test_a_strength_of_whole_steps_begins_at_a_step(painter: DiffusionPainter, steps: int) -> None:
    """As in diffusers and A1111; whose noise at that step it is then, to the last bit."""
    painter = replace(painter, schedule=Schedule.from_config(SD1))
    for left in range(1, steps + 1):
        brief = resolved(painter, steps=steps, sampler="ddim", strength=left / steps)
        expected = painter.schedule.levels(steps, set_alpha_to_one=SAMPLERS["ddim"].set_alpha_to_one)
        assert painter.levels(brief, redraws=True) == expected[steps - left :]


def test_a_strength_of_less_than_a_step_names_the_least_steps(painter: DiffusionPainter) -> None:
    painter = replace(painter, schedule=Schedule.from_config(SD1))
    with pytest.raises(BadBrief, match="use 9 steps or more, or more strength"):
        painter.levels(resolved(painter, steps=3, strength=1 / 9), redraws=True)
    assert len(painter.levels(resolved(painter, steps=9, strength=1 / 9), redraws=True)) == 2
    with pytest.raises(BadBrief, match="copy the picture: use more strength"):
        painter.levels(resolved(painter, steps=3, strength=1e-5), redraws=True)
