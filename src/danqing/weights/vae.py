"""Reads a VAE alone: from a diffusers folder, or from a file with the names of diffusers or original ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from danqing.core.errors import BadWeights
from danqing.weights.components import OLD_ATTENTION, attention_key, build_vae
from danqing.weights.detect import FileKind, identify
from danqing.weights.file_reader import FileReader
from danqing.weights.ldm_configs import VAE_PREFIX, count, side, vae_config
from danqing.weights.ldm_keys import Table, vae_table
from danqing.weights.pretrained import Config, read_module
from danqing.weights.tensor_files import Header, read_header, refuse_pickle

_KINDS = (FileKind.VAE, FileKind.CHECKPOINT)


def read_vae(place: Path, scale: float, dtype: torch.dtype | None = torch.float32) -> AutoencoderKL:
    """Read the VAE from a folder or a file, which may be a VAE's own or a whole model's.

    scale: scaling factor of its latents, which a file does not contain.
    dtype: of the weights; None keeps the stored one.

    Raises:
        BadWeights: there is no VAE in it.
    """
    if place.is_dir():
        folder = place / "vae" if (place / "vae").is_dir() else place
        return read_module(folder, build_vae, attention_key, dtype)
    refuse_pickle(place)
    header = read_header(place)
    info = identify(header)
    if info.kind not in _KINDS or (info.kind is FileKind.CHECKPOINT and "VAE" not in info.parts):
        raise BadWeights(f"{str(place)!r} is {info}: give a VAE")
    if any(name.startswith("decoder.up_blocks.") for name in header.shapes):
        fields = _config(header, scale)
        return FileReader(header, dtype).module("", lambda: AutoencoderKL(**fields), _table(header))
    prefix = "" if any(name.startswith(VAE_PREFIX) for name in header.shapes) else VAE_PREFIX
    named = replace(header, shapes={f"{prefix}{name}": shape for name, shape in header.shapes.items()})
    fields = vae_config(named, scale)
    reader = FileReader(named, dtype, prefix)
    return reader.module(VAE_PREFIX, lambda: AutoencoderKL(**fields), vae_table(fields))


def _config(header: Header, scale: float) -> Config:
    """The config of a file with the names of diffusers."""
    levels = count(header, "encoder.down_blocks.")
    return {
        "in_channels": side(header, "encoder.conv_in.weight", 1),
        "out_channels": side(header, "decoder.conv_out.weight", 0),
        "latent_channels": side(header, "decoder.conv_in.weight", 1),
        "block_out_channels": [
            side(header, f"encoder.down_blocks.{k}.resnets.0.conv1.weight", 0) for k in range(levels)
        ],
        "layers_per_block": count(header, "encoder.down_blocks.0.resnets."),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "scaling_factor": scale,
        "sample_size": 512,
    }


def _table(header: Header) -> Table:
    """A table for the names of diffusers: today's, or those before 0.15."""
    table = {name: name for name in ("encoder", "decoder", "quant_conv", "post_quant_conv")}
    if "encoder.mid_block.attentions.0.query.weight" not in header.shapes:
        return table
    heads = [f"{half}.mid_block.attentions.0" for half in ("encoder", "decoder")]
    return table | {f"{head}.{new}": f"{head}.{old}" for head in heads for old, new in OLD_ATTENTION.items()}
