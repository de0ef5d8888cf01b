"""The cache of exported networks on disk, shared by all processes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

GIB = 2**30
_MOST_BYTES = 12 * GIB  # of all exports; the least recently used are deleted first


def exports_folder() -> Path:
    """The folder of all exports; users may delete it at any time."""
    if place := os.environ.get("DANQING_EXPORTS"):
        return Path(place)
    from platformdirs import user_cache_path

    return user_cache_path("danqing", appauthor=False) / "exports"


def export_key(network: nn.Module, *facts: object) -> str:
    """A key of thirty-two hex digits, from the network, its exact weights and `facts` such as versions."""
    config = {name: value for name, value in dict(_config(network)).items() if name[0] != "_"}
    made_by = (type(network).__qualname__, repr(network), sorted(config.items()), torch.__version__, *facts)
    digest = hashlib.sha256(repr(made_by).encode())
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _config(network: nn.Module) -> Mapping[str, object]:
    config = getattr(network, "config", {})
    return config if isinstance(config, Mapping) else vars(config)


def touch(export: Path) -> None:
    """Mark an export as used just now."""
    with suppress(OSError):
        os.utime(export)


def make_room(folder: Path, most_bytes: int = _MOST_BYTES) -> None:
    """Delete the least recently used exports until the others have at most `most_bytes` bytes."""
    with suppress(OSError):
        exports = sorted((path for path in folder.iterdir() if path.is_dir()), key=_age)
        while exports and sum(map(_size, exports)) > most_bytes:
            shutil.rmtree(exports.pop(0), ignore_errors=True)


def _age(export: Path) -> float:
    return export.stat().st_mtime


def _size(export: Path) -> int:
    return sum(file.stat().st_size for file in export.rglob("*") if file.is_file())
