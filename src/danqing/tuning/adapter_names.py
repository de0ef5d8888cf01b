"""Finds the file that an adapter's name means, without reading it. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from danqing.core.errors import BadBrief, unknown

# some are listed only so that they can be refused with a message
SUFFIXES = (".safetensors", ".pt", ".bin", ".ckpt", ".pth", ".pkl", ".pickle")
IN_FOLDER = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")  # as peft and diffusers name it


def find_adapter_file(name: str, own: Mapping[str, Path] | None = None, *, named_only: bool = False) -> Path:
    """The file of an adapter: `name` is a path, or a name among `own`, or a name in the folder `adapters`.

    own: the adapters of a model: name -> file.
    named_only: whether to look only into `own`.

    Raises:
        BadBrief: there is none; the message names the most similar one.
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
    """Whether `name` is a path to a file, or to a folder of peft or diffusers, and not an adapter's name."""
    path = Path(name).expanduser()
    with suppress(OSError):  # raised if the name is too long for a path
        if path.is_file():
            return path.suffix in SUFFIXES
        return any((path / file).is_file() for file in IN_FOLDER)
    return False


def prompt_name(name: str) -> str:
    """The adapter's name in a prompt; for a file, its stem."""
    return Path(name).stem if is_adapter_place(name) else name


def merge_weights(weights: Mapping[str, float], own: Mapping[str, Path]) -> dict[str, float]:
    """The weights; a name as in a prompt is replaced by the file of that name, if that is a key too.

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
