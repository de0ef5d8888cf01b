"""Tiny IP-Adapters, image encoders and T2I-Adapters of random weights, in the naming of published files."""

from __future__ import annotations

import re
from typing import Any

import torch
from diffusers import T2IAdapter, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from danqing.nets.ip_adapter import word_attention

TOKENS, QUERIES = 4, 8
LAYOUTS = ("plain", "plus", "full")


def image_encoder(seed: int = 0, width: int = 32, projection: int = 24) -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=projection,
        hidden_act="gelu",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIPVisionModelWithProjection(config).eval()


def ip_adapter(
    unet: UNet2DConditionModel, layout: str = "plain", seed: int = 0, width: int = 32, projection: int = 24
) -> dict[str, Tensor]:
    """The tensors of an IP-Adapter, named as in the files of h94/IP-Adapter."""
    words = int(unet.config.cross_attention_dim)
    shapes = {
        "plain": {"proj": (TOKENS * words, projection), "norm": (words,)},
        "full": {"proj.0": (width, width), "proj.2": (words, width), "proj.3": (words,)},
        "plus": {
            "proj_in": (64, width),
            "proj_out": (words, 64),
            "norm_out": (words,),
            **{f"layers.{k}.{part}": shape for k in range(4) for part, shape in _RESAMPLER.items()},
        },
    }[layout]
    tensors: dict[str, Tensor] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, shape in shapes.items():
            tensors[f"image_proj.{name}.weight"] = _random(shape)
            if "to_" not in name and not name.endswith((".1.1", ".1.3")):
                tensors[f"image_proj.{name}.bias"] = 0.1 * torch.randn(shape[0])
        if layout == "plus":
            tensors["image_proj.latents"] = torch.randn(1, QUERIES, 64) / 8
        for k, layer in enumerate(word_attention(unet)):
            for part in ("k", "v"):
                shape = (layer.to_k.out_features, words)
                tensors[f"ip_adapter.{2 * k + 1}.to_{part}_ip.weight"] = 2 * _random(shape)
    return tensors


_RESAMPLER = {
    "0.norm1": (64,),
    "0.norm2": (64,),
    "0.to_q": (128, 64),
    "0.to_kv": (256, 64),
    "0.to_out": (64, 128),
    "1.0": (64,),
    "1.1": (256, 64),
    "1.3": (64, 256),
}


def _random(shape: tuple[int, ...]) -> Tensor:
    """A matrix that keeps lengths about as they are, or the factors of a norm."""
    if len(shape) == 1:
        return 1 + 0.1 * torch.randn(shape)
    return torch.randn(shape) / shape[-1] ** 0.5


def t2i_adapter(
    unet: UNet2DConditionModel, kind: str = "full_adapter", seed: int = 0, channels: int = 3
) -> T2IAdapter:
    """One that steers such a UNet."""
    sides = list(unet.config.block_out_channels)
    fields: dict[str, Any] = {"in_channels": channels, "adapter_type": kind, "channels": sides}
    if kind == "full_adapter_xl":
        fields |= {"channels": [*sides, sides[-1]], "downscale_factor": 16}
    if kind == "light_adapter":
        fields |= {"channels": sides[:-1], "num_res_blocks": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return T2IAdapter(**fields).eval()


def original_t2i(adapter: T2IAdapter) -> dict[str, Tensor]:
    """Its tensors as TencentARC's files name them: one row of layers, two a level, or a level's own rows."""
    light = adapter.config.adapter_type == "light_adapter"

    def renamed(name: str) -> str:
        name = name.removeprefix("adapter.")
        if light:
            return name.replace(".resnets.", ".body.")
        name = re.sub(r"body\.(\d+)\.resnets\.(\d+)", lambda m: f"body.{2 * int(m[1]) + int(m[2])}", name)
        return re.sub(r"body\.(\d+)\.in_conv", lambda m: f"body.{2 * int(m[1])}.in_conv", name)

    return {renamed(name): tensor.contiguous() for name, tensor in adapter.state_dict().items()}
