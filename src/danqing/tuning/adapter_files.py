"""Adapters as files: ours, and those of other programs.

Layers are read in the dialects of diffusers and peft (`unet.<layer>.lora_A.weight`) and of kohya
(`lora_unet_<layer_with_underscores>.lora_down.weight`); learned words in those of diffusers (`<word>` alone)
and of A1111 (`emb_params`, `string_to_param`). We write the first of each, which diffusers reads too; and
words beside layers as A1111 bundles them (`bundle_emb.<word>.string_to_param.*`). Never is a pickle executed.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from danqing.core.errors import BadWeights
from danqing.core.files import replacing
from danqing.tuning.adapter import Adapter
from danqing.tuning.adapter_names import find_adapter_file
from danqing.tuning.lora import Factors
from danqing.weights.tensor_files import read_header, read_tensors

_OURS, _THEIRS = (
    "danqing",
    "lora_adapter_metadata",
)  # keys of the metadata: about the adapter; peft's settings
_FIELDS = ("name", "trigger", "kind", "base", "shapes")
_ENDS = {"lora_A": "down", "lora_B": "up", "lora_down": "down", "lora_up": "up", "down": "down", "up": "up"}
_PEFT = re.compile(
    r"(?P<network>\w+)\.(?P<layer>.+?)\."
    r"(?:(?P<end>lora_A|lora_B)(?:\.default)?|lora(?:_linear_layer)?\.(?P<old>down|up))\.weight"
)
_PEFT_ALPHA = re.compile(r"(?P<network>unet|text_encoder\w*)\.(?P<layer>.+?)(?:\.lora\w*)?\.alpha")
_KOHYA = re.compile(
    r"lora_(?P<network>unet|te\d?)_(?P<layer>[^.]+)\.(?:(?P<end>lora_down|lora_up)\.weight|alpha)"
)
_KOHYA_NETWORKS = {"unet": "unet", "te": "text_encoder", "te1": "text_encoder", "te2": "text_encoder_2"}
_BUNDLED = re.compile(r"bundle_emb\.(?P<word>.+)\.string_to_param\.\*")


@dataclass(frozen=True)
class _Entry:
    """What a tensor of a file is: the `part` (down, up, alpha) of a layer, or the vectors of a word."""

    name: str
    part: str


def find_adapter(name: str, own: Mapping[str, Path] | None = None, *, named_only: bool = False) -> Adapter:
    """The adapter that a name means; see `find_adapter_file`.

    Raises:
        BadBrief: there is none, naming the nearest. BadWeights: its file cannot be used.
    """
    return read_adapter(find_adapter_file(name, own, named_only=named_only))


def write_adapter(adapter: Adapter, path: Path) -> None:
    """Write one safetensors file, whole or not at all, which diffusers reads too.

    Of an adapter with both layers and words diffusers reads neither: write two, if it should. Layers read
    from a kohya file need `adapter.named_as` first, since that dialect does not tell dots from underscores.

    Raises:
        DanqingError: the file cannot be written.
    """
    fields = {key: getattr(adapter, key) for key in _FIELDS}
    metadata = {"format": "pt", _OURS: json.dumps(fields, ensure_ascii=False)}
    if adapter.factors:
        metadata[_THEIRS] = json.dumps(_peft_settings(adapter.factors), sort_keys=True)
    tensors = {}
    for name, change in adapter.factors.items():
        network, _, layer = name.partition(".")
        stem = f"{network}.{'text_model.' if network == 'text_encoder' else ''}{layer}"
        tensors[f"{stem}.lora_A.weight"] = change.down
        tensors[f"{stem}.lora_B.weight"] = change.up
    for word, vectors in adapter.words.items():
        tensors[f"bundle_emb.{word}.string_to_param.*" if adapter.factors else word] = vectors
    with replacing(path) as draft:
        save_file({key: t.detach().cpu().contiguous() for key, t in tensors.items()}, draft, metadata)


def read_adapter(path: Path) -> Adapter:
    """The adapter in a file.

    Raises:
        BadWeights: in one line that names the file and what is wrong with it.
    """
    if path.suffix == ".pt":
        return _read_pt(path)
    tensors, metadata = read_tensors(path), read_header(path).metadata
    fields = _json(path, metadata, _OURS)
    about = {"name": path.stem, "trigger": metadata.get("modelspec.trigger_phrase", "")}
    about |= {key: str(fields[key]) for key in _FIELDS if key in fields}
    parts: dict[str, dict[str, Tensor]] = {}
    words = {}
    for key, tensor in tensors.items():
        entry = _entry(path, key, tensor, about["name"])
        if entry.part == "word":
            words[entry.name] = tensor.reshape(-1, tensor.shape[-1])
        else:
            parts.setdefault(entry.name, {})[entry.part] = tensor
    settings = _json(path, metadata, _THEIRS)
    factors = {name: _factors(path, name, match, settings) for name, match in parts.items()}
    if words and not about["trigger"]:
        about["trigger"] = " ".join(words)
    return Adapter(factors=factors, words=words, **about)


def _entry(path: Path, key: str, tensor: Tensor, name: str) -> _Entry:
    """What the tensor `key` is.

    Raises:
        BadWeights: we cannot tell, or cannot use it.
    """
    if match := _PEFT.fullmatch(key):
        end = _ENDS[match["end"] or match["old"]]
        return _Entry(f"{match['network']}.{match['layer'].removeprefix('text_model.')}", end)
    if match := _KOHYA.fullmatch(key):
        layer = match["layer"].removeprefix("text_model_")
        end = _ENDS[match["end"]] if match["end"] else "alpha"
        return _Entry(f"{_KOHYA_NETWORKS.get(match['network'], 'unknown')}.{layer}", end)
    if match := _PEFT_ALPHA.fullmatch(key):
        return _Entry(f"{match['network']}.{match['layer'].removeprefix('text_model.')}", "alpha")
    if match := _BUNDLED.fullmatch(key):
        return _Entry(match["word"], "word")
    if tensor.ndim in (1, 2) and "." not in key and key not in ("clip_l", "clip_g"):
        return _Entry(f"<{name}>" if key == "emb_params" else key, "word")
    raise BadWeights(
        f"{str(path)!r} has {key}, which is of no LoRA or learned word for Stable Diffusion 1 and 2: "
        "LoHa, LoKr, DoRA and adapters for other models cannot be used"
    )


def _factors(path: Path, name: str, match: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Factors:
    if not {"down", "up"} <= match.keys():
        raise BadWeights(f"{str(path)!r} lacks a half of {name}: fetch another copy")
    rank = match["down"].shape[0]
    alpha = float(match["alpha"]) if "alpha" in match else _peft_alpha(name, rank, settings)
    return Factors(match["down"], match["up"], alpha or float(rank))  # kohya: 0 means the rank


def _peft_alpha(name: str, rank: int, settings: Mapping[str, Any]) -> float:
    """What peft's settings say of a layer: the pattern that its path ends with, or what all have."""
    network, _, layer = name.partition(".")
    patterns: dict[str, float] = settings.get(f"{network}.alpha_pattern") or {}
    layers = [layer, f"text_model.{layer}"]  # newer towers lack the prefix, older files have it
    fitting = [
        alpha
        for pattern, alpha in patterns.items()
        if any(re.fullmatch(rf"(.*\.)?({pattern})", path) for path in layers)
    ]
    alpha = float(fitting[0] if fitting else settings.get(f"{network}.lora_alpha", rank))
    return alpha * rank**0.5 if settings.get(f"{network}.use_rslora") else alpha


def _peft_settings(factors: Mapping[str, Factors]) -> dict[str, Any]:
    """What peft must know of the layers of each network: the `LoraConfig` that diffusers makes of it."""
    settings: dict[str, Any] = {}
    for network in sorted({name.partition(".")[0] for name in factors}):
        layers = {
            name.partition(".")[2]: change
            for name, change in factors.items()
            if name.startswith(f"{network}.")
        }
        first = next(iter(layers.values()))
        settings |= {
            f"{network}.r": first.rank,
            f"{network}.lora_alpha": first.alpha,
            f"{network}.target_modules": sorted(layers),
            f"{network}.rank_pattern": {k: v.rank for k, v in layers.items() if v.rank != first.rank},
            f"{network}.alpha_pattern": {k: v.alpha for k, v in layers.items() if v.alpha != first.alpha},
        }
    return settings


def _json(path: Path, metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        value = json.loads(metadata.get(key, "{}"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise BadWeights(f"{str(path)!r} has damaged metadata ({key}): fetch another copy")
    return value


def _read_pt(path: Path) -> Adapter:
    """A learned word of A1111: `string_to_param` {"*": [v d]} and its name."""
    try:
        stored = torch.load(path, weights_only=True, map_location="cpu")
        vectors = stored.get("emb_params", stored.get("string_to_param", {}).get("*"))
    except (pickle.UnpicklingError, AttributeError, RuntimeError, EOFError, OSError, ValueError):
        vectors = None
    if not isinstance(vectors, Tensor) or vectors.ndim not in (1, 2) or not vectors.isfinite().all():
        raise BadWeights(
            f"{str(path)!r} holds no learned word that opens without running it: use safetensors"
        )
    word = f"<{path.stem}>"
    rows = vectors.detach().float()
    return Adapter(path.stem, words={word: rows.reshape(-1, rows.shape[-1])}, trigger=word)
