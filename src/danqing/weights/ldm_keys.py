"""The original latent diffusion code's names of tensors, by those of diffusers.

A table maps the name of a module in diffusers or transformers to its original name. It is generated from the
config; `rename` translates a tensor's name with the longest entry that is a prefix of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

Table = dict[str, str]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_OPEN_CLIP_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn": "attn",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_FUSED = "attn.in_proj_"


def rename(table: Table, name: str) -> str:
    """The original name of a tensor.

    Raises:
        KeyError: the original code has no such tensor.
    """
    head, tail = name, ""
    while head not in table:
        head, dot, last = head.rpartition(".")
        if not dot:
            raise KeyError(name)
        tail = f".{last}{tail}"
    return table[head] + tail


def unet_table(config: Mapping[str, Any]) -> Table:
    """The UNet's modules. The original numbers its blocks consecutively across levels.

    A level is `layers_per_block` residual blocks in the encoder and one more in the decoder, each followed by
    attention if the level has it. A downsampling layer is a block of its own; an upsampling layer belongs to
    the block before it.
    """
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    table = {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "mid_block.attentions.0": "middle_block.1",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    resnets = {f"mid_block.resnets.{k}": f"middle_block.{2 * k}" for k in range(2)}
    for level, up_type in enumerate(config["up_block_types"]):
        first = level * (layers + 1)
        down, up = f"down_blocks.{level}", f"up_blocks.{level}"
        # the encoder has one fewer, so the last of its entries matches no tensor
        for layer in range(layers + 1):
            resnets[f"{down}.resnets.{layer}"] = f"input_blocks.{first + layer + 1}.0"
            resnets[f"{up}.resnets.{layer}"] = f"output_blocks.{first + layer}.0"
            table[f"{down}.attentions.{layer}"] = f"input_blocks.{first + layer + 1}.1"
            table[f"{up}.attentions.{layer}"] = f"output_blocks.{first + layer}.1"
        if level < levels - 1:
            place = 2 if up_type == "CrossAttnUpBlock2D" else 1
            table[f"{down}.downsamplers.0.conv"] = f"input_blocks.{first + layers + 1}.0.op"
            table[f"{up}.upsamplers.0.conv"] = f"output_blocks.{first + layers}.{place}.conv"
    return table | _inside(resnets, _RESNET)


def vae_table(config: Mapping[str, Any]) -> Table:
    """The VAE's modules. The original counts the decoder's levels from the one with the largest sides."""
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    table = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    resnets: Table = {}
    attentions: Table = {}
    for half in ("encoder", "decoder"):
        for ours, theirs in (("conv_in", "conv_in"), ("conv_norm_out", "norm_out"), ("conv_out", "conv_out")):
            table[f"{half}.{ours}"] = f"{half}.{theirs}"
        resnets |= {f"{half}.mid_block.resnets.{k}": f"{half}.mid.block_{k + 1}" for k in range(2)}
        attentions[f"{half}.mid_block.attentions.0"] = f"{half}.mid.attn_1"
    for level in range(levels):
        mirrored = levels - 1 - level
        for layer in range(layers + 1):
            resnets[f"encoder.down_blocks.{level}.resnets.{layer}"] = f"encoder.down.{level}.block.{layer}"
            resnets[f"decoder.up_blocks.{level}.resnets.{layer}"] = f"decoder.up.{mirrored}.block.{layer}"
        table[f"encoder.down_blocks.{level}.downsamplers.0"] = f"encoder.down.{level}.downsample"
        table[f"decoder.up_blocks.{level}.upsamplers.0"] = f"decoder.up.{mirrored}.upsample"
    inside = _inside(resnets, {"conv_shortcut": "nin_shortcut"}) | _inside(attentions, _VAE_ATTENTION)
    return table | resnets | inside


def clip_table(_layers: int) -> Table:
    """CLIP's text encoder, whose module names are the same in both."""
    return {name: name for name in ("embeddings", "encoder", "final_layer_norm")}


def open_clip_table(layers: int) -> Table:
    """OpenCLIP's text encoder, after its joint projections are split (see `split_attention`)."""
    blocks = {f"encoder.layers.{k}": f"transformer.resblocks.{k}" for k in range(layers)}
    return {
        "embeddings.token_embedding": "token_embedding",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm": "ln_final",
        "text_projection.weight": "text_projection",
    } | _inside(blocks, _OPEN_CLIP_BLOCK)


def split_attention(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split OpenCLIP's `attn.in_proj_*` [3d ...] into three `attn.{q,k,v}_proj.*` [d ...].

    Other tensors stay. The text projection is transposed, because OpenCLIP multiplies from the other side.
    """
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(".text_projection"):
            apart[name] = tensor.T.contiguous()
            continue
        head, separator, kind = name.rpartition(_FUSED)
        if not separator:
            apart[name] = tensor
            continue
        for letter, third in zip("qkv", tensor.tensor_split(3), strict=True):
            apart[f"{head}attn.{letter}_proj.{kind}"] = third
    return apart


def _inside(heads: Table, inner: Table) -> Table:
    """Every entry of `heads` combined with every entry of `inner`."""
    return {f"{a}.{x}": f"{b}.{y}" for a, b in heads.items() for x, y in inner.items()}
