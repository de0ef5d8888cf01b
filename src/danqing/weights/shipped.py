"""The folders of the weights that are shipped with the package."""

from __future__ import annotations

from pathlib import Path

import danqing.zoo
from danqing.core.errors import BadWeights, shorten, unknown


def shipped_models() -> dict[str, Path]:
    """The models that are shipped with the package: name -> folder."""
    roots = [Path(root) for root in danqing.zoo.__path__]
    return {card.parent.name: card.parent for root in roots for card in sorted(root.glob("*/card.json"))}


def unknown_model(name: str) -> str:
    """The message for a name that is neither a shipped model nor a path to weights."""
    give = "give a folder of weights or a .safetensors file"
    if not shipped_models():
        return f"unknown model {shorten(name)!r}: none came with this copy, so {give}"
    return f"{unknown('model', name, shipped_models())}, or {give}"


def shipped_part(name: str) -> Path:
    """The folder of shipped weights that are not a painter by themselves.

    Raises:
        BadWeights: this installation has none of that name.
    """
    folder = Path(danqing.zoo.__path__[0]) / name
    if not folder.is_dir():
        raise BadWeights(f"{str(folder)!r} is missing: install danqing again, with its weights")
    return folder
