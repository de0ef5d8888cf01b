"""Many pictures at once, from files and folders: one that cannot be read is reported and stops nothing."""

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
    """A file that is no picture, and why, in a line."""

    columns: ClassVar[tuple[str, ...]] = ()

    file: Path
    why: str

    def record(self) -> dict[str, Any]:
        """For a program: file, error."""
        return {"file": str(self.file), "error": self.why}

    def cells(self) -> list[tuple[str, ...]]:
        """For people: none, the error is printed apart."""
        return []


def pictures_in(places: Iterable[ImageRef]) -> list[ImageRef]:
    """The pictures at `places`: a file is itself, a folder is all the pictures in and below it, by name.

    Raises:
        BadBrief: there are none.
    """
    refs = list(places)
    files = [file for ref in refs for file in (_below(ref.path) if _is_folder(ref) else [ref])]
    if not files:
        raise BadBrief(f"no pictures in {', '.join(repr(ref.name) for ref in refs)}: name another folder")
    return files


def read_pictures(files: Sequence[ImageRef]) -> Iterator[tuple[Path, Image.Image] | UnreadableFile]:
    """Every file in order, as a picture or as what is wrong with it."""
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
