"""Reads the image encoders of IP-Adapters: CLIP's, as a transformers folder or as one file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from danqing.core.errors import BadWeights
from danqing.weights.config_checks import ImageEncoderFields
from danqing.weights.detect import FileKind, identify
from danqing.weights.pretrained import Config, build_empty, fill, read_json, read_module
from danqing.weights.tensor_files import Header, read_header, read_tensors, refuse_pickle

_HEAD = "vision_model."
_CLASS, _PATCH = f"{_HEAD}embeddings.class_embedding", f"{_HEAD}embeddings.patch_embedding.weight"
_POSITIONS, _PROJECTION = f"{_HEAD}embeddings.position_embedding.weight", "visual_projection.weight"
_LAYER = re.compile(rf"{re.escape(_HEAD)}encoder\.layers\.(\d+)\.")
_HEADS = {768: 12}  # width -> number of heads; all larger published ones have 16
_OPENAI = 768  # projection width of OpenAI's encoders, which have another activation function


class Widths(NamedTuple):
    """The widths of an image encoder's outputs.

    patch: of the hidden state of each patch.
    picture: of the projected embedding of the picture.
    """

    patch: int
    picture: int


def read_image_encoder(place: Path, dtype: torch.dtype | None = None) -> CLIPVisionModelWithProjection:
    """Read the image encoder in a folder or a file, on the CPU.

    dtype: of the weights; None keeps the stored one and maps the file from disk.

    Raises:
        BadWeights: the message names the file and what is wrong with it.
    """
    if place.is_dir():
        _check_kind(place)
        return read_module(place, _build, _own_key, dtype)
    refuse_pickle(place)
    header = read_header(place)
    config = _config(header)
    encoder = build_empty(repr(str(place)), lambda: _build(config))
    names = [name for name in header.shapes if _own_key(name)]
    fill(encoder, place, read_tensors(place, names, dtype))
    return encoder


def encoder_widths(place: Path) -> Widths | None:
    """The widths of an image encoder; None if it is none. Reads only its config or header."""
    try:
        if place.is_dir():
            config = _vision_config(_check_kind(place))
        else:
            header = read_header(place)
            if identify(header).kind is not FileKind.IMAGE_ENCODER:
                return None
            config = _config(header)
        return Widths(int(config.get("hidden_size", 768)), int(config.get("projection_dim", 512)))
    except (BadWeights, TypeError, ValueError):
        return None


def _check_kind(folder: Path) -> Config:
    """The config of a folder with an image encoder. Raises BadWeights: it contains something else."""
    config = read_json(folder / "config.json")
    if config.get("model_type") not in ("clip_vision_model", "clip"):
        raise BadWeights(f"{str(folder)!r} holds no image encoder of CLIP: give another folder")
    return config


def _vision_config(config: Config) -> Config:
    """The config of the image encoder, also if the folder contains both encoders of CLIP."""
    if config.get("model_type") != "clip":
        return config
    return {**config.get("vision_config", {}), "projection_dim": config.get("projection_dim", 512)}


def _build(config: Config) -> CLIPVisionModelWithProjection:
    fields = ImageEncoderFields.check(_vision_config(config))
    return CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(fields))


def _own_key(name: str) -> str | None:
    """The tensor's name; None for the text encoder's, and for positions, which older files store."""
    own = name.startswith((_HEAD, "visual_projection.")) and not name.endswith("position_ids")
    return name if own else None


def _config(header: Header) -> Config:
    """The config of a single file. Heads and activation are assumed to be those of the published encoders."""
    shapes = header.shapes
    lacking = next((name for name in (_CLASS, _PATCH, _POSITIONS, _PROJECTION) if name not in shapes), None)
    if lacking is not None:
        raise BadWeights(f"{str(header.path)!r} lacks {lacking}: give an image encoder of CLIP")
    (width,), patch = shapes[_CLASS], shapes[_PATCH][-1]
    layers = {int(match[1]) for match in map(_LAYER.match, shapes) if match}
    projection = shapes[_PROJECTION][0]
    return {
        "hidden_size": width,
        "intermediate_size": shapes.get(f"{_HEAD}encoder.layers.0.mlp.fc1.weight", (4 * width,))[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": _HEADS.get(width, 16),
        "patch_size": patch,
        "image_size": patch * round((shapes[_POSITIONS][0] - 1) ** 0.5),
        "projection_dim": projection,
        "hidden_act": "quick_gelu" if projection <= _OPENAI else "gelu",
    }
