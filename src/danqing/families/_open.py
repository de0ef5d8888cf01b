"""Opens a painter by the name of its model. torch is imported only then."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

import danqing.families
from danqing.core.errors import BadWeights
from danqing.core.registry import FAMILIES
from danqing.weights.model_list import find_place, not_there
from danqing.weights.shipped import shipped_models, shipped_part, unknown_model

if TYPE_CHECKING:
    from danqing.core.painter import Painter
    from danqing.families.clip import ClipScorer

_DEFAULT_FAMILY = (
    "stable_diffusion"  # for single files and for most folders of other programs, which do not name a family
)
_PIPELINES = {  # class of the pipeline in diffusers' model_index.json -> family
    "DDPMPipeline": "ddpm",
    "DDIMPipeline": "ddpm",
    "IFPipeline": "imagen",
}


def open_painter(
    name: str, device: str = "auto", dtype: str | None = None, backend: str = "eager"
) -> Painter:
    """Open the painter of a shipped model, of a folder of weights, or of a single file.

    device: the device of its networks, see `core.device.resolve_device`.
    dtype: the precision of its networks, see `core.device.resolve_dtype`; None is float32.
    backend: the backend of its networks, see `execution.names.BACKENDS`.

    Raises:
        BadWeights: there is no such model, or its files cannot be used.
        BadBrief: device, dtype or backend is unknown, or the backend does not support the other two.
    """
    from danqing.core.device import resolve_device, resolve_dtype
    from danqing.execution.backends import execute_with, open_backend

    there, numbers = resolve_device(device), resolve_dtype(dtype)
    executes = open_backend(backend, there, numbers)
    folder = shipped_models().get(name) or find_place(name)
    if folder is None or not folder.exists():
        raise BadWeights(not_there(name) or unknown_model(name))
    for module in pkgutil.iter_modules(danqing.families.__path__):
        if not module.name.startswith("_"):
            place = f"{module.name}.painter" if module.ispkg else module.name
            importlib.import_module(f"danqing.families.{place}")  # registers the family
    painter = FAMILIES[family_of(folder)](folder)
    painter.place(there, numbers)
    if executes is not None:
        execute_with(painter, executes)
    return painter


def open_clip_scorer(place: str | Path | None = None) -> ClipScorer:
    """Open the shipped CLIP, or one from a folder in the format of transformers.

    Raises:
        BadWeights: there is no such folder, or its files cannot be used.
    """
    from danqing.families.clip import read_clip_scorer

    return read_clip_scorer(shipped_part("clip") if place is None else Path(place).expanduser())


def shipped_clip_scorer() -> ClipScorer | None:
    """The shipped CLIP, or None where this installation does not have it.

    Raises:
        BadWeights: its files exist, but cannot be used.
    """
    try:
        place = shipped_part("clip")
    except BadWeights:
        return None
    return open_clip_scorer(place)


def family_of(folder: Path) -> str:
    """The family of a folder of weights, from its card or from files of other programs."""
    card, index = _json_object(folder / "card.json"), _json_object(folder / "model_index.json")
    name = card.get("family") or _PIPELINES.get(str(index.get("_class_name")))
    return str(name or _DEFAULT_FAMILY)  # its opener reports what is wrong with the folder


def _json_object(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
