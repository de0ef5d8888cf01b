"""The diffusers folder of Stable Diffusion: model_index.json, one folder per component, and our additions.

Our additions are optional, and other programs ignore them: card.json (describes the model), upscaler/,
latent_rgb.safetensors (a linear map for previews) and adapters/.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from danqing.core.card import Can, Card, find_card
from danqing.core.errors import BadWeights
from danqing.diffusion.variance import Variance
from danqing.nets.upscaler import Upscaler
from danqing.weights.components import (
    attention_key,
    build_projected_text,
    build_text,
    build_unet,
    build_vae,
    projected_key,
    read_scheduler,
    read_tokenizer,
    text_key,
)
from danqing.weights.pretrained import (
    Config,
    read_json,
    read_module,
    replacing_folder,
    write_json,
    write_module,
)
from danqing.weights.tensor_files import printable, read_tensors

_PIPELINE = "StableDiffusionPipeline"
_PIPELINES = (
    _PIPELINE,
    "StableDiffusionInpaintPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionUpscalePipeline",
    "StableDiffusionDepth2ImgPipeline",  # its depth estimator is not loaded: the user gives the depth map
    "LatentConsistencyModelPipeline",
    "LatentConsistencyModelImg2ImgPipeline",
)
_XL_PIPELINES = (
    "StableDiffusionXLPipeline",
    "StableDiffusionXLInpaintPipeline",
    "StableDiffusionXLImg2ImgPipeline",
)
_OTHERS = (  # pipelines of other families -> their names for the message
    ("StableDiffusion3", "Stable Diffusion 3"),
    ("Flux", "FLUX.1"),
    ("ZImage", "Z-Image"),
    ("QwenImage", "Qwen-Image"),
    ("PixArt", "PixArt"),
    ("Kandinsky", "Kandinsky"),
    ("KolorsPipeline", "Kolors"),
    ("StableCascade", "Stable Cascade"),
    ("Wuerstchen", "Wuerstchen"),
    ("HunyuanDiT", "HunyuanDiT"),
    ("Lumina", "Lumina"),
    ("Sana", "Sana"),
    ("AuraFlow", "AuraFlow"),
)
_STEM = "diffusion_pytorch_model"
TURBO = {  # values that only the schedulers of SD Turbo and SDXL Turbo have (arXiv 2311.17042)
    "_class_name": "EulerAncestralDiscreteScheduler",
    "timestep_spacing": "trailing",
}


@dataclass(frozen=True)
class StableDiffusionComponents:
    """The components in a folder.

    unet, vae, text_encoder, tokenizer: as in diffusers.
    scheduler: a diffusers config.
    card: describes the model.
    upscaler: enlarges finished pictures.
    latent_rgb: as in `DiffusionPainter`.
    low: the scheduler config that noises the low-resolution picture of an x4 upscaler; None for other models.
    adapters: the adapters in the folder, name -> file.
    text_encoder_2, tokenizer_2: of Stable Diffusion XL; the pooled states are used too.
    zero_negative: whether an empty negative prompt means zeros instead of the encoding of "".
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel | CLIPTextModelWithProjection
    tokenizer: CLIPTokenizer
    scheduler: Config
    card: Card
    upscaler: Upscaler | None = None
    latent_rgb: Tensor | None = None
    low: Config | None = None
    adapters: Mapping[str, Path] = field(default_factory=dict)
    text_encoder_2: CLIPTextModelWithProjection | None = None
    tokenizer_2: CLIPTokenizer | None = None
    zero_negative: bool = True


def read_folder(folder: Path, dtype: torch.dtype | None = torch.float32) -> StableDiffusionComponents:
    """Read the components in a diffusers folder, on the CPU.

    dtype: of the networks; None keeps the stored one, see `read_module`.

    Raises:
        BadWeights: the message names the file and what is wrong with it.
    """
    index = _read_index(folder)
    scheduler = read_scheduler(folder / "scheduler" / "scheduler_config.json")
    second = folder / "text_encoder_2"
    # XL's refiner has the second encoder alone
    has_first = (folder / "text_encoder").is_dir() or not second.is_dir()
    tokenizer = read_tokenizer(folder / ("tokenizer" if has_first else "tokenizer_2"))
    text_encoder = read_module(folder / "text_encoder", build_text, text_key, dtype) if has_first else None
    vae = read_module(folder / "vae", build_vae, attention_key, dtype)
    unet = read_module(folder / "unet", build_unet, dtype=dtype)
    low = folder / "low_res_scheduler" / "scheduler_config.json"
    preview, place = folder / "latent_rgb.safetensors", folder / "upscaler"
    upscaler = read_module(place, Upscaler.from_config) if place.is_dir() else None
    text_encoder_2 = (
        read_module(second, build_projected_text, projected_key, dtype) if second.is_dir() else None
    )
    components = StableDiffusionComponents(
        unet=unet,
        vae=vae,
        text_encoder=text_encoder if text_encoder is not None else text_encoder_2,
        tokenizer=tokenizer,
        scheduler=scheduler,
        card=find_card(folder) or derived_card(folder.name, unet, vae, upscaler, scheduler),
        upscaler=upscaler,
        latent_rgb=read_tensors(preview)["weight"] if preview.is_file() else None,
        low=read_scheduler(low) if low.is_file() else None,
        adapters={file.stem: file for file in sorted((folder / "adapters").glob("*.safetensors"))},
        text_encoder_2=text_encoder_2 if has_first else None,
        tokenizer_2=read_tokenizer(folder / "tokenizer_2")
        if has_first and text_encoder_2 is not None
        else None,
        zero_negative=index.get("force_zeros_for_empty_prompt") is not False,
    )
    _check_fit(folder, components)
    return components


def save_folder(
    components: StableDiffusionComponents, folder: Path, dtype: torch.dtype = torch.float16
) -> None:
    """Write an ordinary diffusers folder, atomically, which diffusers' own pipeline opens too.

    Text encoder keys have the prefix `text_model.`, which other programs expect, and the scheduler's config
    has every field.

    Raises:
        BadWeights: a value does not fit into `dtype`.
        DanqingError: the folder cannot be written.
    """
    with replacing_folder(folder) as draft:
        for name, part in (("unet", components.unet), ("vae", components.vae)):
            part.save_config(draft / name)
            write_module(part, read_json(draft / name / "config.json"), draft / name, _STEM, dtype)
        text_encoder = components.text_encoder
        # transformers loads in the dtype of the config, diffusers in float32; so the config says float32
        config = {**text_encoder.config.to_dict(), "architectures": ["CLIPTextModel"], "dtype": "float32"}
        write_module(text_encoder, config, draft / "text_encoder", "model", dtype, prefix="text_model.")
        if components.upscaler is not None:
            write_module(
                components.upscaler, components.upscaler.to_config(), draft / "upscaler", _STEM, dtype
            )
        if components.latent_rgb is not None:
            save_file(
                {"weight": components.latent_rgb.float().contiguous()}, draft / "latent_rgb.safetensors"
            )
        for file in components.adapters.values():
            (draft / "adapters").mkdir(exist_ok=True)
            shutil.copy(file, draft / "adapters")
        components.tokenizer.save_pretrained(draft / "tokenizer")
        components.tokenizer.backend_tokenizer.model.save(
            str(draft / "tokenizer")
        )  # vocab.json for older readers
        DDIMScheduler.from_config(components.scheduler).save_config(draft / "scheduler")
        write_json(components.card.model_dump(mode="json"), draft / "card.json")
        write_json(_index(), draft / "model_index.json")


def derived_card(
    name: str,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    upscaler: Upscaler | None,
    scheduler: Config | None = None,
) -> Card:
    """Derive the card of a model from its configs alone."""
    is_xl = unet.config.addition_embed_type == "text_time"
    is_distilled = unet.config.time_cond_proj_dim is not None
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    size = unet.config.sample_size
    height, width = (size or 64,) * 2 if isinstance(size, int | None) else size
    can = {Can.WORDS, Can.NEGATIVE, Can.REDRAW, Can.INPAINT, Can.TILE, Can.LEARN}
    if unet.config.in_channels == vae.config.latent_channels + 1:  # such a model only paints with a depth map
        can -= {Can.INPAINT, Can.LEARN}
    can |= {Can.ALPHA} if vae.config.out_channels == 4 else set()
    can |= {Can.UPSCALE} if upscaler else set()
    return Card(
        name=name,
        family="stable_diffusion",
        summary=f"a Stable Diffusion{' XL' * is_xl} for pictures of {width * factor} x {height * factor}",
        paper="2307.01952" if is_xl else "2112.10752",
        year=2023 if is_xl else 2022,
        licence="unknown: ask whoever made the folder",
        width=width * factor,
        height=height * factor,
        size_multiple=factor * 2 ** (len(unet.config.block_out_channels) - 1),
        scale=upscaler.config.scale if upscaler else 1,
        can=frozenset(can),
        **_pace(is_xl, is_distilled, scheduler or {}),
    )


def _pace(is_xl: bool, is_distilled: bool, scheduler: Config) -> dict[str, Any]:
    """Fields of a card: the default steps, guidance and sampler."""
    if all(scheduler.get(name) == value for name, value in TURBO.items()):
        return {"steps": 4, "guidance": 1.0, "sampler": "lcm"}
    if is_distilled:  # latent consistency (arXiv 2310.04378), which takes the guidance as an input
        return {"steps": 4, "guidance": 8.0, "sampler": "lcm"}
    return {"guidance": 5.0 if is_xl else 7.5}


def _index() -> Config:
    """The model_index.json that diffusers writes for a pipeline without a safety checker."""
    nothing = [None, None]
    return {
        "_class_name": _PIPELINE,
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": nothing,
        "image_encoder": nothing,
        "requires_safety_checker": False,
        "safety_checker": nothing,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def _read_index(folder: Path) -> Config:
    """Read the model_index.json of a supported pipeline.

    Raises:
        BadWeights: the pipeline is another one, or has custom code to run; the message names it.
    """
    if not folder.is_dir():
        raise BadWeights(
            f"{str(folder)!r} is not a folder: give an unpacked diffusers folder of Stable Diffusion"
        )
    index = read_json(folder / "model_index.json")
    name = index.get("_class_name")
    if name not in (*_PIPELINES, *_XL_PIPELINES):
        family = next((title for start, title in _OTHERS if str(name).startswith(start)), "another model")
        raise BadWeights(
            f"{str(folder)!r} holds {family} ({printable(str(name))}): "
            "only Stable Diffusion 1, 2 and XL can be opened"
        )
    return index


def _check_fit(folder: Path, components: StableDiffusionComponents) -> None:
    """Check that the components fit together.

    Raises:
        BadWeights: they do not; the message names the numbers that differ.
    """
    latents, expects = components.vae.config.latent_channels, components.unet.config.in_channels
    # one more channel is a depth map; the last case has a mask and the masked picture's latents
    if expects not in (latents, latents + 1, 2 * latents + 1) and components.low is None:
        kind = "an editing UNet" if expects > latents else "another model's UNet"
        raise BadWeights(
            f"{str(folder / 'unet')!r} is {kind}: it takes {expects} channels, the vae gives {latents}"
        )
    width, wants = components.text_encoder.config.hidden_size, components.unet.config.cross_attention_dim
    width += components.text_encoder_2.config.hidden_size if components.text_encoder_2 is not None else 0
    if width != wants:
        raise BadWeights(
            f"{str(folder / 'unet')!r} wants words of width {wants}, the text encoder gives {width}"
        )
    tokens, rows = len(components.tokenizer), components.text_encoder.config.vocab_size
    if tokens > rows:
        raise BadWeights(f"{str(folder / 'tokenizer')!r} has {tokens} tokens, the text encoder knows {rows}")


def check_channels(folder: Path, network: Config, scheduler: Config) -> None:
    """Check that a network has twice the output channels if its scheduler has a learned variance.

    Raises:
        BadWeights: it does not; the message names the numbers that differ.
    """
    variance = Variance(scheduler.get("variance_type", "fixed_small"))
    takes, answers = network["in_channels"], network["out_channels"]
    expected = takes * (2 if variance is Variance.LEARNED else 1)
    if answers != expected:
        raise BadWeights(
            f"{str(folder)!r} answers {answers} channels to {takes}, and with variance_type "
            f"{variance.value!r} it should be {expected}: correct scheduler_config.json"
        )
