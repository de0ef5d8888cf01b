"""Imports pictures of other programs, and of danqing's own commands, into the gallery."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from danqing.apps import read_other_settings
from danqing.core.errors import BadPicture
from danqing.core.picture import Picture
from danqing.core.source_image import picture_id, read_source
from danqing.studio.clip_index import ClipIndex
from danqing.studio.gallery import NewFile
from danqing.studio.store import Store
from danqing.studio.uploads import FORMATS, PIXELS_MAX

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Outcome:
    """The result of importing one file.

    path: the file.
    id: of the picture, new or old; None if the file was not imported.
    new: whether a picture was added.
    why: the reason why the file was not imported.
    """

    path: Path
    id: str | None
    new: bool = False
    why: str = ""


def import_folder(store: Store, owner: str, folder: Path, clip: ClipIndex | None) -> Iterator[Outcome]:
    """Import all pictures in and below a folder, the oldest first, so that parents come before children.

    The files stay where they are: the gallery has copies. A picture whose pixels are in the gallery already
    is not imported again.

    clip: computes the embeddings for searches by meaning; None leaves them out.
    """
    files = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    for path in sorted(files, key=lambda path: (path.stat().st_mtime, path)):
        try:
            yield _import(store, owner, path, clip)
        except (BadPicture, OSError) as error:
            yield Outcome(path, None, why=str(error))


def _import(store: Store, owner: str, path: Path, clip: ClipIndex | None) -> Outcome:
    new = read_file(path)
    if (there := store.gallery.by_pixels(owner, picture_id(new.image))) is not None:
        return Outcome(path, there)
    vector = None if clip is None else clip.of_image(new.image)
    with store.file_lock():
        return Outcome(path, store.gallery.add_file(owner, replace(new, vector=vector)), new=True)


def read_file(path: Path) -> NewFile:
    """Read a picture and its metadata. Raises BadPicture: it cannot be read, or is too large."""
    format_ = _format_of(path)
    image = read_source(path).image
    if image.width * image.height > PIXELS_MAX:
        raise BadPicture(
            f"{str(path)!r} has more than {PIXELS_MAX // 10**6} megapixels: make it smaller first"
        )
    created = path.stat().st_mtime
    return NewFile(path, image, format_, created, **_settings(path))


def _format_of(path: Path) -> str:
    """The file ending that fits the bytes, whatever the file's name is. Raises BadPicture."""
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            return FORMATS[str(image.format)]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise BadPicture(f"{str(path)!r} is no PNG, JPEG or WebP picture: convert it first") from None


def _settings(path: Path) -> dict[str, Any]:
    """Model, brief and info from the metadata of danqing or another program; empty if there are none."""
    try:
        ours = Picture.open(path)
    except BadPicture:
        return _settings_of_another(path)
    brief = ours.brief.model_dump(mode="json")
    brief |= {"seed": ours.brief.seeds[0], "prompt": ours.info.chosen or ours.brief.prompt}
    info = ours.info.model_dump(mode="json", exclude={"unread"})
    return {"model": ours.brief.model, "brief": brief, "info": {**info, "program": "danqing"}}


def _settings_of_another(path: Path) -> dict[str, Any]:
    other = read_other_settings(path)
    if other is None:
        return {}
    size = {} if other.size is None else {"width": other.size[0], "height": other.size[1]}
    brief = {**other.fields, **size, **({"model": other.model} if other.model else {})}
    info = {"app": "import", "program": other.program, "unread": list(other.unread)}
    return {"model": other.model, "brief": brief, "info": info}
