"""ControlNets against diffusers' pipelines, with the same latents; their files against diffusers' reader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from safetensors.torch import save_file
from torch import Tensor

from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.card import Card
from danqing.core.errors import BadWeights
from danqing.core.painter import InputImages
from danqing.core.seeds import Seeds
from danqing.diffusion.painter import DiffusionPainter
from danqing.families.stable_diffusion.control import Control, with_controls
from danqing.families.stable_diffusion.painter import painter_of
from danqing.weights.controlnet import read_controlnet, width_of_words
from danqing.weights.diffusers_folder import StableDiffusionComponents
from danqing.weights.ldm_configs import Kind
from tests.controlnets import controlnet_for, original
from tests.parity.test_inpainting import strength_for
from tests.single_files import SD1, SD2, SDXL, tiny

SIDE = 64
KINDS = pytest.mark.parametrize("kind", [SD1, SD2, SDXL], ids=["1", "2", "XL"])
TEXT = {False: StableDiffusionControlNetPipeline, True: StableDiffusionXLControlNetPipeline}
IMAGE = {False: StableDiffusionControlNetImg2ImgPipeline, True: StableDiffusionXLControlNetImg2ImgPipeline}
INPAINT = {False: StableDiffusionControlNetInpaintPipeline, True: StableDiffusionXLControlNetInpaintPipeline}
NONE = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def pipeline_of(
    components: StableDiffusionComponents,
    controlnet: ControlNetModel | list[ControlNetModel] | None,
    pipelines: dict[bool, type[Any]] = TEXT,
    **others: Any,
) -> Any:
    is_xl = components.text_encoder_2 is not None
    more = (
        {"text_encoder_2": components.text_encoder_2, "tokenizer_2": components.tokenizer_2}
        if is_xl
        else NONE
    )
    pipeline = pipelines[is_xl](
        vae=components.vae,
        text_encoder=components.text_encoder,
        tokenizer=components.tokenizer,
        unet=components.unet,
        scheduler=DDIMScheduler.from_config(components.scheduler),
        **({} if controlnet is None else {"controlnet": controlnet}),
        **more,
        **others,
        **({"add_watermarker": False} if is_xl and "adapter" not in others else {}),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def picture(seed: int = 0, height: int = SIDE, width: int = SIDE) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def brief_for(card: Card, **fields: Any) -> ResolvedBrief:
    given = {"prompt": "a red panda", "negative_prompt": "blue", "seed": 9, "steps": 4, "sampler": "ddim"}
    return Brief(**{**given, "width": SIDE, "height": SIDE, "guidance": 4.0, **fields}).resolve(card)


def paint(
    painter: DiffusionPainter, brief: ResolvedBrief, controls: list[Any], images: InputImages | None = None
) -> Tensor:
    words = painter.condition(brief, images or InputImages())
    steered = with_controls(painter, controls, brief, words)
    canvas = steered.begin(brief, words, Seeds.of(brief.seed, 1))
    *_, canvas = steered.steps(brief, words, canvas)
    return canvas.state


def theirs(pipeline: Any, brief: ResolvedBrief, **more: Any) -> Tensor:
    return pipeline(
        brief.prompt,
        negative_prompt=brief.negative_prompt,
        num_inference_steps=brief.steps,
        guidance_scale=brief.guidance,
        output_type="latent",
        **more,
    ).images


def noise(brief: ResolvedBrief) -> Tensor:
    return Seeds.of(brief.seed, 1).normal(4, brief.height // 8, brief.width // 8)


@KINDS
@pytest.mark.parametrize(
    ("strength", "start", "end"), [(1.0, 0.0, 1.0), (0.6, 0.2, 0.8)], ids=["whole", "a part"]
)
def test_from_words(kind: Kind, strength: float, start: float, end: float) -> None:
    """Measured: 3e-5 at most."""
    components = tiny(kind)
    painter, network = painter_of(components), controlnet_for(components.unet)
    brief = brief_for(painter.card, width=128, steps=5)
    control_map = picture(1, SIDE, 128)
    found = paint(painter, brief, [Control(network, control_map, strength, start, end)])
    expected = theirs(
        pipeline_of(components, network),
        brief,
        image=control_map,
        latents=noise(brief),
        controlnet_conditioning_scale=strength,
        control_guidance_start=start,
        control_guidance_end=end,
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)
    assert (found - paint(painter, brief, [])).abs().max() > 1e-2
    weaker = paint(painter, brief, [Control(network, control_map, strength / 2, start, end)])
    assert (found - weaker).abs().max() > 1e-2


@KINDS
def test_several_at_once(kind: Kind) -> None:
    components = tiny(kind)
    painter = painter_of(components)
    networks = [controlnet_for(components.unet, seed) for seed in (1, 2)]
    maps, brief = [picture(1), picture(2)], brief_for(painter.card)
    controls = [Control(networks[0], maps[0], 0.7, end=0.5), Control(networks[1], maps[1], 0.4, start=0.25)]
    expected = theirs(
        pipeline_of(components, networks),
        brief,
        image=maps,
        latents=noise(brief),
        controlnet_conditioning_scale=[0.7, 0.4],
        control_guidance_start=[0.0, 0.25],
        control_guidance_end=[0.5, 1.0],
    )
    torch.testing.assert_close(paint(painter, brief, controls), expected, rtol=0, atol=2e-4)


@KINDS
def test_from_a_picture(kind: Kind) -> None:
    """A share of the steps counts those that a redraw takes."""
    components = tiny(kind)
    painter, network = painter_of(components), controlnet_for(components.unet)
    brief = brief_for(painter.card, steps=5, strength=strength_for(painter.schedule, 0.6))
    source = picture(5) * 2 - 1
    found = paint(painter, brief, [Control(network, picture(1), 0.8, end=0.7)], InputImages(source))
    expected = theirs(
        pipeline_of(components, network, IMAGE),
        brief,
        image=painter.vae.encode(source),  # four channels are latents to them
        control_image=picture(1),
        strength=0.6,
        controlnet_conditioning_scale=0.8,
        control_guidance_end=0.7,
        generator=torch.Generator().manual_seed(brief.seed),
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("channels", [4, 9], ids=["blended", "trained to inpaint"])
@pytest.mark.parametrize("kind", [SD1, SDXL], ids=["1", "XL"])
def test_inpainting(kind: Kind, channels: int) -> None:
    """A ControlNet never sees the channels of the mask."""
    components = tiny(kind)
    components = replace(
        components, scheduler={**components.scheduler, "set_alpha_to_one": True}
    )  # see test_inpainting
    network = controlnet_for(components.unet)
    if channels == 9:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            unet = UNet2DConditionModel.from_config(components.unet.config, in_channels=9).eval()
        components = replace(components, unet=unet)
    painter = painter_of(components)
    share = 1.0 if channels == 9 else 0.8  # from pure noise, blending in clean space differs from theirs
    brief = brief_for(painter.card, steps=5, strength=strength_for(painter.schedule, share))
    source = picture(5)
    region = torch.zeros(1, 1, SIDE, SIDE)
    region[..., 16:48, 8:40] = 1
    found = paint(painter, brief, [Control(network, picture(1), 0.8)], InputImages(source * 2 - 1, region))
    pipeline = pipeline_of(components, network, INPAINT)
    pipeline._encode_vae_image = lambda image, generator: (  # noqa: ARG005  the mean, as ours
        components.vae.encode(image).latent_dist.mean * components.vae.config.scaling_factor
    )
    expected = theirs(
        pipeline,
        brief,
        image=source,
        mask_image=region,
        control_image=picture(1),
        strength=share,
        controlnet_conditioning_scale=0.8,
        latents=noise(brief) if share == 1 else None,
        generator=torch.Generator().manual_seed(brief.seed),
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


@KINDS
def test_every_kind_of_file(kind: Kind, tmp_path: Path) -> None:
    """A folder, their naming and the original one, with and without its prefix, are the same network."""
    components = tiny(kind)
    network = controlnet_for(components.unet)
    wanted = network.state_dict()
    network.save_pretrained(tmp_path / "folder")
    files = {
        "diffusers.safetensors": wanted,
        "original.safetensors": original(network),
        "bare.safetensors": original(network, ""),
    }
    for name, tensors in files.items():
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / name)
    x, words = torch.randn(2, 4, 8, 8), torch.randn(2, 77, components.unet.config.cross_attention_dim)
    added = {"text_embeds": torch.randn(2, 96), "time_ids": torch.randn(2, 6)} if kind is SDXL else None

    def answer(net: ControlNetModel) -> Tensor:
        with torch.no_grad():
            down, middle = net(x, 7, words, picture(1), added_cond_kwargs=added, return_dict=False)
        return torch.cat([tensor.flatten() for tensor in (*down, middle)])

    for name in ("folder", *files):
        found = read_controlnet(tmp_path / name, dict(components.unet.config))
        assert found.state_dict().keys() == wanted.keys()
        assert all(torch.equal(found.state_dict()[key], wanted[key]) for key in wanted), name
        assert torch.equal(answer(found), answer(network)), name
        assert width_of_words(tmp_path / name) == components.unet.config.cross_attention_dim


def test_names() -> None:
    """Bit-equal to diffusers' converter, which knows the published number of convolutions of the map."""
    components = tiny(SD1)
    network = controlnet_for(components.unet)
    wanted = network.state_dict()
    found = convert_controlnet_checkpoint(original(network), dict(network.config))
    found = {key: tensor for key, tensor in found.items() if tensor is not None}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_small_ones_without_attention(tmp_path: Path) -> None:
    """As `diffusers/controlnet-canny-sdxl-1.0-small`: fewer transformers than the UNet has."""
    from diffusers import ControlNetModel

    components = tiny(SDXL)
    fields = {
        name: value
        for name, value in components.unet.config.items()
        if name
        in (
            "block_out_channels",
            "layers_per_block",
            "cross_attention_dim",
            "attention_head_dim",
            "use_linear_projection",
            "addition_embed_type",
            "addition_time_embed_dim",
            "projection_class_embeddings_input_dim",
        )
    }
    network = ControlNetModel(
        **fields,
        down_block_types=("DownBlock2D",) * 3,
        mid_block_type="UNetMidBlock2D",
        conditioning_embedding_out_channels=(8, 8, 16, 32),
    )
    save_file(network.state_dict(), tmp_path / "small.safetensors")
    found = read_controlnet(tmp_path / "small.safetensors", dict(components.unet.config))
    assert all(torch.equal(found.state_dict()[key], tensor) for key, tensor in network.state_dict().items())


def test_what_is_refused(tmp_path: Path) -> None:
    one, xl = tiny(SD1), tiny(SDXL)
    network = controlnet_for(one.unet)
    save_file(original(network), tmp_path / "sd1.safetensors")
    network.save_pretrained(tmp_path / "sd1")
    for name in ("sd1.safetensors", "sd1"):
        with pytest.raises(BadWeights, match=r"is a ControlNet of .*, and this model is .*: choose one"):
            read_controlnet(tmp_path / name, dict(xl.unet.config))
    damaged = original(network)
    damaged.pop("control_model.zero_convs.3.0.weight")
    save_file(damaged, tmp_path / "damaged.safetensors")
    with pytest.raises(BadWeights, match=r"lacks control_model.zero_convs.3.0.weight"):
        read_controlnet(tmp_path / "damaged.safetensors", dict(one.unet.config))
    others = {
        "a LoRA": {"lora_unet_x.lora_down.weight": torch.ones(2, 2)},
        "a ControlNet union": {"task_embedding": torch.ones(2), **original(network)},
        "a Control-LoRA": {"lora_controlnet": torch.ones(1)},
    }
    for what, tensors in others.items():
        save_file(tensors, tmp_path / "other.safetensors")
        with pytest.raises(BadWeights, match=rf"is {what}"):
            read_controlnet(tmp_path / "other.safetensors", dict(one.unet.config))
        assert what == "a ControlNet union" or width_of_words(tmp_path / "other.safetensors") is None
    one.unet.save_pretrained(tmp_path / "unet")
    with pytest.raises(BadWeights, match="holds UNet2DConditionModel, which is no ControlNet"):
        read_controlnet(tmp_path / "unet", dict(one.unet.config))
    assert width_of_words(tmp_path / "unet") is None
