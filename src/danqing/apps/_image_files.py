"""Reads many pictures from files and folders; an unreadable file is reported, and the others are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from danqing.core.errors import BadBrief, BadPicture
from danqing.core.image_ref import ImageRef
from danqing.core.source_image import SUFFIXES


@dataclass(frozen=True)
class UnreadableFile:
    """A file that cannot be read as a picture, with a one-line reason."""

    columns: ClassVar[tuple[str, ...]] = ()

    file: Path
    why: str

    def record(self) -> dict[str, Any]:
        """A JSON record with file and error."""
        return {"file": str(self.file), "error": self.why}

    def cells(self) -> list[tuple[str, ...]]:
        """No cells of a table, because the error is printed separately."""
        return []


def pictures_in(places: Iterable[ImageRef]) -> list[ImageRef]:
    """The pictures at `places`: files, and for each folder all pictures in and below it, sorted by name.

    Raises:
        BadBrief: there are none.
    """
    refs = list(places)
    files = [file for ref in refs for file in (_below(ref.path) if _is_folder(ref) else [ref])]
    if not files:
        raise BadBrief(f"no pictures in {', '.join(repr(ref.name) for ref in refs)}: name another folder")
    return files


def read_pictures(files: Sequence[ImageRef]) -> Iterator[tuple[Path, Image.Image] | UnreadableFile]:
    """Every file in order, as a picture or as an `UnreadableFile`."""
    for ref in files:
        try:
            yield Path(ref.name), ref.source.image
        except BadPicture as error:
            yield UnreadableFile(Path(ref.name), str(error))


def _is_folder(ref: ImageRef) -> bool:
    return ref.path is not None and ref.path.is_dir()


def _below(folder: Path | None) -> list[ImageRef]:
    files = folder.rglob("*") if folder is not None else ()
    return [ImageRef(file) for file in sorted(files) if file.suffix.lower() in SUFFIXES and file.is_file()]
