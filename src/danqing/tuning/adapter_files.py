"""Reads and writes adapter files: ours, and those of other programs.

Layers are read in every dialect and of every kind that `lora_dialects` and `weight_changes` support;
embeddings in those of diffusers (`<word>` alone) and of A1111 (`emb_params`, `string_to_param`, `clip_l` with
`clip_g`). We write the dialect of diffusers, and embeddings in a file with layers as A1111 bundles them
(`bundle_emb.<word>.string_to_param.*`). A pickle is never executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from danqing.core.errors import BadWeights
from danqing.core.files import atomic_write
from danqing.tuning.adapter import Adapter
from danqing.tuning.adapter_names import IN_FOLDER, find_adapter_file
from danqing.tuning.lora import Factors
from danqing.tuning.lora_dialects import entry_of
from danqing.tuning.weight_changes import WeightChange
from danqing.weights.detect import FileKind, identify
from danqing.weights.pretrained import read_json
from danqing.weights.tensor_files import Header, printable, read_header, read_tensors, refuse_pickle

_OURS, _THEIRS = (
    "danqing",
    "lora_adapter_metadata",
)  # metadata keys: the adapter's own, and peft's settings
_FIELDS = ("name", "trigger", "kind", "base", "shapes")
_BUNDLED = re.compile(r"bundle_emb\.(?P<word>.+)\.string_to_param\.\*")


def find_adapter(name: str, own: Mapping[str, Path] | None = None, *, named_only: bool = False) -> Adapter:
    """Read the adapter of that name; see `find_adapter_file`.

    Raises:
        BadBrief: there is none; the message names the most similar one.
        BadWeights: its file cannot be used.
    """
    return read_adapter(find_adapter_file(name, own, named_only=named_only))


def write_adapter(adapter: Adapter, path: Path) -> None:
    """Write one safetensors file, atomically, which diffusers reads too.

    If the adapter has both layers and embeddings, diffusers reads neither: write two files for it. Layers
    that were read from a kohya file need `adapter.named_as` first, since that dialect writes dots as
    underscores.

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
    with atomic_write(path) as draft:
        save_file({key: t.detach().cpu().contiguous() for key, t in tensors.items()}, draft, metadata)


def read_adapter(path: Path) -> Adapter:
    """Read an adapter from a file, or from a folder of peft or diffusers.

    Raises:
        BadWeights: the message, one line, names the file and what is wrong with it.
    """
    if path.is_dir():
        path = next(path / name for name in IN_FOLDER if (path / name).is_file())
    if path.suffix == ".pt":
        return _read_pt(path)
    refuse_pickle(path)
    header = read_header(path)
    _refuse_others(header)
    tensors, metadata = read_tensors(path), header.metadata
    fields = _json(path, metadata, _OURS)
    about = {"name": path.stem, "trigger": metadata.get("modelspec.trigger_phrase", "")}
    about |= {key: str(fields[key]) for key in _FIELDS if key in fields}
    layers, words, words_2 = _sorted_out(path, tensors, about["name"])
    if not layers and not words:
        raise BadWeights(f"{str(path)!r} holds nothing that a model could learn: fetch another copy")
    settings = {**_json(path, metadata, _THEIRS), **_settings_beside(path)}
    changes = {name: _change(path, name, parts, settings) for name, parts in layers.items()}
    if words and not about["trigger"]:
        about["trigger"] = " ".join(words)
    return Adapter(
        factors={name: change for name, change in changes.items() if isinstance(change, Factors)},
        rebuilt={name: change for name, change in changes.items() if isinstance(change, WeightChange)},
        words=words,
        words_2=words_2,
        **about,
    )


def _refuse_others(header: Header) -> None:
    """Check that a file may be an adapter.

    Raises:
        BadWeights: the message names what the file is instead.
    """
    info = identify(header)
    if info.kind is FileKind.CHECKPOINT:
        raise BadWeights(f"{str(header.path)!r} is {info} and no adapter: give it with --model")
    if info.kind not in (FileKind.LORA, FileKind.WORD, FileKind.OTHER):
        raise BadWeights(f"{str(header.path)!r} is {info} and no adapter: give a LoRA or a learned word")


_Sorted = tuple[dict[str, dict[str, Tensor]], dict[str, Tensor], dict[str, Tensor]]


def _sorted_out(path: Path, tensors: Mapping[str, Tensor], name: str) -> _Sorted:
    """Sort the tensors of a file into layers, embeddings, and embeddings of a second text encoder.

    Raises:
        BadWeights: a tensor has an unknown name or cannot be used.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    words, words_2 = {}, {}
    for key, tensor in tensors.items():
        if entry := entry_of(key):
            flattened = tensor.flatten() if "lora_magnitude_vector" in key else tensor
            layers.setdefault(entry.layer, {})[entry.part] = flattened
        elif match := _BUNDLED.fullmatch(key):
            words[match["word"]] = _vectors(path, key, tensor)
        elif key == "clip_g":
            words_2[f"<{name}>"] = _vectors(path, key, tensor)
        elif "." not in key:
            words[f"<{name}>" if key in ("emb_params", "clip_l") else key] = _vectors(path, key, tensor)
        else:
            raise BadWeights(
                f"{str(path)!r} has {printable(key)}, which is of no LoRA or learned word for Stable "
                "Diffusion: give an adapter for it"
            )
    return layers, words, words_2


def _vectors(path: Path, key: str, tensor: Tensor) -> Tensor:
    """The embeddings of a learned word [v d].

    Raises:
        BadWeights: the tensor does not have that shape.
    """
    if tensor.ndim not in (1, 2) or tensor.numel() == 0 or not tensor.is_floating_point():
        raise BadWeights(
            f"{str(path)!r} has {printable(key)} of shape {list(tensor.shape)}, which are no vectors of a "
            "word: fetch another copy"
        )
    return tensor.reshape(-1, tensor.shape[-1])


def _change(
    path: Path, name: str, parts: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> Factors | WeightChange:
    """The change of one layer.

    Raises:
        BadWeights: its tensors do not form a known kind of change.
    """
    for part, tensor in parts.items():
        is_number = part in ("alpha", "on_input")
        fits = tensor.numel() == 1 if is_number else tensor.numel() > 0 and tensor.ndim > 0
        if not fits or not (is_number or tensor.is_floating_point()):
            raise BadWeights(
                f"{str(path)!r} has {part} of {printable(name)} as {tensor.dtype} {list(tensor.shape)}: "
                "fetch another copy"
            )
    tensors = {part: tensor for part, tensor in parts.items() if part != "alpha"}
    rank = tensors["down"].shape[0] if "down" in tensors else None
    alpha = float(parts["alpha"]) if "alpha" in parts else _peft_alpha(path, name, rank, settings)
    if tensors.keys() == {"down", "up"} and rank is not None:
        return Factors(tensors["down"], tensors["up"], alpha or float(rank))  # kohya: alpha 0 means the rank
    change = WeightChange.of(tensors, alpha or None, settings.get(f"{name.partition('.')[0]}.r"))
    if change is None:
        lack = "lacks a half of" if {"down", "up"} & tensors.keys() else f"has {', '.join(tensors)} alone of"
        raise BadWeights(f"{str(path)!r} {lack} {printable(name)}: fetch another copy")
    return change


def _settings_beside(path: Path) -> dict[str, Any]:
    """Peft's settings in adapter_config.json, in the form of a file's metadata; they hold for any network."""
    place = path.parent / "adapter_config.json"
    if path.name != IN_FOLDER[0] or not place.is_file():
        return {}
    settings = read_json(place)
    return {f"{network}.{key}": v for network in ("unet", "text_encoder") for key, v in settings.items()}


def _peft_alpha(path: Path, name: str, rank: int | None, settings: Mapping[str, Any]) -> float | None:
    """The alpha that peft's settings give a layer: by a pattern that its path ends with, or the general one.

    Raises:
        BadWeights: the alpha is not a number, or a pattern is not a regular expression.
    """
    network, _, layer = name.partition(".")
    # paths in text encoders begin with this prefix only in older files
    layers = [layer, f"text_model.{layer}"]
    try:
        patterns: dict[str, float] = settings.get(f"{network}.alpha_pattern") or {}
        fitting = [
            alpha
            for pattern, alpha in patterns.items()
            if any(re.fullmatch(rf"(.*\.)?({pattern})", path) for path in layers)
        ]
        stated = (
            fitting[0] if fitting else settings.get(f"{network}.lora_alpha", settings.get(f"{network}.alpha"))
        )
        if stated is None:
            return rank
        alpha = float(stated)
    except (re.error, TypeError, ValueError, AttributeError):
        raise BadWeights(
            f"{str(path)!r} has damaged metadata (alpha of {printable(name)}): fetch another copy"
        ) from None
    return alpha * (rank or 1) ** 0.5 if settings.get(f"{network}.use_rslora") else alpha


def _peft_settings(factors: Mapping[str, Factors]) -> dict[str, Any]:
    """Peft's settings of the layers of each network, from which diffusers makes its `LoraConfig`."""
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
    """Read an embedding file of A1111: `string_to_param` {"*": [v d]} and its name."""
    try:
        stored = torch.load(path, weights_only=True, map_location="cpu")
        vectors = stored.get("emb_params", stored.get("string_to_param", {}).get("*"))
        vectors = vectors.detach().to_dense().float() if isinstance(vectors, Tensor) else None
    except Exception:  # torch raises many kinds of exceptions for a damaged file
        vectors = None
    fits = vectors is not None and not vectors.is_meta and vectors.ndim in (1, 2) and vectors.numel() > 0
    if vectors is None or not fits or not vectors.isfinite().all():
        raise BadWeights(
            f"{str(path)!r} holds no learned word that opens without running it: use safetensors"
        )
    word = f"<{path.stem}>"
    return Adapter(path.stem, words={word: vectors.reshape(-1, vectors.shape[-1])}, trigger=word)
