"""From a model's name to a painter. Nothing heavy is loaded before a model is opened."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

import danqing.families
import danqing.zoo
from danqing.core.errors import BadWeights, shorten, unknown
from danqing.core.registry import FAMILIES

if TYPE_CHECKING:
    from danqing.core.painter import Painter
    from danqing.families.clip import Critic

_DEFAULT_FAMILY = (
    "stable_diffusion"  # of what tells nothing: single files, and most folders of other programs
)
_PIPELINES = {  # of diffusers, in model_index.json
    "DDPMPipeline": "ddpm",
    "DDIMPipeline": "ddpm",
    "IFPipeline": "imagen",
}


def shipped() -> dict[str, Path]:
    """The models that come with the package: name -> folder."""
    roots = [Path(root) for root in danqing.zoo.__path__]
    return {card.parent.name: card.parent for root in roots for card in sorted(root.glob("*/card.json"))}


def unknown_model(name: str) -> str:
    """One line for a name that is neither a shipped model nor a place of weights."""
    give = "give a folder of weights or a .safetensors file"
    if not shipped():
        return f"unknown model {shorten(name)!r}: none came with this copy, so {give}"
    return f"{unknown('model', name, shipped())}, or {give}"


def open_painter(name: str, device: str | None = None) -> Painter:
    """The painter of a shipped model, of a folder of weights, or of a single file.

    device: where diffusion models paint, see `core.device.chosen_device`; the others paint on the CPU.

    Raises:
        BadWeights: no such model, or its files cannot be used. BadBrief: there is no such device.
    """
    from danqing.core.device import chosen_device
    from danqing.diffusion.painter import DiffusionPainter

    there = chosen_device(device)
    folder = shipped().get(name, Path(name).expanduser())
    if not folder.exists():
        raise BadWeights(unknown_model(name))
    for module in pkgutil.iter_modules(danqing.families.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"danqing.families.{module.name}")  # registers itself
    painter = FAMILIES[family_of(folder)](folder)
    if isinstance(painter, DiffusionPainter):
        painter.place(there)
    return painter


def open_critic(place: str | Path | None = None) -> Critic:
    """CLIP as one who looks: the shipped one, or a folder of CLIP's weights in the format of transformers.

    Raises:
        BadWeights: there is no such folder, or its files cannot be used.
    """
    from danqing.families.clip import read_critic

    return read_critic(shipped_part("clip") if place is None else Path(place).expanduser())


def shipped_critic() -> Critic | None:
    """The shipped CLIP, or None where this copy came without it.

    Raises:
        BadWeights: it is there and cannot be used.
    """
    try:
        place = shipped_part("clip")
    except BadWeights:
        return None
    return open_critic(place)


def shipped_part(name: str) -> Path:
    """The folder of shipped weights that do not paint by themselves.

    Raises:
        BadWeights: this copy came without them.
    """
    folder = Path(danqing.zoo.__path__[0]) / name
    if not folder.is_dir():
        raise BadWeights(f"{str(folder)!r} is missing: install danqing again, with its weights")
    return folder


def family_of(folder: Path) -> str:
    """The family of a folder of weights, as its card says, or what other programs write."""
    card, index = _told(folder / "card.json"), _told(folder / "model_index.json")
    told = card.get("family") or _PIPELINES.get(str(index.get("_class_name")))
    return str(told or _DEFAULT_FAMILY)  # whose opener says what is wrong with the folder


def _told(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
