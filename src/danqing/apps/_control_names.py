"""Which ControlNets a request may name, and which of them is for a kind of map. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from danqing.core.control import CONTROL_KINDS, ControlRef
from danqing.core.errors import BadBrief, shorten, unknown
from danqing.weights.model_list import cached_models, find_place, listed_models

if TYPE_CHECKING:
    from danqing.apps._inputs import ControlInputs
    from danqing.apps._session import Session

SUFFIXES = (".safetensors", ".pth", ".ckpt", ".pt", ".bin")  # some only to be refused


def controls_in(folder: Path) -> dict[str, Path]:
    """The ControlNets in a folder, by file names without their endings and names of folders."""
    places = sorted(folder.iterdir()) if folder.is_dir() else []
    files = {place.stem: place for place in reversed(places) if place.suffix.lower() in SUFFIXES}
    folders = {place.name: place for place in places if (place / "config.json").is_file()}
    return dict(sorted({**files, **folders}.items()))


def control_places(session: Session) -> dict[str, Path]:
    """All places where a ControlNet may be: the folder `controls`, the list of models, the hub's cache."""
    own = controls_in(session.controls)
    return own if session.named_only else {**cached_models(), **listed_models(), **own}


def check_controls(inputs: ControlInputs, session: Session) -> None:
    """Refuse maps for which there is no ControlNet, as far as names tell.

    Raises:
        BadBrief: naming what is missing, and where to put it.
    """
    if len(inputs.control_model) > len(inputs.control):
        raise BadBrief(
            f"control_model {shorten(inputs.control_model[-1])!r} has nothing to follow: "
            "give a picture with control, such as canny=photo.jpg"
        )
    places = control_places(session) if inputs.control else {}
    for control, name in with_names(inputs):
        if name is None:
            candidates_for(control, places, session)
        else:
            named_place(name, places, session)


def with_names(inputs: ControlInputs) -> list[tuple[ControlRef, str | None]]:
    """Each map with the ControlNet that is named for it, if one is."""
    names = [*inputs.control_model, *[None] * len(inputs.control)]
    return list(zip(inputs.control, names[: len(inputs.control)], strict=True))


def named_place(name: str, places: Mapping[str, Path], session: Session) -> Path:
    """The place of the ControlNet called `name`.

    Raises:
        BadBrief: there is none; names the nearest.
    """
    place = places.get(name)
    if place is None and not session.named_only:
        place = find_place(name)
    if place is None or not place.exists():
        raise BadBrief(f"{unknown('ControlNet', name, places)}, or give its file or folder")
    return place


def candidates_for(control: ControlRef, places: Mapping[str, Path], session: Session) -> dict[str, Path]:
    """The places whose names say that they are for this kind of map.

    Raises:
        BadBrief: there are none.
    """
    words = CONTROL_KINDS[control.kind].words
    fitting = {name: place for name, place in places.items() if any(word in name.lower() for word in words)}
    if fitting:
        return fitting
    if not words:
        raise BadBrief(f"control {control.kind!r} tells no ControlNet: name one with control_model")
    raise BadBrief(
        f"no ControlNet for {control.kind}: put one whose name says {words[0]!r} into the folder "
        f"{str(session.controls)!r}, or name it with control_model"
    )
