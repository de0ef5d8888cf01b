"""Finds models besides the shipped ones: in the user's own list, and in the hub's cache. Needs no torch.

The list is one JSON file, name -> path, in the user's data folder or at the path in DANQING_MODELS. Models
are used in place and never copied.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from danqing.core.errors import BadBrief, DanqingError, shorten, unknown
from danqing.core.files import atomic_write

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
MOVED = {"runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5"}
"""Hub ids that have moved -> the ids of the same files today."""


@dataclass(frozen=True)
class KnownModel:
    """A well-known model on the hub.

    repo: its id.
    gigabytes: its approximate size.
    licence: its licence.
    variant: "fp16" if only that variant is needed.
    """

    repo: str
    gigabytes: float
    licence: str
    variant: str = ""


@cache
def known_models() -> dict[str, KnownModel]:
    """The well-known models by their short names."""
    text = (files("danqing.weights") / "known_models.toml").read_text("utf-8")
    return {name: KnownModel(**fields) for name, fields in tomllib.loads(text).items()}


def list_path() -> Path:
    """The path of the user's list."""
    if place := os.environ.get("DANQING_MODELS"):
        return Path(place)
    from platformdirs import user_data_path

    return user_data_path("danqing", appauthor=False) / "models.json"


def listed_models() -> dict[str, Path]:
    """The user's list, name -> path; empty if there is none.

    Raises:
        BadBrief: it cannot be read.
    """
    path = list_path()
    try:
        places = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise BadBrief(f"{str(path)!r} cannot be read ({error}): correct it or remove it") from None
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise BadBrief(f"{str(path)!r} is no list of models: correct it, or remove it and add again")
    return {name: Path(place) for name, place in places.items()}


def list_model(name: str, place: Path) -> None:
    """Add a model to the list, or change the path of its name."""
    _write({**listed_models(), name: place.absolute()})


def unlist_model(name: str) -> Path:
    """Remove a model from the list; its files stay. Returns its path.

    Raises:
        BadBrief: it is not on the list.
    """
    places = listed_models()
    if name not in places:
        raise BadBrief(unknown("model of your own", name, places))
    place = places.pop(name)
    _write(places)
    return place


def _write(places: dict[str, Path]) -> None:
    path = list_path()
    try:
        with atomic_write(path) as draft:
            text = json.dumps({name: str(place) for name, place in sorted(places.items())}, indent=2)
            draft.write_text(text + "\n", "utf-8")
    except OSError as error:
        raise DanqingError(f"cannot write {str(path)!r}: {error.strerror}; set DANQING_MODELS") from None


def find_place(name: str) -> Path | None:
    """The folder or file of a model: `name` is a path, a name on the list, or an id in the hub's cache.

    None if there is none. For a cache folder `models--a--b` it is the snapshot inside.
    """
    path = Path(name).expanduser()
    try:
        if path.exists():
            return snapshot_in(path) or path
    except OSError:  # the name is too long for a path, or the folder may not be entered
        return None
    if listed := listed_models().get(name):
        return listed
    entry = known_models().get(name)
    repo = entry.repo if entry else MOVED.get(name, name)
    return cached_model(repo) if HUB_ID.fullmatch(repo) else None


def not_there(name: str) -> str | None:
    """The message for a name that could be downloaded from the hub; None if it cannot be such an id."""
    if entry := known_models().get(name):
        return f"{name} is not here: fetch it with danqing models add {name} ({entry.gigabytes:g} GB)"
    if HUB_ID.fullmatch(name) and not name.startswith((".", "/")):
        return (
            f"{shorten(name)!r} is no folder here and not in the cache of the hub: fetch it with "
            f"danqing models add {shorten(name)}"
        )
    return None


def hub_cache() -> Path:
    """The folder where the hub's library caches downloads, for all programs."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    place = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or Path(home) / "hub"
    return Path(place).expanduser()


def cached_model(repo: str) -> Path | None:
    """The newest snapshot of a repository in the hub's cache; None if there is none."""
    return snapshot_in(hub_cache() / f"models--{repo.replace('/', '--')}")


def cached_models() -> dict[str, Path]:
    """All models in the hub's cache that have a snapshot: id -> folder."""
    folders = sorted(hub_cache().glob("models--*"))
    snapshots = {
        folder.name.removeprefix("models--").replace("--", "/"): snapshot_in(folder) for folder in folders
    }
    return {repo: place for repo, place in snapshots.items() if place is not None}


def snapshot_in(folder: Path) -> Path | None:
    """The snapshot of a cache folder: that of `main`, else the newest; None if it is not a cache folder."""
    snapshots = folder / "snapshots"
    if not snapshots.is_dir():
        return None
    main = folder / "refs" / "main"
    named = snapshots / main.read_text("utf-8").strip() if main.is_file() else None
    if named is not None and named.is_dir() and named.parent == snapshots:
        return named
    return max(snapshots.iterdir(), key=lambda path: path.stat().st_mtime, default=None)
