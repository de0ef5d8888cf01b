"""The diffusers folder of Stable Diffusion: model_index.json, a folder per part, and four things of our own.

card.json (what the model is), upscaler/, latent_rgb.safetensors (a map for previews) and adapters/ are
optional, and other programs leave them alone.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from danqing.core.card import Can, Card
from danqing.core.errors import BadWeights
from danqing.diffusion.variance import Variance
from danqing.nets.upscaler import Upscaler
from danqing.weights.pretrained import (
    Config,
    first_line,
    read_json,
    read_module,
    read_tensors,
    replacing_folder,
    write_json,
    write_module,
)

_PIPELINE = "StableDiffusionPipeline"
_PIPELINES = (
    _PIPELINE,
    "StableDiffusionInpaintPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionUpscalePipeline",
    "StableDiffusionDepth2ImgPipeline",  # its depth estimator is left alone: the user gives the depth
)
_OTHERS = {
    "StableDiffusionXLPipeline": "Stable Diffusion XL",
    "StableDiffusion3Pipeline": "Stable Diffusion 3",
    "FluxPipeline": "FLUX.1",
}
_STEM = "diffusion_pytorch_model"
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class Parts:
    """What a folder holds.

    unet, vae, text_encoder, tokenizer: as in diffusers.
    scheduler: a diffusers config.
    card: what the model is.
    upscaler: enlarges finished pictures.
    latent_rgb: as in `DiffusionPainter`.
    low: the scheduler config that noises the small picture of an x4 upscaler; None in all others.
    adapters: those that came with it, name -> file.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: Config
    card: Card
    upscaler: Upscaler | None = None
    latent_rgb: Tensor | None = None
    low: Config | None = None
    adapters: Mapping[str, Path] = field(default_factory=dict)


def read_folder(folder: Path) -> Parts:
    """The parts in a diffusers folder, in float32 on the CPU.

    Raises:
        BadWeights: in one line that names the file and what is wrong with it.
    """
    _check_index(folder)
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    tokenizer = read_tokenizer(folder / "tokenizer")
    tower = read_module(folder / "text_encoder", _build_text, _text_key)
    vae = read_module(folder / "vae", AutoencoderKL.from_config, attention_key)
    unet = read_module(folder / "unet", UNet2DConditionModel.from_config)
    low = folder / "low_res_scheduler" / "scheduler_config.json"
    upscaler, preview = folder / "upscaler", folder / "latent_rgb.safetensors"
    enlarger = read_module(upscaler, Upscaler.from_config) if upscaler.is_dir() else None
    parts = Parts(
        unet=unet,
        vae=vae,
        text_encoder=tower,
        tokenizer=tokenizer,
        scheduler=scheduler,
        card=read_card(folder / "card.json") or derived_card(folder.name, unet, vae, enlarger),
        upscaler=enlarger,
        latent_rgb=read_tensors(preview)["weight"] if preview.is_file() else None,
        low=read_json(low) if low.is_file() else None,
        adapters={file.stem: file for file in sorted((folder / "adapters").glob("*.safetensors"))},
    )
    _check_fit(folder, parts)
    return parts


def save_folder(parts: Parts, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write an ordinary diffusers folder, whole or not at all, that diffusers' own pipeline opens too.

    Text keys carry the `text_model.` that other programs expect, and every scheduler field is written out.

    Raises:
        BadWeights: a value does not fit into `dtype`.
        DanqingError: the folder cannot be written.
    """
    with replacing_folder(folder) as draft:
        for name, part in (("unet", parts.unet), ("vae", parts.vae)):
            part.save_config(draft / name)
            write_module(part, read_json(draft / name / "config.json"), draft / name, _STEM, dtype)
        tower = parts.text_encoder
        # transformers loads in the dtype that the config names, diffusers in float32: let them agree
        config = {**tower.config.to_dict(), "architectures": ["CLIPTextModel"], "dtype": "float32"}
        write_module(tower, config, draft / "text_encoder", "model", dtype, prefix="text_model.")
        if parts.upscaler is not None:
            write_module(parts.upscaler, parts.upscaler.to_config(), draft / "upscaler", _STEM, dtype)
        if parts.latent_rgb is not None:
            save_file({"weight": parts.latent_rgb.float().contiguous()}, draft / "latent_rgb.safetensors")
        for file in parts.adapters.values():
            (draft / "adapters").mkdir(exist_ok=True)
            shutil.copy(file, draft / "adapters")
        parts.tokenizer.save_pretrained(draft / "tokenizer")
        parts.tokenizer.backend_tokenizer.model.save(str(draft / "tokenizer"))  # vocab.json for older readers
        DDIMScheduler.from_config(parts.scheduler).save_config(draft / "scheduler")
        write_json(parts.card.model_dump(mode="json"), draft / "card.json")
        write_json(_index(), draft / "model_index.json")


def derived_card(
    name: str, unet: UNet2DConditionModel, vae: AutoencoderKL, upscaler: Upscaler | None
) -> Card:
    """The card of a model from its configs alone."""
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    size = unet.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    can = {Can.WORDS, Can.NEGATIVE, Can.REDRAW, Can.INPAINT, Can.TILE, Can.LEARN}
    if unet.config.in_channels == vae.config.latent_channels + 1:  # all it paints needs a depth map
        can -= {Can.INPAINT, Can.LEARN}
    can |= {Can.ALPHA} if vae.config.out_channels == 4 else set()
    can |= {Can.ENLARGE} if upscaler else set()
    return Card(
        name=name,
        family="stable_diffusion",
        summary=f"a Stable Diffusion for pictures of {width * factor} x {height * factor}",
        paper="2112.10752",
        year=2022,
        licence="unknown: ask whoever made the folder",
        width=width * factor,
        height=height * factor,
        grid=factor * 2 ** (len(unet.config.block_out_channels) - 1),
        scale=upscaler.config.scale if upscaler else 1,
        guidance=7.5,
        can=frozenset(can),
    )


def read_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer in a folder.

    Raises:
        BadWeights: it is not there, not whole or damaged.
    """
    # without its files transformers makes an empty tokenizer, or one that knows no merges, and says nothing
    if not any(
        all((folder / name).is_file() for name in names)
        for names in (("tokenizer.json",), ("vocab.json", "merges.txt"))
    ):
        raise BadWeights(
            f"no tokenizer.json, or vocab.json with merges.txt, in {str(folder)!r}: fetch it all again"
        )
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception on a damaged file
        raise BadWeights(f"{str(folder)!r} cannot be read ({first_line(error)}): fetch it again") from None


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


def _check_index(folder: Path) -> None:
    if not folder.is_dir():
        raise BadWeights(
            f"{str(folder)!r} is not a folder: give an unpacked diffusers folder of Stable Diffusion"
        )
    name = read_json(folder / "model_index.json").get("_class_name")
    if name not in _PIPELINES:
        raise BadWeights(
            f"{str(folder)!r} holds {_OTHERS.get(str(name), 'another model')} ({name}): "
            f"only Stable Diffusion 1 and 2 ({_PIPELINE}) can be opened"
        )


def _check_fit(folder: Path, parts: Parts) -> None:
    """The parts belong together.

    Raises:
        BadWeights: naming the numbers that differ.
    """
    latents, expects = parts.vae.config.latent_channels, parts.unet.config.in_channels
    # one more sees a depth map, the last a region and the rest of its picture
    if expects not in (latents, latents + 1, 2 * latents + 1) and parts.low is None:
        kind = "an editing UNet" if expects > latents else "another model's UNet"
        raise BadWeights(
            f"{str(folder / 'unet')!r} is {kind}: it takes {expects} channels, the vae gives {latents}"
        )
    width, wants = parts.text_encoder.config.hidden_size, parts.unet.config.cross_attention_dim
    if width != wants:
        raise BadWeights(
            f"{str(folder / 'unet')!r} wants words of width {wants}, the text encoder gives {width}"
        )
    tokens, rows = len(parts.tokenizer), parts.text_encoder.config.vocab_size
    if tokens > rows:
        raise BadWeights(f"{str(folder / 'tokenizer')!r} has {tokens} tokens, the text encoder knows {rows}")


def read_card(path: Path) -> Card | None:
    """The card at `path`, None where there is no file.

    Raises:
        BadWeights: naming the field that is wrong.
    """
    if not path.is_file():
        return None
    try:
        return Card.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BadWeights(f"{str(path)!r}: {first_line(error)}: correct the card") from None


def check_channels(folder: Path, network: Config, scheduler: Config) -> None:
    """A network, by its config, answers twice its channels where its scheduler says that variance is learned.

    Raises:
        BadWeights: naming the numbers that differ.
    """
    variance = Variance(scheduler.get("variance_type", "fixed_small"))
    takes, answers = network["in_channels"], network["out_channels"]
    expected = takes * (2 if variance is Variance.LEARNED else 1)
    if answers != expected:
        raise BadWeights(
            f"{str(folder)!r} answers {answers} channels to {takes}, and with variance_type "
            f"{variance.value!r} it should be {expected}: correct scheduler_config.json"
        )


def _build_text(config: Config) -> CLIPTextModel:
    kind = config.get("model_type", "clip_text_model")
    if kind != "clip_text_model":
        raise ValueError(f"model_type {kind!r}, not clip_text_model")
    return CLIPTextModel(CLIPTextConfig.from_dict(config))


def _text_key(name: str) -> str | None:
    """Older files prefix `text_model.` and store position_ids; transformers 5 does neither."""
    name = name.removeprefix("text_model.")
    return None if name.endswith("position_ids") else name


def attention_key(name: str) -> str:
    """Files written before diffusers 0.15 name the attention's projections as the paper's code did."""
    return re.sub(
        r"(attentions\.\d+)\.(query|key|value|proj_attn)\.",
        lambda match: f"{match[1]}.{_OLD_ATTENTION[match[2]]}.",
        name,
    )
