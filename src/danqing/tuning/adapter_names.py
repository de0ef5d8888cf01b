"""What the name of an adapter means: a file, without reading it. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from danqing.core.errors import BadBrief, unknown

SUFFIXES = (".safetensors", ".pt", ".bin", ".ckpt", ".pth", ".pkl", ".pickle")  # some only to be refused
IN_FOLDER = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")  # of peft, of diffusers


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
    if is_adapter_place(name):
        return Path(name).expanduser()
    by_name = {**adapters_in(Path("adapters")), **(own or {})}
    if name not in by_name:
        raise BadBrief(f"{unknown('adapter', name, by_name)}, or give a .safetensors file")
    return by_name[name]


def is_adapter_place(name: str) -> bool:
    """Whether `name` is a file, or a folder of peft or diffusers, and not the name of an adapter."""
    path = Path(name).expanduser()
    with suppress(OSError):  # a name that is too long for a file
        if path.is_file():
            return path.suffix in SUFFIXES
        return any((path / file).is_file() for file in IN_FOLDER)
    return False


def prompt_name(name: str) -> str:
    """How a prompt calls an adapter: a file by its stem."""
    return Path(name).stem if is_adapter_place(name) else name


def merge_weights(weights: Mapping[str, float], own: Mapping[str, Path]) -> dict[str, float]:
    """The weights with each `<name>` of a prompt as the file of that name, where one is there too.

    own: the adapters that have names: name -> file.
    """
    files = {prompt_name(name).casefold(): name for name in weights if prompt_name(name) != name}
    together = {}
    for name, weight in weights.items():
        together[name if name in own else files.get(name.casefold(), name)] = weight
    return together


def adapters_in(folder: Path) -> dict[str, Path]:
    """The adapters in a folder: name -> file."""
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}
