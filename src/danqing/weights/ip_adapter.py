"""Reads IP-Adapters: single files as their authors publish them; plain, plus and full.

A file has `image_proj.*`, which maps an image encoder's output to tokens, and `ip_adapter.N.*`, the keys and
values of each cross-attention layer, with odd numbers N.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import (
    ImageProjection,
    IPAdapterFullImageProjection,
    IPAdapterPlusImageProjection,
)
from torch import Tensor, nn

from danqing.core.errors import BadWeights
from danqing.nets.ip_adapter import IPAdapter, word_attention
from danqing.weights.detect import FileKind, family_of_width, identify
from danqing.weights.pretrained import build_empty, fill
from danqing.weights.tensor_files import Header, read_header, read_tensors, refuse_pickle

_TOKENS = 4  # tokens per picture of a plain one
_HEAD, _LAYERS = "image_proj.", "ip_adapter."
_READS = "1.to_k_ip.weight"  # its input width is that of the text encoder's states
_PLAIN, _FULL, _PLUS = "proj.weight", "proj.3.weight", "latents"  # tensors that distinguish the layouts
# tensors of face adapters: a resampler, and a norm without the projection of a plain one
_FACES = ("perceiver_resampler.proj_in.weight", "norm.weight")
_SIDE = 64  # channels per head of the resampler
_FULL_NAMES = {"proj.0.": "ff.net.0.proj.", "proj.2.": "ff.net.2.", "proj.3.": "norm."}
_PLUS_NAMES = {  # original names after the number of a resampler layer -> ours
    "0.norm1.": "ln0.",
    "0.norm2.": "ln1.",
    "0.to_q.": "attn.to_q.",
    "0.to_out.": "attn.to_out.0.",
    "1.0.": "ff.0.",
    "1.1.": "ff.1.net.0.proj.",
    "1.3.": "ff.1.net.2.",
}
_LAYER = re.compile(r"(layers\.\d+\.)(.*)")


def read_ip_adapter(place: Path, unet: UNet2DConditionModel, dtype: torch.dtype | None = None) -> IPAdapter:
    """Read the IP-Adapter in a file, on the CPU.

    unet: the UNet that it is for.
    dtype: of the weights; None keeps the stored one and maps the file from disk.

    Raises:
        BadWeights: it is not an IP-Adapter, or one for another model.
    """
    refuse_pickle(place)
    header = read_header(place)
    projection = _projection(header)
    _check_base(header, unet)
    attention = word_attention(unet)
    adapter = build_empty(repr(str(place)), lambda: IPAdapter(projection(), attention))
    fill(adapter, place, _our_names(read_tensors(place, dtype=dtype)))
    return adapter


def encoder_width(place: Path) -> tuple[int, bool]:
    """The width of the image encoder's output that it needs, and whether that is one vector per patch.

    Raises:
        BadWeights: it is not an IP-Adapter.
    """
    header = read_header(place)
    _projection(header)
    shapes = header.shapes
    if (plain := f"{_HEAD}{_PLAIN}") in shapes:
        return shapes[plain][-1], False
    first = "proj.0.weight" if f"{_HEAD}{_FULL}" in shapes else "proj_in.weight"
    return shapes[f"{_HEAD}{first}"][-1], True


def width_of_words(place: Path) -> int | None:
    """The width of the token states that it is trained for, from the header; None if it is no IP-Adapter."""
    try:
        header = read_header(place)
    except BadWeights:
        return None
    return header.shapes.get(f"{_LAYERS}{_READS}", (0, None))[1]


def _projection(header: Header) -> Callable[[], nn.Module]:
    """The function that builds the module `image_proj`, chosen by the shapes of its tensors.

    Raises:
        BadWeights: the file is not an IP-Adapter, or it is one for faces.
    """
    path, shapes = header.path, header.shapes
    if (info := identify(header)).kind is not FileKind.IP_ADAPTER:
        raise BadWeights(f"{str(path)!r} is {info}: give an IP-Adapter")
    own = {name.removeprefix(_HEAD): shape for name, shape in shapes.items() if name.startswith(_HEAD)}
    try:
        if _PLAIN in own:
            tall, width = own[_PLAIN]
            return lambda: ImageProjection(width, tall // _TOKENS, _TOKENS)
        if _FULL in own:
            return lambda: IPAdapterFullImageProjection(own["proj.0.weight"][0], own[_FULL][0])
        if any(name in own for name in _FACES):
            raise BadWeights(
                f"{str(path)!r} is an IP-Adapter FaceID, which reads faces by another program: "
                "give a plain or a plus one"
            )
        _, queries, hidden = own[_PLUS]
        layers = {name.split(".")[1] for name in own if _LAYER.match(name)}
        heads = own["layers.0.0.to_q.weight"][0] // _SIDE
        width, out = own["proj_in.weight"][1], own["proj_out.weight"][0]
        ratio = own["layers.0.1.1.weight"][0] / hidden
    except (KeyError, ValueError):
        raise BadWeights(f"{str(path)!r} is no whole IP-Adapter: fetch it again") from None
    return lambda: IPAdapterPlusImageProjection(width, out, hidden, len(layers), _SIDE, heads, queries, ratio)


def _check_base(header: Header, unet: UNet2DConditionModel) -> None:
    """Check that its token width is the UNet's. Raises BadWeights: it differs; both generations are named."""
    width, base = header.shapes.get(f"{_LAYERS}{_READS}", (0, 0))[1], unet.config.cross_attention_dim
    if width in (0, base):
        return
    theirs = family_of_width(width) or f"a model with words of width {width}"
    ours = family_of_width(base) or f"one with words of width {base}"
    raise BadWeights(
        f"{str(header.path)!r} is an IP-Adapter of {theirs}, and this model is {ours}: choose one for it"
    )


def _our_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our `IPAdapter`'s names; unknown names stay, for the message."""
    renamed = {}
    for name, tensor in tensors.items():
        number, _, rest = name.removeprefix(_LAYERS).partition(".")
        if name.startswith(_LAYERS) and number.isdecimal() and int(number) % 2:
            part = {"to_k_ip.weight": "keys", "to_v_ip.weight": "values"}.get(rest)
            renamed[f"{part}.{int(number) // 2}.weight" if part else name] = tensor
        elif name.startswith(_HEAD):
            renamed |= _of_projection(name.removeprefix(_HEAD), tensor)
        else:
            renamed[name] = tensor
    return renamed


def _of_projection(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A tensor of `image_proj` under our names; the resampler's joint keys and values are split."""
    if name in (_PLAIN, "proj.bias"):
        return {f"projection.{name.replace('proj', 'image_embeds')}": tensor}
    if layer := _LAYER.fullmatch(name):
        if layer[2] == "0.to_kv.weight":
            halves = zip(("to_k", "to_v"), tensor.chunk(2), strict=True)
            return {f"projection.{layer[1]}attn.{part}.weight": half for part, half in halves}
        return {f"projection.{layer[1]}{_our_beginning(layer[2], _PLUS_NAMES)}": tensor}
    return {f"projection.{_our_beginning(name, _FULL_NAMES)}": tensor}


def _our_beginning(name: str, table: dict[str, str]) -> str:
    """The name with its beginning replaced as in the table; unchanged if no entry matches."""
    for theirs, ours in table.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name
