"""What the name of an adapter means: a file, without reading it. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from danqing.core.errors import BadBrief, unknown

SUFFIXES = (".safetensors", ".pt")


def find_adapter_file(name: str, own: Mapping[str, Path] | None = None, *, named_only: bool = False) -> Path:
    """The file that `name` is, or the one called so among a model's own or in the folder `adapters` here.

    named_only: neither a file nor that folder counts, only `own`.

    Raises:
        BadBrief: there is none, naming the nearest.
    """
    if named_only:
        if name not in (own or {}):
            raise BadBrief(unknown("adapter", name, own or {}))
        return (own or {})[name]
    path = Path(name).expanduser()
    if path.suffix in SUFFIXES and path.is_file():
        return path
    by_name = {**adapters_in(Path("adapters")), **(own or {})}
    if name not in by_name:
        raise BadBrief(f"{unknown('adapter', name, by_name)}, or give a .safetensors file")
    return by_name[name]


def adapters_in(folder: Path) -> dict[str, Path]:
    """The adapters in a folder: name -> file."""
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}
