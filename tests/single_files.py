"""Tiny models of four levels, and the original naming of their tensors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from danqing.families.stable_diffusion.painter import byte_tokenizer
from danqing.weights.diffusers_folder import StableDiffusionComponents, derived_card
from danqing.weights.ldm_configs import KINDS, SCHEDULER, UNET, VAE_PREFIX, Kind
from danqing.weights.ldm_keys import rename, unet_table, vae_table

SD1, _, SD2, SDXL, REFINER = KINDS
LAYERS = 3  # of the text encoders

_UNETS: dict[str, Any] = {
    SD1.title: {"block_out_channels": (32, 64, 96, 96), "attention_head_dim": 8},
    SD2.title: {
        "block_out_channels": (64, 128, 128, 128),
        "attention_head_dim": (1, 2, 2, 2),
        "use_linear_projection": True,
        "sample_size": 96,
    },
    SDXL.title: {
        "block_out_channels": (64, 128, 128),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 3),
        "attention_head_dim": (1, 2, 2),
        "use_linear_projection": True,
        "cross_attention_dim": 192,
        "sample_size": 128,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 6 * 256 + 96,
    },
    REFINER.title: {
        "block_out_channels": (64, 128, 128, 128),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 2, 2),
        "attention_head_dim": (1, 2, 2, 2),
        "use_linear_projection": True,
        "cross_attention_dim": 128,
        "sample_size": 128,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 5 * 256 + 96,
    },
}


def tiny(kind: Kind = SD1, prediction: str = "epsilon") -> StableDiffusionComponents:
    """Random weights in the shape of Stable Diffusion 1, 2 or XL."""
    tokenizer = byte_tokenizer(77)
    tokenizer.pad_token = kind.text_encoders[0].pad
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            **{"sample_size": 64, "layers_per_block": 2, "cross_attention_dim": 64, **_UNETS[kind.title]}
        )
        vae = AutoencoderKL(
            block_out_channels=(32, 32, 32, 64),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            sample_size=512,
            scaling_factor=kind.scale,
        )
        text_encoder = CLIPTextModel(text_config(tokenizer, kind.text_encoders[0].act))
        if kind is REFINER:
            config = text_config(tokenizer, kind.text_encoders[0].act, hidden_size=128, projection_dim=96)
            text_encoder = CLIPTextModelWithProjection(config)
        second = {}
        if kind is SDXL:
            tokenizer_2 = byte_tokenizer(77)
            tokenizer_2.pad_token = kind.text_encoders[1].pad
            config = text_config(tokenizer_2, kind.text_encoders[1].act, hidden_size=128, projection_dim=96)
            text_encoder_2 = CLIPTextModelWithProjection(config).eval()
            second = {"tokenizer_2": tokenizer_2, "text_encoder_2": text_encoder_2}
    return StableDiffusionComponents(
        unet=unet.eval(),
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        scheduler={**SCHEDULER, "prediction_type": prediction},
        card=derived_card("tiny", unet, vae, None),
        zero_negative=kind.zero_negative,
        **second,
    )


def text_config(tokenizer: CLIPTokenizer, act: str, **changes: int) -> CLIPTextConfig:
    """An encoder of three layers and one head for each 64 channels."""
    fields = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": LAYERS, **changes}
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        num_attention_heads=fields["hidden_size"] // 64,
        hidden_act=act,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **fields,
    )


def original(components: StableDiffusionComponents, kind: Kind = SD1) -> dict[str, Tensor]:
    """All tensors in their original names and shapes, with what such files hold beside them."""
    unet, vae, text = components.unet, components.vae, components.text_encoder
    tensors = _named(unet, UNET, unet_table(unet.config))
    tensors |= _convolved(_named(vae, VAE_PREFIX, vae_table(vae.config)))
    (text_encoder, *second) = kind.text_encoders
    tensors |= _fused(_named(text, text_encoder.head, text_encoder.table(LAYERS)))
    if second:
        table = second[0].table(LAYERS)
        tensors |= _fused(_named(components.text_encoder_2, second[0].head, table))
    return tensors | {
        "betas": torch.ones(3),
        "model_ema.decay": torch.ones(1),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
    }


def write_model(place: Path, components: StableDiffusionComponents, kind: Kind = SD1) -> None:
    """A single file as other programs write it, and the tokenizer beside it."""
    tensors = {name: tensor.contiguous() for name, tensor in original(components, kind).items()}
    save_file(tensors, place)
    components.tokenizer.save_pretrained(place.parent / "tokenizer")


def full_size(kind: Kind) -> tuple[dict[str, Tensor], tuple[Any, Any, Any]]:
    """The tensors of the published model, without values, and its configs as diffusers' folders have them."""
    one = kind is SD1
    unet = {
        "sample_size": 64 if one else 96,
        "block_out_channels": (320, 640, 1280, 1280),
        "attention_head_dim": 8 if one else (5, 10, 20, 20),
        "cross_attention_dim": 768 if one else 1024,
        "use_linear_projection": not one,
    }
    vae = {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
    }
    text = {
        "hidden_size": 768 if one else 1024,
        "intermediate_size": 3072 if one else 4096,
        "num_attention_heads": 12 if one else 16,
        "num_hidden_layers": 12 if one else 23,
        "hidden_act": kind.text_encoders[0].act,
    }
    with torch.device("meta"):
        modules = UNet2DConditionModel(**unet), AutoencoderKL(**vae), CLIPTextModel(CLIPTextConfig(**text))
    tensors = _named(modules[0], UNET, unet_table(modules[0].config))
    tensors |= _named(modules[1], VAE_PREFIX, vae_table(vae))
    text_encoder = kind.text_encoders[0]
    tensors |= _named(modules[2], text_encoder.head, text_encoder.table(text["num_hidden_layers"]))
    return tensors, (unet, vae, text)


def _named(module: torch.nn.Module, head: str, table: dict[str, str]) -> dict[str, Tensor]:
    named = {
        head + rename(table, name.removeprefix("text_model.")): tensor
        for name, tensor in module.state_dict().items()
    }
    assert len(named) == len(module.state_dict()), "two tensors under one name"
    return named


def _convolved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: t[:, :, None, None] if ".attn_1." in k and t.ndim == 2 else t for k, t in tensors.items()}


def _fused(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """q, k and v of OpenCLIP as one tensor, its projection the other way; CLIP-L stays as it is."""
    tensors = {k: t.T if k.endswith("text_projection") else t for k, t in tensors.items()}
    for name in [name for name in tensors if ".attn.q_proj." in name]:
        head, kind = name.split("q_proj.")
        thirds: Iterable[Tensor] = [tensors.pop(f"{head}{letter}_proj.{kind}") for letter in "qkv"]
        tensors[f"{head}in_proj_{kind}"] = torch.cat(list(thirds))
    return tensors
