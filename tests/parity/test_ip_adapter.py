"""IP-Adapters against diffusers' pipelines, with the same latents and the files as they are published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.models.embeddings import ImageProjection
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from torch import Tensor

from danqing.core.brief import ResolvedBrief
from danqing.core.errors import BadWeights
from danqing.core.painter import InputImages
from danqing.core.seeds import Seeds
from danqing.diffusion.painter import DiffusionPainter
from danqing.execution.pristine import Snapshot
from danqing.families.stable_diffusion.control import Control, with_controls
from danqing.families.stable_diffusion.image_prompts import (
    ImagePrompt,
    layers_for,
    open_image_encoder,
    open_ip_adapter,
    tokens_of,
    with_image_prompts,
)
from danqing.families.stable_diffusion.painter import painter_of
from danqing.nets.ip_adapter import IPAdapter, PicturePrompt, looking_at, word_attention
from danqing.weights.diffusers_folder import StableDiffusionComponents
from danqing.weights.image_encoder import encoder_widths, read_image_encoder
from danqing.weights.ip_adapter import encoder_width, read_ip_adapter, width_of_words
from danqing.weights.ldm_configs import Kind
from tests.controlnets import controlnet_for
from tests.image_prompts import LAYOUTS, image_encoder, ip_adapter
from tests.parity.test_controlnet import KINDS, brief_for, noise, picture, pipeline_of, theirs
from tests.parity.test_inpainting import strength_for
from tests.single_files import SD1, SDXL, tiny

TEXT = {False: StableDiffusionPipeline, True: StableDiffusionXLPipeline}
IMAGE = {False: StableDiffusionImg2ImgPipeline, True: StableDiffusionXLImg2ImgPipeline}
NEAR: dict[str, Any] = {"rtol": 0, "atol": 2e-4}


def photo(width: int = 70, height: int = 50, colour: str = "#803020") -> Image.Image:
    image = Image.new("RGB", (width, height), "#e8e0d0")
    ImageDraw.Draw(image).ellipse((width // 5, height // 5, width * 4 // 5, height * 4 // 5), fill=colour)
    return image


def shelf(folder: Path, components: StableDiffusionComponents, *layouts: str) -> list[Path]:
    """The layout of h94/IP-Adapter: the files in `models`, the image encoder in a folder beside them."""
    image_encoder().save_pretrained(folder / "models" / "image_encoder")
    places = [folder / "models" / f"ip-adapter_{k}_{layout}.safetensors" for k, layout in enumerate(layouts)]
    for k, (place, layout) in enumerate(zip(places, layouts, strict=True)):
        save_file(ip_adapter(components.unet, layout, seed=k), place)
    return places


def prompts_of(
    painter: DiffusionPainter, places: list[Path], images: list[Image.Image], *ways: Any
) -> list[ImagePrompt]:
    """ways: strength, start and end of each."""
    encoder = open_image_encoder(places[0].parent / "image_encoder", painter)
    adapters = [open_ip_adapter(place, painter) for place in places]
    return [
        ImagePrompt(adapter, *tokens_of(image, adapter, encoder), *way)
        for adapter, image, way in zip(adapters, images, ways, strict=True)
    ]


def paint(
    painter: DiffusionPainter,
    brief: ResolvedBrief,
    prompts: list[ImagePrompt],
    images: InputImages | None = None,
    controls: tuple[Control, ...] = (),
) -> Tensor:
    words = painter.condition(brief, images or InputImages())
    looking, words = with_image_prompts(painter, prompts, brief, words)
    looking = with_controls(looking, controls, brief, words)
    canvas = looking.begin(brief, words, Seeds.of(brief.seed, 1))
    *_, canvas = looking.steps(brief, words, canvas)
    return canvas.state


def with_adapters(pipeline: Any, places: list[Path], scales: list[float]) -> Any:
    pipeline.load_ip_adapter(
        str(places[0].parent.parent), subfolder="models", weight_name=[place.name for place in places]
    )
    pipeline.set_ip_adapter_scale(scales)
    return pipeline


def theirs_of(
    components: StableDiffusionComponents,
    pipelines: dict[bool, type[Any]],
    places: list[Path],
    scales: list[float],
) -> Any:
    """A pipeline on a copy of the UNet, which it changes."""
    unet = UNet2DConditionModel.from_config(components.unet.config).eval()
    unet.load_state_dict(components.unet.state_dict())
    pipeline = pipeline_of(replace(components, unet=unet), None, pipelines)
    return with_adapters(pipeline, places, scales)


@pytest.mark.parametrize("layout", LAYOUTS)
@KINDS
def test_from_words(kind: Kind, layout: str, tmp_path: Path) -> None:
    components = tiny(kind)
    places = shelf(tmp_path, components, layout)
    painter, brief = painter_of(components), brief_for(tiny(kind).card, width=128, steps=4)
    before = paint(painter, brief, [])
    found = paint(painter, brief, prompts_of(painter, places, [photo()], (0.7,)))
    expected = theirs(
        theirs_of(components, TEXT, places, [0.7]),
        brief,
        width=128,
        height=64,
        latents=noise(brief),
        ip_adapter_image=photo(),
    )
    torch.testing.assert_close(found, expected, **NEAR)
    assert (found - before).abs().max() > 1e-2
    assert torch.equal(before, paint(painter, brief, []))
    other = paint(painter, brief, prompts_of(painter, places, [photo(colour="#20c0f0")], (0.7,)))
    assert (found - other).abs().max() > 1e-3


@KINDS
def test_several_at_once(kind: Kind, tmp_path: Path) -> None:
    components = tiny(kind)
    places = shelf(tmp_path, components, "plain", "plus")
    painter, images = painter_of(components), [photo(), photo(40, 60, "#102090")]
    brief = brief_for(painter.card)
    found = paint(painter, brief, prompts_of(painter, places, images, (0.6,), (0.9,)))
    pipeline = theirs_of(components, TEXT, places, [0.6, 0.9])
    expected = theirs(pipeline, brief, width=64, height=64, latents=noise(brief), ip_adapter_image=images)
    torch.testing.assert_close(found, expected, **NEAR)


@pytest.mark.parametrize(
    ("part", "scale"),
    [("style", {"up": {"block_0": [0.0, 0.7, 0.0]}}), ("layout", {"down": {"block_2": [0.0, 0.7]}})],
)
def test_style_or_layout_alone(part: str, scale: dict[str, Any], tmp_path: Path) -> None:
    components = tiny(SDXL)
    places = shelf(tmp_path, components, "plain")
    painter, brief = painter_of(components), brief_for(tiny(SDXL).card)
    [whole] = prompts_of(painter, places, [photo()], (0.7,))
    found = paint(painter, brief, [replace(whole, layers=layers_for(painter, part))])
    pipeline = theirs_of(components, TEXT, places, [scale])  # type: ignore[list-item]
    expected = theirs(pipeline, brief, width=64, height=64, latents=noise(brief), ip_adapter_image=photo())
    torch.testing.assert_close(found, expected, **NEAR)
    assert (found - paint(painter, brief, [])).abs().max() > 1e-3
    assert (found - paint(painter, brief, [whole])).abs().max() > 1e-3


def test_a_share_of_the_steps(tmp_path: Path) -> None:
    """As a callback that turns diffusers' scale off after half of them."""
    components = tiny(SD1)
    places = shelf(tmp_path, components, "plain")
    painter, brief = painter_of(components), brief_for(tiny(SD1).card)
    found = paint(painter, brief, prompts_of(painter, places, [photo()], (0.8, 0.0, 0.5)))

    def turn_off(pipeline: Any, step: int, _t: Any, values: dict[str, Any]) -> dict[str, Any]:
        if step == 1:
            pipeline.set_ip_adapter_scale(0.0)
        return values

    expected = theirs(
        theirs_of(components, TEXT, places, [0.8]),
        brief,
        width=64,
        height=64,
        latents=noise(brief),
        ip_adapter_image=photo(),
        callback_on_step_end=turn_off,
    )
    torch.testing.assert_close(found, expected, **NEAR)


@pytest.mark.parametrize("kind", [SD1, SDXL], ids=["1", "XL"])
def test_from_a_picture(kind: Kind, tmp_path: Path) -> None:
    components = tiny(kind)
    places = shelf(tmp_path, components, "plus")
    painter = painter_of(components)
    brief = brief_for(painter.card, steps=5, strength=strength_for(painter.schedule, 0.6))
    source = picture(5) * 2 - 1
    prompts = prompts_of(painter, places, [photo()], (0.7,))
    found = paint(painter, brief, prompts, InputImages(source))
    expected = theirs(
        theirs_of(components, IMAGE, places, [0.7]),
        brief,
        image=painter.vae.encode(source),
        strength=0.6,
        ip_adapter_image=photo(),
        generator=torch.Generator().manual_seed(brief.seed),
    )
    torch.testing.assert_close(found, expected, **NEAR)


def test_inpainting(tmp_path: Path) -> None:
    components = replace(tiny(SD1), scheduler={**tiny(SD1).scheduler, "set_alpha_to_one": True})
    places = shelf(tmp_path, components, "plain")
    painter = painter_of(components)
    brief = brief_for(painter.card, steps=5, strength=strength_for(painter.schedule, 0.8))
    source, region = picture(5), torch.zeros(1, 1, 64, 64)
    region[..., 16:48, 8:40] = 1
    prompts = prompts_of(painter, places, [photo()], (0.7,))
    found = paint(painter, brief, prompts, InputImages(source * 2 - 1, region))
    pipeline = theirs_of(
        components, dict.fromkeys((False, True), StableDiffusionInpaintPipeline), places, [0.7]
    )
    pipeline._encode_vae_image = lambda image, generator: (  # noqa: ARG005  the mean, as ours
        components.vae.encode(image).latent_dist.mean * components.vae.config.scaling_factor
    )
    expected = theirs(
        pipeline,
        brief,
        image=source,
        mask_image=region,
        width=64,
        height=64,
        strength=0.8,
        ip_adapter_image=photo(),
        generator=torch.Generator().manual_seed(brief.seed),
    )
    torch.testing.assert_close(found, expected, **NEAR)


def test_beside_a_controlnet(tmp_path: Path) -> None:
    """The ControlNet reads the words alone."""
    components = tiny(SD1)
    places, network = shelf(tmp_path, components, "plain"), controlnet_for(components.unet)
    painter, brief = painter_of(components), brief_for(tiny(SD1).card)
    prompts = prompts_of(painter, places, [photo()], (0.7,))
    found = paint(painter, brief, prompts, controls=(Control(network, picture(1), 0.8),))
    unet = UNet2DConditionModel.from_config(components.unet.config).eval()
    unet.load_state_dict(components.unet.state_dict())
    pipelines = dict.fromkeys((False, True), StableDiffusionControlNetPipeline)
    pipeline = with_adapters(pipeline_of(replace(components, unet=unet), network, pipelines), places, [0.7])
    expected = theirs(
        pipeline,
        brief,
        image=picture(1),
        controlnet_conditioning_scale=0.8,
        latents=noise(brief),
        ip_adapter_image=photo(),
    )
    torch.testing.assert_close(found, expected, **NEAR)


def test_prompts_in_parts_and_steps(tmp_path: Path) -> None:
    """Every part of a prompt that changes on the way has the picture beside it."""
    painter = painter_of(tiny(SD1))
    places = shelf(tmp_path, tiny(SD1), "plain")
    brief = brief_for(painter.card, prompt="[a red panda:snow:0.5] AND fog :0.4")
    prompts = prompts_of(painter, places, [photo()], (0.7,))
    _, words = with_image_prompts(painter, prompts, brief, painter.condition(brief))
    for _, stage in words.stages:
        assert stage.negative is not None
        assert torch.equal(stage.negative.image_tokens, prompts[0].empty)
        assert all(torch.equal(part.image_tokens, prompts[0].tokens) for part in stage.parts)
    assert paint(painter, brief, prompts).isfinite().all()


def test_it_leaves_no_trace() -> None:
    """A program that was exported of the UNet stands aside while it looks, and the UNet is the same again."""
    unet = tiny(SD1).unet
    before = Snapshot(unet)
    adapter = IPAdapter(ImageProjection(24, 64, 4), word_attention(unet))

    def look(width: int) -> None:
        with looking_at(unet, [PicturePrompt(adapter, torch.zeros(1, 4, width), 1.0)]), torch.no_grad():
            assert not before.holds()
            unet(torch.zeros(1, 4, 8, 8), 1, torch.zeros(1, 77, 64))

    look(64)
    assert before.holds()
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        look(3)
    assert before.holds()


def test_files(tmp_path: Path) -> None:
    """What a header tells, and the encoder as a folder, as one of both encoders and as one file."""
    components = tiny(SD1)
    for layout, place in zip(LAYOUTS, shelf(tmp_path, components, *LAYOUTS), strict=True):
        assert width_of_words(place) == 64
        assert encoder_width(place) == ((24, False) if layout == "plain" else (32, True))
        assert read_ip_adapter(place, components.unet).reads_patches == (layout != "plain")
    encoder = image_encoder(width=32)
    for name in ("text_model.x", "vision_model.embeddings.position_ids", "logit_scale"):
        assert name not in encoder.state_dict()
    tensors = {**encoder.state_dict(), "vision_model.embeddings.position_ids": torch.arange(17)[None]}
    save_file({**tensors, "text_model.x": torch.ones(1)}, tmp_path / "both.safetensors")
    assert encoder_widths(tmp_path / "both.safetensors") is None  # a whole CLIP has a text encoder too
    folder = tmp_path / "models" / "image_encoder"
    assert encoder_widths(folder) == (32, 24)
    state = read_image_encoder(folder).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in encoder.state_dict().items())


def test_an_encoder_in_one_file(tmp_path: Path) -> None:
    """Heads and activation are not in shapes: they are those of the published encoders."""
    encoder = image_encoder(projection=1024)
    tensors = encoder.state_dict()
    save_file(
        {**tensors, "vision_model.embeddings.position_ids": torch.arange(17)[None]},
        tmp_path / "clip_vision.safetensors",
    )
    assert encoder_widths(tmp_path / "clip_vision.safetensors") == (32, 1024)
    found = read_image_encoder(tmp_path / "clip_vision.safetensors")
    assert (found.config.num_attention_heads, found.config.hidden_act) == (16, "gelu")
    assert (found.config.image_size, found.config.patch_size) == (32, 8)
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in tensors.items())


def test_what_is_refused(tmp_path: Path) -> None:
    one, xl = tiny(SD1).unet, tiny(SDXL).unet
    place = tmp_path / "a.safetensors"
    whole = ip_adapter(one)
    cases: dict[str, dict[str, Tensor]] = {
        r"is a LoRA.*: give an IP-Adapter": {"lora_unet_x.lora_down.weight": torch.ones(2, 2)},
        r"is an IP-Adapter FaceID, which reads faces": {
            "image_proj.proj.0.weight": torch.ones(4, 4),
            "image_proj.norm.weight": torch.ones(4),
        },
        r"is no whole IP-Adapter": {"image_proj.latents": torch.ones(1, 2, 3)},
        r"lacks keys.0.weight": {k: t for k, t in whole.items() if k != "ip_adapter.1.to_k_ip.weight"},
        r"has ip_adapter.0.x, which the network does not know": {**whole, "ip_adapter.0.x": torch.ones(1)},
    }
    for line, tensors in cases.items():
        save_file(tensors, place)
        with pytest.raises(BadWeights, match=line):
            read_ip_adapter(place, one)
    save_file(whole, place)
    with pytest.raises(BadWeights, match=r"is an IP-Adapter of .*64, and this model is .*192: choose one"):
        read_ip_adapter(place, xl)
    place.write_bytes(place.read_bytes()[:-100])
    with pytest.raises(BadWeights, match="is truncated or not safetensors"):
        read_ip_adapter(place, one)
    with pytest.raises(BadWeights, match=r"a.bin' is a pickle"):
        read_ip_adapter(tmp_path / "a.bin", one)
    one.save_pretrained(tmp_path / "unet")
    with pytest.raises(BadWeights, match="holds no image encoder of CLIP"):
        read_image_encoder(tmp_path / "unet")
