"""Finds ControlNets, T2I-Adapters and IP-Adapters by their names. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from danqing.core.control import CONTROL_KINDS, IMAGE_PARTS, ControlRef, ImagePromptRef
from danqing.core.errors import BadBrief, shorten, unknown
from danqing.weights.model_list import cached_models, find_place, listed_models

if TYPE_CHECKING:
    from danqing.apps._control_inputs import ControlInputs
    from danqing.apps._session import Session

ENCODER_FOLDERS = ("image_encoder", "clip_vision")  # in the folder `controls`, for IP-Adapters
IP_WORDS = ("ip-adapter", "ip_adapter", "ipadapter")  # one of them is in the name of an IP-Adapter
SUFFIXES = (".safetensors", ".pth", ".ckpt", ".pt", ".bin")  # some only for a clear error message


def controls_in(folder: Path) -> dict[str, Path]:
    """The ControlNets and adapters in a folder: name of a file without its suffix, or of a folder -> path."""
    places = sorted(folder.iterdir()) if folder.is_dir() else []
    files = {place.stem: place for place in reversed(places) if place.suffix.lower() in SUFFIXES}
    folders = {place.name: place for place in places if (place / "config.json").is_file()}
    return dict(sorted({**files, **folders}.items()))


def control_places(session: Session) -> dict[str, Path]:
    """Name -> path in the folder `controls`, in the list of models and in the cache of the hub."""
    own = controls_in(session.controls)
    return own if session.named_only else {**cached_models(), **listed_models(), **own}


def choices_of_controls(session: Session) -> dict[str, list[str]]:
    """The choices of a form for the fields of `ControlInputs`, from the names of the networks.

    A field without any network is left out. The choices of `control` are the kinds of maps with a network.
    """
    names = [name for name in control_places(session) if name not in ENCODER_FOLDERS]
    adapters = [name for name in names if is_ip_adapter(name)]
    followers = [name for name in names if name not in adapters]
    choices: dict[str, list[str]] = {}
    if followers:
        kinds = [name for name, kind in CONTROL_KINDS.items() if any(map(kind.is_for, followers))]
        choices |= {"control": [*kinds, "none"], "control_model": followers}
    if adapters:
        choices |= {"ip_image": [*IMAGE_PARTS], "ip_adapter": adapters}
    return choices


def check_controls(inputs: ControlInputs, session: Session) -> None:
    """Check by names that there is a network for each map and image prompt.

    Raises:
        BadBrief: one is missing; the message says which, and where to put it.
    """
    if len(inputs.control_model) > len(inputs.control):
        raise BadBrief(
            f"control_model {shorten(inputs.control_model[-1])!r} has nothing to follow: "
            "give a picture with control, such as canny=photo.jpg"
        )
    if len(inputs.ip_adapter) > len(inputs.ip_image):
        raise BadBrief(
            f"ip_adapter {shorten(inputs.ip_adapter[-1])!r} has nothing to look at: "
            "give a picture with ip_image, such as photo.jpg:0.6"
        )
    places = control_places(session) if inputs.control or inputs.ip_image else {}
    for _, name in with_adapters(inputs):
        if name is None:
            ip_adapters_in(places, session)
        else:
            named_place(name, places, session, "IP-Adapter")
    for control, name in with_names(inputs):
        if name is None:
            candidates_for(control, places, session)
        else:
            named_place(name, places, session)


def with_names(inputs: ControlInputs) -> list[tuple[ControlRef, str | None]]:
    """Each map with the name of its ControlNet; None where the request does not name one."""
    names = [*inputs.control_model, *[None] * len(inputs.control)]
    return list(zip(inputs.control, names[: len(inputs.control)], strict=True))


def with_adapters(inputs: ControlInputs) -> list[tuple[ImagePromptRef, str | None]]:
    """Each image prompt with the name of its IP-Adapter or None; the last name is used for all others."""
    count, names = len(inputs.ip_image), inputs.ip_adapter
    last: list[str | None] = [names[-1] if names else None]
    return list(zip(inputs.ip_image, [*names, *last * count][:count], strict=True))


def is_ip_adapter(name: str) -> bool:
    """Whether a name is that of an IP-Adapter."""
    return any(word in name.lower() for word in IP_WORDS)


def ip_adapters_in(places: Mapping[str, Path], session: Session) -> dict[str, Path]:
    """The places whose names are those of IP-Adapters.

    Raises:
        BadBrief: there are none.
    """
    fitting = {name: place for name, place in places.items() if is_ip_adapter(name)}
    if not fitting:
        raise BadBrief(
            f"no IP-Adapter for ip_image: put one whose name says {IP_WORDS[0]!r} into the folder "
            f"{str(session.controls)!r}, or name it with ip_adapter"
        )
    return fitting


def named_place(
    name: str, places: Mapping[str, Path], session: Session, kind: str = "ControlNet or T2I-Adapter"
) -> Path:
    """The path of the network called `name`.

    Raises:
        BadBrief: there is none; the message names the nearest match.
    """
    place = places.get(name)
    if place is None and not session.named_only:
        place = find_place(name)
    if place is None or not place.exists():
        raise BadBrief(f"{unknown(kind, name, places)}, or give its file or folder")
    return place


def candidates_for(control: ControlRef, places: Mapping[str, Path], session: Session) -> dict[str, Path]:
    """The places whose names fit this kind of map.

    Raises:
        BadBrief: there are none.
    """
    kind = CONTROL_KINDS[control.kind]
    fitting = {name: place for name, place in places.items() if kind.is_for(name)}
    if fitting:
        return fitting
    if not kind.words:
        raise BadBrief(f"control {control.kind!r} tells no ControlNet: name one with control_model")
    raise BadBrief(
        f"no ControlNet or T2I-Adapter for {control.kind}: put one whose name says {kind.words[0]!r} into "
        f"the folder {str(session.controls)!r}, or name it with control_model"
    )
