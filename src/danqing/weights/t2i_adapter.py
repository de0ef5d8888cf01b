"""Reads T2I-Adapters: diffusers folders, and single files with the names of diffusers or the original ones.

Paper: Mou et al., T2I-Adapter, arXiv 2302.08453. A T2I-Adapter computes features of a control map, once for
all steps, which are added inside the UNet's encoder.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isqrt
from pathlib import Path

import torch
from diffusers import T2IAdapter

from danqing.core.errors import BadWeights
from danqing.weights.config_checks import AdapterFields
from danqing.weights.detect import SD1, SDXL, FileKind, identify
from danqing.weights.pretrained import Config, build_empty, fill, read_config, read_json, read_module
from danqing.weights.tensor_files import (
    Header,
    read_header,
    read_tensors,
    refuse_pickle,
)

_HEAD = "adapter."
_XL_FACTOR = 16  # the factor by which XL's adapters first reduce a map; for the others it is 8
_COLOURS = (3, 1)  # possible channels of maps
_RESNET = re.compile(r"body\.(\d+)\.(block[12]\..*)")  # in the original names
_LIGHT = re.compile(r"body\.(\d+)\.body\.(\d+)\.(.*)")
_IN = re.compile(r"body\.(\d+)\.in_conv\.(.*)")


def read_t2i_adapter(place: Path, base: Config, dtype: torch.dtype | None = None) -> T2IAdapter:
    """Read the T2I-Adapter in a folder or a file, on the CPU.

    base: the config of the UNet to control.
    dtype: of the weights; None keeps the stored one and maps the file from disk.

    Raises:
        BadWeights: it is not a T2I-Adapter, or one for another model.
    """
    if place.is_dir():
        config = read_config(place, "T2IAdapter", "T2I-Adapter")
        _check_base(place, config, base)
        return read_module(place, _build, dtype=dtype)
    refuse_pickle(place)
    header = read_header(place)
    if (info := identify(header)).kind is not FileKind.T2I_ADAPTER:
        raise BadWeights(f"{str(place)!r} is {info}: give a T2I-Adapter")
    rename = _renaming(header)
    shapes = {rename(name): shape for name, shape in header.shapes.items()}
    config = _config(place, shapes)
    _check_base(place, config, base)
    adapter = build_empty(repr(str(place)), lambda: _build(config))
    tensors = read_tensors(place, dtype=dtype)
    fill(adapter, place, {rename(name): tensor for name, tensor in tensors.items()})
    return adapter


def steers(place: Path, base: Config) -> bool:
    """Whether it is a T2I-Adapter for a UNet with that config. Reads only its config or header."""
    try:
        if place.is_dir():
            config = read_config(place, "T2IAdapter", "T2I-Adapter")
        else:
            header = read_header(place)
            if identify(header).kind is not FileKind.T2I_ADAPTER:
                return False
            rename = _renaming(header)
            config = _config(place, {rename(name): shape for name, shape in header.shapes.items()})
        _check_base(place, config, base)
    except BadWeights:
        return False
    return True


def is_t2i_adapter(place: Path) -> bool:
    """Whether a folder or file is a T2I-Adapter for any model. Reads only its config or header."""
    try:
        if place.is_dir():
            return read_json(place / "config.json").get("_class_name") == "T2IAdapter"
        return identify(read_header(place)).kind is FileKind.T2I_ADAPTER
    except BadWeights:
        return False


def _build(config: Config) -> T2IAdapter:
    return T2IAdapter.from_config(AdapterFields.check(config))


def _check_base(place: Path, config: Config, base: Config) -> None:
    """Check that its features fit the encoder of a UNet with the config `base`.

    Raises:
        BadWeights: they do not; the message names both generations, or the wrong value.
    """
    own = AdapterFields.read(place, config)
    for_xl, is_xl = own.adapter_type == "full_adapter_xl", base.get("addition_embed_type") == "text_time"
    if for_xl != is_xl:
        theirs, ours = (SDXL if xl else f"{SD1} or 2" for xl in (for_xl, is_xl))
        raise BadWeights(
            f"{str(place)!r} is a T2I-Adapter of {theirs}, and this model is {ours}: choose one for it"
        )
    sides = list(base["block_out_channels"])
    levels = own.channels if own.adapter_type != "light_adapter" else [*own.channels, own.channels[-1]]
    # XL's adapters have one more level, for the UNet's middle block
    if levels[: len(sides)] != sides:
        raise BadWeights(f"{str(place)!r} is a T2I-Adapter for a UNet of other sizes: choose another one")


def _renaming(header: Header) -> Callable[[str], str]:
    """A function that maps the file's names to those of diffusers, chosen by which names the file has."""
    names = header.shapes
    if any(name.startswith(_HEAD) for name in names):
        return str
    if any(map(_LIGHT.match, names)):
        return _light_name
    layers = _resnets_a_level(header)

    def rename(name: str) -> str:
        if match := _RESNET.fullmatch(name):
            level, layer = divmod(int(match[1]), layers)
            return f"{_HEAD}body.{level}.resnets.{layer}.{match[2]}"
        if match := _IN.fullmatch(name):
            return f"{_HEAD}body.{int(match[1]) // layers}.in_conv.{match[2]}"
        return _HEAD + name

    return rename


def _light_name(name: str) -> str:
    match = _LIGHT.fullmatch(name)
    return _HEAD + (f"body.{match[1]}.resnets.{match[2]}.{match[3]}" if match else name)


def _resnets_a_level(header: Header) -> int:
    """The number of residual blocks in a level of a full adapter with original names.

    The first two levels differ in width, so that the second begins with a convolution called `in_conv`.
    """
    firsts = [int(match[1]) for match in map(_IN.fullmatch, header.shapes) if match]
    return min(firsts, default=2) or 2


def _config(place: Path, shapes: dict[str, tuple[int, ...]]) -> Config:
    """The config of a single file, from the shapes of its tensors under the names of diffusers.

    Raises:
        BadWeights: a tensor is missing.
    """
    levels = len({name.split(".")[2] for name in shapes if name.startswith(f"{_HEAD}body.")})
    layers = len({name.split(".")[4] for name in shapes if name.startswith(f"{_HEAD}body.0.resnets.")})
    full = f"{_HEAD}conv_in.weight" in shapes
    try:
        if full:
            sides = [shapes[f"{_HEAD}body.{k}.resnets.0.block2.weight"][0] for k in range(levels)]
            channels, factor = _map_and_factor(shapes[f"{_HEAD}conv_in.weight"][1])
            kind = "full_adapter_xl" if factor == _XL_FACTOR else "full_adapter"
        else:
            sides = [shapes[f"{_HEAD}body.{k}.out_conv.weight"][0] for k in range(levels - 1)]
            channels, factor = _map_and_factor(shapes[f"{_HEAD}body.0.in_conv.weight"][1])
            kind = "light_adapter"
    except (KeyError, IndexError):
        raise BadWeights(f"{str(place)!r} is no whole T2I-Adapter: fetch it again") from None
    return {
        "in_channels": channels,
        "channels": sides,
        "num_res_blocks": layers,
        "downscale_factor": factor,
        "adapter_type": kind,
    }


def _map_and_factor(unshuffled: int) -> tuple[int, int]:
    """A map's number of channels, and the factor of the pixel unshuffling."""
    for channels in _COLOURS:
        side = isqrt(unshuffled // channels)
        if channels * side**2 == unshuffled and side in (8, _XL_FACTOR):
            return channels, side
    raise KeyError(unshuffled)
