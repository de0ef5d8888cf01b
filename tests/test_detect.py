"""What a file is, by its header alone: every kind of file that people have."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from danqing.core.errors import BadWeights
from danqing.families import open_painter
from danqing.weights.detect import FileKind, identify
from danqing.weights.ldm_configs import Kind
from danqing.weights.tensor_files import Header, read_header
from tests.single_files import SD1, SD2, SDXL, full_size, original, tiny

K = FileKind
MID = "mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
DOTS = "mid_block.attentions.0.transformer_blocks.0.attn2"
FILES = {
    "SD3": ({"model.diffusion_model.joint_blocks.0.x": (1,)}, K.NETWORK, "Stable Diffusion 3"),
    "SD3 of diffusers": (
        {"transformer_blocks.0.attn.add_k_proj.weight": (8, 8), "pos_embed.proj.weight": (8, 16, 2, 2)},
        K.NETWORK,
        "Stable Diffusion 3",
    ),
    "Flux": ({"double_blocks.0.img_attn.qkv.weight": (8, 8)}, K.NETWORK, "FLUX.1"),
    "Flux of diffusers": (
        {"single_transformer_blocks.0.x": (1,), "transformer_blocks.0.attn.add_k_proj.weight": (8, 8)},
        K.NETWORK,
        "FLUX.1",
    ),
    "Z-Image": ({"cap_pad_token": (1, 8), "noise_refiner.0.x": (1,)}, K.NETWORK, "Z-Image"),
    "Qwen-Image": (
        {
            "transformer_blocks.0.img_mod.1.weight": (8, 8),
            "transformer_blocks.0.attn.add_k_proj.weight": (8, 8),
        },
        K.NETWORK,
        "Qwen-Image",
    ),
    "PixArt": ({"adaln_single.linear.weight": (8, 8), "caption_projection.x": (1,)}, K.NETWORK, "PixArt"),
    "PixArt as published": ({"y_embedder.y_embedding": (120, 8)}, K.NETWORK, "PixArt"),
    "Kandinsky": (
        {"encoder_hid_proj.image_embeds.weight": (8, 8), "down_blocks.0.x": (1,)},
        K.NETWORK,
        "Kandinsky",
    ),
    "refiner": (
        {"conditioner.embedders.0.model.ln_final.bias": (8,)},
        K.CHECKPOINT,
        "the refiner of Stable Diffusion XL",
    ),
    "kohya": ({f"lora_unet_{MID}.lora_down.weight": (4, 768)}, K.LORA, "Stable Diffusion 1"),
    "kohya of 2": ({f"lora_unet_{MID}.lora_down.weight": (4, 1024)}, K.LORA, "Stable Diffusion 2"),
    "kohya of XL": ({f"lora_unet_{MID}.lora_down.weight": (4, 2048)}, K.LORA, "Stable Diffusion XL"),
    "kohya of words": ({"lora_te2_text_model_x.lora_down.weight": (4, 1280)}, K.LORA, "Stable Diffusion XL"),
    "kohya of Flux": ({"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": (4, 8)}, K.LORA, "FLUX.1"),
    "peft": ({f"unet.{DOTS}.to_k.lora_A.weight": (4, 2048)}, K.LORA, "Stable Diffusion XL"),
    "peft by itself": (
        {f"base_model.{DOTS}.to_k.lora_A.weight": (4, 768)},
        K.LORA,
        "Stable Diffusion 1",
    ),
    "diffusers 2023": (
        {f"unet.{DOTS}.processor.to_k_lora.down.weight": (4, 768)},
        K.LORA,
        "Stable Diffusion 1",
    ),
    "LoHa": ({f"lora_unet_{MID}.hada_w1_b": (4, 768)}, K.LORA, "Stable Diffusion 1"),
    "LoKr": ({"lora_unet_x.lokr_w1": (4, 4)}, K.LORA, ""),
    "A1111's word": ({"emb_params": (8, 768)}, K.WORD, "Stable Diffusion 1"),
    "diffusers' word": ({"<cat>": (1024,)}, K.WORD, "Stable Diffusion 2"),
    "word of XL": ({"clip_l": (8, 768), "clip_g": (8, 1280)}, K.WORD, "Stable Diffusion XL"),
    "ControlNet": (
        {
            "control_model.input_hint_block.0.weight": (16, 3, 3, 3),
            f"control_model.x.{DOTS}.to_k.weight": (8, 768),
        },
        K.CONTROLNET,
        "Stable Diffusion 1",
    ),
    "ControlNet of diffusers": (
        {"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3), f"{DOTS}.to_k.weight": (8, 2048)},
        K.CONTROLNET,
        "Stable Diffusion XL",
    ),
    "T2I-Adapter": ({"adapter.body.0.in_conv.weight": (8, 8, 1, 1)}, K.T2I_ADAPTER, ""),
    "T2I-Adapter of 1": (
        {"conv_in.weight": (320, 192, 3, 3), "body.0.block1.weight": (320, 320, 3, 3)},
        K.T2I_ADAPTER,
        "Stable Diffusion 1",
    ),
    "T2I-Adapter of XL": (
        {"adapter.conv_in.weight": (320, 768, 3, 3), "adapter.body.0.resnets.0.x": (1,)},
        K.T2I_ADAPTER,
        "Stable Diffusion XL",
    ),
    "IP-Adapter": (
        {"image_proj.proj.weight": (8, 8), "ip_adapter.1.to_k_ip.weight": (8, 768)},
        K.IP_ADAPTER,
        "Stable Diffusion 1",
    ),
    "ESRGAN": ({"model.1.sub.0.RDB1.conv1.0.weight": (8, 8, 3, 3)}, K.UPSCALER, ""),
    "Real-ESRGAN": ({"body.0.rdb1.conv1.weight": (8, 8, 3, 3)}, K.UPSCALER, ""),
    "SwinIR": ({"layers.0.residual_group.blocks.0.x": (1,)}, K.UPSCALER, ""),
    "VAE": (
        {"decoder.conv_in.weight": (512, 4, 3, 3), "encoder.down.0.block.0.x": (1,)},
        K.VAE,
        "Stable Diffusion 1, 2 or XL",
    ),
    "VAE of Flux": (
        {"decoder.conv_in.weight": (512, 16, 3, 3), "encoder.down.0.x": (1,)},
        K.VAE,
        "Stable Diffusion 3 or FLUX.1",
    ),
    "CLIP": ({"text_model.embeddings.token_embedding.weight": (49408, 768)}, K.TEXT_ENCODER, "CLIP"),
    "CLIP's image encoder": (
        {
            "vision_model.embeddings.patch_embedding.weight": (1280, 3, 14, 14),
            "visual_projection.weight": (2, 2),
        },
        K.IMAGE_ENCODER,
        "CLIP",
    ),
    "OpenCLIP": ({"transformer.resblocks.0.ln_1.weight": (8,)}, K.TEXT_ENCODER, "CLIP"),
    "T5": ({"encoder.block.0.layer.0.SelfAttention.q.weight": (8, 8)}, K.TEXT_ENCODER, "T5"),
    "another": ({"fc.weight": (2, 2)}, K.OTHER, ""),
    "nothing": ({}, K.OTHER, ""),
}


@pytest.mark.parametrize(("shapes", "kind", "family"), FILES.values(), ids=FILES.keys())
def test_files(shapes: dict[Any, Any] | tuple[Any, ...], kind: FileKind, family: str) -> None:
    info = identify(Header(Path("a.safetensors"), shapes, {}))
    assert (info.kind, info.family, info.tensors) == (kind, family, len(shapes))


@pytest.mark.parametrize(
    "family", ["Stable Diffusion 3", "FLUX.1", "Z-Image", "Qwen-Image", "PixArt", "Kandinsky"]
)
def test_other_families_are_refused_by_name(tmp_path: Path, family: str) -> None:
    shapes = next(shapes for shapes, _, name in FILES.values() if name == family)
    path = tmp_path / "model.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    with pytest.raises(BadWeights, match=rf"is {family}: only Stable Diffusion 1, 2 and XL can be opened"):
        open_painter(str(path))


@pytest.mark.parametrize("kind", [SD1, SD2, SDXL], ids=["1", "2", "XL"])
def test_whole_models(tmp_path: Path, kind: Kind) -> None:
    tensors = {name: t.contiguous() for name, t in original(tiny(kind), kind).items()}
    save_file(tensors, tmp_path / "a.safetensors")
    info = identify(read_header(tmp_path / "a.safetensors"))
    assert (info.kind, info.family, info.channels) == (K.CHECKPOINT, kind.title, 4)
    assert info.parts == ("UNet", "VAE", "text encoder", "second text encoder")[: 4 if kind is SDXL else 3]


def test_a_network_of_a_folder() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
    shapes = {name: tuple(t.shape) for name, t in unet.state_dict().items()}
    info = identify(Header(Path("a"), shapes, {}))
    assert (info.kind, info.family, info.channels) == (K.NETWORK, "Stable Diffusion 1", 4)


@pytest.mark.parametrize(
    ("extra", "metadata", "prediction"),
    [
        ({}, {}, ""),
        ({"v_pred": (0,)}, {}, "v_prediction"),
        ({}, {"modelspec.prediction_type": "v"}, "v_prediction"),
        ({}, {"modelspec.prediction_type": "epsilon"}, "epsilon"),
        ({"edm_mean": (4,)}, {}, "edm"),
    ],
)
def test_what_it_predicts(extra: dict[Any, Any], metadata: dict[Any, Any], prediction: str) -> None:
    shapes = {"conditioner.embedders.1.model.x": (1,), **extra}
    assert identify(Header(Path("a"), shapes, metadata)).prediction == prediction


def test_it_takes_milliseconds() -> None:
    """With the names of the published Stable Diffusion 1. Measured: 4 ms."""
    tensors, _ = full_size(SD1)
    header = Header(Path("a"), {name: tuple(t.shape) for name, t in tensors.items()}, {})
    identify(header)
    start = time.perf_counter()
    assert identify(header).family == "Stable Diffusion 1"
    assert time.perf_counter() - start < 0.5
