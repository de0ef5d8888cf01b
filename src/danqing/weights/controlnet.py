"""Reads ControlNets: diffusers folders, and single files with the names of diffusers or the original ones.

A ControlNet (arXiv 2302.05543) is a copy of a UNet's encoder that also takes a control map; its outputs are
added to the UNet's skip connections and middle block. The number of heads does not follow from a file's
shapes; it is that of the UNet to control.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import ControlNetModel

from danqing.core.errors import BadWeights
from danqing.weights.config_checks import ControlNetFields
from danqing.weights.detect import FileKind, family_of_width, identify
from danqing.weights.file_reader import FileReader
from danqing.weights.ldm_configs import added_config, count, encoder_config, side
from danqing.weights.ldm_keys import Table, unet_table
from danqing.weights.pretrained import Config, read_config, read_module
from danqing.weights.tensor_files import Header, read_header, refuse_pickle

_HEAD = "control_model."
_HINT, _EMBEDDING = "input_hint_block", "controlnet_cond_embedding"
_NAMES = (  # a ControlNet's modules in diffusers
    "conv_in",
    "time_embedding",
    "add_embedding",
    _EMBEDDING,
    "down_blocks",
    "mid_block",
    "controlnet_down_blocks",
    "controlnet_mid_block",
)
_READS = "attn2.to_k.weight"  # end of the names of layers that take token states
_ADDED = "add_embedding.linear_1.weight"  # layer for the pooled states and sizes of Stable Diffusion XL
_XL_WORDS = 2048
_OTHERS = {  # modules of related networks that are not supported
    "task_embedding": "a ControlNet union",
    "control_type_proj.": "a ControlNet union",
    "lora_controlnet": "a Control-LoRA",
}


def read_controlnet(place: Path, base: Config, dtype: torch.dtype | None = None) -> ControlNetModel:
    """Read the ControlNet in a folder or a file, on the CPU.

    base: the config of the UNet to control.
    dtype: of the weights; None keeps the stored one and maps the file from disk.

    Raises:
        BadWeights: it is not a ControlNet, or one for another model.
    """
    if place.is_dir():
        config = _folder_config(place)
        _check_base(place, config, base)
        return read_module(place, _build, dtype=dtype)
    refuse_pickle(place)
    header = read_header(place)
    for name, what in _OTHERS.items():
        if any(key.startswith(name) for key in header.shapes):
            raise BadWeights(f"{str(place)!r} is {what}, which is not read: give a plain ControlNet")
    info = identify(header)
    if info.kind is not FileKind.CONTROLNET:
        raise BadWeights(f"{str(place)!r} is {info}: give a ControlNet")
    if any(key.startswith(f"{_EMBEDDING}.") for key in header.shapes):
        config, head, prefix = _config(header, base), "", ""
        table = {name: name for name in _NAMES}
    else:
        prefix = "" if any(key.startswith(_HEAD) for key in header.shapes) else _HEAD
        header = replace(header, shapes={f"{prefix}{key}": shape for key, shape in header.shapes.items()})
        config, head = _original_config(header), _HEAD
        table = _original_table(config)
    _check_base(place, config, base)
    heads = base["attention_head_dim"]
    fields = {**config, "attention_head_dim": heads if isinstance(heads, int) else list(heads)}
    reader = FileReader(header, dtype, prefix, "it is no whole ControlNet")
    return reader.module(head, lambda: _build(fields), table)


def width_of_words(place: Path) -> int | None:
    """The width of the token states that a ControlNet takes, without reading tensors.

    None if it is no ControlNet.
    """
    try:
        if place.is_dir():
            return int(_folder_config(place).get("cross_attention_dim", 1280))
        header = read_header(place)
        if identify(header).kind is not FileKind.CONTROLNET:
            return None
        without = _XL_WORDS if _ADDED in header.shapes else None  # small ControlNets of XL have no attention
        return next((shape[1] for key, shape in header.shapes.items() if key.endswith(_READS)), without)
    except (BadWeights, TypeError, ValueError):
        return None


def _folder_config(folder: Path) -> Config:
    config = read_config(folder, "ControlNetModel", "ControlNet")
    if config.get("global_pool_conditions"):
        raise BadWeights(
            f"{str(folder)!r} takes a map as a whole, which is not read: give another ControlNet"
        )
    return config


def _build(config: Config) -> ControlNetModel:
    return ControlNetModel.from_config(ControlNetFields.check(config))


def _check_base(place: Path, config: Config, base: Config) -> None:
    """Check that it is a copy of the encoder of a UNet with the config `base`.

    Raises:
        BadWeights: it is not; the message names both model generations, or the wrong value.
    """
    own = ControlNetFields.read(place, config)
    width, base_width = own.cross_attention_dim, base["cross_attention_dim"]
    if width != base_width:
        theirs = family_of_width(width) or f"a model with words of width {width}"
        ours = family_of_width(base_width) or f"one with words of width {base_width}"
        raise BadWeights(
            f"{str(place)!r} is a ControlNet of {theirs}, and this model is {ours}: choose one for it"
        )
    sides, layers = list(base["block_out_channels"]), base["layers_per_block"]
    if own.block_out_channels != sides or own.layers_per_block != layers:
        raise BadWeights(f"{str(place)!r} is a ControlNet for a UNet of other sizes: choose another one")


def _original_config(header: Header) -> Config:
    """The config of a file with original names."""
    blocks = range(0, 2 * count(header, f"{_HEAD}{_HINT}."), 2)
    sides = [side(header, f"{_HEAD}{_HINT}.{k}.weight", 0) for k in blocks]
    return {
        **encoder_config(header, _HEAD),
        "conditioning_channels": side(header, f"{_HEAD}{_HINT}.0.weight", 1),
        "conditioning_embedding_out_channels": sides[:-1:2],
    }


def _original_table(config: Config) -> Table:
    """The original names of a ControlNet's modules; its encoder has those of a UNet."""
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    last = 2 * len(config["conditioning_embedding_out_channels"]) - 1
    table = unet_table({**config, "up_block_types": ["UpBlock2D"] * levels})
    table |= {f"{_EMBEDDING}.conv_in": f"{_HINT}.0", f"{_EMBEDDING}.conv_out": f"{_HINT}.{2 * last}"}
    table |= {f"{_EMBEDDING}.blocks.{k}": f"{_HINT}.{2 * k + 2}" for k in range(last - 1)}
    outputs = 1 + levels * (layers + 1) - 1
    table |= {f"controlnet_down_blocks.{k}": f"zero_convs.{k}.0" for k in range(outputs)}
    return table | {"controlnet_mid_block": "middle_block_out.0"}


def _config(header: Header, base: Config) -> Config:
    """The config of a file with the names of diffusers."""
    levels, blocks = count(header, "down_blocks."), count(header, f"{_EMBEDDING}.blocks.")
    heads = [f"down_blocks.{k}.attentions.0" for k in range(levels)]
    words = [f"{head}.proj_in.weight" in header.shapes for head in heads]
    depths = [count(header, f"{head}.transformer_blocks.") or 1 for head in heads]
    middle = "mid_block.attentions.0"
    depths[-1] = count(header, f"{middle}.transformer_blocks.") or depths[-1]
    has_words = f"{middle}.proj_in.weight" in header.shapes
    width = next(
        (shape[1] for key, shape in header.shapes.items() if key.endswith(_READS)),
        base["cross_attention_dim"],
    )
    projections = [header.shapes.get(f"{head}.proj_in.weight") for head in (middle, *heads)]
    linear = next((len(shape) == 2 for shape in projections if shape is not None), True)
    return {
        "in_channels": side(header, "conv_in.weight", 1),
        "block_out_channels": [
            side(header, f"down_blocks.{k}.resnets.0.conv2.weight", 0) for k in range(levels)
        ],
        "layers_per_block": count(header, "down_blocks.0.resnets."),
        "down_block_types": ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in words],
        "mid_block_type": "UNetMidBlock2DCrossAttn" if has_words else "UNetMidBlock2D",
        "cross_attention_dim": width,
        "use_linear_projection": linear,
        "transformer_layers_per_block": depths,
        "conditioning_channels": side(header, f"{_EMBEDDING}.conv_in.weight", 1),
        "conditioning_embedding_out_channels": [
            side(header, f"{_EMBEDDING}.conv_in.weight", 0),
            *(side(header, f"{_EMBEDDING}.blocks.{k}.weight", 0) for k in range(1, blocks, 2)),
        ],
        **added_config(header, _ADDED),
    }
