"""Stable Diffusion XL and latent consistency models against diffusers' pipelines, with the same latents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_open_clip_checkpoint
from safetensors.torch import save_file
from torch import Tensor

from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.card import Card
from danqing.core.painter import InputImages
from danqing.core.seeds import Seeds
from danqing.diffusion.painter import DiffusionPainter
from danqing.families.stable_diffusion.painter import open_weights, painter_of
from danqing.weights.diffusers_folder import StableDiffusionComponents
from danqing.weights.ldm_configs import text_config, unet_config, vae_config
from danqing.weights.tensor_files import Header
from tests.single_files import SDXL, original, tiny

SIDE = 64


@pytest.fixture(scope="module")
def components() -> StableDiffusionComponents:
    return tiny(SDXL)


@pytest.fixture(scope="module")
def tensors(components: StableDiffusionComponents) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in original(components, SDXL).items()}


def pipeline_of(
    components: StableDiffusionComponents, made: type[Any] = StableDiffusionXLPipeline, **options: Any
) -> Any:
    pipeline = made(
        vae=components.vae,
        text_encoder=components.text_encoder,
        text_encoder_2=components.text_encoder_2,
        tokenizer=components.tokenizer,
        tokenizer_2=components.tokenizer_2,
        unet=components.unet,
        scheduler=DDIMScheduler.from_config(components.scheduler),
        add_watermarker=False,
        **options,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def brief_for(card: Card, **fields: Any) -> ResolvedBrief:
    given = {"prompt": "a red panda", "negative_prompt": "blue", "seed": 9, "steps": 4, "sampler": "ddim"}
    return Brief(**{**given, "width": SIDE, "height": SIDE, **fields}).resolve(card)


def paint(
    painter: DiffusionPainter, brief: ResolvedBrief, images: InputImages | None = None
) -> tuple[Tensor, Tensor]:
    words = painter.condition(brief, images or InputImages())
    canvas = painter.begin(brief, words, Seeds.of(brief.seed, 1))
    *_, canvas = painter.steps(brief, words, canvas)
    return canvas.state, painter.finish(canvas)


def theirs(pipeline: Any, brief: ResolvedBrief, output: str, **more: Any) -> Tensor:
    factor = 8
    return pipeline(
        brief.prompt,
        negative_prompt=brief.negative_prompt or None,
        height=brief.height,
        width=brief.width,
        num_inference_steps=brief.steps,
        guidance_scale=brief.guidance,
        latents=Seeds.of(brief.seed, 1).normal(4, brief.height // factor, brief.width // factor),
        output_type=output,
        **more,
    ).images


@pytest.mark.parametrize(
    "fields", [{}, {"negative_prompt": ""}, {"width": 96}], ids=["both", "no negative", "wide"]
)
def test_the_loop(components: StableDiffusionComponents, fields: dict[Any, Any]) -> None:
    """Two encoders, pooled words, sizes, and zeros for no negative prompt. Measured: 2e-5 and 2e-6."""
    painter = painter_of(components)
    brief = brief_for(painter.card, **fields)
    latents, pixels = paint(painter, brief)
    pipeline = pipeline_of(components)
    torch.testing.assert_close(latents, theirs(pipeline, brief, "latent"), rtol=0, atol=2e-4)
    torch.testing.assert_close(pixels / 2 + 0.5, theirs(pipeline, brief, "pt"), rtol=0, atol=2e-4)
    assert painter.card.guidance == 5.0


def test_zeros_are_not_the_empty_text(components: StableDiffusionComponents) -> None:
    """`force_zeros_for_empty_prompt: false` in model_index.json, as fine-tunes have it."""
    plain = painter_of(replace(components, zero_negative=False))
    brief = brief_for(plain.card, negative_prompt="")
    latents, _ = paint(plain, brief)
    pipeline = pipeline_of(components, force_zeros_for_empty_prompt=False)
    torch.testing.assert_close(latents, theirs(pipeline, brief, "latent"), rtol=0, atol=2e-4)
    assert (latents - paint(painter_of(components), brief)[0]).abs().max() > 1e-3


def test_folder_and_file(
    components: StableDiffusionComponents, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    """Their folder and the original file paint the very same latents."""
    pipeline_of(components).save_pretrained(tmp_path / "xl")
    components.tokenizer.save_pretrained(tmp_path / "tokenizer")
    save_file(tensors, tmp_path / "xl.safetensors")
    folder, file = open_weights(tmp_path / "xl"), open_weights(tmp_path / "xl.safetensors")
    brief = brief_for(folder.card)
    expected, _ = paint(painter_of(components), brief)
    assert torch.equal(paint(folder, brief)[0], expected)
    assert torch.equal(paint(file, brief)[0], expected)
    assert (file.card.width, file.card.guidance, file.card.paper) == (1024, 5.0, "2307.01952")
    assert file.card.summary == "Stable Diffusion XL for pictures of 1024 x 1024"


def test_names(components: StableDiffusionComponents, tensors: dict[str, Tensor]) -> None:
    """Bit-equal to diffusers' converters: depth, the second text encoder and its projection."""
    config = dict(components.unet.config)
    found = convert_ldm_unet_checkpoint(tensors, config)
    wanted = components.unet.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    text_encoder = components.text_encoder_2
    found = convert_open_clip_checkpoint(text_encoder, tensors, prefix="conditioner.embedders.1.model.")
    wanted = text_encoder.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_configs_follow_from_shapes(
    components: StableDiffusionComponents, tensors: dict[str, Tensor]
) -> None:
    from pathlib import Path

    header = Header(Path("a"), {name: tuple(t.shape) for name, t in tensors.items()}, {})
    unet = unet_config(header, SDXL, "epsilon")
    for name, value in unet.items():
        theirs = components.unet.config[name]
        assert value == (list(theirs) if isinstance(theirs, tuple) else theirs), name
    second = text_config(header, SDXL.text_encoders[1])
    for name in ("hidden_size", "projection_dim", "num_hidden_layers", "num_attention_heads", "hidden_act"):
        assert second[name] == getattr(components.text_encoder_2.config, name), name
    assert vae_config(header, SDXL.scale)["scaling_factor"] == 0.13025


def test_weights_and_parts_of_a_prompt(components: StableDiffusionComponents) -> None:
    """Bracketed words, BREAK, AND and schedules go through both encoders."""
    painter = painter_of(components)
    plain = paint(painter, brief_for(painter.card))[0]
    for prompt in (
        "a (red:1.4) panda",
        "a red BREAK panda",
        "a red panda AND a cat",
        "a [red:blue:0.5] panda",
    ):
        assert (paint(painter, brief_for(painter.card, prompt=prompt))[0] - plain).abs().max() > 1e-4


def test_inpainting(components: StableDiffusionComponents) -> None:
    """Nine channels, as `diffusers/stable-diffusion-xl-1.0-inpainting-0.1`. Measured: 2e-5."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        unet = UNet2DConditionModel.from_config(components.unet.config, in_channels=9).eval()
    wide = replace(components, unet=unet)
    painter = painter_of(wide)
    brief = brief_for(painter.card, strength=1.0)
    picture = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    region = torch.zeros(1, 1, SIDE, SIDE)
    region[..., 16:48, 8:40] = 1
    latents, _ = paint(painter, brief, InputImages(picture, region))
    pipeline = pipeline_of(wide, StableDiffusionXLInpaintPipeline)
    pipeline._encode_vae_image = lambda image, generator: (  # noqa: ARG005  the mean, as ours
        components.vae.encode(image).latent_dist.mean * components.vae.config.scaling_factor
    )
    expected = theirs(pipeline, brief, "latent", image=picture / 2 + 0.5, mask_image=region, strength=1.0)
    torch.testing.assert_close(latents, expected, rtol=0, atol=2e-4)


def test_latent_consistency() -> None:
    """Guidance is an input of the network (`time_cond_proj_dim`), not two calls. Measured: 2e-5."""
    plain = tiny()
    with torch.random.fork_rng():
        torch.manual_seed(2)
        unet = UNet2DConditionModel.from_config(plain.unet.config, time_cond_proj_dim=256).eval()
    components = replace(plain, unet=unet)
    painter = painter_of(components)
    pipeline = StableDiffusionPipeline(
        vae=components.vae,
        text_encoder=components.text_encoder,
        tokenizer=components.tokenizer,
        unet=unet,
        scheduler=DDIMScheduler.from_config(components.scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    states = []
    for guidance in (7.5, 2.0):
        x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        words = painter.text("a red panda")
        embedding = pipeline.get_guidance_scale_embedding(torch.tensor([guidance - 1]), embedding_dim=256)
        time = torch.full((1,), 499.0)
        with torch.no_grad():
            expected = unet(x, time, words.tokens, timestep_cond=embedding, return_dict=False)[0]
            found = painter.network_at_guidance(guidance)(x, time, words)  # type: ignore[misc]
        torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)
        states.append(found)
    assert (states[0] - states[1]).abs().max() > 1e-3
    brief = brief_for(painter.card, sampler="ddim", guidance=7.5)
    torch.testing.assert_close(paint(painter, brief)[0], theirs(pipeline, brief, "latent"), rtol=0, atol=2e-4)
    card = painter_of(replace(components, card=tiny_card(components))).card
    assert (card.sampler, card.steps, card.guidance) == ("lcm", 4, 8.0)


def tiny_card(components: StableDiffusionComponents) -> Card:
    from danqing.weights.diffusers_folder import derived_card

    return derived_card("lcm", components.unet, components.vae, None)
