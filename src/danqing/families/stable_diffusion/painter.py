"""Latent diffusion: a UNet denoises the latents of a VAE, conditioned on CLIP's token states.

Paper: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, arXiv 2112.10752.
Differs: our sticker preset is smaller than Stable Diffusion 1, paints RGBA, predicts v on a cosine schedule
and adds the pooled text embedding to the time embedding; diffusers folders support all of this.
Licences: code Apache-2.0; the shipped weights were trained from scratch on openly licensed pictures (see
NOTICE).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers import pre_tokenizers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from danqing.conditioning.text import TextEncoder, TextEncoderPair
from danqing.core.card import Can, Card
from danqing.core.painter import InputImages
from danqing.core.registry import family
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.schedule import Schedule
from danqing.diffusion.vae import VAE, DiffusersVAE
from danqing.families.clip import TEXT
from danqing.families.stable_diffusion import extra_channels
from danqing.families.stable_diffusion.denoiser import Denoiser, at_guidance
from danqing.families.stable_diffusion.x4 import NOISE_LEVEL, X4Painter
from danqing.nets.upscaler import Upscaler, UpscalerConfig
from danqing.weights.diffusers_folder import StableDiffusionComponents, derived_card, read_folder
from danqing.weights.diffusers_folder import save_folder as save_folder
from danqing.weights.pretrained import Config
from danqing.weights.single_file import read_single_file

_DOWN, _DOWN_TEXT = "DownBlock2D", "CrossAttnDownBlock2D"
_UP, _UP_TEXT = "UpBlock2D", "CrossAttnUpBlock2D"

UNETS: dict[str, Config] = {
    "tiny": {
        "sample_size": 4,
        "in_channels": 8,
        "out_channels": 8,
        "block_out_channels": (16, 32),
        "down_block_types": (_DOWN, _DOWN_TEXT),
        "up_block_types": (_UP_TEXT, _UP),
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 2,
    },
    # 84 training pictures a second on two AVX-512 cores in bf16; five others were timed (recipes/NOTES.md)
    "sticker": {
        "sample_size": 16,
        "in_channels": 16,
        "out_channels": 16,
        "block_out_channels": (96, 192, 256),
        "down_block_types": (_DOWN, _DOWN_TEXT, _DOWN),
        "up_block_types": (_UP, _UP_TEXT, _UP),
        "layers_per_block": 1,
        "cross_attention_dim": 192,
        "attention_head_dim": 4,  # diffusers reads this as the number of heads
        "norm_num_groups": 16,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 4,
    },
    **extra_channels.UNETS,
}

VAES: dict[str, Config] = {
    "tiny": {
        "in_channels": 4,
        "out_channels": 4,
        "latent_channels": 8,
        "block_out_channels": (4, 8, 8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 1,
        "norm_num_groups": 2,
        "mid_block_add_attention": False,
        "scaling_factor": 1.0,
        "sample_size": 32,
    },
    "sticker": {
        "in_channels": 4,
        "out_channels": 4,
        "latent_channels": 16,
        "block_out_channels": (32, 64, 96, 128),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "mid_block_add_attention": False,
        "scaling_factor": 1.0,  # latents are normalised per channel inside quant_conv and post_quant_conv
        "sample_size": 128,
    },
    **extra_channels.VAES,
}

SCHEDULE: Config = {
    "beta_schedule": "squaredcos_cap_v2",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": False,
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 1,  # has no effect with trailing spacing; other programs warn about other values
}

SCHEDULES = dict.fromkeys(UNETS, SCHEDULE) | dict.fromkeys(extra_channels.UNETS, extra_channels.SCHEDULE)

UPSCALERS: dict[str, UpscalerConfig] = {
    "tiny": UpscalerConfig(width=4, depth=2),
    "sticker": UpscalerConfig(width=48, depth=8),
}

_AESTHETICS = 6.0, 2.5  # scores for the prompt and the negative prompt of XL's refiner (as in diffusers)


def masked_picture(images: InputImages, vae: VAE) -> Tensor:
    """The further input channels of Stable Diffusion's inpainting networks [1 1+c h w].

    They are the mask of the region, and the latents of the picture with the region filled with grey.
    """
    assert images.image is not None
    region = torch.ones_like(images.image[:, :1]) if images.region is None else images.region
    latents = vae.encode(images.image * (region < 0.5))
    return torch.cat([F.interpolate(region, latents.shape[-2:]), latents], dim=1)


def _concat_function(components: StableDiffusionComponents) -> Callable[[InputImages, VAE], Tensor] | None:
    """The function for the network's further input channels, chosen by their number; None for none."""
    latents = components.vae.config.latent_channels
    functions = {0: None, 1: extra_channels.depth_map, latents + 1: masked_picture}
    return functions[components.unet.config.in_channels - latents]


def painter_of(components: StableDiffusionComponents) -> DiffusionPainter:
    """Build the painter from its components.

    Raises:
        BadWeights: the scheduler config does not describe a known schedule or prediction.
    """
    text: TextEncoder | TextEncoderPair = TextEncoder.of(components.tokenizer, components.text_encoder)
    modules: dict[str, nn.Module] = {
        "unet": components.unet,
        "text_encoder": components.text_encoder,
        "vae": components.vae,
    }
    if isinstance(components.text_encoder, CLIPTextModelWithProjection):  # XL's refiner
        text = TextEncoder.of(components.tokenizer, components.text_encoder, clip_skip=1, final_norm=False)
        modules["text_encoder_2"] = modules.pop("text_encoder")
    if components.text_encoder_2 is not None and components.tokenizer_2 is not None:
        second = (components.tokenizer_2, components.text_encoder_2)
        text = TextEncoderPair.of((components.tokenizer, components.text_encoder), second)
        modules["text_encoder_2"] = components.text_encoder_2
    is_distilled = components.unet.config.time_cond_proj_dim is not None
    is_xl = components.unet.config.addition_embed_type == "text_time"
    return DiffusionPainter(
        card=components.card,
        text=text,
        network=Denoiser(components.unet.eval()),
        prediction=Prediction(components.scheduler.get("prediction_type", "epsilon")),
        schedule=Schedule.from_config(components.scheduler),
        vae=DiffusersVAE(components.vae),
        upscaler=components.upscaler,
        latent_rgb=components.latent_rgb,
        modules=modules,
        concat=_concat_function(components),
        adapters=components.adapters,
        network_at_guidance=partial(at_guidance, components.unet) if is_distilled else None,
        knows_sizes=is_xl,
        zero_negative=is_xl and components.zero_negative,
        aesthetics=_AESTHETICS if is_xl and _numbers_beside_words(components) == 5 else None,
    )


def _numbers_beside_words(components: StableDiffusionComponents) -> int:
    """How many numbers of size conditioning the network takes: six sizes, or four sizes and a score."""
    config, text_encoder = components.unet.config, components.text_encoder_2 or components.text_encoder
    width = config.projection_class_embeddings_input_dim - text_encoder.config.projection_dim
    return int(width // config.addition_time_embed_dim)


@family("stable_diffusion")
def open_weights(place: Path) -> DiffusionPainter:
    """Open a painter from a diffusers folder of Stable Diffusion or of our own, or from an original file.

    Weights are mapped from disk in the dtype of the file; `place` casts them.

    Raises:
        BadWeights: the files cannot be used; the message names the file and the problem.
    """
    return painter_of(read_single_file(place, None)) if place.is_file() else open_folder(place, None)


def open_folder(folder: Path, dtype: torch.dtype | None = torch.float32) -> DiffusionPainter:
    """Open a painter from a diffusers folder of Stable Diffusion, or of our own.

    dtype: the dtype of its weights; None is that of the file.

    Raises:
        BadWeights: the files cannot be used; the message names the file and the problem.
    """
    components = read_folder(folder, dtype)
    return painter_of(components) if components.low is None else x4_of(components, components.low)


def x4_of(components: StableDiffusionComponents, low: Config) -> X4Painter:
    """Build the x4 upscaler from its components.

    low: the scheduler config for the noise of the small picture.

    Raises:
        BadWeights: a scheduler config does not describe a known schedule or prediction.
    """
    if (
        "scaling_factor" not in components.vae.config
        or components.vae.config.scaling_factor != extra_channels.X4_SCALE
    ):
        components.vae.register_to_config(
            scaling_factor=extra_channels.X4_SCALE
        )  # old folders do not have this field
    network_at = partial(Denoiser, components.unet.eval())
    plain = {name: getattr(components.card, name) for name in ("name", "family", "paper", "year", "licence")}
    side = 4 * int(components.unet.config.sample_size)
    factor = 2 ** (len(components.vae.config.block_out_channels) - 1)
    card = Card(
        **plain,
        summary="Stable Diffusion's x4 upscaler",
        width=side,
        height=side,
        size_multiple=factor * 2 ** (len(components.unet.config.block_out_channels) - 1),
        scale=1,
        steps=75,
        guidance=9.0,
        sampler="ddim",
        can=frozenset({Can.UPSCALE, Can.NEGATIVE}),
    )
    return X4Painter(
        card=card,
        text=TextEncoder.of(components.tokenizer, components.text_encoder),
        network=network_at(NOISE_LEVEL),
        network_at=network_at,
        prediction=Prediction(components.scheduler.get("prediction_type", "epsilon")),
        schedule=Schedule.from_config(components.scheduler),
        vae=DiffusersVAE(components.vae),
        modules={"unet": components.unet, "text_encoder": components.text_encoder, "vae": components.vae},
        low=Schedule.from_config(low),
    )


def random_components(preset: str = "tiny", seed: int = 0) -> StableDiffusionComponents:
    """A preset with random initial weights, for tests and training; the seed determines them."""
    text = preset if preset in TEXT else "tiny"
    tokenizer = byte_tokenizer(TEXT[text]["max_position_embeddings"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(**UNETS[preset])
        vae = AutoencoderKL(**VAES[preset])
        text_encoder = CLIPTextModel(text_config(text, tokenizer))
        upscaler = Upscaler(UPSCALERS[preset]).eval() if preset in UPSCALERS else None
    card = derived_card(preset, unet, vae, upscaler)
    return StableDiffusionComponents(
        unet=unet.eval(),
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        scheduler=SCHEDULES[preset],
        card=card.model_copy(update={"styles": {"3d": "3d/立体", "paper-cut": "paper-cut/剪纸"}}),
        upscaler=upscaler,
    )


def random_painter(preset: str = "tiny", seed: int = 0) -> DiffusionPainter:
    """A painter of `random_components`."""
    return painter_of(random_components(preset, seed))


def text_config(preset: str, tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    """The text encoder config of a preset, for the vocabulary of `tokenizer`."""
    return CLIPTextConfig(
        **TEXT[preset],
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def byte_tokenizer(length: int) -> CLIPTokenizer:
    """CLIP's tokenizer without merges: 514 tokens, one for each byte, which needs no training."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"{byte}</w>" for byte in alphabet), start, end]
    marks = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=length, **marks)
