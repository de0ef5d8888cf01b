"""Stable Diffusion 2 and its variants against diffusers' pipelines, tiny and random."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionDepth2ImgPipeline,
    StableDiffusionUpscalePipeline,
)
from PIL import Image
from torch import Generator
from transformers import CLIPTextModel

from danqing.apps._tiled_upscale import repaint
from danqing.apps.redraw import redraw
from danqing.apps.upscale import upscale
from danqing.conditioning.text import TextEncoder
from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.card import Can
from danqing.core.errors import BadBrief
from danqing.core.images import from_pil, to_pil
from danqing.core.painter import InputImages
from danqing.core.seeds import Seeds
from danqing.diffusion.vae import DiffusersVAE, IdentityVAE
from danqing.families.stable_diffusion import x4 as x4_module
from danqing.families.stable_diffusion.extra_channels import depth_map, with_inputs
from danqing.families.stable_diffusion.painter import (
    Denoiser,
    open_folder,
    painter_of,
    random_components,
    random_painter,
)
from danqing.families.stable_diffusion.x4 import X4Painter, _parts, _ramp
from danqing.interfaces.cli import main as cli
from danqing.weights.diffusers_folder import StableDiffusionComponents
from tests.parity.test_stable_diffusion import brief_for, paint, pipeline_of, their_paint


def rng(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_v_at_zero_terminal_snr(rescale: float) -> None:
    """Trailing steps from pure noise, that divide the schedule."""
    components = random_components("sd2-tiny")
    painter = painter_of(components)
    brief = brief_for(painter.card, rescale=rescale, steps=5)
    ours, _ = paint(painter, brief)
    assert painter.schedule.levels(5)[0].alpha == 0
    theirs = their_paint(pipeline_of(components), brief, 4, "latent")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_the_penultimate_layer_is_an_encoder_of_one_layer_less() -> None:
    """As folders of Stable Diffusion 2 hold it, against leaving one out of the whole."""
    components = random_components("sd2-tiny")
    whole = components.text_encoder
    layers = whole.config.num_hidden_layers - 1
    less = CLIPTextModel(type(whole.config)(**{**whole.config.to_dict(), "num_hidden_layers": layers}))
    kept = {name: value for name, value in whole.state_dict().items() if name in less.state_dict()}
    less.load_state_dict(kept)
    skipped = TextEncoder.of(components.tokenizer, whole, clip_skip=1)("a cat").tokens
    torch.testing.assert_close(
        TextEncoder.of(components.tokenizer, less)("a cat").tokens, skipped, rtol=0, atol=1e-6
    )


# ---- depth


def depth_pipeline(components: StableDiffusionComponents) -> StableDiffusionDepth2ImgPipeline:
    pipeline = StableDiffusionDepth2ImgPipeline(
        vae=components.vae,
        text_encoder=components.text_encoder,
        tokenizer=components.tokenizer,
        unet=components.unet,
        scheduler=DDIMScheduler.from_config(components.scheduler),
        depth_estimator=None,
        feature_extractor=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_depth_is_normalised_as_theirs_is() -> None:
    components = random_components("sd2-depth-tiny")
    depth = torch.rand(1, 1, 32, 48, generator=rng()) * 900 - 20
    image = torch.zeros(1, 3, 32, 48)
    theirs = depth_pipeline(components).prepare_depth_map(image, depth[:, 0], 1, False, torch.float32, "cpu")
    ours = depth_map(InputImages(depth=depth), DiffusersVAE(components.vae))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert (ours.min(), ours.max()) == (-1, 1)  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("value", [0.0, 0.3, -500.0])
def test_a_flat_depth_is_zeros_and_not_nan(value: float) -> None:
    with pytest.warns(RuntimeWarning, match="the same everywhere"):
        flat = depth_map(InputImages(depth=torch.full((1, 1, 16, 16), value)), IdentityVAE())
    assert torch.equal(flat, torch.zeros(1, 1, 16, 16))


def test_painting_by_depth() -> None:
    """All of the noise, so that both start from the same latents."""
    components = random_components("sd2-depth-tiny")
    painter, pipeline = painter_of(components), depth_pipeline(components)
    depth, picture = torch.rand(1, 1, 32, 32, generator=rng(1)), torch.rand(1, 3, 32, 32, generator=rng(2))
    brief = brief_for(painter.card, count=1)
    words = painter.condition(brief, InputImages(picture * 2 - 1, depth=depth))
    start = painter.begin(brief, words, Seeds.of(9, 1))
    *_, last = painter.steps(brief, words, start)
    pipeline.prepare_latents = lambda *_, **__: start.state
    theirs = pipeline(
        brief.prompt,
        negative_prompt=brief.negative_prompt,
        image=picture,
        depth_map=depth[:, 0],
        strength=1.0,
        num_inference_steps=5,
        guidance_scale=brief.guidance,
        output_type="latent",
    ).images
    torch.testing.assert_close(last.state, theirs, rtol=0, atol=1e-4)


@torch.no_grad()
def test_new_channels_change_nothing_at_first() -> None:
    unet = random_components("sd2-tiny").unet
    wide = with_inputs(unet, 5)
    words = random_painter("sd2-tiny").condition(Brief.of("a cat").resolve(random_painter("sd2-tiny").card))
    x, extra = torch.randn(1, 4, 4, 4, generator=rng()), torch.randn(1, 1, 4, 4, generator=rng(1))
    t = torch.tensor([500.0])
    before = Denoiser(unet)(x, t, words)
    torch.testing.assert_close(Denoiser(wide)(x, t, replace(words, concat=extra)), before, rtol=0, atol=1e-6)
    assert torch.equal(wide.conv_in.weight[:, :4], unet.conv_in.weight)
    assert not wide.conv_in.weight[:, 4:].any()


def test_redraw_takes_a_depth_map_and_needs_one(tmp_path: Path) -> None:
    painter = random_painter("sd2-depth-tiny")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    slope = Image.fromarray(np.tile(np.arange(32, dtype=np.uint8) * 8, (32, 1)))
    slope.save(tmp_path / "slope.png")
    slope.rotate(90).save(tmp_path / "other.png")
    fields = {"painter": painter, "steps": 2, "seed": 1}
    [one], [two] = (
        redraw(image, "a cat", depth=str(tmp_path / name), **fields) for name in ("slope.png", "other.png")
    )
    assert one.image.tobytes() != two.image.tobytes()
    with pytest.raises(BadBrief, match="--depth"):
        redraw(image, "a cat", **fields)
    assert Can.INPAINT not in painter.card.can


# ---- x4


LOW = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "num_train_timesteps": 1000}


def x4_pipeline() -> StableDiffusionUpscalePipeline:
    components = random_components("sd2-x4-tiny")
    pipeline = StableDiffusionUpscalePipeline(
        vae=components.vae,
        text_encoder=components.text_encoder,
        tokenizer=components.tokenizer,
        unet=components.unet,
        low_res_scheduler=DDPMScheduler.from_config(LOW),
        scheduler=DDIMScheduler.from_config(components.scheduler),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def x4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("x4") / "x4"
    x4_pipeline().save_pretrained(folder)
    return folder


def x4_brief(painter: X4Painter, **fields: Any) -> ResolvedBrief:
    return Brief(prompt="a cat", steps=5, seed=3, **fields).resolve(painter.card)


def test_x4_is_their_upscaler(x4: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same noise for the small picture and for the latents."""
    painter, pipeline = open_folder(x4), x4_pipeline()
    assert painter.vae.model.config.scaling_factor == 0.08333
    picture = torch.rand(1, 3, 16, 24, generator=rng()) * 2 - 1
    brief = x4_brief(painter)
    *_, ours = painter.repaint(picture, brief)
    drawn = Seeds([3]).normal(7, 16, 24)
    monkeypatch.setattr(
        "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_upscale.randn_tensor",
        lambda *_, **__: drawn[:, :3],
    )
    theirs = pipeline(
        brief.prompt,
        image=picture / 2 + 0.5,
        num_inference_steps=5,
        guidance_scale=brief.guidance,
        noise_level=20,
        latents=drawn[:, 3:],
        output_type="pt",
    ).images
    torch.testing.assert_close(ours / 2 + 0.5, theirs, rtol=0, atol=1e-4)


def test_the_small_picture_is_noised_on_a_linear_schedule(x4: Path) -> None:
    """1e-4 to 0.02 in a thousand steps, at level 20."""
    small, noise = torch.ones(1, 3, 4, 4), torch.full((1, 3, 4, 4), -1.0)
    theirs = DDPMScheduler.from_config(LOW).add_noise(small, noise, torch.tensor([20]))
    torch.testing.assert_close(open_folder(x4)._add_noise(small, noise), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", [1, 100, 128, 129, 300])
def test_tiles_cover_everything_and_fade(side: int) -> None:
    seen = torch.zeros(side)
    for part in _parts(side):
        seen[part] += _ramp(part.stop - part.start)
    assert (seen > 0).all()
    assert all(one.stop - two.start >= 16 for one, two in pairwise(_parts(side)))


def test_a_large_picture_is_painted_in_tiles_from_one_field_of_noise(
    x4: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tile is what it is alone, away from the others; progress is counted in tiles."""
    monkeypatch.setattr(x4_module, "TILE", 16)
    monkeypatch.setattr(x4_module, "OVERLAP", 4)
    painter = open_folder(x4)
    pixels = torch.rand(1, 3, 16, 40, generator=rng()) * 2 - 1
    brief = x4_brief(painter).model_copy(update={"steps": 2})
    told = []
    large = repaint(to_pil(pixels)[0], painter, brief, progress=lambda now: told.append((now.step, now.of)))
    assert large.size == (160, 64)
    assert told == [(1, 3), (2, 3), (3, 3)]
    pixels = from_pil(to_pil(pixels)[0])[None, :3]
    *_, whole = painter.repaint(pixels, brief)
    drawn = Seeds([3]).normal(7, 16, 40)[..., 24:]  # the noise of the last tile
    monkeypatch.setattr(Seeds, "normal", lambda *_: drawn)
    *_, last = painter.repaint(pixels[..., 24:], brief)
    torch.testing.assert_close(whole[..., 4 * 28 :], last[..., 4 * 4 :], rtol=0, atol=1e-5)


def test_the_noise_level_is_painted_told_and_bounded(x4: Path) -> None:
    painter = open_folder(x4)
    noisier = painter.at_level(350)
    small, noise = torch.ones(1, 3, 4, 4), torch.full((1, 3, 4, 4), -1.0)
    theirs = DDPMScheduler.from_config(LOW).add_noise(small, noise, torch.tensor([350]))
    torch.testing.assert_close(noisier._add_noise(small, noise), theirs, rtol=0, atol=1e-6)
    assert (painter.network.label, noisier.network.label) == (20, 350)
    picture = Image.new("RGB", (8, 8), "red")
    [one], [two] = (upscale(picture, painter=painter, steps=1, seed=1, noise_level=k) for k in (20, 350))
    assert one.image.tobytes() != two.image.tobytes()
    assert two.info.inputs["noise_level"] == 350
    with pytest.raises(BadBrief, match=r"noise_level 351 is beyond what .* use 0 to 350"):
        upscale(picture, painter=painter, steps=1, noise_level=351)
    with pytest.raises(BadBrief, match="has no noise level"):
        upscale(picture, painter=random_painter("sd2-tiny"), noise_level=20)


def test_tiles_are_counted(x4: Path) -> None:
    """Of 128 with at least 16 in common: 250 is more than two of them."""
    assert [open_folder(x4).tiles(1, side) for side in (1, 128, 129, 240, 250)] == [1, 1, 2, 2, 3]
    assert open_folder(x4).tiles(250, 300) == 9


def test_upscale_takes_its_folder(
    x4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (11, 9), "red").save("in.png")
    assert cli.run(["upscale", "in.png", "--model", str(x4), "--steps", "2", "-o", "out.png"]) == 0
    with Image.open("out.png") as large:
        assert large.size == (44, 36)
    assert cli.run(["paint", "a cat", "--model", str(x4), "-o", "no.png"]) == 2
    assert "only enlarges" in capfd.readouterr().err
