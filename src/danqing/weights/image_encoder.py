"""The image encoders that IP-Adapters read with: CLIP's, as a folder of transformers or as one file."""

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
_HEADS = {768: 12}  # by width; all larger published ones have 16
_OPENAI = 768  # what the encoders of OpenAI project to, whose activation is another one


class Widths(NamedTuple):
    """How wide the numbers are that an image encoder gives: of each patch, and of the whole picture."""

    patch: int
    picture: int


def read_image_encoder(place: Path, dtype: torch.dtype | None = None) -> CLIPVisionModelWithProjection:
    """The image encoder in a folder or a file, on the CPU.

    dtype: of its weights; None is as they are stored, mapped from disk.

    Raises:
        BadWeights: in one line that names the file and what is wrong with it.
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
    """The widths of an image encoder, by its config or header alone; None if it is none."""
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
    """The config of a folder that holds an image encoder. Raises BadWeights: it holds something else."""
    config = read_json(folder / "config.json")
    if config.get("model_type") not in ("clip_vision_model", "clip"):
        raise BadWeights(f"{str(folder)!r} holds no image encoder of CLIP: give another folder")
    return config


def _vision_config(config: Config) -> Config:
    """The fields of the image encoder, also where the folder holds both encoders of CLIP."""
    if config.get("model_type") != "clip":
        return config
    return {**config.get("vision_config", {}), "projection_dim": config.get("projection_dim", 512)}


def _build(config: Config) -> CLIPVisionModelWithProjection:
    fields = ImageEncoderFields.check(_vision_config(config))
    return CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(fields))


def _own_key(name: str) -> str | None:
    """None for the tensors of the text encoder, and for the positions that older files store."""
    own = name.startswith((_HEAD, "visual_projection.")) and not name.endswith("position_ids")
    return name if own else None


def _config(header: Header) -> Config:
    """The config of a single file. Its heads and its activation are those of the published encoders."""
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
